package wal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var t0 = time.Date(2026, 11, 22, 10, 0, 0, 123456789, time.UTC)

// collect opens the log in dir and returns it with all that it replayed.
func collect(t *testing.T, dir string, cfg Config) (*Log, []Record, error) {
	t.Helper()
	var got []Record
	l, err := Open(dir, cfg, func(r Record) error {
		r.Payload = bytes.Clone(r.Payload)
		got = append(got, r)
		return nil
	})
	checkOrder(t, got)
	return l, got, err
}

// checkOrder is the log's invariant: sequences without gaps.
func checkOrder(t *testing.T, got []Record) {
	t.Helper()
	for i, r := range got {
		if r.Seq != got[0].Seq+uint64(i) {
			t.Fatalf("record %d has sequence %d after %d", i, r.Seq, got[0].Seq+uint64(i)-1)
		}
	}
}

func mustOpen(t *testing.T, dir string, cfg Config) (*Log, []Record) {
	t.Helper()
	l, got, err := collect(t, dir, cfg)
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	return l, got
}

func mustAppend(t *testing.T, l *Log, s Signal, payload string) uint64 {
	t.Helper()
	seq, err := l.Append(t.Context(), s, t0, []byte(payload))
	if err != nil {
		t.Fatalf("Append: %v", err)
	}
	return seq
}

func mustClose(t *testing.T, l *Log) {
	t.Helper()
	if err := l.Close(); err != nil {
		t.Fatalf("Close: %v", err)
	}
}

func TestAppendAndReplay(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "wal")
	long := strings.Repeat("a prompt that repeats ", 500)
	want := []Record{
		{1, Traces, t0, []byte("short")},
		{2, Metrics, t0, []byte(long)},
		{3, Logs, t0, nil},
	}
	for round := range 3 {
		l, got := mustOpen(t, dir, Config{})
		if round == 0 {
			for _, r := range want {
				if seq := mustAppend(t, l, r.Signal, string(r.Payload)); seq != r.Seq {
					t.Fatalf("Append = %d, want %d", seq, r.Seq)
				}
			}
		} else if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("round %d: replay (-want +got):\n%s", round, diff)
		}
		mustClose(t, l)
		want[2].Payload = []byte{}
	}
	info, err := os.Stat(filepath.Join(dir, segmentName(1)))
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 {
		t.Errorf("segment has mode %v, want owner only", info.Mode())
	}
	if info.Size() > 2000 {
		t.Errorf("segment has %d bytes for %d repeating ones: not packed", info.Size(), len(long))
	}
}

