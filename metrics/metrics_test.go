package metrics

import (
	"errors"
	"math"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	dto "github.com/prometheus/client_model/go"
)

func newMetrics(t testing.TB, cfg Config) *Metrics {
	t.Helper()
	cfg.NoRuntime = true
	m, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// value reads a series the way a scraper does.
func value(t *testing.T, m *Metrics, name string, labels ...string) float64 {
	t.Helper()
	v, ok := m.Value(name, labels...)
	if !ok {
		t.Fatalf("Value(%s, %q): no such series", name, labels)
	}
	return v
}

func dropped(t *testing.T, m *Metrics, reason string) float64 {
	t.Helper()
	return value(t, m, "kaizen_telemetry_dropped_total", "signal", "metrics", "reason", reason)
}

func TestFamilies(t *testing.T) {
	seen := make(map[string]bool)
	for _, f := range Families() {
		if seen[f.Name] {
			t.Errorf("%s is there twice", f.Name)
		}
		seen[f.Name] = true
		if _, err := check(f); err != nil {
			t.Errorf("%s: %v", f.Name, err)
		}
		if !strings.HasPrefix(f.Name, "kaizen_") || !strings.HasSuffix(f.Help, ".") {
			t.Errorf("%s: prefix or help %q", f.Name, f.Help)
		}
		if strings.HasSuffix(f.Name, "_total") != (f.Type == TypeCounter) {
			t.Errorf("%s: _total belongs to counters", f.Name)
		}
		if (len(f.Buckets) > 0) != (f.Type == TypeHistogram) {
			t.Errorf("%s: buckets belong to histograms", f.Name)
		}
		for _, l := range f.Labels {
			if strings.HasSuffix(l, "_id") || l == "user" {
				t.Errorf("%s: label %s would be an id", f.Name, l)
			}
		}
	}
	if len(seen) != int(numCounters)+int(numGauges)+int(numHistograms) {
		t.Errorf("%d families", len(seen))
	}
	if got := AgentRuns.Family().Name + AgentsActive.Family().Name + AgentRunDuration.Family().Name; got != "kaizen_agent_runs_totalkaizen_agents_activekaizen_agent_run_duration_seconds" {
		t.Errorf("ids name %s", got)
	}
	Families()[0].Labels[0] = "mine"
	if Families()[0].Labels[0] == "mine" {
		t.Error("Families() gives away the table itself")
	}
}

// fill records once to every family.
func fill(m *Metrics) {
	for id := range numCounters {
		m.Add(id, 1.5, Exemplar{}, sample(counterFamilies[id])...)
	}
	for id := range numGauges {
		m.Set(id, 2, sample(gaugeFamilies[id])...)
	}
	for id := range numHistograms {
		m.Observe(id, 0.02, Exemplar{TraceID: [16]byte{1}, SpanID: [8]byte{2}}, sample(histogramFamilies[id])...)
	}
}

func sample(f Family) []string {
	values := make([]string, len(f.Labels))
	for i, l := range f.Labels {
		values[i] = "a " + l + " with \"quotes\", \\ and\na line"
	}
	return values
}

func TestEveryFamilyIsExposed(t *testing.T) {
	m := newMetrics(t, Config{})
	fill(m)
	got := make(map[string]*dto.MetricFamily)
	all, err := m.Gatherer().Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, mf := range all {
		got[mf.GetName()] = mf
	}
	for _, f := range Families() {
		mf := got[f.Name]
		if mf == nil {
			t.Errorf("%s is not exposed", f.Name)
			continue
		}
		if mf.GetHelp() != f.Help || !strings.EqualFold(mf.GetType().String(), f.Type.String()) {
			t.Errorf("%s: help %q type %v", f.Name, mf.GetHelp(), mf.GetType())
		}
		metric := mf.Metric[len(mf.Metric)-1]
		if len(metric.Label) != len(f.Labels) {
			t.Errorf("%s: labels %v", f.Name, metric.Label)
		}
		if f.Type == TypeHistogram && len(metric.Histogram.PositiveSpan) == 0 {
			t.Errorf("%s has no native buckets", f.Name)
		}
	}
}

// TestPromtool has Prometheus' own linter read the page: it knows the naming
// rules, and refuses a page that does not parse.
func TestPromtool(t *testing.T) {
	promtool, err := exec.LookPath("promtool")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("promtool is not installed, and CI skips nothing")
		}
		t.Skip("promtool is not installed")
	}
	m, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	fill(m)
	m.Counter("orders_total", "shop", "north \"1\"\n").Inc()
	m.Timer("checkout_duration_seconds").ObserveDuration(time.Second)
	cmd := exec.CommandContext(t.Context(), promtool, "check", "metrics")
	cmd.Stdin = strings.NewReader(get(t, m.Handler(HandlerConfig{}), "text/plain;version=0.0.4"))
	if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
		t.Fatalf("promtool check metrics: %v\n%s", err, out)
	}
}

