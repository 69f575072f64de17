package audit

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"syscall"
	"testing"

	"github.com/kaizen-go/kaizen/internal/durable"
)

// rounds is how often a random test repeats: n, unless the variable says more.
func rounds(t testing.TB, variable string, n int) int {
	t.Helper()
	v := os.Getenv(variable)
	if v == "" {
		return n
	}
	more, err := strconv.Atoi(v)
	if err != nil {
		t.Fatal(err)
	}
	return more
}

// life is what a ledger goes through in the fault sweep: created, filled with
// single entries and batches, flushed, closed, opened again. It goes on after
// an error as a stubborn caller would, and returns what was acknowledged.
func life(cfg Config, rnd *rand.Rand) (acked []Receipt) {
	ctx := context.Background()
	n := 0
	for range 2 {
		l, err := Open("/l/audit", cfg)
		if err != nil {
			continue
		}
		for range 12 {
			batch := make([]Entry, 1+rnd.IntN(4))
			for i := range batch {
				batch[i] = numbered(n)
				n++
			}
			rs, err := l.AppendBatch(ctx, batch)
			if err == nil {
				acked = append(acked, rs...)
			}
			if rnd.IntN(5) == 0 {
				_ = l.Flush(ctx) // its failure shows in what follows
			}
		}
		_ = l.Close()
	}
	return acked
}

// freshFS has the directory that the ledger is made in.
func freshFS(t testing.TB) *memFS {
	t.Helper()
	fsys := newMemFS()
	if err := durable.MkdirAll(fsys, "/l"); err != nil {
		t.Fatal(err)
	}
	fsys.ops = 0
	return fsys
}

func tiny(fsys *memFS) Config {
	cfg := small()
	cfg.sectionBytes, cfg.segmentBytes, cfg.fsys = 8<<10, 3<<10, fsys
	return cfg
}

// checkSurvivor holds a file system after a crash to the promise: it verifies
// as it is, opens, has every acknowledged entry, and verifies once closed.
func checkSurvivor(t *testing.T, fsys *memFS, acked []Receipt) {
	t.Helper()
	if len(acked) > 0 {
		if _, err := verify(t.Context(), fsys, "/l/audit", VerifyConfig{Checkpoint: []byte(acked[len(acked)-1].Checkpoint.Note)}); err != nil {
			t.Fatalf("Verify after the crash: %v", err)
		}
	}
	l, err := Open("/l/audit", tiny(fsys))
	if err != nil {
		t.Fatalf("Open after the crash: %v", err)
	}
	checkReceipts(t, l, acked)
	checkLedger(t, l)
	size := l.Size()
	if _, err := l.Append(t.Context(), numbered(999)); err != nil {
		t.Fatal(err)
	}
	mustClose(t, l)
	r, err := verify(t.Context(), fsys, "/l/audit", VerifyConfig{})
	if err != nil || !r.Clean || r.Entries != size+1 {
		t.Fatalf("Verify after recovery = %+v, %v; want %d entries, clean", r, err, size+1)
	}
}

// TestFaultSweep fails every write, sync, rename, truncate, create and remove
// in turn: once with the effect lost and once with it kept, as one error or as
// the end of power. Then the machine crashes, losing what was not synced in
// three ways.
func TestFaultSweep(t *testing.T) {
	seeds := rounds(t, "KAIZEN_FAULT_SEEDS", 2)
	states := 0
	for seed := range seeds {
		indirect := seed%2 == 1
		probe := freshFS(t)
		probe.indirect = indirect
		life(tiny(probe), rand.New(rand.NewPCG(uint64(seed), 1)))
		for at := 1; at <= probe.ops; at++ {
			for mode := range 4 {
				if seeds <= 2 && (mode != at%4 || raced && at%9 > 0) {
					continue // the long form runs them all
				}
				fsys := freshFS(t)
				fsys.indirect = indirect
				fsys.failAt, fsys.kept, fsys.stop = at, mode&1 == 1, mode&2 == 2
				acked := life(tiny(fsys), rand.New(rand.NewPCG(uint64(seed), 1)))
				for how := range crashModes {
					name := fmt.Sprintf("seed %d, call %d, kept %v, stop %v, crash %d", seed, at, fsys.kept, fsys.stop, how)
					survivor := fsys.crash(how, rand.New(rand.NewPCG(uint64(seed*1000+at), uint64(how))))
					if !t.Run(name, func(t *testing.T) { checkSurvivor(t, survivor, acked) }) {
						return
					}
					states++
				}
			}
		}
	}
	t.Logf("%d crash states", states)
}

