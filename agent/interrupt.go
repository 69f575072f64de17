package agent

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/kaizen-go/kaizen/hook"
	"github.com/kaizen-go/kaizen/internal/runctx"
)

// InterruptMode says how a run is interrupted.
type InterruptMode string

// The modes of [Agent.Interrupt].
const (
	// Graceful lets the present turn end, with its tools and those who work for
	// them. A run whose turn brings the answer has answered.
	Graceful InterruptMode = "graceful"
	// Immediate cancels the context of the run, with the [*InterruptedError] as
	// its cause, and so that of its model call, tools and workers.
	Immediate InterruptMode = "immediate"
)

// InterruptedError says that a run was interrupted. It wraps context.Canceled,
// so the run is recorded as cancelled.
type InterruptedError struct {
	Mode InterruptMode
	// Source and Reason say who interrupted it and why.
	Source, Reason string
	// RunID is the run that ended so. CheckpointID is where it can be resumed; ""
	// if checkpoints are not kept, or none could be saved.
	RunID, CheckpointID string
}

// Error says who interrupted the run, how and why.
func (e *InterruptedError) Error() string {
	return fmt.Sprintf("interrupted by %s (%s): %s", e.Source, e.Mode, e.Reason)
}

// Unwrap returns context.Canceled.
func (e *InterruptedError) Unwrap() error { return context.Canceled }

// ErrorType is the name of the error in records.
func (e *InterruptedError) ErrorType() string { return "interrupted" }

// control is how a run that goes on is reached from outside.
type control struct {
	ctx       context.Context // the run's: what is recorded belongs to it
	cancel    context.CancelCauseFunc
	recording sync.WaitGroup

	mu sync.Mutex
	by *InterruptedError // nil unless interrupted
}

// controls are the runs of an agent that go on. The zero value is ready.
type controls struct {
	mu   sync.Mutex
	runs map[*control]struct{}
}

// start enters a run, whose context it returns. The function ends it, once all
// interrupts of it are recorded.
func (cs *controls) start(ctx context.Context) (*control, func()) {
	c := &control{}
	c.ctx, c.cancel = context.WithCancelCause(ctx)
	cs.mu.Lock()
	defer cs.mu.Unlock()
	if cs.runs == nil {
		cs.runs = make(map[*control]struct{})
	}
	cs.runs[c] = struct{}{}
	return c, func() {
		cs.mu.Lock()
		delete(cs.runs, c)
		cs.mu.Unlock()
		c.recording.Wait()
		c.cancel(nil)
	}
}

// Interrupt ends the agent's present runs with an [*InterruptedError]: each is
// recorded as a hook.Interrupt, which no handler can deny, and returns how many
// they were. Runs that start later are not concerned, nor is one that was
// interrupted before, unless it was gracefully and now is immediately. A mode
// other than [Graceful] is [Immediate].
//
// It does not wait for the runs to end, so a tool may interrupt its own.
func (a *Agent) Interrupt(mode InterruptMode, source, reason string) int {
	if mode != Graceful {
		mode = Immediate
	}
	var hit []*control
	a.controls.mu.Lock()
	for c := range a.controls.runs {
		if c.mark(&InterruptedError{Mode: mode, Source: source, Reason: reason}) {
			hit = append(hit, c)
		}
	}
	a.controls.mu.Unlock()
	if mode == Immediate {
		for _, c := range hit { // first of all: recording takes its time
			c.cancel(c.interrupted())
		}
	}
	for _, c := range hit {
		c.record(&hook.Interrupt{Mode: string(mode), Source: source, Reason: reason})
	}
	return len(hit)
}

// mark notes the interrupt unless there is one that goes as far.
func (c *control) mark(by *InterruptedError) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.by != nil && (c.by.Mode == Immediate || by.Mode == Graceful) {
		return false
	}
	c.by = by
	c.recording.Add(1)
	return true
}

func (c *control) record(p *hook.Interrupt) {
	defer c.recording.Done()
	ctx := context.WithoutCancel(c.ctx)
	// An interrupt cannot be denied, so there is no error but that of the
	// function, which does nothing: the interrupt has happened.
	_ = hook.From(ctx).Do(ctx, p, func(context.Context, *hook.Op) error { return nil })
}

// interrupted returns the run's interrupt, or nil.
func (c *control) interrupted() *InterruptedError {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.by
}

// stopped is what becomes of a run that ended with err: what was cut off is
// saved, and an interrupt, of this run or one around it, is named.
func (a *Agent) stopped(ctx context.Context, t *task, err error) error {
	var by *InterruptedError
	if !errors.As(err, &by) && (ctx.Err() == nil || !errors.As(context.Cause(ctx), &by)) {
		if ctx.Err() != nil {
			return join(err, a.checkpointCut(ctx, t))
		}
		return err
	}
	saved := a.checkpointCut(ctx, t)
	run, _ := runctx.From(ctx)
	named := &InterruptedError{Mode: by.Mode, Source: by.Source, Reason: by.Reason, RunID: run.RunID}
	if saved == nil {
		named.CheckpointID = t.res.CheckpointID
	}
	if !errors.Is(err, context.Canceled) {
		saved = join(err, saved) // something went wrong at the same moment
	}
	return join(named, saved)
}

// join returns both errors on one line, or the first alone.
func join(err, more error) error {
	if more == nil {
		return err
	}
	return fmt.Errorf("%w; %w", err, more)
}

// stopReason is the word for why a run ended with err.
func stopReason(err error) string {
	var by *InterruptedError
	var budget *BudgetError
	switch {
	case errors.As(err, &by):
		return "interrupted"
	case errors.As(err, &budget):
		return "budget"
	case errors.Is(err, ErrMaxIterations):
		return "max_iterations"
	}
	return "error"
}
