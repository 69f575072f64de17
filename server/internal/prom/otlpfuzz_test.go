package prom

import (
	"math"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"
)

func FuzzAppendMetrics(f *testing.F) {
	marshal := func(md pmetric.Metrics) []byte {
		b, err := (&pmetric.ProtoMarshaler{}).MarshalMetrics(md)
		if err != nil {
			f.Fatal(err)
		}
		return b
	}
	md, ms := one("svc", "i")
	addGauge(ms, "g", base, 1, "a", "b")
	addSum(ms, "c", delta, base, 2)
	addSum(ms, "c", cumulative, base, 3)
	h := ms.AppendEmpty()
	h.SetName("h")
	h.SetEmptyHistogram().SetAggregationTemporality(delta)
	hp := h.Histogram().DataPoints().AppendEmpty()
	hp.SetTimestamp(at(base))
	hp.ExplicitBounds().FromRaw([]float64{1, 2})
	hp.BucketCounts().FromRaw([]uint64{1, 0, 1})
	hp.SetCount(2)
	for _, temporality := range []pmetric.AggregationTemporality{delta, cumulative} {
		e := ms.AppendEmpty()
		e.SetName("e")
		e.SetEmptyExponentialHistogram().SetAggregationTemporality(temporality)
		ep := e.ExponentialHistogram().DataPoints().AppendEmpty()
		ep.SetTimestamp(at(base))
		ep.SetScale(3)
		ep.Positive().SetOffset(-7)
		ep.Positive().BucketCounts().FromRaw([]uint64{1, 0, 0, 0, 2})
		ep.SetCount(3)
		x := ep.Exemplars().AppendEmpty()
		x.SetDoubleValue(1)
		x.SetTraceID([16]byte{1})
	}
	s := ms.AppendEmpty()
	s.SetName("s")
	s.SetEmptySummary().DataPoints().AppendEmpty().SetTimestamp(at(base))
	f.Add(marshal(md))
	f.Add([]byte{})

	db := open(f, Config{MaxSeries: 10_000_000, syncFile: func(string) error { return nil }})
	f.Fuzz(func(t *testing.T, b []byte) {
		md, err := (&pmetric.ProtoUnmarshaler{}).UnmarshalMetrics(b)
		if err != nil {
			return
		}
		checkCounts(t, db, md)
	})
}

// FuzzPoints sends points made of the input, where FuzzAppendMetrics mostly
// tries what is no OTLP.
func FuzzPoints(f *testing.F) {
	f.Add([]byte("a gauge, a sum, two histograms and a summary"))
	f.Add([]byte{4, 1, 0, 0, 0, 3, 250, 8, 1, 0, 0, 0, 0, 2, 255, 255, 9, 4, 2, 0, 0, 0, 7, 250, 20, 1, 1, 1, 1})
	f.Add([]byte{3, 2, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 3, 2, 0, 0, 1, 1, 2, 3, 4, 5, 6, 7, 8, 9})
	db := open(f, Config{MaxSeries: 10_000_000, syncFile: func(string) error { return nil }})
	f.Fuzz(func(t *testing.T, b []byte) { checkCounts(t, db, generate(&source{b})) })
}

var fuzzRun atomic.Int64

// checkCounts sends md and checks that each point is either taken or refused and
// counted, and that the same holds when it is sent again.
func checkCounts(t *testing.T, db *DB, md pmetric.Metrics) {
	t.Helper()
	// Series of its own, so that what failed fails again alone.
	for _, rm := range md.ResourceMetrics().All() {
		rm.Resource().Attributes().PutInt("service.name", fuzzRun.Add(1))
	}
	sent := md.DataPointCount()
	before := droppedAll(t, db)
	rejected, err := db.AppendMetrics(t.Context(), md)
	if err != nil {
		t.Fatalf("AppendMetrics: %v", err) // no input may look like a broken store
	}
	if rejected > sent {
		t.Fatalf("rejected %d of %d points", rejected, sent)
	}
	if counted := droppedAll(t, db) - before; counted != float64(rejected) {
		t.Fatalf("rejected %d, counted %v", rejected, counted)
	}
	if endsDelta(md) {
		return // what comes before the end of a delta series in time, but after it in the request, begins anew
	}
	// What was accepted is accepted again, as a duplicate: nothing of it was
	// stored as something else.
	again, err := db.AppendMetrics(t.Context(), md)
	if err != nil || again > rejected {
		t.Fatalf("the same request again: rejected %d, %v; at first %d of %d", again, err, rejected, sent)
	}
}

// endsDelta reports whether md says that a delta series ended.
func endsDelta(md pmetric.Metrics) bool {
	for _, rm := range md.ResourceMetrics().All() {
		for _, sm := range rm.ScopeMetrics().All() {
			for _, m := range sm.Metrics().All() {
				if ended(m) {
					return true
				}
			}
		}
	}
	return false
}

