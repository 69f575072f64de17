package wal

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// written returns a directory with a log of n records; clean says whether it
// was closed.
func written(t *testing.T, n int, segmentBytes int64, clean bool) string {
	t.Helper()
	dir := t.TempDir()
	l, _ := mustOpen(t, dir, Config{SegmentBytes: segmentBytes})
	for i := range n {
		mustAppend(t, l, Logs, fmt.Sprintf("record %d", i))
	}
	var sizes []segment
	l.mu.Lock()
	sizes = append(sizes, l.segments...)
	l.mu.Unlock()
	mustClose(t, l)
	if !clean {
		last := sizes[len(sizes)-1]
		if err := os.Truncate(filepath.Join(dir, segmentName(last.first)), last.size); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func copyDir(t *testing.T, from string) string {
	t.Helper()
	to := t.TempDir()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	return to
}

// TestTornTail cuts the last segment at every byte: all records before the cut
// come back, the rest is kept beside the log.
func TestTornTail(t *testing.T) {
	from := written(t, 4, 0, false)
	whole, err := os.ReadFile(filepath.Join(from, segmentName(1)))
	if err != nil {
		t.Fatal(err)
	}
	size := (len(whole) - segmentHeaderSize) / 4
	for cut := segmentHeaderSize; cut < len(whole); cut++ {
		dir := t.TempDir()
		path := filepath.Join(dir, segmentName(1))
		if err := os.WriteFile(path, whole[:cut], 0o600); err != nil {
			t.Fatal(err)
		}
		l, got := mustOpen(t, dir, Config{})
		n := (cut - segmentHeaderSize) / size
		if len(got) != n {
			t.Fatalf("cut at %d: %d records, want %d", cut, len(got), n)
		}
		if seq := mustAppend(t, l, Logs, "next"); seq != uint64(n+1) {
			t.Fatalf("cut at %d: Append = %d, want %d", cut, seq, n+1)
		}
		mustClose(t, l)
		good := segmentHeaderSize + n*size
		kept, err := os.ReadFile(fmt.Sprintf("%s.torn-%d", path, good))
		if good != cut && (err != nil || !bytes.Equal(kept, whole[good:cut])) {
			t.Fatalf("cut at %d: torn bytes were not kept: %v", cut, err)
		}
	}
}

// TestBitFlips flips a bit of every byte. A log that was closed opens with all
// its records or not at all; the mark at its end is the one thing it can lose.
func TestBitFlips(t *testing.T) {
	from := written(t, 6, 150, true)
	names, err := filepath.Glob(filepath.Join(from, "*.wal"))
	if err != nil || len(names) < 2 {
		t.Fatalf("want several segments, have %v, %v", names, err)
	}
	for i, name := range names {
		whole, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		mark := len(whole)
		if i == len(names)-1 {
			mark -= recordHeaderSize
		}
		for at := range whole {
			dir := copyDir(t, from)
			path := filepath.Join(dir, filepath.Base(name))
			b := bytes.Clone(whole)
			b[at] ^= 1 << (at % 8)
			if err := os.WriteFile(path, b, 0o600); err != nil {
				t.Fatal(err)
			}
			l, got, err := collect(t, dir, Config{})
			if at >= mark {
				if err != nil || len(got) != 6 {
					t.Fatalf("flip in the mark at %d: %d records, %v", at, len(got), err)
				}
				mustClose(t, l)
				continue
			}
			var damage *CorruptError
			if !errors.As(err, &damage) || damage.Path != path || damage.Offset > int64(at) {
				t.Fatalf("flip at %d of %s: Open = %v, want a CorruptError there", at, path, err)
			}
		}
	}
}

// TestTornGroup damages records of the last group. Pages of a group that was
// being written reach the disk in any order, so a good record after a bad one
// of the same group is no damage; one of a later group is.
func TestTornGroup(t *testing.T) {
	const salt = 7
	build := func(places ...uint16) ([]byte, []int) {
		b := segmentHeader(1, salt)
		var at []int
		for i, place := range places {
			at = append(at, len(b))
			r := stored{seq: uint64(i + 1), signal: Logs, place: place, rawLen: 1, body: []byte{'x'}}
			b = r.append(b, salt)
		}
		return b, at
	}
	for _, tt := range []struct {
		name    string
		places  []uint16
		damage  int
		want    int
		corrupt bool
	}{
		{name: "second of the last group", places: []uint16{0, 0, 1, 2}, damage: 2, want: 2},
		{name: "first of the last group", places: []uint16{0, 0, 1, 2}, damage: 1, want: 1},
		{name: "group before the last", places: []uint16{0, 0, 1, 0}, damage: 1, corrupt: true},
		{name: "single records", places: []uint16{0, 0, 0}, damage: 1, corrupt: true},
		{name: "last record", places: []uint16{0, 0, 0}, damage: 2, want: 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b, at := build(tt.places...)
			b[at[tt.damage]+recordHeaderSize] ^= 1
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, segmentName(1)), b, 0o600); err != nil {
				t.Fatal(err)
			}
			l, got, err := collect(t, dir, Config{})
			var damage *CorruptError
			if tt.corrupt {
				if !errors.As(err, &damage) || damage.Offset != int64(at[tt.damage]) {
					t.Fatalf("Open = %v, want a CorruptError at %d", err, at[tt.damage])
				}
				return
			}
			if err != nil || len(got) != tt.want {
				t.Fatalf("Open = %d records, %v, want %d", len(got), err, tt.want)
			}
			mustClose(t, l)
		})
	}
}

