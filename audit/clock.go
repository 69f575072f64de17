package audit

import (
	"context"
	"path/filepath"
	"time"

	"github.com/kaizen-go/kaizen/internal/durable"
)

// Entries of the ledger's own about what went wrong around it.
const (
	actionRecovery  = systemPrefix + "recovery"
	actionClockBack = systemPrefix + "clock_back"
)

// clockSlack is how far the clock may go back unnoticed: file times are kept
// by a coarser clock of the system, which is a tick behind.
const clockSlack = 10 * time.Millisecond

// noteRecovery records that the ledger had to be recovered. Whoever reads the
// trail sees that there was a crash, and where.
func (l *Ledger) noteRecovery(ctx context.Context) error {
	if !l.crashed || l.cfg.ForImport {
		return nil
	}
	_, err := l.appendSystem(ctx, Entry{Action: actionRecovery, Details: l.recovered})
	return err
}

// clockBack watches the system's clock. If it is behind what it was, the
// answer is a write that records both times, to stand before the entries that
// come. Order and proofs do not depend on the clock.
func (l *Ledger) clockBack() []*write {
	if l.cfg.ForImport {
		return nil
	}
	now, last := l.cfg.now().Round(0), l.committer.clock // the wall clock, which can go back
	if !now.Before(last.Add(-clockSlack)) {
		if now.After(last) {
			l.committer.clock = now
		}
		return nil
	}
	l.cfg.Logger.Warn("audit ledger: the clock went back", "dir", l.store.dir, "from", last, "to", now)
	w := l.writes.take()
	w.release(1) // nobody waits
	w.async = true
	err := w.encode([]Entry{{
		AgentID: systemAgent, Action: actionClockBack, Result: Success, Time: now,
		Details: map[string]any{"from": last, "to": now},
	}})
	if err != nil { // a clock before 1970: its entries will be refused, too
		w.release(1)
		return nil
	}
	return []*write{w}
}

// publishedAt is when the checkpoint file was written, by the clock of then.
func publishedAt(fsys durable.FS, dir string) (time.Time, error) {
	info, err := stat(fsys, filepath.Join(dir, checkpointName))
	if err != nil {
		return time.Time{}, err
	}
	return info.ModTime(), nil
}
