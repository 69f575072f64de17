package prom

import (
	"math"
	"sync"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
)

// deltaIdle is how long a running total must have been without a point before
// it may make room for another.
const deltaIdle = time.Hour

// deltaState holds the running totals of delta series. A request that has delta
// points holds the lock from its first to its commit, so that a total and the
// stored sample never part.
type deltaState struct {
	max int

	mu     sync.Mutex
	totals map[string]*deltaTotal // by kind and the bytes of the series' labels
}

// deltaTotal is the running total of one series, of one of three kinds.
type deltaTotal struct {
	// restored is set when the total was read back from the storage, after a
	// restart: the newest point itself is not known then.
	restored bool

	t    int64     // time of the newest point, ms
	used time.Time // when it came

	// last is the newest point as it was sent, to know it when it is sent again.
	last   float64
	lastH  explicit
	lastNH *histogram.FloatHistogram

	number   float64
	explicit explicit
	native   *histogram.FloatHistogram
}

func newDeltaState(limit int) *deltaState {
	return &deltaState{max: limit, totals: map[string]*deltaTotal{}}
}

// deltaBatch is one request's view: its changes are kept apart until the
// samples are stored.
type deltaBatch struct {
	batch  *batch
	state  *deltaState
	now    time.Time
	locked bool
	staged map[string]*deltaTotal // nil value: the series ended
	// key and next are the point that was converted and not yet kept.
	key  string
	next *deltaTotal
}

func (s *deltaState) begin(b *batch, now time.Time) *deltaBatch {
	return &deltaBatch{batch: b, state: s, now: now, staged: map[string]*deltaTotal{}}
}

// look returns the total of a series, nil when it has none. One that is not in
// memory is read back from the storage, so that totals go on after a restart and
// requests that are repeated from a log count once. One name may be used for
// several kinds of metric; their totals are apart.
func (b *deltaBatch) look(kind string, ls labels.Labels, restore func() (*deltaTotal, error)) (*deltaTotal, error) {
	if !b.locked {
		b.state.mu.Lock()
		b.locked = true
	}
	b.key = kind + string(ls.Bytes(nil))
	if t, ok := b.staged[b.key]; ok {
		return t, nil
	}
	if t, ok := b.state.totals[b.key]; ok {
		return t, nil
	}
	return restore()
}

// repeated reports whether a point of time t was counted before. The newest
// point is known as it was sent; of older ones, and after a restart, a total that
// is stored at that very time in series says so.
func (b *deltaBatch) repeated(old *deltaTotal, t int64, same func() bool, series labels.Labels) (bool, error) {
	switch {
	case old == nil || t > old.t:
		return false, nil
	case t == old.t && !old.restored:
		return same(), nil
	}
	_, found, err := b.batch.db.sampleAt(b.batch.ctx, series, t)
	return found, err
}

// stage prepares the next total of the series looked at last. old is its
// total, nil at first.
func (b *deltaBatch) stage(ls labels.Labels, old *deltaTotal, t int64) (*deltaTotal, error) {
	if old == nil && !b.room() {
		return nil, refuse(reasonDeltaLimit, "%s: %d running totals are kept, the most that are allowed", ls, b.state.max)
	}
	if old != nil && t <= old.t {
		return nil, refuse(reasonTooOld, "%s: delta point not after the one before", ls)
	}
	b.next = &deltaTotal{t: t, used: b.now}
	return b.next, nil
}

// room reports whether one more total may be kept, after dropping idle ones.
func (b *deltaBatch) room() bool {
	fits := func() bool { return len(b.state.totals)+len(b.staged) < b.state.max }
	if fits() {
		return true
	}
	for k, t := range b.state.totals {
		if b.now.Sub(t.used) > deltaIdle {
			delete(b.state.totals, k)
		}
	}
	return fits()
}

// number adds a delta to a series' total. repeated is set when it was sent before.
func (b *deltaBatch) number(ls labels.Labels, t int64, v float64, stale bool) (total float64, repeated bool, err error) {
	old, err := b.look("number", ls, func() (*deltaTotal, error) { return b.restoreNumber(ls) })
	if err != nil {
		return 0, false, err
	}
	if stale {
		return b.stop(v), false, nil
	}
	same := func() bool { return math.Float64bits(old.last) == math.Float64bits(v) }
	if repeated, err = b.repeated(old, t, same, ls); repeated || err != nil {
		return 0, repeated, err
	}
	next, err := b.stage(ls, old, t)
	if err != nil {
		return 0, false, err
	}
	next.last, next.number = v, v
	if old != nil {
		next.number += old.number
	}
	return next.number, false, nil
}

