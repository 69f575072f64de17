package agentlog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// FileConfig tunes [OpenFile]. The zero value is fit for production.
type FileConfig struct {
	// MaxBytes is the size at which the file is rotated; no line is split. If
	// zero, 100 MiB.
	MaxBytes int64
	// MaxAge is how long rotated files are kept. If zero, 30 days; [Forever]
	// keeps them.
	MaxAge time.Duration
	// MaxFiles is how many rotated files are kept, the newest ones. If zero, 10.
	MaxFiles int
	// NoCompress leaves rotated files as they are instead of gzipping them.
	NoCompress bool
	// QueueBytes bounds the lines that wait to be written, for instance while
	// the disk is full. A line that finds no room is dropped and counted. If
	// zero, 8 MiB. What is being written does not count: at most twice this
	// much is in memory.
	QueueBytes int
}

// Forever switches off [FileConfig.MaxAge].
const Forever = time.Duration(-1)

const (
	firstRetry = 50 * time.Millisecond
	lastRetry  = 5 * time.Second
	// lastWait is how long Close waits for the writer after its context ended.
	lastWait = time.Second
	// recheck is how often the writer looks whether the file was moved away.
	recheck = time.Second
)

// FileStats counts what happened to a [File].
type FileStats struct {
	Lines     uint64 // lines written whole
	Dropped   uint64 // lines that found the queue full
	Errors    uint64 // failed writes, rotations and compressions, retried ones included
	Rotations uint64
}

// File is a sink that writes to a file from a goroutine of its own and rotates
// it. The file and what becomes of it are readable by their owner only.
//
// What Write has taken is in memory until the goroutine wakes, microseconds
// later; a crash of the process can lose that much. A write that fails is
// counted and tried again from where it stopped, so that a line is neither
// lost nor torn while the queue has room.
type File struct {
	path string
	cfg  FileConfig
	fs   filesystem

	wake    chan struct{} // capacity 1: something waits
	closing chan struct{} // closed by Close
	done    chan struct{} // closed by the writer when it has ended
	give    context.CancelFunc
	gaveUp  context.Context

	mu      sync.Mutex
	queue   []byte
	lines   uint64 // in queue
	closed  bool
	stats   FileStats
	failure error // the last one, of writing; nil after a success

	// Of the writer goroutine.
	file file
	size int64
	seen time.Time      // when path was last seen to be file
	pack sync.WaitGroup // compressions
	once sync.Mutex     // one compression at a time
}

// filesystem is what a File needs of the operating system; tests inject
// faults here.
type filesystem interface {
	open(path string) (file, int64, error)
	rename(from, to string) error
	same(f file, path string) bool
}

type file interface {
	Write([]byte) (int, error)
	Sync() error
	Close() error
}

// OpenFile opens or creates the log file at path, and its directory.
func OpenFile(path string, cfg FileConfig) (*File, error) {
	return openFile(path, cfg, osFS{})
}

func openFile(path string, cfg FileConfig, fs filesystem) (*File, error) {
	if cfg.MaxBytes < 0 || cfg.MaxFiles < 0 || cfg.QueueBytes < 0 || cfg.MaxAge < 0 && cfg.MaxAge != Forever {
		return nil, fmt.Errorf("agentlog: open %s: a limit is negative", path)
	}
	if cfg.MaxBytes == 0 {
		cfg.MaxBytes = 100 << 20
	}
	if cfg.MaxAge == 0 {
		cfg.MaxAge = 30 * 24 * time.Hour
	}
	if cfg.MaxFiles == 0 {
		cfg.MaxFiles = 10
	}
	if cfg.QueueBytes == 0 {
		cfg.QueueBytes = 8 << 20
	}
	f := &File{path: path, cfg: cfg, fs: fs, wake: make(chan struct{}, 1), closing: make(chan struct{}), done: make(chan struct{})}
	f.gaveUp, f.give = context.WithCancel(context.Background())
	var err error
	if f.file, f.size, err = fs.open(path); err != nil {
		f.give()
		return nil, fmt.Errorf("agentlog: open %s: %w", path, err)
	}
	f.tidy() // what a crash may have left uncompressed
	go f.run()
	return f, nil
}

