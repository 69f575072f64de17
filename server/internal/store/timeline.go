package store

import (
	"cmp"
	"slices"
)

// timeline keeps items in the order of time. What is added waits unsorted
// until somebody looks; then it is merged. A snapshot is never changed.
type timeline[T any] struct {
	sorted []entry[T] // oldest first
	fresh  []entry[T]
	stale  bool // some entries are not to be kept
	less   func(a, b T) int
	keep   func(e entry[T]) bool
}

type entry[T any] struct {
	at   int64 // nanoseconds since 1970
	item T
}

func (t *timeline[T]) add(at int64, item T) {
	t.fresh = append(t.fresh, entry[T]{at, item})
}

// settled reports whether snapshot has nothing to do.
func (t *timeline[T]) settled() bool { return len(t.fresh) == 0 && !t.stale }

func (t *timeline[T]) compare(a, b entry[T]) int {
	if c := cmp.Compare(a.at, b.at); c != 0 {
		return c
	}
	return t.less(a.item, b.item)
}

// snapshot returns all entries that are kept, oldest first.
func (t *timeline[T]) snapshot() []entry[T] {
	if t.settled() {
		return t.sorted
	}
	fresh := t.fresh
	if t.stale {
		fresh = slices.DeleteFunc(fresh, func(e entry[T]) bool { return !t.keep(e) })
	}
	slices.SortFunc(fresh, t.compare)
	old := t.sorted
	switch {
	case len(fresh) == 0 && !t.stale:
	case !t.stale && (len(old) == 0 || t.compare(old[len(old)-1], fresh[0]) <= 0):
		// Later than all: readers of older snapshots end before the new ones.
		t.sorted = append(old, fresh...)
	default:
		t.sorted = t.merge(old, fresh)
	}
	clear(t.fresh)
	t.fresh, t.stale = t.fresh[:0], false
	return t.sorted
}

func (t *timeline[T]) merge(a, b []entry[T]) []entry[T] {
	out := make([]entry[T], 0, (len(a)+len(b))*5/4)
	for len(a) > 0 || len(b) > 0 {
		from := &a
		if len(a) == 0 || len(b) > 0 && t.compare(b[0], a[0]) < 0 {
			from = &b
		}
		if e := (*from)[0]; !t.stale || t.keep(e) {
			out = append(out, e)
		}
		*from = (*from)[1:]
	}
	return out
}

// window returns the entries in [since, until); a zero bound is none.
func window[T any](all []entry[T], since, until int64, bySince, byUntil bool) []entry[T] {
	if byUntil {
		n, _ := slices.BinarySearchFunc(all, until, func(e entry[T], at int64) int { return cmp.Compare(e.at, at) })
		all = all[:n]
	}
	if bySince {
		n, _ := slices.BinarySearchFunc(all, since, func(e entry[T], at int64) int { return cmp.Compare(e.at, at) })
		all = all[n:]
	}
	return all
}
