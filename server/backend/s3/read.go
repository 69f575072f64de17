package s3

import (
	"context"
	"fmt"
	"iter"
	"slices"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/kaizen-go/kaizen/audit"
	"github.com/kaizen-go/kaizen/server/backend/internal/group"
)

// raw is the ledger as its lines have it: what is encrypted stays so.
type raw struct{ *Ledger }

var _ group.Store = raw{}

// Get reads an entry as its line has it.
func (s raw) Get(ctx context.Context, index int64) (audit.Entry, error) {
	line, err := s.reader().line(ctx, index)
	if err != nil {
		return audit.Entry{}, err
	}
	return decode(line, index)
}

func decode(line []byte, index int64) (audit.Entry, error) {
	e, err := audit.DecodeLine(line)
	e.Index = index
	return e, err
}

// lineReader reads lines of a moment, and keeps the batch that it read last.
type lineReader struct {
	l     *Ledger
	v     view
	batch int64
	lines []byte
	chunk *chunk
}

func (l *Ledger) reader() *lineReader { return &lineReader{l: l, v: l.state.view(), batch: -1} }

// line reads one line.
func (r *lineReader) line(ctx context.Context, index int64) ([]byte, error) {
	if err := r.l.Usable(ctx); err != nil {
		return nil, err
	}
	if index < 0 || index >= r.v.head.Size {
		return nil, audit.ErrNotFound
	}
	if index >= r.v.tail.Base {
		return r.tailLine(ctx, index-r.v.tail.Base)
	}
	if c := r.chunk; c == nil || index < c.base || index >= c.base+int64(len(c.lines)) {
		var err error
		if r.chunk, err = r.l.chunkOf(ctx, r.v.refs, index); err != nil {
			return nil, err
		}
	}
	return r.chunk.lines[index-r.chunk.base], nil
}

// tailLine reads the i-th line of the tail, and checks it against its hash.
func (r *lineReader) tailLine(ctx context.Context, i int64) ([]byte, error) {
	at, leaf, index := r.v.tail.places[i], r.v.tail.leaves[i], r.v.tail.Base+i
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
	r := l.reader()
	line, err := r.line(l.ctx, index)
	var p audit.Proof
	if err == nil {
		p, err = group.Prove(r.v.head, index, slices.Clone(line), tiles{l, l.ctx, &r.v})
	}
	if err != nil {
		return audit.Proof{}, fmt.Errorf("s3: prove entry %d: %w", index, err)
	}
	return p, nil
}

// Consistency is [audit.Ledger.Consistency].
func (l *Ledger) Consistency(from, to int64) ([][32]byte, error) {
	if err := l.Usable(context.Background()); err != nil {
		return nil, l.Wrap("consistency", err)
	}
	v := l.state.view()
	hashes, err := group.Consistency(v.head, from, to, tiles{l, l.ctx, &v})
	return hashes, l.Wrap("consistency", err)
}

// Tile is [audit.Ledger.Tile].
func (l *Ledger) Tile(level int, index int64, width int) ([]byte, error) {
	v := l.state.view()
	err := l.Usable(context.Background())
	if err == nil {
		err = group.CheckTile(level, index, width, v.head.Size)
	}
	var b []byte
	if err == nil {
		b, err = tiles{l, l.ctx, &v}.tile(level, index, width)
	}
	return b, l.Wrap("tile", err)
}

// Bundle is [audit.Ledger.Bundle].
func (l *Ledger) Bundle(ctx context.Context, index int64, width int) ([]byte, error) {
	err := l.Usable(ctx)
	if err == nil {
		err = group.CheckTile(0, index, width, l.Size())
	}
	var b []byte
	if err == nil {
		b, err = group.Bundle(l.Lines(ctx, index*audit.TileWidth), width)
	}
	return b, l.Wrap("bundle", err)
}

// Lines implements [audit.Backend].
func (l *Ledger) Lines(ctx context.Context, from int64) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		r := l.reader()
		for i := max(from, 0); i < r.v.head.Size; i++ {
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
