package audit

import (
	"slices"
	"testing"
)

// Whoever reads files with their keys gets the same counts by name as the
// ledger itself.
func TestReaderGroupsByName(t *testing.T) {
	dir := t.TempDir() + "/audit"
	l := mustOpen(t, dir, Config{UsersAreSubjects: true})
	for _, user := range []string{"maria", "luis", "maria", ""} {
		if _, err := l.Append(t.Context(), Entry{AgentID: "a", Action: "x", Result: Success, UserID: user}); err != nil {
			t.Fatal(err)
		}
	}
	want, err := l.Group(t.Context(), Query{}, ByUser, 2)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	r, err := OpenReader(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	got, err := r.Group(t.Context(), Query{}, ByUser, 2)
	if err != nil || !slices.Equal(got, want) || got[0] != (GroupCount{"maria", 2}) {
		t.Errorf("Group = %v, %v, want %v", got, err, want)
	}
	if got, err := r.Group(t.Context(), Query{UserID: "luis"}, ByAction, 0); err != nil || len(got) != 1 || got[0].Count != 1 {
		t.Errorf("Group of a user's entries = %v, %v", got, err)
	}
}
