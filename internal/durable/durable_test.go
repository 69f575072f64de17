package durable

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

func TestReplaceFile(t *testing.T) {
	name := filepath.Join(t.TempDir(), "f")
	for _, content := range []string{"first", "", "second, longer"} {
		if err := ReplaceFile(OS{}, name, []byte(content)); err != nil {
			t.Fatal(err)
		}
		got, err := ReadFile(OS{}, name, 100)
		if err != nil || string(got) != content {
			t.Errorf("ReadFile = %q, %v; want %q", got, err, content)
		}
	}
	if info, err := os.Stat(name); err != nil || info.Mode().Perm() != FilePerm {
		t.Errorf("mode %v, %v; want %v", info.Mode(), err, FilePerm)
	}
	if _, err := os.Stat(name + ".tmp"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the temporary file is still there: %v", err)
	}
	if _, err := ReadFile(OS{}, name, 3); err == nil {
		t.Error("ReadFile beyond its limit succeeded")
	}
	if err := ReplaceFile(OS{}, filepath.Join(name, "below"), nil); err == nil {
		t.Error("ReplaceFile below a file succeeded")
	}
	if _, err := ReadFile(OS{}, name+"x", 3); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("ReadFile of nothing = %v, want ErrNotExist", err)
	}
}

func TestMkdirAll(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b", "c")
	for range 2 {
		if err := MkdirAll(OS{}, dir); err != nil {
			t.Fatal(err)
		}
	}
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != DirPerm {
		t.Errorf("directory %v, %v; want mode %v", info, err, DirPerm)
	}
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := MkdirAll(OS{}, filepath.Join(file, "d")); err == nil {
		t.Error("MkdirAll below a file succeeded")
	}
}

func TestLock(t *testing.T) {
	name := filepath.Join(t.TempDir(), "LOCK")
	for range 2 {
		held, err := OS{}.Lock(name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := (OS{}).Lock(name); !errors.Is(err, ErrLocked) {
			t.Errorf("second Lock = %v, want ErrLocked", err)
		}
		if err := held.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if info, err := os.Stat(name); err != nil || info.Size() != 0 {
		t.Errorf("lock file %v, %v; want an empty one", info, err)
	}
}

func TestFile(t *testing.T) {
	name := filepath.Join(t.TempDir(), "f")
	f, err := OS{}.OpenFile(name, os.O_RDWR|os.O_CREATE, FilePerm)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte("0123456789"), 5); err != nil {
		t.Fatal(err)
	}
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(8); err != nil {
		t.Fatal(err)
	}
	if info, err := f.Stat(); err != nil || info.Size() != 8 {
		t.Errorf("size %v, %v; want 8", info, err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if err := f.Sync(); err == nil {
		t.Error("Sync of a closed file succeeded")
	}
	if err := (OS{}).SyncDir(filepath.Dir(name)); err != nil {
		t.Error(err)
	}
	if err := (OS{}).SyncDir(name + "x"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("SyncDir of nothing = %v, want ErrNotExist", err)
	}
}

// TestStartWriting asks for what cannot be: nothing depends on it.
func TestStartWriting(t *testing.T) {
	f, err := OS{}.OpenFile(filepath.Join(t.TempDir(), "f"), os.O_RDWR|os.O_CREATE, FilePerm)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(make([]byte, 1<<16), 0); err != nil {
		t.Fatal(err)
	}
	StartWriting(f, 0, 1<<16)
	StartWriting(f, 1<<20, 1)
	if err := f.Sync(); err != nil {
		t.Error(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	StartWriting(f, 0, 1<<16)
}