func TestManyWritersShareSyncs(t *testing.T) {
	d := newMemDisk()
	l, _ := mustOpen(t, "w", Config{disk: d, SegmentBytes: 4096})
	var wg sync.WaitGroup
	for w := range 16 {
		wg.Go(func() {
			for i := range 50 {
				if _, err := l.Append(t.Context(), Logs, t0, fmt.Appendf(nil, "%d/%d", w, i)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	mustClose(t, l)
	d.crash()
	l, got := mustOpen(t, "w", Config{disk: d})
	defer mustClose(t, l)
	seen := map[string]bool{}
	for _, r := range got {
		seen[string(r.Payload)] = true
	}
	if len(got) != 800 || len(seen) != 800 {
		t.Fatalf("replayed %d records, %d different, want 800", len(got), len(seen))
	}
}

func TestAppendRefusals(t *testing.T) {
	l, _ := mustOpen(t, "w", Config{disk: newMemDisk(), MaxRecordBytes: 10})
	if _, err := l.Append(t.Context(), Logs, t0, make([]byte, 11)); !errors.Is(err, ErrTooLarge) {
		t.Errorf("Append(11 bytes) = %v, want ErrTooLarge", err)
	}
	mustClose(t, l)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := l.Append(ctx, Logs, t0, nil); !errors.Is(err, ErrClosed) && !errors.Is(err, context.Canceled) {
		t.Errorf("Append after Close = %v, want ErrClosed", err)
	}
	if _, err := l.Append(t.Context(), Logs, t0, nil); !errors.Is(err, ErrClosed) {
		t.Errorf("Append after Close = %v, want ErrClosed", err)
	}
}

// TestFaults fails each operation in turn, with its effect lost and kept, cuts
// the power, and looks for every acknowledged record.
func TestFaults(t *testing.T) {
	for _, keep := range []bool{false, true} {
		for _, torn := range []int{0, 7, 60} {
			for n := 1; ; n++ {
				d := newMemDisk()
				d.failAt, d.keep, d.torn = n, keep, torn
				cfg := Config{disk: d, SegmentBytes: 150}
				acked, failed := appendUntilBroken(t, cfg)
				reached := d.ops >= n
				d.crash()
				l, got := mustOpen(t, "w", Config{disk: d, SegmentBytes: 150})
				checkAcked(t, got, acked, failed, fmt.Sprintf("op %d keep %v torn %d", n, keep, torn))
				mustAppend(t, l, Logs, "after")
				mustClose(t, l)
				if !reached {
					break
				}
			}
		}
	}
}

// appendUntilBroken opens a log, appends ten records and closes it, and says
// which were acknowledged and which failed.
func appendUntilBroken(t *testing.T, cfg Config) (acked, failed map[string]bool) {
	acked, failed = map[string]bool{}, map[string]bool{}
	l, err := Open("w", cfg, nil)
	if err != nil {
		return acked, failed
	}
	for i := range 10 {
		p := fmt.Sprintf("record %d", i)
		if _, err := l.Append(t.Context(), Logs, t0, []byte(p)); err != nil {
			failed[p] = true
			continue
		}
		acked[p] = true
		if len(failed) > 0 && l.broken != nil {
			t.Fatalf("a broken log acknowledged %q", p)
		}
	}
	_ = l.Close() // may meet the fault; what counts is what the next open finds
	return acked, failed
}

func checkAcked(t *testing.T, got []Record, acked, failed map[string]bool, when string) {
	t.Helper()
	seen := map[string]int{}
	for _, r := range got {
		p := string(r.Payload)
		seen[p]++
		if seen[p] > 1 || !acked[p] && !failed[p] {
			t.Fatalf("%s: %q is there %d times and was appended: %v", when, p, seen[p], acked[p] || failed[p])
		}
	}
	for p := range acked {
		if seen[p] != 1 {
			t.Fatalf("%s: acknowledged %q is lost", when, p)
		}
	}
}

// TestFaultsOfRecovery fails each operation of an Open that finds a torn tail,
// and looks for every acknowledged record after the next one.
func TestFaultsOfRecovery(t *testing.T) {
	for _, keep := range []bool{false, true} {
		for n := 1; ; n++ {
			d := newMemDisk()
			cfg := Config{disk: d, SegmentBytes: 150}
			acked, _ := appendUntilBroken(t, cfg)
			d.mu.Lock()
			last := ""
			for name := range d.names {
				last = max(last, name)
			}
			d.names[last].cache = append(d.names[last].cache, "a torn tail"...)
			d.names[last].synced = d.names[last].cache
			d.ops, d.failAt, d.keep = 0, n, keep
			d.mu.Unlock()
			l, _, err := collect(t, "w", cfg)
			reached := d.ops >= n
			if err == nil {
				mustCloseOrFault(t, l)
			}
			d.crash()
			l, got := mustOpen(t, "w", cfg)
			checkAcked(t, got, acked, nil, fmt.Sprintf("recovery op %d keep %v", n, keep))
			mustClose(t, l)
			if !reached {
				break
			}
		}
	}
}

func mustCloseOrFault(t *testing.T, l *Log) {
	t.Helper()
	if err := l.Close(); err != nil && !errors.Is(err, errFault) {
		t.Fatalf("Close: %v", err)
	}
}

// TestFaultsOfTrim fails each operation of a Trim. What is left must be the
// newest records without a gap.
func TestFaultsOfTrim(t *testing.T) {
	for _, keep := range []bool{false, true} {
		for n := 1; ; n++ {
			d := newMemDisk()
			cfg := Config{disk: d, SegmentBytes: 150}
			l, _ := mustOpen(t, "w", cfg)
			for i := range 12 {
				mustAppend(t, l, Metrics, fmt.Sprintf("record %d", i))
			}
			d.mu.Lock()
			d.ops, d.failAt, d.keep = 0, n, keep
			d.mu.Unlock()
			err := l.Trim(200)
			d.mu.Lock()
			d.failAt = 0
			d.mu.Unlock()
			reached := err != nil
			mustClose(t, l)
			d.crash()
			l, got := mustOpen(t, "w", cfg)
			if len(got) == 0 || string(got[len(got)-1].Payload) != "record 11" {
				t.Fatalf("op %d keep %v: %d records are left", n, keep, len(got))
			}
			mustClose(t, l)
			if !reached {
				break
			}
		}
	}
}

func TestBrokenAfterFailedSync(t *testing.T) {
	d := newMemDisk()
	l, _ := mustOpen(t, "w", Config{disk: d})
	mustAppend(t, l, Logs, "one")
	d.mu.Lock()
	d.failAt, d.ops = 2, 0 // the write is good, the sync fails
	d.mu.Unlock()
	for range 3 {
		if _, err := l.Append(t.Context(), Logs, t0, []byte("two")); !errors.Is(err, ErrBroken) {
			t.Fatalf("Append after a failed sync = %v, want ErrBroken", err)
		}
	}
	if err := l.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
}

func TestFullDiskIsSurvived(t *testing.T) {
	d := newMemDisk()
	l, _ := mustOpen(t, "w", Config{disk: d})
	mustAppend(t, l, Logs, "one")
	d.mu.Lock()
	d.failAt, d.ops = 1, 0 // a short write
	d.mu.Unlock()
	if _, err := l.Append(t.Context(), Logs, t0, []byte("two")); err == nil || errors.Is(err, ErrBroken) {
		t.Fatalf("Append on a full disk = %v, want an error that passes", err)
	}
	if seq := mustAppend(t, l, Logs, "three"); seq != 2 {
		t.Errorf("Append = %d, want 2", seq)
	}
	mustClose(t, l)
	l, got := mustOpen(t, "w", Config{disk: d})
	defer mustClose(t, l)
	if len(got) != 2 || string(got[1].Payload) != "three" {
		t.Errorf("replayed %v", got)
	}
}

func TestTrim(t *testing.T) {
	dir := t.TempDir()
	l, _ := mustOpen(t, dir, Config{SegmentBytes: 200})
	for i := range 20 {
		mustAppend(t, l, Metrics, fmt.Sprintf("record %d", i))
	}
	before := l.SizeBytes()
	if err := l.Trim(300); err != nil {
		t.Fatal(err)
	}
	if after := l.SizeBytes(); after >= before || after == 0 {
		t.Errorf("Trim took %d bytes to %d", before, after)
	}
	mustClose(t, l)
	l, got := mustOpen(t, dir, Config{SegmentBytes: 200})
	defer mustClose(t, l)
	if n := len(got); n == 0 || n == 20 || got[n-1].Seq != 20 {
		t.Errorf("after Trim %d records are left", n)
	}
	if seq := mustAppend(t, l, Metrics, "more"); seq != 21 {
		t.Errorf("Append = %d, want 21", seq)
	}
}
