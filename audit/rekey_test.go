package audit

import (
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestRotateKeyOpen changes the key of a ledger while others append: every
// receipt holds under the key of its time, and nothing is lost.
func TestRotateKeyOpen(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "audit")
	l := mustOpen(t, dir, small())
	first := l.VerifierKey()
	appendN(t, l, 0, 4)
	if err := l.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	before := l.Checkpoint()
	r, err := OpenReader(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	const writers, each = 4, 20
	receipts := make([][]Receipt, writers)
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				e := Entry{AgentID: fmt.Sprintf("w%d", w), Action: "x", Result: Success, Details: map[string]any{"i": i}}
				got, err := l.Append(t.Context(), e)
				if err != nil {
					t.Error(err)
					return
				}
				receipts[w] = append(receipts[w], got)
			}
		})
	}
	var keys []string
	for range 2 {
		previous, vkey, err := l.RotateKey(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if vkey == previous || l.VerifierKey() != vkey {
			t.Errorf("RotateKey = %s, %s, the ledger has %s", previous, vkey, l.VerifierKey())
		}
		keys = append(keys, previous, vkey)
	}
	wg.Wait()
	if keys[0] != first || keys[1] != keys[2] {
		t.Errorf("the keys were %v, begun with %s", keys, first)
	}
	if err := l.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := r.Refresh(t.Context()); err != nil || r.VerifierKey() != keys[3] || r.Size() != l.Size() {
		t.Errorf("a reader that was open: %v, key %s, %d entries", err, r.VerifierKey(), r.Size())
	}
	all, err := l.VerifierKeys()
	if err != nil || len(all) != 3 {
		t.Fatalf("VerifierKeys = %v, %v, want three", all, err)
	}
	for w := range receipts {
		for i, got := range receipts[w] {
			ok := false
			for _, key := range all {
				if _, err := parseCheckpoint([]byte(got.Checkpoint.Note), key); err == nil {
					ok = true
				}
			}
			e, err := l.Get(t.Context(), got.Index)
			if !ok || err != nil || e.AgentID != fmt.Sprintf("w%d", w) || fmt.Sprint(e.Details["i"]) != fmt.Sprint(i) {
				t.Errorf("receipt %d of writer %d: signed by one of the keys: %t, entry %+v, %v", i, w, ok, e, err)
			}
		}
	}
	p, err := l.ProveConsistency([]byte(before.Note))
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := p.Check(all...); err != nil {
		t.Error(err)
	}
	mustClose(t, l)
	checkClean(t, dir, 4+writers*each+2)
	if _, err := Verify(t.Context(), dir, VerifyConfig{Key: first, Checkpoint: []byte(before.Note)}); err != nil {
		t.Errorf("Verify with the first key = %v", err)
	}
	l = mustOpen(t, dir, small())
	defer mustClose(t, l)
	if l.VerifierKey() != keys[3] {
		t.Errorf("opened again it has %s, want %s", l.VerifierKey(), keys[3])
	}
	appendN(t, l, 100, 101)
}

// TestKeyOverlap: for a time checkpoints carry both signatures, also after the
// ledger was opened again.
func TestKeyOverlap(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "audit")
	var kept []string
	cfg := small()
	cfg.Anchors = []Anchor{AnchorFunc(func(_ context.Context, c Checkpoint) error { kept = append(kept, c.Note); return nil })}
	l := mustOpen(t, dir, cfg)
	appendN(t, l, 0, 1)
	previous, vkey, err := l.RotateKey(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	appendN(t, l, 2, 3)
	both := func(what, note string) {
		t.Helper()
		for _, key := range []string{previous, vkey} {
			if _, err := parseCheckpoint([]byte(note), key); err != nil {
				t.Errorf("%s under %s: %v", what, key, err)
			}
		}
	}
	both("checkpoint", l.Checkpoint().Note)
	mustClose(t, l)
	both("what was anchored", kept[len(kept)-1])
	l = mustOpen(t, dir, small())
	both("checkpoint after opening again", l.Checkpoint().Note)
	mustClose(t, l)
	checkClean(t, dir, 3)
	for name, d := range map[string]time.Duration{"none": -1, "over": time.Nanosecond} {
		cfg := small()
		cfg.KeyOverlap = d
		l = mustOpen(t, dir, cfg)
		if n := strings.Count(l.Checkpoint().Note, sigPrefix); n != 1 {
			t.Errorf("overlap %s: %d signatures, want 1", name, n)
		}
		mustClose(t, l)
	}
}

// TestRotateKeyOpenPowerLoss has the power go at each call to the file system
// while the key changes, before or after that call took effect, and loses what
// was not synced in three ways: the ledger opens again, with one of the two
// keys, and nothing that was acknowledged is lost.
func TestRotateKeyOpenPowerLoss(t *testing.T) {
	for at := 1; ; at++ {
		for _, kept := range []bool{false, true} {
			if raced && (at+map[bool]int{true: 1}[kept])%5 > 0 {
				continue
			}
			fsys := freshFS(t)
			l := mustOpen(t, "/l/audit", tiny(fsys))
			var acked []Receipt
			for n := range 8 {
				r, err := l.Append(t.Context(), numbered(n))
				if err != nil {
					t.Fatal(err)
				}
				acked = append(acked, r)
			}
			first := l.VerifierKey()
			fsys.mu.Lock()
			begun := fsys.ops
			fsys.failAt, fsys.kept, fsys.stop = begun+at, kept, true
			fsys.mu.Unlock()
			_, vkey, err := l.RotateKey(t.Context())
			fsys.mu.Lock()
			dead := fsys.dead
			fsys.failAt = -1
			fsys.mu.Unlock()
			for how := range crashModes {
				survivor := fsys.crash(how, rand.New(rand.NewPCG(uint64(at), uint64(how))))
				if !t.Run(fmt.Sprintf("call %d, kept %v, crash %d", at, kept, how), func(t *testing.T) {
					if _, err := verify(t.Context(), survivor, "/l/audit", VerifyConfig{Checkpoint: []byte(acked[7].Checkpoint.Note)}); err != nil {
						t.Fatalf("Verify after the crash: %v", err)
					}
					checkSurvivor(t, survivor, nil)
					again := mustOpen(t, "/l/audit", tiny(survivor))
					defer mustClose(t, again)
					if now := again.VerifierKey(); err == nil && now != vkey || err != nil && !dead && now != first {
						t.Errorf("the key is %s after RotateKey = %s, %v", now, vkey, err)
					}
					for _, r := range acked {
						if e, err := again.Get(t.Context(), r.Index); err != nil || e.ID != r.ID {
							t.Errorf("entry %d is %s, %v, want %s", r.Index, e.ID, err, r.ID)
						}
					}
				}) {
					return
				}
			}
			_ = l.Close() // refuses: the power is gone
			if !dead {
				if at < 15 {
					t.Errorf("the change took only %d calls", at)
				}
				return
			}
		}
	}
}
