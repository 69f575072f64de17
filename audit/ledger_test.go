package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// small makes segments and ring small enough to go round many times.
func small() Config {
	return Config{sectionBytes: 16 << 10, segmentBytes: 8 << 10, publishEvery: time.Hour}
}

func mustOpen(t testing.TB, dir string, cfg Config) *Ledger {
	t.Helper()
	l, err := Open(dir, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() }) // a second Close is harmless; a first one after a failed test may fail
	return l
}

func mustClose(t testing.TB, l *Ledger) {
	t.Helper()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

func numbered(n int) Entry {
	return Entry{
		ID: fmt.Sprintf("01HZY3V9T5XKQ2M4N6P8%06d", n), Time: testTime.Add(time.Duration(n) * time.Second),
		AgentID: fmt.Sprintf("agent-%d", n%7), Action: []string{"tool.execute", "model.call", "run.start"}[n%3],
		Result: []Result{Success, Failure, Denied}[n%3], Details: map[string]any{"n": n, "text": strings.Repeat("x", n%50)},
		UserID: fmt.Sprintf("u-%d", n%5), SessionID: fmt.Sprintf("s-%d", n%11), RunID: fmt.Sprintf("r-%d", n/10),
		TraceID: fmt.Sprintf("%032x", n/4+1), SpanID: fmt.Sprintf("%016x", n+1),
	}
}

func appendN(t testing.TB, l *Ledger, from, to int) []Receipt {
	t.Helper()
	var rs []Receipt
	for n := from; n < to; n++ {
		r, err := l.Append(context.Background(), numbered(n))
		if err != nil {
			t.Fatal(err)
		}
		rs = append(rs, r)
	}
	return rs
}

// checkReceipts holds receipts against the ledger: each entry is there, with
// that hash, and its checkpoint is one of this ledger's history.
func checkReceipts(t testing.TB, l *Ledger, rs []Receipt) {
	t.Helper()
	for _, r := range rs {
		e, err := l.Get(context.Background(), r.Index)
		if err != nil {
			t.Fatalf("Get(%d) = %v", r.Index, err)
		}
		if e.ID != r.ID {
			t.Fatalf("entry %d has id %s, want %s", r.Index, e.ID, r.ID)
		}
		if got := leafOf(t, l, r.Index); got != r.LeafHash {
			t.Fatalf("entry %d has another leaf hash than its receipt", r.Index)
		}
		c, err := parseOwnCheckpoint([]byte(r.Checkpoint.Note), l.VerifierKey())
		if err != nil {
			t.Fatalf("receipt %d: %v", r.Index, err)
		}
		if diff := cmp.Diff(c, r.Checkpoint); diff != "" {
			t.Fatalf("receipt %d: checkpoint differs from its note: %s", r.Index, diff)
		}
		if c.Size <= r.Index || c.Size > l.Size() || rootOf(t, l, c.Size) != c.Root {
			t.Fatalf("receipt %d: checkpoint of %d entries is not of this history", r.Index, c.Size)
		}
	}
}

// checkLedger is the invariant of an open ledger: indexes without gaps, ids
// unique, every line canonical, hashes and proofs right.
func checkLedger(t testing.TB, l *Ledger) {
	t.Helper()
	ids := map[string]bool{}
	next := int64(0)
	for e, err := range l.Query(context.Background(), Query{}) {
		if err != nil {
			t.Fatal(err)
		}
		if e.Index != next {
			t.Fatalf("index %d follows %d", e.Index, next-1)
		}
		if ids[e.ID] {
			t.Fatalf("id %s is there twice", e.ID)
		}
		ids[e.ID] = true
		next++
	}
	if next != l.Size() || l.Stats().Entries != next {
		t.Fatalf("Query yields %d entries, Size says %d, Stats %d", next, l.Size(), l.Stats().Entries)
	}
	for i := int64(0); i < next; i += 1 + next/10 {
		p, err := l.Proof(i)
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Check(l.VerifierKey()); err != nil {
			t.Fatal(err)
		}
	}
}

// checkClean is the invariant of a closed ledger.
func checkClean(t testing.TB, dir string, size int64) Report {
	t.Helper()
	r, err := Verify(context.Background(), dir, VerifyConfig{})
	if err != nil {
		t.Fatal(err)
	}
	if !r.Clean || r.Entries != size || r.Unsigned != 0 {
		t.Fatalf("Verify = %+v, want a clean ledger of %d", r, size)
	}
	return r
}

func TestAppendAndReopen(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "audit")
	var all []Receipt
	for round := range 4 {
		l := mustOpen(t, dir, small())
		all = append(all, appendN(t, l, round*50, round*50+50)...)
		checkReceipts(t, l, all)
		checkLedger(t, l)
		mustClose(t, l)
		checkClean(t, dir, int64(round*50+50))
	}
	if info, err := os.Stat(filepath.Join(filepath.Dir(dir), "keys", "audit.key")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("key file: %v, %v; want mode 0600", info, err)
	}
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("directory: %v, %v; want mode 0700", info, err)
	}
}

