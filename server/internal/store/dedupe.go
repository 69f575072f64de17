package store

import (
	"crypto/sha256"
	"sync"
)

// maxBatchIDs bounds the ids kept, 32 bytes each. A sender retries within
// minutes; a million batches are hours at the rate that one server takes.
const maxBatchIDs = 1_000_000

// batches knows the batches that were stored and those that are being stored.
type batches struct {
	mu   sync.Mutex
	done map[[sha256.Size]byte]struct{}
	ring [][sha256.Size]byte // ids in the order of their storing, a ring once full
	at   int                 // where the ring's oldest id stands
	busy map[[sha256.Size]byte]chan struct{}
}

func newBatches() *batches {
	return &batches{done: map[[sha256.Size]byte]struct{}{}, busy: map[[sha256.Size]byte]chan struct{}{}}
}

// claim reports whether the batch is stored. If not, the caller stores it, and
// others with the same batch wait until it has called release, saying whether
// it was stored: a client that lost patience may send a batch again while the
// first one is on its way to the disk.
func (b *batches) claim(id [sha256.Size]byte) (known bool, release func(stored bool)) {
	for {
		b.mu.Lock()
		if _, ok := b.done[id]; ok {
			b.mu.Unlock()
			return true, func(bool) {}
		}
		wait, busy := b.busy[id]
		if !busy {
			ch := make(chan struct{})
			b.busy[id] = ch
			b.mu.Unlock()
			return false, func(stored bool) { b.release(id, ch, stored) }
		}
		b.mu.Unlock()
		<-wait
	}
}

func (b *batches) release(id [sha256.Size]byte, ch chan struct{}, stored bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.busy, id)
	close(ch)
	if !stored {
		return
	}
	b.done[id] = struct{}{}
	if len(b.ring) < maxBatchIDs {
		b.ring = append(b.ring, id)
		return
	}
	delete(b.done, b.ring[b.at])
	b.ring[b.at] = id
	b.at = (b.at + 1) % len(b.ring)
}

// turnstile lets callers through in the order of their sequences, from 1. Two
// spans with one id are a matter of order, and it has to come out the same when
// the log is read again.
type turnstile struct {
	mu   sync.Mutex
	cond *sync.Cond
	next uint64 // 0 stands for 1
}

func (t *turnstile) wait(seq uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.cond == nil {
		t.cond = sync.NewCond(&t.mu)
	}
	for max(t.next, 1) != seq {
		t.cond.Wait()
	}
}

func (t *turnstile) leave() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.next = max(t.next, 1) + 1
	t.cond.Broadcast()
}

func (t *turnstile) skipTo(seq uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.next = seq
}
