package wal

import (
	"errors"
	"io/fs"
	"path/filepath"
	"slices"
	"sync"
)

var errFault = errors.New("injected fault")

// memDisk is a disk that forgets: crash takes it back to what was synced,
// contents and names apart, as a power cut may. The op numbered failAt fails,
// with its effect lost or kept.
type memDisk struct {
	mu     sync.Mutex
	names  map[string]*memData // as the page cache shows them
	stable map[string]*memData // as the disk has them
	ops    int
	failAt int  // 0 = never
	keep   bool // a failing operation takes effect all the same
	// torn, on crash, keeps this many unsynced bytes of each file.
	torn int
}

type memData struct{ cache, synced []byte }

func newMemDisk() *memDisk {
	return &memDisk{names: map[string]*memData{}, stable: map[string]*memData{}}
}

// op counts one operation and says whether to do it and what to answer.
func (d *memDisk) op() (do bool, err error) {
	d.ops++
	if d.failAt != 0 && d.ops == d.failAt {
		return d.keep, errFault
	}
	return true, nil
}

// crash forgets what was not synced and takes away the faults.
func (d *memDisk) crash() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.names = map[string]*memData{}
	for name, f := range d.stable {
		b := slices.Clone(f.synced)
		if n := len(f.synced); n < len(f.cache) && d.torn > 0 {
			b = append(b, f.cache[n:min(len(f.cache), n+d.torn)]...)
		}
		g := &memData{cache: slices.Clone(b), synced: b}
		d.names[name], d.stable[name] = g, g
	}
	d.failAt, d.ops = 0, 0
}

func (d *memDisk) MkdirAll(string) error { return nil }

func (d *memDisk) ReadDir(dir string) ([]string, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	var names []string
	for name := range d.names {
		if filepath.Dir(name) == dir {
			names = append(names, filepath.Base(name))
		}
	}
	return names, nil
}

func (d *memDisk) ReadFile(path string) ([]byte, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f, ok := d.names[path]
	if !ok {
		return nil, &fs.PathError{Op: "open", Path: path, Err: fs.ErrNotExist}
	}
	return slices.Clone(f.cache), nil
}

func (d *memDisk) Create(path string) (file, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	do, err := d.op()
	f := &memData{}
	if do {
		d.names[path] = f
	}
	return &memFile{d: d, f: f}, err
}

func (d *memDisk) OpenAppend(path string) (file, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f, ok := d.names[path]
	if !ok {
		return nil, fs.ErrNotExist
	}
	return &memFile{d: d, f: f}, nil
}

func (d *memDisk) Rename(from, to string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	do, err := d.op()
	if do {
		d.names[to] = d.names[from]
		delete(d.names, from)
	}
	return err
}

func (d *memDisk) Remove(path string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	do, err := d.op()
	if do {
		delete(d.names, path)
	}
	return err
}

func (d *memDisk) SyncDir(string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	do, err := d.op()
	if do {
		d.stable = map[string]*memData{}
		for name, f := range d.names {
			d.stable[name] = f
		}
	}
	return err
}

type memFile struct {
	d *memDisk
	f *memData
}

func (f *memFile) Write(b []byte) (int, error) {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	do, err := f.d.op()
	if do {
		f.f.cache = append(f.f.cache, b...)
	} else {
		f.f.cache = append(f.f.cache, b[:len(b)/2]...) // a short write
	}
	if err != nil {
		return len(b) / 2, err
	}
	return len(b), nil
}

func (f *memFile) Sync() error {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	do, err := f.d.op()
	if do {
		f.f.synced = slices.Clone(f.f.cache)
	}
	return err
}

func (f *memFile) Truncate(n int64) error {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	do, err := f.d.op()
	if do {
		f.f.cache = f.f.cache[:n]
	}
	return err
}

func (f *memFile) Close() error { return nil }
