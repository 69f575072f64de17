package ship

import (
	"errors"
	"io"
	"os"
	"path/filepath"
)

// fsys is what the spool asks of the disk; tests replace it by one that fails.
type fsys interface {
	// Create makes a file, owner-only, that must not exist.
	Create(path string) (file, error)
	ReadFile(path string) ([]byte, error)
	// ReadHead reads up to n bytes and reports the file's size.
	ReadHead(path string, n int) (head []byte, size int64, err error)
	Rename(from, to string) error
	Remove(path string) error
	// SyncDir makes creations, renames and removals in a directory durable.
	SyncDir(dir string) error
}

type file interface {
	io.WriteCloser
	Sync() error
}

type osFS struct{}

func (osFS) Create(path string) (file, error) {
	return os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
}
func (osFS) ReadFile(path string) ([]byte, error) { return os.ReadFile(path) }
func (osFS) Rename(from, to string) error         { return os.Rename(from, to) }
func (osFS) Remove(path string) error             { return os.Remove(path) }
func (osFS) SyncDir(dir string) error             { return syncDir(dir) }

func (osFS) ReadHead(path string, n int) (head []byte, size int64, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, 0, err
	}
	defer f.Close() // only read
	info, err := f.Stat()
	if err != nil {
		return nil, 0, err
	}
	head = make([]byte, n)
	got, err := io.ReadFull(f, head)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = nil
	}
	return head[:got], info.Size(), err
}

// writeFile makes dir/name with this content, durably and whole or not at all.
func writeFile(fs fsys, dir, name string, content []byte) error {
	path := filepath.Join(dir, name)
	tmp := path + tmpSuffix
	err := writeSynced(fs, tmp, content)
	if err == nil {
		err = fs.Rename(tmp, path)
	}
	if err != nil {
		return errors.Join(err, ignoreAbsent(fs.Remove(tmp)))
	}
	if err := fs.SyncDir(dir); err != nil {
		// The name may be lost in a crash: the caller keeps the batch, so the
		// file must not be sent as well.
		return errors.Join(err, ignoreAbsent(fs.Remove(path)))
	}
	return nil
}

func writeSynced(fs fsys, path string, content []byte) error {
	f, err := fs.Create(path)
	if err != nil {
		return err
	}
	if _, err := f.Write(content); err != nil {
		return errors.Join(err, f.Close())
	}
	if err := f.Sync(); err != nil {
		return errors.Join(err, f.Close())
	}
	return f.Close()
}

func ignoreAbsent(err error) error {
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}
