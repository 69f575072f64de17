package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// ErrLocked is in the error of [New] when another process holds the data
// directory.
var ErrLocked = errors.New("data directory is in use")

// lockName is the file in the data directory whose lock its one process holds.
const lockName = "kaizen.lock"

// Holder says who holds a data directory. It is the content of kaizen.lock.
type Holder struct {
	// PID is the process.
	PID int `json:"pid"`
	// Command is what it does: "serve", or the reading command that it is.
	Command string `json:"command"`
	// UI is the base URL of its page and API; empty while it has none.
	UI string `json:"ui,omitempty"`
	// OTLPHTTP and OTLPGRPC are where it takes telemetry: a base URL, and
	// host:port.
	OTLPHTTP string `json:"otlp_http,omitempty"`
	OTLPGRPC string `json:"otlp_grpc,omitempty"`
}

// serveCommand marks a holder that stays; every other one is gone in a moment.
const serveCommand = "serve"

// lock is the held lock of one data directory.
type lock struct {
	file *os.File
	held Holder
}

// A command that reads holds the lock while it answers, so there is patience
// with it. With a server there is little: what the file says may be left over
// from one that was killed, while somebody looks who holds the lock.
const (
	lockPatience   = 3 * time.Second
	serverPatience = time.Second
	lockPause      = 25 * time.Millisecond
)

// takeLock locks dir for command. While another command reads, it waits for up
// to lockPatience; a server that holds dir soon is an error.
func takeLock(ctx context.Context, dir, command string) (*lock, error) {
	path := filepath.Join(dir, lockName)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("server: open lock: %w", err)
	}
	begun := time.Now()
	for {
		err = flock(f, unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			l := &lock{file: f}
			if err := l.describe(Holder{PID: os.Getpid(), Command: command}); err != nil {
				return nil, errors.Join(err, l.release())
			}
			return l, nil
		}
		holder, readErr := readHolder(f)
		patience := lockPatience
		if holder.Command == serveCommand {
			patience = serverPatience
		}
		if readErr != nil || !errors.Is(err, unix.EWOULDBLOCK) || time.Since(begun) > patience || !pause(ctx) {
			return nil, errors.Join(lockError(dir, holder, err), f.Close())
		}
	}
}

// pause waits for the next try and reports whether ctx allows one.
func pause(ctx context.Context) bool {
	t := time.NewTimer(lockPause)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

func lockError(dir string, holder Holder, err error) error {
	if !errors.Is(err, unix.EWOULDBLOCK) {
		return fmt.Errorf("server: lock %s: %w", dir, err)
	}
	if holder.PID == 0 {
		return fmt.Errorf("server: %s: %w by another process", dir, ErrLocked)
	}
	where := ""
	if holder.UI != "" {
		where = " at " + holder.UI
	}
	return fmt.Errorf("server: %s: %w by process %d (kaizen %s%s)", dir, ErrLocked, holder.PID, holder.Command, where)
}

// describe writes who holds the lock. A reader may catch the file half
// written: it then knows only that somebody does.
func (l *lock) describe(h Holder) error {
	text, err := json.Marshal(h)
	if err != nil {
		return fmt.Errorf("server: describe lock: %w", err)
	}
	if err := l.file.Truncate(0); err != nil {
		return fmt.Errorf("server: describe lock: %w", err)
	}
	if _, err := l.file.WriteAt(append(text, '\n'), 0); err != nil {
		return fmt.Errorf("server: describe lock: %w", err)
	}
	l.held = h
	return nil
}

// release gives the lock up. The file stays: removing it would let two
// processes hold locks on two files of one name.
func (l *lock) release() error {
	err := l.file.Truncate(0)
	return errors.Join(err, l.file.Close())
}

// FindHolder reports who holds the data directory dir, and whether anybody
// does. A directory without a lock file is held by nobody.
func FindHolder(dir string) (Holder, bool, error) {
	f, err := os.Open(filepath.Join(dir, lockName))
	if errors.Is(err, os.ErrNotExist) {
		return Holder{}, false, nil
	}
	if err != nil {
		return Holder{}, false, fmt.Errorf("server: open lock: %w", err)
	}
	err = flock(f, unix.LOCK_SH|unix.LOCK_NB)
	if err == nil {
		return Holder{}, false, f.Close() // closing gives the lock up
	}
	if !errors.Is(err, unix.EWOULDBLOCK) {
		return Holder{}, false, errors.Join(fmt.Errorf("server: lock %s: %w", dir, err), f.Close())
	}
	h, err := readHolder(f)
	return h, true, errors.Join(err, f.Close())
}

func flock(f *os.File, how int) error {
	for {
		err := unix.Flock(int(f.Fd()), how)
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// maxHolderBytes is more than any holder takes.
const maxHolderBytes = 4096

// readHolder returns the zero Holder while there is no whole description.
func readHolder(f *os.File) (Holder, error) {
	buf := make([]byte, maxHolderBytes)
	n, err := f.ReadAt(buf, 0)
	if n == 0 && err != nil {
		return Holder{}, nil
	}
	var h Holder
	if json.Unmarshal(buf[:n], &h) != nil {
		return Holder{}, nil
	}
	return h, nil
}
