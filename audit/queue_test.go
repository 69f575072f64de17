package audit

import (
	"testing"
	"testing/synctest"
	"time"
)

// TestSettle waits for callers who were answered, but not for those who do not
// come back, however long a flush takes.
func TestSettle(t *testing.T) {
	q := newQueue(1 << 20)
	q.settle(time.Hour) // nobody was answered
	q.expect(2)
	q.settle(time.Hour) // nobody comes back
	for _, w := range []*write{{}, {async: true}, {}} {
		if room, _, err := q.offer(w); room != nil || err != nil {
			t.Fatalf("offer = %v, %v", room, err)
		}
	}
	if n := q.missing.Load(); n != 0 {
		t.Errorf("%d callers are missing, want none: two of two came back", n)
	}
	q.settle(time.Hour)
}

// TestSettleInBubble ends although the clock stands still as long as somebody
// runs.
func TestSettleInBubble(t *testing.T) {
	synctest.Test(t, func(*testing.T) {
		q := newQueue(1 << 20)
		q.expect(2)
		q.settle(time.Hour)
	})
}
