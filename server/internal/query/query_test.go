package query

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/kaizen-go/kaizen/price"
	"github.com/kaizen-go/kaizen/server/internal/record"
	"github.com/kaizen-go/kaizen/server/internal/store"
)

var t0 = time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)

// sp makes a span that starts id seconds after t0.
func sp(id, parent byte, kind record.Kind, model string, more ...func(*record.Span)) *record.Span {
	s := &record.Span{
		TraceID: record.TraceID{1}, SpanID: record.SpanID{id}, Name: fmt.Sprint(id), Kind: kind, Model: model,
		Start: t0.Add(time.Duration(id) * time.Second), End: t0.Add(time.Minute), Status: record.StatusOK,
	}
	if parent != 0 {
		s.ParentID = record.SpanID{parent}
	}
	for _, f := range more {
		f(s)
	}
	return s
}

func failed(s *record.Span)  { s.Status = record.StatusError }
func pending(s *record.Span) { s.Status, s.Pending, s.End = record.StatusRunning, true, time.Time{} }

func used(input, nano int64) func(*record.Span) {
	return func(s *record.Span) {
		s.Usage, s.HasUsage = price.Usage{Input: input}, true
		s.CostNanoUSD, s.HasCost = nano, nano > 0
	}
}

func answered(model string) func(*record.Span) {
	return func(s *record.Span) { s.ResponseModel = model }
}

func TestCallsCountOnce(t *testing.T) {
	const model, tool, run, other, embed = record.KindModel, record.KindTool, record.KindRun, record.KindOther, record.KindEmbedding
	for _, tt := range []struct {
		name  string
		spans []*record.Span
		want  string // calls: model, input tokens, nano-dollars, ! failed, ? unpriced
	}{
		{"one", []*record.Span{sp(1, 0, model, "m", used(5, 7))}, "m 5 7"},
		{"library inside wrapper: the inner counts", []*record.Span{sp(1, 0, model, "m", used(5, 7)), sp(2, 1, model, "m", used(6, 8))}, "m 6 8"},
		{"an HTTP span between", []*record.Span{sp(1, 0, model, "m", used(5, 7)), sp(2, 1, other, ""), sp(3, 2, model, "m", used(6, 8))}, "m 6 8"},
		{"three deep", []*record.Span{sp(1, 0, model, "m", used(5, 7)), sp(2, 1, model, "m", used(6, 8)), sp(3, 2, model, "m", used(7, 9))}, "m 7 9"},
		{"the inner knows no usage", []*record.Span{sp(1, 0, model, "m", used(5, 7)), sp(2, 1, model, "m")}, "m 5 7"},
		{"the inner knows no cost", []*record.Span{sp(1, 0, model, "m", used(5, 7)), sp(2, 1, model, "m", used(6, 0))}, "m 6 7"},
		{"the inner names the version that answered", []*record.Span{sp(1, 0, model, "m", used(5, 7), answered("m-1")), sp(2, 1, model, "m-1", used(6, 8))}, "m-1 6 8"},
		{"the wrapper names no model", []*record.Span{sp(1, 0, model, "", used(5, 7)), sp(2, 1, model, "m", used(6, 8))}, "m 6 8"},
		{"another model is another call", []*record.Span{sp(1, 0, model, "m", used(5, 7)), sp(2, 1, model, "n", used(6, 8))}, "m 5 7, n 6 8"},
		{"side by side", []*record.Span{sp(1, 0, run, ""), sp(2, 1, model, "m", used(5, 7)), sp(3, 1, model, "m", used(6, 8))}, "m 5 7, m 6 8"},
		{"a run between", []*record.Span{sp(1, 0, model, "m", used(5, 7)), sp(2, 1, run, ""), sp(3, 2, model, "m", used(6, 8))}, "m 5 7, m 6 8"},
		{"a tool between", []*record.Span{sp(1, 0, model, "m", used(5, 7)), sp(2, 1, tool, ""), sp(3, 2, model, "m", used(6, 8))}, "m 5 7, m 6 8"},
		{"attempts are one call", []*record.Span{sp(1, 0, model, "m"), sp(2, 1, model, "m", failed), sp(3, 1, model, "m", used(6, 8))}, "m 6 8"},
		{"attempts that all failed", []*record.Span{sp(1, 0, model, "m", failed), sp(2, 1, model, "m", failed), sp(3, 1, model, "m", failed)}, "m 0 0!"},
		{"a loop in a wrapper is several calls", []*record.Span{sp(1, 0, model, "m", used(11, 15)), sp(2, 1, model, "m", used(5, 7)), sp(3, 1, model, "m", used(6, 8))}, "m 5 7, m 6 8"},
		{"usage above the call adds nothing", []*record.Span{sp(1, 0, run, "m", used(9, 9)), sp(2, 1, model, "m", used(5, 7))}, "m 5 7"},
		{"embedding", []*record.Span{sp(1, 0, embed, "e", used(5, 7))}, "e 5 7"},
		{"one that has not ended is none", []*record.Span{sp(1, 0, model, "m", pending)}, ""},
		{"unknown price", []*record.Span{sp(1, 0, model, "m", used(5, 0))}, "m 5 0?"},
		{"a failure without usage is charged by nobody", []*record.Span{sp(1, 0, model, "m", failed)}, "m 0 0!"},
		{"its own parent's parent", []*record.Span{sp(1, 2, model, "m", used(5, 7)), sp(2, 1, model, "m", used(6, 8))}, "ring"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := ""
			for i, c := range newTree(store.Trace{Spans: tt.spans}).calls {
				if i > 0 {
					got += ", "
				}
				got += fmt.Sprintf("%s %d %d", c.Model, c.Usage.Input, int64(c.Cost))
				if c.Failed {
					got += "!"
				}
				if c.Unpriced {
					got += "?"
				}
			}
			if tt.want != "ring" && got != tt.want { // a ring has only to end
				t.Errorf("calls %q, want %q", got, tt.want)
			}
		})
	}
}

