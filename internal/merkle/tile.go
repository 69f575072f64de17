package merkle

import "fmt"

// The shape of C2SP tiles (c2sp.org/tlog-tiles).
const (
	// TileHeight is the number of tree levels in a tile.
	TileHeight = 8
	// TileWidth is the number of hashes in a full tile.
	TileWidth = 1 << TileHeight
	// maxTileLevel is the highest level that a tree of 2^63 leaves has.
	maxTileLevel = 63 / TileHeight
)

// CheckTile reports whether a tree of size leaves has the first width hashes
// of the tile at level and index.
func CheckTile(level int, index int64, width int, size int64) error {
	if level >= 0 && level <= maxTileLevel && index >= 0 && width >= 1 && width <= TileWidth {
		// Counted in subtrees, so that nothing overflows.
		if full := size >> (level * TileHeight); index <= full/TileWidth && index*TileWidth+int64(width) <= full {
			return nil
		}
	}
	return fmt.Errorf("merkle: tree of %d leaves has no tile %d/%d of width %d", size, level, index, width)
}
