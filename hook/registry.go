package hook

import (
	"context"
	"fmt"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kaizen-go/kaizen/internal/runctx"
	"github.com/kaizen-go/kaizen/redact"
)

// Recorder turns events into records. Its methods run on the goroutine of the
// operation, so they must be quick and must not block.
type Recorder interface {
	// Start is told that an operation begins, before any handler is. The
	// context it returns, with the operation's span in it, is the one that the
	// operation runs in. Neither event nor payload may be kept. A recorder that
	// reads the clock itself may set the event's Start and Time to what it read,
	// so that its records and the event tell the same.
	Start(ctx context.Context, e *Event) context.Context
	// End is told that the operation ended, with the context that Start
	// returned. Neither event nor payload may be kept. Unless the event is
	// [Event.Past], its Time may be set like that of the start.
	End(ctx context.Context, e *Event)
}

// Config tunes a [Registry]. The zero value records nothing.
type Config struct {
	// Recorder is told of every event. If nil, nobody is.
	Recorder Recorder
	// OnHandler is called after each run of a handler, for metrics. If nil, not.
	OnHandler func(Call)
}

// Registry announces operations to its recorder and handlers. A nil *Registry
// is valid: its operations run unobserved, at no cost. Its methods may be
// called at once from any number of goroutines.
type Registry struct {
	cfg    Config
	redact *redact.Redactor // for the texts that are kept of errors

	// handlers is replaced as a whole by Register and Unregister under mu.
	handlers atomic.Pointer[[]*registration]
	finders  atomic.Pointer[[]*finder] // likewise; nil for none
	mu       sync.Mutex
}

// New returns a registry without handlers.
func New(cfg Config) *Registry {
	r := &Registry{cfg: cfg, redact: redact.New(redact.Config{})}
	r.handlers.Store(&[]*registration{})
	return r
}

type (
	registryKey struct{}
	opKey       struct{}
)

// With returns a context whose operations are announced to r: see [From].
func With(ctx context.Context, r *Registry) context.Context {
	return context.WithValue(ctx, registryKey{}, r)
}

// From returns the registry that ctx carries, or nil, which is valid too.
func From(ctx context.Context) *Registry {
	r, _ := ctx.Value(registryKey{}).(*Registry)
	return r
}

// Current returns the innermost operation that ctx runs in, or nil.
func Current(ctx context.Context) *Op {
	op, _ := ctx.Value(opKey{}).(*Op)
	return op
}

// Op is an operation that has begun.
type Op struct {
	reg   *Registry
	ctx   opContext // what it runs in
	outer *Op       // the operation around it, nil at the top
	ended atomic.Bool
	event Event // the latest: told from here, it is no allocation of its own

	mu      sync.Mutex
	payload Payload
}

// opContext is the context that an operation runs in. It is a part of the Op,
// not an allocation of its own as context.WithValue makes.
type opContext struct {
	context.Context // what the operation was begun in, with its span
	op              *Op
}

// Value implements [context.Context].
func (c *opContext) Value(key any) any {
	if key == (opKey{}) {
		return c.op
	}
	return c.Context.Value(key)
}

// String names the context as those of package context do.
func (c *opContext) String() string { return fmt.Sprintf("%v.WithOp(%d)", c.Context, c.op.ID()) }

// lastID numbers the operations of the process: the ids of two registries must
// not collide where their events meet.
var lastID atomic.Uint64

// Begin announces that the operation p describes begins in ctx and returns the
// context to run it in. Whoever calls it has to call [Op.End]; [Registry.Do]
// does both. The Op is never nil, though it does nothing on a nil registry.
//
// An error is a [*DeniedError]: a handler refused. The operation has then ended
// already and must not be carried out.
func (r *Registry) Begin(ctx context.Context, p Payload) (context.Context, *Op, error) {
	return r.begin(ctx, new(Op), p)
}

