package metrics

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// defaultBuckets serve users' histograms that were not defined otherwise: half
// a millisecond to two minutes when they hold seconds.
var defaultBuckets = []float64{0.0005, 0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120}

// Counter is one series of a counter. It is never nil: one that could not be
// had says so in Err, and what is recorded to it is counted as dropped.
type Counter struct {
	s   *series
	err error
}

// Gauge is one series of a gauge; see [Counter] for refused ones.
type Gauge struct {
	s   *series
	err error
}

// Histogram is one series of a histogram; see [Counter] for refused ones.
type Histogram struct {
	s   *series
	err error
}

// Timer is a [Histogram] of seconds.
type Timer struct{ Histogram }

// Err says why the counter could not be had; it wraps [ErrRefused].
func (c *Counter) Err() error { return c.err }

// Inc adds one.
func (c *Counter) Inc() {
	if c.s.ok() {
		c.s.whole.Add(1)
	}
}

// Add adds v. A negative step, NaN and infinity are refused and counted.
func (c *Counter) Add(v float64) { c.s.increase(v, Exemplar{}) }

// AddExemplar is Add with the span that it happened in.
func (c *Counter) AddExemplar(v float64, ex Exemplar) { c.s.increase(v, ex) }

// Value returns the present value.
func (c *Counter) Value() float64 { return c.s.present() }

// Err says why the gauge could not be had; it wraps [ErrRefused].
func (g *Gauge) Err() error { return g.err }

// Set sets the gauge. NaN and infinity are refused and counted.
func (g *Gauge) Set(v float64) { g.s.set(v) }

// Add adds v, which may be negative.
func (g *Gauge) Add(v float64) { g.s.shift(v) }

// Value returns the present value.
func (g *Gauge) Value() float64 { return g.s.present() }

// Err says why the histogram could not be had; it wraps [ErrRefused].
func (h *Histogram) Err() error { return h.err }

// Observe adds an observation. NaN and infinity are refused and counted.
func (h *Histogram) Observe(v float64) { h.s.observe(v, Exemplar{}) }

// ObserveExemplar is Observe with the span that it was made in.
func (h *Histogram) ObserveExemplar(v float64, ex Exemplar) { h.s.observe(v, ex) }

// ObserveDuration adds d in seconds.
func (t *Timer) ObserveDuration(d time.Duration) { t.Observe(d.Seconds()) }

// Start begins a measurement and returns the function that ends it and
// records it, for use as defer t.Start()(): a panic is timed as well.
func (t *Timer) Start() (stop func() time.Duration) {
	begin := time.Now()
	return func() time.Duration {
		d := time.Since(begin)
		t.ObserveDuration(d)
		return d
	}
}

// Define declares a family before its first use, to give it a help text,
// label names or buckets of its own. Defining the same again changes nothing;
// another type or other labels under a known name are refused.
func (m *Metrics) Define(desc Family) error {
	_, err := m.family(desc)
	return err
}

// Counter returns the series of a counter, creating family and series at first
// use. labels alternate names and values, in any order; the first use of a name
// fixes its label names and type.
func (m *Metrics) Counter(name string, labels ...string) *Counter {
	s, err := m.user(name, TypeCounter, labels)
	return &Counter{s: s, err: err}
}

// Gauge is [Metrics.Counter] for a gauge.
func (m *Metrics) Gauge(name string, labels ...string) *Gauge {
	s, err := m.user(name, TypeGauge, labels)
	return &Gauge{s: s, err: err}
}

// Histogram is [Metrics.Counter] for a histogram, with buckets for seconds
// unless [Metrics.Define] gave it others.
func (m *Metrics) Histogram(name string, labels ...string) *Histogram {
	s, err := m.user(name, TypeHistogram, labels)
	return &Histogram{s: s, err: err}
}

// Timer is [Metrics.Histogram] for durations; its name should end in _seconds.
func (m *Metrics) Timer(name string, labels ...string) *Timer {
	s, err := m.user(name, TypeHistogram, labels)
	return &Timer{Histogram{s: s, err: err}}
}

// Value returns the present value of a counter's or gauge's series, or the
// number of observations of a histogram's; false when there is no such series.
func (m *Metrics) Value(name string, labels ...string) (float64, bool) {
	m.mu.RLock()
	f := m.byName[name]
	m.mu.RUnlock()
	if f == nil {
		return 0, false
	}
	var room [maxLabels]string
	values, err := f.values(room[:0], labels)
	if err != nil {
		return 0, false
	}
	s := f.table.Load().lookup(f.hash(values), values)
	if s == nil {
		return 0, false
	}
	if f.desc.Type == TypeHistogram {
		n, err := s.observations()
		return float64(n), err == nil
	}
	v, err := s.value()
	return v, err == nil
}

// user finds or makes the series. It returns a detached one with any error.
func (m *Metrics) user(name string, t Type, labels []string) (*series, error) {
	m.mu.RLock()
	f := m.byName[name]
	m.mu.RUnlock()
	if f == nil || f.desc.Type != t {
		var err error
		if f, err = m.family(Family{Name: name, Type: t, Labels: labelNames(labels)}); err != nil {
			return m.refused(), err
		}
	}
	var room [maxLabels]string
	values, err := f.values(room[:0], labels)
	if err != nil {
		return m.refused(), m.refuse(reasonLabels, "metrics: record %s: %w", name, err)
	}
	return f.get(values), nil
}

// refused returns a series for handles that could not be had.
func (m *Metrics) refused() *series {
	return &series{fam: m.counters[TelemetryDropped], detached: true}
}

