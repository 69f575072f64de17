package prom

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/kaizen-go/kaizen/metrics"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
)

// Limits of one series' labels. They are generous: what exceeds them is a
// mistake (a prompt or a stack trace as a label), and storing it would fill the
// index for good.
const (
	maxLabels          = 64
	maxLabelNameBytes  = 512
	maxLabelValueBytes = 4096
	// maxAhead is how far a sample may lie in the future. One sample far ahead
	// would make all present ones too old; Prometheus's receiver has the same bound.
	maxAhead = 10 * time.Minute
)

// reason is why a data point was refused; it is a label value.
type reason string

const (
	reasonSeriesLimit reason = "series_limit"
	reasonLabelLimit  reason = "label_limit"
	reasonDeltaLimit  reason = "delta_limit"
	reasonInvalid     reason = "invalid"
	reasonTooOld      reason = "too_old"
	reasonFuture      reason = "future"
	reasonDuplicate   reason = "duplicate"
)

// refusal is the error of a data point that was refused for good: sending it
// again would not help.
type refusal struct {
	why   reason
	cause error
}

func (r *refusal) Error() string { return fmt.Sprintf("data point refused (%s): %v", r.why, r.cause) }
func (r *refusal) Unwrap() error { return r.cause }

func refuse(why reason, format string, args ...any) error {
	return &refusal{why: why, cause: fmt.Errorf(format, args...)}
}

// sample is one value of one series. h or fh is set for native histograms.
type sample struct {
	labels    labels.Labels
	t         int64 // ms
	v         float64
	h         *histogram.Histogram
	fh        *histogram.FloatHistogram
	exemplars []exemplar.Exemplar // by time
}

// batch is one transaction of the storage. It belongs to one goroutine.
type batch struct {
	ctx context.Context // of the request: a batch does not outlive it
	db  *DB
	app storage.AppenderV2
	// own is set for the server's own metrics, which are never refused for the
	// series limit: they are what tells about a flood.
	own        bool
	minT, maxT int64
	// seen holds what this batch wrote: the storage compares a sample only with
	// those committed before.
	seen map[seenKey]sample
}

type seenKey struct {
	ref storage.SeriesRef
	t   int64
}

func (db *DB) newBatch(ctx context.Context) *batch {
	now := db.cfg.now()
	return &batch{
		ctx:  ctx,
		db:   db,
		app:  db.tsdb.AppenderV2(ctx),
		minT: now.Add(-db.cfg.Retention).UnixMilli(),
		maxT: now.Add(maxAhead).UnixMilli(),
		seen: map[seenKey]sample{},
	}
}

// add writes the samples of one data point. It is refused as a whole for limits
// and for its time; when the storage refuses one of its samples, those before
// it are kept. The error is a [*refusal], or the storage's when it is broken.
func (b *batch) add(point []sample) error {
	missing := 0
	refs := make([]storage.SeriesRef, len(point))
	for i := range point {
		if err := b.check(&point[i]); err != nil {
			return err
		}
		if refs[i] = b.ref(point[i].labels); refs[i] == 0 {
			missing++
		}
	}
	if missing > 0 {
		b.db.createMu.Lock()
		defer b.db.createMu.Unlock()
		if !b.own && b.db.SeriesCount()+missing > b.db.cfg.MaxSeries {
			return refuse(reasonSeriesLimit, "%d series are held, the most that are allowed", b.db.SeriesCount())
		}
	}
	for i := range point {
		if err := b.append(refs[i], &point[i]); err != nil {
			return err
		}
	}
	return nil
}

// ref returns the storage's reference of a series, 0 when it does not exist.
func (b *batch) ref(l labels.Labels) storage.SeriesRef {
	g, ok := b.app.(storage.GetRef)
	if !ok {
		return 0
	}
	ref, _ := g.GetRef(l, l.Hash())
	return ref
}

func (b *batch) check(s *sample) error {
	switch {
	case s.t < b.minT:
		return refuse(reasonTooOld, "time %s is before the retention", time.UnixMilli(s.t).UTC().Format(time.RFC3339))
	case s.t > b.maxT:
		return refuse(reasonFuture, "time %s is in the future", time.UnixMilli(s.t).UTC().Format(time.RFC3339))
	case s.labels.Len() > maxLabels:
		return refuse(reasonLabelLimit, "%d labels, more than %d", s.labels.Len(), maxLabels)
	}
	return s.labels.Validate(func(l labels.Label) error {
		if len(l.Name) > maxLabelNameBytes || len(l.Value) > maxLabelValueBytes {
			return refuse(reasonLabelLimit, "label %.64q is too long", l.Name)
		}
		return nil
	})
}