// Write implements [Sink].
func (f *File) Write(r *Record) error {
	f.mu.Lock()
	if f.closed {
		f.mu.Unlock()
		return ErrClosed
	}
	if len(f.queue)+len(r.Line) > f.cfg.QueueBytes {
		f.stats.Dropped++
		err := f.failure
		f.mu.Unlock()
		return errors.Join(fmt.Errorf("agentlog: write to %s: queue is full", f.path), err)
	}
	f.queue = append(f.queue, r.Line...)
	f.lines++
	f.mu.Unlock()
	select {
	case f.wake <- struct{}{}:
	default: // it will wake anyway
	}
	return nil
}

// Stats returns the counts so far.
func (f *File) Stats() FileStats {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.stats
}

// Close writes what waits, syncs and closes the file. When ctx ends first, it
// gives up retrying and says how many lines were not written.
func (f *File) Close(ctx context.Context) error {
	f.mu.Lock()
	first := !f.closed
	f.closed = true
	f.mu.Unlock()
	if first {
		close(f.closing)
	}
	stop := context.AfterFunc(ctx, f.give)
	defer stop()
	select {
	case <-f.done:
	case <-ctx.Done():
		select {
		case <-f.done:
		case <-time.After(lastWait): // the system does not come back from a write
			return fmt.Errorf("agentlog: close %s: a write does not return: %w", f.path, context.Cause(ctx))
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.lines > 0 && first {
		return fmt.Errorf("agentlog: close %s: %d lines not written: %w", f.path, f.lines, errors.Join(context.Cause(ctx), f.failure))
	}
	if f.failure != nil && first {
		return fmt.Errorf("agentlog: close %s: %w", f.path, f.failure)
	}
	return nil
}

// run is the writer. It ends when Close was called and the queue is empty or
// Close gave up.
func (f *File) run() {
	defer close(f.done)
	defer f.give()
	var spare []byte
	for {
		closing := false
		select {
		case <-f.wake:
		case <-f.closing:
			closing = true
		}
		f.mu.Lock()
		chunk, lines := f.queue, f.lines
		f.queue = spare[:0]
		f.mu.Unlock()
		rest := f.write(chunk)
		lines -= uint64(bytes.Count(rest, []byte{'\n'}))
		f.mu.Lock()
		f.lines -= lines
		f.stats.Lines += lines
		f.mu.Unlock()
		if spare = chunk; cap(spare) > 1<<20 {
			spare = nil // a burst is no reason to keep its memory
		}
		if closing || len(rest) > 0 { // all is written, or Close gave up
			f.finish()
			return
		}
	}
}

// finish ends the file. Nothing writes to it any more.
func (f *File) finish() {
	f.pack.Wait()
	if f.file == nil {
		return
	}
	if err := errors.Join(f.file.Sync(), f.file.Close()); err != nil {
		f.failed(err)
	}
}

// write writes whole lines, rotating between them, and retries until it has
// written all or Close gave up. It returns what is left.
func (f *File) write(chunk []byte) []byte {
	wait := firstRetry
	midLine := false // after a failed write: do not rotate within a line
	for len(chunk) > 0 {
		n, err := f.writeSome(chunk, midLine)
		if n > 0 {
			midLine = chunk[n-1] != '\n'
		}
		chunk = chunk[n:]
		if err == nil {
			wait = firstRetry
			continue
		}
		f.failed(err)
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-f.gaveUp.Done():
			timer.Stop()
			return chunk
		}
		wait = min(2*wait, lastRetry)
	}
	f.mu.Lock()
	f.failure = nil
	f.mu.Unlock()
	return nil
}

func (f *File) failed(err error) {
	f.mu.Lock()
	f.stats.Errors++
	f.failure = err
	f.mu.Unlock()
}

// writeSome writes the lines of chunk that fit into the file, at least one,
// after rotating if none does.
func (f *File) writeSome(chunk []byte, midLine bool) (int, error) {
	if !midLine {
		if err := f.ready(int64(lineEnd(chunk, 0))); err != nil {
			return 0, err
		}
	}
	n, err := f.file.Write(chunk[:f.fitting(chunk)])
	f.size += int64(n)
	return n, err
}

// fitting returns the length of the lines of chunk that fit, at least one.
func (f *File) fitting(chunk []byte) int {
	room := f.cfg.MaxBytes - f.size
	if int64(len(chunk)) <= room {
		return len(chunk)
	}
	n := lineEnd(chunk, 0)
	for n < len(chunk) {
		next := lineEnd(chunk, n)
		if int64(next) > room {
			break
		}
		n = next
	}
	return n
}

func lineEnd(chunk []byte, from int) int {
	for i := from; i < len(chunk); i++ {
		if chunk[i] == '\n' {
			return i + 1
		}
	}
	return len(chunk)
}

// ready opens the file if it is closed or someone moved it away, and rotates
// it if the next line does not fit.
func (f *File) ready(line int64) error {
	if now := time.Now(); f.file != nil && now.Sub(f.seen) >= recheck {
		f.seen = now
		if f.fs.same(f.file, f.path) {
			return f.ready(line)
		}
		err := f.file.Close()
		f.file = nil
		if err != nil {
			return fmt.Errorf("close %s, which was moved: %w", f.path, err)
		}
	}
	if f.file != nil && f.size > 0 && f.size+line > f.cfg.MaxBytes {
		if err := f.rotate(); err != nil {
			return err
		}
	}
	if f.file == nil {
		opened, size, err := f.fs.open(f.path)
		if err != nil {
			return err
		}
		f.file, f.size = opened, size
	}
	return nil
}

// rotate gives the full file its dated name. It is closed before: some systems
// do not rename an open file. Should the renaming fail, the file is opened
// again and grows until it works.
func (f *File) rotate() error {
	err := errors.Join(f.file.Sync(), f.file.Close())
	f.file = nil
	if err != nil {
		f.failed(fmt.Errorf("close %s before rotation: %w", f.path, err))
	}
	to := f.path + "." + time.Now().UTC().Format(stamp)
	if err := f.fs.rename(f.path, to); err != nil {
		f.failed(err)
		opened, size, err := f.fs.open(f.path)
		if err != nil {
			return err
		}
		f.file, f.size = opened, size
		return nil
	}
	f.mu.Lock()
	f.stats.Rotations++
	f.mu.Unlock()
	f.tidy()
	return nil
}

// osFS is the real file system.
type osFS struct{}

// open opens a log for appending, for its owner only, also where an older file
// allows more.
func (osFS) open(path string) (file, int64, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, 0, err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_RDWR, 0o600)
	if err != nil {
		return nil, 0, err
	}
	size, err := prepare(f)
	if err != nil {
		return nil, 0, errors.Join(err, f.Close())
	}
	return f, size, nil
}

// prepare makes an open log fit to append to: owner-only, and at the start of
// a line even if a crash tore the last one.
func prepare(f *os.File) (int64, error) {
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return 0, err
	}
	if info.Mode().Perm()&0o077 != 0 {
		if err := f.Chmod(0o600); err != nil {
			return 0, err
		}
	}
	var last [1]byte
	size := info.Size()
	if size == 0 {
		return 0, nil
	}
	if _, err := f.ReadAt(last[:], size-1); err != nil || last[0] == '\n' {
		return size, err
	}
	n, err := f.Write([]byte{'\n'})
	return size + int64(n), err
}

// rename refuses to replace a file: two rotations can fall on one instant.
func (osFS) rename(from, to string) error {
	if _, err := os.Lstat(to); err == nil {
		return fmt.Errorf("rename %s: %s is there: %w", from, to, os.ErrExist)
	}
	return os.Rename(from, to)
}

// same reports whether f is the file at path.
func (osFS) same(f file, path string) bool {
	real, ok := f.(*os.File)
	if !ok {
		return true
	}
	here, err1 := real.Stat()
	there, err2 := os.Stat(path)
	return err1 == nil && err2 == nil && os.SameFile(here, there)
}