func TestLint(t *testing.T) {
	m := newMetrics(t, Config{})
	fill(m)
	problems, err := testutil.GatherAndLint(m.Gatherer())
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

func TestNew(t *testing.T) {
	registry := prometheus.NewRegistry()
	first := newMetrics(t, Config{Registry: registry})
	if _, err := New(Config{Registry: registry}); err == nil || !strings.Contains(err.Error(), "kaizen_agent_runs_total") {
		t.Errorf("New on a registry in use = %v", err)
	}
	first.Unregister()
	second := newMetrics(t, Config{Registry: registry})
	second.Count(Plans, "a", "ok")
	if _, err := New(Config{SeriesLimit: -1}); err == nil {
		t.Error("New took a negative limit")
	}
	for range 2 { // the runtime collectors of others are welcome
		m, err := New(Config{Registry: registry})
		if err == nil {
			m.Unregister()
		}
		second.Unregister()
	}
}

func TestCounters(t *testing.T) {
	m := newMetrics(t, Config{})
	m.Count(ToolCalls, "planner", "search", StatusOK)
	m.Count(ToolCalls, "planner", "search", StatusOK)
	m.Add(ToolCalls, 0.25, Exemplar{}, "planner", "search", StatusOK)
	m.Count(ToolCalls, "planner", "search", StatusError)
	m.BindCounter(ToolCalls, "planner", "search", StatusOK).Inc()
	if got := value(t, m, "kaizen_tool_calls_total", "status", "ok", "agent", "planner", "tool", "search"); got != 3.25 {
		t.Errorf("ok = %v, want 3.25", got)
	}
	if got := value(t, m, "kaizen_tool_calls_total", "agent", "planner", "tool", "search", "status", "error"); got != 1 {
		t.Errorf("error = %v, want 1", got)
	}
	if _, ok := m.Value("kaizen_tool_calls_total", "agent", "nobody", "tool", "search", "status", "ok"); ok {
		t.Error("a series that nobody recorded to is there")
	}
}

func TestGauges(t *testing.T) {
	m := newMetrics(t, Config{})
	m.Shift(AgentsActive, 2, "planner")
	m.Shift(AgentsActive, -1, "planner")
	m.GaugeFunc(TelemetryQueueLength, func() float64 { return 7 }, "traces")
	m.Set(TelemetryQueueLength, 3, "traces")
	m.CounterFunc(TelemetryDropped, func() float64 { return 5 }, "traces", "queue_full")
	if got := value(t, m, "kaizen_agents_active", "agent", "planner"); got != 1 {
		t.Errorf("active = %v, want 1", got)
	}
	if got := value(t, m, "kaizen_telemetry_queue_length", "signal", "traces"); got != 10 {
		t.Errorf("queue = %v, want 10", got)
	}
	if got := value(t, m, "kaizen_telemetry_dropped_total", "signal", "traces", "reason", "queue_full"); got != 5 {
		t.Errorf("dropped = %v, want 5", got)
	}
}

func TestFuncThatPanics(t *testing.T) {
	m := newMetrics(t, Config{})
	m.GaugeFunc(TelemetryQueueLength, func() float64 { panic("broken") }, "logs")
	m.Count(Plans, "a", "ok")
	page := get(t, m.Handler(HandlerConfig{}), "text/plain")
	if strings.Contains(page, "queue_length{") || !strings.Contains(page, `kaizen_plans_total{agent="a",status="ok"} 1`) {
		t.Errorf("page with a broken function:\n%s", page)
	}
}

func TestUserMetrics(t *testing.T) {
	m := newMetrics(t, Config{})
	m.Counter("orders_total", "shop", "north", "kind", "web").Add(2)
	m.Counter("orders_total", "kind", "web", "shop", "north").Inc() // order does not matter
	m.Gauge("stock", "shop", "north").Set(5)
	m.Histogram("order_size").Observe(3)
	m.Timer("checkout_duration_seconds").Start()()
	for name, want := range map[string]struct {
		labels []string
		value  float64
	}{
		"orders_total":              {[]string{"shop", "north", "kind", "web"}, 3},
		"stock":                     {[]string{"shop", "north"}, 5},
		"order_size":                {nil, 1},
		"checkout_duration_seconds": {nil, 1},
	} {
		if got := value(t, m, name, want.labels...); got != want.value {
			t.Errorf("%s = %v, want %v", name, got, want.value)
		}
	}
	own := m.Counter("kaizen_plans_total", "agent", "a", "status", "ok") // reads as written elsewhere
	m.Count(Plans, "a", "ok")
	if own.Err() != nil || own.Value() != 1 {
		t.Errorf("own family by name: %v %v", own.Value(), own.Err())
	}
}

func TestTimerMeasures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMetrics(t, Config{})
		func() {
			defer func() { _ = recover() }() // the panic is the point
			defer m.Timer("work_seconds").Start()()
			time.Sleep(1500 * time.Millisecond) // on synctest's clock
			panic("work failed")
		}()
		if got, ok := m.Percentile("work_seconds", 0.5); !ok || got != 1.5 {
			t.Errorf("recorded %v %v, want 1.5", got, ok)
		}
	})
}

