package s3

import (
	"context"
	"iter"
	"strings"
	"time"

	"github.com/kaizen-go/kaizen/audit"
)

// Query yields entries as their lines have them, and names as they are stored.
func (s raw) Query(ctx context.Context, q audit.Query) iter.Seq2[audit.Entry, error] {
	return func(yield func(audit.Entry, error) bool) {
		r, left := s.reader(), q.Limit
		for index, err := range s.matches(ctx, &r.v, q) {
			var e audit.Entry
			var line []byte
			if err == nil {
				line, err = r.line(ctx, index)
			}
			if err == nil {
				e, err = decode(line, index)
			}
			if err != nil {
				yield(audit.Entry{}, err)
				return
			}
			if left--; !yield(e, nil) || left == 0 {
				return
			}
		}
	}
}

// Count counts by the names that are stored.
func (s raw) Count(ctx context.Context, q audit.Query) (n int64, err error) {
	q.After, q.Limit, q.Descending = 0, 0, false
	v := s.state.view()
	for _, err := range s.matches(ctx, &v, q) {
		if err != nil {
			return 0, err
		}
		n++
	}
	return n, nil
}

// matches yields the indexes that q selects, in its order, from those of a
// moment. Chunks whose times do not fit are not read.
func (l *Ledger) matches(ctx context.Context, v *view, q audit.Query) iter.Seq2[int64, error] {
	return func(yield func(int64, error) bool) {
		if err := l.Usable(ctx); err != nil {
			yield(0, err)
			return
		}
		s := &search{q: &q, from: 0, below: v.head.Size, yield: func(i int64) bool { return yield(i, nil) }}
		if q.After > 0 && q.Descending {
			s.below = min(s.below, q.After-1)
		} else if q.After > 0 {
			s.from = q.After
		}
		if q.AgentID == "kaizen" && strings.HasPrefix(q.Action, "ledger.") && q.Action != audit.ShardAction {
			entries, err := v.systemEntries()
			if err != nil {
				yield(0, err)
				return
			}
			s.in(entries)
			return
		}
		if q.Descending && !s.in(v.tail.entries) {
			return
		}
		for p, err := range l.parts(ctx, v.refs, q.Descending, s.within) {
			var c *chunk
			if err == nil {
				c, err = l.chunk(ctx, p)
			}
			if err == nil {
				err = context.Cause(ctx)
			}
			if err != nil {
				yield(0, err)
				return
			}
			if !s.in(c.entries) {
				return
			}
		}
		if !q.Descending {
			s.in(v.tail.entries)
		}
	}
}

// systemEntries are the entries that the ledger wrote about itself.
func (v *view) systemEntries() ([]audit.Entry, error) {
	out := make([]audit.Entry, len(v.system))
	for i, x := range v.system {
		e, err := audit.DecodeLine([]byte(x.Line))
		if err != nil {
			return nil, &audit.TamperError{Path: statePrefix, Index: x.Index, Reason: err.Error()}
		}
		out[i] = compact(e, x.Index, map[string]string{})
	}
	return out, nil
}

// search is a query at work.
type search struct {
	q           *audit.Query
	from, below int64
	yield       func(int64) bool
}

// within reports whether a run may have something.
func (s *search) within(r *ref) bool {
	return r.Base < s.below && r.end() > s.from &&
		(s.q.Since.IsZero() || !time.Unix(0, r.Newest).Before(s.q.Since)) && (s.q.Until.IsZero() || !time.Unix(0, r.Oldest).After(s.q.Until))
}

// in yields what matches among entries, until it is told to stop.
func (s *search) in(entries []audit.Entry) bool {
	for k := range entries {
		e := &entries[k]
		if s.q.Descending {
			e = &entries[len(entries)-1-k]
		}
		if e.Index >= s.from && e.Index < s.below && matches(s.q, e) && !s.yield(e.Index) {
			return false
		}
	}
	return true
}

func matches(q *audit.Query, e *audit.Entry) bool {
	same := func(want, got string) bool { return want == "" || want == got }
	return same(q.AgentID, e.AgentID) && same(q.UserID, e.UserID) && same(q.Subject, e.Subject) && same(q.Action, e.Action) &&
		same(string(q.Result), string(e.Result)) && same(q.SessionID, e.SessionID) && same(q.RunID, e.RunID) &&
		same(q.TraceID, e.TraceID) && same(q.SpanID, e.SpanID) &&
		(q.Since.IsZero() || !e.Time.Before(q.Since)) && (q.Until.IsZero() || !e.Time.After(q.Until))
}
