//go:build linux || darwin

package server

import "syscall"

// diskSpace returns the bytes that this user may still write to the disk of dir,
// and its size.
func diskSpace(dir string) (free, size float64, ok bool) {
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		return 0, 0, false
	}
	unit := float64(st.Bsize)
	return float64(st.Bavail) * unit, float64(st.Blocks) * unit, true
}
