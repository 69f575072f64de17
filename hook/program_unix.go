//go:build unix

package hook

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
)

// nonblock: without it, opening a named pipe would wait for a writer.
const nonblock = syscall.O_NONBLOCK

// pinned is the copy of a program that is executed.
type pinned struct {
	// path is what exec is given. If file is set, path leads to it in the
	// child, where it is descriptor 3.
	path string
	file *os.File
	// dir is removed by close, unless "".
	dir string
}

func (p pinned) files() []*os.File {
	if p.file == nil {
		return nil
	}
	return []*os.File{p.file}
}

func (p pinned) close() error {
	if p.file != nil {
		return p.file.Close()
	}
	return os.RemoveAll(p.dir)
}

// openProgram opens the file at path and checks everything about it but its
// hash.
func openProgram(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|nonblock, 0)
	if err != nil {
		return nil, err
	}
	fi, err := f.Stat()
	if err == nil {
		err = checkFile(fi)
	}
	if err == nil && fi.Mode()&0o111 == 0 {
		err = fmt.Errorf("%w: it is not executable", ErrProgram)
	}
	if err == nil && fi.Size() > maxProgramBytes {
		err = fmt.Errorf("%w: it has more than %d bytes", ErrProgram, maxProgramBytes)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// checkFile refuses what another user than this one and root could write.
func checkFile(fi os.FileInfo) error {
	st, ok := fi.Sys().(*syscall.Stat_t)
	switch {
	case !fi.Mode().IsRegular():
		return fmt.Errorf("%w: it is not a regular file", ErrProgram)
	case fi.Mode()&0o022 != 0:
		return fmt.Errorf("%w: others may write to it (mode %v)", ErrProgram, fi.Mode().Perm())
	case ok && st.Uid != 0 && int(st.Uid) != os.Geteuid():
		return fmt.Errorf("%w: it belongs to user %d", ErrProgram, st.Uid)
	}
	return nil
}

// checkSum reads the copy itself: what was read while copying may be not what
// was written.
func checkSum(f io.ReaderAt, sum []byte) error {
	h := sha256.New()
	if _, err := io.Copy(h, io.NewSectionReader(f, 0, maxProgramBytes+1)); err != nil {
		return err
	}
	if got := h.Sum(nil); !bytes.Equal(got, sum) {
		return fmt.Errorf("%w: its SHA-256 is %x, pinned is %x", ErrProgram, got, sum)
	}
	return nil
}

// privateCopy pins src as a file in a directory that only this user can enter.
func privateCopy(src io.Reader, sum []byte) (_ pinned, err error) {
	dir, err := os.MkdirTemp("", "kaizen-hook-")
	if err != nil {
		return pinned{}, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(dir))
		}
	}()
	path := filepath.Join(dir, "program")
	if err := writeProgram(path, src); err != nil {
		return pinned{}, err
	}
	f, err := os.Open(path)
	if err != nil {
		return pinned{}, err
	}
	if err := errors.Join(checkSum(f, sum), f.Close()); err != nil {
		return pinned{}, err
	}
	return pinned{path: path, dir: dir}, nil
}

// writeProgram holds off forks while the file is open for writing: a child that
// inherits the descriptor makes the kernel refuse to execute the file.
func writeProgram(path string, src io.Reader) error {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o500)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, io.LimitReader(src, maxProgramBytes+1))
	return errors.Join(err, f.Close())
}

// ownGroup starts a process as the leader of a group of its own.
func ownGroup() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

// killGroup kills the processes of a group. That there are none any more is no
// error, and there is no other that could be acted on.
func killGroup(pid int) { _ = syscall.Kill(-pid, syscall.SIGKILL) }