func TestEmptyLedger(t *testing.T) {
	dir := t.TempDir() + "/audit"
	l := mustOpen(t, dir, Config{Origin: "example.org/log"})
	if l.Origin() != "example.org/log" || l.Size() != 0 {
		t.Errorf("origin %q, size %d", l.Origin(), l.Size())
	}
	if _, err := l.Get(t.Context(), 0); !errors.Is(err, ErrNotFound) {
		t.Errorf("Get(0) = %v, want ErrNotFound", err)
	}
	if _, err := l.Proof(0); !errors.Is(err, ErrNotFound) {
		t.Errorf("Proof(0) = %v, want ErrNotFound", err)
	}
	if err := l.Flush(t.Context()); err != nil {
		t.Error(err)
	}
	mustClose(t, l)
	checkClean(t, dir, 0)
	if _, err := Open(dir, Config{Origin: "example.org/other"}); err == nil {
		t.Error("Open with another origin succeeded")
	}
	r, err := OpenReader(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if r.Size() != 0 || r.Origin() != "example.org/log" || r.VerifierKey() != l.VerifierKey() {
		t.Errorf("reader: size %d, origin %q, key %q", r.Size(), r.Origin(), r.VerifierKey())
	}
}

func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir() + "/audit"
	l := mustOpen(t, dir, small())
	if _, err := Open(dir, small()); !errors.Is(err, ErrLocked) {
		t.Errorf("second Open = %v, want ErrLocked", err)
	}
	appendN(t, l, 0, 3)
	mustClose(t, l)
	if _, err := l.Append(t.Context(), numbered(9)); !errors.Is(err, ErrClosed) {
		t.Errorf("Append after Close = %v, want ErrClosed", err)
	}
	if err := l.AppendAsync(numbered(9)); !errors.Is(err, ErrClosed) {
		t.Errorf("AppendAsync after Close = %v, want ErrClosed", err)
	}
	if err := l.Flush(t.Context()); !errors.Is(err, ErrClosed) {
		t.Errorf("Flush after Close = %v, want ErrClosed", err)
	}
	if _, err := l.Get(t.Context(), 0); !errors.Is(err, ErrClosed) {
		t.Errorf("Get after Close = %v, want ErrClosed", err)
	}
	if err := l.Close(); err != nil {
		t.Errorf("second Close = %v", err)
	}

	if _, err := Open(dir, Config{KeyDir: filepath.Join(dir, "keys")}); err == nil || !strings.Contains(err.Error(), "inside") {
		t.Errorf("Open with the key inside = %v", err)
	}
	if _, err := Open(dir, Config{KeyDir: t.TempDir()}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Open without its key = %v, want ErrNotExist", err)
	}
	other := t.TempDir()
	mustClose(t, mustOpen(t, t.TempDir()+"/audit", Config{KeyDir: other}))
	if _, err := Open(dir, Config{KeyDir: other}); !isTamper(err) {
		t.Errorf("Open with another key = %v, want a TamperError", err)
	}
	if err := os.Remove(filepath.Join(dir, ledgerName)); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir, small()); !isTamper(err) {
		t.Errorf("Open without ledger.json = %v, want a TamperError", err)
	}
}

