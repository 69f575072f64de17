package postgres

import (
	"context"
	"fmt"
	"strings"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/kaizen-go/kaizen/audit"
	"github.com/kaizen-go/kaizen/server/backend/internal/group"
	"github.com/kaizen-go/kaizen/server/backend/internal/pgwire"
)

// tiles reads the hash tiles of the tree from the tables.
type tiles struct {
	l   *Ledger
	ctx context.Context
}

func (tiles) Height() int                     { return 8 }
func (tiles) SaveTiles([]tlog.Tile, [][]byte) {}

func (t tiles) ReadTiles(want []tlog.Tile) ([][]byte, error) {
	out := make([][]byte, len(want))
	for i, tile := range want {
		var err error
		if out[i], err = t.l.tile(t.ctx, tile.L, tile.N, tile.W); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// Tile is [audit.Ledger.Tile].
func (l *Ledger) Tile(level int, index int64, width int) ([]byte, error) {
	err := l.Usable(context.Background())
	if err == nil {
		err = l.Refresh(l.ctx)
	}
	if err == nil {
		err = group.CheckTile(level, index, width, l.Size())
	}
	var b []byte
	if err == nil {
		b, err = l.tile(l.ctx, level, index, width)
	}
	return b, l.Wrap("tile", err)
}

// Bundle is [audit.Ledger.Bundle].
func (l *Ledger) Bundle(ctx context.Context, index int64, width int) ([]byte, error) {
	err := l.Usable(ctx)
	if err == nil {
		err = l.Refresh(ctx)
	}
	if err == nil {
		err = group.CheckTile(0, index, width, l.Size())
	}
	var b []byte
	if err == nil {
		b, err = group.Bundle(l.Lines(ctx, index*audit.TileWidth), width)
	}
	return b, l.Wrap("bundle", err)
}

// Consistency is [audit.Ledger.Consistency].
func (l *Ledger) Consistency(from, to int64) ([][32]byte, error) {
	err := l.Usable(context.Background())
	if err == nil {
		err = l.Refresh(l.ctx)
	}
	var hashes [][32]byte
	if err == nil {
		hashes, err = group.Consistency(l.Head(), from, to, tiles{l, l.ctx})
	}
	return hashes, l.Wrap("consistency", err)
}

// tile reads the hashes of a tile, 32 bytes each.
func (l *Ledger) tile(ctx context.Context, level int, n int64, width int) ([]byte, error) {
	first := n << 8
	if level > 0 {
		return l.hashes(ctx, "SELECT n, hash FROM "+l.cfg.Schema+".nodes WHERE level = $3 AND n >= $1 AND n < $2 ORDER BY n", first, width, level)
	}
	out, err := l.hashes(ctx, "SELECT idx, leaf FROM "+l.cfg.Schema+".entries WHERE idx >= $1 AND idx < $2 ORDER BY idx", first, width)
	if err == nil {
		return out, nil
	}
	return l.oldLeaves(ctx, first, width)
}

// hashes collects width hashes, which must follow each other without a gap.
func (l *Ledger) hashes(ctx context.Context, q string, first int64, width int, more ...any) ([]byte, error) {
	rows, err := l.pool.Query(ctx, q, append([]any{first, first + int64(width)}, more...)...)
	if err != nil {
		return nil, err
	}
	out := make([]byte, 0, width*tlog.HashSize)
	var n int64
	var hash []byte
	err = pgwire.Each(rows, []any{&n, &hash}, func() error {
		if n != first+int64(len(out)/tlog.HashSize) || len(hash) != tlog.HashSize {
			return fmt.Errorf("hash %d is missing or broken", first+int64(len(out)/tlog.HashSize))
		}
		out = append(out, hash...)
		return nil
	})
	if err == nil && len(out) != width*tlog.HashSize {
		err = fmt.Errorf("hash %d is missing", first+int64(len(out)/tlog.HashSize))
	}
	return out, err
}

// oldLeaves reads the leaf hashes of entries that retention has removed, at
// least in part.
func (l *Ledger) oldLeaves(ctx context.Context, first int64, width int) ([]byte, error) {
	q := strings.ReplaceAll(`SELECT idx, leaf FROM (
		SELECT idx, leaf FROM {{schema}}.entries WHERE idx >= $1 AND idx < $2
		UNION ALL
		SELECT base + k, substring(hashes FROM (32 * k + 1)::int FOR 32)
		FROM {{schema}}.leaves, generate_series(0, length(hashes) / 32 - 1) AS k
		WHERE base > $1 - 256 AND base < $2 AND base + k >= $1 AND base + k < $2
	) AS both_of_them ORDER BY idx`, "{{schema}}", l.cfg.Schema)
	return l.hashes(ctx, q, first, width)
}
