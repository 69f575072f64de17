package durable

import "errors"

// Reserver is a [File] that can have blocks allocated before they are needed.
type Reserver interface {
	// Reserve makes sure that writes to n bytes from off on will find room,
	// without changing the file's size or content. [File.Truncate], also to the
	// size that the file has, gives back what lies beyond. On a file system
	// that cannot reserve it does nothing.
	Reserve(off, n int64) error
}

// Reserve is f's Reserve, if it has one.
func Reserve(f File, off, n int64) error {
	if r, ok := f.(Reserver); ok {
		return r.Reserve(off, n)
	}
	return nil
}

// Reserve implements [Reserver].
func (f osFile) Reserve(off, n int64) error { return reserve(f.File, off, n) }

// IsNoSpace reports whether err says that the disk is full, the owner's quota
// is used up, or the file system is read-only.
func IsNoSpace(err error) bool {
	for _, target := range noSpace {
		if errors.Is(err, target) {
			return true
		}
	}
	return false
}
