package hook_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kaizen-go/kaizen/hook"
	"github.com/kaizen-go/kaizen/internal/runctx"
)

// recorder keeps events and pairs starts with ends.
type recorder struct {
	mu     sync.Mutex
	events []hook.Event
}

type mark struct{}

func (r *recorder) Start(ctx context.Context, e *hook.Event) context.Context {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, *e)
	return context.WithValue(ctx, mark{}, e.Op)
}

func (r *recorder) End(ctx context.Context, e *hook.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if ctx.Value(mark{}) != e.Op {
		panic("the end has not the context of its start")
	}
	r.events = append(r.events, *e)
}

// checkPaired fails unless each operation has one start and one end, in order.
func (r *recorder) checkPaired(t *testing.T, want int) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	open := make(map[hook.ID]bool)
	starts := 0
	for _, e := range r.events {
		switch e.Phase {
		case hook.Start:
			if open[e.Op] {
				t.Errorf("operation %d started twice", e.Op)
			}
			open[e.Op] = true
			starts++
		case hook.End:
			if !open[e.Op] {
				t.Errorf("operation %d ended without a start, or twice", e.Op)
			}
			delete(open, e.Op)
			if e.Status == "" || e.Duration() < 0 {
				t.Errorf("end of %d: status %q, duration %v", e.Op, e.Status, e.Duration())
			}
		}
	}
	if len(open) > 0 {
		t.Errorf("operations without an end: %v", open)
	}
	if starts != want {
		t.Errorf("operations = %d, want %d", starts, want)
	}
}

func (r *recorder) last() hook.Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.events[len(r.events)-1]
}

func TestDoEndsOnce(t *testing.T) {
	boom := errors.New("boom")
	tests := []struct {
		name   string
		f      func(context.Context, *hook.Op) error
		status hook.Status
		panics bool
	}{
		{"success", func(context.Context, *hook.Op) error { return nil }, hook.OK, false},
		{"error", func(context.Context, *hook.Op) error { return boom }, hook.Failed, false},
		{"cancelled", func(context.Context, *hook.Op) error { return fmt.Errorf("wait: %w", context.Canceled) }, hook.Cancelled, false},
		{"deadline", func(context.Context, *hook.Op) error { return context.DeadlineExceeded }, hook.Failed, false},
		{"denied", func(context.Context, *hook.Op) error { return &hook.DeniedError{Reason: "no"} }, hook.Denied, false},
		{"panic", func(context.Context, *hook.Op) error { panic("oh") }, hook.Failed, true},
		{"explicit end", func(_ context.Context, op *hook.Op) error { op.End(boom); return nil }, hook.Failed, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			rec := &recorder{}
			reg := hook.New(hook.Config{Recorder: rec})
			func() {
				defer func() {
					if v := recover(); (v != nil) != tt.panics {
						t.Errorf("recovered %v, want a panic: %v", v, tt.panics)
					}
				}()
				_ = reg.Do(t.Context(), &hook.Tool{Name: "x"}, tt.f)
			}()
			rec.checkPaired(t, 1)
			if got := rec.last().Status; got != tt.status {
				t.Errorf("status = %q, want %q", got, tt.status)
			}
			var p *hook.PanicError
			if tt.panics && (!errors.As(rec.last().Err, &p) || len(p.Stack) == 0) {
				t.Errorf("error = %v, want a PanicError with a stack", rec.last().Err)
			}
		})
	}
}

// TestParallelSameName is the earlier system's fault: two calls of one tool at
// once overwrote each other.
func TestParallelSameName(t *testing.T) {
	rec := &recorder{}
	reg := hook.New(hook.Config{Recorder: rec})
	ctx, run, err := reg.Begin(runctx.With(t.Context(), hook.Run{RunID: "r"}), &hook.RunInfo{})
	if err != nil {
		t.Fatal(err)
	}
	const n = 100
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() {
			_ = reg.Do(ctx, &hook.Tool{Name: "same"}, func(ctx context.Context, op *hook.Op) error {
				if hook.Current(ctx) != op {
					t.Error("the context does not carry its own operation")
				}
				return nil
			})
		})
	}
	wg.Wait()
	run.End(nil)
	rec.checkPaired(t, n+1)
	for _, e := range rec.events {
		if e.Kind() == hook.KindTool && e.Parent != run.ID() {
			t.Errorf("parent of tool = %d, want the run %d", e.Parent, run.ID())
		}
		if e.Run.RunID != "r" {
			t.Errorf("run id = %q, want r", e.Run.RunID)
		}
	}
}

