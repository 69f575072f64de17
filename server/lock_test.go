package server

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestLockIsForOne(t *testing.T) {
	dir := t.TempDir()
	first, err := takeLock(t.Context(), dir, serveCommand)
	if err != nil {
		t.Fatal(err)
	}
	held := first.held
	held.UI = "http://127.0.0.1:7070"
	if err := first.describe(held); err != nil {
		t.Fatal(err)
	}

	_, err = takeLock(t.Context(), dir, serveCommand)
	want := fmt.Sprintf("server: %s: data directory is in use by process %d (kaizen serve at http://127.0.0.1:7070)", dir, os.Getpid())
	if !errors.Is(err, ErrLocked) || err.Error() != want {
		t.Fatalf("second lock = %v, want %s", err, want)
	}
	got, found, err := FindHolder(dir)
	if err != nil || !found || got != held {
		t.Fatalf("FindHolder = %+v, %v, %v, want %+v", got, found, err, held)
	}

	if err := first.release(); err != nil {
		t.Fatal(err)
	}
	if got, found, err := FindHolder(dir); err != nil || found {
		t.Fatalf("FindHolder after release = %+v, %v, %v, want none", got, found, err)
	}
	second, err := takeLock(t.Context(), dir, serveCommand)
	if err != nil {
		t.Fatal(err)
	}
	if err := second.release(); err != nil {
		t.Fatal(err)
	}
}

// A killed process leaves its description behind, and no lock.
func TestLockAfterKill(t *testing.T) {
	dir := t.TempDir()
	left := `{"pid":999999,"command":"serve","ui":"http://127.0.0.1:1"}` + strings.Repeat(" ", 100) + "\n"
	if err := os.WriteFile(filepath.Join(dir, lockName), []byte(left), 0o600); err != nil {
		t.Fatal(err)
	}
	if h, found, err := FindHolder(dir); err != nil || found {
		t.Fatalf("FindHolder = %+v, %v, %v, want none", h, found, err)
	}
	l, err := takeLock(t.Context(), dir, serveCommand)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := l.release(); err != nil {
			t.Error(err)
		}
	}()
	h, found, err := FindHolder(dir)
	if err != nil || !found || h.PID != os.Getpid() || h.UI != "" {
		t.Fatalf("FindHolder = %+v, %v, %v, want this process without a page", h, found, err)
	}
}

func TestLockWaitsForReader(t *testing.T) {
	dir := t.TempDir()
	reader, err := takeLock(t.Context(), dir, "kaizen trace list")
	if err != nil {
		t.Fatal(err)
	}
	type outcome struct {
		l   *lock
		err error
	}
	waiting := make(chan outcome)
	go func() {
		l, err := takeLock(t.Context(), dir, serveCommand)
		waiting <- outcome{l, err}
	}()
	select {
	case o := <-waiting:
		t.Fatalf("lock of a reader = %v, %v, want to wait for it", o.l, o.err)
	case <-time.After(4 * lockPause):
	}
	if err := reader.release(); err != nil {
		t.Fatal(err)
	}
	o := <-waiting
	if o.err != nil {
		t.Fatal(o.err)
	}
	if err := o.l.release(); err != nil {
		t.Fatal(err)
	}
}

func TestLockHolderUnreadable(t *testing.T) {
	for _, text := range []string{"", "{", "no json", strings.Repeat("x", 3*maxHolderBytes)} {
		path := filepath.Join(t.TempDir(), lockName)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		if h, err := readHolder(f); err != nil || h != (Holder{}) {
			t.Errorf("readHolder(%.10q) = %+v, %v, want nobody", text, h, err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err := FindHolder(filepath.Join(t.TempDir(), "absent")); err != nil {
		t.Errorf("FindHolder(absent) = %v, want nobody", err)
	}
}
