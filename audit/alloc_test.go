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
