package hook_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/kaizen-go/kaizen/hook"
)

// lastEnd keeps the end of the latest operation.
type lastEnd struct{ event hook.Event }

func (*lastEnd) Start(ctx context.Context, _ *hook.Event) context.Context { return ctx }
func (l *lastEnd) End(_ context.Context, e *hook.Event)                   { l.event = *e }

// TestEndAt: an operation can end at a time that is past, once.
func TestEndAt(t *testing.T) {
	var last lastEnd
	reg := hook.New(hook.Config{Recorder: &last})
	_, op, err := reg.Begin(t.Context(), &hook.ModelCall{})
	if err != nil {
		t.Fatal(err)
	}
	at := time.Now().Add(-time.Second)
	op.EndAt(errors.New("given up"), at)
	op.End(nil)
	if !last.event.Time.Equal(at) || last.event.Status != hook.Failed {
		t.Errorf("ended at %v with %s, want %v and error", last.event.Time, last.event.Status, at)
	}
}

// TestIn: a part of an operation runs in it, in a context of its own.
func TestIn(t *testing.T) {
	reg := hook.New(hook.Config{Recorder: &lastEnd{}})
	_, op, err := reg.Begin(t.Context(), &hook.ModelCall{})
	if err != nil {
		t.Fatal(err)
	}
	defer op.End(nil)
	if got := hook.Current(op.In(t.Context())); got != op {
		t.Errorf("Current = %v, want the operation", got)
	}
	var none *hook.Registry
	ctx, op, err := none.Begin(t.Context(), &hook.ModelCall{})
	if err != nil || op.In(ctx) != ctx {
		t.Error("an operation that nobody watches has a context of its own")
	}
	op.EndAt(nil, time.Now())
}
