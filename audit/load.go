package audit

import (
	"context"
	"runtime"
	"sync"

	"github.com/kaizen-go/kaizen/internal/merkle"
)

// load takes in the entries of the open segments from where the index ends up
// to size, comparing each line with its stored hash. It does not know whether
// the hashes are the signed ones: it fills in the roots of the sizes in roots,
// for its caller to compare. It returns where in the files it stopped. Lines are
// hashed and parsed on all processors, and taken in in their order.
func (s *store) load(ctx context.Context, size int64, roots map[int64]merkle.Hash) (*cursor, error) {
	l := loader{s: s, tree: s.edge.Clone(), roots: roots}
	for _, seg := range s.segs {
		for run := range seg.leaves.runs() {
			for _, leaf := range run {
				keepRoot(&l.tree, roots)
				l.tree.Append(leaf)
			}
		}
	}
	c := newCursor(s.segs)
	c.skipTo(l.tree.Size(), s.bytes)
	defer l.workers.Wait()
	for c.index < size {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		readErr := l.read(c, size)
		most := 2 * runtime.GOMAXPROCS(0)
		if readErr != nil || c.index >= size {
			most = 0
		}
		for len(l.queue) > most {
			if err := l.take(); err != nil {
				return nil, err
			}
		}
		if readErr != nil {
			return nil, readErr
		}
	}
	keepRoot(&l.tree, roots)
	return c, nil
}

// loader reads the lines of open segments in batches.
type loader struct {
	s       *store
	tree    merkle.Tree
	roots   map[int64]merkle.Hash
	workers sync.WaitGroup
	queue   []*batch // that are worked on, the oldest first
	spare   []*batch
}

// batch is some lines of one segment.
type batch struct {
	seg    *segment
	first  int64    // index of the first line
	off    []uint32 // where they begin in the file
	stored []merkle.Hash
	buf    []byte   // the lines, with one byte before each
	ends   []int    // where they end in buf
	msgs   [][]byte // they with that byte

	// What the worker makes of them.
	leaves  []merkle.Hash
	entries []Entry
	errs    []error
	done    chan struct{}
}

// loadBytes bounds a batch of long lines: as many batches as processors are in
// memory twice over.
const loadBytes = 1 << 20

// read takes a batch from the cursor and gives it to a worker. Also after an
// error the lines before it count.
func (l *loader) read(c *cursor, size int64) error {
	b := &batch{done: make(chan struct{}, 1)}
	if n := len(l.spare); n > 0 {
		b, l.spare = l.spare[n-1], l.spare[:n-1]
	}
	b.first, b.seg = c.index, nil
	b.off, b.stored, b.buf, b.ends = b.off[:0], b.stored[:0], b.buf[:0], b.ends[:0]
	var err error
	for len(b.off) < groupLen && len(b.buf) < loadBytes && c.index < size {
		if b.seg != nil && c.off >= b.seg.size {
			break // the next line is in another segment
		}
		var line []byte
		var stored merkle.Hash
		if line, stored, err = c.next(size); err != nil {
			break
		}
		b.seg = c.seg()
		b.off = append(b.off, uint32(c.off-int64(len(line))-1))
		b.stored = append(b.stored, stored)
		b.buf = append(append(b.buf, 0), line...)
		b.ends = append(b.ends, len(b.buf))
	}
	if len(b.off) > 0 {
		l.queue = append(l.queue, b)
		l.workers.Go(b.work)
	}
	return err
}

// work hashes and parses the lines.
func (b *batch) work() {
	n := len(b.off)
	b.msgs, b.entries, b.errs = b.msgs[:0], b.entries[:0], b.errs[:0]
	b.leaves = append(b.leaves[:0], b.stored...) // for the length
	start := 0
	for _, end := range b.ends[:n] {
		b.msgs = append(b.msgs, b.buf[start:end])
		start = end
	}
	merkle.HashAllPrefixed(b.leaves, b.msgs)
	for _, msg := range b.msgs {
		e, err := header(msg[1:])
		b.entries, b.errs = append(b.entries, e), append(b.errs, err)
	}
	b.done <- struct{}{}
}

// take waits for the oldest batch and takes its entries in.
func (l *loader) take() error {
	b := l.queue[0]
	l.queue = l.queue[1:]
	<-b.done
	for i, leaf := range b.leaves {
		if leaf != b.stored[i] {
			return hashMismatch(b.seg.path(), b.first+int64(i), b.stored[i], leaf)
		}
		if b.errs[i] != nil {
			return &TamperError{Path: b.seg.path(), Index: b.first + int64(i), Reason: b.errs[i].Error()}
		}
		b.seg.idx.add(&b.entries[i], mustID(b.entries[i].ID), b.off[i])
		l.s.bytes += int64(len(b.msgs[i])) // with its newline
	}
	b.seg.leaves.add(b.leaves)
	l.extend(b.leaves)
	clear(b.entries)
	l.spare = append(l.spare, b)
	return nil
}

// extend adds leaves to the tree, and notes the roots on the way.
func (l *loader) extend(leaves []merkle.Hash) {
	from, to := l.tree.Size(), l.tree.Size()+int64(len(leaves))
	for size := range l.roots {
		if size >= from && size < to {
			for _, leaf := range leaves {
				keepRoot(&l.tree, l.roots)
				l.tree.Append(leaf)
			}
			return
		}
	}
	l.tree.AppendAll(leaves)
}

// keepRoot notes the root of tree if it has one of the sizes asked for.
func keepRoot(tree *merkle.Tree, roots map[int64]merkle.Hash) {
	if _, ok := roots[tree.Size()]; ok {
		roots[tree.Size()] = tree.Root()
	}
}
