package ship

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/oklog/ulid/v2"
)

// The spool of a signal is laid out so that processes share it without waiting
// for each other:
//
//	<SpoolDir>/<signal>/                   owner-only
//	    <ULID>/                            one per live process (or dead, not yet adopted)
//	        lock                           locked while its process lives
//	        <time>-<ULID>-<seq>.batch      one batch; names sort by age
//	    new-<ULID>/                        one being made: not locked yet
//	    corrupt/                           damaged files, the newest 16
//
// A process whose lock can be taken is dead. Its files are renamed into the
// directory of whoever took the lock, so each belongs to one live process at any
// time. A directory gets its final name only after it is locked.
const (
	lockName    = "lock"
	corruptName = "corrupt"
	newPrefix   = "new-"
	batchSuffix = ".batch"
	tmpSuffix   = ".tmp"
	// keptCorrupt bounds the damaged files that are kept for inspection.
	keptCorrupt = 16
	// blockBytes is what a file takes on disk at least.
	blockBytes = 4096
	// staleNew is the age at which a directory that never got its final name
	// was left by a crash.
	staleNew = time.Hour
)

var errSpoolFull = errors.New("spool is full")

// spool is the part of the directory that this process owns. Only the worker
// uses it.
type spool struct {
	fs      fsys
	root    string // <SpoolDir>/<signal>
	id      string
	dir     string // root/id
	lock    *os.File
	limit   int64
	entries []spooled // oldest first
	bytes   int64     // sum of entries' sizes
	seq     uint64
	last    int64 // time in the newest name: a clock set back must not reorder
}

// spooled is one batch on disk.
type spooled struct {
	name  string
	items int64
	size  int64 // in whole blocks
	own   bool
}

func openSpool(fs fsys, dir, name string, limit int64) (*spool, error) {
	root := filepath.Join(dir, name)
	if err := os.MkdirAll(root, 0o700); err != nil {
		return nil, err
	}
	// It may be there already, with wider rights: prompts are in these files.
	if err := os.Chmod(root, 0o700); err != nil {
		return nil, err
	}
	s := &spool{fs: fs, root: root, limit: limit, id: ulid.Make().String()}
	s.dir = filepath.Join(root, s.id)
	if err := s.claim(); err != nil {
		return nil, err
	}
	return s, nil
}

// claim makes the own directory, locked before others can see it.
func (s *spool) claim() error {
	tmp := filepath.Join(s.root, newPrefix+s.id)
	if err := os.Mkdir(tmp, 0o700); err != nil {
		return err
	}
	lock, err := os.OpenFile(filepath.Join(tmp, lockName), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return errors.Join(err, os.Remove(tmp))
	}
	ok, err := tryLock(lock)
	if err == nil && !ok {
		err = errors.New("a new lock file is held by somebody else")
	}
	if err == nil {
		err = os.Rename(tmp, s.dir)
	}
	if err == nil {
		err = s.fs.SyncDir(s.root)
	}
	if err != nil {
		return errors.Join(err, lock.Close(), os.RemoveAll(tmp))
	}
	s.lock = lock
	return nil
}

func diskSize(n int64) int64 { return (n + blockBytes - 1) / blockBytes * blockBytes }

// put makes a batch durable as the youngest one and reports the space it takes.
func (s *spool) put(b *batch) (int64, error) {
	size := diskSize(fileHeader + int64(len(b.wire)) + fileTrailer)
	if s.bytes+size > s.limit {
		return 0, errSpoolFull
	}
	s.seq++
	s.last = max(s.last+1, time.Now().UnixNano())
	name := fmt.Sprintf("%020d-%s-%08d%s", s.last, s.id, s.seq, batchSuffix)
	if err := writeFile(s.fs, s.dir, name, encodeFile(b)); err != nil {
		return 0, err
	}
	s.add(spooled{name: name, items: b.items, size: size, own: b.own})
	return size, nil
}

func (s *spool) add(e spooled) {
	s.entries = append(s.entries, e)
	s.bytes += e.size
}

// read returns the batch of an entry; an error says that it cannot be sent.
func (s *spool) read(e spooled) (*batch, error) {
	content, err := s.fs.ReadFile(filepath.Join(s.dir, e.name))
	if err != nil {
		return nil, err
	}
	b, err := decodeFile(content)
	if err == nil && b.items != e.items {
		err = fmt.Errorf("%w: %d records, want %d", errDamaged, b.items, e.items)
	}
	return b, err
}

// remove forgets an entry whose batch is settled, and its file. When the file
// cannot be removed the entry is forgotten all the same: after a restart it is
// sent again, and the server recognises it.
func (s *spool) remove(e spooled) error {
	s.forget(e)
	return ignoreAbsent(s.fs.Remove(filepath.Join(s.dir, e.name)))
}

func (s *spool) forget(e spooled) {
	s.entries = slices.DeleteFunc(s.entries, func(x spooled) bool { return x.name == e.name })
	s.bytes -= e.size
}

