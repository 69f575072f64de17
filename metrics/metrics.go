package metrics

import (
	"errors"
	"fmt"
	"math"
	"regexp"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// Limits that are not settings. Each bounds memory.
const (
	// Window is how many of a histogram family's latest observations
	// [Metrics.Percentile] looks at: 4,096 of them are 32 KiB, and put the
	// 99th percentile at the 41st slowest.
	Window = 4096

	defaultSeriesLimit = 2000
	// maxFamilies bounds the families that users may add.
	maxFamilies = 500
	// maxLabels bounds the labels of one family.
	maxLabels = 16
	// maxLabelBytes bounds one label value; a longer one is cut.
	maxLabelBytes = 256
)

// Config tunes [New]. The zero value is fit for production.
type Config struct {
	// Registry receives the collectors. If nil, a registry of its own.
	Registry *prometheus.Registry
	// SeriesLimit bounds the series of each family; label sets beyond it are
	// folded into an overflow series. If zero, 2,000.
	SeriesLimit int
	// NoRuntime leaves out the go_* and process_* families.
	NoRuntime bool
	// OnRefusal, if not nil, is told why something could not be recorded. It
	// runs on the goroutine that recorded, possibly on many at once, and must
	// be quick. Without it refusals are only counted.
	OnRefusal func(error)
}

// ErrRefused is wrapped by every error about something that was not recorded.
var ErrRefused = errors.New("refused")

// Metrics owns the collectors of one observer. All methods may be called from
// many goroutines at once. None of the recording methods fails or panics.
type Metrics struct {
	cfg      Config
	registry *prometheus.Registry

	counters   [numCounters]*family
	gauges     [numGauges]*family
	histograms [numHistograms]*family

	dropped [numReasons]*series

	mu     sync.RWMutex
	byName map[string]*family
	users  int // families that users added
}

// reason says why something was not recorded as asked; it is the label reason
// of kaizen_telemetry_dropped_total.
type reason uint8

const (
	reasonSeriesLimit reason = iota
	reasonFamilyLimit
	reasonName
	reasonLabels
	reasonValue
	numReasons
)

var reasonNames = [numReasons]string{"series_limit", "family_limit", "invalid_name", "invalid_labels", "invalid_value"}

// New registers Kaizen's families. It fails when the registry already holds
// one of them, for instance because another Metrics uses the same registry.
func New(cfg Config) (*Metrics, error) {
	if cfg.SeriesLimit < 0 {
		return nil, fmt.Errorf("metrics: new: series limit %d is negative", cfg.SeriesLimit)
	}
	if cfg.SeriesLimit == 0 {
		cfg.SeriesLimit = defaultSeriesLimit
	}
	m := &Metrics{cfg: cfg, registry: cfg.Registry, byName: make(map[string]*family)}
	if m.registry == nil {
		m.registry = prometheus.NewRegistry()
	}
	if err := m.registerOwn(); err != nil {
		m.Unregister()
		return nil, err
	}
	for r, name := range reasonNames {
		m.dropped[r] = m.counters[TelemetryDropped].get([]string{"metrics", name})
	}
	if !cfg.NoRuntime {
		if err := m.registerRuntime(); err != nil {
			m.Unregister()
			return nil, err
		}
	}
	return m, nil
}

func (m *Metrics) registerOwn() error {
	add := func(desc Family) (*family, error) {
		f := newFamily(m, desc)
		if err := m.registry.Register(f); err != nil {
			return nil, fmt.Errorf("metrics: register %s: %w", desc.Name, err)
		}
		m.byName[desc.Name] = f
		return f, nil
	}
	var err error
	for i, desc := range counterFamilies {
		if m.counters[i], err = add(desc); err != nil {
			return err
		}
	}
	for i, desc := range gaugeFamilies {
		if m.gauges[i], err = add(desc); err != nil {
			return err
		}
	}
	for i, desc := range histogramFamilies {
		if m.histograms[i], err = add(desc); err != nil {
			return err
		}
	}
	return nil
}

// gcPauses adds the durations of the collector's pauses as a histogram: the
// summary that is there by default has no 95th percentile.
var gcPauses = collectors.GoRuntimeMetricsRule{Matcher: regexp.MustCompile(`^/sched/pauses/total/gc:seconds$`)}

// registerRuntime adds the Go and process collectors, unless whoever owns the
// registry has done so.
func (m *Metrics) registerRuntime() error {
	for _, c := range []prometheus.Collector{
		collectors.NewGoCollector(collectors.WithGoCollectorRuntimeMetrics(gcPauses)),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		newProcessCollector(),
	} {
		var already prometheus.AlreadyRegisteredError
		if err := m.registry.Register(c); err != nil && !errors.As(err, &already) {
			return fmt.Errorf("metrics: register runtime collector: %w", err)
		}
	}
	return nil
}

// Unregister takes all families out of the registry. Recording goes on
// without effect on what the registry shows.
func (m *Metrics) Unregister() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, f := range m.byName {
		m.registry.Unregister(f)
	}
}

