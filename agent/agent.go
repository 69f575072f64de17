// Package agent is a small runtime for AI agents that is observed in one call.
//
//	a, err := agent.New(agent.Config{Name: "helper", Model: model, Tools: tools})
//	obs, err := a.EnableObservability(ctx, kaizen.Config{})
//	defer a.Close(ctx)
//	result, err := a.Run(ctx, "What is the weather in Lima?")
//
// An agent remembers sessions ([Memory]), can be stopped ([Agent.Interrupt]) and
// go on later ([Checkpoints], [Agent.Resume]), asks before it acts
// ([Permission]), plans, and keeps to a [Budget]: each if its [Config] says so.
//
// Everything that an agent does is announced through package hook, which costs
// nothing until somebody observes. Agents work together as supervisor and
// workers ([AsTool]), as voters ([Consensus]) and in a row ([Chain]); each such
// team is one trace.
package agent

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/kaizen-go/kaizen/price"
)

// DefaultMaxIterations is how many turns an agent takes before it gives up.
const DefaultMaxIterations = 16

// ErrMaxIterations says that an agent took all its turns without an answer.
var ErrMaxIterations = errors.New("no answer within the allowed iterations")

// Config describes an [Agent]. Name and Model are needed.
type Config struct {
	// Name is what people call the agent. It is a metric label, so there
	// should be few of them.
	Name string
	// ID tells agents of the same name apart. If empty, it is the name.
	ID    string
	Model Model
	// System is the agent's instructions.
	System string
	Tools  []Tool
	// Permit decides whether a tool may be called. If nil, every one may.
	Permit func(ctx context.Context, call ToolCall) Permission
	// Ask decides where the answer of Permit is to ask, usually by asking a
	// person. Its context ends when the time is over or the run is; it should
	// return then. by and reason are recorded. It may be called at once for
	// several calls. If nil, such calls are denied.
	Ask func(ctx context.Context, call ToolCall) (allow bool, by, reason string)
	// AskTimeout is how long Ask may take; [DefaultAskTimeout] if zero. A call
	// without an answer in time is denied, with the reason "timeout".
	AskTimeout time.Duration
	// MaxIterations is [DefaultMaxIterations] if zero.
	MaxIterations int
	// MaxTokens and Temperature are handed to the model; its defaults if unset.
	MaxTokens   int
	Temperature *float64
	// Stream asks for streamed answers if the model can; OnChunk gets them.
	Stream  bool
	OnChunk func(Chunk) error
	// Memory keeps the conversation between the runs of a session: the one that
	// the context of a run names (kaizen.WithRun). What a run added is saved when
	// it has answered. A memory that fails ends the run with a [*MemoryError]. If
	// nil, or without a session, each run begins anew.
	Memory Memory
	// Checkpoints keeps where a run is after each turn, and when it is cut off
	// within one, for [Agent.Resume]. If one cannot be saved the run ends with a
	// [*CheckpointError]. If nil, none are taken.
	Checkpoints Checkpoints
	// Plan asks the model for a numbered plan first, which then stands below the
	// agent's instructions. It is a model call, but not a turn.
	Plan bool
	// Budget limits what a run uses. When it is used up the run ends with a
	// [*BudgetError] instead of the next model call. The zero value limits nothing.
	Budget Budget
}

// Runner is whatever takes a task and answers it: an [Agent] or a team of them.
type Runner interface {
	// Name returns the runner's name.
	Name() string
	// Run answers input.
	Run(ctx context.Context, input string) (*Result, error)
}

// Agent is a model that uses tools in a loop until it has an answer. It keeps
// no state between runs, which may go on at once.
type Agent struct {
	observed
	cfg      Config
	tools    map[string]*boundTool
	specs    []ToolSpec
	controls controls
	asking   atomic.Int32 // questions to Config.Ask that are not answered
}

// Result is what came of a run.
type Result struct {
	// RunID is the run's id, in every record of it.
	RunID string
	// Output is the answer's text.
	Output string
	// Messages is the whole conversation, what was remembered of it included.
	Messages []Message
	// Iterations is how many turns it took.
	Iterations int
	// Plan has the steps of the plan, if there is one.
	Plan []string
	// CheckpointID is the last checkpoint, "" if there is none. ResumedFrom is
	// the id of the run that this one goes on with, "" if it is a new one.
	CheckpointID, ResumedFrom string
	// ModelCalls, Usage and CostNanoUSD sum up the model calls of this run and of
	// the runs below it, not those of a run that it resumes. Cost is known only as
	// far as the run was observed.
	ModelCalls  int64
	Usage       price.Usage
	CostNanoUSD int64
}

// New returns an agent, or an error that says what is wrong with cfg.
func New(cfg Config) (*Agent, error) {
	if cfg.Name == "" {
		return nil, errors.New("agent: new: a name is needed")
	}
	if cfg.Model == nil {
		return nil, fmt.Errorf("agent: new %s: a model is needed", cfg.Name)
	}
	if cfg.ID == "" {
		cfg.ID = cfg.Name
	}
	if cfg.MaxIterations <= 0 {
		cfg.MaxIterations = DefaultMaxIterations
	}
	if cfg.AskTimeout <= 0 {
		cfg.AskTimeout = DefaultAskTimeout
	}
	a := &Agent{observed: observed{name: cfg.Name, id: cfg.ID}, cfg: cfg, tools: make(map[string]*boundTool)}
	for _, t := range cfg.Tools {
		b, err := bind(t)
		if err != nil {
			return nil, err
		}
		if a.tools[t.Name] != nil {
			return nil, fmt.Errorf("agent: new %s: two tools named %s", cfg.Name, t.Name)
		}
		a.tools[t.Name] = b
		a.specs = append(a.specs, b.spec)
	}
	return a, nil
}
