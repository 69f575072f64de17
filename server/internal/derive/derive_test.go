package derive

import (
	"context"
	"fmt"
	"iter"
	"math"
	"math/rand/v2"
	"slices"
	"sort"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/kaizen-go/kaizen/metrics"
	"github.com/kaizen-go/kaizen/price"
	"github.com/kaizen-go/kaizen/server/internal/prom"
	"github.com/kaizen-go/kaizen/server/internal/record"
)

var start = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)

// span returns an ended span of two seconds.
func span(id, parent byte, kind record.Kind, f func(*record.Span)) *record.Span {
	s := &record.Span{
		TraceID: record.TraceID{1}, SpanID: record.SpanID{id}, ParentID: record.SpanID{parent},
		Kind: kind, Start: start, End: start.Add(2 * time.Second), Status: record.StatusOK, AgentName: "planner",
		Attributes: map[string]any{},
	}
	if f != nil {
		f(s)
	}
	return s
}

func modelCall(id, parent byte, f func(*record.Span)) *record.Span {
	return span(id, parent, record.KindModel, func(s *record.Span) {
		s.Operation, s.Provider, s.Model = "chat", "openai", "gpt-5"
		s.Usage, s.HasUsage = price.Usage{Input: 10, CacheRead: 4, Output: 3, Reasoning: 2}, true
		s.CostNanoUSD, s.HasCost = 1_500_000_000, true
		if f != nil {
			f(s)
		}
	})
}

// lines writes observations as series in the exposition format would be.
func lines(list []Observation) []string {
	out := []string{}
	for _, o := range list {
		var ls []string
		for k, v := range o.Labels {
			ls = append(ls, fmt.Sprintf("%s=%s", k, v))
		}
		sort.Strings(ls)
		out = append(out, fmt.Sprintf("%s{%s} %v", o.Metric, strings.Join(ls, ","), o.Value))
	}
	return out
}

