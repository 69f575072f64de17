package audit

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func mustHold(t testing.TB, l *Ledger, h Hold) Hold {
	t.Helper()
	h, _, err := l.Hold(t.Context(), h)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func holdIDs(list []Hold) (ids []string) {
	for _, h := range list {
		ids = append(ids, h.ID)
	}
	return ids
}

func TestHoldsComeBack(t *testing.T) {
	fsys := freshFS(t)
	l := mustOpen(t, "/l/audit", subjectConfig(fsys))
	mustAppend(t, l, about(0, "maria"))
	full := Hold{
		ID: "case-17", AgentID: "agent-1", UserID: "maria", Subject: "luis", SessionID: "s", RunID: "r", TraceID: numbered(1).TraceID,
		Since: testTime, Until: testTime.Add(time.Hour), Reason: "lawsuit", Authority: "court",
	}
	full = mustHold(t, l, full)
	made := mustHold(t, l, Hold{UserID: "new person"})
	gone := mustHold(t, l, Hold{ID: "gone"})
	if _, err := l.Release(t.Context(), Release{ID: gone.ID, Reason: "settled"}); err != nil {
		t.Fatal(err)
	}
	again := mustHold(t, l, Hold{ID: "gone", AgentID: "x"}) // the id is free again
	want := []Hold{full, made, again}
	check := func(got []Hold) {
		t.Helper()
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("Holds (-want +got):\n%s", diff)
		}
	}
	check(l.Holds())
	if found := fsys.search("maria", "luis", "new person"); len(found) > 0 {
		t.Errorf("names in clear: %v", found)
	}
	mustClose(t, l)
	l = mustOpen(t, "/l/audit", subjectConfig(fsys))
	check(l.Holds())
	r, err := openReader(fsys, "/l/audit")
	if err != nil {
		t.Fatal(err)
	}
	check(r.Holds())
	if _, err := l.Release(t.Context(), Release{ID: "case-17"}); err != nil {
		t.Fatal(err)
	}
	if err := l.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := r.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	want = want[1:]
	check(r.Holds())
	if r, err = openReaderWith(fsys, "/l/audit", ReaderConfig{WithoutKeys: true}); err != nil || !isToken(r.Holds()[0].UserID) {
		t.Errorf("holds without keys: %+v, %v; want a token as the user", r.Holds(), err)
	}
	text, err := json.Marshal(full)
	if err != nil || !strings.HasPrefix(string(text), `{"agent_id":"agent-1","authority":"court","id":"case-17","index":1,"placed":"`) {
		t.Errorf("printed: %s, %v", text, err)
	}
}

func TestHoldRefusals(t *testing.T) {
	l := mustOpen(t, "/l/audit", subjectConfig(freshFS(t)))
	mustHold(t, l, Hold{ID: "a", UserID: "maria"})
	for name, tt := range map[string]struct {
		h     Hold
		field string
	}{
		"active id":  {Hold{ID: "a"}, "hold"},
		"bad id":     {Hold{ID: "a b"}, "hold"},
		"long id":    {Hold{ID: strings.Repeat("a", 65)}, "hold"},
		"trace":      {Hold{TraceID: "x"}, "trace_id"},
		"agent":      {Hold{AgentID: "\xff"}, "agent_id"},
		"years":      {Hold{Since: time.Date(1960, 1, 1, 0, 0, 0, 0, time.UTC)}, "time"},
		"turned":     {Hold{Since: testTime, Until: testTime.Add(-1)}, "until"},
		"name":       {Hold{UserID: "maria", Reason: "case of Maria, 2026"}, "reason"},
		"authority":  {Hold{Subject: "maria", Authority: "maria"}, "authority"},
		"long":       {Hold{Reason: strings.Repeat("x", MaxNameBytes+1)}, "reason"},
		"no UTF-8":   {Hold{Authority: "\xff"}, "authority"},
		"long agent": {Hold{AgentID: strings.Repeat("x", MaxNameBytes+1)}, "agent_id"},
	} {
		t.Run(name, func(t *testing.T) {
			var bad *EntryError
			if _, _, err := l.Hold(t.Context(), tt.h); !errors.As(err, &bad) || bad.Field != tt.field {
				t.Errorf("Hold = %v, want an EntryError of %s", err, tt.field)
			}
		})
	}
	if _, _, err := l.Hold(t.Context(), Hold{UserID: "u1", Reason: "cases u10 and xu1"}); err != nil {
		t.Errorf("a name within other words is refused: %v", err)
	}
	if _, err := l.Release(t.Context(), Release{ID: "b"}); !errors.Is(err, ErrNoHold) {
		t.Errorf("Release of nothing = %v, want ErrNoHold", err)
	}
	var bad *EntryError
	if _, err := l.Release(t.Context(), Release{ID: "a", Reason: "maria agreed"}); !errors.As(err, &bad) {
		t.Errorf("Release that names the user = %v, want an EntryError", err)
	}
}