func TestRefusals(t *testing.T) {
	tests := []struct {
		name   string
		do     func(*Metrics) error
		reason string
	}{
		{"bad name", func(m *Metrics) error { return m.Counter("bad name").Err() }, "invalid_name"},
		{"empty name", func(m *Metrics) error { return m.Gauge("").Err() }, "invalid_name"},
		{"other type", func(m *Metrics) error { m.Counter("a_total"); return m.Gauge("a_total").Err() }, "invalid_name"},
		{"own family as another type", func(m *Metrics) error { return m.Gauge("kaizen_plans_total").Err() }, "invalid_name"},
		{"histogram's line", func(m *Metrics) error { m.Histogram("h"); return m.Gauge("h_count").Err() }, "invalid_name"},
		{"line of a histogram to be", func(m *Metrics) error { m.Gauge("h_sum"); return m.Histogram("h").Err() }, "invalid_name"},
		{"OpenMetrics name", func(m *Metrics) error { m.Counter("c_total"); return m.Gauge("c").Err() }, "invalid_name"},
		{"other labels", func(m *Metrics) error { m.Counter("a_total", "x", "1"); return m.Counter("a_total", "y", "1").Err() }, "invalid_labels"},
		{"label without value", func(m *Metrics) error { return m.Counter("a_total", "x").Err() }, "invalid_labels"},
		{"bad label", func(m *Metrics) error { return m.Counter("a_total", "x y", "1").Err() }, "invalid_labels"},
		{"reserved label", func(m *Metrics) error { return m.Counter("a_total", "__name__", "1").Err() }, "invalid_labels"},
		{"label twice", func(m *Metrics) error { return m.Counter("a_total", "x", "1", "x", "2").Err() }, "invalid_labels"},
		{"le", func(m *Metrics) error { return m.Histogram("h", "le", "1").Err() }, "invalid_labels"},
		{"buckets", func(m *Metrics) error {
			return m.Define(Family{Name: "h", Type: TypeHistogram, Buckets: []float64{2, 1}})
		}, "invalid_value"},
		{"too few values", func(m *Metrics) error { return m.BindCounter(Plans, "a").Err() }, "invalid_labels"},
		{"negative step", func(m *Metrics) error { m.Counter("a_total").Add(-1); return ErrRefused }, "invalid_value"},
		{"NaN step", func(m *Metrics) error { m.Counter("a_total").Add(math.NaN()); return ErrRefused }, "invalid_value"},
		{"infinite step", func(m *Metrics) error { m.Counter("a_total").Add(math.Inf(1)); return ErrRefused }, "invalid_value"},
		{"NaN gauge", func(m *Metrics) error { m.Gauge("g").Set(math.NaN()); return ErrRefused }, "invalid_value"},
		{"NaN observation", func(m *Metrics) error { m.Histogram("h").Observe(math.NaN()); return ErrRefused }, "invalid_value"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var told []error
			m := newMetrics(t, Config{OnRefusal: func(err error) { told = append(told, err); panic("and the callback is broken") }})
			if err := tt.do(m); !errors.Is(err, ErrRefused) {
				t.Errorf("error = %v, want ErrRefused", err)
			}
			if got := dropped(t, m, tt.reason); got != 1 {
				t.Errorf("dropped{%s} = %v, want 1", tt.reason, got)
			}
			if len(told) != 1 {
				t.Errorf("told %v", told)
			}
			if _, err := m.Gatherer().Gather(); err != nil {
				t.Errorf("the scrape is broken: %v", err)
			}
		})
	}
}