func TestObservations(t *testing.T) {
	attr := func(kv ...any) func(*record.Span) {
		return func(s *record.Span) {
			for i := 0; i < len(kv); i += 2 {
				s.Attributes[kv[i].(string)] = kv[i+1]
			}
		}
	}
	model := "agent=planner,model=gpt-5,operation=chat,provider=openai,status="
	for _, c := range []struct {
		name string
		span *record.Span
		want []string
	}{
		{"run", span(1, 0, record.KindRun, attr("kaizen.run.iterations", int64(4))), []string{
			"kaizen_agent_runs_total{agent=planner,status=ok} 1", "kaizen_agent_run_duration_seconds{agent=planner,status=ok} 2",
			"kaizen_agent_run_iterations{agent=planner} 4",
		}},
		{"failed run", span(1, 0, record.KindRun, func(s *record.Span) { s.Status = record.StatusError }), []string{
			"kaizen_agent_runs_total{agent=planner,status=error} 1", "kaizen_agent_run_duration_seconds{agent=planner,status=error} 2",
			"kaizen_errors_total{agent=planner,kind=run} 1",
		}},
		{"model call", modelCall(1, 0, func(s *record.Span) { s.FirstChunk = 250 * time.Millisecond }), []string{
			"kaizen_model_calls_total{" + model + "ok} 1", "kaizen_model_call_duration_seconds{" + model + "ok} 2", "kaizen_model_first_chunk_seconds{" + model + "ok} 0.25",
			"kaizen_model_tokens_total{agent=planner,kind=input,model=gpt-5,provider=openai} 10", "kaizen_model_tokens_total{agent=planner,kind=cache_read,model=gpt-5,provider=openai} 4",
			"kaizen_model_tokens_total{agent=planner,kind=output,model=gpt-5,provider=openai} 3", "kaizen_model_tokens_total{agent=planner,kind=reasoning,model=gpt-5,provider=openai} 2",
			"kaizen_cache_requests_total{cache=prompt,outcome=hit} 1",
			"kaizen_model_cost_usd_total{agent=planner,model=gpt-5,provider=openai} 1.5",
		}},
		{"model call of unknown price", modelCall(1, 0, func(s *record.Span) { s.HasUsage, s.HasCost = false, false }), []string{
			"kaizen_model_calls_total{" + model + "ok} 1", "kaizen_model_call_duration_seconds{" + model + "ok} 2",
			"kaizen_model_calls_unpriced_total{agent=planner,model=gpt-5,provider=openai} 1",
		}},
		{"model call that never began", modelCall(1, 0, func(s *record.Span) { s.HasUsage, s.HasCost, s.Status = false, false, record.StatusError }), []string{
			"kaizen_model_calls_total{" + model + "error} 1", "kaizen_model_call_duration_seconds{" + model + "error} 2", "kaizen_errors_total{agent=planner,kind=model} 1",
		}},
		{"free model call", modelCall(1, 0, func(s *record.Span) { s.HasUsage, s.CostNanoUSD = false, 0 }), []string{
			"kaizen_model_calls_total{" + model + "ok} 1", "kaizen_model_call_duration_seconds{" + model + "ok} 2", "kaizen_model_cost_usd_total{agent=planner,model=gpt-5,provider=openai} 0",
		}},
		{"only the answering model is known", span(1, 0, record.KindEmbedding, func(s *record.Span) { s.ResponseModel, s.HasCost = "e-1", true }), []string{
			"kaizen_model_calls_total{agent=planner,model=e-1,operation=,provider=,status=ok} 1", "kaizen_model_call_duration_seconds{agent=planner,model=e-1,operation=,provider=,status=ok} 2",
			"kaizen_model_cost_usd_total{agent=planner,model=e-1,provider=} 0",
		}},
		{"tool", span(1, 0, record.KindTool, func(s *record.Span) { s.ToolName, s.Status = "search", record.StatusDenied }), []string{
			"kaizen_tool_calls_total{agent=planner,status=denied,tool=search} 1", "kaizen_tool_call_duration_seconds{agent=planner,status=denied,tool=search} 2",
		}},
		{"permission", span(1, 0, record.KindPermission, attr("kaizen.decision", "ask")), []string{
			"kaizen_permission_checks_total{agent=planner,decision=ask} 1", "kaizen_permission_check_duration_seconds{agent=planner,decision=ask} 2",
		}},
		{"permission denied by a handler", span(1, 0, record.KindPermission, func(s *record.Span) { s.Status = record.StatusDenied }), []string{
			"kaizen_permission_checks_total{agent=planner,decision=deny} 1", "kaizen_permission_check_duration_seconds{agent=planner,decision=deny} 2",
		}},
		{"checkpoint", span(1, 0, record.KindCheckpoint, attr("kaizen.action", "save", "kaizen.checkpoint.size_bytes", int64(2048))), []string{
			"kaizen_checkpoints_total{agent=planner,operation=save,status=ok} 1", "kaizen_checkpoint_duration_seconds{agent=planner,operation=save,status=ok} 2",
			"kaizen_checkpoint_size_bytes{agent=planner,operation=save,status=ok} 2048",
		}},
		{"memory", span(1, 0, record.KindMemory, func(s *record.Span) { s.Operation = "upsert_memory" }), []string{"kaizen_memory_operations_total{agent=planner,operation=upsert_memory,status=ok} 1"}},
		{"our memory", span(1, 0, record.KindMemory, attr("kaizen.action", "load")), []string{"kaizen_memory_operations_total{agent=planner,operation=load,status=ok} 1"}},
		{"interrupt", span(1, 0, record.KindInterrupt, attr("kaizen.interrupt.mode", "pause")), []string{"kaizen_interrupts_total{agent=planner,kind=pause} 1"}},
		{"plan", span(1, 0, record.KindPlan, func(s *record.Span) { s.Status = record.StatusCancelled }), []string{"kaizen_plans_total{agent=planner,status=cancelled} 1"}},
		{"handoff", span(1, 0, record.KindHandoff, attr("kaizen.handoff.to", "coder")), []string{"kaizen_handoffs_total{agent=planner,status=ok,target=coder} 1"}},
		{"guard", span(1, 0, record.KindOther, attr("kaizen.kind", "guard", "kaizen.guard", "loop", "kaizen.action", "stop")), []string{"kaizen_guard_events_total{action=stop,agent=planner,kind=loop} 1"}},
		{"error", span(1, 0, record.KindOther, attr("kaizen.kind", "error")), []string{"kaizen_errors_total{agent=planner,kind=error} 1"}},
		{"failed span of no kind", span(1, 0, record.KindOther, func(s *record.Span) { s.Status = record.StatusError }), []string{}},
		{"clock went backwards", span(1, 0, record.KindTool, func(s *record.Span) { s.ToolName, s.End = "t", start.Add(-time.Hour) }), []string{
			"kaizen_tool_calls_total{agent=planner,status=ok,tool=t} 1", "kaizen_tool_call_duration_seconds{agent=planner,status=ok,tool=t} 0",
		}},
		{"pending", span(1, 0, record.KindRun, func(s *record.Span) { s.Pending = true }), []string{}},
		{"without an end", span(1, 0, record.KindRun, func(s *record.Span) { s.End = time.Time{} }), []string{}},
		{"odd numbers", span(1, 0, record.KindRun, attr("kaizen.run.iterations", math.NaN())), []string{
			"kaizen_agent_runs_total{agent=planner,status=ok} 1", "kaizen_agent_run_duration_seconds{agent=planner,status=ok} 2",
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if diff := cmp.Diff(c.want, lines(Observations(c.span))); diff != "" {
				t.Errorf("Observations (-want +got):\n%s", diff)
			}
		})
	}
}

