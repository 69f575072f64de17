package audit

import (
	"errors"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/kaizen-go/kaizen/internal/durable"
)

// memFS is a file system in memory that knows what was synced and what was
// not, so that it can lose the difference, and that fails where it is told to.
type memFS struct {
	mu    sync.Mutex
	root  *memDir
	locks map[string]bool

	ops    int // calls so far that change something
	failAt int // the call that fails; 0 for none
	kept   bool
	stop   bool // all calls after it fail too: the power is gone
	dead   bool
	limit  int64 // bytes in all files; 0 for no limit
	// indirect refuses durable.DirectFlag, as some file systems do.
	indirect bool
	// readOnly refuses every change, as after a remount.
	readOnly bool
}

type memDir struct {
	names  map[string]any // *memFile or *memDir
	synced map[string]any
}

type memFile struct {
	data   []byte
	synced []byte
	// dirty are the pages that a sync writes. One that fails forgets them, as
	// Linux does: the next says nil and has written nothing.
	dirty   map[int]bool
	resized bool
	// reserved is up to where the file has room whatever the limit.
	reserved int64
}

const page = 4096

func (f *memFile) touch(from, to int) {
	if f.dirty == nil {
		f.dirty = map[int]bool{}
	}
	for p := from / page; p*page < to; p++ {
		f.dirty[p] = true
	}
}

func (f *memFile) resize(size int) {
	if size != len(f.data) {
		f.data = append(slices.Clone(f.data[:min(size, len(f.data))]), make([]byte, max(0, size-len(f.data)))...)
		f.resized = true
	}
}

func (f *memFile) flush() {
	size := len(f.synced)
	if f.resized {
		size = len(f.data)
	}
	synced := make([]byte, size)
	copy(synced, f.synced)
	for p := range f.dirty {
		if at := p * page; at < min(size, len(f.data)) {
			copy(synced[at:min(at+page, size)], f.data[at:])
		}
	}
	f.synced = synced
	f.forget()
}

// room is what the file takes of the disk.
func (f *memFile) room() int64 { return max(f.reserved, int64(len(f.data))) }

func (f *memFile) forget() { f.dirty, f.resized = nil, false }

var errInjected = errors.New("injected fault")

func newMemFS() *memFS { return &memFS{root: newMemDir(), locks: map[string]bool{}} }

func newMemDir() *memDir { return &memDir{names: map[string]any{}, synced: map[string]any{}} }

// fault counts a call and says whether it fails, and whether it has its effect
// nevertheless. The caller holds mu.
func (m *memFS) fault() (err error, effect bool) {
	if m.dead {
		return errInjected, false
	}
	if m.readOnly {
		return syscall.EROFS, false
	}
	m.ops++
	if m.ops != m.failAt {
		return nil, true
	}
	m.dead = m.stop
	return errInjected, m.kept
}

func split(name string) []string {
	var parts []string
	for name != "/" && name != "." {
		parts = append(parts, filepath.Base(name))
		name = filepath.Dir(name)
	}
	slices.Reverse(parts)
	return parts
}

func (m *memFS) dir(name string) (*memDir, error) {
	d := m.root
	for _, part := range split(name) {
		next, ok := d.names[part].(*memDir)
		if !ok {
			return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
		}
		d = next
	}
	return d, nil
}

func (m *memFS) OpenFile(name string, flag int, _ fs.FileMode) (durable.File, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	d, err := m.dir(filepath.Dir(name))
	if err != nil {
		return nil, err
	}
	f, ok := d.names[filepath.Base(name)].(*memFile)
	if !ok && flag&os.O_CREATE == 0 {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	if !ok || flag&os.O_TRUNC != 0 && len(f.data) > 0 {
		err, effect := m.fault()
		if effect && !ok {
			f = &memFile{}
			d.names[filepath.Base(name)] = f
		} else if effect {
			f.reserved = 0
			f.resize(0)
		}
		if err != nil {
			return nil, err
		}
	}
	direct := durable.DirectFlag != 0 && flag&durable.DirectFlag != 0
	if direct && m.indirect {
		return nil, &fs.PathError{Op: "open", Path: name, Err: syscall.EINVAL}
	}
	return &memHandle{m: m, f: f, name: name, app: flag&(os.O_WRONLY|os.O_RDWR) != 0, direct: direct}, nil
}

func (m *memFS) Rename(from, to string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	d, err := m.dir(filepath.Dir(from))
	if err != nil {
		return err
	}
	err, effect := m.fault()
	if effect {
		d.names[filepath.Base(to)] = d.names[filepath.Base(from)]
		delete(d.names, filepath.Base(from))
	}
	return err
}

func (m *memFS) Remove(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	d, err := m.dir(filepath.Dir(name))
	if err != nil {
		return err
	}
	if _, ok := d.names[filepath.Base(name)]; !ok {
		return &fs.PathError{Op: "remove", Path: name, Err: fs.ErrNotExist}
	}
	err, effect := m.fault()
	if effect {
		delete(d.names, filepath.Base(name))
	}
	return err
}

func (m *memFS) Mkdir(name string, _ fs.FileMode) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	d, err := m.dir(filepath.Dir(name))
	if err != nil {
		return err
	}
	if _, ok := d.names[filepath.Base(name)]; ok || name == "/" {
		return &fs.PathError{Op: "mkdir", Path: name, Err: fs.ErrExist}
	}
	err, effect := m.fault()
	if effect {
		d.names[filepath.Base(name)] = newMemDir()
	}
	return err
}

