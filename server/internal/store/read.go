package store

import (
	"iter"
	"time"

	"github.com/kaizen-go/kaizen/server/internal/record"
)

// Trace returns the spans of one trace, and whether any are held.
func (s *Store) Trace(id record.TraceID) (Trace, bool) {
	s.index.mu.RLock()
	defer s.index.mu.RUnlock()
	t := s.index.traces[id]
	if t == nil || len(t.spans) == 0 {
		return Trace{}, false
	}
	return t.view(), true
}

// Span returns one span, and whether it is held.
func (s *Store) Span(trace record.TraceID, span record.SpanID) (*record.Span, bool) {
	s.index.mu.RLock()
	defer s.index.mu.RUnlock()
	sp, ok := s.index.spans[spanKey{trace, span}]
	return sp, ok
}

// TraceLogs returns the log records that carry the trace's id, in the order of
// their arrival. The slice is shared: read only.
func (s *Store) TraceLogs(id record.TraceID) []*record.Log {
	s.index.mu.RLock()
	defer s.index.mu.RUnlock()
	if t := s.index.traces[id]; t != nil {
		return t.logs[:len(t.logs):len(t.logs)]
	}
	return nil
}

// Traces yields the traces whose earliest span starts in [since, until),
// newest first; of one instant, by falling id. A zero time is no bound. It
// shows the store as it is when the iteration begins.
func (s *Store) Traces(since, until time.Time) iter.Seq[Trace] {
	return func(yield func(Trace) bool) {
		for t := range backward(s.index, &s.index.traceLine, since, until) {
			s.index.mu.RLock()
			v := t.view()
			s.index.mu.RUnlock()
			if !yield(v) {
				return
			}
		}
	}
}

// Spans yields the spans that start in [since, until), newest first; of one
// instant, by falling ids. A zero time is no bound.
func (s *Store) Spans(since, until time.Time) iter.Seq[*record.Span] {
	return backward(s.index, &s.index.spanLine, since, until)
}

// Logs yields the log records with a time in [since, until), newest first; of
// one instant, by falling Seq. A zero time is no bound.
func (s *Store) Logs(since, until time.Time) iter.Seq[*record.Log] {
	return backward(s.index, &s.index.logLine, since, until)
}

// LogsAscending yields the same log records as Logs, oldest first.
func (s *Store) LogsAscending(since, until time.Time) iter.Seq[*record.Log] {
	return func(yield func(*record.Log) bool) {
		for _, e := range bounded(s.index, &s.index.logLine, since, until) {
			if !yield(e.item) {
				return
			}
		}
	}
}

func backward[T any](x *index, t *timeline[T], since, until time.Time) iter.Seq[T] {
	return func(yield func(T) bool) {
		all := bounded(x, t, since, until)
		for i := len(all) - 1; i >= 0; i-- {
			if !yield(all[i].item) {
				return
			}
		}
	}
}

func bounded[T any](x *index, t *timeline[T], since, until time.Time) []entry[T] {
	all := snapshotOf(x, t)
	return window(all, since.UnixNano(), until.UnixNano(), !since.IsZero(), !until.IsZero())
}