// begin makes op, which is zero, the operation that p describes.
func (r *Registry) begin(ctx context.Context, op *Op, p Payload) (context.Context, *Op, error) {
	op.payload = p
	if r == nil {
		return ctx, op, nil
	}
	op.reg = r
	op.event.Op, op.event.Start, op.event.Payload = ID(lastID.Add(1)), time.Now(), p
	op.event.Run, _ = runctx.From(ctx)
	if op.outer = Current(ctx); op.outer != nil {
		op.event.Parent = op.outer.ID()
	}
	wanted := r.wanted(p.Kind(), Start)
	var e *Event
	if r.cfg.Recorder != nil || wanted {
		e = op.tell(Start, op.event.Start)
	}
	if r.cfg.Recorder != nil {
		ctx = r.cfg.Recorder.Start(ctx, e)
	}
	op.ctx = opContext{ctx, op}
	if !wanted {
		return &op.ctx, op, nil
	}
	if err := r.dispatch(&op.ctx, e); err != nil {
		op.End(err)
		return &op.ctx, op, err
	}
	return &op.ctx, op, nil
}

// Do announces the operation p, runs f in it and announces its end: also when f
// returns an error, is cancelled, or panics (the panic goes on after the end was
// recorded). It returns the error of f, or a [*DeniedError] without calling f.
func (r *Registry) Do(ctx context.Context, p Payload, f func(context.Context, *Op) error) error {
	ctx, op, err := r.Begin(ctx, p)
	if err != nil {
		return err
	}
	return op.run(ctx, f)
}

// run runs f in op and ends it.
func (op *Op) run(ctx context.Context, f func(context.Context, *Op) error) (err error) {
	defer func() {
		// A call of runtime.Goexit passes here with v nil and err nil: it ends
		// the operation like a return does.
		if v := recover(); v != nil {
			op.End(&PanicError{Value: v, Stack: debug.Stack()})
			panic(v)
		}
		op.End(err)
	}()
	return f(ctx, op)
}

// ID returns the operation's id, 0 on a nil registry.
func (op *Op) ID() ID { return op.event.Op }

// Kind returns the kind of the operation.
func (op *Op) Kind() Kind { return op.payload.Kind() }

// In returns ctx with op as its innermost operation, for a part of op that runs
// in a context of its own, such as a further attempt of a call.
func (op *Op) In(ctx context.Context) context.Context {
	if op.reg == nil {
		return ctx
	}
	return context.WithValue(ctx, opKey{}, op)
}

// Update lets f change the operation's payload, alone. After the end it has no
// effect on what was recorded.
func (op *Op) Update(f func(Payload)) {
	op.mu.Lock()
	defer op.mu.Unlock()
	f(op.payload)
}

// End announces that the operation ended with err, nil for success. Only the
// first call has an effect, so a deferred one may follow an explicit one.
func (op *Op) End(err error) { op.EndAt(err, time.Time{}) }

// EndAt is [Op.End] for an operation that was over before anybody could know
// it: a call whose last attempt had failed at that time, when no other followed.
// The zero time is now.
func (op *Op) EndAt(err error, at time.Time) {
	if op.ended.Swap(true) || op.reg == nil {
		return
	}
	if at.IsZero() {
		// By the clock that is never set, as OpenTelemetry's SDK does it; it is
		// also the cheaper one to read.
		at = op.event.Start.Add(time.Since(op.event.Start))
	} else {
		op.event.past = true
	}
	wanted := op.reg.wanted(op.payload.Kind(), End)
	if op.reg.cfg.Recorder == nil && !wanted {
		return
	}
	e := op.tell(End, at)
	e.Status, e.Err = StatusOf(err), err
	op.mu.Lock()
	if rec := op.reg.cfg.Recorder; rec != nil {
		rec.End(&op.ctx, e)
	}
	if wanted {
		e.Payload = e.Payload.copy() // an Update that comes too late must not race with a handler
	}
	op.mu.Unlock()
	if wanted {
		// The end is told to handlers also when the operation was cancelled, and
		// what has ended cannot be refused any more.
		_ = op.reg.dispatch(context.WithoutCancel(&op.ctx), e)
	}
}

// tell makes the event of a phase. Start is told to its end before End can be:
// only the owner of an operation that has begun may end it.
func (op *Op) tell(phase Phase, now time.Time) *Event {
	op.event.Phase, op.event.Time = phase, now
	return &op.event
}
