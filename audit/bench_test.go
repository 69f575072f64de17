package audit

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kaizen-go/kaizen/internal/durable"
)

var writerCounts = []int{1, 8, 64, 256}

// spread runs b.N operations on that many goroutines, and reports the rate and
// the median and 95th percentile of their durations.
func spread(b *testing.B, writers int, op func() error) {
	b.Helper()
	var left atomic.Int64
	left.Store(int64(b.N))
	took := make([][]time.Duration, writers)
	var wg sync.WaitGroup
	b.ResetTimer()
	for w := range writers {
		wg.Go(func() {
			for left.Add(-1) >= 0 {
				start := time.Now()
				if err := op(); err != nil {
					b.Error(err)
					return
				}
				took[w] = append(took[w], time.Since(start))
			}
		})
	}
	wg.Wait()
	b.StopTimer()
	all := slices.Concat(took...)
	slices.Sort(all)
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "entries/s")
	b.ReportMetric(float64(all[len(all)/2].Microseconds()), "p50-µs")
	b.ReportMetric(float64(all[len(all)*95/100].Microseconds()), "p95-µs")
}

// BenchmarkAppend measures entries that are durable, hashed and signed when
// the call returns.
func BenchmarkAppend(b *testing.B) {
	for _, writers := range writerCounts {
		b.Run(fmt.Sprintf("writers=%d", writers), func(b *testing.B) {
			l := mustOpen(b, b.TempDir()+"/audit", Config{})
			e := benchEntry()
			e.ID = ""
			spread(b, writers, func() error {
				_, err := l.Append(context.Background(), e)
				return err
			})
			mustClose(b, l)
		})
	}
}

// BenchmarkAppendBatch is 8 callers with 64 entries a call.
func BenchmarkAppendBatch(b *testing.B) {
	l := mustOpen(b, b.TempDir()+"/audit", Config{})
	batch := make([]Entry, 64)
	for i := range batch {
		batch[i] = benchEntry()
		batch[i].ID = ""
	}
	spread(b, 8, func() error {
		_, err := l.AppendBatch(context.Background(), batch)
		return err
	})
	b.ReportMetric(64*float64(b.N)/b.Elapsed().Seconds(), "entries/s")
	mustClose(b, l)
}

// BenchmarkNaive is the baseline: one write and one fdatasync for each entry,
// under a lock, neither hashed nor signed.
func BenchmarkNaive(b *testing.B) {
	for _, writers := range writerCounts {
		b.Run(fmt.Sprintf("writers=%d", writers), func(b *testing.B) {
			f, err := durable.OS{}.OpenFile(filepath.Join(b.TempDir(), "naive.jsonl"), os.O_CREATE|os.O_WRONLY, 0o600)
			if err != nil {
				b.Fatal(err)
			}
			defer f.Close()
			e := benchEntry()
			var mu sync.Mutex
			spread(b, writers, func() error {
				line, err := EncodeLine(make([]byte, 0, 640), e)
				if err != nil {
					return err
				}
				mu.Lock()
				defer mu.Unlock()
				if _, err := f.Write(append(line, '\n')); err != nil {
					return err
				}
				return f.Sync()
			})
		})
	}
}

// benchLedger has n entries, of which one in a thousand is by agent "rare".
func benchLedger(b *testing.B, n int) string {
	b.Helper()
	dir := b.TempDir() + "/audit"
	l := mustOpen(b, dir, Config{})
	batch := make([]Entry, 0, 1000)
	for i := range n {
		e := benchEntry()
		e.ID, e.AgentID, e.TraceID = "", fmt.Sprintf("agent-%d", i%50), fmt.Sprintf("%032x", i/6+1)
		if i%1000 == 500 {
			e.AgentID = "rare"
		}
		if batch = append(batch, e); len(batch) == cap(batch) {
			if _, err := l.AppendBatch(context.Background(), batch); err != nil {
				b.Fatal(err)
			}
			batch = batch[:0]
		}
	}
	mustClose(b, l)
	return dir
}

// BenchmarkRead measures opening, verifying and querying 100,000 entries.
func BenchmarkRead(b *testing.B) {
	const n = 100_000
	dir := benchLedger(b, n)
	b.Run("open", func(b *testing.B) {
		for b.Loop() {
			r, err := OpenReader(dir)
			if err != nil {
				b.Fatal(err)
			}
			r.Close()
		}
		b.ReportMetric(n*float64(b.N)/b.Elapsed().Seconds(), "entries/s")
	})
	b.Run("verify", func(b *testing.B) {
		for b.Loop() {
			if _, err := Verify(context.Background(), dir, VerifyConfig{}); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(n*float64(b.N)/b.Elapsed().Seconds(), "entries/s")
	})
	r, err := OpenReader(dir)
	if err != nil {
		b.Fatal(err)
	}
	defer r.Close()
	for name, q := range map[string]Query{"agent": {AgentID: "rare"}, "trace": {TraceID: fmt.Sprintf("%032x", n/12)}} {
		b.Run("query "+name, func(b *testing.B) {
			for b.Loop() {
				hits := 0
				for _, err := range r.Query(context.Background(), q) {
					if err != nil {
						b.Fatal(err)
					}
					hits++
				}
				if hits == 0 {
					b.Fatal("no hits")
				}
			}
		})
	}
}
