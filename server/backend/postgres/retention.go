package postgres

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/kaizen-go/kaizen/audit"
	"github.com/kaizen-go/kaizen/server/backend/internal/pgwire"
)

// RetainConfig says what [Ledger.Retain] removes.
type RetainConfig struct {
	// Before is the age: partitions that were filled before it are removed.
	Before time.Time
	// Held selects more entries under legal hold than those of [Ledger.Hold]: a
	// partition that has one of them stays, and so do all that come after it, for what is removed is always
	// the beginning of the ledger.
	Held []audit.Query
	// Reason is recorded in the ledger. If empty, "age".
	Reason string
	// DryRun says what would be removed, and removes nothing.
	DryRun bool
}

// Removed is a partition that retention has taken away.
type Removed struct {
	// Name is the table's, Base and Next the indexes that it held, without
	// Next.
	Name       string
	Base, Next int64
	// HeldBy is set if the partition stays because of the hold at this place
	// of RetainConfig.Held, or -1. Hold is the id of the ledger's own hold that
	// keeps it, see [Ledger.Hold].
	HeldBy int
	Hold   string
	// Digest is the SHA-256 of the removed leaf hashes, in hex, as the entry in
	// the ledger has it.
	Digest string
}

// Retain removes whole partitions from the beginning of the ledger, one
// transaction for each: the leaf hashes are kept, so every other proof stays
// valid, and a removed entry that somebody has kept can still be shown to have
// been in the ledger; an entry "ledger.pruned" says what was removed; the
// partition is detached and dropped. It needs the role that owns the tables.
//
// It returns the partitions that it removed, and as the last one that which a
// hold kept, if there is one.
func (l *Ledger) Retain(ctx context.Context, cfg RetainConfig) ([]Removed, error) {
	out, err := l.retain(ctx, cfg)
	return out, l.Wrap("retain", err)
}

func (l *Ledger) retain(ctx context.Context, cfg RetainConfig) (out []Removed, err error) {
	if err := l.Usable(ctx); err != nil {
		return nil, err
	}
	if err := l.Refresh(ctx); err != nil {
		return nil, err
	}
	if cfg.Reason == "" {
		cfg.Reason = "age"
	}
	old, err := l.expired(ctx, cfg.Before)
	if err != nil {
		return nil, err
	}
	err = l.Retaining(ctx, func(held func(ctx context.Context, from, to int64) error) error {
		out, err = l.removeAll(ctx, cfg, old, held)
		return err
	})
	return out, err
}

// removeAll removes partitions up to the first that is held.
func (l *Ledger) removeAll(ctx context.Context, cfg RetainConfig, old []Removed, held func(ctx context.Context, from, to int64) error) (out []Removed, err error) {
	for _, p := range old {
		if p.HeldBy, err = l.heldBy(ctx, p, cfg.Held); err != nil {
			return out, err
		}
		err := held(ctx, p.Base, p.Next)
		hold, isHeld := errors.AsType[*audit.HeldError](err)
		if err != nil && !isHeld {
			return out, err
		}
		if isHeld {
			p.Hold = hold.Hold
		}
		if isHeld || p.HeldBy >= 0 {
			return append(out, p), nil
		}
		if p.Digest, err = l.digest(ctx, p); err != nil {
			return out, err
		}
		if !cfg.DryRun {
			if err := l.remove(ctx, p, cfg.Reason); err != nil {
				return out, err
			}
		}
		out = append(out, p)
	}
	return out, nil
}

// expired lists the partitions that ended before t and are still there, without
// the one that is being filled.
func (l *Ledger) expired(ctx context.Context, t time.Time) ([]Removed, error) {
	rows, err := l.pool.Query(ctx, `SELECT name, base, next FROM (
			SELECT name, base, until_at, lead(base) OVER (ORDER BY base) AS next FROM `+l.cfg.Schema+`.partitions) AS p
		WHERE until_at <= $1 AND next IS NOT NULL AND name NOT IN (SELECT name FROM `+l.cfg.Schema+`.dropped) ORDER BY base`, t)
	if err != nil {
		return nil, err
	}
	var out []Removed
	p := Removed{HeldBy: -1}
	err = pgwire.Each(rows, []any{&p.Name, &p.Base, &p.Next}, func() error {
		out = append(out, p)
		return nil
	})
	return out, err
}

// heldBy returns which hold has an entry in the partition, or -1.
func (l *Ledger) heldBy(ctx context.Context, p Removed, holds []audit.Query) (int, error) {
	for i, q := range holds {
		where, err := l.condition(ctx, q)
		if err != nil {
			return -1, err
		}
		if where.impossible {
			continue
		}
		where.from, where.below = p.Base, p.Next
		text, args := where.sql()
		var held bool
		if err := l.pool.QueryRow(ctx, "SELECT EXISTS (SELECT FROM "+l.cfg.Schema+".entries WHERE "+text+")", args...).Scan(&held); err != nil {
			return -1, err
		}
		if held {
			return i, nil
		}
	}
	return -1, nil
}

// digest is the SHA-256 of the leaf hashes in their order.
func (l *Ledger) digest(ctx context.Context, p Removed) (string, error) {
	var sum []byte
	var n int64
	err := l.pool.QueryRow(ctx, "SELECT sha256(coalesce(string_agg(leaf, ''::bytea ORDER BY idx), ''::bytea)), count(*) FROM "+l.cfg.Schema+".entries WHERE idx >= $1 AND idx < $2", p.Base, p.Next).Scan(&sum, &n)
	if err == nil && n != p.Next-p.Base {
		err = &audit.TamperError{Path: p.Name, Index: p.Base, Reason: "entries are missing", Want: fmt.Sprint(p.Next - p.Base), Got: fmt.Sprint(n)}
	}
	return hex.EncodeToString(sum), err
}

// remove writes the entry first: a crash between the two leaves a note about
// entries that are still there, and the next run removes them.
func (l *Ledger) remove(ctx context.Context, p Removed, reason string) error {
	err := l.AppendSystem(ctx, audit.Entry{
		Action:  "ledger.pruned",
		Details: map[string]any{"base": p.Base, "count": p.Next - p.Base, "reason": reason, "leaves_sha256": p.Digest, "partition": p.Name},
	})
	if err != nil {
		return err
	}
	return l.pool.InTx(ctx, "", func(tx *pgwire.Conn) error {
		schema := l.cfg.Schema
		// In runs that end where a tile ends, so that one tile is at most two.
		_, err := tx.Exec(ctx, fmt.Sprintf(`INSERT INTO %[1]s.leaves (base, hashes)
			SELECT min(idx), string_agg(leaf, ''::bytea ORDER BY idx) FROM %[1]s.entries WHERE idx >= $1 AND idx < $2 GROUP BY idx / %[2]d`,
			schema, audit.TileWidth), p.Base, p.Next)
		if err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, "INSERT INTO "+schema+".dropped (name, base, next, at) VALUES ($1, $2, $3, now())", p.Name, p.Base, p.Next); err != nil {
			return err
		}
		table := schema + "." + pgwire.Quote(p.Name)
		if _, err := tx.Exec(ctx, "ALTER TABLE "+schema+".entries DETACH PARTITION "+table); err != nil {
			return err
		}
		_, err = tx.Exec(ctx, "DROP TABLE "+table)
		return err
	})
}
