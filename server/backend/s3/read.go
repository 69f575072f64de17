package s3

import (
	"context"
	"fmt"
	"iter"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/kaizen-go/kaizen/audit"
	"github.com/kaizen-go/kaizen/server/backend/internal/group"
)

// Get reads an entry as its line has it.
func (r raw) Get(ctx context.Context, index int64) (audit.Entry, error) {
	line, err := r.reader().line(ctx, index)
	if err != nil {
		return audit.Entry{}, err
	}
	e, err := audit.DecodeLine(line)
	e.Index = index
	return e, err
}

// lineReader reads lines, and keeps the batch that it read last.
type lineReader struct {
	l     *Ledger
	batch int64
	lines []byte
}

func (l *Ledger) reader() *lineReader { return &lineReader{l: l, batch: -1} }

// line reads one line and checks it against its hash.
func (r *lineReader) line(ctx context.Context, index int64) ([]byte, error) {
	if err := r.l.usable(ctx); err != nil {
		return nil, err
	}
	s := &r.l.state
	s.mu.RLock()
	if index < 0 || index >= int64(len(s.places)) {
		s.mu.RUnlock()
		return nil, audit.ErrNotFound
	}
	at, leaf := s.places[index], s.hashes[tlog.StoredHashIndex(0, index)]
	s.mu.RUnlock()
	if at.batch != r.batch {
		body, err := r.l.bucket.get(ctx, numbered(batchPrefix, at.batch))
		if err != nil {
			return nil, err
		}
		_, lines, _, err := cutBatch(body)
		if err != nil {
			return nil, &audit.TamperError{Path: numbered(batchPrefix, at.batch), Index: index, Reason: err.Error()}
		}
		r.batch, r.lines = at.batch, lines
	}
	if int64(at.end) > int64(len(r.lines)) || tlog.RecordHash(r.lines[at.start:at.end]) != leaf {
		return nil, &audit.TamperError{Path: numbered(batchPrefix, at.batch), Index: index, Reason: "entry and its hash differ", Want: leaf.String()}
	}
	return r.lines[at.start:at.end], nil
}

// Proof is [audit.Ledger.Proof].
func (l *Ledger) Proof(index int64) (audit.Proof, error) {
	p, err := l.prove(index)
	if err != nil {
		return audit.Proof{}, fmt.Errorf("s3: prove entry %d: %w", index, err)
	}
	return p, nil
}

func (l *Ledger) prove(index int64) (audit.Proof, error) {
	line, err := l.reader().line(l.ctx, index)
	if err != nil {
		return audit.Proof{}, err
	}
	l.state.mu.RLock()
	defer l.state.mu.RUnlock()
	hashes, err := tlog.ProveRecord(l.state.head.Size, index, &l.state)
	p := audit.Proof{Index: index, Line: line, Note: l.state.head.Note}
	for _, h := range hashes {
		p.Hashes = append(p.Hashes, h)
	}
	return p, err
}

// Consistency is [audit.Ledger.Consistency].
func (l *Ledger) Consistency(from, to int64) ([][32]byte, error) {
	if err := l.usable(context.Background()); err != nil {
		return nil, wrap("consistency", err)
	}
	l.state.mu.RLock()
	defer l.state.mu.RUnlock()
	hashes, err := group.ConsistencyOf(l.state.head.Size, from, to, &l.state)
	return hashes, wrap("consistency", err)
}

// Tile is [audit.Ledger.Tile].
func (l *Ledger) Tile(level int, index int64, width int) ([]byte, error) {
	err := l.usable(context.Background())
	if err == nil {
		err = group.CheckTile(level, index, width, l.Size())
	}
	var b []byte
	if err == nil {
		b, err = l.memoryTile(level, index, width)
	}
	return b, wrap("tile", err)
}

func (l *Ledger) memoryTile(level int, index int64, width int) ([]byte, error) {
	l.state.mu.RLock()
	defer l.state.mu.RUnlock()
	return tlog.ReadTileData(tlog.Tile{H: 8, L: level, N: index, W: width}, &l.state)
}

// Bundle is [audit.Ledger.Bundle].
func (l *Ledger) Bundle(ctx context.Context, index int64, width int) ([]byte, error) {
	err := l.usable(ctx)
	if err == nil {
		err = group.CheckTile(0, index, width, l.Size())
	}
	var b []byte
	if err == nil {
		b, err = group.Bundle(l.Lines(ctx, index*audit.TileWidth), width)
	}
	return b, wrap("bundle", err)
}

// Lines implements [audit.Backend].
func (l *Ledger) Lines(ctx context.Context, from int64) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		r := l.reader()
		for i, size := max(from, 0), l.Size(); i < size; i++ {
			line, err := r.line(ctx, i)
			if err != nil {
				yield(nil, fmt.Errorf("s3: line %d: %w", i, err))
				return
			}
			if !yield(line, nil) {
				return
			}
		}
	}
}

// Query yields entries as their lines have them, and names as they are stored. It looks for entries in memory, and reads the
// objects of those that match.
func (l raw) Query(ctx context.Context, q audit.Query) iter.Seq2[audit.Entry, error] {
	return func(yield func(audit.Entry, error) bool) {
		fail := func(err error) { yield(audit.Entry{}, err) }
		if err := l.usable(ctx); err != nil {
			fail(err)
			return
		}
		r, left := l.reader(), q.Limit
		for index := range l.matches(q) {
			line, err := r.line(ctx, index)
			var e audit.Entry
			if err == nil {
				e, err = audit.DecodeLine(line)
				e.Index = index
			}
			if err != nil {
				fail(err)
				return
			}
			if left--; !yield(e, nil) || left == 0 {
				return
			}
		}
	}
}

// Count counts by the names that are stored.
func (l raw) Count(ctx context.Context, q audit.Query) (n int64, err error) {
	if err := l.usable(ctx); err != nil {
		return 0, err
	}
	q.After, q.Limit, q.Descending = 0, 0, false
	for range l.matches(q) {
		n++
	}
	return n, context.Cause(ctx)
}

// matches yields the indexes that q selects, in its order, from those that are
// known when it begins. The lock is not held while the caller has one.
func (l *Ledger) matches(q audit.Query) iter.Seq[int64] {
	return func(yield func(int64) bool) {
		s := &l.state
		s.mu.RLock()
		entries := s.entries // only ever appended to
		s.mu.RUnlock()
		from, below := int64(0), int64(len(entries))
		if q.After > 0 && q.Descending {
			below = min(below, q.After-1)
		} else if q.After > 0 {
			from = q.After
		}
		for k := range max(0, below-from) {
			i := from + k
			if q.Descending {
				i = below - 1 - k
			}
			if matches(&q, &entries[i]) && !yield(i) {
				return
			}
		}
	}
}

func matches(q *audit.Query, e *audit.Entry) bool {
	same := func(want, got string) bool { return want == "" || want == got }
	return same(q.AgentID, e.AgentID) && same(q.UserID, e.UserID) && same(q.Subject, e.Subject) && same(q.Action, e.Action) &&
		same(string(q.Result), string(e.Result)) && same(q.SessionID, e.SessionID) && same(q.RunID, e.RunID) &&
		same(q.TraceID, e.TraceID) && same(q.SpanID, e.SpanID) &&
		(q.Since.IsZero() || !e.Time.Before(q.Since)) && (q.Until.IsZero() || !e.Time.After(q.Until))
}
