package s3

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/kaizen-go/kaizen/audit"
	"github.com/kaizen-go/kaizen/server/backend/internal/group"
)

// commit stores a group as the next batch. Whoever creates the object has the
// place; who comes late reads what is there, and tries the next one. It is
// called by the queue's goroutine alone.
func (l *Ledger) commit(g *group.Group) error {
	l.step.Lock()
	defer l.step.Unlock()
	for {
		base := l.state.tree.Size
		fresh := g.Sequence(base, l.state.known(g.IDs(false)))
		if len(fresh) == 0 {
			g.Checkpoint = l.Checkpoint()
			return nil
		}
		tree := l.state.tree.Clone()
		for _, r := range fresh {
			tree.Append(r.Leaf, nil)
		}
		c, err := l.signer.Sign(tree.Size, tree.Root())
		if err != nil {
			return err
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
			g.Checkpoint = c
			if err := l.state.take(n, fresh, tree, c); err != nil {
				return err
			}
			l.after(n, base, c)
			return nil
		}
		if err := l.catchUpLocked(l.ctx); err != nil {
			return err
		}
		if l.state.next == n {
			return fmt.Errorf("batch %d exists and cannot be read", n)
		}
	}
}

// catchUp takes in the batches that others have stored.
func (l *Ledger) catchUp(ctx context.Context) error {
	if err := l.usable(ctx); err != nil {
		return err
	}
	l.step.Lock()
	defer l.step.Unlock()
	return l.catchUpLocked(ctx)
}

// catchUpLocked asks for one batch after the other until there is none: a
// listing could be stale.
func (l *Ledger) catchUpLocked(ctx context.Context) error {
	for {
		n := l.state.next
		body, err := l.bucket.get(ctx, numbered(batchPrefix, n))
		if errors.Is(err, errAbsent) {
			return nil
		}
		if err != nil {
			return err
		}
		rest, err := l.absorb(n, body)
		if err != nil {
			return err
		}
		if len(rest) > 0 {
			return &audit.TamperError{Path: numbered(batchPrefix, n), Index: -1, Reason: "something after the last line"}
		}
	}
}

// load reads the ledger, by packs where there are some. Then it makes sure that
// nothing is known of more than that.
func (l *Ledger) load(ctx context.Context) error {
	l.step.Lock()
	defer l.step.Unlock()
	for {
		n := l.state.next
		if n%l.cfg.packLen == 0 {
			if err := l.loadPack(ctx, n/l.cfg.packLen); err == nil {
				continue
			} else if !errors.Is(err, errAbsent) {
				return err
			}
		}
		body, err := l.bucket.get(ctx, numbered(batchPrefix, n))
		if errors.Is(err, errAbsent) {
			return l.complete(ctx)
		}
		if err == nil {
			body, err = l.absorb(n, body)
		}
		if err == nil && len(body) > 0 {
			err = &audit.TamperError{Path: numbered(batchPrefix, n), Index: -1, Reason: "something after the last line"}
		}
		if err != nil {
			return err
		}
	}
}

func (l *Ledger) loadPack(ctx context.Context, k int64) error {
	body, err := l.bucket.get(ctx, numbered(packPrefix, k))
	if err != nil {
		return err
	}
	for range l.cfg.packLen {
		if body, err = l.absorb(l.state.next, body); err != nil {
			return err
		}
	}
	if len(body) > 0 {
		return &audit.TamperError{Path: numbered(packPrefix, k), Index: -1, Reason: "something after the last batch"}
	}
	return nil
}

// complete looks for signs that the end of the ledger was removed: a later
// batch, a pointer or a checkpoint beyond it.
func (l *Ledger) complete(ctx context.Context) error {
	last := numbered(batchPrefix, l.state.next)
	later, err := l.bucket.list(ctx, batchPrefix, last)
	if err != nil {
		return err
	}
	for _, o := range later {
		if n, ok := number(batchPrefix, o.name); !ok || n > l.state.next {
			// It may have been stored a moment ago.
			if err := l.catchUpLocked(ctx); err != nil {
				return err
			}
			if n >= l.state.next {
				return &audit.TamperError{Path: last, Index: l.Size(), Reason: "batch is missing, there are later ones", Got: o.name}
			}
		}
	}
	head := l.Checkpoint()
	for _, source := range []func(context.Context) (string, error){l.latestNote, l.newestCheckpoint} {
		text, err := source(ctx)
		if err != nil {
			return err
		}
		if text == "" {
			continue
		}
		if err := l.consistent(text, head); err != nil {
			return err
		}
	}
	return nil
}

// latest is the object that says how far the ledger went when it was written.
type latest struct {
	Batch int64  `json:"batch"`
	Note  string `json:"note"`
}

func (l *Ledger) latestNote(ctx context.Context) (string, error) {
	body, err := l.bucket.get(ctx, latestName)
	if errors.Is(err, errAbsent) {
		return "", nil
	}
	var p latest
	if err == nil && json.Unmarshal(body, &p) != nil {
		err = &audit.TamperError{Path: latestName, Index: -1, Reason: "not in its form"}
	}
	return p.Note, err
}

