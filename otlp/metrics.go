package otlp

import (
	"encoding/hex"
	"math"
	"slices"
	"time"

	dto "github.com/prometheus/client_model/go"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// Fields of a Metric message that hold its data.
const (
	fieldGauge       = 5
	fieldSum         = 7
	fieldHistogram   = 9
	fieldExponential = 10
	fieldSummary     = 11

	cumulative = 2 // AGGREGATION_TEMPORALITY_CUMULATIVE
	// chunkBytes is where a family with many series goes on in another Metric
	// message of the same name, so that no family is bigger than a batch.
	chunkBytes = 512 << 10
)

// family turns a Prometheus family into Metric messages. The names stay as they
// are. Series that OTLP cannot say are counted in unsupported.
//
//	counter              Sum, cumulative, monotonic
//	gauge, untyped       Gauge
//	histogram, classic   Histogram with explicit bounds
//	histogram, native    ExponentialHistogram, when it has no classic buckets
//	summary              Summary
type family struct {
	mf    *dto.MetricFamily
	now   time.Time // of series without a timestamp
	since time.Time // start of series without a creation time
	out   [][]byte

	msg         []byte // the Metric message under way
	field       protowire.Number
	at          int // of the data message in msg
	unsupported int64
}

// metrics appends the Metric messages of a family.
func (f *family) metrics() {
	for _, m := range f.mf.GetMetric() {
		field, ok := f.dataField(m)
		if !ok {
			f.unsupported++
			continue
		}
		if f.msg != nil && (field != f.field || len(f.msg) > chunkBytes) {
			f.finish()
		}
		if f.msg == nil {
			f.open(field)
		}
		f.point(m)
	}
	f.finish()
}

// dataField says which message a series goes into.
func (f *family) dataField(m *dto.Metric) (protowire.Number, bool) {
	switch f.mf.GetType() {
	case dto.MetricType_COUNTER:
		return fieldSum, m.Counter != nil
	case dto.MetricType_GAUGE:
		return fieldGauge, m.Gauge != nil
	case dto.MetricType_UNTYPED:
		return fieldGauge, m.Untyped != nil
	case dto.MetricType_SUMMARY:
		return fieldSummary, m.Summary != nil
	case dto.MetricType_HISTOGRAM:
		h := m.Histogram
		switch {
		case h == nil || h.SampleCountFloat != nil:
			return 0, false // counts that are not whole: OTLP has none
		case h.Schema == nil || hasFiniteBound(h):
			return fieldHistogram, true
		default:
			// −4 to 8 are the exponential schemas; others have bounds of
			// their own, which this form does not carry.
			ok := h.GetSchema() >= -4 && h.GetSchema() <= 8
			return fieldExponential, ok && buckets(h.PositiveSpan) <= maxBuckets && buckets(h.NegativeSpan) <= maxBuckets
		}
	}
	return 0, false // a gauge histogram goes up and down: OTLP has no such thing
}

// hasFiniteBound says whether a histogram has classic buckets: a purely native
// one may carry the +Inf bucket, which says no more than its count.
func hasFiniteBound(h *dto.Histogram) bool {
	return slices.ContainsFunc(h.Bucket, func(b *dto.Bucket) bool { return !math.IsInf(b.GetUpperBound(), 1) })
}

func (f *family) open(field protowire.Number) {
	f.field = field
	f.msg = appendString([]byte{}, 1, f.mf.GetName())
	f.msg = appendString(f.msg, 2, f.mf.GetHelp())
	f.msg = appendString(f.msg, 3, f.mf.GetUnit())
	f.msg, f.at = begin(f.msg, field)
}

func (f *family) finish() {
	if f.msg == nil {
		return
	}
	switch f.field {
	case fieldSum:
		f.msg = appendUint(f.msg, 2, cumulative)
		f.msg = appendUint(f.msg, 3, 1) // monotonic
	case fieldHistogram, fieldExponential:
		f.msg = appendUint(f.msg, 2, cumulative)
	}
	f.out = append(f.out, end(f.msg, f.at))
	f.msg = nil
}

// point appends one data point.
func (f *family) point(m *dto.Metric) {
	dst, at := begin(f.msg, 1)
	now := f.now
	if m.TimestampMs != nil {
		now = time.UnixMilli(m.GetTimestampMs())
	}
	switch f.field {
	case fieldGauge:
		dst = f.number(dst, m, now)
	case fieldSum:
		dst = appendTime(dst, 2, f.start(m.Counter))
		dst = f.number(dst, m, now)
		dst = f.exemplar(dst, 5, m.Counter.Exemplar, now)
	case fieldHistogram:
		dst = f.histogram(dst, m, now)
	case fieldExponential:
		dst = f.exponential(dst, m, now)
	case fieldSummary:
		dst = f.summary(dst, m, now)
	}
	f.msg = end(dst, at)
}

// start is when the series began, which stays the same from push to push.
func (f *family) start(series interface {
	GetCreatedTimestamp() *timestamppb.Timestamp
}) time.Time {
	if ts := series.GetCreatedTimestamp(); ts.IsValid() {
		return ts.AsTime()
	}
	return f.since
}

func (f *family) number(dst []byte, m *dto.Metric, now time.Time) []byte {
	v := m.GetGauge().GetValue()
	switch {
	case m.Counter != nil:
		v = m.Counter.GetValue()
	case m.Untyped != nil:
		v = m.Untyped.GetValue()
	}
	dst = appendTime(dst, 3, now)
	dst = appendDouble(dst, 4, v)
	return f.labels(dst, 7, m.Label)
}

func (f *family) labels(dst []byte, num protowire.Number, labels []*dto.LabelPair) []byte {
	for _, l := range labels {
		dst = appendLabel(dst, num, l)
	}
	return dst
}

func appendLabel(dst []byte, num protowire.Number, l *dto.LabelPair) []byte {
	dst, at := begin(dst, num)
	dst = appendString(dst, 1, l.GetName())
	dst, value := begin(dst, 2)
	dst = appendText(dst, 1, l.GetValue())
	return end(end(dst, value), at)
}

// exemplar appends an Exemplar message; its labels trace_id and span_id become
// the ids, the others stay attributes.
func (f *family) exemplar(dst []byte, num protowire.Number, ex *dto.Exemplar, now time.Time) []byte {
	if ex == nil {
		return dst
	}
	if ex.Timestamp != nil {
		now = ex.Timestamp.AsTime()
	}
	dst, at := begin(dst, num)
	dst = appendTime(dst, 2, now)
	dst = appendDouble(dst, 3, ex.GetValue())
	for _, l := range ex.Label {
		if id, ok := exemplarID(l, "span_id", 8); ok {
			dst = appendBytes(dst, 4, id)
		} else if id, ok := exemplarID(l, "trace_id", 16); ok {
			dst = appendBytes(dst, 5, id)
		} else {
			dst = appendLabel(dst, 7, l)
		}
	}
	return end(dst, at)
}

func exemplarID(l *dto.LabelPair, name string, size int) ([]byte, bool) {
	if l.GetName() != name {
		return nil, false
	}
	id, err := hex.DecodeString(l.GetValue())
	return id, err == nil && len(id) == size
}

// histogram appends the fields of a HistogramDataPoint. Prometheus counts are
// cumulative over the buckets and its last bound may be left out; OTLP counts
// each bucket for itself and has one more of them than bounds.
func (f *family) histogram(dst []byte, m *dto.Metric, now time.Time) []byte {
	h := m.Histogram
	dst = appendTime(dst, 2, f.start(h))
	dst = appendTime(dst, 3, now)
	dst = appendFixed64(dst, 4, h.GetSampleCount())
	dst = appendDouble(dst, 5, h.GetSampleSum())
	var before uint64
	var counts, bounds []byte
	for _, b := range h.Bucket {
		if math.IsInf(b.GetUpperBound(), 1) {
			continue
		}
		counts = protowire.AppendFixed64(counts, less(b.GetCumulativeCount(), before))
		bounds = protowire.AppendFixed64(bounds, math.Float64bits(b.GetUpperBound()))
		before = b.GetCumulativeCount()
	}
	counts = protowire.AppendFixed64(counts, less(h.GetSampleCount(), before))
	dst = appendBytes(dst, 6, counts)
	dst = appendBytes(dst, 7, bounds)
	for _, b := range h.Bucket {
		dst = f.exemplar(dst, 8, b.Exemplar, now)
	}
	// Those of a native histogram with classic buckets are the same ones.
	return f.labels(dst, 9, m.Label)
}

// less is a-b; zero where a collector's cumulative counts go down.
func less(a, b uint64) uint64 { return a - min(a, b) }

// exponential appends the fields of an ExponentialHistogramDataPoint. Schema and
// scale are the same number; a Prometheus bucket with index i ends at base^i,
// one of OTLP begins there, so its index is one lower.
func (f *family) exponential(dst []byte, m *dto.Metric, now time.Time) []byte {
	h := m.Histogram
	dst = f.labels(dst, 1, m.Label)
	dst = appendTime(dst, 2, f.start(h))
	dst = appendTime(dst, 3, now)
	dst = appendFixed64(dst, 4, h.GetSampleCount())
	dst = appendDouble(dst, 5, h.GetSampleSum())
	dst = appendUint(dst, 6, protowire.EncodeZigZag(int64(h.GetSchema())))
	dst = appendFixed64(dst, 7, h.GetZeroCount())
	dst = appendBuckets(dst, 8, h.PositiveSpan, h.PositiveDelta)
	dst = appendBuckets(dst, 9, h.NegativeSpan, h.NegativeDelta)
	for _, ex := range h.Exemplars {
		dst = f.exemplar(dst, 11, ex, now)
	}
	return appendFixed64(dst, 14, math.Float64bits(h.GetZeroThreshold()))
}

// maxBuckets bounds the dense list that sparse spans become. Schema 8 has 256
// buckets for each doubling, so all that a float64 can say is 2100 × 256; but
// values 2^64 apart in one series, 16,384 buckets, are none of a working agent's.
const maxBuckets = 1 << 14

// buckets is how long the dense list for spans is.
func buckets(spans []*dto.BucketSpan) int64 {
	var n int64
	for i, s := range spans {
		if i > 0 {
			n += int64(s.GetOffset())
		}
		n += int64(s.GetLength())
	}
	return n
}

// appendBuckets turns spans of deltas into an offset and a list of counts.
func appendBuckets(dst []byte, num protowire.Number, spans []*dto.BucketSpan, deltas []int64) []byte {
	if len(spans) == 0 {
		return dst
	}
	var counts []byte
	count, next := int64(0), 0
	for i, s := range spans {
		for gap := s.GetOffset(); i > 0 && gap > 0; gap-- {
			counts = protowire.AppendVarint(counts, 0)
		}
		for range min(int(s.GetLength()), len(deltas)-next) {
			count += deltas[next]
			next++
			counts = protowire.AppendVarint(counts, uint64(max(count, 0)))
		}
	}
	dst, at := begin(dst, num)
	dst = appendUint(dst, 1, protowire.EncodeZigZag(int64(spans[0].GetOffset())-1))
	dst = appendBytes(dst, 2, counts)
	return end(dst, at)
}

func (f *family) summary(dst []byte, m *dto.Metric, now time.Time) []byte {
	s := m.Summary
	dst = appendTime(dst, 2, f.start(s))
	dst = appendTime(dst, 3, now)
	dst = appendFixed64(dst, 4, s.GetSampleCount())
	dst = appendDouble(dst, 5, s.GetSampleSum())
	for _, q := range s.Quantile {
		var at int
		dst, at = begin(dst, 6)
		dst = appendDouble(dst, 1, q.GetQuantile())
		dst = appendDouble(dst, 2, q.GetValue())
		dst = end(dst, at)
	}
	return f.labels(dst, 7, m.Label)
}