// setAside forgets an entry and moves its file to where damaged ones are kept.
func (s *spool) setAside(e spooled) error {
	s.forget(e)
	return s.moveAside(filepath.Join(s.dir, e.name))
}

func (s *spool) moveAside(path string) error {
	dir := filepath.Join(s.root, corruptName)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if err := s.fs.Rename(path, filepath.Join(dir, filepath.Base(path))); err != nil {
		return ignoreAbsent(err)
	}
	kept, err := os.ReadDir(dir) // sorted by name, so by age
	if err != nil {
		return err
	}
	for _, old := range kept[:max(0, len(kept)-keptCorrupt)] {
		err = errors.Join(err, ignoreAbsent(s.fs.Remove(filepath.Join(dir, old.Name()))))
	}
	return err
}

// adopted counts what adopt has taken over.
type adopted struct {
	items, bytes, files, corrupt int64
}

// adopt takes over the files of dead processes as far as there is room. What
// does not fit stays for another time or another process.
func (s *spool) adopt() (adopted, error) {
	var got adopted
	dirs, err := os.ReadDir(s.root)
	if err != nil {
		return got, err
	}
	for _, d := range dirs {
		name := d.Name()
		if !d.IsDir() || name == s.id || name == corruptName {
			continue
		}
		if strings.HasPrefix(name, newPrefix) {
			err = errors.Join(err, s.removeStale(name))
			continue
		}
		err = errors.Join(err, s.adoptDir(filepath.Join(s.root, name), &got))
	}
	if got.files > 0 {
		// Names sort by age, whoever wrote them.
		slices.SortFunc(s.entries, func(a, b spooled) int { return strings.Compare(a.name, b.name) })
		err = errors.Join(err, s.fs.SyncDir(s.dir))
	}
	return got, err
}

// removeStale removes a directory that a crash left between making and naming.
func (s *spool) removeStale(name string) error {
	id, err := ulid.ParseStrict(strings.TrimPrefix(name, newPrefix))
	if err != nil || time.Since(ulid.Time(id.Time())) < staleNew {
		return nil
	}
	return os.RemoveAll(filepath.Join(s.root, name))
}

// adoptDir takes over the files of one process if it is dead.
func (s *spool) adoptDir(dir string, got *adopted) error {
	lock, err := os.OpenFile(filepath.Join(dir, lockName), os.O_RDWR, 0)
	if err != nil {
		return ignoreAbsent(err) // somebody else has just adopted it, or it is not ours
	}
	if ok, err := tryLock(lock); err != nil || !ok {
		return errors.Join(err, lock.Close())
	}
	files, err := os.ReadDir(dir)
	if err != nil {
		return errors.Join(ignoreAbsent(err), lock.Close())
	}
	left := false
	for _, f := range files {
		switch path := filepath.Join(dir, f.Name()); {
		case f.Name() == lockName:
		case strings.HasSuffix(f.Name(), tmpSuffix):
			err = errors.Join(err, s.fs.Remove(path)) // never finished, so its batch was never let go of
		case strings.HasSuffix(f.Name(), batchSuffix):
			fits, ferr := s.adoptFile(path, got)
			left = left || !fits
			err = errors.Join(err, ferr)
		}
	}
	if left || err != nil {
		return errors.Join(err, lock.Close())
	}
	return errors.Join(lock.Close(), s.removeDir(dir))
}

// adoptFile takes over one file; false when it has to stay where it is.
func (s *spool) adoptFile(path string, got *adopted) (fits bool, err error) {
	head, size, err := s.fs.ReadHead(path, fileHeader)
	if err != nil {
		return false, err
	}
	h, err := decodeHeader(head, size)
	if err != nil {
		if err := s.moveAside(path); err != nil {
			return false, err
		}
		got.corrupt++
		return true, nil
	}
	e := spooled{name: filepath.Base(path), items: h.items, size: diskSize(size)}
	if s.bytes+e.size > s.limit {
		return false, nil
	}
	if err := s.fs.Rename(path, filepath.Join(s.dir, e.name)); err != nil {
		return false, err
	}
	s.add(e)
	got.items += e.items
	got.bytes += e.size
	got.files++
	return true, nil
}

// close lets go of the directory, and removes it when no batch is left in it.
func (s *spool) close() error {
	files, err := os.ReadDir(s.dir)
	err = errors.Join(err, s.lock.Close())
	if err != nil || len(files) > 1 {
		return err
	}
	return s.removeDir(s.dir)
}

// removeDir removes the directory of a process, in which only the lock is left.
// The lock is not held any more, which Windows asks for; another process may do
// the same at the same moment.
func (s *spool) removeDir(dir string) error {
	return errors.Join(
		ignoreAbsent(s.fs.Remove(filepath.Join(dir, lockName))),
		ignoreAbsent(s.fs.Remove(dir)))
}
