package audit

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
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
	// quiet is how long nobody came back when nobody is expected to.
	quiet = 15 * time.Microsecond
	// maxLooks ends the waiting where the clock stands still, as in the bubbles of
	// testing/synctest. Elsewhere quiet is over long before.
	maxLooks = 2000
	// crowdBytes is how large the group before must have been for it to matter on
	// which processors its callers run.
	crowdBytes = 16 << 10
)

// queue is where callers hand writes to whoever commits: the caller that found
// nobody at it, or the committer's goroutine. It is bounded: put waits for
// room, tryPut refuses.
type queue struct {
	groupBytes int           // what fits one group
	wake       chan struct{} // one token hands the turn to the committer's goroutine

	// missing are the callers that were answered last and have not come back.
	missing atomic.Int64
	// comeBack puts a token into back: see giveWay.
	comeBack func()
	back     chan struct{}

	mu      sync.Mutex // guards what follows
	items   []*write
	entries int
	bytes   int
	busy    bool // somebody has the turn to commit
	closed  error
	room    chan struct{} // closed when something was taken; nil while nobody waits
}

func newQueue(sectionBytes int64) *queue {
	fits := int(sectionBytes) - frameHeaderLen
	q := &queue{groupBytes: min(MaxBatchBytes, fits), wake: make(chan struct{}, 1), back: make(chan struct{}, 1)}
	q.comeBack = func() { q.back <- struct{}{} }
	return q
}

// put waits for room. If nobody has the turn, lead says that the caller has it
// now. An error means that w was not queued.
func (q *queue) put(ctx context.Context, w *write) (lead bool, err error) {
	for {
		room, lead, err := q.offer(w)
		if room == nil {
			return lead, err
		}
		select {
		case <-room:
		case <-ctx.Done():
			return false, fmt.Errorf("queue full: %w", context.Cause(ctx))
		}
	}
}

// tryPut does not wait, and gives the turn to the committer's goroutine.
func (q *queue) tryPut(w *write) error {
	room, lead, err := q.offer(w)
	if room != nil {
		return ErrFull
	}
	if lead {
		q.wake <- struct{}{}
	}
	return err
}

// offer queues w, or returns the channel to wait on if there is no room.
func (q *queue) offer(w *write) (room chan struct{}, lead bool, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed != nil {
		return nil, false, q.closed
	}
	if len(w.buf) > q.groupBytes {
		return nil, false, &EntryError{Field: "batch", Reason: fmt.Sprintf("%d bytes, at most %d", len(w.buf), q.groupBytes)}
	}
	if q.entries+len(w.ends) > maxQueueEntries || q.bytes+len(w.buf) > maxQueueBytes {
		if q.room == nil {
			q.room = make(chan struct{})
		}
		return q.room, false, nil
	}
	q.items = append(q.items, w)
	q.entries += len(w.ends)
	q.bytes += len(w.buf)
	if !w.async {
		q.missing.Add(-1)
	}
	lead, q.busy = !q.busy, true
	return nil, lead, nil
}

// close lets nothing more in: callers get err. What is queued stays.
func (q *queue) close(err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed != nil {
		return
	}
	q.closed = err
	q.makeRoom()
	if !q.busy { // whoever has the turn passes it on
		q.busy = true
		q.wake <- struct{}{}
	}
}

// makeRoom lets those who wait for room try again. The caller holds mu.
func (q *queue) makeRoom() {
	if q.room != nil {
		close(q.room)
		q.room = nil
	}
}

func (q *queue) len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.entries
}

// pass gives up the turn: to the committer's goroutine if there is something
// to do for it.
func (q *queue) pass() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.items) == 0 && q.closed == nil {
		q.busy = false
		return
	}
	q.wake <- struct{}{}
}

// idle gives up the turn if there is nothing to do. done says that there never
// will be.
func (q *queue) idle() (idle, done bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.items) > 0 {
		return false, false
	}
	q.busy = q.closed != nil
	return true, q.closed != nil
}

// settle lets the callers that were just answered join the next group. They
// come back together, and those that come too late have to wait for two
// flushes. It waits while they keep coming, and no longer than one flush and a
// half. Flush is what the last one took, and bytes what it wrote.
func (q *queue) settle(flush time.Duration, bytes int) {
	missing := q.missing.Load()
	if missing <= 0 {
		return
	}
	start := time.Now()
	last := start
	coming := true // somebody came since the last look
	crowd := bytes >= crowdBytes
	for looks := 0; looks < maxLooks; looks++ {
		if coming && crowd {
			q.giveWay()
		} else {
			runtime.Gosched()
		}
		n, now := q.missing.Load(), time.Now()
		if n <= 0 || now.Sub(start) > flush*3/2 {
			return
		}
		if coming = n < missing; coming {
			missing, last, looks = n, now, 0
		} else if now.Sub(last) > quiet {
			return
		}
	}
}

// giveWay lets those goroutines run that stand in the queue of this processor,
// where the callers are that were just answered, and comes back behind them.
// Gosched would put this one into the queue that the processors share. There the
// others look before they take anything off this one's: they would run nothing
// but settle, and leave the callers to this one (64 callers came back within
// 110 us instead of 80). A new goroutine stands in front of the queue, and the one
// that stood there goes to its end: so the second sends the first behind all.
func (q *queue) giveWay() {
	go q.comeBack()
	go func() {}()
	<-q.back
}

// expect says that n callers are about to be answered.
func (q *queue) expect(n int) { q.missing.Store(int64(n)) }

// take appends to ws as many writes as fit one group.
func (q *queue) take(ws []*write) []*write {
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
	ws = append(ws, q.items[:n]...)
	rest := copy(q.items, q.items[n:])
	clear(q.items[rest:])
	q.items = q.items[:rest]
	q.entries -= entries
	q.bytes -= bytes
	if n > 0 {
		q.makeRoom()
	}
	return ws
}