func TestRefusedHandleTakesRecords(t *testing.T) {
	m := newMetrics(t, Config{})
	c, g, h := m.Counter("bad name"), m.Gauge("bad name"), m.Timer("bad name")
	c.Inc()
	g.Set(1)
	g.Add(1)
	h.Observe(1)
	if got := dropped(t, m, "invalid_labels") + dropped(t, m, "invalid_name"); got != 7 {
		t.Errorf("dropped = %v, want 3 refused handles and 4 records", got)
	}
	if c.Value() != 0 || g.Value() != 0 {
		t.Error("a refused handle has a value")
	}
}

func TestFamilyLimit(t *testing.T) {
	m := newMetrics(t, Config{})
	for i := range maxFamilies + 3 {
		m.Counter("c" + strconv.Itoa(i) + "_total").Inc()
	}
	if got := dropped(t, m, "family_limit"); got != 3 {
		t.Errorf("dropped = %v, want 3", got)
	}
}

func TestSeriesLimit(t *testing.T) {
	m := newMetrics(t, Config{SeriesLimit: 20})
	for i := range 25 {
		m.Count(ToolCalls, "planner", "tool"+strconv.Itoa(i), StatusOK)
	}
	m.Count(ToolCalls, "planner", "tool24", StatusError)
	m.Count(ToolCalls, "planner", "tool3", StatusOK) // known before the limit
	other := func(status string) float64 {
		return value(t, m, "kaizen_tool_calls_total", "agent", Other, "tool", Other, "status", status)
	}
	if other(StatusOK) != 5 || other(StatusError) != 1 {
		t.Errorf("overflow: ok %v error %v, want 5 and 1", other(StatusOK), other(StatusError))
	}
	if got := dropped(t, m, "series_limit"); got != 6 {
		t.Errorf("dropped = %v, want 6", got)
	}
	// A label that should have few values and has many cannot escape either.
	for i := range 100 {
		m.Count(ToolCalls, "planner", "tool24", "status"+strconv.Itoa(i))
	}
	if got := other(Other); got != 100 {
		t.Errorf("all other = %v, want 100", got)
	}
	if f := m.counters[ToolCalls]; f.count+f.overflow > 20+2+1 {
		t.Errorf("%d + %d series", f.count, f.overflow)
	}
	if _, err := m.Gatherer().Gather(); err != nil {
		t.Error(err)
	}
}

