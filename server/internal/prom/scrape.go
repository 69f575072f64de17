package prom

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/metadata"
)

// scrapeLoop copies a registry into the store at intervals.
type scrapeLoop struct {
	db     *DB
	from   prometheus.Gatherer
	labels map[string]string
	// last holds the series of the scrape before, by the bytes of their labels:
	// those that are gone get an end. It belongs to the loop's goroutine.
	last map[string]labels.Labels
	at   int64 // time of the scrape before, ms; 0 before the first

	cancel context.CancelFunc
	done   chan struct{}
	once   sync.Once
}

// SelfScrape copies what g gathers into the store, at once and then every so
// often, with labels added (job and instance, say), until stop is called or the
// store is closed; stop waits for a copy under way and may be called twice. If
// every is zero or less, 15 seconds. As Prometheus does, it writes a series
// up, and an end for each series that is no longer there. The series limit does
// not apply: g's own limits are to bound it.
func (db *DB) SelfScrape(g prometheus.Gatherer, every time.Duration, labels map[string]string) (stop func()) {
	if every <= 0 {
		every = 15 * time.Second
	}
	ctx, cancel := context.WithCancel(context.Background())
	s := newScrape(db, g, labels)
	s.cancel, s.done = cancel, make(chan struct{})
	db.scrapesMu.Lock()
	db.scrapes[s] = struct{}{}
	db.scrapesMu.Unlock()
	go s.run(ctx, every)
	return s.stop
}

func newScrape(db *DB, g prometheus.Gatherer, ls map[string]string) *scrapeLoop {
	return &scrapeLoop{db: db, from: g, labels: ls, last: map[string]labels.Labels{}}
}

// takeScrapes returns the running loops.
func (db *DB) takeScrapes() []*scrapeLoop {
	db.scrapesMu.Lock()
	defer db.scrapesMu.Unlock()
	list := make([]*scrapeLoop, 0, len(db.scrapes))
	for s := range db.scrapes {
		list = append(list, s)
	}
	return list
}

func (s *scrapeLoop) stop() {
	s.once.Do(func() {
		s.cancel()
		<-s.done
		s.db.scrapesMu.Lock()
		delete(s.db.scrapes, s)
		s.db.scrapesMu.Unlock()
	})
}

