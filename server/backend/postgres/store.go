package postgres

import (
	"context"
	"time"

	"github.com/kaizen-go/kaizen/audit"
	"github.com/kaizen-go/kaizen/server/backend/internal/group"
)

// store is the ledger as its lines have it: what is encrypted stays so.
type store struct{ *Ledger }

var _ group.Store = store{}

// Cosigned keeps a checkpoint that witnesses have signed.
func (l *Ledger) Cosigned(ctx context.Context, c audit.Checkpoint) error {
	_, err := l.pool.Exec(ctx, l.sql.cosigned, c.Size, c.Note)
	return err
}

// statsTimeout bounds the question that Stats asks.
const statsTimeout = 5 * time.Second

// Stats says what the ledger holds. Segments are partitions. When the database
// does not answer, it says what is known without it.
func (l *Ledger) Stats() audit.Stats {
	st := audit.Stats{Entries: l.Size(), Outward: l.OutwardStats()}
	ctx, cancel := context.WithTimeout(l.ctx, statsTimeout)
	defer cancel()
	var oldest, newest *int64
	var segments int64
	if err := l.pool.QueryRow(ctx, l.sql.stats).Scan(&segments, &st.Bytes, &oldest, &newest, &st.Stored, &st.Pruned); err != nil {
		if l.Usable(ctx) == nil {
			l.cfg.Logger.Warn("postgres: size of the ledger is not known", "error", err)
		}
		return st
	}
	st.Segments = int(segments)
	if oldest != nil && newest != nil {
		st.Oldest, st.Newest = time.Unix(0, *oldest).UTC(), time.Unix(0, *newest).UTC()
	}
	return st
}