func TestIdentityIsInherited(t *testing.T) {
	agent := func(name, id, runID string) func(*record.Span) {
		return func(s *record.Span) { s.AgentName, s.AgentID, s.RunID = name, id, runID }
	}
	session := func(s *record.Span) { s.SessionID, s.UserID = "s", "u" }
	tr := newTree(store.Trace{Spans: []*record.Span{
		sp(5, 4, record.KindModel, "m"), // children may come first
		sp(4, 3, record.KindRun, "", agent("helper", "", "r2")),
		sp(3, 2, record.KindTool, "", agent("", "p-1", "")),
		sp(2, 1, record.KindModel, "m"),
		sp(1, 0, record.KindRun, "", agent("planner", "p-1", "r1"), session),
		sp(6, 77, record.KindModel, "m"), // its parent has not arrived
	}})
	want := map[byte]identity{
		1: {"r1", "p-1", "planner", "s", "u"}, 2: {"r1", "p-1", "planner", "s", "u"}, 3: {"r1", "p-1", "planner", "s", "u"},
		4: {"r2", "", "helper", "s", "u"}, 5: {"r2", "", "helper", "s", "u"}, 6: {},
	}
	for id, w := range want {
		if got := *tr.ids[record.SpanID{id}]; got != w {
			t.Errorf("span %d: %+v, want %+v", id, got, w)
		}
	}
	if tr.root.SpanID != (record.SpanID{1}) || tr.run != tr.root {
		t.Errorf("root %v, run %v", tr.root.SpanID, tr.run.SpanID)
	}
}

func TestOrderOfTies(t *testing.T) {
	at := func(s *record.Span) { s.Start = t0 }
	tr := newTree(store.Trace{Spans: []*record.Span{
		sp(1, 2, record.KindTool, "", at), sp(2, 3, record.KindOther, "", at), sp(3, 0, record.KindRun, "", at), sp(4, 0, record.KindRun, ""),
	}})
	got := ""
	for _, s := range tr.spans {
		got += s.Name + " "
	}
	if got != "3 2 1 4 " {
		t.Errorf("order %q, want parents first", got)
	}
}

func TestUSD(t *testing.T) {
	for nano, want := range map[USD]string{
		0: "0", 1: "0.000000001", 572: "0.000000572", 1_000_000_000: "1", 1_500_000_000: "1.5", 123_456_789_012: "123.456789012",
		-2_500_000_000: "-2.5", 9_223_372_036_854_775_807: "9223372036.854775807", -9_223_372_036_854_775_808: "-9223372036.854775808",
	} {
		b, err := json.Marshal(nano)
		if err != nil || string(b) != want {
			t.Errorf("USD(%d) = %s, %v, want %s", int64(nano), b, err, want)
		}
	}
}

func TestQuantile(t *testing.T) {
	for _, tt := range []struct {
		values  []float64
		q, want float64
	}{{[]float64{5}, 0.95, 5}, {[]float64{1, 2}, 0.5, 1.5}, {[]float64{0, 10, 20, 30, 40}, 0.95, 38}, {[]float64{0, 10, 20}, 0.5, 10}} {
		if got := quantile(tt.values, tt.q); got != tt.want {
			t.Errorf("quantile(%v, %v) = %v, want %v", tt.values, tt.q, got, tt.want)
		}
	}
}

func FuzzCursor(f *testing.F) {
	f.Add(position{at: 12345, key: "abc"}.String())
	f.Add("")
	f.Fuzz(func(t *testing.T, s string) {
		p, err := parsePosition(s)
		if err != nil || !p.set {
			return
		}
		again, err := parsePosition(p.String())
		if err != nil || !cmp.Equal(p, again, cmp.AllowUnexported(position{})) {
			t.Fatalf("cursor %q: %+v, then %+v, %v", s, p, again, err)
		}
	})
}
