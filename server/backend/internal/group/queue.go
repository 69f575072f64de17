// Package group is what ledgers outside of the local disk have in common: it
// checks and encodes entries in their callers, gathers concurrent calls into
// groups that one goroutine commits together, and answers each call.
//
//	q := group.New(func(g *group.Group) error { … store g.Records … })
//	receipts, err := q.AppendBatch(ctx, entries)
package group

import (
	"context"
	"fmt"
	"runtime"
	"sync"

	"github.com/kaizen-go/kaizen/audit"
)

// Group is the calls that are committed together.
type Group struct {
	Calls []*Call
	// Checkpoint covers all records; the committer sets it.
	Checkpoint audit.Checkpoint

	next *Signer // of a group that changes the key
}

// Queue takes calls and has them committed. Use [New].
type Queue struct {
	commit func(*Group) error
	calls  chan *Call // unbuffered: what is taken, the committer has
	closed chan struct{}
	once   sync.Once
	done   sync.WaitGroup
}

// New starts the goroutine that calls commit, one group after the other.
// Commit sets Index and Duplicate of every record and the group's checkpoint.
// Its error reaches every caller of the group, with [audit.ErrUnconfirmed].
// There is no queue but the callers that wait: they are the back-pressure.
func New(commit func(*Group) error) *Queue {
	q := &Queue{commit: commit, calls: make(chan *Call), closed: make(chan struct{})}
	q.done.Go(q.run)
	return q
}

func (q *Queue) run() {
	var held *Call // taken, but too much for the group before
	for {
		first := held
		if held = nil; first == nil {
			select {
			case first = <-q.calls:
			case <-q.closed:
				return
			}
		}
		g := &Group{Calls: []*Call{first}, next: first.next}
		held = q.gather(g)
		err := q.commit(g)
		for _, c := range g.Calls {
			if c.checkpoint = g.Checkpoint; err != nil && c.Err == nil {
				c.Err = fmt.Errorf("%w: %w", audit.ErrUnconfirmed, err)
			}
			close(c.done)
		}
	}
}

// gather adds the calls that wait already, and lets running callers join:
// those that were answered together come back together.
func (q *Queue) gather(g *Group) (held *Call) {
	const yields = 4
	if g.next != nil {
		return nil // a change of the key is alone
	}
	records, bytes := g.Calls[0].weigh()
	for try := 0; try < yields && records < maxRecords; {
		select {
		case c := <-q.calls:
			n, b := c.weigh()
			if records+n > maxRecords || bytes+b > maxBytes || c.next != nil {
				return c
			}
			g.Calls = append(g.Calls, c)
			records, bytes, try = records+n, bytes+b, 0
		default:
			runtime.Gosched()
			try++
		}
	}
	return nil
}

// Sync returns when every call that was taken before has been committed.
func (q *Queue) Sync(ctx context.Context) error {
	return q.do(ctx, &Call{First: -1, done: make(chan struct{})})
}

// Close commits what was taken and ends the goroutine. Later calls get
// [audit.ErrClosed]. It may be called again.
func (q *Queue) Close() {
	q.once.Do(func() { close(q.closed) })
	q.done.Wait()
}

// Closed reports whether Close was called.
func (q *Queue) Closed() bool {
	select {
	case <-q.closed:
		return true
	default:
		return false
	}
}

// do hands c to the committer and waits. Once c is taken it is written, ctx or
// not.
func (q *Queue) do(ctx context.Context, c *Call) error {
	select {
	case <-q.closed:
		return audit.ErrClosed
	default:
	}
	select {
	case q.calls <- c:
	case <-q.closed:
		return audit.ErrClosed
	case <-ctx.Done():
		return fmt.Errorf("not taken: %w", context.Cause(ctx))
	}
	select {
	case <-c.done:
		return c.Err
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", audit.ErrUnconfirmed, context.Cause(ctx))
	}
}