// newMetrics returns metrics and a function that reads one family back.
func newMetrics(t testing.TB, limit int) (*metrics.Metrics, func(name, want string)) {
	t.Helper()
	m, err := metrics.New(metrics.Config{NoRuntime: true, SeriesLimit: limit})
	if err != nil {
		t.Fatal(err)
	}
	return m, func(name, want string) {
		t.Helper()
		var b strings.Builder
		for _, f := range metrics.Families() {
			if f.Name == name {
				fmt.Fprintf(&b, "# HELP %s %s\n# TYPE %s %s\n", name, f.Help, name, f.Type)
			}
		}
		if want == "" {
			if n, err := testutil.GatherAndCount(m.Gatherer(), name); n != 0 || err != nil {
				t.Errorf("%s: %d series, %v, want none", name, n, err)
			}
			return
		}
		if err := testutil.GatherAndCompare(m.Gatherer(), strings.NewReader(b.String()+want+"\n"), name); err != nil {
			t.Error(err)
		}
	}
}

// TestOneCallOfManySpans has spans that describe one call, in every order and
// division into batches.
func TestOneCallOfManySpans(t *testing.T) {
	shapes := map[string]func() []*record.Span{
		"wrapper and library": func() []*record.Span {
			return []*record.Span{modelCall(3, 2, nil), modelCall(2, 1, nil)}
		},
		"an HTTP client's span between": func() []*record.Span {
			return []*record.Span{modelCall(4, 3, nil), span(3, 2, record.KindOther, nil), modelCall(2, 1, nil)}
		},
		"only the wrapper knows the usage": func() []*record.Span {
			return []*record.Span{modelCall(3, 2, func(s *record.Span) { s.HasUsage, s.HasCost = false, true }), modelCall(2, 1, nil)}
		},
		"the answer names a version": func() []*record.Span {
			return []*record.Span{modelCall(3, 2, func(s *record.Span) { s.Model, s.ResponseModel = "gpt-5-0901", "gpt-5-0901" }), modelCall(2, 1, func(s *record.Span) { s.ResponseModel = "gpt-5-0901" })}
		},
	}
	for name, shape := range shapes {
		t.Run(name, func(t *testing.T) {
			n := len(shape())
			for _, order := range permutations(n) {
				for _, together := range []bool{true, false} {
					// What stands between, when it comes last and alone, comes too
					// late to tell that the two were one.
					if !together && n == 3 && order[2] == 1 {
						continue
					}
					spans := shape()
					m, _ := newMetrics(t, 0)
					d := New(m, Config{})
					var batch []*record.Span
					for i, at := range order {
						spans[at].End = start.Add(time.Duration(2*n-at) * time.Second)
						if together {
							spans[at].End = start.Add(time.Duration(at+2) * time.Second)
						}
						batch = append(batch, spans[at])
						if !together || i == n-1 {
							d.Spans(batch)
							batch = nil
						}
					}
					calls := counterSum(t, m, "kaizen_model_calls_total")
					tokens := counterSum(t, m, "kaizen_model_tokens_total")
					if calls != 1 || tokens != 19 {
						t.Errorf("order %v, together %v: %v calls, %v tokens, want 1 and 19", order, together, calls, tokens)
					}
				}
			}
		})
	}
}

