package audit

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
)

// maxBacklogBytes of lines may wait to be sealed before appends wait for that,
// and at least two full segments. Their index takes a sixth of it in memory: 43
// MiB for lines of 590 bytes, and 4 more in a ledger whose callers make up ids,
// which with the 15 MiB of all else stays below 64.
const maxBacklogBytes = 256 << 20

// backlog is the full segments that wait to be sealed: what bounds the memory
// of a ledger that takes entries in faster than it compresses them. It holds
// callers up only while segments are being sealed, so that it ends by itself: a
// ledger that cannot seal, or copies to its archive, goes on recording.
type backlog struct {
	limit  int64 // of bytes
	first  func()
	closed atomic.Bool  // as below, for a look without the lock
	waits  atomic.Int64 // appends that were held up or refused

	mu      sync.Mutex // guards what follows
	bytes   int64
	sealing bool
	room    chan struct{} // closed when appends may go on; nil while they may
	told    bool
}

func newBacklog(cfg *Config, first func()) *backlog {
	limit := max(maxBacklogBytes, 2*cfg.segmentBytes)
	if cfg.backlogBytes > 0 {
		limit = cfg.backlogBytes
	}
	return &backlog{limit: limit, first: first}
}

// set says how much waits.
func (b *backlog) set(bytes int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.bytes = bytes
	b.look()
}

// seal says whether segments are being sealed.
func (b *backlog) seal(now bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.sealing = now
	b.look()
}

// look opens or closes the way. The caller holds mu.
func (b *backlog) look() {
	switch closed := b.sealing && b.bytes > b.limit; {
	case closed && b.room == nil:
		b.room = make(chan struct{})
		b.closed.Store(true)
	case !closed && b.room != nil:
		b.closed.Store(false)
		close(b.room)
		b.room = nil
	}
}

func (b *backlog) size() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.bytes
}

// full is the channel to wait on, or nil if there is nothing to wait for.
func (b *backlog) full() <-chan struct{} {
	if !b.closed.Load() {
		return nil
	}
	b.mu.Lock()
	room, first := b.room, b.room != nil && !b.told
	b.told = b.told || first
	b.mu.Unlock()
	if room == nil {
		return nil
	}
	b.waits.Add(1)
	if first {
		b.first()
	}
	return room
}

// wait holds a caller up while too much waits to be sealed.
func (b *backlog) wait(ctx context.Context) error {
	room := b.full()
	if room == nil {
		return nil
	}
	select {
	case <-room:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("segments wait to be sealed: %w", context.Cause(ctx))
	}
}

// unsealed is the size of the full segments that are not sealed. The caller
// holds mu.
func (s *store) unsealed() (bytes int64) {
	for _, seg := range s.segs[:len(s.segs)-1] {
		bytes += seg.size
	}
	return bytes
}
