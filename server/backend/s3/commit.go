package s3

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/kaizen-go/kaizen/audit"
	"github.com/kaizen-go/kaizen/server/backend/internal/group"
)

// Commit stores a group as the next batch. Whoever creates the object has the
// place; who comes late reads what is there, and tries the next one. It is
// called by the queue's goroutine alone.
func (l *Ledger) Commit(g *group.Group) error {
	l.step.Lock()
	defer l.step.Unlock()
	for {
		base := l.state.tree.Size
		known, err := l.known(l.ctx, g.IDs(false))
		if err != nil {
			return g.Refuse(err)
		}
		fresh := g.Sequence(base, known)
		if len(fresh) == 0 {
			g.Checkpoint = l.Head()
			return nil
		}
		tree := l.state.tree.Clone()
		for _, r := range fresh {
			tree.Append(r.Leaf, nil)
		}
		c, err := l.keys.Sign(g, &tree)
		if err != nil {
			return g.Refuse(err)
		}
		n := l.state.next
		body, err := encodeBatch(n, base, fresh, c)
		if err != nil {
			return err
		}
		created, err := l.bucket.create(l.ctx, numbered(batchPrefix, n), body)
		if err != nil {
			// It may be there all the same: the next commit finds it, and
			// callers that repeat their ids get its receipts.
			return err
		}
		if created {
			return l.committed(g, batch{n, body, fresh, tree, c.Checkpoint}, c, base)
		}
		if err := l.replay(l.ctx, false); err != nil {
			return err
		}
		if l.state.next == n {
			return fmt.Errorf("batch %d exists and cannot be read", n)
		}
	}
}

// committed takes note of a batch that this process has stored.
func (l *Ledger) committed(g *group.Group, st batch, c group.Signed, base int64) error {
	g.Checkpoint = c.Checkpoint
	if err := l.keys.Committed(c); err != nil { // the change has happened
		l.cfg.Logger.Error("s3: the new signing key is not in its place; it is beside it", "file", l.cfg.KeyFile, "error", err)
	}
	list, err := l.state.take(st, &l.cfg)
	if err != nil {
		return err
	}
	l.after(st.n, base, c.Checkpoint, list)
	return nil
}

// publish stores a checkpoint and moves the pointer to it. A pointer that is
// further already stays.
func (l *Ledger) publish(ctx context.Context, c audit.Checkpoint) error {
	if c.Size == 0 {
		return nil
	}
	if _, err := l.bucket.create(ctx, numbered(checkpointPrefix, c.Size), []byte(c.Note)); err != nil {
		return err
	}
	for {
		etag, err := l.bucket.etag(ctx, latestName)
		if err != nil {
			return err
		}
		if etag != "" {
			p, err := l.pointer(ctx)
			if err != nil {
				return err
			}
			if have, err := l.keys.Open(p.Note); err == nil && have.Size >= c.Size {
				return nil
			}
		}
		l.state.mu.RLock()
		body, err := json.Marshal(latest{Batch: l.state.next - 1, Note: c.Note, State: l.stored.Load()})
		l.state.mu.RUnlock()
		if err != nil {
			return err
		}
		if err := l.bucket.replace(ctx, latestName, etag, body); !errors.Is(err, errChanged) {
			return err
		}
	}
}
