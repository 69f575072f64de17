package store

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"go.opentelemetry.io/collector/pdata/pmetric"

	"github.com/kaizen-go/kaizen/server/internal/normalise"
	"github.com/kaizen-go/kaizen/server/internal/record"
)

// Errors on which a caller branches.
var (
	// ErrFull means that the memory given to the store is used up. Nothing of
	// the batch was stored; the sender may try again later.
	ErrFull = errors.New("store full")
	// ErrClosed means that the store was closed.
	ErrClosed = errors.New("store closed")
)

// Config tunes a [Store]. The zero value is fit for use.
type Config struct {
	// MaxResidentBytes bounds the estimated memory of spans and log records
	// together. If zero, 1 GiB. A store that holds as much refuses batches
	// with [ErrFull] and counts them.
	MaxResidentBytes int64
	// MaxItems bounds the number of spans and log records together. If zero,
	// 4,000,000.
	MaxItems int64
	// MaxMetricLogBytes bounds the log of metric batches on disk: older
	// segments go when it is exceeded, since the metric sink holds their
	// samples, and are given to it again at each start. If zero, 64 MiB.
	MaxMetricLogBytes int64
	// Pricer prices model calls whose sender stated no cost. If nil, such
	// calls stay unpriced.
	Pricer normalise.Pricer
	// Metrics takes metric batches. If nil, they are accepted and dropped
	// after the log.
	Metrics MetricSink
	// Logger is told what recovery cut off and what was refused. If nil,
	// nothing is logged.
	Logger *slog.Logger
	// Now is the clock for the time of receipt. If nil, time.Now.
	Now func() time.Time
}

// MetricSink stores samples. It must take the same batch twice without
// counting it twice: batches are given to it again at each start.
type MetricSink interface {
	// AppendMetrics stores md and reports how many data points it refused.
	// An error means that nothing of md is stored and the sender should retry.
	AppendMetrics(ctx context.Context, md pmetric.Metrics) (rejected int, err error)
}

// Result says what became of a batch.
type Result struct {
	// Accepted counts the items that are stored now or were stored before.
	Accepted int
	// Rejected counts the items that no retry would save; Reason says why
	// the first of them was.
	Rejected int
	Reason   string
	// RejectedBy counts the rejected items by reason, in words fit for a
	// metric label; nil when there are none.
	RejectedBy map[string]int
	// Duplicates counts the accepted items that were there already.
	Duplicates int
	// Newest is the latest end of a span or time of a log record in the
	// batch; zero when there is none.
	Newest time.Time
}

// Trace is the spans of one trace that have arrived.
type Trace struct {
	ID record.TraceID
	// Version grows with every change of the trace, so that what was computed
	// from an earlier one can be told to be stale.
	Version uint64
	// Start is the earliest start of a span.
	Start time.Time
	// Spans stand in the order of their arrival. They are shared: read only.
	Spans []*record.Span
	// Logs counts the log records that carry the trace's id.
	Logs int
}

// Stats are the store's own figures.
type Stats struct {
	Spans, Pending, Traces, Logs int64
	// ResidentBytes estimates the memory of the items held; LogBytes is the
	// part of it that log records take.
	ResidentBytes, LogBytes int64
	// DiskBytes is the size of the write-ahead logs; MetricDiskBytes is the
	// part of it that metric batches take.
	DiskBytes, MetricDiskBytes int64
	// DuplicateBatches, DuplicateSpans and DuplicateLogs count what arrived
	// again since the store was opened and was not stored twice.
	DuplicateBatches, DuplicateSpans, DuplicateLogs int64
	// Refused counts batches refused because the store was full.
	Refused int64
}