// TestPowerLossAnytime cuts the power at random calls, with several writers
// and a keeper that works all the time.
func TestPowerLossAnytime(t *testing.T) {
	for seed := range rounds(t, "KAIZEN_POWER_ROUNDS", 150) {
		rnd := rand.New(rand.NewPCG(uint64(seed), 7))
		fsys := newMemFS()
		fsys.indirect = rnd.IntN(2) == 0
		cfg := tiny(fsys)
		cfg.publishEvery = 50_000 // ns
		acked := make(chan []Receipt, 4)
		l, err := Open("/l/audit", cfg)
		if err != nil {
			t.Fatal(err)
		}
		fsys.mu.Lock()
		fsys.failAt, fsys.stop, fsys.kept = fsys.ops+1+rnd.IntN(300), true, rnd.IntN(2) == 0
		fsys.mu.Unlock()
		for w := range 4 {
			go func() {
				var mine []Receipt
				for n := w * 100_000; ; n++ {
					r, err := l.Append(context.Background(), numbered(n))
					if err != nil {
						acked <- mine
						return
					}
					mine = append(mine, r)
				}
			}()
		}
		var all []Receipt
		for range 4 {
			all = append(all, <-acked...)
		}
		if err := l.Close(); !errors.Is(err, ErrFailed) {
			t.Fatalf("Close after the power went = %v, want ErrFailed", err)
		}
		how := rnd.IntN(crashModes)
		if !t.Run(fmt.Sprintf("seed %d, crash %d", seed, how), func(t *testing.T) {
			checkSurvivor(t, fsys.crash(how, rnd), all)
		}) {
			return
		}
	}
}

// TestDiskFull fills the disk at every size in turn. Nothing that was
// acknowledged is lost, the ledger says what is wrong, and works again once
// there is room.
func TestDiskFull(t *testing.T) {
	empty := freshFS(t)
	life(tiny(empty), rand.New(rand.NewPCG(5, 5)))
	for limit := int64(200); limit < empty.used()+40<<10; limit += 701 {
		fsys := freshFS(t)
		fsys.limit = limit
		acked := life(tiny(fsys), rand.New(rand.NewPCG(5, 5)))
		if _, err := Open("/l/audit", tiny(fsys)); err != nil && !errors.Is(err, syscall.ENOSPC) {
			t.Fatalf("limit %d: Open = %v, want ENOSPC", limit, err)
		}
		if !t.Run(strconv.FormatInt(limit, 10), func(t *testing.T) { checkSurvivor(t, fsys.clone(), acked) }) {
			return
		}
	}
}

// TestDiskFullResumes fills the disk under an open ledger: entries are refused
// until there is room, the ledger need not be reopened, and nothing that was
// acknowledged is lost, nor anything refused written.
func TestDiskFullResumes(t *testing.T) {
	for spare := int64(1); spare < 20<<10; spare += 1777 {
		fsys := freshFS(t)
		l := mustOpen(t, "/l/audit", tiny(fsys))
		fsys.leave(spare)
		n, refused := 0, false
		for ; n < 60 && !refused; n++ {
			_, err := l.Append(t.Context(), numbered(n))
			refused = err != nil
			if refused && (!errors.Is(err, ErrNoSpace) || !errors.Is(err, syscall.ENOSPC) || errors.Is(err, ErrFailed) || errors.Is(err, ErrUnconfirmed)) {
				t.Fatalf("spare %d: Append on a full disk = %v, want ErrNoSpace and the cause alone", spare, err)
			}
		}
		if !refused {
			t.Fatalf("spare %d: %d entries on a full disk", spare, n)
		}
		if err := l.Flush(t.Context()); err != nil && !errors.Is(err, ErrNoSpace) {
			t.Fatalf("spare %d: Flush on a full disk = %v, want ErrNoSpace or nil", spare, err)
		}
		if l.Size() != int64(n-1) {
			t.Errorf("spare %d: size %d after %d entries and one refused", spare, l.Size(), n-1)
		}
		checkLedger(t, l)
		fsys.leave(1 << 30)
		appendN(t, l, n-1, n+30)
		checkLedger(t, l)
		mustClose(t, l)
		r, err := verify(t.Context(), fsys, "/l/audit", VerifyConfig{})
		if err != nil || !r.Clean || r.Entries != int64(n+30) {
			t.Fatalf("spare %d: Verify = %+v, %v; want %d entries, clean", spare, r, err, n+30)
		}
	}
}

