package store

import (
	"errors"
	"time"

	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/kaizen-go/kaizen/server/internal/normalise"
	"github.com/kaizen-go/kaizen/server/internal/record"
)

// reject notes n items that are refused for a reason.
func (r *Result) reject(reason string, n int, detail string) {
	if r.Reason == "" {
		r.Reason = detail
	}
	if r.RejectedBy == nil {
		r.RejectedBy = map[string]int{}
	}
	r.RejectedBy[reason] += n
}

// refuse notes one item, with an error of package normalise.
func (r *Result) refuse(err error) {
	reason := "invalid"
	var e *normalise.RejectError
	if errors.As(err, &e) {
		reason = e.Reason
	}
	r.Rejected++
	r.reject(reason, 1, err.Error())
}

// normaliseTraces reads the valid spans of td and removes the others from it.
func (s *Store) normaliseTraces(td ptrace.Traces, received time.Time) ([]*record.Span, Result) {
	var res Result
	spans := make([]*record.Span, 0, td.SpanCount())
	td.ResourceSpans().RemoveIf(func(rs ptrace.ResourceSpans) bool {
		resource, resErr := normalise.NewResource(rs.Resource())
		rs.ScopeSpans().RemoveIf(func(ss ptrace.ScopeSpans) bool {
			ss.Spans().RemoveIf(func(p ptrace.Span) bool {
				span, err := (*record.Span)(nil), resErr
				if err == nil {
					span, err = s.norm.Span(resource, ss.Scope().Name(), p, received)
				}
				if err != nil {
					res.refuse(err)
					return true
				}
				spans = append(spans, span)
				if at := later(span.Start, span.End); at.After(res.Newest) {
					res.Newest = at
				}
				return false
			})
			return ss.Spans().Len() == 0
		})
		return rs.ScopeSpans().Len() == 0
	})
	res.Accepted = len(spans)
	return spans, res
}

// normaliseLogs reads the valid log records of ld and removes the others.
func (s *Store) normaliseLogs(ld plog.Logs, received time.Time) ([]*record.Log, Result) {
	var res Result
	logs := make([]*record.Log, 0, ld.LogRecordCount())
	ld.ResourceLogs().RemoveIf(func(rl plog.ResourceLogs) bool {
		resource, resErr := normalise.NewResource(rl.Resource())
		rl.ScopeLogs().RemoveIf(func(sl plog.ScopeLogs) bool {
			sl.LogRecords().RemoveIf(func(p plog.LogRecord) bool {
				l, err := (*record.Log)(nil), resErr
				if err == nil {
					l, err = s.norm.Log(resource, sl.Scope().Name(), p, received)
				}
				if err != nil {
					res.refuse(err)
					return true
				}
				logs = append(logs, l)
				res.Newest = later(res.Newest, l.Time)
				return false
			})
			return sl.LogRecords().Len() == 0
		})
		return rl.ScopeLogs().Len() == 0
	})
	res.Accepted = len(logs)
	return logs, res
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}
