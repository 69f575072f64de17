package hook

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"sync/atomic"
	"time"
)

// Handler watches events. Handle gets a copy of its own of the event, so it may
// keep and change it.
//
// Returning a [*DeniedError] from the start of a tool, model call, handoff or
// permission refuses the operation; from anything else it is an error like any
// other: counted, and otherwise without effect.
type Handler interface {
	Handle(ctx context.Context, e Event) error
}

// HandlerFunc lets a function be a [Handler].
type HandlerFunc func(ctx context.Context, e Event) error

// Handle calls f.
func (f HandlerFunc) Handle(ctx context.Context, e Event) error { return f(ctx, e) }

// Priority orders handlers: lower ones run first, equal ones in the order of
// their registration.
type Priority int

// The usual priorities.
const (
	Critical Priority = -20
	High     Priority = -10
	Normal   Priority = 0
	Low      Priority = 10
)

// DefaultTimeout is how long a handler may keep its caller.
const DefaultTimeout = 500 * time.Millisecond

// builtinTimeout is that of handlers of ours that wait for nothing. They miss
// the default only on a machine that stands still, and then a sum that is read
// next would be short.
const builtinTimeout = time.Minute

// maxStuck is how many runs of one handler may be past their deadline at once
// before it is called no more: each holds a goroutine that cannot be ended from
// outside. From then on the handler is passed over, which is counted, until one
// of those runs returns. Runs within their deadline do not count, however many.
const maxStuck = 8

// Registration says how a handler is called.
type Registration struct {
	// Name names the handler in statistics and metrics. It must be unique.
	Name    string
	Handler Handler
	// Kinds and Phases select events; none means all.
	Kinds  []Kind
	Phases []Phase
	// Priority is Normal if zero.
	Priority Priority
	// Timeout is how long the handler may keep its caller; [DefaultTimeout] if
	// zero. A handler that takes longer goes on alone: its verdict comes too
	// late and is dropped.
	Timeout time.Duration
}

// Errors of [Registry.Register].
var (
	ErrDuplicate = errors.New("a handler of this name is registered")
	ErrInvalid   = errors.New("a handler needs a name and a function")
)

// Outcome says how one run of a handler ended. It is a metric label.
type Outcome string

// The outcomes of a handler's run.
const (
	OutcomeOK      Outcome = "ok"
	OutcomeError   Outcome = "error"
	OutcomeDenied  Outcome = "denied"
	OutcomePanic   Outcome = "panic"
	OutcomeTimeout Outcome = "timeout"
	OutcomeSkipped Outcome = "skipped" // too many of its runs are stuck
)

// Call describes one run of a handler.
type Call struct {
	Handler  string
	Kind     Kind
	Phase    Phase
	Outcome  Outcome
	Duration time.Duration
}

// Stats counts the runs of one handler since its registration.
type Stats struct {
	Name                                              string
	Calls, Errors, Denials, Panics, Timeouts, Skipped int64
	// Total and Max are the time that callers waited for the handler.
	Total, Max time.Duration
	// LastError is the text of its latest failure or denial, redacted; "" when
	// it had none.
	LastError string
}

type registration struct {
	Registration
	stuck atomic.Int32

	calls, errors, denials, panics, timeouts, skipped atomic.Int64
	total, max                                        atomic.Int64
	lastError                                         atomic.Pointer[string]
}

// Register adds a handler. It fails with [ErrInvalid] or [ErrDuplicate].
func (r *Registry) Register(reg Registration) error {
	if reg.Name == "" || reg.Handler == nil {
		return fmt.Errorf("hook: register %q: %w", reg.Name, ErrInvalid)
	}
	if reg.Timeout <= 0 {
		reg.Timeout = DefaultTimeout
	}
	reg.Kinds, reg.Phases = slices.Clone(reg.Kinds), slices.Clone(reg.Phases)

	r.mu.Lock()
	defer r.mu.Unlock()
	old := *r.handlers.Load()
	for _, h := range old {
		if h.Name == reg.Name {
			return fmt.Errorf("hook: register %q: %w", reg.Name, ErrDuplicate)
		}
	}
	hs := append(slices.Clone(old), &registration{Registration: reg})
	slices.SortStableFunc(hs, func(a, b *registration) int { return cmp.Compare(a.Priority, b.Priority) })
	r.handlers.Store(&hs)
	return nil
}

// Unregister removes the handler of that name and reports whether there was one.
func (r *Registry) Unregister(name string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	old := *r.handlers.Load()
	hs := slices.DeleteFunc(slices.Clone(old), func(h *registration) bool { return h.Name == name })
	r.handlers.Store(&hs)
	return len(hs) < len(old)
}

// Stats returns the statistics of all handlers, in the order in which they run.
func (r *Registry) Stats() []Stats {
	if r == nil {
		return nil
	}
	var out []Stats
	for _, h := range *r.handlers.Load() {
		s := Stats{
			Name: h.Name, Calls: h.calls.Load(), Errors: h.errors.Load(), Denials: h.denials.Load(),
			Panics: h.panics.Load(), Timeouts: h.timeouts.Load(), Skipped: h.skipped.Load(),
			Total: time.Duration(h.total.Load()), Max: time.Duration(h.max.Load()),
		}
		if e := h.lastError.Load(); e != nil {
			s.LastError = *e
		}
		out = append(out, s)
	}
	return out
}

