package group

import (
	"encoding/binary"
	"errors"
	"fmt"
	"iter"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/kaizen-go/kaizen/audit"
)

// Consistency makes the hashes of [audit.Ledger.Consistency] from tiles, which
// are checked against the checkpoint's root.
func Consistency(c audit.Checkpoint, from, to int64, tiles tlog.TileReader) ([][32]byte, error) {
	return ConsistencyOf(c.Size, from, to, tlog.TileHashReader(tlog.Tree{N: c.Size, Hash: c.Root}, tiles))
}

// ConsistencyOf is Consistency from the hashes of a tree of size entries.
func ConsistencyOf(size, from, to int64, reader tlog.HashReader) ([][32]byte, error) {
	if from < 0 || from > to || to > size {
		return nil, fmt.Errorf("tree of %d in tree of %d, the ledger has %d entries", from, to, size)
	}
	if from == 0 || from == to {
		return nil, nil
	}
	hashes, err := tlog.ProveTree(to, from, reader)
	if err != nil {
		return nil, err
	}
	out := make([][32]byte, len(hashes))
	for i, h := range hashes {
		out[i] = h
	}
	return out, nil
}

// CheckTile reports [audit.ErrNotFound] for a tile that size entries do not
// fill so far.
func CheckTile(level int, index int64, width int, size int64) error {
	if level < 0 || level > 7 || index < 0 || width < 1 || width > audit.TileWidth || index > size>>8 ||
		index*audit.TileWidth+int64(width) > size>>(8*level) {
		return fmt.Errorf("tile %d/%d of %d hashes: %w", level, index, width, audit.ErrNotFound)
	}
	return nil
}

// Bundle puts width lines into a C2SP entry bundle.
func Bundle(lines iter.Seq2[[]byte, error], width int) ([]byte, error) {
	b := make([]byte, 0, width*640)
	for line, err := range lines {
		if err != nil {
			return nil, err
		}
		b = binary.BigEndian.AppendUint16(b, uint16(len(line)))
		b = append(b, line...)
		if width--; width == 0 {
			return b, nil
		}
	}
	return nil, errors.New("too few lines for the bundle")
}