func (m *memFS) ReadDir(name string) ([]fs.DirEntry, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	d, err := m.dir(name)
	if err != nil {
		return nil, err
	}
	var out []fs.DirEntry
	for _, n := range slices.Sorted(maps.Keys(d.names)) {
		_, isDir := d.names[n].(*memDir)
		out = append(out, memInfo{name: n, dir: isDir})
	}
	return out, nil
}

func (m *memFS) SyncDir(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	d, err := m.dir(name)
	if err != nil {
		return err
	}
	err, effect := m.fault()
	if effect {
		d.synced = maps.Clone(d.names)
	}
	return err
}

func (m *memFS) Lock(name string) (io.Closer, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.locks[name] {
		return nil, durable.ErrLocked
	}
	d, err := m.dir(filepath.Dir(name))
	if err != nil {
		return nil, err
	}
	if _, ok := d.names[filepath.Base(name)]; !ok {
		d.names[filepath.Base(name)] = &memFile{}
	}
	m.locks[name] = true
	return memLock{m, name}, nil
}

type memLock struct {
	m    *memFS
	name string
}

func (l memLock) Close() error {
	l.m.mu.Lock()
	defer l.m.mu.Unlock()
	delete(l.m.locks, l.name)
	return nil
}

type memInfo struct {
	name string
	dir  bool
	size int64
}

func (i memInfo) Name() string               { return i.name }
func (i memInfo) IsDir() bool                { return i.dir }
func (i memInfo) Type() fs.FileMode          { return i.Mode().Type() }
func (i memInfo) Info() (fs.FileInfo, error) { return i, nil }
func (i memInfo) Size() int64                { return i.size }
func (i memInfo) ModTime() time.Time         { return time.Time{} }
func (i memInfo) Sys() any                   { return nil }
func (i memInfo) Mode() fs.FileMode {
	if i.dir {
		return fs.ModeDir | 0o700
	}
	return 0o600
}

type memHandle struct {
	m    *memFS
	f    *memFile
	name string
	app  bool // open for writing
	// direct: writes are aligned, and durable when they return nil.
	direct bool
	pos    int64
}