// Gatherer returns the source of everything in the registry, for a push
// exporter or for tests.
func (m *Metrics) Gatherer() prometheus.Gatherer { return m.registry }

// Count adds one to a counter. labels are the values of the family's labels,
// in their order; a wrong number of them is refused.
func (m *Metrics) Count(id CounterID, labels ...string) {
	if s := m.find(m.counters[id], labels); s != nil {
		s.add(1)
	}
}

// Add adds n, which must not be negative, to a counter. ex may be zero.
func (m *Metrics) Add(id CounterID, n float64, ex Exemplar, labels ...string) {
	if s := m.find(m.counters[id], labels); s != nil {
		s.increase(n, ex)
	}
}

// Set sets a gauge.
func (m *Metrics) Set(id GaugeID, v float64, labels ...string) {
	if s := m.find(m.gauges[id], labels); s != nil {
		s.set(v)
	}
}

// Shift adds delta, which may be negative, to a gauge.
func (m *Metrics) Shift(id GaugeID, delta float64, labels ...string) {
	if s := m.find(m.gauges[id], labels); s != nil {
		s.shift(delta)
	}
}

// Observe adds v to a histogram, in the family's unit. ex may be zero.
func (m *Metrics) Observe(id HistogramID, v float64, ex Exemplar, labels ...string) {
	if s := m.find(m.histograms[id], labels); s != nil {
		s.observe(v, ex)
	}
}

// ObserveDuration adds d to a histogram of seconds. ex may be zero.
func (m *Metrics) ObserveDuration(id HistogramID, d time.Duration, ex Exemplar, labels ...string) {
	if s := m.find(m.histograms[id], labels); s != nil {
		s.observe(d.Seconds(), ex)
	}
}

// CounterFunc adds to a counter's series what fn returns at each scrape, for a
// part that counts by itself. fn must never fall and may be called from many
// goroutines at once.
func (m *Metrics) CounterFunc(id CounterID, fn func() float64, labels ...string) {
	if s := m.find(m.counters[id], labels); s != nil {
		s.addFunc(fn)
	}
}

// GaugeFunc adds to a gauge's series what fn returns at each scrape. fn may be
// called from many goroutines at once.
func (m *Metrics) GaugeFunc(id GaugeID, fn func() float64, labels ...string) {
	if s := m.find(m.gauges[id], labels); s != nil {
		s.addFunc(fn)
	}
}

// BindCounter returns the series itself: recording to it costs no look-up.
func (m *Metrics) BindCounter(id CounterID, labels ...string) *Counter {
	s, err := m.bind(m.counters[id], labels)
	return &Counter{s: s, err: err}
}

// BindGauge returns the series itself: recording to it costs no look-up.
func (m *Metrics) BindGauge(id GaugeID, labels ...string) *Gauge {
	s, err := m.bind(m.gauges[id], labels)
	return &Gauge{s: s, err: err}
}

// BindHistogram returns the series itself: recording to it costs no look-up.
func (m *Metrics) BindHistogram(id HistogramID, labels ...string) *Histogram {
	s, err := m.bind(m.histograms[id], labels)
	return &Histogram{s: s, err: err}
}

// find returns the series, or nil after counting the refusal.
func (m *Metrics) find(f *family, labels []string) *series {
	if len(labels) != len(f.desc.Labels) {
		m.refuseLabelCount(f, len(labels))
		return nil
	}
	return f.get(labels)
}

func (m *Metrics) bind(f *family, labels []string) (*series, error) {
	if len(labels) != len(f.desc.Labels) {
		return &series{fam: f, detached: true}, m.refuseLabelCount(f, len(labels))
	}
	return f.get(labels), nil
}

func (m *Metrics) refuseLabelCount(f *family, got int) error {
	return m.refuse(reasonLabels, "metrics: record %s: %d label values for the labels %v", f.desc.Name, got, f.desc.Labels)
}

// refuse counts and reports what could not be recorded.
func (m *Metrics) refuse(r reason, format string, args ...any) error {
	m.dropped[r].add(1)
	err := fmt.Errorf(format+": %w", append(args, ErrRefused)...)
	if m.cfg.OnRefusal != nil {
		m.tell(err)
	}
	return err
}

// tell calls OnRefusal; should that panic, the agent still goes on.
func (m *Metrics) tell(err error) {
	defer func() { _ = recover() }() // the refusal itself is counted already
	m.cfg.OnRefusal(err)
}

// Reset sets every counter, gauge and histogram to zero and forgets exemplars
// and recent windows. Handles stay valid, series stay in place. It is meant for
// tests and for runs that follow each other in one process: a gauge of things
// under way is wrong until those have ended.
func (m *Metrics) Reset() {
	m.mu.RLock()
	defer m.mu.RUnlock()
	for _, f := range m.byName {
		f.reset()
	}
}

func finite(v float64) bool { return !math.IsNaN(v) && !math.IsInf(v, 0) }
