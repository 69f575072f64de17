package audit

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"
)

// storeEntries is how many entries the benchmarks of the store have: 100,000,
// or KAIZEN_BENCH_ENTRIES.
func storeEntries(b *testing.B) int {
	b.Helper()
	v := os.Getenv("KAIZEN_BENCH_ENTRIES")
	if v == "" {
		return 100_000
	}
	n, err := strconv.Atoi(v)
	if err != nil {
		b.Fatal(err)
	}
	return n
}

// storeEntry is the i-th entry of the benchmarks: 50 agents, of which one in a
// thousand is "rare", 1,000 users, traces of six, runs of twenty, sessions of
// a hundred; a millisecond apart, a line of some 550 bytes.
func storeEntry(i int) Entry {
	e := benchEntry()
	e.ID = ""
	h := uint64(i)*0x9e3779b97f4a7c15 + 1
	e.Time = testTime.Add(time.Duration(i)*time.Millisecond + time.Duration(h%700_000))
	e.AgentID, e.UserID = fmt.Sprintf("agent-%d", h>>32%50), fmt.Sprintf("user-%04d", h>>40%1000)
	if i%1000 == 500 {
		e.AgentID = "rare"
	}
	trace := uint64(i/6+1) * 0xff51afd7ed558ccd
	e.TraceID, e.SpanID = fmt.Sprintf("%016x%016x", trace, ^trace), fmt.Sprintf("%016x", h|1)
	e.RunID, e.SessionID = fmt.Sprintf("run-%d", i/20), fmt.Sprintf("session-%d", i/100)
	e.Action = []string{"tool.execute", "model.call", "run.start", "run.end"}[h>>50%4]
	e.Result = []Result{Success, Success, Success, Failure, Denied}[h>>20%5]
	e.Parent = ""
	e.Details["duration_ms"], e.Details["attempt"] = float64(h>>30%100_000)/100, int(h>>54%3)
	e.Details["input"], e.Details["output"] = words(h, 9), words(^h, 9)
	return e
}

// words is a text of n out of 4,096 words, none of them more frequent than the
// others, which compresses worse than language does.
func words(h uint64, n int) string {
	const syllables = "ka lo mi tes ran gu vel dor pi sen tau ber nox qui fal zer"
	list := strings.Fields(syllables)
	var b strings.Builder
	for range n {
		h = h*6364136223846793005 + 1442695040888963407
		fmt.Fprintf(&b, "%s%s%s ", list[h>>60], list[h>>56&15], list[h>>52&15])
	}
	return strings.TrimSpace(b.String())
}

// measure reports the time of b's loop in milliseconds, by the clock and by
// the processor.
func measure(b *testing.B, run func()) {
	before := cpuTime(b)
	for b.Loop() {
		run()
	}
	b.ReportMetric(b.Elapsed().Seconds()*1e3/float64(b.N), "ms/op")
	b.ReportMetric((cpuTime(b)-before).Seconds()*1e3/float64(b.N), "cpu-ms/op")
}

// storeLedger makes a ledger of n entries, sealed or in open segments only. It
// is kept under KAIZEN_BENCH_DIR, if that is set, for the next run.
func storeLedger(b *testing.B, n int, sealed bool) string {
	b.Helper()
	dir, have := benchDir(b, fmt.Sprintf("ledger-%d-%v", n, sealed))
	if have {
		return dir
	}
	cfg := Config{SealAfter: NoAge}
	if !sealed {
		cfg.segmentBytes = 256 << 20
	}
	l := mustOpen(b, dir, cfg)
	batch := make([]Entry, 0, 1000)
	for i := range n {
		if batch = append(batch, storeEntry(i)); len(batch) == cap(batch) || i == n-1 {
			if _, err := l.AppendBatch(context.Background(), batch); err != nil {
				b.Fatal(err)
			}
			batch = batch[:0]
		}
	}
	if sealed {
		if err := l.packer.seal(context.Background(), false); err != nil {
			b.Fatal(err)
		}
		if l.Stats().Sealed == 0 {
			if err := l.Seal(context.Background()); err != nil {
				b.Fatal(err)
			}
		}
	}
	mustClose(b, l)
	benchDone(b, dir)
	return dir
}

