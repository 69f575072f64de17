package audit

import (
	"context"
	"errors"
	"sync"
	"time"
)

// outward is the [Outward] of a ledger in files, with the history of its
// published checkpoints.
type outward struct {
	*Outward
	l       *Ledger
	history *history

	mu              sync.Mutex // guards what follows
	published       Checkpoint
	historyFailures int64
}

// openOutward compares the ledger with what its key signed last, and opens the
// history, whose last line may be torn after a crash.
func openOutward(l *Ledger, memory Checkpoint, crashed bool) (*outward, error) {
	if err := l.checkFork(memory); err != nil {
		return nil, err
	}
	spans, err := l.store.spans()
	if err != nil {
		return nil, err
	}
	h, err := l.findHistory(spans, crashed)
	if err != nil {
		return nil, err
	}
	o := &outward{l: l, history: h, published: l.store.checkpoint()}
	o.Outward = newOutward(o, OutwardConfig{
		Witness: l.cfg.Witness, WitnessEvery: l.cfg.WitnessEvery, Anchors: l.cfg.Anchors, AnchorEvery: l.cfg.AnchorEvery,
	}, l.cfg.Logger.With("dir", l.store.dir))
	if h.last == "" {
		return o, nil
	}
	// The history cannot be ahead of the ledger, which publishes first.
	if _, err := l.store.proveConsistency([]byte(h.last), o.published); isTamper(err) && l.restored == nil {
		return nil, errors.Join(restoreError(err), h.close())
	}
	return o, nil
}

// beginHistory makes the history, if it is owed, from what is published on.
func (o *outward) beginHistory() error {
	fsys, dir := o.l.cfg.fsys, o.l.store.dir
	if !o.history.owed() {
		return nil
	}
	spans, err := o.l.store.spans()
	if err != nil {
		return err
	}
	if err := beginHistory(fsys, dir, o.newest().Note); err != nil {
		return err
	}
	return o.history.open(fsys, dir, spans, false)
}

// Publish, Published, Consistency and Keep make outward its own [Publisher].
func (o *outward) Publish(ctx context.Context) error { return o.l.keeper.publish(ctx) }

func (o *outward) Published() Checkpoint { return o.l.overlapped(o.newest()) }

func (o *outward) Consistency(from, to int64) ([][32]byte, error) { return o.l.Consistency(from, to) }

func (o *outward) Keep(_ context.Context, note string) {
	if _, bad := parseCheckpoint([]byte(note), o.l.store.vkey()); bad == nil {
		_ = o.record(note, true) // counted
	}
}

func (o *outward) newest() Checkpoint {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.published
}

// stop ends the rounds, makes a last one, and closes the history.
func (o *outward) stop() error {
	o.Outward.stop()
	var err error
	if o.l.failed() == nil {
		o.lastRound()
		// A closed ledger's history ends with its checkpoint, without signatures
		// of others: so every byte of its last line can be checked, as the lines
		// before are by their hash in the next.
		err = errors.Join(o.record(o.cosigned(o.newest()).Note, true), o.record(o.newest().Note, true))
	}
	return errors.Join(err, o.history.close())
}

// publishedNow takes note of a checkpoint that was just published. The keeper
// calls it.
func (o *outward) publishedNow(c Checkpoint) {
	o.l.rememberSigned(c)
	o.mu.Lock()
	o.published = c
	o.mu.Unlock()
	_ = o.record(c.Note, false) // counted
}

// changedKey takes note of the checkpoint under a new key.
func (o *outward) changedKey(c Checkpoint) {
	o.ChangedKey()
	o.publishedNow(c)
}

// record writes to the history. What fails is counted here; only Close does
// more about it.
func (o *outward) record(note string, wanted bool) error {
	err := o.history.add(note, wanted, time.Now())
	if err == nil {
		return nil
	}
	o.mu.Lock()
	o.historyFailures++
	first := o.historyFailures == 1
	o.mu.Unlock()
	if first {
		o.l.cfg.Logger.Error("audit ledger cannot keep the history of its checkpoints", "dir", o.l.store.dir, "error", err)
	}
	return err
}

// snapshot is the counts as of now.
func (o *outward) snapshot() OutwardStats {
	st := o.Stats()
	st.MemoryFailures = o.l.memoryFailures.Load()
	o.mu.Lock()
	defer o.mu.Unlock()
	st.HistoryFailures = o.historyFailures
	return st
}

// Witnessed is the newest checkpoint that the wanted number of witnesses has
// cosigned since the ledger was opened, the zero one if there is none.
func (l *Ledger) Witnessed() Checkpoint { return l.outward.Witnessed() }