func (b *batch) append(ref storage.SeriesRef, s *sample) error {
	if ref != 0 {
		if before, ok := b.seen[seenKey{ref, s.t}]; ok {
			if before.same(s) {
				return nil
			}
			return refuse(reasonDuplicate, "two values of %s at one time in one request", s.labels)
		}
	}
	ref, err := b.write(ref, s, storage.AOptions{Exemplars: s.exemplars, RejectOutOfOrder: true})
	if tooOld(err) || s.ends() && errors.Is(err, storage.ErrDuplicateSampleForTimestamp) {
		// Not newer than its series: it may have been stored before, an end of
		// the series also in another form.
		known, found, lookupErr := b.db.sampleAt(b.ctx, s.labels, s.t)
		switch {
		case lookupErr != nil:
			return lookupErr
		case found && known.same(s):
			return nil
		case found:
			return refuse(reasonDuplicate, "another value of %s at this time is stored", s.labels)
		}
		ref, err = b.write(ref, s, storage.AOptions{Exemplars: s.exemplars})
	}
	if err == nil {
		b.seen[seenKey{ref, s.t}] = s.snapshot()
		return nil
	}
	return classify(err, s.labels)
}

// write gives one sample to the storage. That one of its exemplars is out of
// order is no reason to refuse it.
func (b *batch) write(ref storage.SeriesRef, s *sample, opts storage.AOptions) (storage.SeriesRef, error) {
	h, fh := s.h, s.fh
	if h != nil {
		h = h.Copy() // the storage keeps what it is given
	}
	if fh != nil {
		fh = fh.Copy()
	}
	ref, err := b.app.Append(ref, s.labels, 0, s.t, s.v, h, fh, opts)
	if errors.Is(err, (*storage.AppendPartialError)(nil)) {
		err = nil
	}
	return ref, err
}

func tooOld(err error) bool {
	return errors.Is(err, storage.ErrOutOfOrderSample) || errors.Is(err, storage.ErrTooOldSample) || errors.Is(err, storage.ErrOutOfBounds)
}

// classify tells what the storage refused for good from what is broken.
func classify(err error, l labels.Labels) error {
	var invalid histogram.Error
	switch {
	case errors.Is(err, storage.ErrDuplicateSampleForTimestamp):
		return refuse(reasonDuplicate, "%s: %w", l, err)
	case tooOld(err):
		return refuse(reasonTooOld, "%s: %w", l, err)
	case errors.As(err, &invalid), errors.Is(err, tsdb.ErrInvalidSample):
		return refuse(reasonInvalid, "%s: %w", l, err)
	}
	return fmt.Errorf("prom: append %s: %w", l, err)
}

// snapshot returns the value of s alone, to compare with later ones.
func (s *sample) snapshot() sample { return sample{v: s.v, h: s.h, fh: s.fh} }

// ends reports whether s says that its series ended. The storage writes the end
// of a series of histograms as a histogram, however it was given.
func (s *sample) ends() bool {
	return value.IsStaleNaN(s.v) || s.h != nil && value.IsStaleNaN(s.h.Sum) || s.fh != nil && value.IsStaleNaN(s.fh.Sum)
}

// same reports whether s and o have the same value, NaNs bit by bit. The storage
// may have widened a histogram by empty buckets that later ones fill.
func (s *sample) same(o *sample) bool {
	switch {
	case s.ends() || o.ends():
		return s.ends() && o.ends()
	case (s.h == nil) != (o.h == nil), (s.fh == nil) != (o.fh == nil):
		return false
	case s.h != nil:
		return s.h.Copy().Compact(0).Equals(o.h.Copy().Compact(0))
	case s.fh != nil:
		return s.fh.Copy().Compact(0).Equals(o.fh.Copy().Compact(0))
	}
	return math.Float64bits(s.v) == math.Float64bits(o.v)
}

// commit ends the batch and returns when its samples are durable. After an
// error nothing is known to be stored.
func (b *batch) commit() error {
	if err := b.app.Commit(); err != nil {
		return fmt.Errorf("prom: commit: %w", err)
	}
	return b.db.wal.sync(b.db.wal.ticket())
}

func (b *batch) rollback() error {
	if err := b.app.Rollback(); err != nil {
		return fmt.Errorf("prom: roll back: %w", err)
	}
	return nil
}

// newRefused makes the counter of refused points by reason and registers it.
func newRefused(reg prometheus.Registerer) (*prometheus.CounterVec, error) {
	vec := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "kaizen_server_samples_refused_total",
		Help: "Data points and samples that the metric store refused, by reason.",
	}, []string{"reason"})
	if reg == nil {
		return vec, nil
	}
	return vec, reg.Register(vec)
}

// count adds n refused points to the counters.
func (db *DB) count(err error, n int) {
	why := reasonInvalid
	var r *refusal
	if errors.As(err, &r) {
		why = r.why
	}
	db.refused.WithLabelValues(string(why)).Add(float64(n))
	if db.cfg.Metrics != nil {
		db.cfg.Metrics.Add(metrics.TelemetryDropped, float64(n), metrics.Exemplar{}, "metrics", string(why))
	}
}

// staleNaN is the value that ends a series.
func staleNaN() float64 { return math.Float64frombits(value.StaleNaN) }
