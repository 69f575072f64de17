package audit

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math"
	"math/bits"
	"runtime"
	"slices"
	"sync"
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

// span is the part of a ledger that a query is about: entries present when it
// began.
type span struct {
	from, to     int64 // to exclusive
	since, until int64 // nanoseconds since 1970
}

func (s *store) span(q *Query) (span, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed {
		return span{}, ErrClosed
	}
	p := span{to: s.head.Size, since: minTime.UnixNano(), until: maxTime.UnixNano()}
	switch {
	case q.After <= 0:
	case q.Descending:
		p.to = min(p.to, q.After-1)
	default:
		p.from = q.After
	}
	if q.Since.After(minTime) {
		p.since = clampNano(q.Since)
	}
	if !q.Until.IsZero() {
		p.until = clampNano(q.Until)
	}
	return p, nil
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

// scanner finds the entries of one segment that a query is about, by its index.
type scanner interface {
	// group finds those among the entries from to to-1 of group g; some is
	// false if there are none.
	group(g, from, to int) (hits hitSet, some bool, err error)
	// exact reports whether the index alone decides. Otherwise a hit may be
	// one by its fingerprint only.
	exact() bool
}

// found are the hits in one group of a segment, valid until the next ones.
type found struct {
	seg  *segment
	scan scanner
	g    int
	hits hitSet
}

// find yields the groups that have hits, in the order of the query. The files
// of the segment are open while the caller has them; no lock is held.
func (s *store) find(ctx context.Context, q *Query) iter.Seq2[*found, error] {
	return func(yield func(*found, error) bool) {
		p, err := s.span(q)
		for err == nil && p.from < p.to {
			err = context.Cause(ctx)
			if err == nil {
				var more bool
				if more, err = s.findInSegment(ctx, q, &p, yield); !more && err == nil {
					return
				}
			}
		}
		if err != nil {
			yield(nil, err)
		}
	}
}

// findInSegment goes through the first segment of p, or the last if the query
// is a descending one, and takes it off p.
func (s *store) findInSegment(ctx context.Context, q *Query, p *span, yield func(*found, error) bool) (more bool, err error) {
	i := p.from
	if q.Descending {
		i = p.to - 1
	}
	seg, _, err := s.at(i)
	if err != nil {
		return false, err
	}
	if seg.rec == nil {
		defer seg.release()
	}
	lo, hi := p.from, min(p.to, s.endOf(seg))
	if q.Descending {
		lo, hi = max(p.from, seg.base), p.to
		p.to = lo
	} else {
		p.from = hi
	}
	sc, err := s.newScanner(seg, q, p)
	if err != nil || sc == nil {
		return true, s.unlessPruned(seg, err)
	}
	f := found{seg: seg, scan: sc}
	first, last := int(lo-seg.base)/groupLen, int(hi-1-seg.base)/groupLen
	for n := range last - first + 1 {
		f.g = first + n
		if q.Descending {
			f.g = last - n
		}
		if n%64 == 63 && ctx.Err() != nil {
			return false, context.Cause(ctx)
		}
		at := seg.base + int64(f.g)*groupLen
		var some bool
		if f.hits, some, err = sc.group(f.g, int(max(lo-at, 0)), int(min(hi-at, groupLen))); err != nil {
			return true, s.unlessPruned(seg, err)
		}
		if some && !yield(&f, nil) {
			return false, nil
		}
	}
	return true, nil
}

func (s *store) endOf(seg *segment) int64 {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return seg.end()
}

// unlessPruned is err, or nil if the segment was removed by retention while it
// was read.
func (s *store) unlessPruned(seg *segment, err error) error {
	if err == nil || seg.rec == nil || !s.prunedNow(seg) {
		return err
	}
	return nil
}

// prunedNow reports whether retention has removed a segment that was sealed
// when somebody began to read it. A reader learns that from the manifest.
func (s *store) prunedNow(seg *segment) bool {
	s.mu.RLock()
	now := findSealed(s.sealed, seg.base)
	s.mu.RUnlock()
	if now != nil && now.rec.pruned() {
		return true
	}
	if s.write {
		return false
	}
	m, _, err := readManifest(s.fsys, s.dir)
	return err == nil && slices.ContainsFunc(m.records, func(r record) bool { return r.base == seg.base && r.pruned() })
}

// newScanner makes the scanner of a segment, nil if it cannot have a hit.
func (s *store) newScanner(seg *segment, q *Query, p *span) (scanner, error) {
	if seg.rec == nil {
		return s.newRawScan(seg, q, p), nil
	}
	if seg.rec.pruned() || seg.rec.maxTime < p.since || seg.rec.minTime > p.until || seg.rec.without(q) {
		return nil, nil
	}
	sc, err := newScan(&sealedIndex{s, seg}, q, p.since, p.until)
	if err != nil || sc.impossible {
		return nil, err
	}
	return sc, nil
}

// rawScan is the scanner of a segment that is not sealed.
type rawScan struct {
	s                   *store
	x                   *index
	timed               bool
	since, until        int64
	agent, user, action uint32
	subject             uint32
	result              uint8
	session, run, trace uint64
	spanned             bool
	span                uint16
}

// newRawScan returns nil if no entry has that agent, user, subject, action or result.
func (s *store) newRawScan(seg *segment, q *Query, p *span) scanner {
	s.mu.RLock()
	defer s.mu.RUnlock()
	x := &seg.idx
	r := &rawScan{
		s: s, x: x, timed: !q.Since.IsZero() || !q.Until.IsZero(), since: p.since, until: p.until,
		session: x.print(q.SessionID), run: x.print(q.RunID), trace: x.print(q.TraceID),
		spanned: q.SpanID != "", span: shortPrint([]byte(q.SpanID)),
	}
	for _, f := range []struct {
		want string
		code *uint32
	}{{q.AgentID, &r.agent}, {q.UserID, &r.user}, {q.Subject, &r.subject}, {q.Action, &r.action}} {
		code, ok := x.terms[f.want]
		if !ok {
			return nil
		}
		*f.code = code
	}
	switch q.Result {
	case "":
	case Success, Failure, Denied:
		r.result = resultCode(q.Result)
	default:
		return nil
	}
	return r
}

func (r *rawScan) exact() bool { return !r.spanned }

func (r *rawScan) group(g, from, to int) (hits hitSet, some bool, err error) {
	r.s.mu.RLock()
	defer r.s.mu.RUnlock()
	b := r.x.blocks[g]
	if r.timed && (b.maxTime < r.since || b.minTime > r.until) {
		return hits, false, nil
	}
	hits = between(from, to)
	// One column at first, in a loop that does nothing else.
	switch {
	case r.trace != 0:
		keep(&hits, &b.trace, r.trace)
	case r.run != 0:
		keep(&hits, &b.run, r.run)
	case r.session != 0:
		keep(&hits, &b.session, r.session)
	case r.agent != 0:
		keep(&hits, &b.agent, r.agent)
	case r.user != 0:
		keep(&hits, &b.user, r.user)
	}
	for w, word := range hits {
		for ; word != 0; word &= word - 1 {
			if i := w*64 + bits.TrailingZeros64(word); !r.matches(b, i) {
				hits[w] &^= 1 << (i % 64)
			}
		}
		some = some || hits[w] != 0
	}
	return hits, some, nil
}

// keep leaves those hits whose value is want.
func keep[V uint32 | uint64](hits *hitSet, column *[groupLen]V, want V) {
	for w := range hits {
		var word uint64
		for i, v := range column[64*w : 64*w+64] {
			if v == want {
				word |= 1 << i
			}
		}
		hits[w] &= word
	}
}

func (r *rawScan) matches(b *block, at int) bool {
	return (r.agent == 0 || b.agent[at] == r.agent) &&
		(r.trace == 0 || b.trace[at] == r.trace) &&
		(r.action == 0 || b.action[at] == r.action) &&
		(r.user == 0 || b.user[at] == r.user) && (r.subject == 0 || b.subjectOf(at) == r.subject) &&
		(r.result == 0 || b.result[at] == r.result) &&
		(r.session == 0 || b.session[at] == r.session) &&
		(r.run == 0 || b.run[at] == r.run) &&
		(!r.spanned || b.span[at] == r.span) &&
		(!r.timed || b.time[at] >= r.since && b.time[at] <= r.until)
}

func (s *store) query(ctx context.Context, q Query) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		left := q.Limit
		for batch, err := range s.batches(ctx, &q) {
			if err != nil {
				yield(Entry{}, fmt.Errorf("audit: query: %w", err))
				return
			}
			for i := range batch {
				if !q.match(&batch[i]) {
					continue // another text with the same fingerprint
				}
				if left--; !yield(batch[i], nil) || left == 0 {
					return
				}
			}
		}
	}
}

