package server

import (
	"context"
	"errors"
	"iter"
	"time"

	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/kaizen-go/kaizen/server/internal/prom"
	"github.com/kaizen-go/kaizen/server/internal/record"
	"github.com/kaizen-go/kaizen/server/internal/store"
	"github.com/kaizen-go/kaizen/server/internal/wal"
)

// watchedStore is the store as ingest sees it: a log that has broken down, and
// takes nothing until it is opened again, shows in /readyz.
type watchedStore struct {
	*store.Store
	failed *failure
}

func (w watchedStore) watch(err error) {
	if errors.Is(err, wal.ErrBroken) {
		w.failed.note(err)
	}
}

func (w watchedStore) AppendTraces(ctx context.Context, td ptrace.Traces) (store.Result, error) {
	res, err := w.Store.AppendTraces(ctx, td)
	w.watch(err)
	return res, err
}

func (w watchedStore) AppendLogs(ctx context.Context, ld plog.Logs) (store.Result, error) {
	res, err := w.Store.AppendLogs(ctx, ld)
	w.watch(err)
	return res, err
}

func (w watchedStore) AppendMetrics(ctx context.Context, md pmetric.Metrics) (store.Result, error) {
	res, err := w.Store.AppendMetrics(ctx, md)
	w.watch(err)
	return res, err
}

// jaegerSource gives the Jaeger API the spans of a trace alone.
type jaegerSource struct{ store *store.Store }

func (j jaegerSource) Trace(id record.TraceID) ([]*record.Span, bool) {
	t, ok := j.store.Trace(id)
	return t.Spans, ok
}

func (j jaegerSource) Traces(since, until time.Time) iter.Seq[[]*record.Span] {
	return func(yield func([]*record.Span) bool) {
		for t := range j.store.Traces(since, until) {
			if !yield(t.Spans) {
				return
			}
		}
	}
}

// lateExemplars lets the metric store find exemplars among the spans, whose
// store is opened after it. The source is set before the first request.
type lateExemplars struct{ source prom.ExemplarSource }

func (l *lateExemplars) Exemplars(ctx context.Context, matchers []*prom.Matcher, start, end time.Time) ([]prom.ExemplarSeries, error) {
	return l.source.Exemplars(ctx, matchers, start, end)
}
