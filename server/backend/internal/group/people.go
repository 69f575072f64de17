package group

import (
	"context"
	"fmt"
	"iter"

	"github.com/kaizen-go/kaizen/audit"
)

// What is about people goes through the key store, see [audit.Subjects].

// Get is [audit.Ledger.Get]. Entries of other processes are found after a Flush.
func (l *Ledger) Get(ctx context.Context, index int64) (audit.Entry, error) {
	e, err := l.subjects.Get(ctx, index)
	if err != nil {
		return audit.Entry{}, fmt.Errorf("%s: get entry %d: %w", l.cfg.Name, index, err)
	}
	return e, nil
}

// Query is [audit.Ledger.Query].
func (l *Ledger) Query(ctx context.Context, q audit.Query) iter.Seq2[audit.Entry, error] {
	return func(yield func(audit.Entry, error) bool) {
		for e, err := range l.subjects.Query(ctx, q) {
			if err != nil {
				yield(audit.Entry{}, l.Wrap("query", err))
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
	return n, l.Wrap("count", err)
}

// Erase is [audit.Ledger.Erase]: the process that has the key store does it.
func (l *Ledger) Erase(ctx context.Context, x audit.Erasure) (audit.ErasureReceipt, error) {
	r, err := l.subjects.Erase(ctx, x)
	return r, l.Wrap("erase", err)
}

// Hold is [audit.Ledger.Hold]: the process that has the key store does it.
func (l *Ledger) Hold(ctx context.Context, h audit.Hold) (audit.Hold, audit.Receipt, error) {
	h, r, err := l.subjects.Hold(ctx, h)
	return h, r, l.Wrap("hold", err)
}

// Release is [audit.Ledger.Release]: the process that has the key store does it.
func (l *Ledger) Release(ctx context.Context, x audit.Release) (audit.Receipt, error) {
	r, err := l.subjects.Release(ctx, x)
	return r, l.Wrap("release", err)
}

// Holds is [audit.Ledger.Holds]. Those that another process has placed are known
// after the next query.
func (l *Ledger) Holds() []audit.Hold { return l.subjects.Holds() }

// Retaining is [audit.Subjects.Retaining].
func (l *Ledger) Retaining(ctx context.Context, do func(held func(ctx context.Context, from, to int64) error) error) error {
	return l.subjects.Retaining(ctx, do)
}
