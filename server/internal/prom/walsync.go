package prom

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
)

// walSync makes committed samples durable. Prometheus's storage writes its log
// on commit and leaves the sync to the kernel; an OTLP sender that was answered
// 200 may not lose data to a power cut, so the segments are synced by their
// path. One sync serves every commit that came before it.
type walSync struct {
	dir      string
	syncFile func(string) error

	committed atomic.Uint64 // tickets given out

	mu     sync.Mutex
	synced uint64 // tickets that are durable
	// clean is, for each log, the newest segment when it was last synced: all
	// before it are complete and need no further sync.
	clean map[string]string
	// failed is the first failed sync. What the kernel dropped then cannot be
	// known, so no later sync may report success.
	failed error
}

func newWALSync(dir string, syncFile func(string) error) *walSync {
	return &walSync{dir: dir, syncFile: syncFile, clean: map[string]string{}}
}

// ticket marks everything written to the log so far.
func (w *walSync) ticket() uint64 { return w.committed.Add(1) }

// sync returns once all that was written before ticket is on disk.
func (w *walSync) sync(ticket uint64) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.failed != nil {
		return w.failed
	}
	if w.synced >= ticket {
		return nil
	}
	upTo := w.committed.Load()
	for _, name := range []string{"wal", "wbl"} { // in order; out of order
		if err := w.syncLog(filepath.Join(w.dir, name)); err != nil {
			w.failed = fmt.Errorf("prom: sync write-ahead log; nothing more is taken until a restart: %w", err)
			return w.failed
		}
	}
	w.synced = upTo
	return nil
}

// err returns the failed sync, if there was one.
func (w *walSync) err() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.failed
}

// syncLog syncs the segments of one log that may have grown since the last
// time, and the directory when a segment is new.
func (w *walSync) syncLog(dir string) error {
	entries, err := os.ReadDir(dir) // sorted by name, which is the segment's number
	if errors.Is(err, fs.ErrNotExist) {
		return nil // no sample out of order yet
	}
	if err != nil {
		return err
	}
	clean := w.clean[dir]
	newest := clean
	for _, e := range entries {
		if e.IsDir() || e.Name() < clean {
			continue // a checkpoint, which the storage syncs itself, or complete
		}
		// A segment that is gone was checkpointed or cut into a block since.
		if err := w.syncFile(filepath.Join(dir, e.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		newest = e.Name()
	}
	if newest != clean {
		if err := w.syncFile(dir); err != nil {
			return err
		}
		w.clean[dir] = newest
	}
	return nil
}

// syncFile syncs a file or a directory by its path.
func syncFile(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
