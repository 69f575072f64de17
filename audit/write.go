package audit

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/kaizen-go/kaizen/internal/merkle"
)

// maxKept is the largest buffer that goes back to the pool.
const maxKept = 256 << 10

// write is one call of an append method on its way through the committer. One
// without entries is a marker of Flush. It comes from a pool, and goes back
// when both its caller and the committer have let go of it.
type write struct {
	entries []Entry // without details and metadata
	ids     []ulid.ULID
	buf     []byte // lines, each with its newline
	ends    []int
	leaves  [][32]byte
	lines   [][]byte // scratch of hash
	text    []byte   // ids that were made up
	named   bool     // the caller gave an id, which may be in the ledger already
	async   bool     // nobody waits
	placed  bool     // the first entry belongs at index first, or nowhere
	first   int64

	// Set by the committer before it puts a token into done.
	receipts []Receipt
	err      error
	done     chan struct{}

	home   *writePool
	owners atomic.Int32
}

// writePool is where a ledger's writes come from. Each ledger has its own: the
// channels of one that was opened in a bubble of testing/synctest cannot be used
// outside.
type writePool struct{ pool sync.Pool }

// take returns an empty write that belongs to its caller and, once it is
// queued, to the committer as well.
func (p *writePool) take() *write {
	w, ok := p.pool.Get().(*write)
	if !ok {
		w = &write{done: make(chan struct{}, 1), home: p}
	}
	w.owners.Store(2)
	return w
}

// release lets go of w for one or both of its owners.
func (w *write) release(owners int32) {
	if w.owners.Add(-owners) > 0 || cap(w.buf) > maxKept {
		return
	}
	clear(w.entries) // the pool must not keep callers' strings alive
	clear(w.receipts)
	w.entries, w.ids, w.buf = w.entries[:0], w.ids[:0], w.buf[:0]
	w.ends, w.leaves, w.receipts = w.ends[:0], w.leaves[:0], w.receipts[:0]
	w.named, w.async, w.placed, w.err = false, false, false, nil
	select {
	case <-w.done: // its caller had stopped waiting
	default:
	}
	w.home.pool.Put(w)
}

// finish tells the caller of w that receipts, or err, are set.
func (w *write) finish() { w.done <- struct{}{} }

// wait returns when w is durable, see commit, or refused, or when ctx has ended.
func (w *write) wait(ctx context.Context) error {
	ended := ctx.Done()
	if ended == nil { // at half the cost of a select
		<-w.done
		return w.err
	}
	select {
	case <-w.done:
		return w.err
	case <-ended:
		return fmt.Errorf("%w: %w", ErrUnconfirmed, context.Cause(ctx))
	}
}

// encode checks and encodes entries: in the caller, so that this work is
// spread over its goroutines.
func (w *write) encode(entries []Entry) error {
	if len(entries) > MaxBatchEntries {
		return &EntryError{Field: "batch", Reason: fmt.Sprintf("%d entries, at most %d", len(entries), MaxBatchEntries)}
	}
	w.entries = append(w.entries, entries...)
	now := time.Now() // one look at the clock for all: it takes 50 ns and more
	w.identify(now)
	for i := range w.entries {
		if err := w.add(i, now); err != nil {
			return err
		}
	}
	w.hash()
	return nil
}

// hash makes the leaves of the lines: of several side by side.
func (w *write) hash() {
	n := len(w.ends)
	if n == 0 {
		return
	}
	w.leaves = slices.Grow(w.leaves, n)[:n]
	w.leaves[0] = merkle.HashLeaf(w.buf[:w.ends[0]-1])
	if n == 1 {
		return
	}
	// The newline before each of the others gives its place to the prefix.
	w.lines = w.lines[:0]
	for i, start := range w.ends[:n-1] {
		w.lines = append(w.lines, w.buf[start-1:w.ends[i+1]-1])
	}
	merkle.HashAllPrefixed(w.leaves[1:], w.lines)
	for _, line := range w.lines {
		line[0] = '\n'
	}
}

// identify makes up the ids that are missing: all in one piece of text, which
// is one allocation.
func (w *write) identify(now time.Time) {
	ms := ulid.Timestamp(now)
	w.text = w.text[:0]
	for i := range w.entries {
		if w.entries[i].ID != "" {
			w.named = true
			w.ids = append(w.ids, ulid.ULID{}) // once it is checked
			continue
		}
		id := newULID(ms)
		w.ids = append(w.ids, id)
		w.text = slices.Grow(w.text, ulid.EncodedSize)[:len(w.text)+ulid.EncodedSize]
		_ = id.MarshalTextTo(w.text[len(w.text)-ulid.EncodedSize:]) // cannot fail: the room is right
	}
	ids := string(w.text)
	for i := range w.entries {
		if e := &w.entries[i]; e.ID == "" {
			e.ID, ids = ids[:ulid.EncodedSize], ids[ulid.EncodedSize:]
		}
	}
}

// newULID makes an id of a time in milliseconds. It need not be secret, only unique:
// the generator is the runtime's, seeded by the system, at a tenth of the cost
// of asking the system each time.
func newULID(ms uint64) (id ulid.ULID) {
	_ = id.SetTime(ms) // fails in the year 10889
	binary.BigEndian.PutUint16(id[6:], uint16(rand.Uint32()))
	binary.BigEndian.PutUint64(id[8:], rand.Uint64())
	return id
}

// add encodes the i-th of w.entries, which happened now unless it says when.
func (w *write) add(i int, now time.Time) (err error) {
	e := &w.entries[i]
	if e.Time.IsZero() {
		e.Time = now
	}
	if w.buf, err = encodeLine(w.buf, e); err != nil {
		return err
	}
	w.buf = append(w.buf, '\n')
	if len(w.buf) > MaxBatchBytes {
		return &EntryError{Field: "batch", Reason: fmt.Sprintf("more than %d bytes", MaxBatchBytes)}
	}
	w.ends = append(w.ends, len(w.buf))
	e.Details, e.Metadata = nil, nil // encoded; they are the caller's again
	if w.named {
		w.ids[i] = mustID(e.ID)
	}
	return nil
}
