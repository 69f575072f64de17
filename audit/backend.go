package audit

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"github.com/kaizen-go/kaizen/internal/merkle"
)

// Backend is a ledger, wherever it keeps its entries. [*Ledger] keeps them in
// files; others are in the server's module (PostgreSQL, an S3-compatible object
// store, shards). All of them write the same lines, the same tree and the same
// signed checkpoints, so an entry can move between them without losing its
// index or a proof. kaizentest.TestLedger checks that one behaves as described
// here. All methods may be called at once.
type Backend interface {
	// Append and AppendBatch are [Ledger.Append] and [Ledger.AppendBatch].
	Append(ctx context.Context, e Entry) (Receipt, error)
	AppendBatch(ctx context.Context, entries []Entry) ([]Receipt, error)
	// Flush returns when everything that was appended before the call, here or
	// by another process, is covered by Checkpoint.
	Flush(ctx context.Context) error

	// Get, Query, Count and Proof are those of [Ledger].
	Get(ctx context.Context, index int64) (Entry, error)
	Query(ctx context.Context, q Query) iter.Seq2[Entry, error]
	Count(ctx context.Context, q Query) (int64, error)
	Proof(index int64) (Proof, error)
	// Consistency, Tile and Bundle are those of [Ledger]: what other programs
	// need to follow the tree.
	Consistency(from, to int64) ([][32]byte, error)
	Tile(level int, index int64, width int) ([]byte, error)
	Bundle(ctx context.Context, index int64, width int) ([]byte, error)

	// Governor has Erase, Hold, Release and Holds.
	Governor

	// Checkpoint is the newest signed one that this process has seen, Size its
	// number of entries.
	Checkpoint() Checkpoint
	Size() int64
	// Origin and VerifierKey name the ledger and the key of its checkpoints.
	Origin() string
	VerifierKey() string
	// RotateKey, VerifierKeys and KeyRanges are those of [Ledger]: a new key while
	// the ledger is open, and those before it. Processes that share the ledger follow
	// as soon as the new private key is where they look for it.
	RotateKey(ctx context.Context) (previous, vkey string, err error)
	VerifierKeys() ([]string, error)
	KeyRanges() ([]KeyRange, error)
	// Stats and Witnessed are those of [Ledger].
	Stats() Stats
	Witnessed() Checkpoint

	// Lines yields the stored lines from index on, without newline, as far as
	// Checkpoint covers them when the iteration begins. A line is valid until
	// the next one. The last pair has an error and no line if reading failed.
	Lines(ctx context.Context, from int64) iter.Seq2[[]byte, error]
	// Import appends lines that another ledger of the same origin and key has
	// stored at these indexes, as they are: see [Copy]. The first must come
	// right after the last entry here, or it fails with [ErrPosition]. At most
	// [MaxBatchEntries] and [MaxBatchBytes] at a time.
	Import(ctx context.Context, first int64, lines [][]byte) error

	// Close writes what is queued and releases what the ledger holds.
	Close() error
}

var _ Backend = (*Ledger)(nil)

// ErrPosition means that lines to import do not continue the ledger where it
// ends.
var ErrPosition = errors.New("lines do not continue the ledger")

// Source is what entries can be copied from: a [Backend], or a [*Reader].
type Source interface {
	Origin() string
	VerifierKey() string
	Checkpoint() Checkpoint
	Lines(ctx context.Context, from int64) iter.Seq2[[]byte, error]
}

var (
	_ Source = (*Ledger)(nil)
	_ Source = (*Reader)(nil)
)

// Copy brings the entries of src to dst, line by line, so that every index,
// every proof and every checkpoint of src holds for dst too. The two must have
// the same origin and key, which is given to dst when it is created. An
// interrupted copy can be repeated: what dst holds already is compared by its
// root, not written again.
//
// Nobody may append to src meanwhile, and afterwards only one of the two may be
// appended to: two ledgers that go on under one key are a fork. Progress, if
// not nil, is called now and then with the number of entries done, and how many
// there are. A [*TamperError] says that src is not what its checkpoint says, or
// that dst holds something else.
func Copy(ctx context.Context, dst Backend, src Source, progress func(done, total int64)) error {
	if err := copyLines(ctx, dst, src, progress); err != nil {
		return fmt.Errorf("audit: copy %s: %w", src.Origin(), err)
	}
	return nil
}

