package prom

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

func TestScrape(t *testing.T) {
	clk := newClock(base)
	db := open(t, Config{now: clk.now, MaxSeries: 1}) // the limit is not for own metrics
	reg := prometheus.NewRegistry()
	counter := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "calls_total", Help: "Calls."}, []string{"agent", "job"})
	hist := prometheus.NewHistogram(prometheus.HistogramOpts{Name: "took_seconds", Help: "Time.", Buckets: []float64{0.5, 1}, NativeHistogramBucketFactor: 2})
	idle := prometheus.NewHistogram(prometheus.HistogramOpts{Name: "idle_seconds", Help: "None.", NativeHistogramBucketFactor: 1.1})
	summary := prometheus.NewSummary(prometheus.SummaryOpts{Name: "size", Help: "Size.", Objectives: map[float64]float64{0.5: 0.1}})
	gauge := prometheus.NewGauge(prometheus.GaugeOpts{Name: "active", Help: "Active."})
	reg.MustRegister(counter, hist, idle, summary, gauge)
	counter.WithLabelValues("planner", "mine").(prometheus.ExemplarAdder).AddWithExemplar(3, prometheus.Labels{"trace_id": "t1"})
	hist.(prometheus.ExemplarObserver).ObserveWithExemplar(0.75, prometheus.Labels{"trace_id": "t2"})
	hist.Observe(3)
	summary.Observe(5)
	gauge.Set(-1)

	s := newScrape(db, reg, map[string]string{"job": "kaizen", "instance": "here"})
	for range 2 { // the second at the same time repeats the first
		if err := s.scrape(t.Context(), base); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct{ query, want string }{
		{`calls_total{agent="planner",exported_job="mine",instance="here",job="kaizen"}`, "3"},
		{"active", "-1"},
		{`up{job="kaizen"}`, "1"},
		{"size_count", "1"}, {"size_sum", "5"}, {`size{quantile="0.5"}`, "5"},
		{`took_seconds_bucket{le="0.5"}`, "0"}, {`took_seconds_bucket{le="1"}`, "1"}, {`took_seconds_bucket{le="+Inf"}`, "2"},
		{"took_seconds_count", "2"}, {"took_seconds_sum", "3.75"},
		{"histogram_count(took_seconds)", "2"}, {"histogram_fraction(0, 1, took_seconds)", "0.5"},
		{"histogram_count(idle_seconds)", "0"},
	} {
		if got := value1(t, db, c.query, base); got != c.want {
			t.Errorf("%s = %q, want %s", c.query, got, c.want)
		}
	}
	_, body := call(t, db, "GET", "/query_exemplars", map[string][]string{"query": {`{__name__=~"calls_total|took_seconds_bucket"}`}})
	if !contains(body, `"trace_id":"t1"},"value":"3"`) || !contains(body, `"le":"1"},"exemplars":[{"labels":{"trace_id":"t2"},"value":"0.75"`) {
		t.Errorf("exemplars: %s", body)
	}

	// A series that is gone ends at the next scrape.
	counter.DeleteLabelValues("planner", "mine")
	clk.set(base.Add(15 * time.Second))
	if err := s.scrape(t.Context(), clk.now()); err != nil {
		t.Fatal(err)
	}
	if got := value1(t, db, "calls_total", clk.now()); got != "" {
		t.Errorf("a series that is gone: %s, want nothing", got)
	}
	if got := value1(t, db, "active", clk.now()); got != "-1" {
		t.Errorf("active = %q, want -1", got)
	}
}

// gatherer returns families and an error, as a registry with a broken collector.
type gatherer struct{ err error }

func (g gatherer) Gather() ([]*dto.MetricFamily, error) {
	return []*dto.MetricFamily{{
		Name: new("ok"), Type: dto.MetricType_GAUGE.Enum(),
		Metric: []*dto.Metric{{Gauge: &dto.Gauge{Value: new(1.0)}}},
	}}, g.err
}

func TestScrapeOfBrokenRegistry(t *testing.T) {
	db := open(t, Config{})
	broken := errors.New("collector panicked")
	if err := newScrape(db, gatherer{broken}, nil).scrape(t.Context(), base); !errors.Is(err, broken) {
		t.Errorf("scrape() = %v, want %v", err, broken)
	}
	if up, ok := value1(t, db, "up", base), value1(t, db, "ok", base); up != "0" || ok != "1" {
		t.Errorf("up = %q, ok = %q, want 0 and 1", up, ok)
	}
}

func TestSelfScrapeLoop(t *testing.T) {
	db := open(t, Config{now: time.Now})
	calls := make(chan int)
	n := 0
	g := prometheus.GathererFunc(func() ([]*dto.MetricFamily, error) {
		n++
		calls <- n
		return gatherer{}.Gather()
	})
	stop := db.SelfScrape(g, time.Millisecond, map[string]string{"job": "kaizen"})
	for want := 1; want <= 3; want++ {
		if got := <-calls; got != want {
			t.Fatalf("scrape %d, want %d", got, want)
		}
	}
	go func() {
		for range calls { // one may be under way
		}
	}()
	stop()
	stop()
	after := n
	if got := value1(t, db, `up{job="kaizen"}`, time.Now()); got != "1" {
		t.Errorf("up = %q, want 1", got)
	}
	// Close stops what the caller forgot to.
	db.SelfScrape(g, time.Hour, nil)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	close(calls)
	if n > after+1 {
		t.Errorf("%d scrapes after stop and one of another loop, want at most 1", n-after)
	}
}

func TestSlotsReturnOnCancel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSlots(1)
		if _, err := s.Insert(t.Context(), ""); err != nil {
			t.Fatal(err)
		}
		got := make(chan error)
		go func() {
			_, err := s.Insert(t.Context(), "")
			got <- err
		}()
		synctest.Wait() // it is waiting
		s.Delete(0)
		if err := <-got; err != nil {
			t.Errorf("Insert() = %v after a slot was freed", err)
		}
	})
}