func TestIdempotentIDs(t *testing.T) {
	dir := t.TempDir() + "/audit"
	l := mustOpen(t, dir, small())
	first := appendN(t, l, 0, 20)
	changed := numbered(7)
	changed.Action = "other"
	batch := []Entry{numbered(7), numbered(20), changed, numbered(20), numbered(21)}
	check := func(l *Ledger, fresh bool) {
		t.Helper()
		rs, err := l.AppendBatch(t.Context(), batch)
		if err != nil {
			t.Fatal(err)
		}
		want := []struct {
			index int64
			dup   bool
		}{{7, true}, {20, !fresh}, {7, true}, {20, true}, {21, !fresh}}
		for i, r := range rs {
			if r.Index != want[i].index || r.Duplicate != want[i].dup {
				t.Errorf("receipt %d = index %d, duplicate %v; want %+v", i, r.Index, r.Duplicate, want[i])
			}
		}
		if rs[0].LeafHash != first[7].LeafHash || rs[2].LeafHash != first[7].LeafHash {
			t.Error("a duplicate's leaf hash is not that of the entry in the ledger")
		}
		if rs[0].Checkpoint.Size <= 7 {
			t.Error("a duplicate's checkpoint does not cover it")
		}
		r, err := l.Append(t.Context(), numbered(3))
		if err != nil || r.Index != 3 || !r.Duplicate {
			t.Errorf("Append(3) again = %+v, %v", r, err)
		}
		if l.Size() != 22 {
			t.Errorf("size %d, want 22", l.Size())
		}
		checkLedger(t, l)
	}
	check(l, true)
	mustClose(t, l)
	check(mustOpen(t, dir, small()), false)
}

func TestFillsIDAndTime(t *testing.T) {
	l := mustOpen(t, t.TempDir()+"/audit", small())
	before := time.Now()
	r, err := l.Append(t.Context(), Entry{AgentID: "a", Action: "b", Result: Success})
	if err != nil {
		t.Fatal(err)
	}
	e, err := l.Get(t.Context(), r.Index)
	if err != nil {
		t.Fatal(err)
	}
	if e.ID != r.ID || !isULID(e.ID) || e.Time.Before(before.Round(0)) || e.Time.After(time.Now()) {
		t.Errorf("entry %+v for receipt %+v", e, r)
	}
}

func TestBatchIsAllOrNothing(t *testing.T) {
	l := mustOpen(t, t.TempDir()+"/audit", small())
	bad := numbered(1)
	bad.Result = "fine"
	var invalid *EntryError
	if _, err := l.AppendBatch(t.Context(), []Entry{numbered(0), bad}); !errors.As(err, &invalid) || invalid.Field != "result" {
		t.Errorf("AppendBatch = %v, want an EntryError for result", err)
	}
	long := make([]Entry, 60)
	for i := range long {
		long[i] = numbered(i)
	}
	if _, err := l.AppendBatch(t.Context(), long); !errors.As(err, &invalid) || invalid.Field != "batch" {
		t.Errorf("AppendBatch of more than a section = %v, want an EntryError for batch", err)
	}
	if _, err := l.AppendBatch(t.Context(), make([]Entry, MaxBatchEntries+1)); !errors.As(err, &invalid) {
		t.Errorf("AppendBatch of too many = %v, want an EntryError", err)
	}
	if rs, err := l.AppendBatch(t.Context(), nil); rs != nil || err != nil {
		t.Errorf("AppendBatch(nil) = %v, %v", rs, err)
	}
	if l.Size() != 0 {
		t.Errorf("size %d after refused batches, want 0", l.Size())
	}
}

// TestConcurrentAppends checks what concurrent callers can rely on: indexes
// without gaps, in the order of each caller's calls, batches in one piece.
func TestConcurrentAppends(t *testing.T) {
	for _, delay := range []time.Duration{0, time.Millisecond} {
		t.Run(delay.String(), func(t *testing.T) {
			cfg := small()
			cfg.SyncDelay, cfg.publishEvery = delay, time.Millisecond
			l := mustOpen(t, t.TempDir()+"/audit", cfg)
			const writers, rounds = 16, 30
			var wg sync.WaitGroup
			got := make([][]Receipt, writers)
			for w := range writers {
				wg.Go(func() {
					last := int64(-1)
					for i := range rounds {
						batch := []Entry{numbered(w*1000 + 2*i)}
						if i%3 == 0 {
							batch = append(batch, numbered(w*1000+2*i+1))
						}
						size := l.Size()
						rs, err := l.AppendBatch(t.Context(), batch)
						if err != nil {
							t.Error(err)
							return
						}
						if rs[0].Index <= last || rs[0].Index < size || len(rs) == 2 && rs[1].Index != rs[0].Index+1 {
							t.Errorf("writer %d: indexes %v after %d, ledger had %d", w, rs, last, size)
						}
						last = rs[len(rs)-1].Index
						if e, err := l.Get(t.Context(), last); err != nil || e.ID != rs[len(rs)-1].ID {
							t.Errorf("Get after Append = %v, %v", e.ID, err)
						}
						got[w] = append(got[w], rs...)
					}
				})
			}
			wg.Wait()
			all := slices.Concat(got...)
			seen := map[int64]bool{}
			for _, r := range all {
				seen[r.Index] = true
			}
			if int64(len(seen)) != l.Size() || len(all) != len(seen) {
				t.Errorf("%d receipts with %d indexes for %d entries", len(all), len(seen), l.Size())
			}
			checkReceipts(t, l, all)
			checkLedger(t, l)
			mustClose(t, l)
			checkClean(t, l.store.dir, int64(len(all)))
		})
	}
}

