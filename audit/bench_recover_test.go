package audit

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kaizen-go/kaizen/internal/durable"
)

// unsyncedFS lets no segment be synced while it is held: all that is appended
// meanwhile counts on the ring alone.
type unsyncedFS struct {
	durable.OS
	held    *atomic.Bool
	release chan struct{}
}

func (f unsyncedFS) OpenFile(name string, flag int, perm fs.FileMode) (durable.File, error) {
	file, err := f.OS.OpenFile(name, flag, perm)
	if err != nil || !strings.HasSuffix(name, lineExt) {
		return file, err
	}
	return unsyncedFile{file, f}, nil
}

type unsyncedFile struct {
	durable.File
	fsys unsyncedFS
}

func (f unsyncedFile) Sync() error {
	if f.fsys.held.Load() {
		<-f.fsys.release
	}
	return f.File.Sync()
}

// BenchmarkRecover opens a ledger that crashed with 64 MiB of lines, of 512
// bytes each, in its ring and none in its segment: four times what the ring of
// a ledger holds by default.
func BenchmarkRecover(b *testing.B) {
	const lines = 64 << 20 / 512
	crashed := crashedLedger(b, lines)
	top := b.TempDir()
	var clock, cpu time.Duration
	for b.Loop() {
		b.StopTimer()
		dir := filepath.Join(top, "copy")
		if err := os.CopyFS(dir, os.DirFS(crashed)); err != nil {
			b.Fatal(err)
		}
		before := cpuTime(b)
		start := time.Now()
		b.StartTimer()
		l, err := Open(filepath.Join(dir, "audit"), Config{SealAfter: NoAge})
		if err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		clock, cpu = clock+time.Since(start), cpu+cpuTime(b)-before
		if l.Size() < lines {
			b.Fatalf("%d entries recovered, want %d", l.Size(), lines)
		}
		mustClose(b, l)
		if err := os.RemoveAll(dir); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
	b.ReportMetric(clock.Seconds()*1e3/float64(b.N), "ms/op")
	b.ReportMetric(cpu.Seconds()*1e3/float64(b.N), "cpu-ms/op")
}

// crashedLedger is the directory above a ledger and its keys as a crash leaves
// them when nothing was synced but the ring: three of its four sections are full.
func crashedLedger(b *testing.B, lines int) string {
	b.Helper()
	top := b.TempDir()
	fsys := unsyncedFS{held: new(atomic.Bool), release: make(chan struct{})}
	l := mustOpen(b, filepath.Join(top, "live", "audit"), Config{
		fsys: fsys, sectionBytes: 26 << 20, segmentBytes: 1 << 30, SealAfter: NoAge, publishEvery: time.Hour,
	})
	fsys.held.Store(true)
	batch := make([]Entry, 64)
	for i := 0; i < lines; i += len(batch) {
		for k := range batch {
			batch[k] = storeEntry(i + k)
			batch[k].Details["output"] = words(uint64(i+k), 4) // makes it a line of some 512 bytes
		}
		if _, err := l.AppendBatch(context.Background(), batch); err != nil {
			b.Fatal(err)
		}
	}
	b.Logf("%d lines of %d bytes", lines, l.Stats().Bytes/int64(lines))
	crashed := filepath.Join(top, "crashed")
	if err := os.CopyFS(crashed, os.DirFS(filepath.Join(top, "live"))); err != nil {
		b.Fatal(err)
	}
	close(fsys.release)
	mustClose(b, l)
	for _, ext := range []string{lineExt, hashExt} {
		if err := os.Truncate(filepath.Join(crashed, "audit", segDir, segStem(0)+ext), 0); err != nil {
			b.Fatal(err)
		}
	}
	return crashed
}
