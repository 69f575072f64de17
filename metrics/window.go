package metrics

import (
	"math"
	"slices"
	"sync"
	"sync/atomic"
)

// window is a ring of the latest observations of one histogram family. Adding
// is two atomic operations.
type window struct {
	init sync.Once
	ring atomic.Pointer[[Window]atomic.Uint64] // float64 bits; NaN = empty
	next atomic.Uint64
}

var emptySlot = math.Float64bits(math.NaN())

func (w *window) add(v float64) {
	ring := w.ring.Load()
	if ring == nil {
		w.init.Do(func() { w.ring.Store(newRing()) })
		ring = w.ring.Load()
	}
	ring[(w.next.Add(1)-1)%Window].Store(math.Float64bits(v))
}

func newRing() *[Window]atomic.Uint64 {
	ring := new([Window]atomic.Uint64)
	for i := range ring {
		ring[i].Store(emptySlot)
	}
	return ring
}

func (w *window) reset() {
	if ring := w.ring.Load(); ring != nil {
		for i := range ring {
			ring[i].Store(emptySlot)
		}
	}
}

// sorted returns what the window holds, rising.
func (w *window) sorted() []float64 {
	ring := w.ring.Load()
	if ring == nil {
		return nil
	}
	values := make([]float64, 0, Window)
	for i := range ring {
		if v := math.Float64frombits(ring[i].Load()); !math.IsNaN(v) {
			values = append(values, v)
		}
	}
	slices.Sort(values)
	return values
}

// Percentile returns the q-quantile, 0 ≤ q ≤ 1, of the latest [Window]
// observations of a histogram family, over all its series. It is exact: with n
// values in order it reads rank (n−1)·q and interpolates linearly between
// neighbours, so that the values 1 to 100 have p50 = 50.5 and p95 = 95.05. The
// result is false when there is no such histogram, nothing was observed, or q
// is out of range.
func (m *Metrics) Percentile(name string, q float64) (float64, bool) {
	m.mu.RLock()
	f := m.byName[name]
	m.mu.RUnlock()
	if f == nil || !(q >= 0 && q <= 1) {
		return 0, false
	}
	return quantile(f.recent.sorted(), q)
}

func quantile(sorted []float64, q float64) (float64, bool) {
	if len(sorted) == 0 {
		return 0, false
	}
	rank := float64(len(sorted)-1) * q
	low := int(rank)
	if low == len(sorted)-1 {
		return sorted[low], true
	}
	part := rank - float64(low)
	return sorted[low]*(1-part) + sorted[low+1]*part, true
}