// values appends to out the values of alternating names and values, in the
// order of the family's labels.
func (f *family) values(out, labels []string) ([]string, error) {
	if len(labels) != 2*len(f.desc.Labels) {
		return nil, fmt.Errorf("labels %q do not fit the family's %q", labels, f.desc.Labels)
	}
next:
	for _, name := range f.desc.Labels {
		for i := 0; i < len(labels); i += 2 {
			if labels[i] == name {
				out = append(out, labels[i+1])
				continue next
			}
		}
		return nil, fmt.Errorf("labels %q do not fit the family's %q", labels, f.desc.Labels)
	}
	return out, nil
}

// family returns the family of that name, creating it if needed.
func (m *Metrics) family(desc Family) (*family, error) {
	if r, err := check(desc); err != nil {
		return nil, m.refuse(r, "metrics: define %q: %w", desc.Name, err)
	}
	f, r, err := m.define(desc)
	if err != nil { // outside the lock: OnRefusal is foreign code
		return nil, m.refuse(r, "metrics: define %q: %w", desc.Name, err)
	}
	return f, nil
}

func (m *Metrics) define(desc Family) (*family, reason, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if f := m.byName[desc.Name]; f != nil {
		if f.desc.Type != desc.Type {
			return nil, reasonName, fmt.Errorf("the name is a %v, not a %v", f.desc.Type, desc.Type)
		}
		if !sameSet(f.desc.Labels, desc.Labels) {
			return nil, reasonLabels, fmt.Errorf("the family has the labels %q, not %q", f.desc.Labels, desc.Labels)
		}
		return f, 0, nil
	}
	if m.users >= maxFamilies {
		return nil, reasonFamilyLimit, fmt.Errorf("there are %d families already", m.users)
	}
	if other := m.collision(desc); other != "" {
		return nil, reasonName, fmt.Errorf("its exposition would collide with that of %s", other)
	}
	f := newFamily(m, withDefaults(desc))
	if err := m.registry.Register(f); err != nil {
		return nil, reasonName, err
	}
	m.users++
	m.byName[desc.Name] = f
	return f, 0, nil
}

func withDefaults(desc Family) Family {
	desc.Name = strings.Clone(desc.Name)
	if desc.Help == "" {
		desc.Help = "User-defined " + desc.Type.String() + "."
	}
	if desc.Type == TypeHistogram && len(desc.Buckets) == 0 {
		desc.Buckets = defaultBuckets
	}
	return desc
}

// check says what is wrong with a description by itself.
func check(desc Family) (reason, error) {
	if !validName(desc.Name, true) {
		return reasonName, fmt.Errorf("not a metric name")
	}
	if desc.Type > TypeHistogram {
		return reasonName, fmt.Errorf("unknown type %d", desc.Type)
	}
	if len(desc.Labels) > maxLabels {
		return reasonLabels, fmt.Errorf("%d labels, at most %d are taken", len(desc.Labels), maxLabels)
	}
	for i, l := range desc.Labels {
		if !validName(l, false) || strings.HasPrefix(l, "__") {
			return reasonLabels, fmt.Errorf("%q is not a label name", l)
		}
		if desc.Type == TypeHistogram && l == "le" {
			return reasonLabels, fmt.Errorf("the label le belongs to the histogram itself")
		}
		if slices.Contains(desc.Labels[:i], l) {
			return reasonLabels, fmt.Errorf("the label %q is given twice", l)
		}
	}
	for i, b := range desc.Buckets {
		if !finite(b) || i > 0 && b <= desc.Buckets[i-1] {
			return reasonValue, fmt.Errorf("bucket bounds must be finite and rise")
		}
	}
	return 0, nil
}

// validName reports whether s matches [a-zA-Z_][a-zA-Z0-9_]*, the names that
// every version of Prometheus takes; metric names may hold colons as well.
func validName(s string, colon bool) bool {
	for i, c := range []byte(s) {
		letter := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || c == '_' || colon && c == ':'
		if !letter && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return s != "" && len(s) <= maxLabelBytes
}

// histogramSuffixes are the names under which a histogram is exposed.
var histogramSuffixes = []string{"_bucket", "_count", "_sum"}

// collision returns the family that would share a line of the exposition with
// desc: one such pair makes the registry refuse every scrape. The caller holds
// m.mu.
func (m *Metrics) collision(desc Family) string {
	for _, suffix := range histogramSuffixes {
		if base, ok := strings.CutSuffix(desc.Name, suffix); ok {
			if f := m.byName[base]; f != nil && f.desc.Type == TypeHistogram {
				return base
			}
		}
		if f := m.byName[desc.Name+suffix]; f != nil && desc.Type == TypeHistogram {
			return desc.Name + suffix
		}
	}
	// OpenMetrics names a counter's family without its suffix.
	if base, ok := strings.CutSuffix(desc.Name, "_total"); ok && m.byName[base] != nil {
		return base
	}
	if m.byName[desc.Name+"_total"] != nil {
		return desc.Name + "_total"
	}
	return ""
}

// labelNames returns the names of alternating names and values; an odd number
// yields a name that no check passes.
func labelNames(labels []string) []string {
	names := make([]string, 0, (len(labels)+1)/2)
	for i := 0; i < len(labels); i += 2 {
		names = append(names, strings.Clone(labels[i]))
	}
	if len(labels)%2 != 0 {
		names[len(names)-1] = "" // its value is missing
	}
	return names
}

func sameSet(a, b []string) bool {
	if len(a) != len(b) {
		return false
	}
	for _, v := range a {
		if !slices.Contains(b, v) {
			return false
		}
	}
	return true
}