func copyLines(ctx context.Context, dst Backend, src Source, progress func(done, total int64)) error {
	if src.VerifierKey() != dst.VerifierKey() {
		return fmt.Errorf("target has the key %s, want %s", dst.VerifierKey(), src.VerifierKey())
	}
	if err := dst.Flush(ctx); err != nil {
		return err
	}
	head := src.Checkpoint()
	c := copier{ctx: ctx, dst: dst, have: dst.Checkpoint(), total: head.Size, progress: progress}
	if c.have.Size > head.Size {
		return rollback(head.Size, c.have.Size)
	}
	if c.have.Size == 0 {
		c.have.Root = merkle.EmptyRoot()
	}
	if err := c.compare(); err != nil {
		return err
	}
	for line, err := range src.Lines(ctx, 0) {
		if err == nil {
			err = c.take(line)
		}
		if err != nil {
			return err
		}
		if c.tree.Size() == head.Size {
			break
		}
	}
	if err := c.flush(); err != nil {
		return err
	}
	if got := c.tree.Root(); got != head.Root {
		return rootMismatch(checkpointName, head.Root, got)
	}
	if err := dst.Flush(ctx); err != nil {
		return err
	}
	if got := dst.Checkpoint(); got.Size != head.Size || got.Root != head.Root {
		return rootMismatch("target", head.Root, got.Root)
	}
	return nil
}

// copier carries lines to dst in batches, and keeps the tree of all it saw.
type copier struct {
	ctx      context.Context
	dst      Backend
	have     Checkpoint // what dst holds already
	total    int64
	progress func(done, total int64)

	tree  merkle.Tree
	batch [][]byte
	bytes int
}

// copyBatch is how many lines are imported at once: a transaction of about 1 MB.
const copyBatch = 2000

func (c *copier) take(line []byte) error {
	c.tree.Append(merkle.HashLeaf(line))
	if c.tree.Size() <= c.have.Size {
		return c.compare()
	}
	if c.bytes+len(line)+1 > MaxBatchBytes {
		if err := c.flush(); err != nil {
			return err
		}
	}
	c.batch = append(c.batch, append([]byte(nil), line...))
	c.bytes += len(line) + 1
	if len(c.batch) == copyBatch {
		return c.flush()
	}
	return nil
}

// compare checks what dst held before, once the tree has its size.
func (c *copier) compare() error {
	if c.tree.Size() == c.have.Size && c.tree.Root() != c.have.Root {
		return rootMismatch("target", c.tree.Root(), c.have.Root)
	}
	c.tell()
	return context.Cause(c.ctx)
}

// flush imports the batch, which ends at most one line before the tree does.
func (c *copier) flush() error {
	if len(c.batch) == 0 {
		return nil
	}
	first := c.have.Size
	if err := c.dst.Import(c.ctx, first, c.batch); err != nil {
		return err
	}
	c.have.Size += int64(len(c.batch))
	c.batch, c.bytes = nil, 0
	c.tell()
	return nil
}

func (c *copier) tell() {
	const interval = 2000
	if n := c.tree.Size(); c.progress != nil && (n%interval == 0 || n == c.total) {
		c.progress(n, c.total)
	}
}

// Lines implements [Backend].
func (l *Ledger) Lines(ctx context.Context, from int64) iter.Seq2[[]byte, error] {
	return l.store.lines(ctx, from)
}

// Lines is [Ledger.Lines], of the entries that the reader shows.
func (r *Reader) Lines(ctx context.Context, from int64) iter.Seq2[[]byte, error] {
	return r.store.lines(ctx, from)
}

func (s *store) lines(ctx context.Context, from int64) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		for i, size := max(from, 0), s.checkpoint().Size; i < size; i++ {
			err := context.Cause(ctx)
			var line []byte
			if err == nil {
				line, err = s.rawLine(i)
			}
			if err != nil {
				yield(nil, fmt.Errorf("audit: line %d: %w", i, err))
				return
			}
			if !yield(line, nil) {
				return
			}
		}
	}
}

// Import implements [Backend].
func (l *Ledger) Import(ctx context.Context, first int64, lines [][]byte) error {
	if len(lines) == 0 {
		return nil
	}
	entries, err := stored(lines)
	if err != nil {
		return fmt.Errorf("audit: import: %w", err)
	}
	if have := l.Size(); have != first {
		return fmt.Errorf("audit: import entry %d: %w: it has %d entries", first, ErrPosition, have)
	}
	w := l.writes.take()
	if err := w.encode(entries); err != nil { // a line has one spelling: it comes out as it was
		w.release(2)
		return fmt.Errorf("audit: import: %w", err)
	}
	w.placed, w.first = true, first
	if err := l.submit(ctx, w); err != nil {
		return fmt.Errorf("audit: import entry %d: %w", first, err)
	}
	defer w.release(1)
	for i, r := range w.receipts {
		if want := first + int64(i); r.Index != want || r.Duplicate {
			return fmt.Errorf("audit: import entry %d: %w: it went to %d", want, ErrPosition, r.Index)
		}
	}
	return nil
}

// stored reads lines that are stored elsewhere already.
func stored(lines [][]byte) ([]Entry, error) {
	entries := make([]Entry, len(lines))
	for i, line := range lines {
		var err error
		if entries[i], err = DecodeLine(line); err != nil {
			return nil, err
		}
	}
	return entries, nil
}
