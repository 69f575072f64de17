package s3

import (
	"context"
	"fmt"
	"iter"

	"github.com/kaizen-go/kaizen/audit"
)

// openSubjects opens the key store beside the signing key.
func openSubjects(ctx context.Context, l *Ledger) (*audit.Subjects, error) {
	return audit.OpenSubjects(ctx, raw{l}, audit.SubjectsConfig{
		KeyFile: l.cfg.KeyFile, UsersAreSubjects: l.cfg.UsersAreSubjects, ClearDetails: l.cfg.ClearDetails,
		NewKeyStore: l.cfg.NewKeyStore, Logger: l.cfg.Logger,
	})
}

// raw is the ledger as its lines have it.
type raw struct{ *Ledger }

var _ audit.Stored = raw{}

// AppendSystem implements [audit.Stored].
func (r raw) AppendSystem(ctx context.Context, e audit.Entry) (audit.Receipt, error) {
	rs, err := r.queue.AppendSystem(ctx, e)
	if err != nil {
		return audit.Receipt{}, err
	}
	return rs[0], nil
}

// Get is [audit.Ledger.Get]. Entries of other processes are found after a Flush.
func (l *Ledger) Get(ctx context.Context, index int64) (audit.Entry, error) {
	e, err := l.subjects.Get(ctx, index)
	if err != nil {
		return audit.Entry{}, fmt.Errorf("s3: get entry %d: %w", index, err)
	}
	return e, nil
}

// Query is [audit.Ledger.Query].
func (l *Ledger) Query(ctx context.Context, q audit.Query) iter.Seq2[audit.Entry, error] {
	return func(yield func(audit.Entry, error) bool) {
		for e, err := range l.subjects.Query(ctx, q) {
			if err != nil {
				yield(audit.Entry{}, wrap("query", err))
				return
			}
			if !yield(e, nil) {
				return
			}
		}
	}
}

// Count is [audit.Ledger.Count].
func (l *Ledger) Count(ctx context.Context, q audit.Query) (int64, error) {
	n, err := l.subjects.Count(ctx, q)
	return n, wrap("count", err)
}

// Erase is [audit.Ledger.Erase]: the process that has the key store does it.
func (l *Ledger) Erase(ctx context.Context, x audit.Erasure) (audit.ErasureReceipt, error) {
	r, err := l.subjects.Erase(ctx, x)
	return r, wrap("erase", err)
}

// Hold is [audit.Ledger.Hold]: the process that has the key store does it.
func (l *Ledger) Hold(ctx context.Context, h audit.Hold) (audit.Hold, audit.Receipt, error) {
	h, r, err := l.subjects.Hold(ctx, h)
	return h, r, wrap("hold", err)
}

// Release is [audit.Ledger.Release]: the process that has the key store does it.
func (l *Ledger) Release(ctx context.Context, x audit.Release) (audit.Receipt, error) {
	r, err := l.subjects.Release(ctx, x)
	return r, wrap("release", err)
}

// Holds is [audit.Ledger.Holds]. Those that another process has placed are known
// after the next query.
func (l *Ledger) Holds() []audit.Hold { return l.subjects.Holds() }
