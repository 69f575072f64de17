package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"
)

// unpublishable is a ledger that cannot publish what was appended.
type unpublishable struct {
	err    error
	rounds chan struct{} // gets a value for each attempt
}

func (p *unpublishable) Publish(ctx context.Context) error {
	if p.rounds != nil {
		select {
		case p.rounds <- struct{}{}:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return p.err
}
func (*unpublishable) Published() Checkpoint                        { return Checkpoint{} }
func (*unpublishable) Consistency(int64, int64) ([][32]byte, error) { return nil, nil }
func (*unpublishable) Keep(context.Context, string)                 {}
func (*unpublishable) Anchor(context.Context, Checkpoint) error     { return nil }

// TestPublishFailures counts rounds that are left out, and logs the first of a
// row.
func TestPublishFailures(t *testing.T) {
	var log bytes.Buffer
	p := &unpublishable{}
	o := newOutward(p, OutwardConfig{}, slog.New(slog.NewTextHandler(&log, nil)))
	full := fmt.Errorf("%w: disk full", ErrNoSpace)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for i, tt := range []struct {
		ctx              context.Context
		err              error
		failures, logged int
	}{
		{t.Context(), nil, 0, 0},
		{t.Context(), full, 1, 1},
		{t.Context(), full, 2, 1},
		{t.Context(), nil, 2, 1},
		{t.Context(), full, 3, 2},
		{t.Context(), fmt.Errorf("publish: %w", ErrClosed), 3, 2}, // nothing failed
		{ended, context.Canceled, 3, 2},
		{t.Context(), full, 4, 2}, // and that did not end the row
	} {
		p.err = tt.err
		if ok := o.publish(tt.ctx); ok != (tt.err == nil) {
			t.Errorf("attempt %d: publish = %t after %v", i, ok, tt.err)
		}
		if got := o.Stats().PublishFailures; got != int64(tt.failures) {
			t.Errorf("attempt %d: %d failures, want %d", i, got, tt.failures)
		}
		if got := strings.Count(log.String(), "not published"); got != tt.logged {
			t.Errorf("attempt %d: logged %d times, want %d:\n%s", i, got, tt.logged, &log)
		}
	}
}

// TestPublishFailuresCounted: the rounds in the background count.
func TestPublishFailuresCounted(t *testing.T) {
	p := &unpublishable{err: errors.New("cannot"), rounds: make(chan struct{})}
	o := StartOutward(p, OutwardConfig{Anchors: []Anchor{p}, AnchorEvery: time.Millisecond}, nil)
	<-p.rounds
	<-p.rounds // the first is over
	o.Close()
	if got := o.Stats().PublishFailures; got < 1 {
		t.Errorf("%d failures, want the first at least", got)
	}
}
