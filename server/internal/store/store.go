// Package store keeps spans and log records: a write-ahead log on disk that an
// acknowledgement waits for, and an index in memory that queries read. The
// index is built again from the log at each start.
//
//	s, err := store.Open(filepath.Join(data, "telemetry"), store.Config{})
//	res, err := s.AppendTraces(ctx, td) // durable and visible when it returns
//	tr, ok := s.Trace(id)
//
// Who asks sees only the methods here and records of package record, so a
// column store on disk can take the place of the index; it would take over the
// log as it is. The readers' side of that seam is query.Store.
package store

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/kaizen-go/kaizen/server/internal/normalise"
	"github.com/kaizen-go/kaizen/server/internal/record"
	"github.com/kaizen-go/kaizen/server/internal/wal"
)

// Store holds telemetry. All methods may be called at once.
type Store struct {
	cfg  Config
	norm normalise.Normaliser

	log       *wal.Log // of spans and log records
	metricLog *wal.Log
	turn      turnstile // puts what the log has ordered into the index in that order
	batches   *batches
	index     *index

	mu        sync.Mutex
	listeners []func([]*record.Span) // guarded by mu
	logHeard  []func([]*record.Log)  // guarded by mu
}

// Open opens the store in dir, creating it if absent, and reads its log. Damage
// of the log is a [*wal.CorruptError]. The caller makes sure that one process
// at a time has dir.
func Open(dir string, cfg Config) (*Store, error) {
	cfg = cfg.withDefaults()
	s := &Store{
		cfg: cfg, norm: normalise.Normaliser{Pricer: cfg.Pricer},
		batches: newBatches(), index: newIndex(cfg.MaxResidentBytes, cfg.MaxItems),
	}
	var err error
	if s.log, err = wal.Open(filepath.Join(dir, "wal"), wal.Config{Logger: cfg.Logger}, s.replay); err != nil {
		return nil, fmt.Errorf("store: open %s: %w", dir, err)
	}
	if s.metricLog, err = wal.Open(filepath.Join(dir, "metrics-wal"), wal.Config{Logger: cfg.Logger, SegmentBytes: max(cfg.MaxMetricLogBytes/8, 1<<20)}, s.replayMetrics); err != nil {
		return nil, errors.Join(fmt.Errorf("store: open %s: %w", dir, err), s.log.Close())
	}
	return s, nil
}

