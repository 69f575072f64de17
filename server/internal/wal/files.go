package wal

import (
	"errors"
	"io"
	"os"
	"path/filepath"
)

// disk is what the log needs of a file system. Tests put faults in it.
type disk interface {
	MkdirAll(dir string) error
	ReadDir(dir string) ([]string, error)
	ReadFile(path string) ([]byte, error)
	// Create makes a new file for its owner alone; one that exists is emptied.
	Create(path string) (file, error)
	OpenAppend(path string) (file, error)
	Rename(from, to string) error
	Remove(path string) error
	// SyncDir makes the names in dir durable.
	SyncDir(dir string) error
}

type file interface {
	io.Writer
	// Sync makes what was written durable.
	Sync() error
	Truncate(size int64) error
	Close() error
}

// osDisk is the real one.
type osDisk struct{}

func (osDisk) MkdirAll(dir string) error            { return os.MkdirAll(dir, 0o700) }
func (osDisk) ReadFile(path string) ([]byte, error) { return os.ReadFile(path) }
func (osDisk) Rename(from, to string) error         { return os.Rename(from, to) }
func (osDisk) Remove(path string) error             { return os.Remove(path) }

func (osDisk) ReadDir(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	names := make([]string, 0, len(entries))
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names, nil
}

func (osDisk) Create(path string) (file, error) {
	return openFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY)
}

// OpenAppend uses O_APPEND: after a truncation the next write goes to the end.
func (osDisk) OpenAppend(path string) (file, error) {
	return openFile(path, os.O_APPEND|os.O_WRONLY)
}

func openFile(path string, flag int) (file, error) {
	f, err := os.OpenFile(path, flag, 0o600)
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

func (osDisk) SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

type osFile struct{ *os.File }

// Sync skips the metadata that reading the file back does not need.
func (f osFile) Sync() error { return datasync(f.File) }

// writeWhole writes a file that is either there in full or not at all.
func writeWhole(d disk, path string, parts ...[]byte) error {
	tmp := path + ".tmp"
	f, err := d.Create(tmp)
	if err != nil {
		return err
	}
	for _, p := range parts {
		if _, err = f.Write(p); err != nil {
			break
		}
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err // the temporary file goes at the next open
	}
	if err := d.Rename(tmp, path); err != nil {
		return err
	}
	return d.SyncDir(filepath.Dir(path))
}
