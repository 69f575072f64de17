package metrics

import (
	"fmt"
	"math"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// exposed returns the samples of the text page whose names begin with prefix.
func exposed(t *testing.T, m *Metrics, prefix string) []string {
	t.Helper()
	var lines []string
	for l := range strings.Lines(get(t, m.Handler(HandlerConfig{}), "text/plain;version=0.0.4")) {
		if l = strings.TrimSuffix(l, "\n"); strings.HasPrefix(l, prefix) {
			lines = append(lines, l)
		}
	}
	return lines
}

func observeTo(h *Histogram, n int) {
	for i := 1; i <= n; i++ {
		h.Observe(float64(i))
	}
}

func wantValue(t *testing.T, m *Metrics, want float64, name string, labels ...string) {
	t.Helper()
	if got := value(t, m, name, labels...); got != want {
		t.Errorf("%s%q = %v, want %v", name, labels, got, want)
	}
}

func wantAbsent(t *testing.T, m *Metrics, name string, labels ...string) {
	t.Helper()
	if got, ok := m.Value(name, labels...); ok || got != 0 {
		t.Errorf("%s%q = %v %v, want no such series", name, labels, got, ok)
	}
}

func wantLines(t *testing.T, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("lines\n got %q\nwant %q", got, want)
	}
}

func wantPercentile(t *testing.T, m *Metrics, q, want float64) {
	t.Helper()
	if got, ok := m.Percentile("latency_seconds", q); !ok || math.Abs(got-want) > 1e-9 {
		t.Errorf("Percentile(%v) = %v %v, want %v", q, got, ok, want)
	}
}

func behaviours() []behaviour {
	return slices.Concat(startBehaviours, counterBehaviours, gaugeBehaviours, histogramBehaviours, timerBehaviours,
		exportBehaviours, keyBehaviours, percentileBehaviours, keepingBehaviours)
}

// TestBehavioursAreListed holds the document to the tests, one row for one test.
func TestBehavioursAreListed(t *testing.T) {
	page, err := os.ReadFile("../docs/behaviours-metrics-logs.md")
	if err != nil {
		t.Fatal(err)
	}
	for i, b := range behaviours() {
		number, words, _ := strings.Cut(b.name, " ")
		row := fmt.Sprintf("\n| %s | %s | `metrics.TestBehaviours/%s` |\n", number, words, strings.ReplaceAll(b.name, " ", "_"))
		if number != fmt.Sprint("M", i+1) || strings.Count(string(page), row) != 1 {
			t.Errorf("no row, or several:%s", row)
		}
	}
	if got, want := strings.Count(string(page), "`metrics.TestBehaviours/"), len(behaviours()); got != want || want != 40 {
		t.Errorf("%d rows for %d behaviours, want 40", got, want)
	}
}

// TestBehaviours has one test for each thing that users of metrics count on,
// in the numbering of docs/behaviours-metrics-logs.md.
func TestBehaviours(t *testing.T) {
	for _, tt := range behaviours() {
		t.Run(tt.name, func(t *testing.T) { tt.check(t, newMetrics(t, Config{})) })
	}
}

type behaviour struct {
	name  string
	check func(*testing.T, *Metrics)
}

var startBehaviours = []behaviour{
	{"M1 starts empty", func(t *testing.T, m *Metrics) {
		for _, f := range Families() {
			if lines := exposed(t, m, f.Name+"{"); len(lines) > 0 && f.Name != "kaizen_telemetry_dropped_total" {
				t.Errorf("%q before anything was recorded", lines)
			}
		}
		for _, l := range exposed(t, m, "kaizen_telemetry_dropped_total{") {
			if !strings.HasSuffix(l, " 0") {
				t.Errorf("%q before anything was recorded", l)
			}
		}
	}},
	{"M2 records to the registry that was chosen", func(t *testing.T, _ *Metrics) {
		registry := prometheus.NewRegistry()
		m := newMetrics(t, Config{Registry: registry})
		m.Counter("orders_total").Inc()
		all, err := registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, mf := range all {
			if mf.GetName() == "orders_total" {
				return
			}
		}
		t.Error("the registry does not have the counter")
	}},
}

