package s3

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"

	"github.com/kaizen-go/kaizen/audit"
)

// derived is an object that follows from the batches.
type derived struct {
	name string
	body []byte
}

// pending are derived objects that are not stored yet. They are stored in their
// order, a state after the pages that it refers to: so a state that is there is
// complete. What cannot be stored now is tried again with the next ones, or made
// again by whoever opens the ledger.
type pending struct {
	mu      sync.Mutex // guards list
	list    []derived
	storing sync.Mutex // held by whoever stores
}

// add queues objects. Of two states the newer one is enough.
func (p *pending) add(list []derived) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, d := range list {
		if strings.HasPrefix(d.name, statePrefix) {
			p.list = slices.DeleteFunc(p.list, func(x derived) bool { return strings.HasPrefix(x.name, statePrefix) })
		}
		p.list = append(p.list, d)
	}
}

func (p *pending) first() (derived, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.list) == 0 {
		return derived{}, false
	}
	return p.list[0], true
}

func (p *pending) remove(name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.list = slices.DeleteFunc(p.list, func(d derived) bool { return d.name == name })
}

func (p *pending) get(name string) ([]byte, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range p.list {
		if p.list[i].name == name {
			return p.list[i].body, true
		}
	}
	return nil, false
}

// object reads a derived object, wherever it is.
func (l *Ledger) object(ctx context.Context, name string) ([]byte, error) {
	if body, ok := l.pending.get(name); ok {
		return body, nil
	}
	return l.bucket.get(ctx, name)
}

// notStored is logged when storePending fails.
const notStored = "derived objects were not stored; they can be made again"

// storePending stores what is queued, up to the first that cannot be stored. If
// somebody does so already it waits, or leaves it to that.
func (l *Ledger) storePending(ctx context.Context, wait bool) error {
	if wait {
		l.pending.storing.Lock()
	} else if !l.pending.storing.TryLock() {
		return nil
	}
	defer l.pending.storing.Unlock()
	var damage error // of the first object that is not as it should be
	for {
		d, ok := l.pending.first()
		if !ok {
			return damage
		}
		created, err := l.bucket.create(ctx, d.name, d.body)
		if err != nil {
			return errors.Join(damage, err)
		}
		k, isState := number(statePrefix, d.name)
		if !created && !isState && damage == nil { // a state another key may have sealed
			damage = &audit.TamperError{Path: d.name, Index: -1, Reason: "object has other bytes than it should"}
		}
		l.pending.remove(d.name) // if somebody else has made it, it stays as it is
		if isState {
			l.stored.Store(max(k, l.stored.Load()))
		}
	}
}

// derive adds to the objects that follow from the batch before next those that
// this process can make alone: the state, if a chunk is full.
func (l *Ledger) derive(list []derived, next int64) ([]derived, error) {
	if next%l.cfg.chunkLen != 0 {
		return list, nil
	}
	d, err := l.snapshot(next / l.cfg.chunkLen)
	if err != nil {
		return list, err
	}
	return append(list, d), nil
}

// after stores what is derived from a batch, without anybody waiting: full
// tiles, a chunk and the state after it, a checkpoint, the pointer.
func (l *Ledger) after(n, base int64, c audit.Checkpoint, list []derived) {
	full := (n+1)%l.cfg.chunkLen == 0
	list, err := l.derive(list, n+1)
	l.pending.add(list)
	publish := base/4096 != c.Size/4096 || n == 0 || full
	if !publish && len(list) == 0 && err == nil {
		return
	}
	l.background.Go(func() {
		errs := []error{err, l.storePending(l.ctx, true)}
		if full {
			errs = append(errs, l.storeChunk(n/l.cfg.chunkLen))
		}
		if publish {
			errs = append(errs, l.publish(l.ctx, c))
		}
		if err := errors.Join(errs...); err != nil {
			l.cfg.Logger.Warn("s3: "+notStored, "error", err)
		}
	})
}

// storeChunk puts the batches of a chunk into one object, so that reading them
// needs fewer requests.
func (l *Ledger) storeChunk(k int64) error {
	var body []byte
	for n := k * l.cfg.chunkLen; n < (k+1)*l.cfg.chunkLen; n++ {
		b, err := l.bucket.get(l.ctx, numbered(batchPrefix, n))
		if err != nil {
			return err
		}
		if body = append(body, b...); len(body) > maxChunkBytes {
			return nil // large batches gain nothing from it
		}
	}
	name := numbered(chunkPrefix, k)
	created, err := l.bucket.create(l.ctx, name, body)
	if err == nil && !created {
		err = &audit.TamperError{Path: name, Index: -1, Reason: "object has other bytes than it should"}
	}
	return err
}
