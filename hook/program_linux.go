package hook

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// pin opens the program at path once and returns a copy of it, in sealed
// memory, that has the hash sum. Where the system allows no executable memory
// files, the copy is a private file.
func pin(path string, sum []byte) (pinned, error) {
	src, err := openProgram(path)
	if err != nil {
		return pinned{}, err
	}
	defer src.Close() // it was only read
	mem, err := memoryFile()
	if err != nil {
		return privateCopy(src, sum)
	}
	if err := fill(mem, src, sum); err != nil {
		return pinned{}, errors.Join(err, mem.Close())
	}
	return pinned{path: "/proc/self/fd/3", file: mem}, nil
}

func memoryFile() (*os.File, error) {
	const flags = unix.MFD_CLOEXEC | unix.MFD_ALLOW_SEALING
	fd, err := unix.MemfdCreate("kaizen-hook", flags|unix.MFD_EXEC)
	if errors.Is(err, unix.EINVAL) { // before Linux 6.3 all are executable
		fd, err = unix.MemfdCreate("kaizen-hook", flags)
	}
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), "kaizen-hook"), nil
}

// fill copies src to mem, seals mem and checks its hash, in this order: after
// the seal nobody can change what the hash was taken of, this process included.
func fill(mem *os.File, src io.Reader, sum []byte) error {
	if _, err := io.Copy(mem, io.LimitReader(src, maxProgramBytes+1)); err != nil {
		return err
	}
	const seals = unix.F_SEAL_WRITE | unix.F_SEAL_GROW | unix.F_SEAL_SHRINK | unix.F_SEAL_SEAL
	if _, err := unix.FcntlInt(mem.Fd(), unix.F_ADD_SEALS, seals); err != nil {
		return fmt.Errorf("seal its copy: %w", err)
	}
	return checkSum(mem, sum)
}

// awaitExit waits until the process has ended, and leaves it to be collected.
func awaitExit(pid int) bool {
	for {
		err := unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if !errors.Is(err, unix.EINTR) {
			return err == nil
		}
	}
}
