package wal

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"testing"
)

const crashDir = "KAIZEN_WAL_CRASH_DIR"

// TestMain lets the test binary be its own child.
func TestMain(m *testing.M) {
	if dir := os.Getenv(crashDir); dir != "" {
		appendForever(dir)
	}
	os.Exit(m.Run())
}

// appendForever appends from several goroutines and prints each sequence that
// was acknowledged, until it is killed.
func appendForever(dir string) {
	l, err := Open(dir, Config{SegmentBytes: 16 << 10}, nil)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for {
				seq, err := l.Append(context.Background(), Traces, t0, []byte("a payload of some length"))
				if err != nil {
					os.Exit(1)
				}
				mu.Lock()
				fmt.Println(seq)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
}

// TestKill kills the child in the middle of its writing, again and again, and
// looks for every sequence that it had printed.
func TestKill(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes")
	}
	dir := t.TempDir()
	for round := range 5 {
		acked := runAndKill(t, dir, 150*(round+1))
		l, got := mustOpen(t, dir, Config{})
		if last := got[len(got)-1].Seq; last < acked {
			t.Fatalf("round %d: %d was acknowledged, the log ends at %d", round, acked, last)
		}
		mustClose(t, l)
	}
}

// runAndKill lets a child acknowledge n records and returns the highest
// sequence that it printed.
func runAndKill(t *testing.T, dir string, n int) uint64 {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^$")
	cmd.Env = append(os.Environ(), crashDir+"="+dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var highest uint64
	lines := bufio.NewScanner(out)
	for i := 0; lines.Scan(); i++ {
		seq, err := strconv.ParseUint(lines.Text(), 10, 64)
		if err != nil {
			continue // a line cut by the kill
		}
		highest = max(highest, seq)
		if i == n {
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := cmd.Wait(); err == nil {
		t.Fatal("the child ended by itself")
	}
	return highest
}
