package server

import (
	"context"
	"errors"
	"time"

	"github.com/kaizen-go/kaizen/audit"
	"github.com/kaizen-go/kaizen/metrics"
	"github.com/kaizen-go/kaizen/server/internal/api"
	"github.com/kaizen-go/kaizen/server/internal/logship"
)

// watchedLedger is the ledger as the API sees it: what others append is
// counted, and a ledger that has failed shows in /readyz.
type watchedLedger struct {
	serverLedger
	metrics *metrics.Metrics
	users   *activeUsers
	failed  *failure
	ship    *logship.Shipper // nil if nothing is shipped
}

func (w watchedLedger) AppendBatch(ctx context.Context, entries []audit.Entry) ([]audit.Receipt, error) {
	begun := time.Now()
	receipts, err := w.serverLedger.AppendBatch(ctx, entries)
	if err != nil {
		w.watch(err)
		return receipts, err
	}
	w.metrics.ObserveDuration(metrics.AuditAppendDuration, time.Since(begun), metrics.Exemplar{})
	for i, r := range receipts {
		if !r.Duplicate {
			e := entries[i]
			w.metrics.Count(metrics.AuditEntries, e.Action, string(e.Result), e.Severity)
			at := e.Time
			if at.IsZero() {
				at = begun
			}
			w.users.saw(e.UserID, at)
		}
	}
	if w.ship != nil {
		w.ship.Entries(entries, receipts, begun)
	}
	return receipts, nil
}

// watch counts what the disk refused; a bad entry is the sender's affair.
func (w watchedLedger) watch(err error) {
	if _, bad := errors.AsType[*audit.EntryError](err); bad || errors.Is(err, audit.ErrClosed) {
		return
	}
	w.metrics.Count(metrics.AuditAppendFailures)
	if errors.Is(err, audit.ErrFailed) {
		w.failed.note(err)
	}
}

// watchedFiles is a watchedLedger with what only the ledger in files can do:
// erasure, legal hold, counts by its index, sealing, archive and retention.
type watchedFiles struct {
	watchedLedger
	governor
}

// governor is what the API needs for that.
type governor interface {
	Erase(ctx context.Context, x audit.Erasure) (audit.ErasureReceipt, error)
	Hold(ctx context.Context, h audit.Hold) (audit.Hold, audit.Receipt, error)
	Release(ctx context.Context, x audit.Release) (audit.Receipt, error)
	Holds() []audit.Hold
	Group(ctx context.Context, q audit.Query, by audit.Field, top int) ([]audit.GroupCount, error)
	Segments() []audit.SegmentInfo
	RotateKey(ctx context.Context) (previous, vkey string, err error)
	Seal(ctx context.Context) error
	Prune(ctx context.Context, o audit.PruneOptions) (audit.PruneReport, error)
	Archive(ctx context.Context, target audit.ArchiveTarget) (audit.ArchiveReport, error)
}

// apiLedger is w as the API gets it.
func apiLedger(w watchedLedger) api.Ledger {
	if g, ok := w.serverLedger.(governor); ok {
		return watchedFiles{w, g}
	}
	return w
}

// readLedger is a ledger that is only read.
type readLedger struct{ *audit.Reader }

// errReadOnly answers an append to a directory that is only read.
var errReadOnly = errors.New("server: append: the ledger is open for reading only")

func (readLedger) AppendBatch(context.Context, []audit.Entry) ([]audit.Receipt, error) {
	return nil, errReadOnly
}
