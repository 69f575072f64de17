package audit

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

// sizes of the group before: with one, settle gives way to others as well.
var settleSizes = []int{0, crowdBytes}

// TestSettle waits for callers who were answered, but not for those who do not
// come back, however long a flush takes.
func TestSettle(t *testing.T) {
	for _, bytes := range settleSizes {
		q := newQueue(1 << 20)
		q.settle(time.Hour, bytes) // nobody was answered
		q.expect(2)
		q.settle(time.Hour, bytes) // nobody comes back
		for _, w := range []*write{{}, {async: true}, {}} {
			if room, _, err := q.offer(w); room != nil || err != nil {
				t.Fatalf("offer = %v, %v", room, err)
			}
		}
		if n := q.missing.Load(); n != 0 {
			t.Errorf("%d callers are missing, want none: two of two came back", n)
		}
		q.settle(time.Hour, bytes)
	}
}

// TestSettleInBubble ends although the clock stands still as long as somebody
// runs.
func TestSettleInBubble(t *testing.T) {
	for _, bytes := range settleSizes {
		synctest.Test(t, func(*testing.T) {
			q := newQueue(1 << 20)
			q.expect(2)
			q.settle(time.Hour, bytes)
		})
	}
}

// TestSettleGathers has callers that stand ready to run join the group.
func TestSettleGathers(t *testing.T) {
	const callers = 64
	q := newQueue(1 << 20)
	q.busy = true // nobody else shall lead
	q.expect(callers)
	begin := make(chan struct{})
	ctx := context.WithoutCancel(t.Context())
	for range callers {
		go func() {
			<-begin
			if _, err := q.put(ctx, &write{ends: []int{1}}); err != nil {
				t.Error(err)
			}
		}()
	}
	close(begin)
	for q.missing.Load() > 0 { // settle may give up early on a machine that is busy
		q.settle(time.Hour, crowdBytes)
	}
	if n := len(q.take(nil)); n != callers {
		t.Errorf("%d of %d callers are in the group", n, callers)
	}
}
