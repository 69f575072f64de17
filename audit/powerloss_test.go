package audit

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"
)

// busyLife works on a ledger in memory in all ways until the power goes:
// writers, and beside them sealing, pruning, holds, erasures, publishing;
// closing, changing the key, opening again.
type busyLife struct {
	fsys *memFS
	rnd  *rand.Rand

	mu     sync.Mutex // guards what follows
	acked  []Receipt
	holds  map[string]bool
	erased []string
}

func (b *busyLife) run() {
	for {
		cfg := subjectConfig(b.fsys)
		cfg.publishEvery = 200 * time.Microsecond
		if b.rnd.IntN(3) == 0 {
			_, _, _ = RotateKey(context.Background(), "/l/audit", cfg) // its failure shows in what follows
		}
		cfg.sealing = b.rnd.IntN(2) == 0
		l, err := Open("/l/audit", cfg)
		if err == nil {
			b.work(l)
			err = l.Close()
		}
		if err != nil {
			return
		}
	}
}

func (b *busyLife) work(l *Ledger) {
	var writers sync.WaitGroup
	for range []int{1, 3, 8}[b.rnd.IntN(3)] {
		batch := 1 + b.rnd.IntN(5)
		writers.Go(func() {
			for {
				entries := make([]Entry, batch)
				for i := range entries {
					entries[i] = Entry{AgentID: "a", Action: "x", Result: Success}
				}
				rs, err := l.AppendBatch(context.Background(), entries)
				if err != nil {
					return
				}
				b.mu.Lock()
				b.acked = append(b.acked, rs...)
				b.mu.Unlock()
			}
		})
	}
	var err error
	for n := b.rnd.IntN(10); n >= 0 && err == nil; n-- {
		err = b.other(l)
	}
	if l.failed() == nil {
		_ = l.Close() // run has its error too
	}
	writers.Wait()
}

func (b *busyLife) other(l *Ledger) error {
	ctx, who := context.Background(), fmt.Sprintf("p%d", b.rnd.IntN(3))
	switch b.rnd.IntN(6) {
	case 0:
		return l.Seal(ctx)
	case 1:
		_, err := l.Prune(ctx, PruneOptions{Retention: Retention{MaxBytes: 4 << 10}})
		return err
	case 2:
		h, _, err := l.Hold(ctx, Hold{Subject: who})
		if err == nil {
			b.holds[h.ID] = true
		}
		return err
	case 3:
		for _, h := range l.Holds() {
			delete(b.holds, h.ID)
			if _, err := l.Release(ctx, Release{ID: h.ID}); err != nil {
				return err
			}
		}
		return nil
	case 4:
		x, err := l.Erase(ctx, Erasure{Subject: who})
		if held := (*HeldError)(nil); errors.As(err, &held) {
			return nil
		}
		if err == nil && x.Found {
			b.erased = append(b.erased, x.Token)
		}
		return err
	}
	r, err := l.Append(ctx, Entry{AgentID: "a", Action: "x", Result: Success, Subject: who, Details: map[string]any{"secret": who}})
	if err == nil {
		b.mu.Lock()
		b.acked = append(b.acked, r)
		b.mu.Unlock()
	}
	return err
}

// TestPowerLossOfEverything cuts the power at a random call of a busy life, and
// loses what was not synced, or some of it, or nothing. What was acknowledged
// must be there, and what was erased must not.
func TestPowerLossOfEverything(t *testing.T) {
	for seed := range rounds(t, "KAIZEN_POWER_ROUNDS", 40) {
		rnd := rand.New(rand.NewPCG(uint64(seed), 70))
		b := &busyLife{fsys: freshFS(t), rnd: rnd, holds: map[string]bool{}}
		b.fsys.indirect = rnd.IntN(2) == 0
		b.fsys.failAt, b.fsys.stop, b.fsys.kept = 1+rnd.IntN(1500), true, rnd.IntN(2) == 0
		b.run()
		how := rnd.IntN(crashModes)
		if !t.Run(fmt.Sprintf("seed %d, crash %d", seed, how), func(t *testing.T) { b.check(t, b.fsys.crash(how, rnd)) }) {
			return
		}
	}
}

func (b *busyLife) check(t *testing.T, fsys *memFS) {
	if len(b.acked) > 0 {
		if _, err := verify(t.Context(), fsys, "/l/audit", VerifyConfig{Checkpoint: []byte(b.acked[len(b.acked)-1].Checkpoint.Note)}); err != nil {
			t.Fatalf("Verify after the crash: %v", err)
		}
	}
	l, err := Open("/l/audit", subjectConfig(fsys))
	if err != nil {
		t.Fatalf("Open after the crash: %v", err)
	}
	for _, r := range b.acked {
		if got := leafOf(t, l, r.Index); got != r.LeafHash {
			t.Fatalf("entry %d has another hash", r.Index)
		}
		if e, err := l.Get(t.Context(), r.Index); !errors.Is(err, ErrPruned) && (err != nil || e.ID != r.ID) {
			t.Fatalf("Get(%d) = %v, %v", r.Index, e, err)
		}
	}
	active := map[string]bool{}
	for _, h := range l.Holds() {
		active[h.ID] = true
	}
	for id := range b.holds {
		if !active[id] {
			t.Errorf("acknowledged hold %s is not active", id)
		}
	}
	for _, token := range b.erased {
		for e, err := range l.Query(t.Context(), Query{Subject: token}) {
			if err != nil || e.Withheld.Details != Erased {
				t.Errorf("entry %d of an erased subject: %+v, %v", e.Index, e, err)
			}
		}
	}
	mustAppend(t, l, about(900, "p0"))
	if err := l.Seal(t.Context()); err != nil {
		t.Fatal(err)
	}
	size := l.Size()
	mustClose(t, l)
	r, err := verify(t.Context(), fsys, "/l/audit", VerifyConfig{Indexes: true})
	if err != nil || !r.Clean || r.Entries != size {
		t.Fatalf("Verify after recovery = %+v, %v; want %d entries, clean", r, err, size)
	}
}
