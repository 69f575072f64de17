package audit

import (
	"bytes"
	"errors"
	"path/filepath"
	"testing"

	"golang.org/x/mod/sumdb/tlog"
)

func TestTilesAndBundles(t *testing.T) {
	l := mustOpen(t, filepath.Join(t.TempDir(), "audit"), Config{})
	entries := make([]Entry, 600)
	for i := range entries {
		entries[i] = numbered(i)
	}
	receipts, err := l.AppendBatch(t.Context(), entries)
	if err != nil {
		t.Fatal(err)
	}
	for _, tile := range []struct {
		index int64
		width int
	}{{0, 256}, {1, 256}, {2, 88}, {2, 1}, {0, 7}} {
		hashes, err := l.Tile(0, tile.index, tile.width)
		if err != nil {
			t.Fatal(err)
		}
		b, err := l.Bundle(t.Context(), tile.index, tile.width)
		if err != nil {
			t.Fatal(err)
		}
		lines, err := SplitBundle(b)
		if err != nil || len(lines) != tile.width {
			t.Fatalf("SplitBundle(%d/%d) = %d lines, %v", tile.index, tile.width, len(lines), err)
		}
		for i, line := range lines {
			want := receipts[tile.index*TileWidth+int64(i)].LeafHash
			if got := tlog.RecordHash(line); got != tlog.Hash(want) || !bytes.Equal(hashes[32*i:32*i+32], want[:]) {
				t.Fatalf("bundle %d entry %d is not the entry with that hash", tile.index, i)
			}
		}
	}
	if b, err := l.Tile(1, 0, 2); err != nil || len(b) != 64 {
		t.Errorf("Tile(1, 0, 2) = %d bytes, %v", len(b), err)
	}
	for _, tt := range []struct {
		level int
		index int64
		width int
	}{{0, 2, 89}, {0, 3, 1}, {1, 0, 3}, {0, -1, 1}, {0, 0, 0}, {0, 0, 257}, {9, 0, 1}} {
		if _, err := l.Tile(tt.level, tt.index, tt.width); !errors.Is(err, ErrNotFound) {
			t.Errorf("Tile(%d, %d, %d) = %v, want ErrNotFound", tt.level, tt.index, tt.width, err)
		}
		if tt.level != 0 {
			continue
		}
		if _, err := l.Bundle(t.Context(), tt.index, tt.width); !errors.Is(err, ErrNotFound) {
			t.Errorf("Bundle(%d, %d) = %v, want ErrNotFound", tt.index, tt.width, err)
		}
	}
}

func FuzzSplitBundle(f *testing.F) {
	f.Add([]byte{0, 1, 'a', 0, 0})
	f.Add([]byte{255, 255})
	f.Fuzz(func(t *testing.T, b []byte) {
		lines, err := SplitBundle(b)
		if err != nil {
			return
		}
		var again []byte
		for _, line := range lines {
			again = append(again, byte(len(line)>>8), byte(len(line)))
			again = append(again, line...)
		}
		if !bytes.Equal(again, b) {
			t.Fatalf("two spellings:\n in %x\nout %x", b, again)
		}
	})
}