func TestNilRegistryRunsUnobserved(t *testing.T) {
	var reg *hook.Registry
	called := false
	err := reg.Do(t.Context(), &hook.Tool{}, func(_ context.Context, op *hook.Op) error {
		op.Update(func(hook.Payload) { called = true })
		return nil
	})
	if err != nil || !called {
		t.Errorf("Do on nil = %v, called %v", err, called)
	}
	if reg.Stats() != nil {
		t.Error("Stats on nil is not empty")
	}
}

func TestHandlersRunInPriorityOrder(t *testing.T) {
	reg := hook.New(hook.Config{})
	var order []string
	for _, h := range []struct {
		name string
		p    hook.Priority
	}{{"low", hook.Low}, {"first", hook.Normal}, {"critical", hook.Critical}, {"second", hook.Normal}, {"high", hook.High}} {
		err := reg.Register(hook.Registration{Name: h.name, Priority: h.p, Phases: []hook.Phase{hook.Start},
			Handler: hook.HandlerFunc(func(context.Context, hook.Event) error { order = append(order, h.name); return nil })})
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := reg.Do(t.Context(), &hook.Plan{}, func(context.Context, *hook.Op) error { return nil }); err != nil {
		t.Fatal(err)
	}
	if want := []string{"critical", "high", "first", "second", "low"}; !slices.Equal(order, want) {
		t.Errorf("order = %v, want %v", order, want)
	}
}

func TestRegister(t *testing.T) {
	reg := hook.New(hook.Config{})
	h := hook.HandlerFunc(func(context.Context, hook.Event) error { return nil })
	if err := reg.Register(hook.Registration{Handler: h}); !errors.Is(err, hook.ErrInvalid) {
		t.Errorf("Register without a name = %v, want ErrInvalid", err)
	}
	if err := reg.Register(hook.Registration{Name: "a", Handler: h}); err != nil {
		t.Fatal(err)
	}
	if err := reg.Register(hook.Registration{Name: "a", Handler: h}); !errors.Is(err, hook.ErrDuplicate) {
		t.Errorf("Register twice = %v, want ErrDuplicate", err)
	}
	if !reg.Unregister("a") || reg.Unregister("a") {
		t.Error("Unregister should succeed once")
	}
}

func TestDeny(t *testing.T) {
	tests := []struct {
		name    string
		payload hook.Payload
		denied  bool
	}{
		{"tool", &hook.Tool{Name: "rm"}, true},
		{"model call", &hook.ModelCall{Model: "m"}, true},
		{"handoff", &hook.Handoff{To: "b"}, true},
		{"permission", &hook.Permission{Action: "x"}, true},
		{"interrupt is never refused", &hook.Interrupt{Mode: "immediate"}, false},
		{"run", &hook.RunInfo{}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			rec := &recorder{}
			reg := hook.New(hook.Config{Recorder: rec})
			err := reg.Register(hook.Registration{Name: "guard", Handler: hook.HandlerFunc(func(context.Context, hook.Event) error {
				return &hook.DeniedError{Reason: "not today"}
			})})
			if err != nil {
				t.Fatal(err)
			}
			called := false
			err = reg.Do(t.Context(), tt.payload, func(context.Context, *hook.Op) error { called = true; return nil })
			var denied *hook.DeniedError
			if errors.As(err, &denied) != tt.denied || called == tt.denied {
				t.Fatalf("Do = %v, called %v, want denied %v", err, called, tt.denied)
			}
			rec.checkPaired(t, 1)
			if tt.denied && (denied.By != "guard" || denied.Reason != "not today" || rec.last().Status != hook.Denied) {
				t.Errorf("denial = %+v with status %s", denied, rec.last().Status)
			}
		})
	}
}

// TestDeadlineReleasesCaller uses a handler that never returns.
func TestDeadlineReleasesCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		forever := make(chan struct{})
		reg := hook.New(hook.Config{})
		err := reg.Register(hook.Registration{Name: "stuck", Timeout: time.Second, Phases: []hook.Phase{hook.Start},
			Handler: hook.HandlerFunc(func(context.Context, hook.Event) error { <-forever; return nil })})
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		const calls = 20
		for range calls {
			if err := reg.Do(t.Context(), &hook.Tool{}, func(context.Context, *hook.Op) error { return nil }); err != nil {
				t.Fatal(err)
			}
		}
		// Eight stuck runs are tolerated, then the handler is passed over.
		if took := time.Since(start); took != 8*time.Second {
			t.Errorf("%d calls took %v, want 8s", calls, took)
		}
		s := reg.Stats()[0]
		if s.Timeouts != 8 || s.Skipped != calls-8 || s.Calls != calls {
			t.Errorf("stats = %+v, want 8 timeouts and %d skips", s, calls-8)
		}
		close(forever)
		synctest.Wait()
	})
}

