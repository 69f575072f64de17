package audit

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"
)

// Query selects entries. Every field that is set must match, exactly.
type Query struct {
	AgentID, UserID, Subject, Action  string
	Result                            Result
	SessionID, RunID, TraceID, SpanID string
	// Since and Until bound Time, both inclusive.
	Since, Until time.Time
	// Limit ends the answer after so many entries. If zero or less, none.
	Limit int
	// Descending yields the newest entry first.
	Descending bool
	// After continues an answer: the Index of the last entry seen, plus one.
	// If zero, the answer begins at the beginning.
	After int64
	// Stored yields entries as their lines have them: what is encrypted stays
	// so, and subjects and users are tokens. [EncodeLine] makes the line of one.
	Stored bool
}

// match reports whether e is what q asks for.
func (q *Query) match(e *Entry) bool {
	same := func(want, got string) bool { return want == "" || want == got }
	return same(q.AgentID, e.AgentID) && same(q.UserID, e.UserID) && same(q.Subject, e.Subject) && same(q.Action, e.Action) &&
		same(string(q.Result), string(e.Result)) && same(q.SessionID, e.SessionID) && same(q.RunID, e.RunID) &&
		same(q.TraceID, e.TraceID) && same(q.SpanID, e.SpanID) &&
		(q.Since.IsZero() || !e.Time.Before(q.Since)) && (q.Until.IsZero() || !e.Time.After(q.Until))
}

// plan is a query in terms of the index.
type plan struct {
	from, to            int64 // entries that may match, to exclusive
	since, until        int64
	timed               bool
	agent, user, action uint32
	subject             uint32
	result              uint8
	session, run        uint32
	trace, span         uint32
	exact               bool // the index alone decides
	impossible          bool // no entry has that agent, user or action
	descending          bool
}

// plan fixes the entries that the query is about: those present now.
func (s *store) plan(q *Query) (plan, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed {
		return plan{}, ErrClosed
	}
	x := &s.idx
	p := plan{
		to: x.n, descending: q.Descending,
		session: x.print(q.SessionID), run: x.print(q.RunID), trace: x.print(q.TraceID), span: x.print(q.SpanID),
		exact: q.SessionID == "" && q.RunID == "" && q.TraceID == "" && q.SpanID == "",
	}
	for _, f := range []struct {
		want string
		code *uint32
	}{{q.AgentID, &p.agent}, {q.UserID, &p.user}, {q.Subject, &p.subject}, {q.Action, &p.action}} {
		code, ok := x.terms[f.want]
		*f.code = code
		p.impossible = p.impossible || !ok
	}
	switch q.Result {
	case "":
	case Success, Failure, Denied:
		p.result = resultCode(q.Result)
	default:
		p.impossible = true
	}
	p.bounds(q)
	return p, nil
}

func (p *plan) bounds(q *Query) {
	switch {
	case q.After <= 0:
	case q.Descending:
		p.to = min(p.to, q.After-1)
	default:
		p.from = q.After
	}
	p.timed = !q.Since.IsZero() || !q.Until.IsZero()
	p.since, p.until = minTime.UnixNano(), maxTime.UnixNano()
	if q.Since.After(minTime) {
		p.since = clampNano(q.Since)
	}
	if !q.Until.IsZero() {
		p.until = clampNano(q.Until)
	}
}

// clampNano is t in nanoseconds, also for times that an entry cannot have.
func clampNano(t time.Time) int64 {
	switch {
	case t.Before(minTime):
		return -1
	case t.After(maxTime):
		return maxTime.UnixNano()
	}
	return t.UnixNano()
}

// hits appends the indexes in block k that may match, in the plan's order.
func (x *index) hits(k int64, p *plan, dst []int64) []int64 {
	b := x.blocks[k]
	if p.timed && (b.maxTime < p.since || b.minTime > p.until) {
		return dst
	}
	lo, hi := max(p.from, k*blockLen), min(p.to, (k+1)*blockLen)
	first := len(dst)
	for i := lo; i < hi; i++ {
		if p.matches(b, i%blockLen) {
			dst = append(dst, i)
		}
	}
	if p.descending {
		for i, j := first, len(dst)-1; i < j; i, j = i+1, j-1 {
			dst[i], dst[j] = dst[j], dst[i]
		}
	}
	return dst
}

