// Package store keeps spans and log records: a write-ahead log on disk that
// an acknowledgement waits for, and an index in memory that queries read.
//
//	s, err := store.Open(filepath.Join(data, "telemetry"), store.Config{})
//	res, err := s.AppendTraces(ctx, td) // durable and visible when it returns
//	tr, ok := s.Trace(id)
package store

import (
	"context"
	"errors"
	"iter"
	"time"

	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/kaizen-go/kaizen/server/internal/record"
)

// Store holds telemetry. All methods may be called at once.
type Store struct{}

// Open opens the store in dir, creating it if absent, and reads its log.
func Open(dir string, cfg Config) (*Store, error) { return nil, errors.ErrUnsupported }

// Close stops the store. Appends that have not returned end with [ErrClosed].
func (s *Store) Close() error { return nil }

// OnSpans adds a listener that is given spans that are newly final.
func (s *Store) OnSpans(fn func([]*record.Span)) {}

// AppendTraces stores a batch of spans.
func (s *Store) AppendTraces(ctx context.Context, td ptrace.Traces) (Result, error) {
	return Result{}, errors.ErrUnsupported
}

// AppendLogs stores a batch of log records.
func (s *Store) AppendLogs(ctx context.Context, ld plog.Logs) (Result, error) {
	return Result{}, errors.ErrUnsupported
}

// AppendMetrics stores a batch of metrics.
func (s *Store) AppendMetrics(ctx context.Context, md pmetric.Metrics) (Result, error) {
	return Result{}, errors.ErrUnsupported
}

// Trace returns the spans of one trace, and whether any are held.
func (s *Store) Trace(id record.TraceID) (Trace, bool) { return Trace{}, false }

// Traces yields the traces that start in [since, until), newest first. A zero
// time is no bound.
func (s *Store) Traces(since, until time.Time) iter.Seq[Trace] { return nil }

// Spans yields the spans that start in [since, until), newest first.
func (s *Store) Spans(since, until time.Time) iter.Seq[*record.Span] { return nil }

// Logs yields the log records with a time in [since, until), newest first.
func (s *Store) Logs(since, until time.Time) iter.Seq[*record.Log] { return nil }

// TraceLogs returns the log records that carry the trace's id.
func (s *Store) TraceLogs(id record.TraceID) []*record.Log { return nil }

// Stats returns the store's own figures.
func (s *Store) Stats() Stats { return Stats{} }