func (c Config) withDefaults() Config {
	if c.MaxResidentBytes <= 0 {
		c.MaxResidentBytes = 1 << 30
	}
	if c.MaxItems <= 0 {
		c.MaxItems = 4_000_000
	}
	if c.MaxMetricLogBytes <= 0 {
		c.MaxMetricLogBytes = 64 << 20
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return c
}

// Close stops the store. Appends that have not reached the log end with
// [ErrClosed]; what was acknowledged stays readable.
func (s *Store) Close() error {
	if err := errors.Join(s.log.Close(), s.metricLog.Close()); err != nil {
		return fmt.Errorf("store: close: %w", err)
	}
	return nil
}

// OnSpans adds a listener. It is given the spans of a batch that are newly
// announced or newly final, after they are durable and before the batch is
// acknowledged: each once as pending, if it was announced, and once as final; not
// duplicates, and not what is read back at start. It runs in the sender's
// goroutine, several at once, and must not keep it long.
func (s *Store) OnSpans(fn func([]*record.Span)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.listeners = append(s.listeners[:len(s.listeners):len(s.listeners)], fn)
}

// OnLogs adds a listener that is given the log records of a batch that are new,
// as [Store.OnSpans] does spans.
func (s *Store) OnLogs(fn func([]*record.Log)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.logHeard = append(s.logHeard[:len(s.logHeard):len(s.logHeard)], fn)
}

func (s *Store) tell(a added) {
	s.mu.Lock()
	listeners, logHeard := s.listeners, s.logHeard
	s.mu.Unlock()
	if len(a.spans) > 0 {
		for _, fn := range listeners {
			fn(a.spans)
		}
	}
	if len(a.logs) > 0 {
		for _, fn := range logHeard {
			fn(a.logs)
		}
	}
}

// AppendTraces stores the spans of td that are valid, all of them or none. It
// removes the others from td, which the caller must not use while it runs.
// Spans that are stored already count as accepted and are not stored again: a
// final span takes the place of a pending one, and no other takes its place.
// Errors: [ErrFull], [ErrClosed], or the disk's.
func (s *Store) AppendTraces(ctx context.Context, td ptrace.Traces) (Result, error) {
	received := s.cfg.Now().UTC()
	spans, res := s.normaliseTraces(td, received)
	if len(spans) == 0 {
		return res, nil
	}
	payload, err := (&ptrace.ProtoMarshaler{}).MarshalTraces(td)
	if err != nil {
		return Result{}, fmt.Errorf("store: append traces: %w", err)
	}
	err = s.append(ctx, wal.Traces, received, payload, &res, batch{spans: spans})
	return res, err
}

// AppendLogs stores the log records of ld that are valid, as AppendTraces does
// spans. Records that carry an id of their own (log.record.uid) are stored once
// however they are batched; of others an exact repetition of a batch is known.
func (s *Store) AppendLogs(ctx context.Context, ld plog.Logs) (Result, error) {
	received := s.cfg.Now().UTC()
	logs, res := s.normaliseLogs(ld, received)
	if len(logs) == 0 {
		return res, nil
	}
	payload, err := (&plog.ProtoMarshaler{}).MarshalLogs(ld)
	if err != nil {
		return Result{}, fmt.Errorf("store: append logs: %w", err)
	}
	err = s.append(ctx, wal.Logs, received, payload, &res, batch{logs: logs})
	return res, err
}

// batch is what one request adds to the index.
type batch struct {
	spans []*record.Span
	logs  []*record.Log
}

func (b batch) len() int { return len(b.spans) + len(b.logs) }

// append makes a batch durable and visible. res holds what is known of it.
func (s *Store) append(ctx context.Context, signal wal.Signal, received time.Time, payload []byte, res *Result, b batch) error {
	id := batchID(signal, payload)
	known, release := s.batches.claim(id)
	if known || s.index.hasAll(b) {
		release(known)
		res.Duplicates = b.len()
		s.index.countDuplicateBatch()
		return nil
	}
	added, err := s.writeOnce(release, func() (added, error) { return s.write(ctx, signal, received, payload, b) })
	if err != nil {
		*res = Result{}
		return err
	}
	res.Duplicates = b.len() - added.items
	s.tell(added)
	return nil
}

// writeOnce ends a claim, also when write panics: others wait for its end.
func (s *Store) writeOnce(release func(bool), write func() (added, error)) (a added, err error) {
	stored := false
	defer func() { release(stored) }()
	a, err = write()
	stored = err == nil
	return a, err
}

// write takes room in memory, then on disk, then fills the room. The wait for
// the disk does not end with ctx: a record whose sender has gone may be in the
// log all the same, and then it must be in the index.
func (s *Store) write(ctx context.Context, signal wal.Signal, received time.Time, payload []byte, b batch) (added, error) {
	size := b.sizeBytes()
	if !s.index.reserve(size, int64(b.len())) {
		return added{}, fmt.Errorf("store: append %d %s: %w", b.len(), signal, ErrFull)
	}
	seq, err := s.log.Append(context.WithoutCancel(ctx), signal, received, payload)
	if err != nil {
		s.index.unreserve(size, int64(b.len()))
		if errors.Is(err, wal.ErrClosed) {
			err = errors.Join(ErrClosed, err)
		}
		return added{}, fmt.Errorf("store: append %d %s: %w", b.len(), signal, err)
	}
	s.turn.wait(seq)
	defer s.turn.leave()
	s.index.unreserve(size, int64(b.len()))
	return s.index.add(b), nil
}

// replay puts one record of the log back into the index.
func (s *Store) replay(r wal.Record) error {
	b, err := s.decode(r)
	if err != nil {
		return err
	}
	_, release := s.batches.claim(batchID(r.Signal, r.Payload))
	release(true)
	s.index.add(b)
	s.turn.skipTo(r.Seq + 1)
	return nil
}

func (s *Store) decode(r wal.Record) (batch, error) {
	switch r.Signal {
	case wal.Traces:
		td, err := (&ptrace.ProtoUnmarshaler{}).UnmarshalTraces(r.Payload)
		if err != nil {
			return batch{}, fmt.Errorf("decode spans: %w", err)
		}
		spans, _ := s.normaliseTraces(td, r.Received)
		return batch{spans: spans}, nil
	case wal.Logs:
		ld, err := (&plog.ProtoUnmarshaler{}).UnmarshalLogs(r.Payload)
		if err != nil {
			return batch{}, fmt.Errorf("decode log records: %w", err)
		}
		logs, _ := s.normaliseLogs(ld, r.Received)
		return batch{logs: logs}, nil
	}
	return batch{}, fmt.Errorf("record of unknown signal %s: written by a newer version", r.Signal)
}

// batchID names a batch by what it says, whatever encoding it came in.
func batchID(signal wal.Signal, payload []byte) [sha256.Size]byte {
	h := sha256.New()
	h.Write([]byte{byte(signal)})
	h.Write(payload)
	return [sha256.Size]byte(h.Sum(nil))
}

// AppendMetrics writes md to a log and hands it to the metric sink. An exact
// repetition is not handed on again.
func (s *Store) AppendMetrics(ctx context.Context, md pmetric.Metrics) (Result, error) {
	res := Result{Accepted: md.DataPointCount()}
	if res.Accepted == 0 {
		return res, nil
	}
	payload, err := (&pmetric.ProtoMarshaler{}).MarshalMetrics(md)
	if err != nil {
		return Result{}, fmt.Errorf("store: append metrics: %w", err)
	}
	known, release := s.batches.claim(batchID(wal.Metrics, payload))
	if known {
		release(true)
		s.index.countDuplicateBatch()
		res.Duplicates = res.Accepted
		return res, nil
	}
	_, err = s.writeOnce(release, func() (added, error) {
		return added{}, s.writeMetrics(context.WithoutCancel(ctx), md, payload, &res)
	})
	return res, err
}

func (s *Store) writeMetrics(ctx context.Context, md pmetric.Metrics, payload []byte, res *Result) error {
	if _, err := s.metricLog.Append(ctx, wal.Metrics, s.cfg.Now().UTC(), payload); err != nil {
		*res = Result{}
		if errors.Is(err, wal.ErrClosed) {
			err = errors.Join(ErrClosed, err)
		}
		return fmt.Errorf("store: append metrics: %w", err)
	}
	if err := s.metricLog.Trim(s.cfg.MaxMetricLogBytes); err != nil {
		s.cfg.Logger.Warn("metric log keeps segments that it should drop", "error", err)
	}
	if s.cfg.Metrics == nil {
		return nil
	}
	rejected, err := s.cfg.Metrics.AppendMetrics(ctx, md)
	if err != nil {
		*res = Result{}
		return fmt.Errorf("store: append metrics: %w", err)
	}
	if res.Rejected = min(rejected, res.Accepted); res.Rejected > 0 {
		res.Accepted -= res.Rejected
		res.reject("metric_store", res.Rejected, fmt.Sprintf("%d data points were refused by the metric store", res.Rejected))
	}
	return nil
}

func (s *Store) replayMetrics(r wal.Record) error {
	_, release := s.batches.claim(batchID(r.Signal, r.Payload))
	release(true)
	if s.cfg.Metrics == nil {
		return nil
	}
	md, err := (&pmetric.ProtoUnmarshaler{}).UnmarshalMetrics(r.Payload)
	if err != nil {
		return fmt.Errorf("decode metrics: %w", err)
	}
	if _, err := s.cfg.Metrics.AppendMetrics(context.Background(), md); err != nil {
		// The batch stays in the log; the next start gives it to the sink again.
		s.cfg.Logger.Warn("metric sink refused a batch of the log", "sequence", r.Seq, "error", err)
	}
	return nil
}

// Stats returns the store's own figures.
func (s *Store) Stats() Stats {
	st := s.index.stats()
	st.MetricDiskBytes = s.metricLog.SizeBytes()
	st.DiskBytes = s.log.SizeBytes() + st.MetricDiskBytes
	return st
}
