package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/kaizen-go/kaizen/hook"
	"github.com/kaizen-go/kaizen/internal/runctx"
	"github.com/kaizen-go/kaizen/price"
)

// Errors of checkpoints.
var (
	// ErrNoCheckpoint says that there is no such checkpoint.
	ErrNoCheckpoint = errors.New("no such checkpoint")
	// ErrFinished says that a run had answered by the time of its checkpoint.
	ErrFinished = errors.New("the run has answered")
	// ErrOtherAgent says that a checkpoint is another agent's.
	ErrOtherAgent = errors.New("the checkpoint is another agent's")
)

// Checkpoint is a run on its way: all that is needed to go on with it.
type Checkpoint struct {
	// ID is given by the store.
	ID   string    `json:"id,omitempty"`
	Time time.Time `json:"time"`
	// AgentID, RunID, SessionID and UserID name whose it is.
	AgentID   string `json:"agent_id"`
	RunID     string `json:"run_id"`
	SessionID string `json:"session_id,omitempty"`
	UserID    string `json:"user_id,omitempty"`
	// Step counts the turns that were taken, in the runs before this one too if
	// it was resumed itself.
	Step int `json:"step"`
	// Messages is the conversation, of which the first Remembered came from
	// memory. The last turn may lack results of tools: those calls are made when
	// the run is resumed.
	Messages   []Message `json:"messages"`
	Remembered int       `json:"remembered,omitempty"`
	// Plan has the steps that the run was planned with.
	Plan []string `json:"plan,omitempty"`
	// Spent is what the run, and those that it resumed, used so far.
	Spent Spent `json:"spent"`
	// Answered is true after the last turn.
	Answered bool `json:"answered,omitempty"`
}

// Spent is what runs used.
type Spent struct {
	Usage       price.Usage   `json:"usage"`
	CostNanoUSD int64         `json:"cost_nano_usd"`
	ModelCalls  int64         `json:"model_calls"`
	Duration    time.Duration `json:"duration_ns"`
}

// Checkpoints keeps checkpoints. Its methods may be called at once from several
// goroutines. [FileCheckpoints] is one.
type Checkpoints interface {
	// Save keeps c, whose ID is empty, and returns its id and size. An id beside
	// an error says that it is kept all the same.
	Save(ctx context.Context, c Checkpoint) (id string, sizeBytes int64, err error)
	// Load returns the checkpoint of that id, with its ID set, and its size. The
	// error is [ErrNoCheckpoint] if there is none.
	Load(ctx context.Context, id string) (c Checkpoint, sizeBytes int64, err error)
	// Latest returns the id of the checkpoint of that agent which was saved last,
	// or [ErrNoCheckpoint].
	Latest(ctx context.Context, agentID string) (id string, err error)
}

// CheckpointError says that a checkpoint could not be saved or gone on from.
type CheckpointError struct {
	// Op is "save" or "resume", ID the checkpoint's when known.
	Op, ID string
	Err    error
}

// Error says what was attempted and why it failed.
func (e *CheckpointError) Error() string {
	if e.ID == "" {
		return fmt.Sprintf("checkpoint: %s: %v", e.Op, e.Err)
	}
	return fmt.Sprintf("checkpoint: %s %s: %v", e.Op, e.ID, e.Err)
}

// Unwrap returns the cause.
func (e *CheckpointError) Unwrap() error { return e.Err }

// Resume goes on with the run that a checkpoint was taken of, as a run with an
// id of its own: [Result.ResumedFrom] is the old one. Tools whose results are
// recorded are not called again; one that was cut off half-way is, and after a
// crash the whole turn that was under way. Turns and budget are counted on from
// where they were.
//
// It takes the session and user of the checkpoint unless ctx names others. (The
// run's own record has them only from ctx, as it begins before the checkpoint is
// read.) The error is a [*CheckpointError] if there are no checkpoints, or none of that id
// ([ErrNoCheckpoint]), or it cannot be gone on from ([ErrFinished],
// [ErrOtherAgent]).
func (a *Agent) Resume(ctx context.Context, checkpointID string) (*Result, error) {
	return a.run(ctx, "", func(ctx context.Context, res *Result) (string, error) {
		return a.work(ctx, &task{res: res}, func(ctx context.Context, t *task) (context.Context, error) {
			return a.restore(ctx, t, checkpointID)
		})
	})
}