// forms runs a benchmark on open and on sealed segments.
func forms(b *testing.B, run func(b *testing.B, dir string, n int)) {
	n := storeEntries(b)
	for _, form := range []string{"raw", "sealed"} {
		if form == "raw" && n > 2_000_000 && os.Getenv("KAIZEN_BENCH_RAW") == "" {
			continue // ledgers of that size are sealed: this takes 1.3 GB of memory
		}
		b.Run(fmt.Sprintf("%s/entries=%d", form, n), func(b *testing.B) { run(b, storeLedger(b, n, form == "sealed"), n) })
	}
}

// BenchmarkOpen opens for reading. The ledger of open segments is what the
// first version of the format was like: it reads them all.
func BenchmarkOpen(b *testing.B) {
	forms(b, func(b *testing.B, dir string, _ int) {
		measure(b, func() {
			r, err := OpenReader(dir)
			if err != nil {
				b.Fatal(err)
			}
			if err := r.Close(); err != nil {
				b.Fatal(err)
			}
		})
	})
}

// BenchmarkOpenMany opens a ledger of 5,000 sealed segments of twenty entries,
// as long retention and a short SealAfter make them, for reading and for writing.
func BenchmarkOpenMany(b *testing.B) {
	dir := manySegments(b, 5000)
	b.Run("reading", func(b *testing.B) {
		measure(b, func() {
			r, err := OpenReader(dir)
			if err != nil {
				b.Fatal(err)
			}
			if err := r.Close(); err != nil {
				b.Fatal(err)
			}
		})
	})
	b.Run("writing", func(b *testing.B) {
		var closing time.Duration
		measure(b, func() {
			l, err := Open(dir, Config{SealAfter: NoAge})
			if err != nil {
				b.Fatal(err)
			}
			before := time.Now()
			mustClose(b, l)
			closing += time.Since(before)
		})
		b.ReportMetric(closing.Seconds()*1e3/float64(b.N), "closing-ms/op")
	})
}

// manySegments makes a ledger of n sealed segments, which is kept like that of
// storeLedger.
func manySegments(b *testing.B, n int) string {
	b.Helper()
	dir, have := benchDir(b, fmt.Sprintf("segments-%d", n))
	if have {
		return dir
	}
	l := mustOpen(b, dir, Config{segmentBytes: 1 << 20, SealAfter: NoAge})
	batch := make([]Entry, 20)
	for i := range n {
		for k := range batch {
			batch[k] = storeEntry(i*len(batch) + k)
		}
		if _, err := l.AppendBatch(context.Background(), batch); err != nil {
			b.Fatal(err)
		}
		if err := l.rotate(); err != nil {
			b.Fatal(err)
		}
		if i%64 == 63 || i == n-1 {
			if err := l.packer.seal(context.Background(), false); err != nil {
				b.Fatal(err)
			}
		}
	}
	mustClose(b, l)
	benchDone(b, dir)
	return dir
}

// benchDir is where a ledger of that name belongs, and whether a run before
// left it there: under KAIZEN_BENCH_DIR, if that is set.
func benchDir(b *testing.B, name string) (dir string, have bool) {
	b.Helper()
	top := os.Getenv("KAIZEN_BENCH_DIR")
	if top == "" {
		top = b.TempDir()
	}
	top = filepath.Join(top, name)
	dir = filepath.Join(top, "audit")
	if _, err := os.Stat(filepath.Join(top, "done")); err == nil {
		return dir, true
	}
	if err := os.RemoveAll(top); err != nil {
		b.Fatal(err)
	}
	return dir, false
}

