package hook

import (
	"cmp"
	"context"
	"math"
	"slices"
	"sync"
	"time"
)

// profileWindow is how many of the latest durations of an operation its
// percentiles are taken from: 8 KiB for each kind and label.
const profileWindow = 1024

// Profiler measures how long operations take, by their kind and label. The
// zero value is ready. Its methods may be called at once from any number of
// goroutines.
//
//	var prof hook.Profiler
//	err := reg.Register(prof.Registration())
//	…
//	for _, p := range prof.Snapshot() {
//		fmt.Println(p.Kind, p.Label, p.P95)
//	}
type Profiler struct {
	mu       sync.Mutex
	profiles map[profileKey]*profile
}

type profileKey struct {
	kind  Kind
	label string
}

type profile struct {
	count    int64
	sum      time.Duration
	min, max time.Duration
	recent   []time.Duration // a ring once it is full
}

// Profile is how long the operations of one kind and label took.
type Profile struct {
	Kind Kind
	// Label is as of [Payload], or [OtherSeries].
	Label string
	// Count, Mean, Min and Max are over all operations since the start or the
	// last [Profiler.Reset].
	Count          int64
	Mean, Min, Max time.Duration
	// P50, P95 and P99 are exact over the latest Window operations, at most
	// 1024: with those sorted and numbered from 0, the quantile q lies at rank
	// (Window-1)·q, between neighbours in proportion.
	P50, P95, P99 time.Duration
	Window        int
}

// Registration returns the handler to register. It is named "profiler".
func (p *Profiler) Registration() Registration {
	return Registration{Name: "profiler", Phases: []Phase{End}, Timeout: builtinTimeout, Handler: HandlerFunc(func(_ context.Context, e Event) error {
		p.add(e.Kind(), e.Payload.Label(), e.Duration())
		return nil
	})}
}

func (p *Profiler) add(kind Kind, label string, d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.profiles == nil {
		p.profiles = make(map[profileKey]*profile)
	}
	key := profileKey{kind, label}
	s := p.profiles[key]
	if s == nil && len(p.profiles) >= maxSeries {
		key.label = OtherSeries
		s = p.profiles[key]
	}
	if s == nil {
		s = &profile{min: d, max: d}
		p.profiles[key] = s
	}
	s.add(d)
}

func (s *profile) add(d time.Duration) {
	if len(s.recent) < profileWindow {
		s.recent = append(s.recent, d)
	} else {
		s.recent[s.count%profileWindow] = d
	}
	s.count++
	s.sum += d
	s.min, s.max = min(s.min, d), max(s.max, d)
}

// Snapshot returns the profiles so far, sorted by kind and label.
func (p *Profiler) Snapshot() []Profile {
	p.mu.Lock()
	out := make([]Profile, 0, len(p.profiles))
	recent := make([][]time.Duration, 0, len(p.profiles))
	for k, s := range p.profiles {
		out = append(out, Profile{
			Kind: k.kind, Label: k.label, Count: s.count, Mean: s.sum / time.Duration(s.count),
			Min: s.min, Max: s.max, Window: len(s.recent),
		})
		recent = append(recent, slices.Clone(s.recent))
	}
	p.mu.Unlock()
	// Sorting takes its time: operations go on meanwhile.
	for i, r := range recent {
		slices.Sort(r)
		out[i].P50, out[i].P95, out[i].P99 = quantile(r, 0.50), quantile(r, 0.95), quantile(r, 0.99)
	}
	slices.SortFunc(out, func(a, b Profile) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Label, b.Label))
	})
	return out
}

// quantile returns the value of sorted, which is not empty, at rank (n-1)·q.
func quantile(sorted []time.Duration, q float64) time.Duration {
	rank := float64(len(sorted)-1) * q
	below := int(rank)
	if below+1 >= len(sorted) {
		return sorted[len(sorted)-1]
	}
	part := (rank - float64(below)) * float64(sorted[below+1]-sorted[below])
	return sorted[below] + time.Duration(math.Round(part))
}

// Reset forgets all profiles.
func (p *Profiler) Reset() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.profiles = nil
}
