package postgres

import (
	"context"
	"errors"
	"fmt"
	"math"

	"github.com/kaizen-go/kaizen/audit"
	"github.com/kaizen-go/kaizen/server/backend/internal/group"
	"github.com/kaizen-go/kaizen/server/backend/internal/pgwire"
)

// readKeys reads the changes of the key, and checks that they lead to vkey.
func (v *verifier) readKeys(ctx context.Context, tx *pgwire.Conn, vkey string) (*group.Keys, error) {
	rows, err := tx.Query(ctx, "SELECT from_size, previous, vkey, change FROM "+v.l.cfg.Schema+".keys ORDER BY from_size")
	if err != nil {
		return nil, err
	}
	var from int64
	var previous, next, line string
	var changes []audit.KeyChange
	err = pgwire.Each(rows, []any{&from, &previous, &next, &line}, func() error {
		c, err := audit.ParseKeyChange([]byte(line))
		if err == nil && (c.From != from || c.Previous != previous || c.Key != next) {
			err = errors.New("the columns do not say what the line says")
		}
		if err != nil {
			return damage("keys", -1, fmt.Sprintf("change at %d: %v", from, err), "", "")
		}
		changes, v.changes[from], v.published[from] = append(changes, c), c, append(v.published[from], c.Note)
		return nil
	})
	if err != nil {
		return nil, err
	}
	for i, known := range v.known {
		if i >= len(changes) || changes[i].Key != known.Key {
			return nil, damage("keys", -1, fmt.Sprintf("the change of the key at %d is missing", known.From), known.Key, "")
		}
	}
	return group.ReadKeys(changes, vkey)
}

// total is what a partition holds: as the table says, and as was found.
type total struct {
	base, bytes, oldest, newest int64
	found                       [3]int64
}

// readTotals reads the totals of the partitions that are there, in their order.
func readTotals(ctx context.Context, tx *pgwire.Conn, schema string) (out []total, err error) {
	rows, err := tx.Query(ctx, fmt.Sprintf(`SELECT p.base, coalesce(t.bytes, 0), coalesce(t.oldest, 0), coalesce(t.newest, 0)
		FROM %[1]s.partitions AS p LEFT JOIN %[1]s.totals AS t USING (base)
		WHERE p.name NOT IN (SELECT name FROM %[1]s.dropped) ORDER BY p.base`, schema))
	if err != nil {
		return nil, err
	}
	var t total
	err = pgwire.Each(rows, []any{&t.base, &t.bytes, &t.oldest, &t.newest}, func() error {
		t.found = [3]int64{0, math.MaxInt64, math.MinInt64}
		out = append(out, t)
		return nil
	})
	return out, err
}

// count adds an entry to what was found of its partition.
func (v *verifier) count(index, at, bytes int64) {
	n := len(v.totals)
	for n > 0 && v.totals[n-1].base > index {
		n--
	}
	if n == 0 {
		return // Verify reports that entry elsewhere
	}
	f := &v.totals[n-1].found
	f[0], f[1], f[2] = f[0]+bytes, min(f[1], at), max(f[2], at)
}

func (v *verifier) checkTotals() error {
	for _, t := range v.totals {
		if want := [3]int64{t.bytes, t.oldest, t.newest}; t.found != want && (t.found[0] != 0 || t.bytes != 0) {
			return damage("totals", t.base, "bytes and times of a partition are not those of its entries", fmt.Sprint(t.found), fmt.Sprint(want))
		}
	}
	return nil
}
