package prom

import (
	"math"
	"slices"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"
)

const (
	// maxClassicBuckets bounds the series that one histogram point may stand
	// for. OpenTelemetry's default is 15.
	maxClassicBuckets = 500
	// maxNativeBuckets bounds the buckets of one exponential point on either
	// side of zero. OpenTelemetry's default is 160.
	maxNativeBuckets = 4096
	// maxBucketIndex keeps index arithmetic far from overflow. At the finest
	// schema it stands for 2^(2^22), beyond any float.
	maxBucketIndex = 1 << 30
	// maxCount keeps sums of counts within int64, and within what a float64 holds to about one part in 2^53.
	maxCount = 1 << 61
	// zeroThreshold is the width of the zero bucket where a sender names none,
	// as in Prometheus's own receiver.
	zeroThreshold = 1e-128
)

// explicit is a histogram with given bounds. Counts are per bucket, one more
// than there are bounds.
type explicit struct {
	bounds []float64
	counts []float64
	count  float64
	sum    float64
	hasSum bool
}

func explicitOf(f family, p pmetric.HistogramDataPoint) (explicit, error) {
	if f.temporality == pmetric.AggregationTemporalityUnspecified {
		return explicit{}, refuse(reasonInvalid, "%s: histogram without temporality", f.name)
	}
	h := explicit{bounds: p.ExplicitBounds().AsRaw(), count: float64(p.Count()), sum: p.Sum(), hasSum: p.HasSum()}
	if n := len(h.bounds); n > maxClassicBuckets {
		return explicit{}, refuse(reasonInvalid, "%s: %d buckets, more than %d", f.name, n, maxClassicBuckets)
	}
	counts := p.BucketCounts().AsRaw()
	if len(counts) != 0 && len(counts) != len(h.bounds)+1 {
		return explicit{}, refuse(reasonInvalid, "%s: %d counts for %d bounds", f.name, len(counts), len(h.bounds))
	}
	if len(counts) == 0 {
		h.bounds = nil // count and sum only, whatever bounds were named
	}
	for i, b := range h.bounds {
		if math.IsNaN(b) || i > 0 && b <= h.bounds[i-1] {
			return explicit{}, refuse(reasonInvalid, "%s: bounds do not rise", f.name)
		}
	}
	h.counts = make([]float64, len(h.bounds)+1)
	for i, c := range counts {
		h.counts[i] = float64(c)
	}
	return h, nil
}

// classicSamples returns the series of a classic histogram: sum, count and one
// cumulative bucket per bound, with each exemplar at the bucket it fell into.
func classicSamples(name string, base labels.Labels, t int64, h explicit, stale bool, exemplars []exemplar.Exemplar) []sample {
	b := labels.NewBuilder(base)
	b.Del(model.BucketLabel)
	series := func(name string) labels.Labels { return b.Set(model.MetricNameLabel, name).Labels() }
	value := func(v float64) float64 {
		if stale {
			return staleNaN()
		}
		return v
	}
	point := make([]sample, 0, len(h.bounds)+3)
	if h.hasSum {
		point = append(point, sample{labels: series(name + "_sum"), t: t, v: value(h.sum)})
	}
	point = append(point, sample{labels: series(name + "_count"), t: t, v: value(h.count)})

	var cumulative float64
	rest := exemplars
	for i, bound := range h.bounds {
		cumulative += h.counts[i]
		if math.IsInf(bound, 1) {
			continue // the last bucket, below, is +Inf anyway
		}
		var mine []exemplar.Exemplar
		mine, rest = split(rest, bound)
		b.Set(model.BucketLabel, formatBound(bound))
		point = append(point, sample{labels: series(name + "_bucket"), t: t, v: value(cumulative), exemplars: mine})
	}
	b.Set(model.BucketLabel, "+Inf")
	return append(point, sample{labels: series(name + "_bucket"), t: t, v: value(h.count), exemplars: rest})
}

// split takes out the exemplars up to bound; both parts keep their order.
func split(all []exemplar.Exemplar, bound float64) (upTo, rest []exemplar.Exemplar) {
	for _, e := range all {
		if e.Value <= bound {
			upTo = append(upTo, e)
		} else {
			rest = append(rest, e)
		}
	}
	return upTo, rest
}

