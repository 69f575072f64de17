package metrics

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

// The benchmarks stand beside what client_golang itself does for the same
// call; sub-benchmarks that end in /client_golang are the baseline.

func BenchmarkCounter(b *testing.B) {
	m := newMetrics(b, Config{})
	vec := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "c"}, []string{"agent", "provider", "model", "operation", "status"})
	b.Run("bound/kaizen", func(b *testing.B) {
		b.ReportAllocs()
		c := m.BindCounter(AgentRuns, "planner", "ok")
		for b.Loop() {
			c.Inc()
		}
	})
	b.Run("bound/client_golang", func(b *testing.B) {
		b.ReportAllocs()
		c := vec.WithLabelValues("planner", "openai", "gpt", "chat", "ok")
		for b.Loop() {
			c.Inc()
		}
	})
	b.Run("five labels/kaizen", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			m.Count(ModelCalls, "planner", "openai", "gpt", "chat", "ok")
		}
	})
	b.Run("five labels/client_golang", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			vec.WithLabelValues("planner", "openai", "gpt", "chat", "ok").Inc()
		}
	})
	b.Run("exemplar/kaizen", func(b *testing.B) {
		b.ReportAllocs()
		ex := Exemplar{TraceID: [16]byte{1}, SpanID: [8]byte{1}, UnixNano: 1}
		for b.Loop() {
			m.Add(ModelCalls, 1, ex, "planner", "openai", "gpt", "chat", "ok")
		}
	})
	b.Run("exemplar/client_golang", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			c := vec.WithLabelValues("planner", "openai", "gpt", "chat", "ok").(prometheus.ExemplarAdder)
			c.AddWithExemplar(1, prometheus.Labels{"trace_id": "01000000000000000000000000000000", "span_id": "0100000000000000"})
		}
	})
}

func BenchmarkHistogram(b *testing.B) {
	m := newMetrics(b, Config{})
	vec := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "h", Buckets: modelBuckets, NativeHistogramBucketFactor: NativeFactor, NativeHistogramMaxBucketNumber: 160,
	}, []string{"agent", "provider", "model", "operation", "status"})
	b.Run("five labels/kaizen", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			m.Observe(ModelCallDuration, 1.2, Exemplar{}, "planner", "openai", "gpt", "chat", "ok")
		}
	})
	b.Run("five labels/client_golang", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			vec.WithLabelValues("planner", "openai", "gpt", "chat", "ok").Observe(1.2)
		}
	})
	b.Run("exemplar/kaizen", func(b *testing.B) {
		b.ReportAllocs()
		ex := Exemplar{TraceID: [16]byte{1}, SpanID: [8]byte{1}, UnixNano: 1}
		for b.Loop() {
			m.Observe(ModelCallDuration, 1.2, ex, "planner", "openai", "gpt", "chat", "ok")
		}
	})
	b.Run("exemplar/client_golang", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			h := vec.WithLabelValues("planner", "openai", "gpt", "chat", "ok").(prometheus.ExemplarObserver)
			h.ObserveWithExemplar(1.2, prometheus.Labels{"trace_id": "01000000000000000000000000000000", "span_id": "0100000000000000"})
		}
	})
}