func TestHandlerPanicAndErrorAreContained(t *testing.T) {
	var calls []hook.Call
	reg := hook.New(hook.Config{OnHandler: func(c hook.Call) { calls = append(calls, c) }})
	for name, f := range map[string]hook.HandlerFunc{
		"panics": func(context.Context, hook.Event) error { panic("x") },
		"fails":  func(context.Context, hook.Event) error { return errors.New("y") },
	} {
		if err := reg.Register(hook.Registration{Name: name, Handler: f, Phases: []hook.Phase{hook.End}}); err != nil {
			t.Fatal(err)
		}
	}
	if err := reg.Do(t.Context(), &hook.Tool{}, func(context.Context, *hook.Op) error { return nil }); err != nil {
		t.Fatal(err)
	}
	for _, s := range reg.Stats() {
		if s.Calls != 1 || s.Panics+s.Errors != 1 || s.LastError == "" {
			t.Errorf("stats = %+v", s)
		}
	}
	if len(calls) != 2 {
		t.Errorf("OnHandler was called %d times, want 2", len(calls))
	}
}

// TestHandlersGetCopies: a handler that changes its event changes nothing else.
func TestHandlersGetCopies(t *testing.T) {
	reg := hook.New(hook.Config{})
	for _, name := range []string{"a", "b"} {
		err := reg.Register(hook.Registration{Name: name, Handler: hook.HandlerFunc(func(_ context.Context, e hook.Event) error {
			c := e.Payload.(*hook.ModelCall)
			if c.Model != "m" || c.FinishReasons[0] != "stop" || *c.Temperature != 1 {
				t.Errorf("handler %s sees %+v", name, c)
			}
			c.Model, c.FinishReasons[0], *c.Temperature = "changed", "changed", 7
			return nil
		})})
		if err != nil {
			t.Fatal(err)
		}
	}
	temperature := 1.0
	call := &hook.ModelCall{Model: "m", FinishReasons: []string{"stop"}, Temperature: &temperature}
	if err := reg.Do(t.Context(), call, func(context.Context, *hook.Op) error { return nil }); err != nil {
		t.Fatal(err)
	}
	if call.Model != "m" || call.FinishReasons[0] != "stop" || *call.Temperature != 1 {
		t.Errorf("the producer's payload was changed: %+v", call)
	}
}

func TestKindsHaveNames(t *testing.T) {
	seen := make(map[string]bool)
	for _, k := range hook.Kinds() {
		if s := k.String(); s == "" || seen[s] {
			t.Errorf("kind %d has the name %q", k, s)
		}
		seen[k.String()] = true
	}
	if len(seen) != 15 {
		t.Errorf("%d kinds, want 15", len(seen))
	}
}

func ExampleRegistry_Do() {
	reg := hook.New(hook.Config{})
	_ = reg.Register(hook.Registration{Name: "watch", Handler: hook.HandlerFunc(func(_ context.Context, e hook.Event) error {
		fmt.Println(e.Kind(), e.Payload.Label(), e.Phase)
		return nil
	})})
	err := reg.Do(context.Background(), &hook.Tool{Name: "search"}, func(context.Context, *hook.Op) error { return nil })
	fmt.Println(err)
	// Output:
	// tool search start
	// tool search end
	// <nil>
}

func ExampleRegistry_Register() {
	reg := hook.New(hook.Config{})
	err := reg.Register(hook.Registration{
		Name: "no-shell", Kinds: []hook.Kind{hook.KindTool}, Phases: []hook.Phase{hook.Start},
		Handler: hook.HandlerFunc(func(_ context.Context, e hook.Event) error {
			if e.Payload.Label() == "shell" {
				return &hook.DeniedError{Reason: "shells are not allowed"}
			}
			return nil
		}),
	})
	fmt.Println(err)
	err = reg.Do(context.Background(), &hook.Tool{Name: "shell"}, func(context.Context, *hook.Op) error { return nil })
	fmt.Println(err)
	// Output:
	// <nil>
	// tool shell denied by no-shell: shells are not allowed
}
