package agentlog

import (
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// written returns the lines of the log at path and of what it was rotated
// into, oldest first. It is the invariant of every test here: what was taken
// comes back, once, whole and in order.
func written(t *testing.T, path string) []string {
	t.Helper()
	f := &File{path: path}
	names, err := f.rotated()
	if err != nil {
		t.Fatal(err)
	}
	slices.Reverse(names)
	var all strings.Builder
	for _, name := range append(names, path) {
		file, err := os.Open(name)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		var r io.Reader = file
		if strings.HasSuffix(name, ".gz") {
			if r, err = gzip.NewReader(file); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
		}
		if _, err := io.Copy(&all, r); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if err := file.Close(); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", name, info.Mode())
		}
	}
	return strings.SplitAfter(all.String(), "\n")
}

func checkWritten(t *testing.T, path string, n int) {
	t.Helper()
	lines := written(t, path)
	if len(lines) != n+1 || lines[n] != "" {
		t.Fatalf("%d lines, want %d", len(lines)-1, n)
	}
	for i, line := range lines[:n] {
		if want := numbered(i); line != want {
			t.Fatalf("line %d is %q, want %q", i, line, want)
		}
	}
}

func numbered(i int) string { return fmt.Sprintf("line %06d\n", i) }

func writeLines(t *testing.T, f *File, from, to int) {
	t.Helper()
	for i := from; i < to; i++ {
		if err := f.Write(&Record{Line: []byte(numbered(i))}); err != nil {
			t.Fatal(err)
		}
	}
}

func TestFileRotates(t *testing.T) {
	for _, plain := range []bool{false, true} {
		t.Run(fmt.Sprint("plain=", plain), func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "new", "agents.log")
			f, err := OpenFile(path, FileConfig{MaxBytes: 1000, MaxFiles: 1000, NoCompress: plain})
			if err != nil {
				t.Fatal(err)
			}
			writeLines(t, f, 0, 1000) // 12 bytes each: 83 a file
			if err := f.Close(t.Context()); err != nil {
				t.Fatal(err)
			}
			s := f.Stats()
			if s.Lines != 1000 || s.Rotations != 12 || s.Errors != 0 || s.Dropped != 0 {
				t.Errorf("stats %+v", s)
			}
			checkWritten(t, path, 1000)
			names, err := f.rotated()
			if err != nil {
				t.Fatal(err)
			}
			for _, name := range names {
				if strings.HasSuffix(name, ".gz") == plain {
					t.Errorf("rotated file %s", name)
				}
			}
			if err := f.Write(&Record{Line: []byte("late\n")}); !errors.Is(err, ErrClosed) {
				t.Errorf("Write after Close = %v", err)
			}
			if err := f.Close(t.Context()); err != nil {
				t.Errorf("second Close = %v", err)
			}
		})
	}
}

func TestFileKeepsWithinLimits(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "agents.log")
	old := path + "." + time.Now().Add(-48*time.Hour).UTC().Format(stamp) + ".gz"
	young := path + "." + time.Now().Add(-time.Hour).UTC().Format(stamp)
	foreign := path + ".mine"
	for _, name := range []string{old, young, foreign} {
		if err := os.WriteFile(name, []byte("x\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	f, err := OpenFile(path, FileConfig{MaxAge: 24 * time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{old: false, young: false, young + ".gz": true, foreign: true} {
		if _, err := os.Stat(name); (err == nil) != want {
			t.Errorf("%s is there: %v, want %v", filepath.Base(name), err == nil, want)
		}
	}
	f, err = OpenFile(path, FileConfig{MaxBytes: 100, MaxFiles: 3, MaxAge: Forever})
	if err != nil {
		t.Fatal(err)
	}
	writeLines(t, f, 0, 200)
	if err := f.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if names, err := f.rotated(); err != nil || len(names) != 3 {
		t.Errorf("%d rotated files are left, want 3: %v", len(names), err)
	}
}

func TestFileTightensAndMends(t *testing.T) {
	path := filepath.Join(t.TempDir(), "agents.log")
	if err := os.WriteFile(path, []byte(numbered(0)+"torn by a cra"), 0o644); err != nil {
		t.Fatal(err)
	}
	f, err := OpenFile(path, FileConfig{})
	if err != nil {
		t.Fatal(err)
	}
	writeLines(t, f, 1, 2)
	if err := f.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	lines := written(t, path)
	if want := []string{numbered(0), "torn by a cra\n", numbered(1), ""}; !slices.Equal(lines, want) {
		t.Errorf("lines %q, want %q", lines, want)
	}
}

func TestFileMovedAway(t *testing.T) {
	path := filepath.Join(t.TempDir(), "agents.log")
	f, err := OpenFile(path, FileConfig{})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path, path+".moved"); err != nil {
		t.Fatal(err)
	}
	writeLines(t, f, 0, 1) // the first write looks where the file is
	if err := f.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	checkWritten(t, path, 1)
}

