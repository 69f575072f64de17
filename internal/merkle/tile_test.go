package merkle

import (
	"bytes"
	"math"
	"testing"

	"golang.org/x/mod/sumdb/tlog"
)

// TestTilesAgainstTlog compares every tile of trees around the borders of
// tiles with what x/mod's tlog computes.
func TestTilesAgainstTlog(t *testing.T) {
	const n = 70_000 // three levels
	store, ref, _ := trees(t, n)
	for _, size := range []int64{1, 255, 256, 257, 511, 512, 65_535, 65_536, 65_537, n} {
		// The new tiles of a step from a few leaves before: all at the edge.
		for _, want := range tlog.NewTiles(TileHeight, max(0, size-300), size) {
			got, err := store.Tile(want.L, want.N, want.W)
			if err != nil {
				t.Fatalf("Tile(%d, %d, %d) = %v", want.L, want.N, want.W, err)
			}
			data, err := tlog.ReadTileData(want, ref)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(flat(got), data) {
				t.Errorf("Tile(%d, %d, %d) differs from tlog's", want.L, want.N, want.W)
			}
		}
	}
}

func flat(hashes []Hash) []byte {
	var b []byte
	for i := range hashes {
		b = append(b, hashes[i][:]...)
	}
	return b
}

func TestCheckTile(t *testing.T) {
	for _, tt := range []struct {
		name         string
		level        int
		index, width int64
		size         int64
		ok           bool
	}{
		{"first leaf", 0, 0, 1, 1, true},
		{"empty tree", 0, 0, 1, 0, false},
		{"no width", 0, 0, 0, 5, false},
		{"too wide", 0, 0, 257, 1000, false},
		{"full", 0, 2, 256, 768, true},
		{"beyond the edge", 0, 2, 256, 767, false},
		{"partial at the edge", 0, 2, 255, 767, true},
		{"after the edge", 0, 3, 1, 768, false},
		{"second level", 1, 0, 3, 768, true},
		{"second level, half a subtree", 1, 0, 3, 767, false},
		{"negative level", -1, 0, 1, 768, false},
		{"negative index", 0, -1, 1, 768, false},
		{"level beyond any tree", 8, 0, 1, math.MaxInt64, false},
		{"index overflows", 0, math.MaxInt64 / 2, 1, 768, false},
		{"largest index", 7, math.MaxInt64, 256, math.MaxInt64, false},
		{"highest level", 7, 0, 127, math.MaxInt64, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if err := CheckTile(tt.level, tt.index, int(tt.width), tt.size); (err == nil) != tt.ok {
				t.Errorf("CheckTile(%d, %d, %d, %d) = %v, want ok %t", tt.level, tt.index, tt.width, tt.size, err, tt.ok)
			}
		})
	}
}