func TestAsyncAndFlush(t *testing.T) {
	l := mustOpen(t, t.TempDir()+"/audit", small())
	for n := range 100 {
		if err := l.AppendAsync(numbered(n)); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if l.Size() != 100 {
		t.Errorf("size %d after Flush, want 100", l.Size())
	}
	r, err := OpenReader(l.store.dir)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if r.Size() != 100 {
		t.Errorf("a reader sees %d entries after Flush, want 100", r.Size())
	}
	var bad *EntryError
	if err := l.AppendAsync(Entry{}); !errors.As(err, &bad) {
		t.Errorf("AppendAsync of an empty entry = %v, want an EntryError", err)
	}
}

// encoded is a write of these entries, as the append methods queue it.
func encoded(entries ...Entry) (*write, error) {
	w := new(writePool).take()
	return w, w.encode(entries)
}

func TestQueueIsBounded(t *testing.T) {
	q := newQueue(defaultSectionBytes)
	e := numbered(1)
	for {
		w, err := encoded(e)
		if err != nil {
			t.Fatal(err)
		}
		if err := q.tryPut(w); errors.Is(err, ErrFull) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	if n := q.len(); n != maxQueueEntries {
		t.Errorf("the queue holds %d entries, want %d", n, maxQueueEntries)
	}
	if len(q.wake) != 1 {
		t.Error("the first write did not hand the turn to the committer's goroutine")
	}
	w, err := encoded(e)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := q.put(ctx, w); !errors.Is(err, context.Canceled) || errors.Is(err, ErrUnconfirmed) {
		t.Errorf("put into a full queue = %v, want context.Canceled", err)
	}
	waiting := make(chan error)
	go func() {
		lead, err := q.put(t.Context(), w)
		if lead {
			err = errors.New("put gave out the turn a second time")
		}
		waiting <- err
	}()
	ws := q.take(nil)
	if len(ws) != MaxBatchEntries {
		t.Errorf("take = %d writes; want %d", len(ws), MaxBatchEntries)
	}
	if err := <-waiting; err != nil {
		t.Errorf("put after take = %v", err)
	}
	q.close(ErrClosed)
	if _, err := q.put(t.Context(), w); !errors.Is(err, ErrClosed) {
		t.Errorf("put after close = %v, want ErrClosed", err)
	}
	total := len(ws)
	for {
		if idle, done := q.idle(); done {
			break
		} else if idle {
			t.Fatal("a closed queue lets the turn go")
		}
		total += len(q.take(nil))
	}
	if total != maxQueueEntries+1 {
		t.Errorf("took %d entries in all, want %d", total, maxQueueEntries+1)
	}
}

func TestCancelledAppendIsWritten(t *testing.T) {
	l := mustOpen(t, t.TempDir()+"/audit", small())
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := l.Append(ctx, numbered(0))
	if err != nil && !errors.Is(err, ErrUnconfirmed) {
		t.Errorf("Append = %v, want nil or ErrUnconfirmed", err)
	}
	r, err := l.Append(t.Context(), numbered(0))
	if err != nil || r.Index != 0 {
		t.Errorf("repeated Append = %+v, %v; want index 0", r, err)
	}
}

func TestTamperUnderOpenLedger(t *testing.T) {
	dir := t.TempDir() + "/audit"
	l := mustOpen(t, dir, Config{})
	appendN(t, l, 0, 5)
	if err := l.Flush(t.Context()); err != nil { // no line is on its way to the file
		t.Fatal(err)
	}
	name := filepath.Join(dir, segDir, segStem(0)+lineExt)
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, bytes.Replace(b, []byte("agent-2"), []byte("agent-9"), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	var damage *TamperError
	if _, err := l.Get(t.Context(), 2); !errors.As(err, &damage) || damage.Index != 2 {
		t.Errorf("Get(2) = %v, want a TamperError for entry 2", err)
	}
	if _, err := l.Get(t.Context(), 1); err != nil {
		t.Errorf("Get(1) = %v", err)
	}
}
