package audit

import (
	"context"
	"fmt"
	"time"
)

// The entries that the ledger writes about itself have this agent, and an
// action with this prefix. A caller cannot append one, so what follows from
// them (erasures, holds) is what the ledger did.
const (
	systemAgent  = "kaizen"
	systemPrefix = "ledger."
)

// appendSystem records an entry of the ledger's own. AgentID, Result and, if
// they are missing, ID and Time are filled in. Only l.store and the queue must
// be running.
func (l *Ledger) appendSystem(ctx context.Context, e Entry) (Receipt, error) {
	e.AgentID, e.Result = systemAgent, Success
	if e.ID == "" {
		e.ID = newID()
	}
	if e.Time.IsZero() {
		e.Time = time.Now()
	}
	receipts, err := l.appendRaw(ctx, []Entry{e})
	if err != nil {
		return Receipt{}, err
	}
	return receipts[0], nil
}

// systemEntries yields the ledger's own entries of one kind from index after
// on, oldest first.
func systemEntries(ctx context.Context, s entries, action string, after int64, do func(*Entry) error) error {
	for e, err := range s.query(ctx, Query{AgentID: systemAgent, Action: action, After: after}) {
		if err != nil {
			return err
		}
		if err := do(&e); err != nil {
			return fmt.Errorf("entry %d: %w", e.Index, err)
		}
	}
	return nil
}
