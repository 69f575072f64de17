package metrics

import (
	"errors"
	"os"
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
	var counted []float64
	for _, dir := range []string{t.TempDir(), "."} { // the first may be in memory
		before, _ := readProcessUsage()
		writeFile(t, dir, size)
		after, _ := readProcessUsage()
		if after.written-before.written >= size {
			return
		}
		counted = append(counted, after.written-before.written)
	}
	t.Skipf("%v bytes were counted as written, of %d: no disks", counted, size)
}

// writeFile writes so many bytes to a file in dir, to the disk, and removes it.
func writeFile(t *testing.T, dir string, size int) {
	t.Helper()
	f, err := os.CreateTemp(dir, "written-*.out")
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.Write(make([]byte, size))
	if err := errors.Join(err, f.Sync(), f.Close(), os.Remove(f.Name())); err != nil {
		t.Fatal(err)
	}
}
