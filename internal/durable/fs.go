// Package durable writes files that survive a crash: an atomic, synced
// replace, directories whose entries are synced, and a lock on a directory.
//
// Everything goes through [FS], so that tests can put a file system in its
// place that fails at a chosen call or forgets what was never synced:
//
//	err := durable.ReplaceFile(durable.OS{}, "checkpoint", data)
package durable

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// Permissions of what this package creates: for the owner alone.
const (
	FilePerm fs.FileMode = 0o600
	DirPerm  fs.FileMode = 0o700
)

// FS is the part of a file system that durable storage needs. [OS] is the
// real one. Implementations may be called by several goroutines at once.
type FS interface {
	// OpenFile is [os.OpenFile].
	OpenFile(name string, flag int, perm fs.FileMode) (File, error)
	// Rename replaces newname atomically. It is durable after SyncDir.
	Rename(oldname, newname string) error
	// Remove removes a file. It is durable after SyncDir.
	Remove(name string) error
	// Mkdir makes one directory. It is durable after SyncDir of its parent.
	Mkdir(name string, perm fs.FileMode) error
	// ReadDir lists a directory, sorted by name.
	ReadDir(name string) ([]fs.DirEntry, error)
	// SyncDir makes the entries of a directory durable.
	SyncDir(name string) error
	// Lock takes the exclusive lock that the file name stands for, creating it
	// empty if absent. It does not wait: [ErrLocked] if somebody has it.
	Lock(name string) (io.Closer, error)
}

// File is an open file of an [FS].
type File interface {
	io.ReaderAt
	io.WriterAt
	io.Writer
	io.Closer
	// Sync makes the content, and the size, durable. After an error nothing
	// that was written since the last success can be relied on.
	Sync() error
	Truncate(size int64) error
	Stat() (fs.FileInfo, error)
}

// OS is the operating system's file system.
type OS struct{}

// OpenFile implements [FS].
func (OS) OpenFile(name string, flag int, perm fs.FileMode) (File, error) {
	f, err := os.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

// Rename implements [FS].
func (OS) Rename(oldname, newname string) error { return os.Rename(oldname, newname) }

// Remove implements [FS].
func (OS) Remove(name string) error { return os.Remove(name) }

// Mkdir implements [FS].
func (OS) Mkdir(name string, perm fs.FileMode) error { return os.Mkdir(name, perm) }

// ReadDir implements [FS].
func (OS) ReadDir(name string) ([]fs.DirEntry, error) { return os.ReadDir(name) }

// Lock implements [FS] with a lock that the kernel drops with the process.
func (OS) Lock(name string) (io.Closer, error) { return lockFile(name) }

type osFile struct{ *os.File }

// Sync leaves out timestamps where the system can: see datasync.
func (f osFile) Sync() error { return datasync(f.File) }

// ReplaceFile makes name hold exactly data, readable by the owner alone. After
// a crash at any point the file is either the old one or the new one; when it
// has returned nil, it is the new one. It uses name + ".tmp".
func ReplaceFile(fsys FS, name string, data []byte) error {
	tmp := name + ".tmp"
	if err := writeSynced(fsys, tmp, data); err != nil {
		return err
	}
	if err := fsys.Rename(tmp, name); err != nil {
		return err
	}
	return fsys.SyncDir(filepath.Dir(name))
}

func writeSynced(fsys FS, name string, data []byte) (err error) {
	f, err := fsys.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, FilePerm)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if _, err := f.Write(data); err != nil {
		return err
	}
	return f.Sync()
}

// ReadFile reads a whole file of at most limit bytes.
func ReadFile(fsys FS, name string, limit int64) (data []byte, err error) {
	f, err := fsys.OpenFile(name, os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if info.Size() > limit {
		return nil, fmt.Errorf("read %s: %d bytes, at most %d expected", name, info.Size(), limit)
	}
	data = make([]byte, info.Size())
	n, err := f.ReadAt(data, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return data[:n], nil // shorter if it was cut while we read
}

// MkdirAll makes dir and its missing parents for the owner alone, and syncs
// each directory that gained an entry. If dir exists it is left as it is, but
// its entry is synced: it may come from a call that failed half-way.
func MkdirAll(fsys FS, dir string) error {
	err := fsys.Mkdir(dir, DirPerm)
	switch {
	case err == nil, errors.Is(err, fs.ErrExist):
		return fsys.SyncDir(filepath.Dir(dir))
	case !errors.Is(err, fs.ErrNotExist) || filepath.Dir(dir) == dir:
		return err
	}
	if err := MkdirAll(fsys, filepath.Dir(dir)); err != nil {
		return err
	}
	return MkdirAll(fsys, dir)
}
