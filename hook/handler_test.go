package hook_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kaizen-go/kaizen/hook"
)

// TestBusyHandlerIsNotSkipped: many runs at once of a handler that answers in
// time are no reason to pass it over. A guard that could be had out of the way
// by calling tools in parallel would be none.
func TestBusyHandlerIsNotSkipped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reg := hook.New(hook.Config{})
		open := make(chan struct{})
		err := reg.Register(hook.Registration{Name: "guard", Phases: []hook.Phase{hook.Start}, Timeout: time.Minute,
			Handler: hook.HandlerFunc(func(context.Context, hook.Event) error {
				<-open
				return &hook.DeniedError{Reason: "no"}
			})})
		if err != nil {
			t.Fatal(err)
		}
		const n = 100
		var wg sync.WaitGroup
		for range n {
			wg.Go(func() {
				err := reg.Do(t.Context(), &hook.Tool{Name: "rm"}, func(context.Context, *hook.Op) error { return nil })
				if _, ok := errors.AsType[*hook.DeniedError](err); !ok {
					t.Errorf("Do = %v, want a denial", err)
				}
			})
		}
		synctest.Wait() // all of them wait in the handler
		close(open)
		wg.Wait()
		if s := reg.Stats()[0]; s.Skipped != 0 || s.Denials != n || s.Calls != n {
			t.Errorf("stats = %+v, want %d denials and nothing skipped", s, n)
		}
	})
}

// TestStuckHandlerIsCalledAgain: once a stuck run returns, its place is free.
func TestStuckHandlerIsCalledAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reg := hook.New(hook.Config{})
		open := make(chan struct{})
		err := reg.Register(hook.Registration{Name: "slow", Phases: []hook.Phase{hook.Start}, Timeout: time.Second,
			Handler: hook.HandlerFunc(func(context.Context, hook.Event) error { <-open; return nil })})
		if err != nil {
			t.Fatal(err)
		}
		do := func(n int) {
			for range n {
				if err := reg.Do(t.Context(), &hook.Tool{}, func(context.Context, *hook.Op) error { return nil }); err != nil {
					t.Fatal(err)
				}
			}
		}
		do(10)
		close(open)
		synctest.Wait()
		do(5)
		if s := reg.Stats()[0]; s.Timeouts != 8 || s.Skipped != 2 || s.Calls != 15 {
			t.Errorf("stats = %+v, want 8 timeouts, 2 skips and 5 more calls", s)
		}
	})
}

// TestCancelledCallerWaitsForVerdict: a denial counts also when it comes after
// the caller's own deadline.
func TestCancelledCallerWaitsForVerdict(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reg := hook.New(hook.Config{})
		err := reg.Register(hook.Registration{Name: "guard", Phases: []hook.Phase{hook.Start}, Timeout: time.Minute,
			Handler: hook.HandlerFunc(func(ctx context.Context, _ hook.Event) error {
				<-ctx.Done()
				time.Sleep(time.Second)
				return &hook.DeniedError{Reason: "no"}
			})})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		err = reg.Do(ctx, &hook.Tool{}, func(context.Context, *hook.Op) error { return nil })
		if _, ok := errors.AsType[*hook.DeniedError](err); !ok {
			t.Errorf("Do = %v, want a denial", err)
		}
	})
}

// TestEndIsToldAfterCancellation: a handler can still work at the end of an
// operation that was cancelled.
func TestEndIsToldAfterCancellation(t *testing.T) {
	reg := hook.New(hook.Config{})
	var told []error
	err := reg.Register(hook.Registration{Name: "watch", Phases: []hook.Phase{hook.End},
		Handler: hook.HandlerFunc(func(ctx context.Context, e hook.Event) error {
			if e.Status != hook.Cancelled {
				t.Errorf("status = %s, want cancelled", e.Status)
			}
			told = append(told, ctx.Err())
			return nil
		})})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	err = reg.Do(ctx, &hook.Tool{}, func(ctx context.Context, _ *hook.Op) error { cancel(); return ctx.Err() })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("Do = %v, want the cancellation", err)
	}
	if len(told) != 1 || told[0] != nil {
		t.Errorf("the handler saw the context errors %v, want one nil", told)
	}
}

