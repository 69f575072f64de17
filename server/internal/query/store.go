// Package query answers questions about what the store holds: traces, spans,
// logs, sessions, agents, costs and totals. The API, the page and the command
// line all ask here, so that they give the same answers.
//
//	q := query.New(st, ledger)
//	page, err := q.Traces(ctx, query.TraceFilter{Agent: "planner", Limit: 50})
package query

import (
	"iter"
	"time"

	"github.com/kaizen-go/kaizen/server/internal/record"
	"github.com/kaizen-go/kaizen/server/internal/store"
)

// Store is what the query layer reads. *store.Store is one; a column store
// would be another. Iterators run newest first, show the store as it is when
// they begin, and take a zero time for no bound; records are read only.
type Store interface {
	Trace(id record.TraceID) (store.Trace, bool)
	Span(trace record.TraceID, span record.SpanID) (*record.Span, bool)
	TraceLogs(id record.TraceID) []*record.Log
	Traces(since, until time.Time) iter.Seq[store.Trace]
	Spans(since, until time.Time) iter.Seq[*record.Span]
	Logs(since, until time.Time) iter.Seq[*record.Log]
	LogsAscending(since, until time.Time) iter.Seq[*record.Log]
	Stats() store.Stats
}
