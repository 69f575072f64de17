//go:build !linux

package durable

import "os"

// datasync is [os.File.Sync], which on macOS asks the drive to empty its cache.
func datasync(f *os.File) error { return f.Sync() }
