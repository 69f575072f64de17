package audit

import (
	"context"
	"fmt"
	"maps"
)

// What some of the ledger's own entries say must outlive them: which hold is
// active, which subject was erased while entries of it remain, that the history
// was lost. Before retention removes such an entry it is appended once more. What
// nobody needs any more goes with its segment: holds that were released, erasures
// of which no entry is left, and changes of the key, which keys.jsonl has.

// carriedKey is, in the details of an entry that repeats one, the index of the
// first one, and timeKey when that was.
const (
	carriedKey = "carried"
	timeKey    = "placed"
)

// unpaired says which release in a segment must stay: one whose hold is in a
// segment that stays, and would be active again without it. Going says which
// others are removed. The caller holds l.holds.change.
func (l *Ledger) unpaired(ctx context.Context, seg SegmentInfo, going map[int64]bool) (string, error) {
	var reason string
	err := l.own(ctx, actionRelease, seg.Base, seg.Base+seg.Entries, func(release *Entry) error {
		return l.own(ctx, actionHold, 0, release.Index, func(hold *Entry) error {
			same := hold.Details["hold"] == release.Details["hold"]
			if same && !within(hold.Index, seg) && !going[l.store.segmentOf(hold.Index)] {
				reason = fmt.Sprintf("entry %d, release of the hold in entry %d, is still needed", release.Index, hold.Index)
			}
			return nil
		})
	})
	return reason, err
}

func within(index int64, seg SegmentInfo) bool {
	return index >= seg.Base && index < seg.Base+seg.Entries
}

// own calls do with the ledger's own entries of one kind from index from to
// before to. Entries that were pruned are not among them.
func (l *Ledger) own(ctx context.Context, action string, from, to int64, do func(*Entry) error) error {
	for e, err := range l.store.query(ctx, Query{AgentID: systemAgent, Action: action, After: from}) {
		if err != nil {
			return err
		}
		if e.Index >= to {
			return nil
		}
		if err := do(&e); err != nil {
			return fmt.Errorf("entry %d: %w", e.Index, err)
		}
	}
	return nil
}

// segmentOf is the base of the sealed segment that has the entry at index, -1 if
// it is in none.
func (s *store) segmentOf(index int64) int64 {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, seg := range s.sealed {
		if index >= seg.base && index < seg.end() {
			return seg.base
		}
	}
	return -1
}

// carryState appends once more what is needed of the ledger's own entries in
// segments that are about to go. A crash before they are gone leaves it there
// twice, which changes nothing. The caller holds l.holds.change.
func (l *Ledger) carryState(ctx context.Context, segs []SegmentInfo) error {
	going := map[int64]bool{}
	for _, seg := range segs {
		going[seg.Base] = true
	}
	for _, seg := range segs {
		for _, kind := range []struct {
			action string
			carry  func(*Entry) error
		}{
			{actionHold, func(e *Entry) error { return l.carryHold(ctx, e) }},
			{actionErasure, func(e *Entry) error { return l.carryErasure(ctx, e, going) }},
			{actionRestored, func(e *Entry) error { return l.carryLoss(ctx, e) }},
		} {
			if err := l.own(ctx, kind.action, seg.Base, seg.Base+seg.Entries, kind.carry); err != nil {
				return err
			}
		}
	}
	return nil
}

// carried makes d the details of the entry that repeats e.
func carried(d map[string]any, e *Entry) {
	d[carriedKey], d[timeKey] = e.Index, e.Time
	for _, key := range []string{carriedKey, timeKey} {
		if first, ok := e.Details[key]; ok { // not for the first time
			d[key] = first
		}
	}
}

// carryHold repeats a hold that is active.
func (l *Ledger) carryHold(ctx context.Context, e *Entry) error {
	id, _ := e.Details["hold"].(string)
	h, active := l.holds.get(id)
	if !active || h.Index != e.Index {
		return nil
	}
	d := h.details()
	carried(d, e)
	r, err := l.appendSystem(ctx, Entry{Action: actionHold, Details: d})
	if err != nil {
		return err
	}
	h.Index = r.Index
	l.holds.add(h)
	return nil
}

// carryErasure repeats the receipt of an erasure if entries of the subject stay.
func (l *Ledger) carryErasure(ctx context.Context, e *Entry, going map[int64]bool) error {
	token, _ := e.Details["token"].(string)
	remain, err := l.remain(ctx, token, going)
	if err != nil || !remain {
		return err
	}
	d := maps.Clone(e.Details)
	carried(d, e)
	_, err = l.appendSystem(ctx, Entry{Action: actionErasure, Details: d})
	return err
}

// remain reports whether there are entries of token in segments that stay.
func (l *Ledger) remain(ctx context.Context, token string, going map[int64]bool) (bool, error) {
	if !isToken(token) {
		return false, nil
	}
	for _, q := range []Query{{Subject: token, Descending: true}, {UserID: token, Descending: true}} {
		for e, err := range l.store.query(ctx, q) {
			if err != nil {
				return false, err
			}
			if !going[l.store.segmentOf(e.Index)] {
				return true, nil
			}
		}
	}
	return false, nil
}

// carryLoss repeats that the history was lost.
func (l *Ledger) carryLoss(ctx context.Context, e *Entry) error {
	if e.Details[historyKey] != historyLostValue {
		return nil
	}
	d := maps.Clone(e.Details)
	carried(d, e)
	_, err := l.appendSystem(ctx, Entry{Action: actionRestored, Details: d})
	return err
}
