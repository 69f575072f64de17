package audit

import (
	"context"
	"errors"
	"sync"
	"time"
)

// outward brings published checkpoints to witnesses and anchors, and keeps
// their history. It works behind the ledger: whatever fails here is counted
// and tried again later, and stops nobody.
type outward struct {
	l       *Ledger
	history *history
	cancel  context.CancelFunc
	done    sync.WaitGroup

	mu        sync.Mutex // guards what follows
	published Checkpoint
	witnessed Checkpoint // the newest with cosignatures
	anchored  []int64    // by anchor: the size that it holds
	stats     OutwardStats
}

// OutwardStats says what has become of checkpoints outside the ledger.
type OutwardStats struct {
	// Witnessed is the size of the newest checkpoint that the wanted number of
	// witnesses has cosigned since the ledger was opened, WitnessFailures how
	// often they were asked in vain.
	Witnessed, WitnessFailures int64
	// Anchored is the size of the newest checkpoint that every anchor holds,
	// AnchorFailures how often one refused.
	Anchored, AnchorFailures int64
	// HistoryFailures and MemoryFailures count checkpoints that could not be
	// written to the history, or to the memory beside the key.
	HistoryFailures, MemoryFailures int64
}

const (
	defaultWitnessEvery = time.Minute
	defaultAnchorEvery  = time.Hour
	// roundTimeout bounds one round of asking: three attempts of ten seconds at
	// the witnesses, which are asked at once.
	roundTimeout = 30 * time.Second
	// lastRoundTimeout bounds the round at Close.
	lastRoundTimeout = 3 * time.Second
)

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
	h, err := openHistory(l.cfg.fsys, l.store.dir, spans, crashed)
	if err != nil {
		return nil, err
	}
	o := &outward{l: l, history: h, published: l.store.checkpoint(), anchored: make([]int64, len(l.cfg.Anchors))}
	if h.last == "" {
		return o, nil
	}
	// The history cannot be ahead of the ledger, which publishes first.
	if _, err := l.store.proveConsistency([]byte(h.last), o.published); isTamper(err) && l.restored == nil {
		return nil, errors.Join(restoreError(err), h.close())
	}
	return o, nil
}

func (o *outward) start() {
	ctx, cancel := context.WithCancel(context.Background())
	o.cancel = cancel
	if o.l.cfg.Witness != nil {
		o.every(ctx, o.l.cfg.WitnessEvery, o.witness)
	}
	if len(o.l.cfg.Anchors) > 0 {
		o.every(ctx, o.l.cfg.AnchorEvery, o.anchor)
	}
}

// every runs round now and then until ctx ends.
func (o *outward) every(ctx context.Context, interval time.Duration, round func(context.Context)) {
	o.done.Go(func() {
		tick := time.NewTicker(interval)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				// What was appended since the last look is published first.
				if o.l.keeper.publish(ctx) == nil {
					bounded(ctx, roundTimeout, round)
				}
			case <-ctx.Done():
				return
			}
		}
	})
}

func bounded(ctx context.Context, timeout time.Duration, round func(context.Context)) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	round(ctx)
}

// stop ends the rounds, and makes a last one for what was published since.
func (o *outward) stop() error {
	o.cancel()
	o.done.Wait()
	var err error
	if o.l.failed() == nil {
		var last sync.WaitGroup
		last.Go(func() { bounded(context.Background(), lastRoundTimeout, o.witness) })
		last.Go(func() { bounded(context.Background(), lastRoundTimeout, o.anchor) })
		last.Wait()
		// A closed ledger's history ends with its checkpoint, without signatures
		// of others: so every byte of its last line can be checked, as the lines
		// before are by their hash in the next.
		err = errors.Join(o.record(o.newest().Note, true), o.record(o.published.Note, true))
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

func (o *outward) newest() Checkpoint {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.witnessed.Size == o.published.Size && o.witnessed.Note != "" {
		return o.witnessed
	}
	return o.published
}

// changedKey takes note of the checkpoint under a new key: what was cosigned
// under the old one is not of this one.
func (o *outward) changedKey(c Checkpoint) {
	o.mu.Lock()
	o.witnessed = Checkpoint{}
	o.mu.Unlock()
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
	o.stats.HistoryFailures++
	first := o.stats.HistoryFailures == 1
	o.mu.Unlock()
	if first {
		o.l.cfg.Logger.Error("audit ledger cannot keep the history of its checkpoints", "dir", o.l.store.dir, "error", err)
	}
	return err
}

// witness has the newest published checkpoint cosigned.
func (o *outward) witness(ctx context.Context) {
	o.mu.Lock()
	c, seen := o.l.overlapped(o.published), o.witnessed
	o.mu.Unlock()
	if o.l.cfg.Witness == nil || seen.Note != "" && seen.Size == c.Size {
		return
	}
	note, err := o.l.cfg.Witness.Cosign(ctx, c, func(from int64) ([][32]byte, error) { return o.l.Consistency(from, c.Size) })
	if note != "" && note != c.Note {
		// What was had is kept even when it is too little.
		if _, bad := parseCheckpoint([]byte(note), o.l.store.vkey()); bad == nil {
			_ = o.record(note, true) // counted
		}
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if err != nil {
		o.stats.WitnessFailures++
		o.l.cfg.Logger.Warn("audit checkpoint is not cosigned", "dir", o.l.store.dir, "entries", c.Size, "error", err)
		return
	}
	o.stats.Witnessed, o.witnessed = c.Size, Checkpoint{Size: c.Size, Root: c.Root, Note: note}
}

// anchor brings the newest checkpoint to every anchor that has it not yet.
func (o *outward) anchor(ctx context.Context) {
	c := o.l.overlapped(o.newest())
	if c.Size == 0 {
		return
	}
	if len(o.l.cfg.Anchors) > 0 {
		_ = o.record(c.Note, true) // counted
	}
	for i, a := range o.l.cfg.Anchors {
		if o.heldBy(i) == c.Size {
			continue
		}
		err := a.Anchor(ctx, c)
		o.mu.Lock()
		if err == nil {
			o.anchored[i] = c.Size
		} else {
			o.stats.AnchorFailures++
		}
		o.mu.Unlock()
		if err != nil {
			o.l.cfg.Logger.Warn("audit checkpoint is not anchored", "dir", o.l.store.dir, "entries", c.Size, "error", err)
		}
	}
}

func (o *outward) heldBy(i int) int64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.anchored[i]
}

// snapshot is the counts as of now.
func (o *outward) snapshot() OutwardStats {
	o.mu.Lock()
	defer o.mu.Unlock()
	st := o.stats
	st.MemoryFailures = o.l.memoryFailures.Load()
	for i, size := range o.anchored {
		if i == 0 || size < st.Anchored {
			st.Anchored = size
		}
	}
	return st
}

// Witnessed is the newest checkpoint that the wanted number of witnesses has
// cosigned since the ledger was opened, the zero one if there is none.
func (l *Ledger) Witnessed() Checkpoint {
	l.outward.mu.Lock()
	defer l.outward.mu.Unlock()
	return l.outward.witnessed
}
