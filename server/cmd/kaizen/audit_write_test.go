package main

import (
	"context"
	"errors"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/kaizen-go/kaizen/audit"
	"github.com/kaizen-go/kaizen/server/internal/evidence"
)

// brokenSource fails when it has given the entries that a pack asks for first.
type brokenSource struct{ err error }

func (s brokenSource) Query(context.Context, audit.Query) iter.Seq2[audit.Entry, error] {
	return func(func(audit.Entry, error) bool) {}
}
func (s brokenSource) Count(context.Context, audit.Query) (int64, error) { return 0, s.err }
func (s brokenSource) Tile(context.Context, int, int64, int) ([]byte, error) {
	return nil, s.err
}

// TestPackLeavesNothing wants no part of a pack that could not be written, and
// the exit code of what was in the way.
func TestPackLeavesNothing(t *testing.T) {
	for _, tt := range []struct {
		name string
		err  error
		want int
	}{
		{"full disk", &fs.PathError{Op: "write", Path: "x", Err: syscall.ENOSPC}, exitEnvironment},
		{"tampered ledger", failed(&audit.TamperError{Path: "seg/0", Index: -1, Reason: "differs"}), exitFailed},
		{"something else", errors.New("something else"), exitFailed},
	} {
		for _, out := range []string{"new", "deep/er/new", "empty", "new.zip"} {
			t.Run(tt.name+" "+out, func(t *testing.T) {
				dir := t.TempDir()
				if err := os.Mkdir(filepath.Join(dir, "empty"), 0o700); err != nil {
					t.Fatal(err)
				}
				cfg := evidence.Config{Source: brokenSource{tt.err}, Checkpoint: audit.Checkpoint{Size: 1}}
				_, err := writePack(t.Context(), filepath.Join(dir, out), cfg)
				if code, _ := classify(err); err == nil || code != tt.want {
					t.Errorf("writePack = %v, code %d, want %d", err, code, tt.want)
				}
				err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
					if err == nil && (!d.IsDir() || strings.HasSuffix(path, ".tmp") || d.Name() == "new") {
						t.Errorf("%s is left", path)
					}
					return err
				})
				if err != nil {
					t.Error(err)
				}
			})
		}
	}
}

// TestWriteWholeKeeps wants the file of before where the new one cannot be put,
// and nothing beside it.
func TestWriteWholeKeeps(t *testing.T) {
	dir := t.TempDir()
	path, link := filepath.Join(dir, "proof"), filepath.Join(dir, "link")
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	if err := writeWhole(path, []byte("one")); err != nil {
		t.Fatal(err)
	}
	if err := writeWhole(link, []byte("two")); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Lstat(link); err != nil || info.Mode()&fs.ModeSymlink == 0 {
		t.Errorf("the link is %v (%v)", info, err)
	}
	if b, err := os.ReadFile(path); err != nil || string(b) != "two" {
		t.Errorf("the file has %q (%v)", b, err)
	}
	if err := writeWhole(dir, []byte("three")); err == nil {
		t.Error("a directory was written")
	}
	names, err := os.ReadDir(dir)
	if err != nil || len(names) != 2 {
		t.Errorf("%v are left (%v)", names, err)
	}
}
