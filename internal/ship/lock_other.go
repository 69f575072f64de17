//go:build !(darwin || dragonfly || freebsd || linux || netbsd || openbsd || windows)

package ship

import (
	"errors"
	"os"
)

// tryLock fails: without locks two processes could send the same batch, so
// there is no spool here.
func tryLock(*os.File) (bool, error) {
	return false, errors.New("file locks are not supported on this system")
}

func syncDir(string) error { return nil }
