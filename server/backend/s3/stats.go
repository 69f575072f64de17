package s3

import (
	"context"
	"time"

	"github.com/kaizen-go/kaizen/audit"
)

// Stats says what the ledger holds, as far as this process knows. Segments are
// batches; Stored is their size, without what is derived from them.
func (l *Ledger) Stats() audit.Stats {
	v := l.state.view()
	st := audit.Stats{Entries: v.head.Size, Segments: int(v.tail.Batch + v.tail.Batches), Outward: l.OutwardStats()}
	all := v.total()
	if st.Bytes, st.Stored = all.Bytes, all.Stored; all.Count > 0 {
		st.Oldest, st.Newest = time.Unix(0, all.Oldest).UTC(), time.Unix(0, all.Newest).UTC()
	}
	return st
}

// total is the sum of all batches.
func (v view) total() ref {
	all := v.tail.ref
	for level := range v.refs {
		for i := range v.refs[level] {
			all.join(&v.refs[level][i])
		}
	}
	return all
}

// Cosigned keeps a checkpoint that witnesses have signed, the first of each size.
func (l *Ledger) Cosigned(ctx context.Context, c audit.Checkpoint) error {
	_, err := l.bucket.create(ctx, numbered(cosignedPrefix, c.Size), []byte(c.Note))
	return err
}
