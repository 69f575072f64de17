//go:build !linux && !darwin

package server

// diskSpace is not known here.
func diskSpace(string) (free, size float64, ok bool) { return 0, 0, false }
