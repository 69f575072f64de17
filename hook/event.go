// Package hook is the one place where things happen to an agent: each operation
// (a run, a model call, a tool, …) is announced as a typed event when it starts
// and exactly once when it ends. A [Recorder] turns events into spans, metrics,
// log lines and audit entries; [Handler]s of the user watch them, and may deny.
//
//	err := reg.Do(ctx, &hook.Tool{Name: "search"}, func(ctx context.Context, op *hook.Op) error {
//		return search(ctx)
//	})
//
// A handler is a function, or an executable of any language: see [Program] and
// [LoadPrograms]. [Log], [Cost] and [Profiler] are there to be registered.
package hook

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/kaizen-go/kaizen/internal/runctx"
)

// Run names the run that an event belongs to: see its fields.
type Run = runctx.Run

// Kind says what an operation is.
type Kind uint8

// The kinds of operation. Each has a payload type of the same name.
const (
	KindRun            Kind = iota + 1 // one run of an agent, from input to answer
	KindIteration                      // one turn of the agent's loop
	KindPlan                           // making a plan
	KindModelCall                      // one call of a model, over all its attempts
	KindTool                           // one call of a tool
	KindMemoryLoad                     // reading memory
	KindMemorySave                     // writing memory
	KindCheckpointSave                 // writing a checkpoint
	KindCheckpointLoad                 // reading a checkpoint
	KindPermission                     // deciding whether something may be done
	KindInterrupt                      // somebody stops a run
	KindSpecialist                     // one agent asks another and waits for its answer
	KindHandoff                        // one agent gives its task to another
	KindError                          // an error that no other operation carries
	KindGuard                          // a guard (loop, budget, anomaly) acted
	kindEnd
)

var kindNames = [kindEnd]string{
	KindRun: "run", KindIteration: "iteration", KindPlan: "plan", KindModelCall: "model", KindTool: "tool",
	KindMemoryLoad: "memory_load", KindMemorySave: "memory_save",
	KindCheckpointSave: "checkpoint_save", KindCheckpointLoad: "checkpoint_load",
	KindPermission: "permission", KindInterrupt: "interrupt", KindSpecialist: "specialist",
	KindHandoff: "handoff", KindError: "error", KindGuard: "guard",
}

// String returns the kind's name in lower case, such as "tool".
func (k Kind) String() string {
	if k == 0 || k >= kindEnd {
		return fmt.Sprintf("kind(%d)", uint8(k))
	}
	return kindNames[k]
}

// Kinds returns all kinds, in the order of their constants.
func Kinds() []Kind {
	ks := make([]Kind, 0, kindEnd-1)
	for k := KindRun; k < kindEnd; k++ {
		ks = append(ks, k)
	}
	return ks
}

// deniable reports whether a handler may refuse an operation of kind k. An
// interrupt is never refused: whoever stops an agent must be able to.
func (k Kind) deniable() bool {
	switch k {
	case KindTool, KindModelCall, KindHandoff, KindPermission:
		return true
	}
	return false
}

// Phase is the side of an operation that an event announces.
type Phase uint8

// The phases of an operation.
const (
	Start Phase = iota + 1
	End
)

// String returns "start" or "end".
func (p Phase) String() string {
	if p == Start {
		return "start"
	}
	return "end"
}

// Status is how an operation ended. It is a metric label and a span attribute.
type Status string

// The statuses of an ended operation.
const (
	OK        Status = "ok"
	Failed    Status = "error"
	Denied    Status = "denied"
	Cancelled Status = "cancelled"
)

// StatusOf returns the status that err stands for: nil is ok, a [*DeniedError]
// is denied, context.Canceled is cancelled, and all else is an error, a passed
// deadline included.
func StatusOf(err error) Status {
	if err == nil {
		return OK
	}
	if _, ok := errors.AsType[*DeniedError](err); ok {
		return Denied
	}
	if errors.Is(err, context.Canceled) {
		return Cancelled
	}
	return Failed
}

// DeniedError says that an operation was refused before it began.
type DeniedError struct {
	// Kind and Name say what was refused, By who refused it.
	Kind Kind
	Name string
	By   string
	// Reason is for a person and for the model to read.
	Reason string
}

// Error names the operation, who refused it and why.
func (e *DeniedError) Error() string {
	return fmt.Sprintf("%s %s denied by %s: %s", e.Kind, e.Name, e.By, e.Reason)
}

// PanicError is the error of an operation that panicked.
type PanicError struct {
	// Value is what was passed to panic.
	Value any
	// Stack is the stack of the goroutine that panicked.
	Stack []byte
}

// Error returns the panic's value as text.
func (e *PanicError) Error() string { return fmt.Sprintf("panic: %v", e.Value) }

// Unwrap returns the panic's value when it is an error.
func (e *PanicError) Unwrap() error {
	err, _ := e.Value.(error)
	return err
}

// ID names an operation within its process. Start and end of one operation
// carry the same ID, and no two operations share one.
type ID uint64

// Event announces the start or the end of one operation.
type Event struct {
	// Op names the operation, Parent the one around it (0 at the top).
	Op, Parent ID
	Phase      Phase
	// Time is when the phase began; Start when the operation did.
	Time, Start time.Time
	// Run is the run that the operation belongs to. The run's own operation
	// carries its own ids.
	Run Run
	// Payload says what the operation is about. At the end it also holds what
	// came of it. Handlers get a copy of their own.
	Payload Payload
	// Status and Err are set at the end only.
	Status Status
	Err    error

	past bool
}

// Past reports whether the operation was over before its end was told: see
// [Op.EndAt].
func (e Event) Past() bool { return e.past }

// Kind returns the kind of operation that the event is about.
func (e Event) Kind() Kind { return e.Payload.Kind() }

// Duration returns how long the operation took; zero at its start.
func (e Event) Duration() time.Duration { return e.Time.Sub(e.Start) }
