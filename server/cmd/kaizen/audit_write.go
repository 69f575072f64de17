package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/kaizen-go/kaizen/audit"
)

// writeWhole writes a file for the owner alone, which appears when it is whole:
// on a full disk nothing is left of it, and one of that name stays as it was.
// What is no regular file, as /dev/stdout, is written to as it is.
func writeWhole(path string, data []byte) (err error) {
	if at, err := filepath.EvalSymlinks(path); err == nil {
		path = at
	}
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		return os.WriteFile(path, data, 0o600)
	}
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*.tmp")
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}

// unwritten gives an error of reading a ledger and writing to files its exit
// code: what came from the ledger has one, what came from the files is the
// environment's.
func unwritten(err error) error {
	if _, classed := errors.AsType[*exitError](err); classed || err == nil {
		return err
	}
	_, path := errors.AsType[*fs.PathError](err)
	_, link := errors.AsType[*os.LinkError](err)
	if path || link || noRoom(err) {
		return environment(err, "")
	}
	return failed(err)
}

// noRoom reports whether err says that a disk is full.
func noRoom(err error) bool {
	return errors.Is(err, audit.ErrNoSpace) || errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}