func (p *plan) matches(b *block, at int64) bool {
	return (p.agent == 0 || b.agent[at] == p.agent) &&
		(p.trace == 0 || b.trace[at] == p.trace) &&
		(p.action == 0 || b.action[at] == p.action) &&
		(p.user == 0 || b.user[at] == p.user) && (p.subject == 0 || b.subject[at] == p.subject) &&
		(p.result == 0 || b.result[at] == p.result) &&
		(p.session == 0 || b.session[at] == p.session) &&
		(p.run == 0 || b.run[at] == p.run) &&
		(p.span == 0 || b.span[at] == p.span) &&
		(!p.timed || b.time[at] >= p.since && b.time[at] <= p.until)
}

// candidates yields, block by block, the indexes that the index cannot rule
// out. The lock is not held while the caller has them.
func (s *store) candidates(ctx context.Context, p plan) iter.Seq2[[]int64, error] {
	return func(yield func([]int64, error) bool) {
		if p.impossible || p.from >= p.to {
			return
		}
		first, last := p.from/blockLen, (p.to-1)/blockLen
		var hits []int64
		for n := range last - first + 1 {
			if ctx.Err() != nil {
				yield(nil, context.Cause(ctx))
				return
			}
			k := first + n
			if p.descending {
				k = last - n
			}
			s.mu.RLock()
			hits = s.idx.hits(k, &p, hits[:0])
			s.mu.RUnlock()
			if len(hits) > 0 && !yield(hits, nil) {
				return
			}
		}
	}
}

func (s *store) query(ctx context.Context, q Query) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		fail := func(err error) { yield(Entry{}, fmt.Errorf("audit: query: %w", err)) }
		p, err := s.plan(&q)
		if err != nil {
			fail(err)
			return
		}
		left := q.Limit
		for hits, err := range s.candidates(ctx, p) {
			if err != nil {
				fail(err)
				return
			}
			for _, i := range hits {
				e, err := s.get(i)
				if err != nil {
					fail(err)
					return
				}
				if !q.match(&e) {
					continue // another text with the same fingerprint
				}
				if left--; !yield(e, nil) || left == 0 {
					return
				}
			}
		}
	}
}

func (s *store) count(ctx context.Context, q Query) (int64, error) {
	q.Limit, q.After, q.Descending = 0, 0, false
	p, err := s.plan(&q)
	if err != nil {
		return 0, fmt.Errorf("audit: count: %w", err)
	}
	var n int64
	if !p.exact {
		for _, err := range s.query(ctx, q) {
			if err != nil {
				return 0, err
			}
			n++
		}
		return n, nil
	}
	for hits, err := range s.candidates(ctx, p) {
		if err != nil {
			return 0, fmt.Errorf("audit: count: %w", err)
		}
		n += int64(len(hits))
	}
	return n, nil
}

// read is get for the exported methods.
func (s *store) read(ctx context.Context, index int64) (Entry, error) {
	err := context.Cause(ctx)
	var e Entry
	if err == nil {
		e, err = s.get(index)
	}
	if err != nil {
		return Entry{}, fmt.Errorf("audit: get entry %d: %w", index, err)
	}
	return e, nil
}

func (s *store) prove(index int64) (Proof, error) {
	p, err := s.proof(index)
	if err != nil {
		return Proof{}, fmt.Errorf("audit: prove entry %d: %w", index, err)
	}
	return p, nil
}

// Stats says what a ledger holds.
type Stats struct {
	// Entries is their number, Bytes the size of their lines.
	Entries, Bytes int64
	// Segments is the number of files they are in.
	Segments int
	// Oldest and Newest are the Time of the first and of the last entry. Zero
	// without entries.
	Oldest, Newest time.Time
	// Queued is the number of entries that wait to be written.
	Queued int
	// AsyncFailed counts entries that AppendAsync took and the disk did not.
	AsyncFailed int64
	// Outward says what witnesses and anchors know.
	Outward OutwardStats
}

func (s *store) stats() Stats {
	s.mu.RLock()
	defer s.mu.RUnlock()
	st := Stats{Entries: s.idx.n, Bytes: s.bytes, Segments: len(s.segs)}
	if s.idx.n > 0 {
		st.Oldest = time.Unix(0, s.idx.time(0)).UTC()
		st.Newest = time.Unix(0, s.idx.time(s.idx.n-1)).UTC()
	}
	return st
}

// isTamper reports whether err says that a ledger is damaged.
func isTamper(err error) bool {
	var t *TamperError
	return errors.As(err, &t)
}
