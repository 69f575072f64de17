//go:build unix

package hook

import (
	"crypto/sha256"
	"errors"
	"os"
	"strings"
	"testing"
	"time"
)

// TestPrivateCopy: the way to pin where there is no sealed memory.
func TestPrivateCopy(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	const text = "#!/bin/sh\necho '{\"decision\":\"deny\",\"reason\":\"copied\"}'\n"
	sum := sha256.Sum256([]byte(text))
	exe, err := privateCopy(strings.NewReader(text), sum[:])
	if err != nil {
		t.Fatal(err)
	}
	if fi, err := os.Stat(exe.dir); err != nil || fi.Mode().Perm() != 0o700 {
		t.Errorf("directory: %v, %v, want it closed to others", fi.Mode(), err)
	}
	if fi, err := os.Stat(exe.path); err != nil || fi.Mode().Perm() != 0o500 {
		t.Errorf("program: %v, %v, want it closed to others", fi.Mode(), err)
	}
	p := &Program{exe: exe, cfg: ProgramConfig{Path: "/guard", Dir: "/", Timeout: time.Minute, MaxOutputBytes: 100}}
	denied, ok := errors.AsType[*DeniedError](p.Handle(t.Context(), Event{Phase: Start, Payload: &Tool{}}))
	if !ok || denied.Reason != "copied" {
		t.Errorf("Handle = %v, want a denial", denied)
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := privateCopy(strings.NewReader(text+"\n"), sum[:]); !errors.Is(err, ErrProgram) {
		t.Errorf("copy of other bytes = %v, want ErrProgram", err)
	}
	left, err := os.ReadDir(os.Getenv("TMPDIR"))
	if err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}