func (s *scrapeLoop) run(ctx context.Context, every time.Duration) {
	defer close(s.done)
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		if err := s.scrape(ctx, s.db.cfg.now()); err != nil && ctx.Err() == nil {
			s.db.cfg.Logger.Warn("prom: copy own metrics", "err", err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// scrape copies the registry once. What a broken collector left out is missing
// and up is 0; the rest is stored.
func (s *scrapeLoop) scrape(ctx context.Context, now time.Time) error {
	leave, err := s.db.enter()
	if err != nil {
		return err
	}
	defer leave()
	if err := s.db.wal.err(); err != nil {
		return err
	}
	families, gatherErr := s.from.Gather()
	w := &scrapeWriter{loop: s, batch: s.db.newBatch(ctx), now: now.UnixMilli(), seen: map[string]labels.Labels{}}
	w.batch.own = true
	for _, f := range families {
		s.db.meta.set(f.GetName(), metadata.Metadata{Type: dtoType(f.GetType()), Unit: f.GetUnit(), Help: f.GetHelp()})
		for _, m := range f.Metric {
			w.metric(f, m)
		}
	}
	up := 1.0
	if gatherErr != nil {
		up = 0
	}
	w.add(sample{labels: w.series("up", nil), v: up})
	for key, ls := range s.last {
		if _, ok := w.seen[key]; !ok {
			w.write(sample{labels: ls, t: w.now, v: staleNaN()})
		}
	}
	if w.err != nil {
		return errors.Join(gatherErr, w.err, w.batch.rollback())
	}
	if err := w.batch.commit(); err != nil {
		return errors.Join(gatherErr, err)
	}
	s.last, s.at = w.seen, w.now
	return gatherErr
}

// scrapeWriter writes one scrape. err is the first error of the storage.
type scrapeWriter struct {
	loop  *scrapeLoop
	batch *batch
	now   int64
	seen  map[string]labels.Labels
	err   error
}

// series returns the labels of a series of one metric.
func (w *scrapeWriter) series(name string, m *dto.Metric, extra ...string) labels.Labels {
	b := labels.NewBuilder(labels.EmptyLabels())
	for k, v := range w.loop.labels {
		b.Set(k, v)
	}
	for _, p := range m.GetLabel() {
		if _, taken := w.loop.labels[p.GetName()]; taken {
			b.Set("exported_"+p.GetName(), p.GetValue()) // as Prometheus does
			continue
		}
		b.Set(p.GetName(), p.GetValue())
	}
	for i := 0; i < len(extra); i += 2 {
		b.Set(extra[i], extra[i+1])
	}
	return b.Set(model.MetricNameLabel, name).Labels()
}

// add writes a sample of now and remembers its series.
func (w *scrapeWriter) add(s sample) {
	if s.t == 0 {
		s.t = w.now
	}
	w.seen[string(s.labels.Bytes(nil))] = s.labels
	w.write(s)
}

// count is add for what only rises: a series that was not there at the scrape
// before was at zero then.
func (w *scrapeWriter) count(s sample) {
	if s.h == nil && s.fh == nil && w.loop.at > 0 && w.batch.ref(s.labels) == 0 {
		w.write(sample{labels: s.labels, t: w.loop.at})
	}
	w.add(s)
}

func (w *scrapeWriter) write(s sample) {
	err := w.batch.add([]sample{s})
	var r *refusal
	switch {
	case err == nil:
	case errors.As(err, &r):
		w.loop.db.count(err, 1)
	case w.err == nil:
		w.err = err
	}
}

func (w *scrapeWriter) metric(f *dto.MetricFamily, m *dto.Metric) {
	name, t := f.GetName(), m.GetTimestampMs()
	switch {
	case m.Counter != nil:
		w.count(sample{labels: w.series(name, m), t: t, v: m.Counter.GetValue(), exemplars: w.exemplars(m.Counter.GetExemplar())})
	case m.Gauge != nil:
		w.add(sample{labels: w.series(name, m), t: t, v: m.Gauge.GetValue()})
	case m.Untyped != nil:
		w.add(sample{labels: w.series(name, m), t: t, v: m.Untyped.GetValue()})
	case m.Summary != nil:
		w.summary(name, m)
	case m.Histogram != nil:
		w.histogram(name, m)
	}
}

func (w *scrapeWriter) summary(name string, m *dto.Metric) {
	t := m.GetTimestampMs()
	w.add(sample{labels: w.series(name+"_sum", m), t: t, v: m.Summary.GetSampleSum()})
	w.add(sample{labels: w.series(name+"_count", m), t: t, v: float64(m.Summary.GetSampleCount())})
	for _, q := range m.Summary.Quantile {
		w.add(sample{labels: w.series(name, m, model.QuantileLabel, formatBound(q.GetQuantile())), t: t, v: q.GetValue()})
	}
}

// histogram writes a histogram's classic buckets, its native ones, or both.
func (w *scrapeWriter) histogram(name string, m *dto.Metric) {
	h, t := m.Histogram, m.GetTimestampMs()
	count := float64(h.GetSampleCount())
	if f := h.GetSampleCountFloat(); f > 0 {
		count = f
	}
	native := h.Schema != nil
	if native {
		s := nativeFromDTO(h)
		s.labels, s.t, s.exemplars = w.series(name, m), t, w.exemplars(h.Exemplars...)
		w.add(s)
	}
	if native && len(h.Bucket) == 0 {
		return
	}
	w.count(sample{labels: w.series(name+"_sum", m), t: t, v: h.GetSampleSum()})
	w.count(sample{labels: w.series(name+"_count", m), t: t, v: count})
	inf := false
	for _, b := range h.Bucket {
		v := float64(b.GetCumulativeCount())
		if f := b.GetCumulativeCountFloat(); f > 0 {
			v = f
		}
		le := formatBound(b.GetUpperBound())
		inf = inf || le == "+Inf"
		w.count(sample{labels: w.series(name+"_bucket", m, model.BucketLabel, le), t: t, v: v, exemplars: w.exemplars(b.GetExemplar())})
	}
	if !inf {
		w.count(sample{labels: w.series(name+"_bucket", m, model.BucketLabel, "+Inf"), t: t, v: count})
	}
}

// nativeFromDTO converts the native buckets of a gathered histogram.
func nativeFromDTO(h *dto.Histogram) sample {
	spans := func(in []*dto.BucketSpan) []histogram.Span {
		out := make([]histogram.Span, len(in))
		for i, s := range in {
			out[i] = histogram.Span{Offset: s.GetOffset(), Length: s.GetLength()}
		}
		// A span with nothing in it is how client_golang marks a native
		// histogram without observations.
		if len(out) == 1 && out[0].Length == 0 {
			return nil
		}
		return out
	}
	if h.GetSampleCountFloat() > 0 || h.GetZeroCountFloat() > 0 {
		return sample{fh: &histogram.FloatHistogram{
			Schema: h.GetSchema(), ZeroThreshold: h.GetZeroThreshold(), ZeroCount: h.GetZeroCountFloat(),
			Count: h.GetSampleCountFloat(), Sum: h.GetSampleSum(),
			PositiveSpans: spans(h.PositiveSpan), PositiveBuckets: h.PositiveCount,
			NegativeSpans: spans(h.NegativeSpan), NegativeBuckets: h.NegativeCount,
		}}
	}
	return sample{h: &histogram.Histogram{
		Schema: h.GetSchema(), ZeroThreshold: h.GetZeroThreshold(), ZeroCount: h.GetZeroCount(),
		Count: h.GetSampleCount(), Sum: h.GetSampleSum(),
		PositiveSpans: spans(h.PositiveSpan), PositiveBuckets: h.PositiveDelta,
		NegativeSpans: spans(h.NegativeSpan), NegativeBuckets: h.NegativeDelta,
	}}
}

// exemplars converts exemplars, in order of time.
func (w *scrapeWriter) exemplars(in ...*dto.Exemplar) []exemplar.Exemplar {
	var out []exemplar.Exemplar
	for _, e := range in {
		if e == nil {
			continue
		}
		b := labels.NewBuilder(labels.EmptyLabels())
		for _, p := range e.Label {
			b.Set(p.GetName(), p.GetValue())
		}
		x := exemplar.Exemplar{Labels: b.Labels(), Value: e.GetValue(), Ts: w.now}
		if e.Timestamp != nil {
			x.Ts, x.HasTs = e.Timestamp.AsTime().UnixMilli(), true
		}
		out = append(out, x)
	}
	if len(out) > 1 {
		slices.SortFunc(out, exemplar.Compare)
	}
	return out
}

func dtoType(t dto.MetricType) model.MetricType {
	switch t {
	case dto.MetricType_COUNTER:
		return model.MetricTypeCounter
	case dto.MetricType_GAUGE:
		return model.MetricTypeGauge
	case dto.MetricType_SUMMARY:
		return model.MetricTypeSummary
	case dto.MetricType_HISTOGRAM:
		return model.MetricTypeHistogram
	case dto.MetricType_GAUGE_HISTOGRAM:
		return model.MetricTypeGaugeHistogram
	}
	return model.MetricTypeUnknown
}
