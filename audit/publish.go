package audit

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"
)

// OutwardConfig says who gets a ledger's checkpoints. The zero value asks
// nobody.
type OutwardConfig struct {
	// Witness has published checkpoints cosigned by others, every WitnessEvery
	// (1 minute if zero) while the ledger grows, and once when it is closed. If
	// nil, none are.
	Witness      Witness
	WitnessEvery time.Duration
	// Anchors keep published checkpoints elsewhere, each every AnchorEvery (1
	// hour if zero) while the ledger grows, and once when it is closed. Both are
	// asked in the background: their failures are in [Stats], and hold up
	// nobody.
	Anchors     []Anchor
	AnchorEvery time.Duration
	// KeyOverlap is for how long after a change of the signing key checkpoints
	// carry the signature of the key before as well, see [Config].
	KeyOverlap time.Duration
}

const (
	defaultWitnessEvery = time.Minute
	defaultAnchorEvery  = time.Hour
	// roundTimeout bounds one round of asking: three attempts of ten seconds at
	// the witnesses, which are asked at once.
	roundTimeout = 30 * time.Second
	// lastRoundTimeout bounds each half of the round at Close.
	lastRoundTimeout = 3 * time.Second
)

// Publisher is a ledger whose checkpoints an [Outward] shows to others.
type Publisher interface {
	// Publish makes what was appended before the call readable for others, and
	// Published is the newest checkpoint of which that is so.
	Publish(ctx context.Context) error
	Published() Checkpoint
	// Consistency is that of [Ledger].
	Consistency(from, to int64) ([][32]byte, error)
	// Keep takes a checkpoint that was cosigned, or is about to be anchored, into
	// the ledger's own history. What fails there is the ledger's affair.
	Keep(ctx context.Context, note string)
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
	// PublishFailures counts rounds that were left out because what was appended
	// could not be published.
	PublishFailures int64
	// HistoryFailures and MemoryFailures count checkpoints that could not be
	// written to the history, or to the memory beside the key.
	HistoryFailures, MemoryFailures int64
}

// Outward brings published checkpoints to witnesses and anchors. It works behind
// the ledger: whatever fails here is counted and tried again later, and stops
// nobody. A [Backend] has one; all methods may be called at once.
type Outward struct {
	l      Publisher
	cfg    OutwardConfig
	log    *slog.Logger
	cancel context.CancelFunc
	done   sync.WaitGroup

	mu          sync.Mutex // guards what follows
	witnessed   Checkpoint // the newest with cosignatures
	anchored    []int64    // by anchor: the size that it holds
	unpublished bool       // the last attempt to publish failed
	stats       OutwardStats
}

// StartOutward asks the witnesses and anchors of cfg in the background, until
// Close. Log may be nil.
func StartOutward(l Publisher, cfg OutwardConfig, log *slog.Logger) *Outward {
	o := newOutward(l, cfg, log)
	o.start()
	return o
}

func newOutward(l Publisher, cfg OutwardConfig, log *slog.Logger) *Outward {
	if cfg.WitnessEvery == 0 {
		cfg.WitnessEvery = defaultWitnessEvery
	}
	if cfg.AnchorEvery == 0 {
		cfg.AnchorEvery = defaultAnchorEvery
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Outward{l: l, cfg: cfg, log: log, anchored: make([]int64, len(cfg.Anchors))}
}

func (o *Outward) start() {
	ctx, cancel := context.WithCancel(context.Background())
	o.cancel = cancel
	if o.cfg.Witness != nil {
		o.every(ctx, o.cfg.WitnessEvery, o.witness)
	}
	if len(o.cfg.Anchors) > 0 {
		o.every(ctx, o.cfg.AnchorEvery, o.anchor)
	}
}

// every runs round now and then until ctx ends.
func (o *Outward) every(ctx context.Context, interval time.Duration, round func(context.Context)) {
	o.done.Go(func() {
		tick := time.NewTicker(interval)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				// What was appended since the last look is published first.
				if o.publish(ctx) {
					bounded(ctx, roundTimeout, round)
				}
			case <-ctx.Done():
				return
			}
		}
	})
}

