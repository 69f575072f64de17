package audit

import (
	"bufio"
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"
)

const crashDirVariable = "KAIZEN_CRASH_DIR"

// TestMain turns the test binary into the crash test's child if it was started
// as that.
func TestMain(m *testing.M) {
	if dir := os.Getenv(crashDirVariable); dir != "" {
		fmt.Println(crashChild(dir)) // ends by being killed, so this is a failure
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// crashChild appends from several goroutines and prints each receipt once it
// has it: index, id, leaf hash.
func crashChild(dir string) error {
	cfg := small()
	cfg.publishEvery, cfg.sealing = 3*time.Millisecond, true
	l, err := Open(dir, cfg)
	if err != nil {
		return err
	}
	fmt.Println("open")
	var mu sync.Mutex
	failed := make(chan error)
	for range 4 {
		go func() {
			for {
				rs, err := l.AppendBatch(context.Background(), []Entry{{AgentID: "child", Action: "x", Result: Success}, {AgentID: "child", Action: "y", Result: Success}})
				if err != nil {
					failed <- err
					return
				}
				mu.Lock()
				for _, r := range rs {
					fmt.Printf("%d %s %x .\n", r.Index, r.ID, r.LeafHash)
				}
				mu.Unlock()
			}
		}()
	}
	return <-failed
}

// TestKill kills a process that appends, again and again on the same ledger.
// Everything it said it had must be there afterwards.
func TestKill(t *testing.T) {
	dir := t.TempDir() + "/audit"
	acked := map[int64]string{} // index to id and hash
	rnd := rand.New(rand.NewPCG(11, 12))
	for round := range rounds(t, "KAIZEN_CRASH_ROUNDS", 200) {
		runAndKill(t, dir, 1+rnd.IntN(80), acked)
		if _, err := Verify(t.Context(), dir, VerifyConfig{}); err != nil {
			t.Fatalf("round %d: Verify after the kill: %v", round, err)
		}
		if round%10 > 0 {
			continue // the next child recovers it
		}
		l := mustOpen(t, dir, small())
		for index, want := range acked {
			e, err := l.Get(t.Context(), index)
			leaf := leafOf(t, l, index)
			if got := e.ID + " " + hex.EncodeToString(leaf[:]); err != nil || got != want {
				t.Fatalf("round %d: entry %d is %s, %v; acknowledged was %s", round, index, got, err, want)
			}
		}
		// Beside the child's there are those about its recoveries.
		if n, err := l.Count(t.Context(), Query{AgentID: "child"}); err != nil || n%2 != 0 {
			t.Fatalf("round %d: %d entries, %v: half a batch", round, n, err)
		}
		size := l.Size()
		mustClose(t, l)
		checkClean(t, dir, size)
	}
	t.Logf("%d entries acknowledged", len(acked))
}

// runAndKill starts a child, lets it acknowledge n entries, kills it, and
// notes what it said until then.
func runAndKill(t *testing.T, dir string, n int, acked map[int64]string) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), crashDirVariable+"="+dir)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	if !lines.Scan() || lines.Text() != "open" {
		t.Fatalf("child: %s %s", lines.Text(), stderr.String())
	}
	for seen := 0; lines.Scan(); seen++ {
		var index int64
		var id, leaf, dot string
		if _, err := fmt.Sscanf(lines.Text(), "%d %s %s %s", &index, &id, &leaf, &dot); err != nil || dot != "." {
			if strings.Contains(lines.Text(), "audit:") {
				t.Errorf("child: %s", lines.Text())
			}
			continue // cut off by the kill
		}
		acked[index] = id + " " + leaf
		if seen == n {
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := cmd.Wait(); err == nil {
		t.Fatal("the child ended by itself")
	}
}
