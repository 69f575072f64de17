package metrics

import (
	"os"
	"path/filepath"
	"testing"
)

func TestParseProcIO(t *testing.T) {
	for _, c := range []struct {
		name, text    string
		read, written float64
		ok            bool
	}{
		{"whole", "rchar: 9\nread_bytes: 4096\nwrite_bytes: 8192\ncancelled_write_bytes: 1\n", 4096, 8192, true},
		{"no newline at the end", "read_bytes: 1\nwrite_bytes: 2", 1, 2, true},
		{"one is missing", "read_bytes: 1\n", 1, 0, false},
		{"not a number", "read_bytes: x\nwrite_bytes: 2\n", 0, 2, false},
		{"empty", "", 0, 0, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			read, written, ok := parseProcIO([]byte(c.text))
			if ok != c.ok || read != c.read || written != c.written {
				t.Errorf("parseProcIO = %v, %v, %v, want %v, %v, %v", read, written, ok, c.read, c.written, c.ok)
			}
		})
	}
}

// TestProcessUsage writes a file and finds the bytes among those of the process.
func TestProcessUsage(t *testing.T) {
	before, ok := readProcessUsage()
	if !ok || before.voluntary+before.involuntary <= 0 {
		t.Fatalf("readProcessUsage = %+v, %v, want context switches", before, ok)
	}
	if !before.hasIO {
		t.Skip("/proc/self/io cannot be read here")
	}
	const size = 1 << 20
	f, err := os.Create(filepath.Join(t.TempDir(), "f"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write(make([]byte, size)); err != nil {
		t.Fatal(err)
	}
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if after, _ := readProcessUsage(); after.written-before.written < size {
		t.Skipf("%v bytes were counted as written, of %d: not a disk", after.written-before.written, size)
	}
}