func TestDifferentCalls(t *testing.T) {
	other := record.TraceID{2}
	for _, c := range []struct {
		name  string
		spans []*record.Span
		want  float64
	}{
		{"siblings", []*record.Span{modelCall(2, 1, nil), modelCall(3, 1, nil)}, 2},
		{"another model inside", []*record.Span{modelCall(3, 2, func(s *record.Span) { s.Model = "o9" }), modelCall(2, 1, nil)}, 2},
		{"an agent in between", []*record.Span{modelCall(4, 3, nil), span(3, 2, record.KindRun, nil), modelCall(2, 1, nil)}, 2},
		{"same ids in another trace", []*record.Span{modelCall(3, 2, nil), modelCall(2, 1, func(s *record.Span) { s.TraceID = other })}, 2},
		{"a span that is its own parent", []*record.Span{modelCall(2, 2, nil)}, 1},
		{"parents in a ring", []*record.Span{span(2, 3, record.KindOther, nil), span(3, 2, record.KindOther, nil), modelCall(4, 3, nil)}, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			m, _ := newMetrics(t, 0)
			New(m, Config{}).Spans(c.spans)
			if got := counterSum(t, m, "kaizen_model_calls_total"); got != c.want {
				t.Errorf("%v calls, want %v", got, c.want)
			}
		})
	}
}

func counterSum(t testing.TB, m *metrics.Metrics, name string) (sum float64) {
	t.Helper()
	families, err := m.Gatherer().Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			for _, x := range f.Metric {
				sum += x.Counter.GetValue()
			}
		}
	}
	return sum
}

func permutations(n int) [][]int {
	if n == 0 {
		return [][]int{nil}
	}
	var out [][]int
	for _, p := range permutations(n - 1) {
		for at := range n {
			out = append(out, slices.Insert(slices.Clone(p), at, n-1))
		}
	}
	return out
}

func TestAgentOfTheRunAround(t *testing.T) {
	m, check := newMetrics(t, 0)
	d := New(m, Config{})
	nameless := func(s *record.Span) { s.AgentName, s.ToolName = "", "search" }
	d.Spans([]*record.Span{
		span(3, 2, record.KindTool, nameless),
		span(2, 1, record.KindOther, nameless),
		span(1, 0, record.KindRun, nil),
	})
	d.Spans([]*record.Span{span(4, 2, record.KindTool, nameless), span(5, 9, record.KindTool, nameless)})
	check("kaizen_tool_calls_total", `kaizen_tool_calls_total{agent="planner",status="ok",tool="search"} 2
kaizen_tool_calls_total{agent="",status="ok",tool="search"} 1`)
}

func TestPushedAreLeftOut(t *testing.T) {
	m, check := newMetrics(t, 0)
	d := New(m, Config{})
	for _, v := range []any{true, "true"} {
		d.Spans([]*record.Span{span(1, 0, record.KindRun, func(s *record.Span) { s.Resource = map[string]any{"kaizen.metrics.pushed": v} })})
	}
	check("kaizen_agent_runs_total", "")
	d.Spans([]*record.Span{span(1, 0, record.KindRun, func(s *record.Span) { s.Resource = map[string]any{"kaizen.metrics.pushed": false} })})
	check("kaizen_agent_runs_total", `kaizen_agent_runs_total{agent="planner",status="ok"} 1`)
}

