package audit

import (
	"context"
	"encoding/binary"
	"fmt"

	"github.com/kaizen-go/kaizen/internal/merkle"
)

// TileWidth is the number of hashes in a full tile, and of entries in a full
// bundle (c2sp.org/tlog-tiles).
const TileWidth = merkle.TileWidth

// Tile returns the bytes of a C2SP tile: the hashes of width subtrees of
// 256^level entries, from the one at index*256 on. A tile that the ledger's
// entries do not fill that far is [ErrNotFound].
func (l *Ledger) Tile(level int, index int64, width int) ([]byte, error) {
	return l.store.tile(level, index, width)
}

// Bundle returns the bytes of a C2SP entry bundle: width entries from index*256
// on, each as the length of its line in two bytes, high byte first, and the line.
// Entries that the ledger does not have are [ErrNotFound], those that were
// removed by retention [ErrPruned].
func (l *Ledger) Bundle(ctx context.Context, index int64, width int) ([]byte, error) {
	return l.store.bundle(ctx, index, width)
}

// Tile is [Ledger.Tile].
func (r *Reader) Tile(level int, index int64, width int) ([]byte, error) {
	return r.store.tile(level, index, width)
}

// Bundle is [Ledger.Bundle].
func (r *Reader) Bundle(ctx context.Context, index int64, width int) ([]byte, error) {
	return r.store.bundle(ctx, index, width)
}

func (s *store) tile(level int, index int64, width int) ([]byte, error) {
	v, err := s.view()
	if err != nil {
		return nil, fmt.Errorf("audit: tile %d/%d: %w", level, index, err)
	}
	if err := merkle.CheckTile(level, index, width, s.checkpoint().Size); err != nil {
		return nil, fmt.Errorf("audit: %w: %w", ErrNotFound, err)
	}
	hashes, err := v.Tile(level, index, width)
	if err != nil {
		return nil, fmt.Errorf("audit: %w", err)
	}
	b := make([]byte, 0, width*32)
	for i := range hashes {
		b = append(b, hashes[i][:]...)
	}
	return b, nil
}

func (s *store) bundle(ctx context.Context, index int64, width int) ([]byte, error) {
	size := s.checkpoint().Size
	if err := merkle.CheckTile(0, index, width, size); err != nil {
		return nil, fmt.Errorf("audit: entries of %w: %w", err, ErrNotFound)
	}
	b := make([]byte, 0, width*640)
	for i := index * TileWidth; i < index*TileWidth+int64(width); i++ {
		line, err := s.rawLine(i)
		if err == nil {
			err = context.Cause(ctx)
		}
		if err != nil {
			return nil, fmt.Errorf("audit: entry %d: %w", i, err)
		}
		if len(line) > maxBundleEntry {
			return nil, fmt.Errorf("audit: entry %d: line of %d bytes is longer than a bundle can hold", i, len(line))
		}
		b = binary.BigEndian.AppendUint16(b, uint16(len(line)))
		b = append(b, line...)
	}
	return b, nil
}

// maxBundleEntry is what a bundle's length fields can say; lines are no longer.
const maxBundleEntry = 1<<16 - 1

// SplitBundle returns the lines in an entry bundle, which share its memory.
func SplitBundle(b []byte) ([][]byte, error) {
	var lines [][]byte
	for len(b) > 0 {
		if len(lines) == TileWidth {
			return nil, fmt.Errorf("audit: entry bundle: more than %d entries", TileWidth)
		}
		if len(b) < 2 || len(b)-2 < int(binary.BigEndian.Uint16(b)) {
			return nil, fmt.Errorf("audit: entry bundle: entry %d is cut off", len(lines))
		}
		n := int(binary.BigEndian.Uint16(b))
		lines = append(lines, b[2:2+n:2+n])
		b = b[2+n:]
	}
	return lines, nil
}
