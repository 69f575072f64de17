package agent

import (
	"context"
	"fmt"
	"time"

	"github.com/kaizen-go/kaizen/hook"
	"github.com/kaizen-go/kaizen/internal/runctx"
	"github.com/oklog/ulid/v2"
)

// detachedTimeout is how long a memory or a store of checkpoints may take for
// what is written after the run's own context is done.
const detachedTimeout = 10 * time.Second

// detached returns a context for writing down what happened, though whoever
// asked for it has gone.
func detached(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), detachedTimeout)
}

// task is one run of an agent on its way. It belongs to the run's goroutine.
type task struct {
	res *Result
	// remembered is how many of the first messages came from memory.
	remembered int
}

// Run lets the agent work on input until it answers. The result is not nil when
// the run began, also beside an error.
func (a *Agent) Run(ctx context.Context, input string) (*Result, error) {
	return a.run(ctx, input, func(ctx context.Context, res *Result) (string, error) {
		t := &task{res: res}
		if err := a.begin(ctx, t, input); err != nil {
			return "error", err
		}
		return a.work(ctx, t)
	})
}

// run is one observed run of whatever work does: an agent's loop, or a team's.
// work returns why it stopped.
func (o *observed) run(ctx context.Context, input string, work func(context.Context, *Result) (string, error)) (*Result, error) {
	outer, _ := runctx.From(ctx)
	run := outer
	run.RunID, run.ParentRunID = ulid.Make().String(), outer.RunID
	run.AgentID, run.AgentName = o.id, o.name
	ctx = runctx.With(ctx, run)
	ctx = o.attach(ctx)
	reg := hook.From(ctx)

	res := &Result{RunID: run.RunID}
	info := &hook.RunInfo{Input: input}
	err := reg.Do(ctx, info, func(ctx context.Context, op *hook.Op) error {
		stop, err := work(ctx, res)
		op.Update(func(hook.Payload) {
			info.Output, info.Iterations, info.StopReason = res.Output, res.Iterations, stop
			info.Usage, info.CostNanoUSD = res.Usage, res.CostNanoUSD
		})
		return err
	})
	if err != nil {
		return res, fmt.Errorf("agent: run %s: %w", o.name, err)
	}
	return res, nil
}

// begin sets up the conversation of a new run.
func (a *Agent) begin(ctx context.Context, t *task, input string) error {
	before, err := a.recall(ctx)
	if err != nil {
		return err
	}
	t.remembered = len(before)
	t.res.Messages = append(before, Message{Role: User, Text: input})
	return nil
}

// work is the run from its first turn to what is remembered of it.
func (a *Agent) work(ctx context.Context, t *task) (stop string, err error) {
	if stop, err = a.loop(ctx, t); err != nil {
		return stop, err
	}
	return stop, a.remember(ctx, t.res.Messages[t.remembered:])
}

// loop takes turns until the model answers without asking for a tool.
func (a *Agent) loop(ctx context.Context, t *task) (stop string, err error) {
	reg := hook.From(ctx)
	for t.res.Iterations < a.cfg.MaxIterations {
		t.res.Iterations++
		var answered bool
		err := reg.Do(ctx, &hook.Iteration{Number: t.res.Iterations}, func(ctx context.Context, _ *hook.Op) error {
			answered, err = a.turn(ctx, t.res)
			return err
		})
		if err != nil {
			return "error", err
		}
		if answered {
			return "answer", nil
		}
	}
	return "max_iterations", ErrMaxIterations
}

// turn asks the model once and carries out what it asks for.
func (a *Agent) turn(ctx context.Context, res *Result) (answered bool, err error) {
	resp, err := a.ask(ctx, res)
	if err != nil {
		return false, err
	}
	res.Messages = append(res.Messages, resp.Message)
	if len(resp.Message.ToolCalls) == 0 {
		res.Output = resp.Message.Text
		return true, nil
	}
	results := a.callTools(ctx, resp.Message.ToolCalls, res)
	res.Messages = append(res.Messages, Message{Role: ToolRole, ToolResults: results})
	return false, ctx.Err()
}
