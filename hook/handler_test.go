package hook_test

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kaizen-go/kaizen/hook"
	"github.com/kaizen-go/kaizen/internal/runctx"
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

// TestEveryKindIsAnnounced: each kind of operation has one start and one end,
// with its time, its kind and its payload.
func TestEveryKindIsAnnounced(t *testing.T) {
	reg := hook.New(hook.Config{})
	var got []hook.Event
	register(t, reg, hook.Registration{Name: "h", Handler: hook.HandlerFunc(func(_ context.Context, e hook.Event) error {
		got = append(got, e)
		return nil
	})})
	for i, p := range allPayloads("x") {
		got = nil
		before := time.Now()
		if err := reg.Do(t.Context(), p, nothing); err != nil {
			t.Fatal(err)
		}
		if len(got) != 2 || got[0].Phase != hook.Start || got[1].Phase != hook.End {
			t.Fatalf("%s: events %+v, want a start and an end", p.Kind(), got)
		}
		for _, e := range got {
			if e.Kind() != hook.Kinds()[i] || e.Payload.Label() != p.Label() || e.Time.Before(before) || e.Time.After(time.Now()) {
				t.Errorf("%s: event %+v", p.Kind(), e)
			}
		}
	}
}

// TestEventIdentity: all handlers see one operation under one id, at its start
// and its end, with the ids of the run; two operations have two.
func TestEventIdentity(t *testing.T) {
	reg := hook.New(hook.Config{})
	type sight struct {
		op, parent hook.ID
		run        hook.Run
	}
	seen := make(map[string][]sight)
	for _, name := range []string{"a", "b"} {
		register(t, reg, hook.Registration{Name: name, Handler: hook.HandlerFunc(func(_ context.Context, e hook.Event) error {
			seen[name] = append(seen[name], sight{e.Op, e.Parent, e.Run})
			return nil
		})})
	}
	run := hook.Run{RunID: "r", ParentRunID: "p", AgentID: "a", AgentName: "A", SessionID: "s", UserID: "u"}
	var outer, inner hook.ID
	err := reg.Do(runctx.With(t.Context(), run), &hook.Iteration{Number: 1}, func(ctx context.Context, op *hook.Op) error {
		outer = op.ID()
		return reg.Do(ctx, &hook.Tool{Name: "t"}, func(_ context.Context, op *hook.Op) error { inner = op.ID(); return nil })
	})
	if err != nil {
		t.Fatal(err)
	}
	want := []sight{{outer, 0, run}, {inner, outer, run}, {inner, outer, run}, {outer, 0, run}}
	if outer == inner || !slices.Equal(seen["a"], want) || !slices.Equal(seen["b"], want) {
		t.Errorf("seen = %+v, want %+v twice", seen, want)
	}
}

func TestStatusOf(t *testing.T) {
	tests := []struct {
		name string
		err  error
		want hook.Status
	}{
		{"nil", nil, hook.OK},
		{"error", errors.New("x"), hook.Failed},
		{"panic", &hook.PanicError{Value: "x"}, hook.Failed},
		{"deadline", context.DeadlineExceeded, hook.Failed},
		{"cancelled", errors.Join(errors.New("x"), context.Canceled), hook.Cancelled},
		{"denied", errors.Join(errors.New("x"), &hook.DeniedError{}), hook.Denied},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := hook.StatusOf(tt.err); got != tt.want {
				t.Errorf("StatusOf(%v) = %s, want %s", tt.err, got, tt.want)
			}
		})
	}
}

// TestBrokenHandlersStopNothing: whatever one handler does, the next is called,
// the operation goes on, and the outcome is counted and told.
func TestBrokenHandlersStopNothing(t *testing.T) {
	tests := []struct {
		name string
		f    hook.HandlerFunc
		want hook.Outcome
	}{
		{"fine", func(context.Context, hook.Event) error { return nil }, hook.OutcomeOK},
		{"error", func(context.Context, hook.Event) error { return errors.New("x") }, hook.OutcomeError},
		{"panic", func(context.Context, hook.Event) error { panic("x") }, hook.OutcomePanic},
		{"hangs", func(context.Context, hook.Event) error { select {} }, hook.OutcomeTimeout},
		{"ends its goroutine", func(context.Context, hook.Event) error { runtime.Goexit(); return nil }, hook.OutcomeTimeout},
		{"denies what cannot be denied", func(context.Context, hook.Event) error { return &hook.DeniedError{} }, hook.OutcomeDenied},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var calls []hook.Call
			reg := hook.New(hook.Config{OnHandler: func(c hook.Call) { calls = append(calls, c) }})
			limit := time.Minute // which a busy machine does not miss
			if tt.want == hook.OutcomeTimeout {
				limit = 50 * time.Millisecond
			}
			err := reg.Register(hook.Registration{Name: "first", Handler: tt.f, Phases: []hook.Phase{hook.Start}, Timeout: limit})
			if err != nil {
				t.Fatal(err)
			}
			next, went := false, false
			register(t, reg, hook.Registration{Name: "next", Phases: []hook.Phase{hook.Start},
				Handler: hook.HandlerFunc(func(context.Context, hook.Event) error { next = true; return nil })})
			err = reg.Do(t.Context(), &hook.Plan{}, func(context.Context, *hook.Op) error { went = true; return nil })
			if err != nil || !next || !went {
				t.Errorf("Do = %v, next handler called %v, operation called %v", err, next, went)
			}
			if len(calls) != 2 || calls[0].Outcome != tt.want || calls[0].Handler != "first" || calls[0].Kind != hook.KindPlan || calls[1].Outcome != hook.OutcomeOK {
				t.Errorf("calls = %+v, want the outcome %s first", calls, tt.want)
			}
		})
	}
}

// TestStatsNameHandlersThatWereNotCalled: "no handlers" and "nothing happened
// yet" can be told apart.
func TestStatsNameHandlersThatWereNotCalled(t *testing.T) {
	reg := hook.New(hook.Config{})
	if got := reg.Stats(); len(got) != 0 {
		t.Errorf("stats = %+v, want none", got)
	}
	register(t, reg, hook.Log(nil))
	if got := reg.Stats(); len(got) != 1 || got[0] != (hook.Stats{Name: "log"}) {
		t.Errorf("stats = %+v, want log, never called", got)
	}
}