func TestLabelsAreMadeFit(t *testing.T) {
	m := newMetrics(t, Config{})
	m.Count(Plans, "bad \xff utf-8", "ok")
	m.Count(Plans, "bad \xfe utf-8", "ok") // reads the same once repaired
	m.Count(Plans, strings.Repeat("é", 10_000), "ok")
	if got := value(t, m, "kaizen_plans_total", "agent", "bad \uFFFD utf-8", "status", "ok"); got != 2 {
		t.Errorf("repaired series = %v, want 2", got)
	}
	all, err := m.Gatherer().Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, mf := range all {
		for _, metric := range mf.Metric {
			for _, l := range metric.Label {
				if len(l.GetValue()) > maxLabelBytes {
					t.Errorf("label of %d bytes", len(l.GetValue()))
				}
			}
		}
	}
}

func TestPercentile(t *testing.T) {
	m := newMetrics(t, Config{})
	if _, ok := m.Percentile("latency", 0.5); ok {
		t.Error("a percentile of nothing")
	}
	h := m.Histogram("latency")
	h.Observe(42)
	if got, ok := m.Percentile("latency", 0.99); !ok || got != 42 {
		t.Errorf("single = %v %v", got, ok)
	}
	m.Reset()
	for i := 100; i >= 1; i-- {
		h.Observe(float64(i))
	}
	for q, want := range map[float64]float64{0: 1, 0.5: 50.5, 0.95: 95.05, 0.99: 99.01, 1: 100} {
		if got, ok := m.Percentile("latency", q); !ok || math.Abs(got-want) > 1e-9 {
			t.Errorf("Percentile(%v) = %v %v, want %v", q, got, ok, want)
		}
	}
	for _, q := range []float64{-0.1, 1.1, math.NaN()} {
		if _, ok := m.Percentile("latency", q); ok {
			t.Errorf("Percentile(%v) is ok", q)
		}
	}
	for range Window {
		h.Observe(7) // pushes all else out
	}
	if got, _ := m.Percentile("latency", 1); got != 7 {
		t.Errorf("max of the window = %v, want 7", got)
	}
}

func TestReset(t *testing.T) {
	m := newMetrics(t, Config{})
	c, h := m.Counter("c_total"), m.Histogram("h")
	c.Add(2.5)
	h.ObserveExemplar(1, Exemplar{TraceID: [16]byte{1}})
	m.Set(AgentsActive, 3, "a")
	m.Reset()
	if c.Value() != 0 || value(t, m, "h") != 0 || value(t, m, "kaizen_agents_active", "agent", "a") != 0 {
		t.Error("Reset left values")
	}
	if _, ok := m.Percentile("h", 0.5); ok {
		t.Error("Reset left the window")
	}
	c.Inc()
	h.Observe(1)
	if c.Value() != 1 || value(t, m, "h") != 1 {
		t.Error("handles do not work after Reset")
	}
}

func TestDefine(t *testing.T) {
	m := newMetrics(t, Config{})
	desc := Family{Name: "size_bytes", Help: "Size.", Type: TypeHistogram, Labels: []string{"b", "a"}, Buckets: []float64{1, 2}}
	for range 2 {
		if err := m.Define(desc); err != nil {
			t.Fatal(err)
		}
	}
	m.Histogram("size_bytes", "a", "1", "b", "2").Observe(1)
	err := testutil.GatherAndCompare(m.Gatherer(), strings.NewReader(`# HELP size_bytes Size.
# TYPE size_bytes histogram
size_bytes_bucket{a="1",b="2",le="1"} 1
size_bytes_bucket{a="1",b="2",le="2"} 1
size_bytes_bucket{a="1",b="2",le="+Inf"} 1
size_bytes_sum{a="1",b="2"} 1
size_bytes_count{a="1",b="2"} 1
`), "size_bytes")
	if err != nil {
		t.Error(err)
	}
}

