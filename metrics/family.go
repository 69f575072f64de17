package metrics

import (
	"hash/maphash"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"unicode/utf8"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// family is the collector of one metric family: a hash table of series that
// is read without a lock and grows under one.
type family struct {
	owner *Metrics
	desc  Family
	pdesc *prometheus.Desc
	seed  maphash.Seed
	// order lists the indexes of desc.Labels by rising label name, the order
	// in which the exposition formats want them.
	order  []int
	recent window // of histograms

	table atomic.Pointer[table]

	mu       sync.Mutex
	count    int // series within the limit
	overflow int // series beyond it
}

// table is an open-addressing hash table, at most half full. Slots go from nil
// to a series once and never change again.
type table struct {
	slots []atomic.Pointer[series]
}

func newTable(size int) *table { return &table{slots: make([]atomic.Pointer[series], size)} }

func newFamily(m *Metrics, desc Family) *family {
	desc = desc.clone()
	f := &family{
		owner: m,
		desc:  desc,
		pdesc: prometheus.NewDesc(desc.Name, desc.Help, desc.Labels, nil),
		seed:  maphash.MakeSeed(),
		order: make([]int, len(desc.Labels)),
	}
	for i := range f.order {
		f.order[i] = i
	}
	slices.SortFunc(f.order, func(a, b int) int { return strings.Compare(desc.Labels[a], desc.Labels[b]) })
	f.table.Store(newTable(8))
	return f
}

// get returns the series of the label values, creating it if needed; beyond
// the limit it is the overflow series. The values are in the family's order.
func (f *family) get(values []string) *series {
	h := f.hash(values)
	if s := f.table.Load().lookup(h, values); s != nil {
		return s
	}
	return f.create(values)
}

func (f *family) hash(values []string) uint64 {
	var h uint64
	for _, v := range values {
		// The odd factor makes the position of a value matter.
		h = (h ^ maphash.String(f.seed, v)) * 0x9e3779b97f4a7c15
	}
	return h ^ h>>32
}

func (t *table) lookup(h uint64, values []string) *series {
	mask := uint64(len(t.slots) - 1)
	for i := h & mask; ; i = (i + 1) & mask {
		s := t.slots[i].Load()
		if s == nil {
			return nil
		}
		if s.hash == h && slices.Equal(s.values, values) {
			return s
		}
	}
}

func (f *family) create(values []string) *series {
	clean := make([]string, len(values))
	for i, v := range values {
		clean[i] = cleanLabel(v)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	h := f.hash(clean)
	if s := f.table.Load().lookup(h, clean); s != nil {
		return s
	}
	if f.count >= f.owner.cfg.SeriesLimit {
		return f.overflowSeries(clean)
	}
	f.count++
	return f.insert(h, clean, false)
}

// overflowSeries returns the series that stands for all beyond the limit: its
// open-ended labels read "other". Labels with a fixed short list of values keep
// theirs, so there are several such series; should even those be too many,
// all labels read "other". The caller holds f.mu.
func (f *family) overflowSeries(values []string) *series {
	for i, name := range f.desc.Labels {
		if !keptOnOverflow(name) {
			values[i] = Other
		}
	}
	h := f.hash(values)
	if s := f.table.Load().lookup(h, values); s != nil {
		return s
	}
	if f.overflow >= f.owner.cfg.SeriesLimit/10 {
		for i := range values {
			values[i] = Other
		}
		h = f.hash(values)
		if s := f.table.Load().lookup(h, values); s != nil {
			return s
		}
	}
	f.overflow++
	return f.insert(h, values, true)
}

// insert adds a series. The caller holds f.mu and has made sure that the
// series is not there. The values are cloned: they may be parts of something
// large.
func (f *family) insert(h uint64, values []string, overflow bool) *series {
	for i, v := range values {
		values[i] = strings.Clone(v)
	}
	s := newSeries(f, h, values, overflow)
	t := f.table.Load()
	if 2*(f.count+f.overflow) > len(t.slots) {
		bigger := newTable(2 * len(t.slots))
		for i := range t.slots {
			if old := t.slots[i].Load(); old != nil {
				bigger.put(old)
			}
		}
		bigger.put(s)
		f.table.Store(bigger)
		return s
	}
	t.put(s)
	return s
}

func (t *table) put(s *series) {
	mask := uint64(len(t.slots) - 1)
	i := s.hash & mask
	for t.slots[i].Load() != nil {
		i = (i + 1) & mask
	}
	t.slots[i].Store(s)
}

// each calls fn for every series.
func (f *family) each(fn func(*series)) {
	t := f.table.Load()
	for i := range t.slots {
		if s := t.slots[i].Load(); s != nil {
			fn(s)
		}
	}
}

func (f *family) reset() {
	f.each((*series).reset)
	f.recent.reset()
}

// labelPairs returns the values as the protobuf model wants them.
func (f *family) labelPairs(values []string) []*dto.LabelPair {
	pairs := make([]*dto.LabelPair, len(values))
	for i, at := range f.order {
		pairs[i] = &dto.LabelPair{Name: &f.desc.Labels[at], Value: &values[at]}
	}
	return pairs
}

// Describe implements [prometheus.Collector].
func (f *family) Describe(ch chan<- *prometheus.Desc) { ch <- f.pdesc }

// Collect implements [prometheus.Collector].
func (f *family) Collect(ch chan<- prometheus.Metric) {
	f.each(func(s *series) { ch <- s })
}

// cleanLabel makes a label value fit for every exposition format: one invalid
// byte would make the registry refuse the whole scrape.
func cleanLabel(v string) string {
	if !utf8.ValidString(v) {
		v = strings.ToValidUTF8(v, "\uFFFD")
	}
	if len(v) <= maxLabelBytes {
		return v
	}
	const mark = "…"
	cut := maxLabelBytes - len(mark)
	for !utf8.RuneStart(v[cut]) {
		cut--
	}
	return v[:cut] + mark
}