func TestOpenFileRefuses(t *testing.T) {
	dir := t.TempDir()
	for name, do := range map[string]func() (*File, error){
		"directory": func() (*File, error) { return OpenFile(dir, FileConfig{}) },
		"negative":  func() (*File, error) { return OpenFile(filepath.Join(dir, "x"), FileConfig{MaxBytes: -1}) },
	} {
		if _, err := do(); err == nil || !strings.Contains(err.Error(), dir) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// faultFS fails the nth operation, once or from then on, with or without its
// effect. It stands on the real file system.
type faultFS struct {
	osFS
	mu      sync.Mutex
	n       int // operations until the fault
	forever bool
	partly  bool // a failing write writes half, a failing rename renames
}

var errFault = errors.New("injected fault")

func (fs *faultFS) fails() bool {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	fs.n--
	return fs.n == 0 || fs.n < 0 && fs.forever
}

func (fs *faultFS) open(path string) (file, int64, error) {
	if fs.fails() {
		return nil, 0, errFault
	}
	f, size, err := fs.osFS.open(path)
	if err != nil {
		return nil, 0, err
	}
	return &faultFile{fs: fs, f: f}, size, nil
}

func (fs *faultFS) rename(from, to string) error {
	if fs.fails() {
		if fs.partly {
			return errors.Join(fs.osFS.rename(from, to), errFault)
		}
		return errFault
	}
	return fs.osFS.rename(from, to)
}

type faultFile struct {
	fs *faultFS
	f  file
}

func (f *faultFile) Write(p []byte) (int, error) {
	if f.fs.fails() {
		n := 0
		if f.fs.partly {
			var err error
			if n, err = f.f.Write(p[:len(p)/2]); err != nil {
				return n, err
			}
		}
		return n, errFault
	}
	return f.f.Write(p)
}

func (f *faultFile) Sync() error {
	if f.fs.fails() {
		return errFault
	}
	return f.f.Sync()
}

func (f *faultFile) Close() error {
	if f.fs.fails() {
		return errors.Join(f.f.Close(), errFault)
	}
	return f.f.Close()
}

// TestFileFaultSweep fails the 1st, 2nd, … operation in turn, once with its
// effect lost and once with it kept: every line must come back, whole and in
// order, and the fault must be counted.
func TestFileFaultSweep(t *testing.T) {
	for n := 1; n <= 40; n++ {
		for _, partly := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				path := filepath.Join(t.TempDir(), "agents.log")
				fs := &faultFS{n: n, partly: partly}
				f, err := openFile(path, FileConfig{MaxBytes: 50, MaxFiles: 100, NoCompress: true}, fs)
				if n == 1 {
					if !errors.Is(err, errFault) {
						t.Errorf("open with a fault = %v", err)
					}
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				writeLines(t, f, 0, 40)
				closeErr := f.Close(t.Context())
				checkWritten(t, path, 40)
				s := f.Stats()
				hit := fs.n <= 0
				if hit != (s.Errors > 0) || s.Lines != 40 {
					t.Errorf("n=%d partly=%v: stats %+v, fault hit %v", n, partly, s, hit)
				}
				if closeErr != nil && !errors.Is(closeErr, errFault) {
					t.Errorf("n=%d partly=%v: Close = %v", n, partly, closeErr)
				}
			})
		}
	}
}

// TestFileDiskFull has every write fail: the queue stays bounded, drops are
// counted, Close gives up when told and says what is lost.
func TestFileDiskFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs := &faultFS{n: 2, forever: true}
		f, err := openFile(filepath.Join(t.TempDir(), "agents.log"), FileConfig{QueueBytes: 120}, fs)
		if err != nil {
			t.Fatal(err)
		}
		logs, err := New(Config{Sinks: []Sink{f}})
		if err != nil {
			t.Fatal(err)
		}
		refused := 0
		for i := range 50 {
			if err := f.Write(&Record{Line: []byte(numbered(i))}); err != nil {
				refused++
			}
		}
		if s := f.Stats(); refused < 30 || s.Dropped != uint64(refused) {
			t.Errorf("%d refused, stats %+v", refused, s)
		}
		logs.Logger("a").Log(t.Context(), slog.LevelInfo, "the agent goes on")
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		err = logs.Close(ctx)
		if !errors.Is(err, errFault) || !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "lines not written") {
			t.Errorf("Close = %v", err)
		}
		if s := f.Stats(); s.Errors < 5 || s.Errors > 20 {
			t.Errorf("%d attempts in 20 s", s.Errors)
		}
	})
}

func TestFileConcurrent(t *testing.T) {
	path := filepath.Join(t.TempDir(), "agents.log")
	f, err := OpenFile(path, FileConfig{MaxBytes: 4000, MaxFiles: 1000})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for i := range 500 {
				if err := f.Write(&Record{Line: fmt.Appendf(nil, "%d %06d\n", w, i)}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if err := f.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	next := make(map[string]int)
	lines := written(t, path)
	for _, line := range lines[:len(lines)-1] {
		w, n, _ := strings.Cut(line, " ")
		if want := fmt.Sprintf("%06d\n", next[w]); n != want {
			t.Fatalf("line %q of writer %s, want %q", n, w, want)
		}
		next[w]++
	}
	if len(lines) != 4001 {
		t.Errorf("%d lines", len(lines)-1)
	}
}