// batches yields the entries that the index finds, a few groups at a time,
// which are read beside each other: first one, then ever more of them, so that
// a caller who wants little waits for little.
func (s *store) batches(ctx context.Context, q *Query) iter.Seq2[[]Entry, error] {
	return func(yield func([]Entry, error) bool) {
		most := 8 * runtime.GOMAXPROCS(0)
		var jobs []*fetch
		defer func() { drop(jobs) }()
		room, hits := 1, 0
		for f, err := range s.find(ctx, q) {
			if err != nil {
				if !s.yieldAll(jobs, q.Descending, yield) {
					return
				}
				jobs = drop(jobs)
				yield(nil, err)
				return
			}
			jobs = append(jobs, newFetch(f))
			if hits += f.hits.count(); len(jobs) < room && hits < batchHits {
				continue
			}
			if !s.yieldAll(jobs, q.Descending, yield) {
				return
			}
			jobs, hits = drop(jobs), 0
			room = min(2*room, most)
		}
		s.yieldAll(jobs, q.Descending, yield)
	}
}

// batchHits is how many entries make a batch however few groups they are in:
// all of a batch are in memory.
const batchHits = 4 * groupLen

// fetch reads the hits of one group.
type fetch struct {
	seg     *segment
	g       int
	hits    hitSet
	entries []Entry
	err     error
}

