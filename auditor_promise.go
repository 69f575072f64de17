package kaizen

import (
	"context"
	"errors"
	"fmt"

	"github.com/kaizen-go/kaizen/audit"
)

// queued is an entry that waits for the ledger, and who is told of it.
type queued struct {
	entry   audit.Entry
	promise *Promise // nil if nobody
}

// Promise is an entry on its way to the ledger. Its methods may be called at
// once from any number of goroutines.
type Promise struct {
	done    chan struct{}
	receipt audit.Receipt
	err     error
}

// Done returns a channel that is closed when the entry is durable, or lost.
func (p *Promise) Done() <-chan struct{} { return p.done }

// Wait returns once the entry is durable, with the receipt that proves it. The
// error is as that of [Auditor.Record], or [audit.ErrUnconfirmed] when ctx ends
// before: the entry goes its way all the same.
func (p *Promise) Wait(ctx context.Context) (audit.Receipt, error) {
	select {
	case <-p.done:
		return p.receipt, p.err
	default:
	}
	select {
	case <-p.done:
		return p.receipt, p.err
	case <-ctx.Done():
		return audit.Receipt{}, fmt.Errorf("kaizen: audit: %w: %w", audit.ErrUnconfirmed, context.Cause(ctx))
	}
}

func (p *Promise) resolve(r audit.Receipt, err error) {
	if p != nil {
		p.receipt, p.err = r, err
		close(p.done)
	}
}

// maxPosts bounds the promises that are on their way to a server at once.
const maxPosts = 64

var (
	errQueueFull = errors.New("the queue is full")
	errStopped   = errors.New("the observer is shut down")
)

// Promise queues an entry and returns at once, with a promise that is kept when
// the entry is durable. What cannot be queued is lost and counted, as with
// [Auditor.Note], and the promise says why.
func (a *Auditor) Promise(ctx context.Context, e audit.Entry) *Promise {
	p := &Promise{done: make(chan struct{})}
	e = a.complete(ctx, e)
	a.closing.RLock()
	defer a.closing.RUnlock()
	switch {
	case !a.active():
		p.resolve(audit.Receipt{}, fmt.Errorf("kaizen: audit %s: %w", e.Action, ErrNoLedger))
	case a.closed:
		a.broken(p, e, errStopped)
	case a.remote != nil:
		a.post(ctx, p, e)
	default:
		select {
		case a.queue <- queued{e, p}:
		default:
			a.broken(p, e, errQueueFull)
		}
	}
	return p
}

// post appends to the server's ledger on a goroutine of its own.
func (a *Auditor) post(ctx context.Context, p *Promise, e audit.Entry) {
	select {
	case a.posts <- struct{}{}:
	default:
		a.broken(p, e, errQueueFull)
		return
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	a.stopped.Go(func() {
		defer func() { <-a.posts }()
		defer cancel()
		sent := make(chan struct{})
		defer close(sent)
		go func() { // ends with the post
			select {
			case <-a.cancel:
				cancel()
			case <-sent:
			}
		}()
		r, err := a.remote.append(ctx, e)
		if err != nil {
			a.lost(1, err)
		}
		p.resolve(r, err)
	})
}

func (a *Auditor) broken(p *Promise, e audit.Entry, why error) {
	a.lost(1, why)
	p.resolve(audit.Receipt{}, fmt.Errorf("kaizen: audit %s: %w", e.Action, why))
}