func benchDone(b *testing.B, dir string) {
	b.Helper()
	if err := os.WriteFile(filepath.Join(filepath.Dir(dir), "done"), nil, 0o600); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkQueryStore finds one agent in a thousand, a trace of six, counts and
// groups.
func BenchmarkQueryStore(b *testing.B) {
	forms(b, func(b *testing.B, dir string, n int) {
		r, err := OpenReader(dir)
		if err != nil {
			b.Fatal(err)
		}
		defer r.Close()
		query := func(name string, q Query, want int) {
			b.Run(name, func(b *testing.B) {
				measure(b, func() {
					hits := 0
					for _, err := range r.Query(context.Background(), q) {
						if err != nil {
							b.Fatal(err)
						}
						hits++
					}
					if hits != want {
						b.Fatalf("%d hits, want %d", hits, want)
					}
				})
			})
		}
		query("agent", Query{AgentID: "rare"}, (n+499)/1000)
		query("trace", Query{TraceID: storeEntry(n / 2).TraceID}, 6)
		query("newest 50 of a user", Query{UserID: storeEntry(7).UserID, Descending: true, Limit: 50}, 50)
		b.Run("count", func(b *testing.B) {
			measure(b, func() {
				if c, err := r.Count(context.Background(), Query{AgentID: "rare", Result: Success}); err != nil || c == 0 {
					b.Fatal(c, err)
				}
			})
		})
		b.Run("top users", func(b *testing.B) {
			measure(b, func() {
				if g, err := r.Group(context.Background(), Query{}, ByUser, 10); err != nil || len(g) != 10 {
					b.Fatal(g, err)
				}
			})
		})
		b.Run("proof", func(b *testing.B) {
			i := int64(0)
			measure(b, func() {
				i = (i + 7919) % r.Size()
				if _, err := r.Proof(i); err != nil {
					b.Fatal(err)
				}
			})
		})
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		b.Logf("%s: heap %d MiB after all", b.Name(), m.HeapAlloc>>20)
	})
}

// BenchmarkVerifyStore verifies everything; it uses one core.
func BenchmarkVerifyStore(b *testing.B) {
	forms(b, func(b *testing.B, dir string, n int) {
		before := cpuTime(b)
		measure(b, func() {
			if _, err := Verify(context.Background(), dir, VerifyConfig{}); err != nil {
				b.Fatal(err)
			}
		})
		b.ReportMetric(float64(n)*float64(b.N)/(cpuTime(b)-before).Seconds(), "entries/cpu-s")
	})
}

// BenchmarkSeal compresses and indexes, and reports what a sealed entry takes.
func BenchmarkSeal(b *testing.B) {
	benchSeal(b, func(l *Ledger) error { return l.Seal(context.Background()) })
}

// BenchmarkSealBehind does it as a ledger does whose full segments wait: all but
// the last of them in a hurry.
func BenchmarkSealBehind(b *testing.B) {
	benchSeal(b, func(l *Ledger) error {
		if err := l.rotate(); err != nil {
			return err
		}
		return l.packer.seal(context.Background(), true)
	})
}

func benchSeal(b *testing.B, seal func(*Ledger) error) {
	n := storeEntries(b)
	n = min(n, 1_000_000)
	var l *Ledger
	var stats Stats
	var cpu time.Duration
	for b.Loop() {
		b.StopTimer()
		l = mustOpen(b, b.TempDir()+"/audit", Config{segmentBytes: 64 << 20, SealAfter: NoAge})
		batch := make([]Entry, 0, 1000)
		for i := range n {
			if batch = append(batch, storeEntry(i)); len(batch) == cap(batch) {
				if _, err := l.AppendBatch(context.Background(), batch); err != nil {
					b.Fatal(err)
				}
				batch = batch[:0]
			}
		}
		before := cpuTime(b)
		b.StartTimer()
		if err := seal(l); err != nil {
			b.Fatal(err)
		}
		cpu += cpuTime(b) - before
		stats = l.Stats()
		b.StopTimer()
		reportSealed(b, l)
		mustClose(b, l)
		b.StartTimer()
	}
	b.ReportMetric(float64(stats.Entries)*float64(b.N)/cpu.Seconds(), "entries/cpu-s")
}

// reportSealed reports the sizes of sealed files.
func reportSealed(b *testing.B, l *Ledger) {
	b.Helper()
	var lines, zst, idx, nodes, entries int64
	for _, seg := range l.store.sealed {
		for path, total := range map[string]*int64{seg.zstPath(): &zst, seg.idxPath(): &idx, seg.nodesPath(): &nodes} {
			info, err := os.Stat(l.store.path(path))
			if err != nil {
				b.Fatal(err)
			}
			*total += info.Size()
		}
		lines += seg.rec.bytes
		entries += seg.rec.count
	}
	b.ReportMetric(float64(lines)/float64(zst), "ratio")
	b.ReportMetric(float64(lines)/float64(entries), "B/line")
	b.ReportMetric(float64(idx)/float64(entries), "index-B/entry")
	b.ReportMetric(float64(idx+nodes+32*entries)/float64(entries), "tree+index-B/entry")
}
