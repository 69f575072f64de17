package store

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"sync"
	"testing"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/kaizen-go/kaizen/server/internal/record"
)

const crashDir = "KAIZEN_STORE_CRASH_DIR"

// TestMain lets the test binary be its own child.
func TestMain(m *testing.M) {
	if dir := os.Getenv(crashDir); dir != "" {
		appendForever(dir)
	}
	os.Exit(m.Run())
}

// batchOf makes a batch of three spans that belong to one trace of number n.
func batchOf(n int) ptrace.Traces {
	td := spansOf(spec{id: 1, name: "a"}, spec{id: 2, name: "b", at: 1}, spec{id: 3, name: "c", at: 2})
	for _, s := range td.ResourceSpans().At(0).ScopeSpans().At(0).Spans().All() {
		s.SetTraceID(traceOf(n))
	}
	return td
}

func traceOf(n int) pcommon.TraceID {
	return pcommon.TraceID{9, byte(n), byte(n >> 8), byte(n >> 16)}
}

// appendForever sends batches from several goroutines, each twice, and prints
// the number of each that was acknowledged, until it is killed.
func appendForever(dir string) {
	s, err := Open(dir, Config{})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	base := int(s.Stats().Traces)
	var mu sync.Mutex
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for i := 0; ; i++ {
				n := base + i*4 + w
				for range 2 {
					if _, err := s.AppendTraces(context.Background(), batchOf(n)); err != nil {
						os.Exit(1)
					}
				}
				mu.Lock()
				fmt.Println(n)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
}

// TestKill kills the child while it stores, and checks that every acknowledged
// batch is there once and whole, and no other in part.
func TestKill(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes")
	}
	dir := t.TempDir()
	acked := map[int]bool{}
	for round := range 5 {
		runAndKill(t, dir, 100*(round+1), acked)
		s := mustOpen(t, dir, Config{})
		names(t, s)
		for tr := range s.Traces(time.Time{}, time.Time{}) {
			if len(tr.Spans) != 3 {
				t.Fatalf("round %d: trace %s has %d spans of 3", round, tr.ID, len(tr.Spans))
			}
		}
		for n := range acked {
			if _, ok := s.Trace(record.TraceID(traceOf(n))); !ok {
				t.Fatalf("round %d: acknowledged batch %d is lost", round, n)
			}
		}
		mustClose(t, s)
	}
}

func runAndKill(t *testing.T, dir string, count int, acked map[int]bool) {
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
	lines := bufio.NewScanner(out)
	for i := 0; lines.Scan(); i++ {
		if n, err := strconv.Atoi(lines.Text()); err == nil {
			acked[n] = true
		}
		if i == count {
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := cmd.Wait(); err == nil {
		t.Fatal("the child ended by itself")
	}
}

// TestSizeEstimate compares the estimate of memory with the heap. It is what
// the bound of the store rests on, so it must not be far below.
func TestSizeEstimate(t *testing.T) {
	s := mustOpen(t, t.TempDir(), Config{})
	defer mustClose(t, s)
	before := heap()
	for n := range 200 {
		td := ptrace.NewTraces()
		ss := td.ResourceSpans().AppendEmpty().ScopeSpans().AppendEmpty()
		for i := range 100 {
			p := ss.Spans().AppendEmpty()
			p.SetTraceID(traceOf(n*10 + i/10))
			p.SetSpanID(pcommon.SpanID{byte(i), 1, byte(n)})
			p.SetStartTimestamp(1)
			p.SetEndTimestamp(2)
			for k := range 12 {
				p.Attributes().PutStr(fmt.Sprint("attribute.name.", k), fmt.Sprint("a value of some length ", i, k))
			}
		}
		mustAppend(t, s, td)
	}
	names(t, s)
	grown, estimate := heap()-before, s.Stats().ResidentBytes
	ratio := float64(grown) / float64(estimate)
	t.Logf("heap grew by %d bytes, estimated %d: ratio %.2f", grown, estimate, ratio)
	if ratio > 1.3 || ratio < 0.4 {
		t.Errorf("heap grew by %d bytes, estimated %d", grown, estimate)
	}
}

func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
