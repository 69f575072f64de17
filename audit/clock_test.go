package audit

import (
	"sync/atomic"
	"testing"
	"time"
)

// systemEntriesOf are the ledger's own entries, in order.
func systemEntriesOf(t *testing.T, l *Ledger) (entries []Entry) {
	t.Helper()
	for e, err := range l.Query(t.Context(), Query{AgentID: systemAgent}) {
		if err != nil {
			t.Fatal(err)
		}
		entries = append(entries, e)
	}
	return entries
}

// TestClockBack sets the clock back under an open ledger, twice: each jump is
// one entry with both times, before the entry that came after it, and neither
// order nor proofs suffer.
func TestClockBack(t *testing.T) {
	start := time.Now().Add(24 * time.Hour).UTC()
	var offset atomic.Int64
	cfg := small()
	cfg.now = func() time.Time { return start.Add(time.Duration(offset.Load())) }
	dir := t.TempDir() + "/audit"
	l := mustOpen(t, dir, cfg)
	var all []Receipt
	for n, at := range []time.Duration{0, time.Hour, -time.Hour, -time.Hour, 0, 2 * time.Hour, 2*time.Hour - clockSlack, time.Minute} {
		offset.Store(int64(at))
		all = append(all, appendN(t, l, n, n+1)...)
	}
	checkReceipts(t, l, all)
	checkLedger(t, l)
	entries := systemEntriesOf(t, l)
	want := []struct {
		index    int64
		from, to time.Duration
	}{{2, time.Hour, -time.Hour}, {8, 2 * time.Hour, time.Minute}}
	if len(entries) != len(want) {
		t.Fatalf("%d entries of the ledger's own, want %d: %v", len(entries), len(want), entries)
	}
	for i, e := range entries {
		from, to := start.Add(want[i].from), start.Add(want[i].to)
		if e.Action != actionClockBack || e.Index != want[i].index || !e.Time.Equal(to) ||
			e.Details["from"] != string(appendTime(nil, from)) || e.Details["to"] != string(appendTime(nil, to)) {
			t.Errorf("entry %d: %+v; want one at %d from %v to %v", i, e, want[i].index, from, to)
		}
	}
	mustClose(t, l)
	checkClean(t, dir, int64(len(all)+len(want)))
}

// TestClockBackWhileClosed opens a ledger at a time before it was last written.
func TestClockBackWhileClosed(t *testing.T) {
	dir := t.TempDir() + "/audit"
	mustClose(t, mustOpen(t, dir, small()))
	cfg := small()
	cfg.now = func() time.Time { return time.Now().Add(-time.Hour) }
	l := mustOpen(t, dir, cfg)
	appendN(t, l, 0, 3)
	if es := systemEntriesOf(t, l); len(es) != 1 || es[0].Action != actionClockBack || es[0].Index != 0 {
		t.Errorf("the ledger's own entries: %v, want one %s", es, actionClockBack)
	}
	checkLedger(t, l)
}