var counterBehaviours = []behaviour{
	{"M3 counter steps by one unless told otherwise", func(t *testing.T, m *Metrics) {
		m.Counter("orders_total").Inc()
		wantValue(t, m, 1, "orders_total")
	}},
	{"M4 counter takes a step of any size", func(t *testing.T, m *Metrics) {
		m.Counter("orders_total").Add(2.5)
		wantValue(t, m, 2.5, "orders_total")
	}},
	{"M5 counter counts each set of labels apart", func(t *testing.T, m *Metrics) {
		m.Counter("orders_total", "shop", "north").Add(1)
		m.Counter("orders_total", "shop", "south").Add(2)
		wantValue(t, m, 1, "orders_total", "shop", "north")
		wantValue(t, m, 2, "orders_total", "shop", "south")
	}},
	{"M6 counter accumulates", func(t *testing.T, m *Metrics) {
		for _, step := range []float64{1, 2, 0.5} {
			m.Counter("orders_total").Add(step)
		}
		wantValue(t, m, 3.5, "orders_total")
	}},
	{"M7 counter that nobody touched is absent and reads zero", func(t *testing.T, m *Metrics) {
		wantAbsent(t, m, "orders_total")
		m.Counter("orders_total", "shop", "north").Inc()
		wantAbsent(t, m, "orders_total", "shop", "south")
	}},
}

var gaugeBehaviours = []behaviour{
	{"M8 gauge keeps what it is set to", func(t *testing.T, m *Metrics) {
		m.Gauge("stock").Set(-4.5)
		wantValue(t, m, -4.5, "stock")
	}},
	{"M9 gauge keeps each set of labels apart", func(t *testing.T, m *Metrics) {
		m.Gauge("stock", "shop", "north").Set(1)
		m.Gauge("stock", "shop", "south").Set(2)
		wantValue(t, m, 1, "stock", "shop", "north")
		wantValue(t, m, 2, "stock", "shop", "south")
	}},
	{"M10 gauge is overwritten", func(t *testing.T, m *Metrics) {
		m.Gauge("stock").Set(7)
		m.Gauge("stock").Set(3)
		wantValue(t, m, 3, "stock")
	}},
	{"M11 gauge that nobody set is absent", func(t *testing.T, m *Metrics) { wantAbsent(t, m, "stock") }},
}

var histogramBehaviours = []behaviour{
	{"M12 histogram takes one observation", func(t *testing.T, m *Metrics) {
		m.Histogram("latency_seconds").Observe(0.3)
		wantValue(t, m, 1, "latency_seconds")
		wantLines(t, exposed(t, m, "latency_seconds_sum"), "latency_seconds_sum 0.3")
	}},
	{"M13 histogram takes many observations", func(t *testing.T, m *Metrics) {
		observeTo(m.Histogram("latency_seconds"), 100)
		wantValue(t, m, 100, "latency_seconds")
		wantLines(t, exposed(t, m, "latency_seconds_sum"), "latency_seconds_sum 5050")
	}},
	{"M14 histogram keeps each set of labels apart", func(t *testing.T, m *Metrics) {
		m.Histogram("latency_seconds", "tool", "a").Observe(1)
		observeTo(m.Histogram("latency_seconds", "tool", "b"), 2)
		wantValue(t, m, 1, "latency_seconds", "tool", "a")
		wantValue(t, m, 2, "latency_seconds", "tool", "b")
	}},
	{"M15 histogram that nobody observed to is absent and holds nothing", func(t *testing.T, m *Metrics) {
		wantAbsent(t, m, "latency_seconds")
		wantLines(t, exposed(t, m, "latency_seconds"))
	}},
}

// asleep runs work on synctest's clock and wants it timed to be so long.
func asleep(want time.Duration, work func(t *testing.T, m *Metrics)) func(*testing.T, *Metrics) {
	return func(t *testing.T, _ *Metrics) {
		synctest.Test(t, func(t *testing.T) {
			m := newMetrics(t, Config{})
			work(t, m)
			wantPercentile(t, m, 0.5, want.Seconds())
		})
	}
}

