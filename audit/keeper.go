package audit

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kaizen-go/kaizen/internal/durable"
)

// keeper does the ledger's slow work behind the committer: it syncs the
// segments, so that sections of the ring can be used again, and publishes the
// checkpoint file, which never names more than is durable in the segments.
type keeper struct {
	l        *Ledger
	every    time.Duration
	woken    chan struct{}   // a section of the ring is complete, or all failed
	requests chan chan error // publish now
	stopping chan struct{}
	done     sync.WaitGroup
	stopped  chan struct{}
	// held keeps it from publishing: a restore that was accepted is not in the
	// ledger yet.
	held atomic.Bool

	mu        sync.Mutex // guards what follows
	changed   *sync.Cond
	durable   int64 // entries synced in the segments
	published int64 // entries under the checkpoint file
}

func newKeeper(l *Ledger, size int64, every time.Duration) *keeper {
	k := &keeper{
		l: l, every: every, woken: make(chan struct{}, 1), requests: make(chan chan error),
		stopping: make(chan struct{}), stopped: make(chan struct{}), durable: size, published: size,
	}
	k.changed = sync.NewCond(&k.mu)
	return k
}

func (k *keeper) start() { k.done.Go(k.run) }

func (k *keeper) run() {
	defer close(k.stopped)
	tick := time.NewTicker(k.every)
	defer tick.Stop()
	for {
		select {
		case <-k.woken:
			k.settle(false)
		case <-tick.C:
			k.settle(true)
		case reply := <-k.requests:
			reply <- k.settle(true)
		case <-k.stopping:
			return
		}
	}
}

// stop ends the goroutine and then publishes what is left.
func (k *keeper) stop() error {
	close(k.stopping)
	k.done.Wait()
	return k.settle(true)
}

// wake asks for the segments to be synced soon. It does not wait.
func (k *keeper) wake() {
	k.mu.Lock()
	k.changed.Broadcast() // after a failure nobody must go on waiting
	k.mu.Unlock()
	select {
	case k.woken <- struct{}{}:
	default: // somebody asked already, and that is still to come
	}
}

// publish brings the checkpoint file up to date.
func (k *keeper) publish(ctx context.Context) error {
	reply := make(chan error, 1)
	select {
	case k.requests <- reply:
	case <-k.stopped: // Close publishes
		return ErrClosed
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	select {
	case err := <-reply:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// durableTo is how many entries are synced in the segments.
func (k *keeper) durableTo() int64 {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.durable
}

// waitDurable waits until size entries are synced in the segments. It is the
// back-pressure of a disk that cannot keep up with the ring.
func (k *keeper) waitDurable(size int64) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	for k.durable < size {
		if err := k.l.failed(); err != nil {
			return err
		}
		k.changed.Wait()
	}
	return nil
}

// errHeld leaves a ledger as a crash would: with its ring, for the next Open to
// refuse or to accept.
var errHeld = errors.New("a restore that was accepted is not in the ledger yet")

// settle syncs the segments and, if asked, publishes the checkpoint. An error
// fails the ledger: what a failed sync left behind is unknown.
func (k *keeper) settle(publish bool) error {
	if err := k.l.failed(); err != nil {
		return err
	}
	head, err := k.l.store.sync()
	if err == nil {
		k.mu.Lock()
		k.durable = max(k.durable, head.Size)
		grown := head.Size > k.published
		k.changed.Broadcast()
		k.mu.Unlock()
		if publish && grown && k.held.Load() {
			return errHeld
		}
		if publish && grown {
			if err = k.replace(head); durable.IsNoSpace(err) {
				// The old checkpoint stands, and what it does not cover is
				// durable in the segments: the next attempt may do better.
				return fmt.Errorf("%w: %w", ErrNoSpace, err)
			}
		}
	}
	if err != nil {
		return k.l.fail(err)
	}
	return nil
}

func (k *keeper) replace(head Checkpoint) error {
	s := k.l.store
	if err := durable.ReplaceFile(s.fsys, filepath.Join(s.dir, checkpointName), []byte(head.Note)); err != nil {
		return fmt.Errorf("publish checkpoint: %w", err)
	}
	k.mu.Lock()
	k.published = head.Size
	k.mu.Unlock()
	k.l.outward.publishedNow(head)
	return nil
}

// sync makes all lines durable, and returns the checkpoint that covers them.
// Segments before the last were synced when they were full.
func (s *store) sync() (Checkpoint, error) {
	s.mu.RLock()
	head, seg, broken := s.head, s.segs[len(s.segs)-1], s.broken
	s.mu.RUnlock()
	if broken != nil { // head is not all that was acknowledged
		return Checkpoint{}, broken
	}
	if err := s.syncSegment(seg); err != nil {
		return Checkpoint{}, fmt.Errorf("sync segment: %w", err)
	}
	return head, nil
}

// syncSegment makes what is in seg durable. After one sync has failed every
// other fails too: the system forgets the pages that it could not write, and
// whoever syncs next is told that all is well.
func (s *store) syncSegment(seg *segment) error {
	s.syncMu.Lock()
	defer s.syncMu.Unlock()
	if s.syncErr == nil {
		s.syncErr = errors.Join(seg.lines.Sync(), seg.hashes.Sync())
	}
	return s.syncErr
}

// removeSynced removes a file for good.
func removeSynced(fsys durable.FS, dir, name string) error {
	name = filepath.Join(dir, name)
	if err := fsys.Remove(name); err != nil {
		return err
	}
	return fsys.SyncDir(filepath.Dir(name))
}
