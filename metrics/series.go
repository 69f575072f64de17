package metrics

import (
	"fmt"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// series is one time series of a counter, gauge or histogram family.
//
// Counters and gauges are kept here; a histogram wraps client_golang's, which
// has the native buckets. Exemplars are ours throughout: client_golang's build
// a protobuf message for each observation (six allocations), these copy 24
// bytes and build the message when they are scraped.
type series struct {
	fam      *family
	hash     uint64
	values   []string
	pairs    []*dto.LabelPair
	overflow bool
	detached bool // stands for a refused handle: counts refusals only

	created atomic.Int64 // Unix nanoseconds
	whole   atomic.Uint64
	bits    atomic.Uint64 // float64 part that is no whole number; all of a gauge
	last    exemplarSlot  // of a counter
	funcs   atomic.Pointer[[]func() float64]

	histogram atomic.Pointer[prometheus.Histogram]
	slots     []exemplarSlot // one per classic bucket, then +Inf
}

func newSeries(f *family, h uint64, values []string, overflow bool) *series {
	s := &series{fam: f, hash: h, values: values, overflow: overflow}
	s.pairs = f.labelPairs(values)
	s.created.Store(time.Now().UnixNano())
	if f.desc.Type == TypeHistogram {
		s.histogram.Store(newHistogram(f))
		s.slots = make([]exemplarSlot, len(f.desc.Buckets)+1)
	}
	return s
}

func newHistogram(f *family) *prometheus.Histogram {
	h := prometheus.NewHistogram(prometheus.HistogramOpts{
		Name:    f.desc.Name,
		Help:    f.desc.Help,
		Buckets: f.desc.Buckets,
		// At most 160 native buckets keep a series under 5 KB; beyond it the
		// resolution halves, and is tried anew after an hour.
		NativeHistogramBucketFactor:     NativeFactor,
		NativeHistogramMaxBucketNumber:  160,
		NativeHistogramMinResetDuration: time.Hour,
	})
	return &h
}

// ok counts a record that lands in an overflow series, and reports whether
// the series takes records at all.
func (s *series) ok() bool {
	if s.detached {
		s.fam.owner.dropped[reasonLabels].add(1)
		return false
	}
	if s.overflow {
		s.fam.owner.dropped[reasonSeriesLimit].add(1)
	}
	return true
}

// add adds to a counter without asking anything.
func (s *series) add(n uint64) {
	if s.overflow && s != s.fam.owner.dropped[reasonSeriesLimit] {
		s.fam.owner.dropped[reasonSeriesLimit].add(1)
	}
	s.whole.Add(n)
}

// increase adds a checked amount to a counter.
func (s *series) increase(v float64, ex Exemplar) {
	if !(v >= 0) || math.IsInf(v, 1) { // also true for NaN
		_ = s.refuseValue("add", v) // counted and reported; recording does not fail
		return
	}
	if !s.ok() {
		return
	}
	if whole := uint64(v); v < 1<<63 && float64(whole) == v {
		s.whole.Add(whole)
	} else {
		s.shiftBits(v)
	}
	s.last.keep(v, ex)
}

func (s *series) shift(v float64) {
	if !finite(v) {
		_ = s.refuseValue("shift by", v)
		return
	}
	if s.ok() {
		s.shiftBits(v)
	}
}

func (s *series) shiftBits(v float64) {
	for {
		old := s.bits.Load()
		if s.bits.CompareAndSwap(old, math.Float64bits(math.Float64frombits(old)+v)) {
			return
		}
	}
}

func (s *series) set(v float64) {
	if !finite(v) {
		_ = s.refuseValue("set to", v)
		return
	}
	if s.ok() {
		s.bits.Store(math.Float64bits(v))
	}
}

func (s *series) observe(v float64, ex Exemplar) {
	if !finite(v) {
		_ = s.refuseValue("observe", v)
		return
	}
	if !s.ok() {
		return
	}
	(*s.histogram.Load()).Observe(v)
	s.fam.recent.add(v)
	if ex.valid() {
		at, _ := slices.BinarySearch(s.fam.desc.Buckets, v)
		s.slots[at].keep(v, ex)
	}
}

func (s *series) refuseValue(verb string, v float64) error {
	return s.fam.owner.refuse(reasonValue, "metrics: %s %s %g", s.fam.desc.Name, verb, v)
}

// addFunc makes fn's value part of the series.
func (s *series) addFunc(fn func() float64) {
	if !s.ok() {
		return
	}
	for {
		old := s.funcs.Load()
		var fns []func() float64
		if old != nil {
			fns = slices.Clone(*old)
		}
		fns = append(fns, fn)
		if s.funcs.CompareAndSwap(old, &fns) {
			return
		}
	}
}

// present is the value of a counter or gauge without what functions add.
func (s *series) present() float64 {
	return float64(s.whole.Load()) + math.Float64frombits(s.bits.Load())
}

// value is the value of a counter or gauge. A function that panics makes the
// series missing from this scrape, rather than wrong in it.
func (s *series) value() (v float64, err error) {
	v = s.present()
	fns := s.funcs.Load()
	if fns == nil {
		return v, nil
	}
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("metrics: read %s: function panicked: %v", s.fam.desc.Name, p)
		}
	}()
	for _, fn := range *fns {
		v += fn()
	}
	return v, nil
}