// publish reports whether what was appended is published. Failures are counted,
// and the first of a row is logged; that the ledger is being closed is none.
func (o *Outward) publish(ctx context.Context) bool {
	err := o.l.Publish(ctx)
	if err != nil && (ctx.Err() != nil || errors.Is(err, ErrClosed)) {
		return false
	}
	o.mu.Lock()
	first := err != nil && !o.unpublished
	if o.unpublished = err != nil; err != nil {
		o.stats.PublishFailures++
	}
	o.mu.Unlock()
	if first {
		o.log.Warn("audit checkpoint is not published, and so not shown to others", "error", err)
	}
	return err == nil
}

func bounded(ctx context.Context, timeout time.Duration, round func(context.Context)) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	round(ctx)
}

// Close ends the rounds, and makes a last one for what was published since: at
// most 3 seconds for the witnesses, and as much for the anchors. The ledger must still answer. It is called once.
func (o *Outward) Close() {
	o.stop()
	o.lastRound()
}

func (o *Outward) stop() {
	o.cancel()
	o.done.Wait()
}

// lastRound asks the witnesses first: anchors then get what these have signed.
func (o *Outward) lastRound() {
	bounded(context.Background(), lastRoundTimeout, o.witness)
	bounded(context.Background(), lastRoundTimeout, o.anchor)
}

// cosigned is c as the witnesses have signed it, or c.
func (o *Outward) cosigned(c Checkpoint) Checkpoint {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.witnessed.Size == c.Size && o.witnessed.Note != "" {
		return o.witnessed
	}
	return c
}

// ChangedKey says that checkpoints are signed with another key from now on: what
// was cosigned under the one before is not of this one.
func (o *Outward) ChangedKey() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.witnessed = Checkpoint{}
}

// witness has the newest published checkpoint cosigned.
func (o *Outward) witness(ctx context.Context) {
	c := o.l.Published()
	if seen := o.Witnessed(); o.cfg.Witness == nil || seen.Note != "" && seen.Size == c.Size {
		return
	}
	note, err := o.cfg.Witness.Cosign(ctx, c, func(from int64) ([][32]byte, error) { return o.l.Consistency(from, c.Size) })
	if note != "" && note != c.Note {
		o.l.Keep(ctx, note) // what was had is kept even when it is too little
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if err != nil {
		o.stats.WitnessFailures++
		o.log.Warn("audit checkpoint is not cosigned", "entries", c.Size, "error", err)
		return
	}
	o.stats.Witnessed, o.witnessed = c.Size, Checkpoint{Size: c.Size, Root: c.Root, Note: note}
}

// anchor brings the newest checkpoint to every anchor that has it not yet.
func (o *Outward) anchor(ctx context.Context) {
	c := o.cosigned(o.l.Published())
	if c.Size == 0 || len(o.cfg.Anchors) == 0 {
		return
	}
	o.l.Keep(ctx, c.Note)
	for i, a := range o.cfg.Anchors {
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
			o.log.Warn("audit checkpoint is not anchored", "entries", c.Size, "error", err)
		}
	}
}

func (o *Outward) heldBy(i int) int64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.anchored[i]
}

// Stats is the counts as of now.
func (o *Outward) Stats() OutwardStats {
	o.mu.Lock()
	defer o.mu.Unlock()
	st := o.stats
	for i, size := range o.anchored {
		if i == 0 || size < st.Anchored {
			st.Anchored = size
		}
	}
	return st
}

// Witnessed is the newest checkpoint that the wanted number of witnesses has
// cosigned since the start, the zero one if there is none.
func (o *Outward) Witnessed() Checkpoint {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.witnessed
}
