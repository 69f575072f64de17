package durable

import (
	"os"

	"golang.org/x/sys/unix"
)

// datasync is fdatasync: it writes the content, and the size if it changed,
// but no timestamps. On a file whose blocks are already allocated and written
// it therefore costs one flush of the device and no journal commit.
func datasync(f *os.File) error {
	conn, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var syncErr error
	err = conn.Control(func(fd uintptr) {
		for {
			// A signal may interrupt the call before it did anything.
			if syncErr = unix.Fdatasync(int(fd)); syncErr != unix.EINTR {
				return
			}
		}
	})
	if err == nil && syncErr != nil {
		err = &os.PathError{Op: "fdatasync", Path: f.Name(), Err: syncErr}
	}
	return err
}