func TestSeriesLimit(t *testing.T) {
	m, check := newMetrics(t, 2)
	d := New(m, Config{})
	for _, tool := range []string{"a", "b", "c", "d", "a"} {
		d.Spans([]*record.Span{span(1, 0, record.KindTool, func(s *record.Span) { s.ToolName = tool })})
	}
	check("kaizen_tool_calls_total", `kaizen_tool_calls_total{agent="planner",status="ok",tool="a"} 2
kaizen_tool_calls_total{agent="planner",status="ok",tool="b"} 1
kaizen_tool_calls_total{agent="other",status="other",tool="other"} 2`)
}

func TestActiveRuns(t *testing.T) {
	now := start
	m, check := newMetrics(t, 0)
	d := New(m, Config{MaxActive: 3, ActiveFor: time.Hour, now: func() time.Time { return now }})
	pending := func(id byte) *record.Span {
		return span(id, 0, record.KindRun, func(s *record.Span) { s.Pending, s.End = true, time.Time{} })
	}
	active := func(want int) {
		t.Helper()
		check("kaizen_agents_active", fmt.Sprintf(`kaizen_agents_active{agent="planner"} %d`, want))
	}
	d.Spans([]*record.Span{pending(1), pending(2), pending(1)}) // announced twice
	active(2)
	d.Spans([]*record.Span{span(1, 0, record.KindRun, nil), span(9, 0, record.KindRun, nil)}) // 9 was never announced
	active(1)
	now = now.Add(30 * time.Minute)
	d.Spans([]*record.Span{pending(3), pending(4)})
	active(3)
	d.Spans([]*record.Span{pending(5)}) // the oldest makes room
	active(3)
	now = now.Add(31 * time.Minute)
	d.Expire()
	active(3)
	now = now.Add(30 * time.Minute) // no end for an hour: killed
	d.Expire()
	active(0)
	if len(d.active) != 0 || len(d.order) != 0 {
		t.Errorf("%d and %d runs still held", len(d.active), len(d.order))
	}
	for i := range 5000 { // the order does not grow with runs that ended
		p := pending(6)
		p.TraceID = record.TraceID{byte(i), byte(i >> 8)}
		e := span(6, 0, record.KindRun, nil)
		e.TraceID = p.TraceID
		d.Spans([]*record.Span{p})
		d.Spans([]*record.Span{e})
	}
	if len(d.order) > 1100 {
		t.Errorf("%d entries for no run", len(d.order))
	}
}

func TestBoundedAndConcurrent(t *testing.T) {
	m, _ := newMetrics(t, 0)
	d := New(m, Config{MaxCalls: 100})
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(1, uint64(g)))
			for i := range 300 {
				s := modelCall(1, 0, nil)
				s.TraceID = record.TraceID{byte(g), byte(i), byte(i >> 8)}
				p := span(2, 0, record.KindRun, func(s *record.Span) { s.Pending = r.IntN(2) == 0 })
				p.TraceID = s.TraceID
				d.Spans([]*record.Span{s, p})
			}
		})
	}
	wg.Wait()
	if got := counterSum(t, m, "kaizen_model_calls_total"); got != 1200 {
		t.Errorf("%v calls, want 1200", got)
	}
	if n := len(d.calls.now) + len(d.calls.past); n > 102 {
		t.Errorf("%d spans remembered, want about 100", n)
	}
}

// source is a Source of a few spans.
type source []*record.Span

func (s source) Spans(since, until time.Time) iter.Seq[*record.Span] {
	return func(yield func(*record.Span) bool) {
		for _, sp := range s {
			if !since.IsZero() && sp.Start.Before(since) || !until.IsZero() && !sp.Start.Before(until) {
				continue
			}
			if !yield(sp) {
				return
			}
		}
	}
}