func (h *memHandle) ReadAt(p []byte, off int64) (int, error) {
	h.m.mu.Lock()
	defer h.m.mu.Unlock()
	if off >= int64(len(h.f.data)) {
		return 0, io.EOF
	}
	n := copy(p, h.f.data[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (h *memHandle) Write(p []byte) (int, error) {
	n, err := h.WriteAt(p, h.pos)
	h.pos += int64(n)
	return n, err
}

// WriteAt writes half of p when it fails with an effect, and when the disk is
// full.
func (h *memHandle) WriteAt(p []byte, off int64) (int, error) {
	h.m.mu.Lock()
	defer h.m.mu.Unlock()
	if !h.app {
		return 0, fs.ErrPermission
	}
	if h.direct && (off%durable.DirectAlign != 0 || len(p)%durable.DirectAlign != 0) {
		return 0, syscall.EINVAL
	}
	err, effect := h.m.fault()
	if grow := off + int64(len(p)) - h.f.room(); err == nil && grow > 0 && h.m.limit > 0 && h.m.used()+grow > h.m.limit {
		err = syscall.ENOSPC
	}
	if err != nil {
		p = p[:len(p)/2]
	}
	if !effect {
		return 0, err
	}
	if end := int(off) + len(p); end > len(h.f.data) {
		h.f.resize(end)
	}
	copy(h.f.data[off:], p)
	h.f.touch(int(off), int(off)+len(p))
	if h.direct && err == nil {
		h.f.flush() // nothing else of a file that is written so is dirty
	}
	return len(p), err
}

// setReadOnly makes the file system read-only, or writable again.
func (m *memFS) setReadOnly(v bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.readOnly = v
}

// leave makes the disk so large that so many bytes are free.
func (m *memFS) leave(bytes int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.limit = m.used() + bytes
}

func (m *memFS) used() (n int64) {
	m.walk(m.root, func(f *memFile) { n += f.room() })
	return n
}

func (m *memFS) walk(d *memDir, do func(*memFile)) {
	for _, node := range d.names {
		switch node := node.(type) {
		case *memFile:
			do(node)
		case *memDir:
			m.walk(node, do)
		}
	}
}

func (h *memHandle) Sync() error {
	h.m.mu.Lock()
	defer h.m.mu.Unlock()
	err, effect := h.m.fault()
	if effect {
		h.f.flush()
	} else {
		h.f.forget()
	}
	return err
}

func (h *memHandle) Reserve(off, n int64) error {
	h.m.mu.Lock()
	defer h.m.mu.Unlock()
	err, effect := h.m.fault()
	grow := off + n - h.f.room()
	if err == nil && grow > 0 && h.m.limit > 0 && h.m.used()+grow > h.m.limit {
		return syscall.ENOSPC
	}
	if effect {
		h.f.reserved = max(h.f.reserved, off+n)
	}
	return err
}

func (h *memHandle) Truncate(size int64) error {
	h.m.mu.Lock()
	defer h.m.mu.Unlock()
	err, effect := h.m.fault()
	if effect {
		h.f.reserved = 0
		h.f.resize(int(size))
	}
	return err
}

func (h *memHandle) Stat() (fs.FileInfo, error) {
	h.m.mu.Lock()
	defer h.m.mu.Unlock()
	return memInfo{name: filepath.Base(h.name), size: int64(len(h.f.data))}, nil
}

func (h *memHandle) Close() error { return nil }

// set replaces the content of a file that is there.
func (m *memFS) set(name string, data []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	d, err := m.dir(filepath.Dir(name))
	if err != nil {
		panic(err)
	}
	d.names[filepath.Base(name)] = &memFile{data: data, synced: data}
}

func (m *memFS) get(t testing.TB, name string) []byte {
	t.Helper()
	b, err := durable.ReadFile(m, name, 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// copyIn copies a directory of the real file system.
func (m *memFS) copyIn(t testing.TB, from, to string) {
	t.Helper()
	for rel, data := range filesOf(t, from) {
		name := filepath.Join(to, rel)
		if err := durable.MkdirAll(m, filepath.Dir(name)); err != nil {
			t.Fatal(err)
		}
		m.set(name, data)
	}
}

// clone is the file system as it is, without faults, locks and open files.
func (m *memFS) clone() *memFS { return m.crash(crashKeeps, nil) }

// The ways to lose what was not synced.
const (
	crashLoses = iota // all of it
	crashKeeps        // nothing: only the process died
	crashMixes        // any sectors, sizes and names, at random
	crashModes
)

// crash is what is found after the machine went down.
func (m *memFS) crash(mode int, rnd *rand.Rand) *memFS {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := crasher{mode, rnd, map[*memFile]*memFile{}}
	out := newMemFS()
	out.root = c.dir(m.root)
	return out
}

type crasher struct {
	mode int
	rnd  *rand.Rand
	done map[*memFile]*memFile // one file may have two names for a moment
}

func (c *crasher) newer() bool {
	return c.mode == crashKeeps || c.mode == crashMixes && c.rnd.IntN(2) == 0
}

func (c *crasher) dir(d *memDir) *memDir {
	all := maps.Clone(d.synced)
	maps.Copy(all, d.names)
	out := newMemDir()
	for _, name := range slices.Sorted(maps.Keys(all)) {
		node, ok := d.synced[name]
		if c.newer() {
			node, ok = d.names[name]
		}
		if !ok {
			continue
		}
		switch node := node.(type) {
		case *memDir:
			out.names[name] = c.dir(node)
		case *memFile:
			out.names[name] = c.file(node)
		}
	}
	out.synced = maps.Clone(out.names)
	return out
}

func (c *crasher) file(f *memFile) *memFile {
	if out, ok := c.done[f]; ok {
		return out
	}
	const sector = 512
	size := len(f.synced)
	if c.newer() {
		size = len(f.data)
	}
	data := make([]byte, size) // what was never written reads as zero
	for at := 0; at < size; at += sector {
		from := f.synced
		if c.newer() {
			from = f.data
		}
		if at < len(from) {
			copy(data[at:min(at+sector, size)], from[at:])
		}
	}
	out := &memFile{data: data, synced: slices.Clone(data)}
	c.done[f] = out
	return out
}