// explicit adds a delta to a series' total. Changed bounds start a new total.
func (b *deltaBatch) explicit(name string, ls labels.Labels, t int64, h explicit, stale bool) (total explicit, repeated bool, err error) {
	old, err := b.look("explicit", ls, func() (*deltaTotal, error) { return b.restoreExplicit(name, ls, h) })
	if err != nil {
		return h, false, err
	}
	if stale {
		b.stop(0)
		if old != nil {
			h.bounds, h.counts, h.hasSum = old.explicit.bounds, old.explicit.counts, old.explicit.hasSum // end them all
		}
		return h, false, nil
	}
	counts := labels.NewBuilder(ls).Set(model.MetricNameLabel, name+"_count").Del(model.BucketLabel).Labels()
	same := func() bool { return sameExplicit(old.lastH, h) }
	if repeated, err = b.repeated(old, t, same, counts); repeated || err != nil {
		return h, repeated, err
	}
	next, err := b.stage(ls, old, t)
	if err != nil {
		return h, false, err
	}
	next.lastH, next.explicit = h, h
	if old != nil {
		next.explicit, _ = addExplicit(old.explicit, h)
	}
	return next.explicit, false, nil
}

// native adds a delta to a series' total, at the coarser of the two resolutions.
func (b *deltaBatch) native(ls labels.Labels, t int64, h *histogram.Histogram, stale bool) (total *histogram.FloatHistogram, repeated bool, err error) {
	old, err := b.look("native", ls, func() (*deltaTotal, error) { return b.restoreNative(ls) })
	if err != nil {
		return nil, false, err
	}
	if stale {
		b.stop(0)
		return nil, false, nil
	}
	if err := h.Validate(); err != nil {
		return nil, false, refuse(reasonInvalid, "%s: %w", ls, err)
	}
	fh := h.ToFloat(nil)
	same := func() bool { return old.lastNH != nil && old.lastNH.Equals(fh) }
	if repeated, err = b.repeated(old, t, same, ls); repeated || err != nil {
		return nil, repeated, err
	}
	next, err := b.stage(ls, old, t)
	if err != nil {
		return nil, false, err
	}
	next.lastNH, next.native = fh, fh.Copy()
	if old != nil && old.native != nil {
		sum, _, _, err := old.native.Copy().Add(fh)
		if err != nil {
			return nil, false, refuse(reasonInvalid, "%s: %w", ls, err)
		}
		next.native = bounded(sum.Compact(0))
	}
	return next.native, false, nil
}

// bounded halves the resolution of a total until its buckets are few enough.
func bounded(h *histogram.FloatHistogram) *histogram.FloatHistogram {
	for h.Schema > histogram.ExponentialSchemaMin && len(h.PositiveBuckets)+len(h.NegativeBuckets) > maxNativeBuckets {
		if h.ReduceResolution(h.Schema-1) != nil {
			return h // as large as the sender's own buckets; the storage takes it
		}
	}
	return h
}

// stop stages the end of a series and returns v.
func (b *deltaBatch) stop(v float64) float64 {
	b.next = nil
	return v
}

// keep takes the staged total over when its samples were stored.
func (b *deltaBatch) keep(err error) error {
	if err == nil {
		b.staged[b.key] = b.next
	}
	b.key, b.next = "", nil
	return err
}

// commit makes the staged totals those of the store.
func (b *deltaBatch) commit() {
	if !b.locked {
		return
	}
	for k, t := range b.staged {
		if t == nil {
			delete(b.state.totals, k)
		} else {
			b.state.totals[k] = t
		}
	}
}

// end releases the lock; without a commit before, nothing has changed.
func (b *deltaBatch) end() {
	if b.locked {
		b.state.mu.Unlock()
		b.locked = false
	}
}

func sameExplicit(a, b explicit) bool {
	same := func(x, y float64) bool { return math.Float64bits(x) == math.Float64bits(y) }
	if len(a.bounds) != len(b.bounds) || !same(a.count, b.count) || !same(a.sum, b.sum) || a.hasSum != b.hasSum {
		return false
	}
	for i := range a.bounds {
		if a.bounds[i] != b.bounds[i] {
			return false
		}
	}
	for i := range a.counts {
		if a.counts[i] != b.counts[i] {
			return false
		}
	}
	return true
}