func TestExemplars(t *testing.T) {
	src := source{
		modelCall(1, 0, nil),
		modelCall(2, 0, func(s *record.Span) { s.Start = start.Add(-30 * time.Minute) }), // began long before
		modelCall(3, 0, func(s *record.Span) { s.Resource = map[string]any{"kaizen.metrics.pushed": true} }),
		span(4, 0, record.KindTool, func(s *record.Span) { s.ToolName = "search" }),
	}
	x := Exemplars(src, map[string]string{"job": "kaizen"})
	find := func(selector map[string]string, from, to time.Time) []prom.ExemplarSeries {
		t.Helper()
		var ms []*prom.Matcher
		for k, v := range selector {
			ms = append(ms, labels.MustNewMatcher(labels.MatchRegexp, k, v))
		}
		got, err := x.Exemplars(t.Context(), ms, from, to)
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	ex := func(id string, v float64) prom.Exemplar {
		return prom.Exemplar{Labels: map[string]string{"trace_id": "01000000000000000000000000000000", "span_id": id + "00000000000000"}, Value: v, Time: start.Add(2 * time.Second)}
	}
	series := func(le string, e ...prom.Exemplar) prom.ExemplarSeries {
		return prom.ExemplarSeries{Exemplars: e, Labels: map[string]string{
			"__name__": "kaizen_model_call_duration_seconds_bucket", "agent": "planner", "provider": "openai", "model": "gpt-5", "operation": "chat", "status": "ok", "job": "kaizen", "le": le,
		}}
	}
	want := []prom.ExemplarSeries{series("+Inf", ex("02", 1802)), series("2", ex("01", 2))}
	got := find(map[string]string{"__name__": "kaizen_model_call_duration_seconds_bucket", "job": "kaizen"}, start, start.Add(time.Hour))
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("Exemplars (-want +got):\n%s", diff)
	}
	if got := find(map[string]string{"__name__": "kaizen_tool_calls_total"}, start, start.Add(time.Hour)); len(got) != 1 || got[0].Labels["tool"] != "search" {
		t.Errorf("counter: %v", got)
	}
	open := time.Unix(math.MaxInt64/1000-62135596801, 0)
	if got := find(map[string]string{"__name__": "kaizen_tool_calls_total"}, time.Unix(math.MinInt64/1000+62135596801, 0), open); len(got) != 1 {
		t.Errorf("without bounds: %v", got)
	}
	for name, sel := range map[string]map[string]string{
		"another job": {"__name__": "kaizen_tool_calls_total", "job": "x"}, "another metric": {"__name__": "up"}, "another agent": {"__name__": "kaizen_tool_calls_total", "agent": "x"},
	} {
		if got := find(sel, start, start.Add(time.Hour)); len(got) != 0 {
			t.Errorf("%s: %v, want none", name, got)
		}
	}
	if got := find(map[string]string{"__name__": "kaizen_tool_calls_total"}, start, start.Add(time.Second)); len(got) != 0 {
		t.Errorf("before the span's end: %v, want none", got)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := x.Exemplars(ctx, nil, start, start.Add(time.Hour)); err == nil {
		t.Error("Exemplars went on after the request was given up")
	}
}

// TestBucketsAgree checks that the bucket of an exemplar exists in the family's
// own buckets, for values on bounds, between and beyond them.
func TestBucketsAgree(t *testing.T) {
	for _, f := range metrics.Families() {
		if f.Type != metrics.TypeHistogram {
			continue
		}
		for i, b := range f.Buckets {
			if got := bucketOf(f.Buckets, b); got != b {
				t.Errorf("%s: %v falls into %v", f.Name, b, got)
			}
			if got, want := bucketOf(f.Buckets, math.Nextafter(b, math.Inf(1))), append(f.Buckets[i+1:], math.Inf(1))[0]; got != want {
				t.Errorf("%s: just above %v falls into %v, want %v", f.Name, b, got, want)
			}
		}
		if len(f.Labels) > maxLabels {
			t.Errorf("%s has %d labels", f.Name, len(f.Labels))
		}
	}
}