// nativeOf converts an exponential histogram to a native one. Scales finer than
// Prometheus's finest are merged down; coarser ones than its coarsest cannot be
// represented.
func nativeOf(f family, p pmetric.ExponentialHistogramDataPoint) (*histogram.Histogram, error) {
	schema := p.Scale()
	if schema < histogram.ExponentialSchemaMin {
		return nil, refuse(reasonInvalid, "%s: scale %d is coarser than %d", f.name, schema, histogram.ExponentialSchemaMin)
	}
	var down int32
	if schema > histogram.ExponentialSchemaMax {
		down = min(schema-histogram.ExponentialSchemaMax, 62)
		schema = histogram.ExponentialSchemaMax
	}
	h := &histogram.Histogram{
		Schema:        schema,
		ZeroThreshold: p.ZeroThreshold(),
		ZeroCount:     p.ZeroCount(),
		Count:         p.Count(),
		Sum:           p.Sum(), // zero when not sent, as in Prometheus's own receiver
	}
	if !(h.ZeroThreshold > 0) || math.IsInf(h.ZeroThreshold, 1) {
		h.ZeroThreshold = zeroThreshold
	}
	if h.Count > maxCount || h.ZeroCount > maxCount {
		return nil, refuse(reasonInvalid, "%s: count %d", f.name, h.Count)
	}
	var err error
	if h.PositiveSpans, h.PositiveBuckets, err = sparse(f, p.Positive(), down); err != nil {
		return nil, err
	}
	h.NegativeSpans, h.NegativeBuckets, err = sparse(f, p.Negative(), down)
	return h, err
}

// sparse converts dense buckets to spans and deltas, merging 2^down of them
// into one. OTLP's bucket 0 is (1, base], Prometheus's is (1/base, 1]: hence the
// one that is added to each index. A gap of up to two empty buckets is cheaper filled
// than ended, as client_golang found.
func sparse(f family, in pmetric.ExponentialHistogramDataPointBuckets, down int32) ([]histogram.Span, []int64, error) {
	counts := in.BucketCounts()
	first, last, ok := filled(counts)
	if !ok {
		return nil, nil, nil
	}
	offset := int64(in.Offset())
	if last-first >= maxNativeBuckets<<min(down, 20) || abs(offset) > maxBucketIndex {
		return nil, nil, refuse(reasonInvalid, "%s: %d buckets from index %d", f.name, last-first+1, offset)
	}
	var (
		spans  []histogram.Span
		deltas []int64
		prev   int64
		next   int64 // the index after the last bucket written
	)
	write := func(n int64) {
		spans[len(spans)-1].Length++
		deltas = append(deltas, n-prev)
		prev = n
	}
	for i := first; i <= last; {
		index := (offset+int64(i))>>down + 1
		var n uint64
		for ; i <= last && (offset+int64(i))>>down+1 == index; i++ {
			if counts.At(i) > maxCount || n > maxCount {
				return nil, nil, refuse(reasonInvalid, "%s: bucket count %d", f.name, counts.At(i))
			}
			n += counts.At(i)
		}
		if n == 0 {
			continue
		}
		if gap := index - next; len(spans) == 0 || gap > 2 {
			spans = append(spans, histogram.Span{Offset: int32(gap)})
		} else {
			for range gap {
				write(0)
			}
		}
		write(int64(n))
		next = index + 1
	}
	return spans, deltas, nil
}

// filled returns the first and last bucket that holds anything.
func filled(counts pcommon.UInt64Slice) (first, last int, ok bool) {
	first, last = -1, -1
	for i, n := range counts.All() {
		if n != 0 {
			if first < 0 {
				first = i
			}
			last = i
		}
	}
	return first, last, first >= 0
}

func abs(v int64) int64 {
	if v < 0 {
		return -v
	}
	return v
}

// addExplicit returns a+b, or b and false when their bounds differ.
func addExplicit(a, b explicit) (explicit, bool) {
	if !slices.Equal(a.bounds, b.bounds) {
		return b, false
	}
	sum := explicit{
		bounds: b.bounds,
		counts: slices.Clone(a.counts),
		count:  a.count + b.count,
		sum:    a.sum + b.sum,
		hasSum: a.hasSum && b.hasSum,
	}
	for i, n := range b.counts {
		sum.counts[i] += n
	}
	return sum, true
}