func (s *series) reset() {
	s.whole.Store(0)
	s.bits.Store(0)
	s.created.Store(time.Now().UnixNano())
	s.last.reset()
	if s.fam.desc.Type == TypeHistogram {
		s.histogram.Store(newHistogram(s.fam))
		for i := range s.slots {
			s.slots[i].reset()
		}
	}
}

// Desc implements [prometheus.Metric].
func (s *series) Desc() *prometheus.Desc { return s.fam.pdesc }

// Write implements [prometheus.Metric]; it runs at each scrape.
func (s *series) Write(out *dto.Metric) error {
	if s.fam.desc.Type == TypeHistogram {
		if err := (*s.histogram.Load()).Write(out); err != nil {
			return err
		}
		out.Label = s.pairs
		s.writeExemplars(out.Histogram)
		return nil
	}
	out.Label = s.pairs
	v, err := s.value()
	if err != nil {
		return err
	}
	if s.fam.desc.Type == TypeCounter {
		out.Counter = &dto.Counter{
			Value:            &v,
			Exemplar:         s.last.message(),
			CreatedTimestamp: timestamppb.New(time.Unix(0, s.created.Load())),
		}
		return nil
	}
	out.Gauge = &dto.Gauge{Value: &v}
	return nil
}

// writeExemplars adds an exemplar to each classic bucket that has one, and all
// of them to the native part.
func (s *series) writeExemplars(h *dto.Histogram) {
	for i := range s.slots {
		e := s.slots[i].message()
		if e == nil {
			continue
		}
		if i == len(h.Bucket) { // client_golang leaves +Inf out
			h.Bucket = append(h.Bucket, &dto.Bucket{CumulativeCount: new(h.GetSampleCount()), UpperBound: new(math.Inf(1))})
		}
		h.Bucket[i].Exemplar = e
		h.Exemplars = append(h.Exemplars, e)
	}
}

// exemplarSlot holds the latest exemplar.
type exemplarSlot struct {
	mu    sync.Mutex
	ex    Exemplar
	nanos int64
	value float64
}

// keep stores ex unless another goroutine is storing one: that one is as good.
func (e *exemplarSlot) keep(v float64, ex Exemplar) {
	if !ex.valid() || !e.mu.TryLock() {
		return
	}
	nanos := ex.UnixNano
	if nanos == 0 {
		nanos = time.Now().UnixNano()
	}
	e.ex, e.nanos, e.value = ex, nanos, v
	e.mu.Unlock()
}

func (e *exemplarSlot) reset() {
	e.mu.Lock()
	e.ex, e.nanos, e.value = Exemplar{}, 0, 0
	e.mu.Unlock()
}

// message returns the exemplar for the protobuf model, nil if there is none.
func (e *exemplarSlot) message() *dto.Exemplar {
	e.mu.Lock()
	ex, nanos, value := e.ex, e.nanos, e.value
	e.mu.Unlock()
	if !ex.valid() {
		return nil
	}
	return &dto.Exemplar{
		Label: []*dto.LabelPair{
			{Name: new("span_id"), Value: new(ex.SpanID.String())},
			{Name: new("trace_id"), Value: new(ex.TraceID.String())},
		},
		Value:     new(value),
		Timestamp: timestamppb.New(time.Unix(0, nanos)),
	}
}

// observations returns how many values a histogram has seen.
func (s *series) observations() (uint64, error) {
	var out dto.Metric
	if err := (*s.histogram.Load()).Write(&out); err != nil {
		return 0, err
	}
	return out.Histogram.GetSampleCount(), nil
}
