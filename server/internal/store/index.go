package store

import (
	"bytes"
	"cmp"
	"sync"
	"time"

	"github.com/kaizen-go/kaizen/server/internal/record"
)

// index is what queries read. Records in it are never changed, only replaced.
type index struct {
	maxBytes, maxItems int64

	mu     sync.RWMutex // guards everything below
	spans  map[spanKey]*record.Span
	traces map[record.TraceID]*trace
	uids   map[string]struct{}

	spanLine  timeline[*record.Span]
	traceLine timeline[*trace]
	logLine   timeline[*record.Log]

	version       uint64
	logSeq        uint64
	reservedBytes int64
	reservedItems int64
	st            Stats
}

type spanKey struct {
	trace record.TraceID
	span  record.SpanID
}

// trace is what is held of one trace. Its slices grow at the end, so a reader
// may keep one; a span that is replaced makes a new slice.
type trace struct {
	id      record.TraceID
	version uint64
	start   int64 // of the earliest span; of the first log record while there is none
	spans   []*record.Span
	logs    []*record.Log
}

func newIndex(maxBytes, maxItems int64) *index {
	x := &index{
		maxBytes: maxBytes, maxItems: maxItems,
		spans:  map[spanKey]*record.Span{},
		traces: map[record.TraceID]*trace{},
		uids:   map[string]struct{}{},
	}
	x.spanLine.less = compareSpans
	x.spanLine.keep = func(e entry[*record.Span]) bool { return x.spans[keyOf(e.item)] == e.item }
	x.traceLine.less = func(a, b *trace) int { return bytes.Compare(a.id[:], b.id[:]) }
	x.traceLine.keep = func(e entry[*trace]) bool { return e.at == e.item.start }
	x.logLine.less = func(a, b *record.Log) int { return cmp.Compare(a.Seq, b.Seq) }
	return x
}

func keyOf(s *record.Span) spanKey { return spanKey{s.TraceID, s.SpanID} }

func compareSpans(a, b *record.Span) int {
	if c := bytes.Compare(a.TraceID[:], b.TraceID[:]); c != 0 {
		return c
	}
	return bytes.Compare(a.SpanID[:], b.SpanID[:])
}

// reserve takes room for a batch that is on its way to the disk.
func (x *index) reserve(size, items int64) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	held := x.st.Spans + x.st.Logs
	if x.st.ResidentBytes+x.reservedBytes+size > x.maxBytes || held+x.reservedItems+items > x.maxItems {
		x.st.Refused++
		return false
	}
	x.reservedBytes += size
	x.reservedItems += items
	return true
}

func (x *index) unreserve(size, items int64) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.reservedBytes -= size
	x.reservedItems -= items
}

// hasAll reports whether nothing of b would change the index.
func (x *index) hasAll(b batch) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, s := range b.spans {
		if old, ok := x.spans[keyOf(s)]; !ok || old.Pending && !s.Pending {
			return false
		}
	}
	for _, l := range b.logs {
		if _, ok := x.uids[l.UID]; !ok || l.UID == "" {
			return false
		}
	}
	x.st.DuplicateSpans += int64(len(b.spans))
	x.st.DuplicateLogs += int64(len(b.logs))
	return true
}

func (x *index) countDuplicateBatch() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.st.DuplicateBatches++
}

// added is what a batch brought.
type added struct {
	items int            // that were not there
	spans []*record.Span // newly announced or newly final
	logs  []*record.Log  // that were not there
}

func (x *index) add(b batch) added {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.version++
	var a added
	for _, s := range b.spans {
		if !x.addSpan(s) {
			x.st.DuplicateSpans++
			continue
		}
		a.items++
		a.spans = append(a.spans, s)
	}
	for _, l := range b.logs {
		if !x.addLog(l) {
			x.st.DuplicateLogs++
			continue
		}
		a.items++
		a.logs = append(a.logs, l)
	}
	return a
}

// addSpan reports whether s is new: a final span after a pending one is, any
// other with a known id is not.
func (x *index) addSpan(s *record.Span) bool {
	key := keyOf(s)
	old := x.spans[key]
	if old != nil && (!old.Pending || s.Pending) {
		return false
	}
	x.spans[key] = s
	t := x.trace(s.TraceID, s.Start.UnixNano(), true)
	if old == nil {
		t.spans = append(t.spans, s)
		x.st.Spans++
	} else {
		t.replace(old, s)
		x.st.ResidentBytes -= spanSize(old)
		x.st.Pending--
		x.spanLine.stale = true
	}
	if s.Pending {
		x.st.Pending++
	}
	x.st.ResidentBytes += spanSize(s)
	x.spanLine.add(s.Start.UnixNano(), s)
	return true
}

func (t *trace) replace(old, s *record.Span) {
	spans := make([]*record.Span, len(t.spans), cap(t.spans))
	for i, p := range t.spans {
		if p == old {
			p = s
		}
		spans[i] = p
	}
	t.spans = spans
}

func (x *index) addLog(l *record.Log) bool {
	if l.UID != "" {
		if _, ok := x.uids[l.UID]; ok {
			return false
		}
		x.uids[l.UID] = struct{}{}
	}
	x.logSeq++
	l.Seq = x.logSeq
	if !l.TraceID.IsZero() {
		t := x.trace(l.TraceID, l.Time.UnixNano(), false)
		t.logs = append(t.logs, l)
	}
	x.st.Logs++
	x.st.ResidentBytes += logSize(l)
	x.st.LogBytes += logSize(l)
	x.logLine.add(l.Time.UnixNano(), l)
	return true
}

// trace returns the trace, creating it, with its version and start brought up
// to date for an item at the given time.
func (x *index) trace(id record.TraceID, at int64, isSpan bool) *trace {
	t := x.traces[id]
	if t == nil {
		t = &trace{id: id}
		x.traces[id] = t
	}
	t.version = x.version
	if isSpan && (len(t.spans) == 0 || at < t.start) {
		if len(t.spans) > 0 {
			x.traceLine.stale = true
		} else {
			x.st.Traces++
		}
		t.start = at
		x.traceLine.add(at, t)
	}
	return t
}

func (x *index) stats() Stats {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.st
}

func (t *trace) view() Trace {
	return Trace{ID: t.id, Version: t.version, Start: time.Unix(0, t.start).UTC(), Spans: t.spans[:len(t.spans):len(t.spans)], Logs: len(t.logs)}
}

// snapshotOf returns a timeline's entries, taking the write lock only when
// there is something to merge.
func snapshotOf[T any](x *index, t *timeline[T]) []entry[T] {
	x.mu.RLock()
	if t.settled() {
		defer x.mu.RUnlock()
		return t.sorted
	}
	x.mu.RUnlock()
	x.mu.Lock()
	defer x.mu.Unlock()
	return t.snapshot()
}
