package audit

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/kaizen-go/kaizen/internal/durable"
)

// defaultKeyOverlap gives witnesses and auditors a day to learn of a new key.
const defaultKeyOverlap = 24 * time.Hour

// keyChange asks whoever takes the turn for a new key.
type keyChange struct {
	next           *signer
	previous, vkey string
	err            error
	// done is closed when changeKey is, with this outcome.
	done    chan struct{}
	outcome error
}

// overlap is the key that was replaced, and until when it signs beside the new
// one.
type overlap struct {
	old   *signer
	until time.Time
	last  atomic.Pointer[[2]Checkpoint] // what was asked for last, and the answer
}

// RotateKey is the function [RotateKey] for a ledger that is open: appends wait
// for the moment that it takes, nothing else does. [Config].KeyOverlap says for
// how long checkpoints carry both signatures. If it fails before the change has
// happened the ledger goes on under its old key; if it fails after that, with
// [ErrFailed], the next [Open] completes it. Other errors are those of
// [Ledger.Append].
func (l *Ledger) RotateKey(ctx context.Context) (previous, vkey string, err error) {
	previous, vkey, err = l.rotateKey(ctx)
	if err != nil {
		return "", "", fmt.Errorf("audit: rotate key of %s: %w", l.store.dir, err)
	}
	return previous, vkey, nil
}

func (l *Ledger) rotateKey(ctx context.Context) (previous, vkey string, err error) {
	skey, _, err := note.GenerateKey(rand.Reader, l.Origin())
	if err != nil {
		return "", "", err
	}
	r := &keyChange{done: make(chan struct{})}
	if r.next, err = newSigner(skey); err != nil {
		return "", "", err
	}
	l.rekeying.Lock()
	defer l.rekeying.Unlock()
	if err := durable.ReplaceFile(l.cfg.fsys, l.keyName()+nextKeyExt, []byte(skey+"\n")); err != nil {
		return "", "", err
	}
	l.rotating.Store(r)
	marker := l.writes.take() // so that somebody takes the turn
	// Whoever waits must not leave a change behind that nobody answers for.
	if err := l.submit(context.WithoutCancel(ctx), marker); err != nil {
		if l.rotating.CompareAndSwap(r, nil) {
			return "", "", err
		}
	} else {
		marker.release(1)
	}
	// Somebody has taken it, maybe before our marker was refused.
	<-r.done
	return r.previous, r.vkey, r.outcome
}

func (l *Ledger) keyName() string { return keyPath(l.store.dir, l.cfg.KeyDir) }

// changeKey makes the change. The caller has the turn: nothing is appended
// meanwhile but the entry that names the new key.
func (l *Ledger) changeKey(r *keyChange) (err error) {
	defer func() {
		r.outcome = err
		close(r.done)
	}()
	record, err := l.announce(r)
	if err != nil {
		return err
	}
	fsys, dir, old := l.cfg.fsys, l.store.dir, l.signer.Load()
	list, err := readRotations(fsys, dir)
	if err != nil {
		return err
	}
	var text []byte
	for _, other := range append(list, record) {
		text = append(text, other.encode()...)
	}
	// All is in the segments and under the published checkpoint, so the ring,
	// whose frames are authenticated with the old key, is not needed. Without
	// one a ledger is as if it had been closed: no line of the history may be
	// half-written from here on.
	h := l.outward.history
	h.mu.Lock()
	err = l.ring.file.Close()
	if err == nil {
		err = removeSynced(fsys, dir, ringName)
	}
	if err == nil { // from here on the change has happened
		err = durable.ReplaceFile(fsys, filepath.Join(dir, rotationsName), text)
	}
	if err == nil {
		err = finishRotation(fsys, dir, l.keyName())
	}
	var fresh *ring
	if err == nil {
		fresh, err = createRing(fsys, dir, r.next, l.ring.generation+1, l.cfg.sectionBytes)
	}
	h.mu.Unlock()
	if err != nil {
		return l.fail(err)
	}
	l.ring = fresh
	l.setSigner(old, r.next)
	return nil
}

// announce appends the entry that names the new key as the last one under the
// old key, and has it published.
func (l *Ledger) announce(r *keyChange) (record rotation, err error) {
	r.previous, r.vkey = l.signer.Load().vkey, r.next.vkey
	w := l.writes.take()
	w.release(1) // nobody waits
	w.async = true
	err = w.encode([]Entry{{
		AgentID: systemAgent, Action: actionRotation, Result: Success,
		Details: map[string]any{"previous": r.previous, "vkey": r.vkey},
	}})
	if err != nil {
		w.release(1)
		return record, err
	}
	if err := l.acknowledge([]*write{w}); err != nil {
		l.refuse([]*write{w}, err)
		return record, err
	}
	l.applyPending()
	head := l.store.checkpoint() // waits for the lock that the scribe lets go of
	if err := l.keeper.publish(context.Background()); err != nil {
		return record, err
	}
	line, err := l.store.rawLine(head.Size - 1)
	if err != nil {
		return record, err
	}
	_, sig, _ := strings.Cut(r.next.checkpoint(head.Size, head.Root).Note, "\n\n")
	return rotation{from: head.Size, previous: r.previous, vkey: r.vkey, line: string(line), note: head.Note + sig}, nil
}

// setSigner goes on under the new key.
func (l *Ledger) setSigner(old, next *signer) {
	head := l.store.checkpoint()
	c := next.checkpoint(head.Size, head.Root)
	l.setOverlap(old, time.Now())
	l.signer.Store(next)
	l.store.mu.Lock()
	l.store.head = c
	l.store.mu.Unlock()
	l.store.key.Store(&next.vkey)
	l.committer.head = c
	l.outward.changedKey(c)
}

func (l *Ledger) setOverlap(old *signer, changed time.Time) {
	d := l.cfg.KeyOverlap
	if d == 0 {
		d = defaultKeyOverlap
	}
	if until := changed.Add(d); time.Now().Before(until) {
		l.overlap.Store(&overlap{old: old, until: until})
	} else {
		l.overlap.Store(nil)
	}
}

// loadOverlap finds the key before in the key directory, if it was replaced a
// short time ago.
func (l *Ledger) loadOverlap(dir string) error {
	list, err := readRotations(l.cfg.fsys, dir)
	if err != nil || len(list) == 0 {
		return err
	}
	last := list[len(list)-1]
	e, err := DecodeLine([]byte(last.line))
	if err != nil {
		return err
	}
	old, err := loadSigner(l.cfg.fsys, keyPath(dir, l.cfg.KeyDir)+oldKeyExt)
	if errors.Is(err, fs.ErrNotExist) || err == nil && old.vkey != last.previous {
		return nil // deleted, as it should be one day
	}
	if err != nil {
		return err
	}
	l.setOverlap(old, e.Time)
	return nil
}

// overlapped is c with the signature of the key before, while that signs.
func (l *Ledger) overlapped(c Checkpoint) Checkpoint {
	o := l.overlap.Load()
	if o == nil || c.Note == "" || time.Now().After(o.until) {
		return c
	}
	if last := o.last.Load(); last != nil && last[0] == c {
		return last[1]
	}
	_, sig, _ := strings.Cut(o.old.checkpoint(c.Size, c.Root).Note, "\n\n")
	both := c
	if !strings.Contains(c.Note, sig) {
		both.Note += sig
	}
	o.last.Store(&[2]Checkpoint{c, both})
	return both
}