// TestConcurrent has many goroutines create and record to the same series
// while others scrape; the sums must be exact.
func TestConcurrent(t *testing.T) {
	m := newMetrics(t, Config{})
	const workers, rounds, kinds = 8, 500, 40
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for i := range rounds {
				kind := strconv.Itoa(i % kinds)
				ex := Exemplar{TraceID: [16]byte{byte(w + 1)}, SpanID: [8]byte{1}}
				m.Add(Errors, 1, ex, "a", kind)
				m.Counter("own_total", "kind", kind).Add(0.5)
				m.Observe(ToolCallDuration, float64(i), ex, "a", kind, "ok")
				m.Shift(AgentsActive, 1, kind)
				m.Shift(AgentsActive, -1, kind)
			}
		})
	}
	for range 20 {
		if _, err := m.Gatherer().Gather(); err != nil {
			t.Error(err)
		}
	}
	wg.Wait()
	sums := make(map[string]float64)
	all, err := m.Gatherer().Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, mf := range all {
		for _, metric := range mf.Metric {
			sums[mf.GetName()] += metric.GetCounter().GetValue() + metric.GetGauge().GetValue() + float64(metric.GetHistogram().GetSampleCount())
		}
	}
	want := map[string]float64{
		"kaizen_errors_total": workers * rounds, "own_total": workers * rounds / 2,
		"kaizen_tool_call_duration_seconds": workers * rounds, "kaizen_agents_active": 0, "kaizen_telemetry_dropped_total": 0,
	}
	if diff := cmp.Diff(want, sums); diff != "" {
		t.Errorf("sums (-want +got):\n%s", diff)
	}
}

// TestMemoryIsFlat records far more than any window holds: memory in use must
// not follow the number of observations.
func TestMemoryIsFlat(t *testing.T) {
	m := newMetrics(t, Config{SeriesLimit: 100})
	record := func(n int) {
		for i := range n {
			label := strconv.Itoa(i % 5000)
			m.Observe(ToolCallDuration, float64(i%1000)/100, Exemplar{TraceID: [16]byte{1}}, label, label, "ok")
			m.Count(ToolCalls, label, label, "ok")
		}
	}
	inUse := func() uint64 {
		runtime.GC()
		runtime.GC()
		var stats runtime.MemStats
		runtime.ReadMemStats(&stats)
		return stats.HeapAlloc
	}
	latency := m.Histogram("latency_seconds")
	observe := func(n int) {
		for i := range n {
			latency.Observe(float64(i%100_000) / 1000) // of many sizes: native buckets are bounded too
		}
	}
	record(50_000)
	observe(1000)
	before := inUse()
	record(500_000) // over more label sets than are kept
	observe(millions * 1_000_000)
	after := inUse()
	if after > before+256<<10 {
		t.Errorf("%d bytes in use after 51,000 observations, %d after %d million", before, after, millions)
	}
	if got := value(t, m, "latency_seconds"); got != millions*1_000_000+1000 {
		t.Errorf("%v observations are counted", got)
	}
	runtime.KeepAlive(m)
}

func TestAllocations(t *testing.T) {
	m := newMetrics(t, Config{})
	ex := Exemplar{TraceID: [16]byte{1}, SpanID: [8]byte{2}}
	bound := m.BindCounter(AgentRuns, "planner", "ok")
	for name, do := range map[string]func(){
		"bound counter":    func() { bound.Inc() },
		"Count":            func() { m.Count(ModelCalls, "planner", "openai", "gpt", "chat", "ok") },
		"Add exemplar":     func() { m.Add(ModelTokens, 17, ex, "planner", "openai", "gpt", "input") },
		"Shift":            func() { m.Shift(AgentsActive, 1, "planner") },
		"Observe":          func() { m.Observe(ModelCallDuration, 1.2, Exemplar{}, "planner", "openai", "gpt", "chat", "ok") },
		"Observe exemplar": func() { m.Observe(ModelCallDuration, 1.2, ex, "planner", "openai", "gpt", "chat", "ok") },
	} {
		if got := testing.AllocsPerRun(200, do); got != 0 {
			t.Errorf("%s: %v allocations, want 0", name, got)
		}
	}
	if got := testing.AllocsPerRun(200, func() { m.Counter("own_total", "kind", "a").Inc() }); got > 1 {
		t.Errorf("get-or-create: %v allocations, want the handle at most", got)
	}
}