// TestHoldBlocks holds by each field in turn: erasing the subject, and pruning
// exactly the ranges that have a match.
func TestHoldBlocks(t *testing.T) {
	fsys := freshFS(t)
	l := mustOpen(t, "/l/audit", subjectConfig(fsys))
	for n := range 10 {
		e := about(n, "luis")
		e.AgentID, e.SessionID, e.RunID, e.TraceID = "other", "other", "other", numbered(900).TraceID
		if n == 4 {
			e = about(n, "maria")
			e.UserID, e.AgentID, e.SessionID, e.RunID = "anna", "held", "held", "held"
		}
		mustAppend(t, l, e)
	}
	for name, h := range map[string]Hold{
		"agent": {AgentID: "held"}, "session": {SessionID: "held"}, "run": {RunID: "held"}, "trace": {TraceID: about(4, "").TraceID},
		"subject": {Subject: "maria"}, "user": {UserID: "anna"}, "time": {Since: numbered(4).Time, Until: numbered(4).Time},
		"two": {AgentID: "held", Subject: "maria"},
	} {
		t.Run(name, func(t *testing.T) {
			h = mustHold(t, l, h)
			for _, who := range []string{"maria", "anna"} {
				var held *HeldError
				_, err := l.Erase(t.Context(), Erasure{Subject: who})
				if !errors.As(err, &held) || held.Hold != h.ID {
					t.Errorf("Erase(%s) = %v, want a HeldError of %s", who, err, h.ID)
				}
			}
			for from := int64(0); from < 10; from++ {
				for to := from; to <= 10; to++ {
					err := l.held(t.Context(), from, to)
					if want := from <= 4 && 4 < to; (err != nil) != want {
						t.Errorf("held(%d, %d) = %v, want it to be %v", from, to, err, want)
					}
				}
			}
			if err := l.held(t.Context(), h.Index, h.Index+1); err == nil {
				t.Error("the entry that placed the hold is free")
			}
			if _, err := l.Release(t.Context(), Release{ID: h.ID}); err != nil {
				t.Fatal(err)
			}
			if err := l.held(t.Context(), 0, l.Size()); err != nil {
				t.Errorf("held after the release = %v", err)
			}
		})
	}
	all := mustHold(t, l, Hold{ID: "freeze"})
	if _, err := l.Erase(t.Context(), Erasure{Subject: "luis"}); err == nil || !strings.Contains(err.Error(), "held by hold freeze") {
		t.Errorf("Erase during a hold of all = %v", err)
	}
	if _, err := l.Release(t.Context(), Release{ID: all.ID}); err != nil {
		t.Fatal(err)
	}
	for _, who := range []string{"maria", "anna", "luis"} {
		if x, err := l.Erase(t.Context(), Erasure{Subject: who}); err != nil || !x.Found {
			t.Errorf("Erase(%s) after all releases = %+v, %v", who, x, err)
		}
	}
}

// TestHoldOfUserInClear is on the lines that name a user without a subject too.
func TestHoldOfUserInClear(t *testing.T) {
	l := mustOpen(t, "/l/audit", tiny(freshFS(t)))
	appendN(t, l, 0, 5)
	mustHold(t, l, Hold{UserID: "u-3"})
	if err := l.held(t.Context(), 0, 3); err != nil {
		t.Errorf("held(0, 3) = %v", err)
	}
	if err := l.held(t.Context(), 3, 4); err == nil {
		t.Error("held(3, 4) = nil, want the user's hold")
	}
}

// TestUnknownHold is one of a later version: it is on everything.
func TestUnknownHold(t *testing.T) {
	fsys := freshFS(t)
	l := mustOpen(t, "/l/audit", subjectConfig(fsys))
	appendN(t, l, 0, 2)
	for _, d := range []map[string]any{{"hold": "later", "colour": "red"}, {"since": 7}} {
		if _, err := l.appendSystem(t.Context(), Entry{Action: actionHold, Details: d}); err != nil {
			t.Fatal(err)
		}
	}
	mustClose(t, l)
	l = mustOpen(t, "/l/audit", subjectConfig(fsys))
	if got := holdIDs(l.Holds()); !slices.Equal(got, []string{"later", "entry-3"}) {
		t.Errorf("holds %v", got)
	}
	if err := l.held(t.Context(), 0, 1); err == nil {
		t.Error("a hold that is not understood holds nothing")
	}
	for _, id := range []string{"later", "entry-3"} {
		if _, err := l.Release(t.Context(), Release{ID: id}); err != nil {
			t.Error(err)
		}
	}
}