func ended(m pmetric.Metric) bool {
	switch m.Type() {
	case pmetric.MetricTypeSum:
		for _, p := range m.Sum().DataPoints().All() {
			if p.Flags().NoRecordedValue() && m.Sum().AggregationTemporality() == delta {
				return true
			}
		}
	case pmetric.MetricTypeHistogram:
		for _, p := range m.Histogram().DataPoints().All() {
			if p.Flags().NoRecordedValue() && m.Histogram().AggregationTemporality() == delta {
				return true
			}
		}
	case pmetric.MetricTypeExponentialHistogram:
		for _, p := range m.ExponentialHistogram().DataPoints().All() {
			if p.Flags().NoRecordedValue() && m.ExponentialHistogram().AggregationTemporality() == delta {
				return true
			}
		}
	}
	return false
}

// source hands out the bytes of a fuzz input, zeros at its end.
type source struct{ b []byte }

func (s *source) byte() byte {
	if len(s.b) == 0 {
		return 0
	}
	v := s.b[0]
	s.b = s.b[1:]
	return v
}

func (s *source) counts() []uint64 {
	out := make([]uint64, s.byte()%24)
	for i := range out {
		out[i] = uint64(s.byte() % 4)
		if s.byte() == 255 {
			out[i] = math.MaxUint64 - uint64(s.byte())
		}
	}
	return out
}

func (s *source) float() float64 {
	switch v := s.byte(); v {
	case 255:
		return math.NaN()
	case 254:
		return math.Inf(1)
	case 253:
		return math.Inf(-1)
	case 252:
		return math.MaxFloat64
	default:
		return float64(v) - 100
	}
}

func (s *source) time() pcommon.Timestamp {
	if v := s.byte(); v < 200 {
		return at(base.Add(-time.Duration(v) * 20 * time.Second))
	}
	return pcommon.Timestamp(uint64(s.byte()) << 56)
}

// generate makes metrics of a few series out of s.
func generate(s *source) pmetric.Metrics {
	md, ms := one("fuzz", "")
	for len(s.b) > 0 && ms.Len() < 30 {
		m := ms.AppendEmpty()
		m.SetName(string(rune('a' + s.byte()%3)))
		temporality := pmetric.AggregationTemporality(s.byte() % 3)
		switch s.byte() % 5 {
		case 0:
			number(s, m.SetEmptyGauge().DataPoints().AppendEmpty())
		case 1:
			m.SetEmptySum().SetAggregationTemporality(temporality)
			m.Sum().SetIsMonotonic(s.byte()%2 == 0)
			number(s, m.Sum().DataPoints().AppendEmpty())
		case 2:
			m.SetEmptyHistogram().SetAggregationTemporality(temporality)
			p := m.Histogram().DataPoints().AppendEmpty()
			p.SetTimestamp(s.time())
			p.SetSum(s.float())
			p.BucketCounts().FromRaw(s.counts())
			for range max(p.BucketCounts().Len()-1, 0) {
				p.ExplicitBounds().Append(s.float())
			}
			p.SetCount(uint64(s.byte()))
			p.SetFlags(pmetric.DataPointFlags(s.byte() % 2))
		case 3:
			m.SetEmptyExponentialHistogram().SetAggregationTemporality(temporality)
			exponential(s, m.ExponentialHistogram().DataPoints().AppendEmpty())
		case 4:
			p := m.SetEmptySummary().DataPoints().AppendEmpty()
			p.SetTimestamp(s.time())
			p.SetSum(s.float())
			q := p.QuantileValues().AppendEmpty()
			q.SetQuantile(float64(s.byte()) / 200)
			q.SetValue(s.float())
		}
	}
	return md
}

func number(s *source, p pmetric.NumberDataPoint) {
	p.SetTimestamp(s.time())
	if s.byte()%8 != 0 {
		p.SetDoubleValue(s.float())
	}
	p.SetFlags(pmetric.DataPointFlags(s.byte() % 2))
}

func exponential(s *source, p pmetric.ExponentialHistogramDataPoint) {
	p.SetTimestamp(s.time())
	p.SetSum(s.float())
	p.SetScale(int32(s.byte()%24) - 8)
	p.SetZeroThreshold(s.float())
	p.SetZeroCount(uint64(s.byte() % 3))
	count := p.ZeroCount()
	for _, b := range []pmetric.ExponentialHistogramDataPointBuckets{p.Positive(), p.Negative()} {
		b.SetOffset(int32(s.byte()) - 128)
		if s.byte() == 255 {
			b.SetOffset(math.MaxInt32 - int32(s.byte()))
		}
		b.BucketCounts().FromRaw(s.counts())
		for _, n := range b.BucketCounts().All() {
			count += n
		}
	}
	if s.byte() != 255 {
		p.SetCount(count)
	}
	p.SetFlags(pmetric.DataPointFlags(s.byte() % 2))
}

// droppedAll returns how many points were refused for whatever reason.
func droppedAll(t testing.TB, db *DB) (n float64) {
	t.Helper()
	for _, why := range []reason{reasonSeriesLimit, reasonLabelLimit, reasonDeltaLimit, reasonInvalid, reasonTooOld, reasonFuture, reasonDuplicate} {
		n += testutil.ToFloat64(db.refused.WithLabelValues(string(why)))
	}
	return n
}
