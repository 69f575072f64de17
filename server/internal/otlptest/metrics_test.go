package otlptest

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/pmetric/pmetricotlp"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/resource"

	"github.com/kaizen-go/kaizen/otlp"
)

const (
	traceHex = "0102030405060708090a0b0c0d0e0f10"
	spanHex  = "0102030405060708"
)

var link = prometheus.Labels{"trace_id": traceHex, "span_id": spanHex, "extra": "x"}

// values go into every histogram: zero, negative, tiny and huge ones among them.
var values = []float64{0, -3, -0.02, 0.004, 0.005, 0.3, 0.31, 1, 1.0001, 2, 7, 900, 123456}

var bounds = []float64{0.005, 0.1, 1, 10}

func registry(t *testing.T) *prometheus.Registry {
	reg := prometheus.NewPedanticRegistry()
	c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "kaizen_x_total", Help: "Xs."}, []string{"agent"})
	c.WithLabelValues("a").(prometheus.ExemplarAdder).AddWithExemplar(3.5, link)
	c.WithLabelValues("").Add(0)
	g := prometheus.NewGauge(prometheus.GaugeOpts{Name: "kaizen_g", Help: "G."})
	g.Set(-2)
	h := prometheus.NewHistogram(prometheus.HistogramOpts{Name: "kaizen_h_seconds", Buckets: bounds})
	n := prometheus.NewHistogram(prometheus.HistogramOpts{Name: "kaizen_n_seconds", NativeHistogramBucketFactor: 1.1})
	both := prometheus.NewHistogram(prometheus.HistogramOpts{Name: "kaizen_b_seconds", Buckets: bounds, NativeHistogramBucketFactor: 1.1})
	s := prometheus.NewSummary(prometheus.SummaryOpts{Name: "kaizen_s", Objectives: map[float64]float64{0.5: 0.01, 0.9: 0.01}})
	u := prometheus.NewUntypedFunc(prometheus.UntypedOpts{Name: "kaizen_u"}, func() float64 { return 8 })
	for _, v := range values {
		for _, o := range []prometheus.Observer{h, n, both} {
			o.(prometheus.ExemplarObserver).ObserveWithExemplar(v, link)
		}
		s.Observe(v)
	}
	for _, c := range []prometheus.Collector{c, g, h, n, both, s, u} {
		if err := reg.Register(c); err != nil {
			t.Fatal(err)
		}
	}
	return reg
}

