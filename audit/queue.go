package audit

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"time"

	"github.com/oklog/ulid/v2"
)

// Bounds of the queue and of what becomes durable at once.
const (
	// MaxBatchEntries and MaxBatchBytes (of lines) bound one AppendBatch, and
	// so one group: it must fit a section of the ring.
	MaxBatchEntries = 4096
	MaxBatchBytes   = 2 << 20
	// The queue holds two groups: one more than is being written.
	maxQueueEntries = 2 * MaxBatchEntries
	maxQueueBytes   = 2 * MaxBatchBytes
)

// write is one call of an append method on its way through the committer. One
// without entries is a marker of Flush.
type write struct {
	entries []Entry // without details and metadata
	ids     []ulid.ULID
	buf     []byte // lines, each with its newline
	ends    []int
	leaves  [][32]byte
	async   bool // nobody waits

	// Set by the committer before it closes done.
	receipts []Receipt
	err      error
	done     chan struct{}
}

// queue is where callers hand writes to the committer. It is bounded: put
// waits for room, tryPut refuses.
type queue struct {
	groupBytes int // what fits one group

	mu      sync.Mutex // guards what follows
	items   []*write
	entries int
	bytes   int
	closed  error
	room    chan struct{} // closed when the committer has taken something
	filled  chan struct{} // holds one token while there is something to take
}

func newQueue(sectionBytes int64) *queue {
	fits := int(sectionBytes) - frameHeaderLen
	return &queue{groupBytes: min(MaxBatchBytes, fits), room: make(chan struct{}), filled: make(chan struct{}, 1)}
}

// put waits for room. An error means that w was not queued.
func (q *queue) put(ctx context.Context, w *write) error {
	for {
		room, err := q.offer(w)
		if room == nil {
			return err
		}
		select {
		case <-room:
		case <-ctx.Done():
			return fmt.Errorf("queue full: %w", context.Cause(ctx))
		}
	}
}

func (q *queue) tryPut(w *write) error {
	room, err := q.offer(w)
	if room != nil {
		return ErrFull
	}
	return err
}

// offer queues w, or returns the channel to wait on if there is no room.
func (q *queue) offer(w *write) (room chan struct{}, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed != nil {
		return nil, q.closed
	}
	if len(w.buf) > q.groupBytes {
		return nil, &EntryError{Field: "batch", Reason: fmt.Sprintf("%d bytes, at most %d", len(w.buf), q.groupBytes)}
	}
	if q.entries+len(w.ends) > maxQueueEntries || q.bytes+len(w.buf) > maxQueueBytes {
		return q.room, nil
	}
	q.items = append(q.items, w)
	q.entries += len(w.ends)
	q.bytes += len(w.buf)
	if len(q.items) == 1 {
		q.signal()
	}
	return nil, nil
}

func (q *queue) signal() {
	select {
	case q.filled <- struct{}{}:
	default:
	}
}

// close lets nothing more in: callers get err. What is queued stays.
func (q *queue) close(err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed != nil {
		return
	}
	q.closed = err
	close(q.room)
	q.room = make(chan struct{})
	q.signal()
}

func (q *queue) len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.entries
}

// take waits for writes and returns as many as fit one group; false once the
// queue is closed and empty.
func (q *queue) take(delay time.Duration) ([]*write, bool) {
	for {
		<-q.filled
		if delay > 0 {
			time.Sleep(delay)
		}
		q.settle()
		if ws, open := q.pop(); len(ws) > 0 || !open {
			return ws, open
		}
	}
}

// settle lets running callers join the group: writers that were answered
// together come back together, and yielding while the queue grows doubles the
// group (31 to 57 entries with 64 writers, measured) at the price of a few
// microseconds.
func (q *queue) settle() {
	const tries = 8
	for n, i := q.len(), 0; i < tries; i++ {
		runtime.Gosched()
		grown := q.len()
		if grown == n {
			return
		}
		n = grown
	}
}

func (q *queue) pop() (ws []*write, open bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	n, entries, bytes := 0, 0, 0
	for n < len(q.items) {
		w := q.items[n]
		if n > 0 && (entries+len(w.ends) > MaxBatchEntries || bytes+len(w.buf) > q.groupBytes) {
			break
		}
		n, entries, bytes = n+1, entries+len(w.ends), bytes+len(w.buf)
	}
	ws = q.items[:n:n]
	q.items = append([]*write(nil), q.items[n:]...)
	q.entries -= entries
	q.bytes -= bytes
	if n > 0 {
		close(q.room)
		q.room = make(chan struct{})
	}
	if len(q.items) > 0 || q.closed != nil {
		q.signal()
	}
	return ws, len(q.items) > 0 || n > 0 || q.closed == nil
}