// TestReadOnly makes the file system read-only under an open ledger, and under
// one that is being opened: the errors name the cause, nothing is damaged, and
// all goes on once it is writable.
func TestReadOnly(t *testing.T) {
	fsys := freshFS(t)
	l := mustOpen(t, "/l/audit", tiny(fsys))
	acked := appendN(t, l, 0, 10)
	if err := l.Flush(t.Context()); err != nil { // the last line is in its segment
		t.Fatal(err)
	}
	fsys.setReadOnly(true)
	if _, err := l.Append(t.Context(), numbered(10)); !errors.Is(err, syscall.EROFS) || !errors.Is(err, ErrFailed) && !errors.Is(err, ErrNoSpace) {
		t.Errorf("Append = %v, want EROFS and ErrFailed or ErrNoSpace", err)
	}
	checkReceipts(t, l, acked)
	if err := l.Close(); !errors.Is(err, syscall.EROFS) {
		t.Errorf("Close = %v, want EROFS", err)
	}
	if _, err := Open("/l/audit", tiny(fsys)); !errors.Is(err, syscall.EROFS) {
		t.Errorf("Open = %v, want EROFS", err)
	}
	fsys.setReadOnly(false)
	checkSurvivor(t, fsys.clone(), acked)
	checkSurvivor(t, fsys.crash(crashLoses, nil), acked)
}

// TestFlushOfUnwritten: the lines of an acknowledged entry could not be written to
// their segment, and the ledger has not heard of it yet. Flush must not say that
// they are there: a manifest that names the entry may be written next.
func TestFlushOfUnwritten(t *testing.T) {
	t.Parallel()
	cfg := small()
	cfg.fsys = freshFS(t)
	l := mustOpen(t, "/l/audit", cfg)
	appendN(t, l, 0, 3)
	l.store.mu.Lock()
	l.store.broken = errInjected // as apply leaves it
	l.store.mu.Unlock()
	if err := l.Flush(t.Context()); !errors.Is(err, errInjected) || !errors.Is(err, ErrFailed) {
		t.Errorf("Flush = %v, want the failure", err)
	}
	if err := l.Close(); !errors.Is(err, ErrFailed) {
		t.Errorf("Close = %v, want ErrFailed", err)
	}
}

// TestFailedLedgerRefuses looks at the errors after a failed sync.
func TestFailedLedgerRefuses(t *testing.T) {
	t.Run("direct", func(t *testing.T) { testFailedLedgerRefuses(t, false) })
	t.Run("indirect", func(t *testing.T) { testFailedLedgerRefuses(t, true) })
}

func testFailedLedgerRefuses(t *testing.T, indirect bool) {
	fsys := newMemFS()
	fsys.indirect = indirect
	l, err := Open("/l/audit", tiny(fsys))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.Append(t.Context(), numbered(0)); err != nil {
		t.Fatal(err)
	}
	if err := l.Flush(t.Context()); err != nil { // and the keeper is at rest
		t.Fatal(err)
	}
	fsys.failAt = fsys.ops + 1 // the write to the ring
	if indirect {
		fsys.failAt++ // its sync
	}
	if _, err := l.Append(t.Context(), numbered(1)); !errors.Is(err, ErrFailed) || !errors.Is(err, ErrUnconfirmed) || !errors.Is(err, errInjected) {
		t.Errorf("Append during the failure = %v, want ErrFailed, ErrUnconfirmed and the cause", err)
	}
	if _, err := l.Append(t.Context(), numbered(2)); !errors.Is(err, ErrFailed) {
		t.Errorf("Append after the failure = %v, want ErrFailed", err)
	}
	if err := l.AppendAsync(numbered(2)); !errors.Is(err, ErrFailed) {
		t.Errorf("AppendAsync after the failure = %v, want ErrFailed", err)
	}
	if err := l.Flush(t.Context()); !errors.Is(err, ErrFailed) {
		t.Errorf("Flush after the failure = %v, want ErrFailed", err)
	}
	if e, err := l.Get(t.Context(), 0); err != nil || e.ID != numbered(0).ID {
		t.Errorf("Get after the failure = %v, %v", e, err)
	}
	if err := l.Close(); !errors.Is(err, ErrFailed) {
		t.Errorf("Close after the failure = %v, want ErrFailed", err)
	}
	if l, err = Open("/l/audit", tiny(fsys)); err != nil {
		t.Fatal(err)
	}
	if n := l.Size() - int64(len(systemEntriesOf(t, l))); n < 1 || n > 2 {
		t.Errorf("%d entries after reopening, want 1 or 2", n)
	}
	mustClose(t, l)
}
