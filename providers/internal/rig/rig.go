// Package rig is what the adapters' tests observe with: an observer whose spans,
// audit entries, log lines and metrics the test can read back.
package rig

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	dto "github.com/prometheus/client_model/go"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/kaizen-go/kaizen"
	"github.com/kaizen-go/kaizen/audit"
)

// Rig is an observer and what it recorded.
type Rig struct {
	Obs   *kaizen.Observer
	Logs  *Buffer
	spans *tracetest.SpanRecorder
}

// Buffer is a buffer for many goroutines.
type Buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

// Write implements [io.Writer].
func (b *Buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

// String returns what was written so far.
func (b *Buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// New starts an observer that is shut down at the test's end. cfg says what is
// not the rig's own affair, such as the content.
func New(t testing.TB, cfg kaizen.Config) *Rig {
	t.Helper()
	t.Setenv("KAIZEN_SERVER", "")
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "")
	r := &Rig{spans: tracetest.NewSpanRecorder(), Logs: &Buffer{}}
	cfg.TracerProvider = sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(r.spans))
	cfg.AuditDir, cfg.LogWriter = filepath.Join(t.TempDir(), "audit"), r.Logs
	obs, err := kaizen.Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	r.Obs = obs
	t.Cleanup(func() {
		if err := obs.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return r
}

// Span is an ended span.
type Span struct {
	Name, Kind          string // Kind is OpenTelemetry's
	ID, Parent, Trace   string // Parent is "" at a root
	Status, Description string
	Attrs               map[string]string
	Start, End          int64 // in ns
}

// Spans returns the ended spans, in the order of their ends.
func (r *Rig) Spans() []Span {
	var out []Span
	for _, s := range r.spans.Ended() {
		v := Span{
			Name: s.Name(), Kind: s.SpanKind().String(), ID: s.SpanContext().SpanID().String(),
			Trace: s.SpanContext().TraceID().String(), Status: s.Status().Code.String(), Description: s.Status().Description,
			Attrs: map[string]string{}, Start: s.StartTime().UnixNano(), End: s.EndTime().UnixNano(),
		}
		if s.Parent().IsValid() {
			v.Parent = s.Parent().SpanID().String()
		}
		for _, kv := range s.Attributes() {
			v.Attrs[string(kv.Key)] = kv.Value.String()
		}
		out = append(out, v)
	}
	return out
}

// Open returns how many spans have begun and not ended.
func (r *Rig) Open() int { return len(r.spans.Started()) - len(r.spans.Ended()) }

// Tree is the ended spans' names, one a line, each below its parent and indented
// by two spaces a level. Those of one parent are in the order of their names.
func (r *Rig) Tree() string {
	spans := r.Spans()
	known := map[string]bool{}
	for _, s := range spans {
		known[s.ID] = true
	}
	below := map[string][]Span{}
	for _, s := range spans {
		if !known[s.Parent] {
			s.Parent = ""
		}
		below[s.Parent] = append(below[s.Parent], s)
	}
	var b strings.Builder
	var write func(parent, indent string)
	write = func(parent, indent string) {
		children := below[parent]
		slices.SortStableFunc(children, func(a, b Span) int { return strings.Compare(a.Name, b.Name) })
		for _, s := range children {
			b.WriteString(indent + s.Name + "\n")
			write(s.ID, indent+"  ")
		}
	}
	write("", "")
	return b.String()
}

// OneTrace fails the test unless all spans are of one trace, and returns its id.
func (r *Rig) OneTrace(t testing.TB) string {
	t.Helper()
	traces := map[string]bool{}
	for _, s := range r.Spans() {
		traces[s.Trace] = true
	}
	if len(traces) != 1 {
		t.Fatalf("spans of %d traces, want 1:\n%s", len(traces), r.Tree())
	}
	return slices.Collect(maps.Keys(traces))[0]
}

// Named returns the ended spans of that name.
func (r *Rig) Named(name string) []Span {
	return slices.DeleteFunc(r.Spans(), func(s Span) bool { return s.Name != name })
}

// One returns the only span of that name.
func (r *Rig) One(t testing.TB, name string) Span {
	t.Helper()
	spans := r.Named(name)
	if len(spans) != 1 {
		t.Fatalf("%d spans named %q, want 1:\n%s", len(spans), name, r.Tree())
	}
	return spans[0]
}

// Want fails the test where an attribute is not as wanted; "" is for one that
// is not there.
func (s Span) Want(t testing.TB, attrs map[string]string) {
	t.Helper()
	for k, v := range attrs {
		if s.Attrs[k] != v {
			t.Errorf("%s: %s = %q, want %q", s.Name, k, s.Attrs[k], v)
		}
	}
}

// Entries returns the audit entries so far, those of an action only unless it is "".
func (r *Rig) Entries(t testing.TB, action string) []audit.Entry {
	t.Helper()
	if err := r.Obs.Flush(context.Background()); err != nil {
		t.Fatal(err)
	}
	var out []audit.Entry
	for e, err := range r.Obs.Audit().Ledger().Query(context.Background(), audit.Query{}) {
		if err != nil {
			t.Fatal(err)
		}
		if action == "" || e.Action == action {
			out = append(out, e)
		}
	}
	return out
}

// Samples are the values of all metrics at one moment.
type Samples []*dto.MetricFamily

// Samples gathers the metrics.
func (r *Rig) Samples(t testing.TB) Samples {
	t.Helper()
	families, err := r.Obs.Metrics().Gatherer().Gather()
	if err != nil {
		t.Fatal(err)
	}
	return families
}

// Sum returns the value of a counter or gauge, or the count of a histogram, added
// up over the series that have all these labels (as "name=value").
func (s Samples) Sum(name string, labels ...string) float64 {
	sum := 0.0
	for _, f := range s {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			have := map[string]bool{}
			for _, l := range m.GetLabel() {
				have[fmt.Sprintf("%s=%s", l.GetName(), l.GetValue())] = true
			}
			if slices.ContainsFunc(labels, func(l string) bool { return !have[l] }) {
				continue
			}
			sum += m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	return sum
}

// Metric is [Samples.Sum] of the present.
func (r *Rig) Metric(t testing.TB, name string, labels ...string) float64 {
	t.Helper()
	return r.Samples(t).Sum(name, labels...)
}