func (l *Ledger) newestCheckpoint(ctx context.Context) (string, error) {
	all, err := l.bucket.list(ctx, checkpointPrefix, numbered(checkpointPrefix, max(0, l.Size()-1)))
	if err != nil || len(all) == 0 {
		return "", err
	}
	body, err := l.bucket.get(ctx, all[len(all)-1].name)
	if errors.Is(err, errAbsent) {
		return "", nil
	}
	return string(body), err
}

// consistent checks that a signed checkpoint is one of this history.
func (l *Ledger) consistent(text string, head audit.Checkpoint) error {
	c, err := group.OpenCheckpoint(text, l.VerifierKey())
	if err != nil {
		return &audit.TamperError{Path: checkpointPrefix, Index: -1, Reason: "a checkpoint is not as it was signed: " + err.Error()}
	}
	if c.Size > head.Size {
		// Another process may have stored it since.
		if err := l.catchUpLocked(l.loadContext()); err != nil {
			return err
		}
		if c.Size > l.Size() {
			return &audit.TamperError{
				Path: batchPrefix, Index: head.Size, Reason: "ledger is older than a checkpoint of it that is known",
				Want: fmt.Sprintf("%d entries", c.Size), Got: fmt.Sprint(head.Size),
			}
		}
	}
	l.state.mu.RLock()
	defer l.state.mu.RUnlock()
	if c.Size == 0 {
		return nil
	}
	root, err := tlog.TreeHash(c.Size, &l.state)
	if err != nil {
		return err
	}
	if c.Root != [32]byte(root) {
		return &audit.TamperError{
			Path: checkpointPrefix, Index: -1, Reason: fmt.Sprintf("the first %d entries are not those that were signed", c.Size),
			Want: fmt.Sprintf("root %x", c.Root), Got: fmt.Sprintf("%x", root),
		}
	}
	return nil
}

// loadContext is the ledger's own once it is open.
func (l *Ledger) loadContext() context.Context {
	if l.ctx != nil {
		return l.ctx
	}
	return context.Background()
}

// after stores what is derived from a batch, without anybody waiting: full
// tiles, a pack, a checkpoint, the pointer.
func (l *Ledger) after(n, base int64, c audit.Checkpoint) {
	publish := base/4096 != c.Size/4096 || n == 0
	pack := (n+1)%l.cfg.packLen == 0
	tiles := base/256 != c.Size/256
	if !publish && !pack && !tiles {
		return
	}
	l.background.Go(func() {
		var errs []error
		if tiles {
			errs = append(errs, l.storeTiles(base, c.Size))
		}
		if pack {
			errs = append(errs, l.storePack(n/l.cfg.packLen))
		}
		if publish {
			errs = append(errs, l.publish(l.ctx, c))
		}
		if err := errors.Join(errs...); err != nil {
			l.cfg.Logger.Warn("s3: derived objects were not stored; they can be made again", "error", err)
		}
	})
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
			text, err := l.latestNote(ctx)
			if err != nil {
				return err
			}
			if have, err := group.OpenCheckpoint(text, l.VerifierKey()); err == nil && have.Size >= c.Size {
				return nil
			}
		}
		l.state.mu.RLock()
		body, err := json.Marshal(latest{Batch: l.state.next - 1, Note: c.Note})
		l.state.mu.RUnlock()
		if err != nil {
			return err
		}
		if err := l.bucket.replace(ctx, latestName, etag, body); !errors.Is(err, errChanged) {
			return err
		}
	}
}

// storeTiles stores the tiles that the entries from old to size have filled.
func (l *Ledger) storeTiles(old, size int64) error {
	for level := 0; size>>(8*level) >= audit.TileWidth; level++ {
		for n := old >> (8 * (level + 1)); n < size>>(8*(level+1)); n++ {
			b, err := l.memoryTile(level, n, audit.TileWidth)
			if err != nil {
				return err
			}
			name := fmt.Sprintf("%s%d/%020d", tilePrefix, level, n)
			if created, err := l.bucket.create(l.ctx, name, b); err != nil || !created {
				return errors.Join(err, differs(created, name))
			}
		}
	}
	return nil
}

// differs is the error for an object that is there with other bytes.
func differs(created bool, name string) error {
	if created {
		return nil
	}
	return &audit.TamperError{Path: name, Index: -1, Reason: "object has other bytes than it should"}
}

// maxPackBytes is the size from which on batches stay by themselves.
const maxPackBytes = 64 << 20

// storePack puts 256 batches into one object, so that opening needs fewer
// requests.
func (l *Ledger) storePack(k int64) error {
	var body []byte
	for n := k * l.cfg.packLen; n < (k+1)*l.cfg.packLen; n++ {
		b, err := l.bucket.get(l.ctx, numbered(batchPrefix, n))
		if err != nil {
			return err
		}
		if body = append(body, b...); len(body) > maxPackBytes {
			return nil // large batches gain nothing from it
		}
	}
	name := numbered(packPrefix, k)
	created, err := l.bucket.create(l.ctx, name, body)
	return errors.Join(err, differs(created || err != nil, name))
}
