package agent

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/kaizen-go/kaizen/genai"
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
	res     *Result
	start   time.Time
	control *control
	// meter holds the run to its budget and those around it; nil without any.
	meter *meter
	// step counts the turns, those of the runs that this one resumes included.
	step int
	// remembered is how many of the first messages came from memory.
	remembered int
	// carried is what the runs that this one resumes used.
	carried Spent
	// saved says how far the last checkpoint goes: see recorded.
	saved int
	// cut has the ids of the calls of tools that were cut off in the last turn.
	cut map[string]bool
}

// spent is what the run used so far, and those that it resumes.
func (t *task) spent() Spent {
	return Spent{
		Usage:       t.carried.Usage.Add(t.res.Usage),
		CostNanoUSD: t.carried.CostNanoUSD + t.res.CostNanoUSD,
		ModelCalls:  t.carried.ModelCalls + t.res.ModelCalls,
		Duration:    t.carried.Duration + time.Since(t.start),
	}
}

// Run lets the agent work on input until it answers. The result is not nil when
// the run began, also beside an error.
func (a *Agent) Run(ctx context.Context, input string) (*Result, error) {
	return a.run(ctx, input, func(ctx context.Context, res *Result) (string, error) {
		return a.work(ctx, &task{res: res}, func(ctx context.Context, t *task) (context.Context, error) {
			return ctx, a.begin(ctx, t, input)
		})
	})
}

// run is one observed run of whatever work does: an agent's loop, or a team's.
// work returns why it stopped.
func (o *observed) run(ctx context.Context, input string, work func(context.Context, *Result) (string, error)) (*Result, error) {
	outer, _ := runctx.From(ctx)
	run := outer
	run.RunID, run.ParentRunID = ulid.Make().String(), outer.RunID
	run.AgentID, run.AgentName = o.id, o.name
	if asked := genai.SessionFrom(ctx); outer.RunID == "" { // a run that another process asked for
		run.SessionID, run.UserID = cmp.Or(run.SessionID, asked.ID), cmp.Or(run.UserID, asked.User)
	}
	ctx = runctx.With(ctx, run)
	ctx = o.attach(ctx)
	reg := hook.From(ctx)

	res := &Result{RunID: run.RunID}
	info := &hook.RunInfo{Input: input}
	err := reg.Do(ctx, info, func(ctx context.Context, op *hook.Op) error {
		stop, err := work(ctx, res)
		op.Update(func(hook.Payload) {
			info.Output, info.Iterations, info.StopReason = res.Output, res.Iterations, stop
			info.Usage, info.CostNanoUSD, info.ResumedFrom = res.Usage, res.CostNanoUSD, res.ResumedFrom
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

// work is the run from its first turn to what is remembered of it. prepare sets
// up the conversation.
func (a *Agent) work(ctx context.Context, t *task, prepare func(context.Context, *task) (context.Context, error)) (stop string, err error) {
	t.start = time.Now()
	control, end := a.controls.start(ctx)
	defer end()
	t.control = control
	ctx, err = prepare(control.ctx, t)
	if err == nil {
		ctx = a.metered(ctx, t)
		err = a.loop(ctx, t)
	}
	if err != nil {
		err = a.stopped(ctx, t, err)
		return stopReason(err), err
	}
	if err := a.remember(ctx, t.res.Messages[t.remembered:]); err != nil {
		return "error", err
	}
	return "answer", nil
}

// loop takes turns until the model answers without asking for a tool.
func (a *Agent) loop(ctx context.Context, t *task) error {
	if a.cfg.Plan && t.res.ResumedFrom == "" {
		if err := a.plan(ctx, t); err != nil {
			return err
		}
	}
	reg := hook.From(ctx)
	for {
		if by := t.control.interrupted(); by != nil {
			return by
		}
		if t.step >= a.cfg.MaxIterations {
			return ErrMaxIterations
		}
		t.res.Iterations++
		var answered bool
		err := reg.Do(ctx, &hook.Iteration{Number: t.step + 1}, func(ctx context.Context, _ *hook.Op) (err error) {
			answered, err = a.turn(ctx, t)
			return err
		})
		if err != nil {
			return err
		}
		t.step++
		if err := a.checkpoint(ctx, t, answered); err != nil || answered {
			return err
		}
	}
}

// turn asks the model once and carries out what it asks for; or what it has
// asked for already, in a run that is resumed.
func (a *Agent) turn(ctx context.Context, t *task) (answered bool, err error) {
	calls, before := t.pending()
	if len(calls) == 0 {
		resp, err := a.ask(ctx, t, a.request(t), a.cfg.Stream)
		if err != nil {
			return false, err
		}
		if a.cfg.Checkpoints != nil {
			resp.Message.ToolCalls = identified(resp.Message.ToolCalls)
		}
		t.res.Messages = append(t.res.Messages, resp.Message)
		if len(resp.Message.ToolCalls) == 0 {
			t.res.Output = resp.Message.Text
			return true, nil
		}
		calls, before = resp.Message.ToolCalls, len(t.res.Messages)
	}
	results := a.callTools(ctx, calls, t)
	if before < len(t.res.Messages) { // some are known from before
		results = inOrder(t.res.Messages[before-1].ToolCalls, append(t.res.Messages[before].ToolResults, results...))
		t.res.Messages = t.res.Messages[:before]
	}
	t.res.Messages = append(t.res.Messages, Message{Role: ToolRole, ToolResults: results})
	return false, ctx.Err()
}

// inOrder returns results in the order of their calls.
func inOrder(calls []ToolCall, results []ToolResult) []ToolResult {
	rank := make(map[string]int, len(calls))
	for i, c := range calls {
		rank[c.ID] = i
	}
	slices.SortStableFunc(results, func(a, b ToolResult) int { return rank[a.ID] - rank[b.ID] })
	return results
}

// request is what the model is asked next.
func (a *Agent) request(t *task) Request {
	return Request{
		System: a.system(t), Messages: t.res.Messages, Tools: a.specs,
		MaxTokens: a.cfg.MaxTokens, Temperature: a.cfg.Temperature,
	}
}

// identified gives ids to calls that have none, or one of another call: without
// them a checkpoint could not say which of the calls have a result.
func identified(calls []ToolCall) []ToolCall {
	calls = slices.Clone(calls)
	seen := make(map[string]bool, len(calls))
	for i := range calls {
		if calls[i].ID == "" || seen[calls[i].ID] {
			calls[i].ID = "call_" + ulid.Make().String()
		}
		seen[calls[i].ID] = true
	}
	return calls
}
