package audit

import (
	"errors"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// carryWork makes a ledger whose oldest segments have an erasure of which
// entries stay, one of which none does, a hold that is active, and one that was
// released in a later segment.
func carryWork(t testing.TB, l *Ledger) (kept, gone string) {
	t.Helper()
	seal := func() {
		t.Helper()
		if err := l.Seal(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	erase := func(who string) string {
		t.Helper()
		r, err := l.Erase(t.Context(), Erasure{Subject: who, Reason: "request"})
		if err != nil {
			t.Fatal(err)
		}
		return r.Token
	}
	hold := func(id string) {
		t.Helper()
		if _, _, err := l.Hold(t.Context(), Hold{ID: id, AgentID: "nobody yet", Reason: "case"}); err != nil {
			t.Fatal(err)
		}
	}
	mustAppend(t, l, about(0, "p0"), about(1, "p1"))
	gone = erase("p0")
	hold("active")
	hold("ended")
	seal() // segment 0
	if _, err := l.Release(t.Context(), Release{ID: "ended"}); err != nil {
		t.Fatal(err)
	}
	mustAppend(t, l, about(2, "p1"))
	seal() // segment 1
	kept = erase("p1")
	seal() // segment 2
	mustAppend(t, l, about(3, "p2"))
	seal()
	return kept, gone
}

// checkCarried holds an open ledger to what carryWork has left.
func checkCarried(t testing.TB, l *Ledger) {
	t.Helper()
	holds := l.Holds()
	if len(holds) != 1 || holds[0].ID != "active" || holds[0].Reason != "case" || holds[0].AgentID != "nobody yet" {
		t.Errorf("holds: %+v, want the active one", holds)
	}
	if _, err := l.Get(t.Context(), holds[0].Index); err != nil {
		t.Errorf("the entry of the hold: %v", err)
	}
}

// TestPruneCarries removes segments with erasures, holds and releases: what is
// still needed of them is repeated, the rest goes, and a release stays while its
// hold does.
func TestPruneCarries(t *testing.T) {
	fsys := freshFS(t)
	cfg := subjectConfig(fsys)
	l := mustOpen(t, "/l/audit", cfg)
	kept, gone := carryWork(t, l)
	if _, _, err := l.RotateKey(t.Context()); err != nil {
		t.Fatal(err)
	}
	placed := l.Holds()[0].Placed
	segs := l.Segments()
	// A release without its hold: refused, whatever the order.
	if reason, err := l.kept(t.Context(), segs[1], map[int64]bool{}); err != nil || reason == "" {
		t.Fatalf("a segment with the release of a hold that stays: %q, %v", reason, err)
	}
	// The first segment alone, by age of what is in it.
	first, err := l.Prune(t.Context(), PruneOptions{Retention: Retention{MaxAge: time.Nanosecond}, Now: segs[0].Newest.Add(2)})
	if err != nil || len(first.Removed) != 1 || len(first.Held) != 0 {
		t.Fatalf("Prune = %+v, %v; want the first segment", first, err)
	}
	checkCarried(t, l)
	if now := l.Holds()[0]; now.Index < segs[3].Base || !now.Placed.Equal(placed) {
		t.Errorf("hold %+v, want it placed anew, and the time of before, %v", now, placed)
	}
	if back, err := l.Erase(t.Context(), Erasure{Subject: gone}); err != nil || back.Found {
		t.Errorf("an erasure of which no entry is left: %+v, %v", back, err)
	}
	before, err := l.Erase(t.Context(), Erasure{Subject: kept})
	if err != nil || !before.Found {
		t.Fatal(before, err)
	}
	// The receipt of p1 goes while its entry in segment 1 stays: a hold is on it.
	if _, _, err := l.Hold(t.Context(), Hold{ID: "one", Subject: kept}); err != nil {
		t.Fatal(err)
	}
	again, err := l.Prune(t.Context(), PruneOptions{Retention: Retention{MaxBytes: 1}})
	if err != nil {
		t.Fatal(err)
	}
	var removed []int64
	for _, s := range again.Removed {
		removed = append(removed, s.Base)
	}
	if !slices.Contains(removed, segs[2].Base) {
		t.Fatalf("Prune = %+v, want segment 2 among what is removed", again)
	}
	after, err := l.Erase(t.Context(), Erasure{Subject: kept})
	if err != nil || !after.Found || after.Receipt.Index <= before.Receipt.Index || !after.Time.Equal(before.Time) || after.Entries != before.Entries {
		t.Errorf("erasure of which entries are left: %+v, %v; before %+v", after, err, before)
	}
	mustClose(t, l)
	l = mustOpen(t, "/l/audit", cfg)
	if _, err := l.Release(t.Context(), Release{ID: "one"}); err != nil {
		t.Fatal(err)
	}
	checkCarried(t, l)
	mustClose(t, l)
	if r, err := verify(t.Context(), fsys, "/l/audit", VerifyConfig{}); err != nil || !r.Clean || r.Pruned == 0 {
		t.Errorf("Verify = %+v, %v", r, err)
	}
}

// TestPruneCarriesPowerLoss stops the machine at every call of a removal that
// carries things over. Whatever is left, no hold is lost, none comes back, no
// erased subject either, and it verifies.
func TestPruneCarriesPowerLoss(t *testing.T) {
	fsys := freshFS(t)
	cfg := subjectConfig(fsys)
	l := mustOpen(t, "/l/audit", cfg)
	kept, gone := carryWork(t, l)
	mustClose(t, l)
	everything := PruneOptions{Retention: Retention{MaxBytes: 1}}
	probe := fsys.clone()
	run := func(fsys *memFS) error {
		cfg := cfg
		cfg.fsys = fsys
		l, err := Open("/l/audit", cfg)
		if err != nil {
			return err
		}
		_, err = l.Prune(t.Context(), everything)
		return errors.Join(err, l.Close())
	}
	if err := run(probe); err != nil {
		t.Fatal(err)
	}
	for at := 1; at <= probe.ops; at++ {
		if raced && at%7 > 0 {
			continue
		}
		for how := range crashModes {
			broken := fsys.clone()
			broken.failAt, broken.stop, broken.kept = at, true, at%2 == 0
			_ = run(broken) // fails somewhere
			left := broken.crash(how, rand.New(rand.NewPCG(uint64(at), uint64(how))))
			if _, err := verify(t.Context(), left, "/l/audit", VerifyConfig{}); err != nil {
				t.Fatalf("call %d, crash %d: Verify = %v", at, how, err)
			}
			cfg.fsys = left
			l := mustOpen(t, "/l/audit", cfg)
			checkCarried(t, l)
			if _, err := l.Prune(t.Context(), everything); err != nil {
				t.Fatalf("call %d, crash %d: Prune = %v", at, how, err)
			}
			checkCarried(t, l)
			for _, token := range []string{kept, gone} {
				if _, cover := l.vault.who(token); cover != Erased {
					t.Fatalf("call %d, crash %d: %s is %v", at, how, token, cover)
				}
			}
			mustClose(t, l)
			if r, err := verify(t.Context(), left, "/l/audit", VerifyConfig{}); err != nil || !r.Clean {
				t.Fatalf("call %d, crash %d: Verify at the end = %+v, %v", at, how, r, err)
			}
		}
	}
}