var timerBehaviours = []behaviour{
	{"M16 timer measures work on the same goroutine", asleep(40*time.Millisecond, func(_ *testing.T, m *Metrics) {
		defer m.Timer("latency_seconds").Start()()
		time.Sleep(40 * time.Millisecond) // on synctest's clock, as below
	})},
	{"M17 timer measures work that ends on another goroutine", asleep(time.Second, func(_ *testing.T, m *Metrics) {
		stop := m.Timer("latency_seconds").Start()
		var wg sync.WaitGroup
		wg.Go(func() {
			time.Sleep(time.Second)
			stop()
		})
		wg.Wait()
	})},
	{"M18 timer has labels", asleep(2*time.Second, func(t *testing.T, m *Metrics) {
		stop := m.Timer("latency_seconds", "tool", "search").Start()
		time.Sleep(2 * time.Second)
		if d := stop(); d != 2*time.Second {
			t.Errorf("stop() = %v", d)
		}
		wantValue(t, m, 1, "latency_seconds", "tool", "search")
	})},
	{"M19 timer is used again and again", asleep(2*time.Second, func(t *testing.T, m *Metrics) {
		timer := m.Timer("latency_seconds")
		for i := range 3 {
			stop := timer.Start()
			time.Sleep(time.Duration(i+1) * time.Second)
			stop()
		}
		wantValue(t, m, 3, "latency_seconds")
	})},
	{"M20 timer measures work that panics", asleep(time.Second, func(_ *testing.T, m *Metrics) {
		defer func() { _ = recover() }() // the panic is the point
		defer m.Timer("latency_seconds").Start()()
		time.Sleep(time.Second)
		panic("work failed")
	})},
}

var exportBehaviours = []behaviour{
	{"M21 export of nothing has no samples of the user's", func(t *testing.T, m *Metrics) {
		for _, l := range exposed(t, m, "") {
			if !strings.HasPrefix(l, "#") && !strings.HasPrefix(l, "kaizen_telemetry_") {
				t.Errorf("line %q", l)
			}
		}
	}},
	{"M22 export has a line for a counter", func(t *testing.T, m *Metrics) {
		m.Counter("orders_total").Add(3)
		wantLines(t, exposed(t, m, "orders_total"), "orders_total 3")
	}},
	{"M23 export has the labels of a counter", func(t *testing.T, m *Metrics) {
		m.Counter("orders_total", "shop", "north").Add(3)
		wantLines(t, exposed(t, m, "orders_total"), `orders_total{shop="north"} 3`)
	}},
	{"M24 export has a line for a gauge", func(t *testing.T, m *Metrics) {
		m.Gauge("stock").Set(1.5)
		wantLines(t, exposed(t, m, "stock"), "stock 1.5")
	}},
	{"M25 export has buckets, sum and count of a histogram, from which p50, p95 and p99 follow", func(t *testing.T, m *Metrics) {
		if err := m.Define(Family{Name: "latency_seconds", Type: TypeHistogram, Buckets: []float64{50, 95, 99}}); err != nil {
			t.Fatal(err)
		}
		observeTo(m.Histogram("latency_seconds"), 100)
		wantLines(t, exposed(t, m, "latency_seconds"), `latency_seconds_bucket{le="50"} 50`, `latency_seconds_bucket{le="95"} 95`, `latency_seconds_bucket{le="99"} 99`,
			`latency_seconds_bucket{le="+Inf"} 100`, "latency_seconds_sum 5050", "latency_seconds_count 100")
		wantPercentile(t, m, 0.5, 50.5)
		wantPercentile(t, m, 0.95, 95.05)
		wantPercentile(t, m, 0.99, 99.01)
	}},
	{"M26 export has all types on one page", func(t *testing.T, m *Metrics) {
		m.Counter("my_orders_total").Inc()
		m.Gauge("my_stock").Set(2)
		m.Histogram("my_latency_seconds").Observe(3)
		lines := exposed(t, m, "my_")
		for _, want := range []string{"my_orders_total 1", "my_stock 2", "my_latency_seconds_count 1"} {
			if !slices.Contains(lines, want) {
				t.Errorf("no line %q in %q", want, lines)
			}
		}
	}},
}

var keyBehaviours = []behaviour{
	{"M27 series without labels is its name alone", func(t *testing.T, m *Metrics) {
		m.Counter("a_total").Inc()
		wantLines(t, exposed(t, m, "a_total"), "a_total 1")
	}},
	{"M28 series with one label", func(t *testing.T, m *Metrics) {
		m.Counter("a_total", "x", "1").Inc()
		wantLines(t, exposed(t, m, "a_total"), `a_total{x="1"} 1`)
	}},
	{"M29 labels are written in order of name", func(t *testing.T, m *Metrics) {
		m.Counter("a_total", "z", "3", "x", "1", "y", "2").Inc()
		wantLines(t, exposed(t, m, "a_total"), `a_total{x="1",y="2",z="3"} 1`)
	}},
	{"M30 order of labels makes no other series", func(t *testing.T, m *Metrics) {
		m.Counter("a_total", "x", "1", "y", "2").Inc()
		m.Counter("a_total", "y", "2", "x", "1").Inc()
		wantLines(t, exposed(t, m, "a_total"), `a_total{x="1",y="2"} 2`)
	}},
}