func newFetch(f *found) *fetch {
	if f.seg.rec == nil {
		f.seg.retain()
	}
	return &fetch{seg: f.seg, g: f.g, hits: f.hits}
}

func drop(jobs []*fetch) []*fetch {
	for _, j := range jobs {
		if j.seg.rec == nil {
			j.seg.release()
		}
	}
	return jobs[:0]
}

func (s *store) yieldAll(jobs []*fetch, descending bool, yield func([]Entry, error) bool) bool {
	if len(jobs) == 1 {
		jobs[0].entries, jobs[0].err = s.fetch(jobs[0])
	} else {
		var wg sync.WaitGroup
		for _, j := range jobs {
			wg.Go(func() { j.entries, j.err = s.fetch(j) })
		}
		wg.Wait()
	}
	for _, j := range jobs {
		if err := s.unlessPruned(j.seg, j.err); err != nil {
			yield(nil, err)
			return false
		}
		if descending {
			slices.Reverse(j.entries)
		}
		if !yield(j.entries, nil) {
			return false
		}
	}
	return true
}

// fetch reads the entries that are hits, and checks each against its hash.
func (s *store) fetch(j *fetch) ([]Entry, error) {
	out := make([]Entry, 0, j.hits.count())
	var v *treeView
	if j.seg.rec != nil {
		var err error
		if v, err = s.view(); err != nil {
			return nil, err
		}
	}
	for i := range groupLen {
		if !j.hits.has(i) {
			continue
		}
		at := j.seg.base + int64(j.g)*groupLen + int64(i)
		var line []byte
		var err error
		if v != nil {
			line, err = s.sealedLine(j.seg, v, at)
		} else {
			line, err = s.openLine(j.seg, at)
		}
		if err != nil {
			return out, err
		}
		e, err := s.decode(line, at)
		if err != nil {
			return out, err
		}
		out = append(out, e)
	}
	return out, nil
}

func (s *store) count(ctx context.Context, q Query) (int64, error) {
	q.Limit, q.After, q.Descending = 0, 0, false
	var n int64
	for f, err := range s.find(ctx, &q) {
		if err == nil && !f.scan.exact() {
			err = s.confirm(f, &q)
		}
		if err != nil {
			return 0, fmt.Errorf("audit: count: %w", err)
		}
		n += int64(f.hits.count())
	}
	return n, nil
}

// confirm takes the hits away that are none by their line.
func (s *store) confirm(f *found, q *Query) error {
	entries, err := s.fetch(&fetch{seg: f.seg, g: f.g, hits: f.hits})
	f.hits = hitSet{}
	for i := range entries {
		if q.match(&entries[i]) {
			f.hits.set(int(entries[i].Index-f.seg.base) % groupLen)
		}
	}
	return s.unlessPruned(f.seg, err)
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
	// Entries is how many were appended, Bytes the size of the lines of those
	// that are not pruned, Stored that of their files: lines, compressed or
	// not, index and hashes.
	Entries, Bytes, Stored int64
	// Segments is the number of segments that hold lines, Sealed how many of
	// them are compressed and have an index file.
	Segments, Sealed int
	// Pruned is the number of entries that retention removed.
	Pruned int64
	// Oldest and Newest are the earliest and the latest Time of the entries
	// that are not pruned. Zero without entries.
	Oldest, Newest time.Time
	// Queued is the number of entries that wait to be written.
	Queued int
	// AsyncFailed counts entries that AppendAsync took and the disk did not.
	AsyncFailed int64
	// SealBacklog is the size of the lines in full segments that wait to be sealed,
	// SealWaits the number of appends that were held up because that was too much.
	SealBacklog, SealWaits int64
	// Outward says what witnesses and anchors know.
	Outward OutwardStats
}

func (s *store) stats() Stats {
	s.mu.RLock()
	defer s.mu.RUnlock()
	st := Stats{Entries: s.size(), Bytes: s.bytes, Segments: len(s.segs) + len(s.sealed), Sealed: len(s.sealed)}
	oldest, newest := int64(math.MaxInt64), int64(-1)
	for _, seg := range s.sealed {
		if seg.rec.pruned() {
			st.Pruned += seg.rec.count
			st.Segments--
			st.Sealed--
			continue
		}
		st.Bytes += seg.rec.bytes
		st.Stored += seg.rec.stored
		oldest, newest = min(oldest, seg.rec.minTime), max(newest, seg.rec.maxTime)
	}
	for _, seg := range s.segs {
		for _, b := range seg.idx.blocks {
			oldest, newest = min(oldest, b.minTime), max(newest, b.maxTime)
		}
	}
	st.Stored += s.bytes + 32*(s.size()-s.edge.Size())
	if newest >= 0 {
		st.Oldest, st.Newest = time.Unix(0, oldest).UTC(), time.Unix(0, newest).UTC()
	}
	return st
}

// isTamper reports whether err says that a ledger is damaged.
func isTamper(err error) bool {
	var t *TamperError
	return errors.As(err, &t)
}