// wanted reports whether a handler wants events of that kind and phase.
func (r *Registry) wanted(k Kind, p Phase) bool {
	for _, h := range *r.handlers.Load() {
		if h.wants(k, p) {
			return true
		}
	}
	return false
}

// dispatch runs the handlers of e in their order. The first that refuses ends
// it, with its [*DeniedError].
func (r *Registry) dispatch(ctx context.Context, e *Event) error {
	for _, h := range *r.handlers.Load() {
		if !h.wants(e.Kind(), e.Phase) {
			continue
		}
		err := r.call(ctx, h, e)
		if err == nil {
			continue
		}
		denied, ok := errors.AsType[*DeniedError](err)
		if !ok || e.Phase != Start || !e.Kind().deniable() {
			continue
		}
		d := *denied
		d.Kind, d.Name, d.By = e.Kind(), e.Payload.Label(), h.Name
		return &d
	}
	return nil
}

func (h *registration) wants(k Kind, p Phase) bool {
	return (len(h.Kinds) == 0 || slices.Contains(h.Kinds, k)) &&
		(len(h.Phases) == 0 || slices.Contains(h.Phases, p))
}

// A handlerRun is one run of a handler, on a goroutine of its own.
type handlerRun struct {
	h    *registration
	ctx  context.Context
	e    Event
	done chan error
	// left is set by whoever comes first: the handler that returns, or the
	// caller that stops waiting for it. The second knows that the other is gone.
	left atomic.Bool
}

func (run *handlerRun) do() {
	defer func() {
		if v := recover(); v != nil {
			run.done <- &PanicError{Value: v, Stack: debug.Stack()}
		}
		if run.left.Swap(true) {
			run.h.stuck.Add(-1)
		}
	}()
	run.done <- run.h.Handler.Handle(run.ctx, run.e)
}

// call runs h on a goroutine of its own, so that its deadline releases the
// caller from a handler that never returns.
func (r *Registry) call(ctx context.Context, h *registration, e *Event) error {
	if h.stuck.Load() >= maxStuck {
		h.skipped.Add(1)
		r.note(h, e, OutcomeSkipped, 0, nil)
		return nil
	}
	start := time.Now()
	hctx, cancel := context.WithTimeout(ctx, h.Timeout)
	defer cancel()
	run := &handlerRun{h: h, ctx: hctx, e: *e, done: make(chan error, 1)}
	run.e.Payload = e.Payload.copy()
	go run.do()
	err, ok := run.wait(start.Add(h.Timeout))
	took := time.Since(start)
	if !ok {
		r.note(h, e, OutcomeTimeout, took, fmt.Errorf("no answer within %v", h.Timeout))
		return nil
	}
	r.note(h, e, outcomeOf(err), took, err)
	return err
}

// wait returns the handler's error, and false when it has none until deadline.
func (run *handlerRun) wait(deadline time.Time) (error, bool) {
	select {
	case err := <-run.done:
		return err, true
	case <-run.ctx.Done():
	}
	// A caller who was cancelled before the deadline still waits for the
	// verdict: the handler knows of it and can hurry.
	if left := time.Until(deadline); left > 0 {
		timer := time.NewTimer(left)
		defer timer.Stop()
		select {
		case err := <-run.done:
			return err, true
		case <-timer.C:
		}
	}
	// Counted first: the handler may return at once and take it back.
	run.h.stuck.Add(1)
	if run.left.Swap(true) {
		run.h.stuck.Add(-1)
	}
	select {
	case err := <-run.done: // just in time
		return err, true
	default:
		return nil, false
	}
}

func outcomeOf(err error) Outcome {
	if err == nil {
		return OutcomeOK
	}
	if _, ok := errors.AsType[*PanicError](err); ok {
		return OutcomePanic
	}
	if _, ok := errors.AsType[*DeniedError](err); ok {
		return OutcomeDenied
	}
	return OutcomeError
}

func (r *Registry) note(h *registration, e *Event, out Outcome, took time.Duration, err error) {
	h.calls.Add(1)
	h.total.Add(int64(took))
	for m := h.max.Load(); int64(took) > m && !h.max.CompareAndSwap(m, int64(took)); m = h.max.Load() {
	}
	switch out {
	case OutcomeError:
		h.errors.Add(1)
	case OutcomeDenied:
		h.denials.Add(1)
	case OutcomePanic:
		h.panics.Add(1)
	case OutcomeTimeout:
		h.timeouts.Add(1)
	}
	if err != nil {
		text := r.redact.String(err.Error()) // a handler's error may quote what it was given
		h.lastError.Store(&text)
	}
	if r.cfg.OnHandler != nil {
		r.cfg.OnHandler(Call{Handler: h.Name, Kind: e.Kind(), Phase: e.Phase, Outcome: out, Duration: took})
	}
}
