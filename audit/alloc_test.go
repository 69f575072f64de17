//go:build !race

package audit

import (
	"context"
	"testing"
	"time"
)

// TestAppendAllocations holds an append to its two allocations: the text of
// the id, and that of the checkpoint, which a group shares.
func TestAppendAllocations(t *testing.T) {
	l := mustOpen(t, t.TempDir()+"/audit", Config{publishEvery: time.Hour})
	e := benchEntry()
	e.ID = ""
	got := testing.AllocsPerRun(500, func() {
		if _, err := l.Append(context.Background(), e); err != nil {
			t.Fatal(err)
		}
	})
	if got > 2 {
		t.Errorf("an append allocates %v times, want at most 2", got)
	}
}

// TestSubjectAllocations holds an append of an entry with a subject to three more:
// the map that stands for its details, which is two pieces, and its box.
func TestSubjectAllocations(t *testing.T) {
	l := mustOpen(t, t.TempDir()+"/audit", Config{publishEvery: time.Hour})
	e := benchEntry()
	e.ID, e.Subject, e.UserID = "", "maria", ""
	got := testing.AllocsPerRun(500, func() {
		if _, err := l.Append(context.Background(), e); err != nil {
			t.Fatal(err)
		}
	})
	if got > 5 {
		t.Errorf("an append with a subject allocates %v times, want at most 5", got)
	}
}