// restore sets up t as the checkpoint says.
func (a *Agent) restore(ctx context.Context, t *task, id string) (context.Context, error) {
	if a.cfg.Checkpoints == nil {
		return ctx, &CheckpointError{Op: "resume", ID: id, Err: ErrNoCheckpoint}
	}
	var c Checkpoint
	p := &hook.CheckpointLoad{CheckpointID: id}
	err := hook.From(ctx).Do(ctx, p, func(ctx context.Context, op *hook.Op) error {
		var size int64
		var err error
		if c, size, err = a.cfg.Checkpoints.Load(ctx, id); err == nil {
			err = a.accepts(c)
		}
		op.Update(func(hook.Payload) { p.Step, p.SizeBytes = c.Step, size })
		return err
	})
	if err != nil {
		return ctx, &CheckpointError{Op: "resume", ID: id, Err: err}
	}
	t.step, t.remembered, t.carried = c.Step, c.Remembered, c.Spent
	t.res.Messages, t.res.Plan = c.Messages, c.Plan
	t.res.ResumedFrom, t.res.CheckpointID = c.RunID, id
	t.saved = recorded(c.Messages)
	run, _ := runctx.From(ctx)
	if run.SessionID == "" && run.UserID == "" {
		run.SessionID, run.UserID = c.SessionID, c.UserID
	}
	return runctx.With(ctx, run), nil
}

// accepts reports why the agent cannot go on from c.
func (a *Agent) accepts(c Checkpoint) error {
	switch {
	case c.AgentID != a.id:
		return fmt.Errorf("%w: %s", ErrOtherAgent, c.AgentID)
	case c.Answered:
		return ErrFinished
	case len(c.Messages) == 0 || c.Remembered < 0 || c.Remembered > len(c.Messages) || c.Step < 0:
		return errors.New("it makes no sense")
	}
	return nil
}

// checkpoint saves where the run is, if checkpoints are asked for.
func (a *Agent) checkpoint(ctx context.Context, t *task, answered bool) error {
	if a.cfg.Checkpoints == nil {
		return nil
	}
	run, _ := runctx.From(ctx)
	messages := t.known()
	c := Checkpoint{
		Time: time.Now().UTC(), AgentID: run.AgentID, RunID: run.RunID, SessionID: run.SessionID, UserID: run.UserID,
		Step: t.step, Messages: cloneMessages(messages), Remembered: t.remembered, Plan: slices.Clone(t.res.Plan),
		Spent: t.spent(), Answered: answered,
	}
	ctx, cancel := detached(ctx)
	defer cancel()
	p := &hook.CheckpointSave{Step: t.step}
	err := hook.From(ctx).Do(ctx, p, func(ctx context.Context, op *hook.Op) error {
		id, size, err := a.cfg.Checkpoints.Save(ctx, c)
		op.Update(func(hook.Payload) { p.CheckpointID, p.SizeBytes = id, size })
		if id != "" { // also beside an error of tidying up
			t.res.CheckpointID, t.saved = id, recorded(messages)
		}
		return err
	})
	if err != nil {
		return &CheckpointError{Op: "save", ID: p.CheckpointID, Err: err}
	}
	return nil
}

// checkpointCut saves a run that was cut off within a turn, as far as there is
// something to save that the last checkpoint lacks.
func (a *Agent) checkpointCut(ctx context.Context, t *task) error {
	if len(t.res.Messages) == 0 || t.res.CheckpointID != "" && recorded(t.known()) == t.saved {
		return nil
	}
	return a.checkpoint(ctx, t, false)
}

// recorded counts the messages and results of tools: both only ever grow.
func recorded(ms []Message) int {
	n := len(ms)
	for _, m := range ms {
		n += len(m.ToolResults)
	}
	return n
}

// known returns the conversation without results of tools that only say that
// the call was cut off.
func (t *task) known() []Message {
	ms := t.res.Messages
	if len(t.cut) == 0 {
		return ms
	}
	last := ms[len(ms)-1]
	last.ToolResults = slices.DeleteFunc(slices.Clone(last.ToolResults), func(r ToolResult) bool { return t.cut[r.ID] })
	ms = slices.Clone(ms[:len(ms)-1])
	if len(last.ToolResults) > 0 {
		ms = append(ms, last)
	}
	return ms
}

// pending returns the calls of tools that the last turn asked for and that have
// no result yet, and how many messages come before their results.
func (t *task) pending() (calls []ToolCall, before int) {
	ms := t.res.Messages
	before = len(ms)
	var have []ToolResult
	if before > 0 && ms[before-1].Role == ToolRole {
		before--
		have = ms[before].ToolResults
	}
	if before == 0 || ms[before-1].Role != Assistant {
		return nil, before
	}
	for _, c := range ms[before-1].ToolCalls {
		if !slices.ContainsFunc(have, func(r ToolResult) bool { return r.ID == c.ID }) {
			calls = append(calls, c)
		}
	}
	return calls, before
}
