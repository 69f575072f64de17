package derive

import (
	"slices"
	"sync"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/kaizen-go/kaizen/genai"
	"github.com/kaizen-go/kaizen/metrics"
	"github.com/kaizen-go/kaizen/server/internal/record"
)

// Config tunes a [Deriver]. The zero value is fit for production.
type Config struct {
	// MaxActive bounds the runs under way that are told apart for
	// kaizen_agents_active; the oldest is taken for dead when more begin. If
	// zero, 100,000.
	MaxActive int
	// ActiveFor is how long a run without an end counts as under way: its
	// process may have been killed. If zero, 24 hours.
	ActiveFor time.Duration
	// MaxCalls bounds the recent spans remembered to see that two of them
	// describe the same model call. If zero, 100,000.
	MaxCalls int

	// now is the clock; tests set it.
	now func() time.Time
}

// Deriver counts spans. Its methods may be called from many goroutines at once.
type Deriver struct {
	cfg Config
	m   *metrics.Metrics

	mu     sync.Mutex
	calls  *calls
	active map[spanKey]activeRun
	order  []spanKey // of active runs, oldest first; may name ended ones
	points []point   // scratch
}

type spanKey struct {
	trace record.TraceID
	span  record.SpanID
}

type activeRun struct {
	agent string
	since time.Time
}

// New returns a Deriver that records in m, whose series limits, overflow and
// count of what overflowed apply.
func New(m *metrics.Metrics, cfg Config) *Deriver {
	if cfg.MaxActive == 0 {
		cfg.MaxActive = 100_000
	}
	if cfg.ActiveFor == 0 {
		cfg.ActiveFor = 24 * time.Hour
	}
	if cfg.MaxCalls == 0 {
		cfg.MaxCalls = 100_000
	}
	if cfg.now == nil {
		cfg.now = time.Now
	}
	return &Deriver{cfg: cfg, m: m, calls: newCalls(cfg.MaxCalls), active: map[spanKey]activeRun{}}
}

// Spans counts spans, each of which must be given once when it is announced,
// if it is, and once when it has ended. Exemplars carry the span's ids.
//
// A span that names no agent counts for the agent of the nearest span around it
// that does, as far as that one has arrived; most conventions name the agent on
// its run alone, which ends last.
func (d *Deriver) Spans(spans []*record.Span) {
	spans = inOrder(spans)
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, s := range spans {
		if !pushed(s) {
			d.calls.note(s)
		}
	}
	for _, s := range spans {
		if pushed(s) {
			continue
		}
		if s.Kind == record.KindRun {
			d.track(s)
		}
		if s.Pending || s.End.IsZero() {
			continue
		}
		d.count(s)
	}
	d.expire()
}

// inOrder returns spans by their ends, so that a library's span comes before the
// wrapper's around it. Exporters send them so; a batch may have been shuffled.
func inOrder(spans []*record.Span) []*record.Span {
	byEnd := func(a, b *record.Span) int { return a.End.Compare(b.End) }
	if slices.IsSortedFunc(spans, byEnd) {
		return spans
	}
	spans = slices.Clone(spans)
	slices.SortStableFunc(spans, byEnd)
	return spans
}

// Expire lets runs that began too long ago end, as [Deriver.Spans] does; call
// it now and then so that the gauge falls while no span arrives.
func (d *Deriver) Expire() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.expire()
}

// pushed reports whether the span's process pushes its own metrics.
func pushed(s *record.Span) bool {
	switch v := s.Resource[string(genai.MetricsPushed)].(type) {
	case bool:
		return v
	case string:
		return v == "true"
	}
	return false
}

func (d *Deriver) count(s *record.Span) {
	d.points = d.points[:0]
	switch d.calls.see(s) {
	case first:
		d.points = observe(d.points, s, d.calls.agentOf(s))
	case again:
		return
	case moreUsage:
		o := &observer{span: s, agent: d.calls.agentOf(s), status: status(s), points: d.points}
		o.usage()
		d.points = o.points
	}
	ex := metrics.Exemplar{TraceID: trace.TraceID(s.TraceID), SpanID: trace.SpanID(s.SpanID), UnixNano: exemplarTime(s).UnixNano()}
	for i := range d.points {
		p := &d.points[i]
		if p.isHist {
			d.m.Observe(p.histogram, p.value, ex, p.labels[:p.n]...)
		} else {
			d.m.Add(p.counter, p.value, ex, p.labels[:p.n]...)
		}
	}
}

// track follows a run from its announcement to its end.
func (d *Deriver) track(s *record.Span) {
	key := spanKey{s.TraceID, s.SpanID}
	run, known := d.active[key]
	switch {
	case s.Pending && !known:
		if len(d.active) >= d.cfg.MaxActive {
			d.endOldest()
		}
		d.active[key] = activeRun{agent: s.AgentName, since: d.cfg.now()}
		d.order = append(d.order, key)
		d.m.Shift(metrics.AgentsActive, 1, s.AgentName)
	case !s.Pending && known:
		d.end(key, run)
	}
}

func (d *Deriver) end(key spanKey, run activeRun) {
	delete(d.active, key)
	d.m.Shift(metrics.AgentsActive, -1, run.agent)
}

// endOldest ends the run that was announced first.
func (d *Deriver) endOldest() {
	for len(d.order) > 0 {
		key := d.order[0]
		d.order = d.order[1:]
		if run, ok := d.active[key]; ok {
			d.end(key, run)
			return
		}
	}
}

// expire ends runs that were announced too long ago, and forgets those in
// order that ended by themselves.
func (d *Deriver) expire() {
	limit := d.cfg.now().Add(-d.cfg.ActiveFor)
	for len(d.order) > 0 {
		run, ok := d.active[d.order[0]]
		if ok && run.since.After(limit) {
			break
		}
		if ok {
			d.end(d.order[0], run)
		}
		d.order = d.order[1:]
	}
	if len(d.order) > 2*len(d.active)+1024 {
		kept := make([]spanKey, 0, len(d.active))
		for _, k := range d.order {
			if _, ok := d.active[k]; ok {
				kept = append(kept, k)
			}
		}
		d.order = kept
	}
}
