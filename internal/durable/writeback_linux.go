package durable

import "golang.org/x/sys/unix"

// StartWriting asks the system to begin writing n bytes of f from off on, and
// does not wait. It promises nothing, and reports nothing: what it could not
// write the next [File.Sync] tells. It is for files that are synced now and
// then, so that a sync finds little to do and others have the disk meanwhile.
func StartWriting(f File, off, n int64) {
	of, ok := f.(osFile)
	if !ok {
		return
	}
	conn, err := of.SyscallConn()
	if err != nil {
		return
	}
	_ = conn.Control(func(fd uintptr) {
		_ = unix.SyncFileRange(int(fd), off, n, unix.SYNC_FILE_RANGE_WRITE)
	})
}
