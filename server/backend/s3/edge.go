package s3

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/kaizen-go/kaizen/audit"
	"github.com/kaizen-go/kaizen/server/backend/internal/group"
)

// edge is the right edge of the tree in tiles: by level, the hashes of the tile
// that is not full. A slice in it is only ever appended to or replaced.
type edge [][]tlog.Hash

// add appends the leaf at index. It returns the tiles that are full by it.
func (e edge) add(index int64, leaf tlog.Hash) (edge, []derived) {
	var full []derived
	h := leaf
	for level := 0; ; level++ {
		if level == len(e) {
			e = append(slices.Clip(e), nil)
		}
		e[level] = append(e[level], h)
		if len(e[level]) < audit.TileWidth {
			return e, full
		}
		n := index >> (8 * (level + 1))
		full = append(full, derived{leveled(tilePrefix, level, n), tileBytes(e[level])})
		h = subtree(e[level])
		e[level] = nil
	}
}

// tree is the edge as perfect subtrees, of size entries. It is an error if the
// edge is not that of such a tree.
func (e edge) tree(size int64) (group.Tree, error) {
	t := group.Tree{Size: size}
	for level := len(e) - 1; level >= 0; level-- {
		width := int(size >> (8 * level) & 0xff)
		if len(e[level]) != width {
			return t, fmt.Errorf("tile of level %d has %d hashes, want %d", level, len(e[level]), width)
		}
		rest := e[level]
		for bit := 128; bit > 0; bit >>= 1 {
			if width&bit != 0 {
				t.Edge = append(t.Edge, subtree(rest[:bit]))
				rest = rest[bit:]
			}
		}
	}
	if size>>(8*len(e)) != 0 {
		return t, errors.New("the tree has more levels than tiles")
	}
	return t, nil
}

// subtree is the root of a perfect tree over hashes.
func subtree(hashes []tlog.Hash) tlog.Hash {
	level := slices.Clone(hashes)
	for len(level) > 1 {
		for i := range len(level) / 2 {
			level[i] = tlog.NodeHash(level[2*i], level[2*i+1])
		}
		level = level[:len(level)/2]
	}
	return level[0]
}

func tileBytes(hashes []tlog.Hash) []byte {
	b := make([]byte, 0, len(hashes)*tlog.HashSize)
	for _, h := range hashes {
		b = append(b, h[:]...)
	}
	return b
}

// tiles reads the tiles of a moment, for package tlog, which checks every hash
// against the root.
type tiles struct {
	l   *Ledger
	ctx context.Context
	v   *view
}

func (tiles) Height() int                     { return 8 }
func (tiles) SaveTiles([]tlog.Tile, [][]byte) {}

func (t tiles) ReadTiles(want []tlog.Tile) ([][]byte, error) {
	out := make([][]byte, len(want))
	for i, x := range want {
		var err error
		if out[i], err = t.tile(x.L, x.N, x.W); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// tile is the first width hashes of a tile that has so many.
func (t tiles) tile(level int, n int64, width int) ([]byte, error) {
	if level < len(t.v.edge) && n == t.v.head.Size>>(8*(level+1)) {
		if width > len(t.v.edge[level]) {
			return nil, audit.ErrNotFound
		}
		return tileBytes(t.v.edge[level][:width]), nil
	}
	b, err := t.l.object(t.ctx, leveled(tilePrefix, level, n))
	if errors.Is(err, errAbsent) { // not stored yet, or lost: it follows from the entries
		b, err = t.made(level, n)
	}
	if err != nil {
		return nil, err
	}
	if len(b) != audit.TileWidth*tlog.HashSize {
		return nil, &audit.TamperError{Path: leveled(tilePrefix, level, n), Index: -1, Reason: "tile has a wrong size"}
	}
	return b[:width*tlog.HashSize], nil
}

// made computes a full tile from the entries.
func (t tiles) made(level int, n int64) ([]byte, error) {
	hashes := make([]tlog.Hash, audit.TileWidth)
	for i := range hashes {
		k := n*audit.TileWidth + int64(i)
		if level == 0 {
			var err error
			if hashes[i], err = t.leaf(k); err != nil {
				return nil, err
			}
			continue
		}
		below, err := t.tile(level-1, k, audit.TileWidth)
		if err != nil {
			return nil, err
		}
		children := make([]tlog.Hash, audit.TileWidth)
		for c := range children {
			children[c] = tlog.Hash(below[c*tlog.HashSize:])
		}
		hashes[i] = subtree(children)
	}
	return tileBytes(hashes), nil
}

func (t tiles) leaf(index int64) (tlog.Hash, error) {
	if index >= t.v.tail.Base {
		return t.v.tail.leaves[index-t.v.tail.Base], nil
	}
	c, err := t.l.chunkOf(t.ctx, t.v.refs, index)
	if err != nil {
		return tlog.Hash{}, err
	}
	return c.leaf(index), nil
}