func TestLastErrorIsRedacted(t *testing.T) {
	const secret = "hunter2hunter2"
	reg := hook.New(hook.Config{})
	err := reg.Register(hook.Registration{Name: "fails", Handler: hook.HandlerFunc(func(context.Context, hook.Event) error {
		return errors.New("connect with password=" + secret)
	})})
	if err != nil {
		t.Fatal(err)
	}
	_ = reg.Do(t.Context(), &hook.Tool{}, func(context.Context, *hook.Op) error { return nil })
	if got := reg.Stats()[0].LastError; strings.Contains(got, secret) || !strings.Contains(got, "connect with") {
		t.Errorf("LastError = %q, want the text without the password", got)
	}
}

// TestEventSelection: a handler is told of the kinds and phases it asked for.
func TestEventSelection(t *testing.T) {
	tests := []struct {
		name   string
		kinds  []hook.Kind
		phases []hook.Phase
		want   string
	}{
		{"everything", nil, nil, "tool start, tool end, plan start, plan end, "},
		{"one kind", []hook.Kind{hook.KindPlan}, nil, "plan start, plan end, "},
		{"one phase", nil, []hook.Phase{hook.End}, "tool end, plan end, "},
		{"one of each", []hook.Kind{hook.KindTool}, []hook.Phase{hook.Start}, "tool start, "},
		{"several kinds", []hook.Kind{hook.KindTool, hook.KindPlan}, []hook.Phase{hook.Start}, "tool start, plan start, "},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			reg := hook.New(hook.Config{})
			got := ""
			err := reg.Register(hook.Registration{Name: "h", Kinds: tt.kinds, Phases: tt.phases,
				Handler: hook.HandlerFunc(func(_ context.Context, e hook.Event) error {
					got += e.Kind().String() + " " + e.Phase.String() + ", "
					return nil
				})})
			if err != nil {
				t.Fatal(err)
			}
			for _, p := range []hook.Payload{&hook.Tool{}, &hook.Plan{}} {
				if err := reg.Do(t.Context(), p, func(context.Context, *hook.Op) error { return nil }); err != nil {
					t.Fatal(err)
				}
			}
			if got != tt.want {
				t.Errorf("events = %q, want %q", got, tt.want)
			}
		})
	}
}

// TestUnregisteredHandlerIsNotCalled: the others still are, and the name is free.
func TestUnregisteredHandlerIsNotCalled(t *testing.T) {
	reg := hook.New(hook.Config{})
	calls := make(map[string]int)
	for _, name := range []string{"a", "b"} {
		err := reg.Register(hook.Registration{Name: name, Phases: []hook.Phase{hook.Start},
			Handler: hook.HandlerFunc(func(context.Context, hook.Event) error { calls[name]++; return nil })})
		if err != nil {
			t.Fatal(err)
		}
	}
	do := func() {
		if err := reg.Do(t.Context(), &hook.Tool{}, func(context.Context, *hook.Op) error { return nil }); err != nil {
			t.Fatal(err)
		}
	}
	do()
	if !reg.Unregister("a") {
		t.Error("Unregister(a) = false")
	}
	do()
	if calls["a"] != 1 || calls["b"] != 2 || len(reg.Stats()) != 1 || reg.Stats()[0].Name != "b" {
		t.Errorf("calls = %v, left are %+v", calls, reg.Stats())
	}
}

// TestStats: times add up, and a handler that denies is not counted a success.
func TestStats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reg := hook.New(hook.Config{})
		n := 0
		err := reg.Register(hook.Registration{Name: "h", Phases: []hook.Phase{hook.Start}, Timeout: time.Minute,
			Handler: hook.HandlerFunc(func(context.Context, hook.Event) error {
				n++
				time.Sleep(time.Duration(n) * time.Second)
				switch n {
				case 2:
					return &hook.DeniedError{Reason: "no"}
				case 3:
					return errors.New("broken")
				}
				return nil
			})})
		if err != nil {
			t.Fatal(err)
		}
		for range 4 {
			_ = reg.Do(t.Context(), &hook.Tool{}, func(context.Context, *hook.Op) error { return nil })
		}
		want := hook.Stats{Name: "h", Calls: 4, Denials: 1, Errors: 1, Total: 10 * time.Second, Max: 4 * time.Second, LastError: "broken"}
		if got := reg.Stats()[0]; got != want {
			t.Errorf("stats = %+v, want %+v", got, want)
		}
	})
}
