package durable

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"unsafe"
)

func TestReserve(t *testing.T) {
	f, err := OS{}.OpenFile(filepath.Join(t.TempDir(), "f"), os.O_RDWR|os.O_CREATE, FilePerm)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte("text"), 0); err != nil {
		t.Fatal(err)
	}
	if err := Reserve(f, 4, 1<<20); err != nil {
		t.Fatal(err)
	}
	check := func(what string) {
		t.Helper()
		info, err := f.Stat()
		if err != nil || info.Size() != 4 {
			t.Errorf("%s: size %d, %v; want 4", what, info.Size(), err)
		}
		b := make([]byte, 4)
		if _, err := f.ReadAt(b, 0); err != nil || string(b) != "text" {
			t.Errorf("%s: content %q, %v", what, b, err)
		}
	}
	check("after Reserve")
	if err := f.Truncate(4); err != nil {
		t.Fatal(err)
	}
	check("after Truncate")
}

func TestIsNoSpace(t *testing.T) {
	for _, tt := range []struct {
		err  error
		want bool
	}{
		{fmt.Errorf("wrapped: %w", &os.PathError{Op: "write", Err: syscall.ENOSPC}), true},
		{syscall.EROFS, true}, {syscall.EIO, false}, {errors.New("other"), false}, {nil, false},
	} {
		if got := IsNoSpace(tt.err); got != tt.want {
			t.Errorf("IsNoSpace(%v) = %v, want %v", tt.err, got, tt.want)
		}
	}
}

func TestAlignedBuffer(t *testing.T) {
	for _, n := range []int{1, 4096, 10_000} {
		b := AlignedBuffer(n)
		if at := uintptr(unsafe.Pointer(&b[0])); len(b) != n || cap(b) != n || at%DirectAlign != 0 || !bytes.Equal(b, make([]byte, n)) {
			t.Errorf("AlignedBuffer(%d): %d bytes, capacity %d, at %x", n, len(b), cap(b), at)
		}
	}
}
