package audit

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// olderCrashed is a ledger of 5 entries that crashed, beside the memory of how
// it went on to 9: a backup of a running ledger that was put back.
func olderCrashed(t *testing.T) *memFS {
	t.Helper()
	fsys := freshFS(t)
	cfg := small()
	cfg.fsys = fsys
	l := mustOpen(t, "/l/audit", cfg)
	appendN(t, l, 0, 3)
	if err := l.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	appendN(t, l, 3, 5)
	older := fsys.clone()
	appendN(t, l, 5, 9)
	mustClose(t, l)
	memory := memoryPath("/l/audit", "")
	older.set(memory, fsys.get(t, memory))
	return older.clone()
}

// wantRestoreKept opens a ledger whose restore somebody accepted before a crash:
// it is refused again, or the ledger says so. It reports which.
func wantRestoreKept(t *testing.T, fsys *memFS) (refused bool) {
	t.Helper()
	cfg := small()
	cfg.fsys = fsys
	l, err := Open("/l/audit", cfg)
	if refused = err != nil; refused {
		if !isTamper(err) || !strings.Contains(err.Error(), "AcceptRestored") {
			t.Fatalf("Open = %v, want a TamperError with the way out", err)
		}
		cfg.AcceptRestored = true
		l = mustOpen(t, "/l/audit", cfg)
	}
	if n, err := l.Count(t.Context(), Query{AgentID: systemAgent, Action: actionRestored}); n < 1 || n > 2 || err != nil {
		t.Errorf("%d entries about the restore, %v; want one for each time that it was accepted", n, err)
	}
	appendN(t, l, 100, 101)
	mustClose(t, l)
	if _, err := verify(t.Context(), fsys, "/l/audit", VerifyConfig{}); err != nil {
		t.Errorf("Verify = %v", err)
	}
	return refused
}

// TestRestoreKept accepts a restore and ends the power at each call.
func TestRestoreKept(t *testing.T) {
	base := olderCrashed(t)
	long := os.Getenv("KAIZEN_FAULT_SEEDS") != ""
	again := map[bool]int{}
	for at, done := 1, false; !done; at++ {
		for mode := range 2 * crashModes {
			if !long && mode != at%(2*crashModes) {
				continue
			}
			kept, how := mode%2 == 1, mode/2
			fsys := base.clone()
			fsys.failAt, fsys.kept, fsys.stop = fsys.ops+at, kept, true
			cfg := small()
			cfg.fsys, cfg.AcceptRestored = fsys, true
			l, err := Open("/l/audit", cfg)
			if err == nil {
				err = l.Close()
			}
			done = err == nil
			after := fsys.crash(how, rand.New(rand.NewPCG(uint64(at), uint64(mode))))
			if !t.Run(fmt.Sprintf("call %d, kept %t, crash %d", at, kept, how), func(t *testing.T) {
				again[wantRestoreKept(t, after)]++
			}) {
				return
			}
		}
	}
	if again[true] == 0 || again[false] == 0 {
		t.Errorf("refused %d times and opened %d times: want some of both", again[true], again[false])
	}
}

// atWarning calls do when the ledger warns of a restore.
type atWarning struct {
	slog.Handler
	do func()
}

func (a atWarning) Enabled(context.Context, slog.Level) bool { return true }

func (a atWarning) Handle(_ context.Context, r slog.Record) error {
	if strings.Contains(r.Message, "was restored") {
		a.do()
	}
	return nil
}

func (a atWarning) WithAttrs([]slog.Attr) slog.Handler { return a }

// TestRestorePublished lets the keeper publish while the entry about a restore
// is not there yet: a crash then must not lose that it was accepted.
func TestRestorePublished(t *testing.T) {
	fsys := olderCrashed(t)
	cfg := small()
	cfg.fsys, cfg.AcceptRestored, cfg.publishEvery = fsys, true, time.Millisecond
	var crashed *memFS
	calls := func() int {
		fsys.mu.Lock()
		defer fsys.mu.Unlock()
		return fsys.ops
	}
	cfg.Logger = slog.New(atWarning{slog.DiscardHandler, func() {
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for from := calls(); calls() < from+20; { // more than one round of the keeper
			<-tick.C
		}
		crashed = fsys.clone()
	}})
	mustClose(t, mustOpen(t, "/l/audit", cfg))
	if crashed == nil {
		t.Fatal("nobody warned of the restore")
	}
	if !wantRestoreKept(t, crashed) {
		t.Error("a restore that is not in the ledger yet was not refused after a crash")
	}
}

// TestRestoreHeld closes a ledger that has entries, and not the one about its
// restore: nothing is published, and the ring stays for the next Open.
func TestRestoreHeld(t *testing.T) {
	fsys := freshFS(t)
	cfg := small()
	cfg.fsys = fsys
	l := mustOpen(t, "/l/audit", cfg)
	appendN(t, l, 0, 1)
	if err := l.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	before := [][]byte{fsys.get(t, "/l/audit/"+checkpointName), fsys.get(t, memoryPath("/l/audit", ""))}
	l.keeper.held.Store(true)
	appendN(t, l, 1, 2)
	if err := l.Flush(t.Context()); !errors.Is(err, errHeld) {
		t.Errorf("Flush = %v, want %v", err, errHeld)
	}
	if err := l.Close(); !errors.Is(err, errHeld) {
		t.Errorf("Close = %v, want %v", err, errHeld)
	}
	after := [][]byte{fsys.get(t, "/l/audit/"+checkpointName), fsys.get(t, memoryPath("/l/audit", ""))}
	if !slices.EqualFunc(before, after, slices.Equal) {
		t.Errorf("published while it was held:\n%s", after)
	}
	l = mustOpen(t, "/l/audit", cfg)
	if n := l.Size(); n != 3 {
		t.Errorf("%d entries, want both and ledger.recovery", n)
	}
}
