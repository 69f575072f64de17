//go:build unix

package audit

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"
	"testing"
	"unsafe"
)

// memoryVariable asks the test binary to be the child of BenchmarkMemory.
const memoryVariable = "KAIZEN_BENCH_MEMORY"

// memoryUse is what a child reports, in bytes.
type memoryUse struct {
	Peak    int64 // of the resident set
	Live    int64 // the most that was in use after a collection
	Active  int64 // of that: index and hashes of the newest segment
	Waiting int64 // and those of full ones that wait to be sealed
}

// BenchmarkMemory runs each kind of work on a ledger in a process of its own,
// twice: for the peak of what is resident, and, with a collection every 50,000
// entries, for what is in use.
func BenchmarkMemory(b *testing.B) {
	n := storeEntries(b)
	sealed := storeLedger(b, n, true)
	for _, mode := range []string{"nothing", "write", "open", "query", "verify"} {
		b.Run(fmt.Sprintf("%s/entries=%d", mode, n), func(b *testing.B) {
			for b.Loop() {
				peak, live := memoryChild(b, mode, sealed, n, 0), memoryChild(b, mode, sealed, n, 50_000)
				b.ReportMetric(float64(peak.Peak)/(1<<20), "peak-MiB")
				b.ReportMetric(float64(live.Live)/(1<<20), "in-use-MiB")
				b.ReportMetric(float64(live.Active)/(1<<20), "active-index-MiB")
				b.ReportMetric(float64(live.Waiting)/(1<<20), "waiting-MiB")
			}
		})
	}
}

func memoryChild(b *testing.B, mode, sealed string, n, every int) (use memoryUse) {
	b.Helper()
	cmd := exec.CommandContext(context.Background(), os.Args[0], "-test.run", "^TestMemoryChild$", "-test.v")
	dir := sealed
	if mode == "write" {
		dir = filepath.Join(b.TempDir(), "audit")
	}
	out := filepath.Join(b.TempDir(), "use.json")
	cmd.Env = append(os.Environ(), memoryVariable+"="+mode, memoryVariable+"_DIR="+dir, memoryVariable+"_OUT="+out,
		memoryVariable+"_N="+strconv.Itoa(n), memoryVariable+"_EVERY="+strconv.Itoa(every))
	if text, err := cmd.CombinedOutput(); err != nil {
		b.Fatalf("%s: %v\n%s", mode, err, text)
	}
	text, err := os.ReadFile(out)
	if err == nil {
		err = json.Unmarshal(text, &use)
	}
	if err != nil {
		b.Fatal(err)
	}
	return use
}

// TestMemoryChild is the child's part. Otherwise it does a little of the same.
func TestMemoryChild(t *testing.T) {
	mode, dir := os.Getenv(memoryVariable), os.Getenv(memoryVariable+"_DIR")
	n, _ := strconv.Atoi(os.Getenv(memoryVariable + "_N"))
	every, _ := strconv.Atoi(os.Getenv(memoryVariable + "_EVERY"))
	if mode == "" {
		dir = filepath.Join(t.TempDir(), "audit")
		for _, mode := range []string{"write", "open", "query", "verify"} {
			if use := memoryOf(t, mode, dir, 3000, 1000); use.Peak == 0 || use.Live == 0 {
				t.Errorf("%s: %+v", mode, use)
			}
		}
		return
	}
	text, err := json.Marshal(memoryOf(t, mode, dir, n, every))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(os.Getenv(memoryVariable+"_OUT"), text, 0o600); err != nil {
		t.Fatal(err)
	}
}

// memoryOf does one kind of work, with a look at the memory every so many
// entries if that is not zero, and one before the ledger is closed.
func memoryOf(t *testing.T, mode, dir string, n, every int) (use memoryUse) {
	t.Helper()
	var s *store
	look := func() {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		if int64(m.HeapAlloc) > use.Live {
			use.Live = int64(m.HeapAlloc)
			if s != nil {
				use.Active, use.Waiting = s.indexMemory()
			}
		}
	}
	done := 0
	step := func(k int) {
		if done += k; every > 0 && done%every < k {
			look()
		}
	}
	switch mode {
	case "write":
		l := mustOpen(t, dir, Config{SealAfter: NoAge})
		s = l.store
		batch := make([]Entry, 1000)
		for i := 0; i < n; i += len(batch) {
			for k := range batch {
				batch[k] = storeEntry(i + k)
			}
			if _, err := l.AppendBatch(t.Context(), batch); err != nil {
				t.Fatal(err)
			}
			step(len(batch))
		}
		look()
		mustClose(t, l)
	case "open", "query":
		r, err := OpenReader(dir)
		if err != nil {
			t.Fatal(err)
		}
		s = r.store
		if mode == "query" {
			for _, err := range r.Query(t.Context(), Query{}) {
				if err != nil {
					t.Fatal(err)
				}
				step(1)
			}
			if _, err := r.Group(t.Context(), Query{}, ByUser, 10); err != nil {
				t.Fatal(err)
			}
		}
		look()
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
	case "verify":
		seen := int64(0)
		progress := func(now, _ int64) {
			step(int(now - seen))
			seen = now
		}
		if _, err := Verify(t.Context(), dir, VerifyConfig{Progress: progress}); err != nil {
			t.Fatal(err)
		}
		look()
	default:
		look()
	}
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	use.Peak = int64(u.Maxrss) << 10
	return use
}

// indexMemory is what the segments that are not sealed have in memory: the
// newest, and those that wait.
func (s *store) indexMemory() (active, waiting int64) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for i, seg := range s.segs {
		n := int64(len(seg.idx.blocks))*int64(unsafe.Sizeof(block{})) + 4*int64(len(seg.idx.ids.slots)) + 32*hashBlock*int64(len(seg.leaves.blocks))
		if i+1 == len(s.segs) {
			active = n
		} else {
			waiting += n
		}
	}
	return active, waiting
}
