package durable

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

func reserve(f *os.File, off, n int64) error {
	conn, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var callErr error
	err = conn.Control(func(fd uintptr) {
		for {
			if callErr = unix.Fallocate(int(fd), unix.FALLOC_FL_KEEP_SIZE, off, n); callErr != unix.EINTR {
				return
			}
		}
	})
	switch {
	case err != nil:
		return err
	case callErr == nil, errors.Is(callErr, unix.EOPNOTSUPP), errors.Is(callErr, unix.ENOSYS):
		return nil
	}
	return &os.PathError{Op: "fallocate", Path: f.Name(), Err: callErr}
}

// noSpace lists the errors that say that a file system takes no more for now,
// and has left everything as it was.
var noSpace = []error{unix.ENOSPC, unix.EDQUOT, unix.EROFS}