var percentileBehaviours = []behaviour{
	{"M31 median lies between the middle values", func(t *testing.T, m *Metrics) {
		observeTo(m.Histogram("latency_seconds"), 100)
		wantPercentile(t, m, 0.5, 50.5)
	}},
	{"M32 95th percentile is interpolated", func(t *testing.T, m *Metrics) {
		observeTo(m.Histogram("latency_seconds"), 100)
		wantPercentile(t, m, 0.95, 95.05)
	}},
	{"M33 percentile of nothing is none", func(t *testing.T, m *Metrics) {
		m.Histogram("latency_seconds")
		if got, ok := m.Percentile("latency_seconds", 0.5); ok || got != 0 {
			t.Errorf("Percentile = %v %v", got, ok)
		}
	}},
	{"M34 every percentile of a single value is that value", func(t *testing.T, m *Metrics) {
		m.Histogram("latency_seconds").Observe(42)
		for _, q := range []float64{0, 0.5, 0.95, 0.99, 1} {
			wantPercentile(t, m, q, 42)
		}
	}},
}

var keepingBehaviours = []behaviour{
	{"M35 reset clears everything", func(t *testing.T, m *Metrics) {
		m.Counter("orders_total").Add(3)
		m.Gauge("stock").Set(3)
		m.Histogram("latency_seconds").Observe(3)
		m.Reset()
		for _, name := range []string{"orders_total", "stock", "latency_seconds"} {
			wantValue(t, m, 0, name)
		}
		if _, ok := m.Percentile("latency_seconds", 0.5); ok {
			t.Error("an observation is left")
		}
	}},
	{"M36 everything works after a reset", func(t *testing.T, m *Metrics) {
		orders, latency := m.Counter("orders_total"), m.Histogram("latency_seconds")
		m.Reset()
		orders.Inc()
		latency.Observe(2)
		m.Gauge("stock").Set(2)
		wantValue(t, m, 1, "orders_total")
		wantValue(t, m, 2, "stock")
		wantPercentile(t, m, 0.5, 2)
	}},
	{"M37 observations are kept, the latest of them by value", func(t *testing.T, m *Metrics) {
		observeTo(m.Histogram("latency_seconds"), Window+10)
		wantValue(t, m, Window+10, "latency_seconds")
		wantPercentile(t, m, 0, 11)
		wantPercentile(t, m, 1, Window+10)
	}},
	{"M38 observation keeps its time, as an exemplar", func(t *testing.T, m *Metrics) {
		at := time.Unix(1700000000, 0)
		m.Histogram("latency_seconds").ObserveExemplar(3, Exemplar{TraceID: [16]byte{1}, SpanID: [8]byte{2}, UnixNano: at.UnixNano()})
		page := get(t, m.Handler(HandlerConfig{}), "application/openmetrics-text;version=1.0.0")
		if !strings.Contains(page, "} 3.0 1.7e+09\n") {
			t.Errorf("no time in\n%s", page)
		}
	}},
	{"M39 type is kept and told", func(t *testing.T, m *Metrics) {
		m.Counter("orders_total").Inc()
		m.Gauge("stock").Set(1)
		m.Histogram("latency_seconds").Observe(1)
		for _, want := range []string{"# TYPE orders_total counter", "# TYPE stock gauge", "# TYPE latency_seconds histogram"} {
			wantLines(t, exposed(t, m, want), want)
		}
	}},
	{"M40 recording on a bound handle allocates nothing", func(t *testing.T, m *Metrics) {
		orders, stock, latency := m.Counter("orders_total", "shop", "a"), m.Gauge("stock"), m.Histogram("latency_seconds")
		latency.Observe(1) // makes the window
		ex := Exemplar{TraceID: [16]byte{1}, UnixNano: 1}
		if n := testing.AllocsPerRun(100, func() {
			orders.Add(1.5)
			stock.Set(2)
			latency.ObserveExemplar(1, ex)
		}); n != 0 {
			t.Errorf("%v allocations", n)
		}
	}},
}