func TestMissingSegments(t *testing.T) {
	from := written(t, 12, 150, true)
	names, err := filepath.Glob(filepath.Join(from, "*.wal"))
	if err != nil || len(names) < 3 {
		t.Fatalf("want three segments, have %v, %v", names, err)
	}
	for _, name := range names[:len(names)-1] {
		dir := copyDir(t, from)
		if err := os.Remove(filepath.Join(dir, filepath.Base(name))); err != nil {
			t.Fatal(err)
		}
		_, _, err := collect(t, dir, Config{})
		var damage *CorruptError
		if !errors.As(err, &damage) || !strings.Contains(err.Error(), "missing") {
			t.Errorf("without %s: Open = %v, want a CorruptError", filepath.Base(name), err)
		}
	}
}

// TestForeignRecord puts a whole record into a payload: recovery must not take
// what a sender chose for a record of its own.
func TestForeignRecord(t *testing.T) {
	dir := t.TempDir()
	l, _ := mustOpen(t, dir, Config{})
	mustAppend(t, l, Logs, "one")
	foreign := stored{seq: 99, signal: Logs, rawLen: 3, body: []byte("bad")}
	mustAppend(t, l, Logs, string(foreign.append(nil, 0)))
	mustClose(t, l)
	path := filepath.Join(dir, segmentName(1))
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b = b[:len(b)-recordHeaderSize-1] // the mark and a byte of the payload are gone
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	l, got := mustOpen(t, dir, Config{})
	defer mustClose(t, l)
	if len(got) != 1 {
		t.Errorf("replayed %d records, want 1", len(got))
	}
}

func TestReplayErrorEndsOpen(t *testing.T) {
	dir := written(t, 2, 0, true)
	stop := errors.New("stop")
	if _, err := Open(dir, Config{}, func(Record) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("Open = %v, want the error of replay", err)
	}
}

// FuzzParse checks that a record which parses is the only spelling of itself.
func FuzzParse(f *testing.F) {
	for _, r := range []stored{
		{seq: 1, signal: Traces, rawLen: 2, body: []byte("ab")},
		{seq: 9, place: 3, signal: Logs, flags: flagZstd, rawLen: 900, body: []byte("zstd")},
		{flags: flagClosed},
	} {
		f.Add(r.append(nil, 5), uint32(5))
	}
	f.Add([]byte(recordMagic), uint32(0))
	f.Fuzz(func(t *testing.T, b []byte, salt uint32) {
		r, err := parse(b, salt)
		if err != nil {
			return
		}
		if again := r.append(nil, salt); !bytes.Equal(again, b[:len(again)]) {
			t.Fatalf("two spellings of one record:\n in %x\nout %x", b[:len(again)], again)
		}
	})
}

// FuzzOpen checks that any bytes in a segment give records in order or a
// CorruptError, and that what opened once opens again with the same records.
func FuzzOpen(f *testing.F) {
	b := segmentHeader(1, 3)
	r := stored{seq: 1, signal: Logs, rawLen: 1, body: []byte("x")}
	b = r.append(b, 3)
	f.Add(b)
	r.seq = 2
	f.Add(r.append(b, 3))
	f.Fuzz(func(t *testing.T, b []byte) {
		d := newMemDisk()
		path := filepath.Join("w", segmentName(1))
		d.names[path] = &memData{cache: b}
		l, got, err := collect(t, "w", Config{disk: d, MaxRecordBytes: 1 << 20})
		if err != nil {
			var damage *CorruptError
			if !errors.As(err, &damage) {
				t.Fatalf("Open = %v, want a CorruptError", err)
			}
			return
		}
		mustClose(t, l)
		l, again := mustOpen(t, "w", Config{disk: d, MaxRecordBytes: 1 << 20})
		mustClose(t, l)
		if len(again) != len(got) {
			t.Fatalf("opened with %d records, then with %d", len(got), len(again))
		}
	})
}