// pushed returns the metrics of one last push, by name.
func pushed(t *testing.T, reg prometheus.Gatherer) map[string]pmetric.Metric {
	t.Helper()
	res := resource.NewSchemaless(attribute.String("service.name", "svc"))
	exp, r, done := open(t, otlp.Config{Resource: res})
	stop, err := exp.PushMetrics(t.Context(), reg, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if err := stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	done()
	return byName(t, r.metrics)
}

func byName(t *testing.T, requests []pmetricotlp.ExportRequest) map[string]pmetric.Metric {
	all := map[string]pmetric.Metric{}
	for _, req := range requests {
		for _, rm := range req.Metrics().ResourceMetrics().All() {
			if diff := cmp.Diff(map[string]any{"service.name": "svc"}, rm.Resource().Attributes().AsRaw()); diff != "" {
				t.Error(diff)
			}
			for _, sm := range rm.ScopeMetrics().All() {
				if sm.Scope().Name() != "github.com/kaizen-go/kaizen/otlp" {
					t.Errorf("scope %q", sm.Scope().Name())
				}
				for _, m := range sm.Metrics().All() {
					if _, twice := all[m.Name()]; twice {
						t.Errorf("%s came twice", m.Name())
					}
					all[m.Name()] = m
				}
			}
		}
	}
	return all
}

func TestMetrics(t *testing.T) {
	begin := time.Now()
	all := pushed(t, registry(t))
	fresh := func(name string, start, at time.Time) {
		t.Helper()
		if start.Before(begin.Add(-time.Second)) || at.Before(start) || time.Since(at) > time.Minute {
			t.Errorf("%s: start %v, time %v", name, start, at)
		}
	}

	sum := all["kaizen_x_total"].Sum()
	if !sum.IsMonotonic() || sum.AggregationTemporality() != pmetric.AggregationTemporalityCumulative || all["kaizen_x_total"].Description() != "Xs." {
		t.Errorf("counter is not a cumulative, monotonic sum")
	}
	counted := map[string]float64{}
	for _, p := range sum.DataPoints().All() {
		agent, _ := p.Attributes().Get("agent")
		counted[agent.Str()] = p.DoubleValue()
		fresh("counter", p.StartTimestamp().AsTime(), p.Timestamp().AsTime())
		if agent.Str() == "a" {
			checkExemplars(t, "counter", p.Exemplars(), []float64{3.5})
		}
	}
	if diff := cmp.Diff(map[string]float64{"a": 3.5, "": 0}, counted); diff != "" {
		t.Errorf("counter differs:\n%s", diff)
	}
	for name, v := range map[string]float64{"kaizen_g": -2, "kaizen_u": 8} {
		if p := all[name].Gauge().DataPoints().At(0); p.DoubleValue() != v {
			t.Errorf("%s = %v, want %v", name, p.DoubleValue(), v)
		}
	}
	for _, name := range []string{"kaizen_h_seconds", "kaizen_b_seconds"} {
		p := all[name].Histogram().DataPoints().At(0)
		fresh(name, p.StartTimestamp().AsTime(), p.Timestamp().AsTime())
		if diff := cmp.Diff(bounds, p.ExplicitBounds().AsRaw()); diff != "" {
			t.Errorf("%s: bounds differ:\n%s", name, diff)
		}
		if diff := cmp.Diff(perBucket(), p.BucketCounts().AsRaw()); diff != "" {
			t.Errorf("%s: counts differ:\n%s", name, diff)
		}
		if p.Count() != uint64(len(values)) || !p.HasSum() || math.Abs(p.Sum()-total()) > 1e-6 {
			t.Errorf("%s: count %d, sum %v", name, p.Count(), p.Sum())
		}
		if p.Exemplars().Len() == 0 {
			t.Errorf("%s has no exemplars", name)
		}
		checkExemplars(t, name, p.Exemplars(), nil)
	}
	checkExponential(t, all["kaizen_n_seconds"].ExponentialHistogram())
	p := all["kaizen_s"].Summary().DataPoints().At(0)
	if p.Count() != uint64(len(values)) || math.Abs(p.Sum()-total()) > 1e-6 || p.QuantileValues().Len() != 2 || p.QuantileValues().At(1).Quantile() != 0.9 {
		t.Errorf("summary: %d values, sum %v, %d quantiles", p.Count(), p.Sum(), p.QuantileValues().Len())
	}
}

func total() (sum float64) {
	for _, v := range values {
		sum += v
	}
	return sum
}

// perBucket counts the values by hand.
func perBucket() []uint64 {
	counts := make([]uint64, len(bounds)+1)
	for _, v := range values {
		i := 0
		for i < len(bounds) && v > bounds[i] {
			i++
		}
		counts[i]++
	}
	return counts
}

func checkExemplars(t *testing.T, name string, list pmetric.ExemplarSlice, want []float64) {
	t.Helper()
	var got []float64
	for _, e := range list.All() {
		got = append(got, e.DoubleValue())
		if e.TraceID().String() != traceHex || e.SpanID().String() != spanHex || e.Timestamp() == 0 {
			t.Errorf("%s: exemplar of trace %s, span %s, at %v", name, e.TraceID(), e.SpanID(), e.Timestamp())
		}
		if diff := cmp.Diff(map[string]any{"extra": "x"}, e.FilteredAttributes().AsRaw()); diff != "" {
			t.Errorf("%s: exemplar attributes differ:\n%s", name, diff)
		}
	}
	if want != nil && !cmp.Equal(want, got) {
		t.Errorf("%s: exemplars %v, want %v", name, got, want)
	}
}

// checkExponential counts the values in each bucket as OTLP defines its bounds:
// (base^index, base^(index+1)], base = 2^(2^-scale).
func checkExponential(t *testing.T, h pmetric.ExponentialHistogram) {
	t.Helper()
	p := h.DataPoints().At(0)
	base := math.Pow(2, math.Pow(2, -float64(p.Scale())))
	if h.AggregationTemporality() != pmetric.AggregationTemporalityCumulative || base > 1.1 || p.Count() != uint64(len(values)) || math.Abs(p.Sum()-total()) > 1e-6 {
		t.Errorf("exponential: base %v, count %d, sum %v", base, p.Count(), p.Sum())
	}
	checkExemplars(t, "exponential", p.Exemplars(), nil)
	seen := p.ZeroCount()
	for sign, b := range map[float64]pmetric.ExponentialHistogramDataPointBuckets{1: p.Positive(), -1: p.Negative()} {
		for i, n := range b.BucketCounts().AsRaw() {
			lower := math.Pow(base, float64(b.Offset())+float64(i))
			var want uint64
			for _, v := range values {
				if v := v * sign; v > lower*(1+1e-12) && v <= lower*base*(1+1e-12) {
					want++
				}
			}
			if n != want {
				t.Errorf("bucket (%v, %v] has %d, want %d", sign*lower, sign*lower*base, n, want)
			}
			seen += n
		}
	}
	if seen != p.Count() {
		t.Errorf("buckets hold %d of %d", seen, p.Count())
	}
}

func TestBigFamilyIsSplit(t *testing.T) {
	reg := prometheus.NewRegistry()
	g := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "wide"}, []string{"id"})
	reg.MustRegister(g)
	for i := range 6000 {
		g.WithLabelValues(fmt.Sprint(i) + strings.Repeat("x", 200)).Set(float64(i))
	}
	exp, r, done := open(t, otlp.Config{BatchBytes: 1 << 20})
	stop, err := exp.PushMetrics(t.Context(), reg, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if err := stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	done()
	seen := map[float64]bool{}
	for _, req := range r.metrics {
		for _, rm := range req.Metrics().ResourceMetrics().All() {
			for _, m := range rm.ScopeMetrics().At(0).Metrics().All() {
				for _, p := range m.Gauge().DataPoints().All() {
					seen[p.DoubleValue()] = true
				}
			}
		}
	}
	if len(seen) != 6000 || len(r.metrics) < 2 {
		t.Errorf("%d series in %d requests, want 6000 in several", len(seen), len(r.metrics))
	}
}
