// Package agent is a small runtime for AI agents that is observed in one call.
//
//	a, err := agent.New(agent.Config{Name: "helper", Model: model, Tools: tools})
//	obs, err := a.EnableObservability(ctx, kaizen.Config{})
//	defer a.Close(ctx)
//	result, err := a.Run(ctx, "What is the weather in Lima?")
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
	"sync"

	"github.com/kaizen-go/kaizen/hook"
	"github.com/kaizen-go/kaizen/internal/runctx"
	"github.com/kaizen-go/kaizen/price"
	"github.com/oklog/ulid/v2"
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
	// MaxIterations is [DefaultMaxIterations] if zero.
	MaxIterations int
	// MaxTokens and Temperature are handed to the model; its defaults if unset.
	MaxTokens   int
	Temperature *float64
	// Stream asks for streamed answers if the model can; OnChunk gets them.
	Stream  bool
	OnChunk func(Chunk) error
}

// Permission is the answer of [Config.Permit].
type Permission struct {
	// Denied refuses the call. The zero value allows it.
	Denied bool
	// By names the rule or person that decided, Reason says why. The model is
	// told the reason.
	By, Reason string
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
	cfg   Config
	tools map[string]*boundTool
	specs []ToolSpec
}

// Result is what came of a run.
type Result struct {
	// RunID is the run's id, in every record of it.
	RunID string
	// Output is the answer's text.
	Output string
	// Messages is the whole conversation.
	Messages []Message
	// Iterations is how many turns it took.
	Iterations int
	// Usage and CostNanoUSD sum up the model calls of this run and of the runs
	// below it. Cost is known only as far as the run was observed.
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

// Run lets the agent work on input until it answers. The result is not nil when
// the run began, also beside an error.
func (a *Agent) Run(ctx context.Context, input string) (*Result, error) {
	return a.run(ctx, input, func(ctx context.Context, res *Result) (string, error) {
		return a.loop(ctx, input, res)
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

// loop takes turns until the model answers without asking for a tool.
func (a *Agent) loop(ctx context.Context, input string, res *Result) (stop string, err error) {
	res.Messages = []Message{{Role: User, Text: input}}
	reg := hook.From(ctx)
	for res.Iterations < a.cfg.MaxIterations {
		res.Iterations++
		var answered bool
		err := reg.Do(ctx, &hook.Iteration{Number: res.Iterations}, func(ctx context.Context, _ *hook.Op) error {
			answered, err = a.turn(ctx, res)
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

// ask makes one observed call of the model.
func (a *Agent) ask(ctx context.Context, res *Result) (*Response, error) {
	req := Request{
		System: a.cfg.System, Messages: res.Messages, Tools: a.specs,
		MaxTokens: a.cfg.MaxTokens, Temperature: a.cfg.Temperature,
	}
	model := a.cfg.Model.Info()
	streamer, _ := a.cfg.Model.(Streamer)
	stream := a.cfg.Stream && streamer != nil
	call := &hook.ModelCall{
		Operation: "chat", Provider: model.Provider, Model: model.Name, Stream: stream,
		MaxTokens: req.MaxTokens, Temperature: req.Temperature,
	}
	var resp *Response
	var made *hook.Op
	err := hook.From(ctx).Do(ctx, call, func(ctx context.Context, op *hook.Op) (err error) {
		made = op
		if stream {
			resp, err = streamer.Stream(ctx, req, a.onChunk())
		} else {
			resp, err = a.cfg.Model.Generate(ctx, req)
		}
		op.Update(func(hook.Payload) { fill(call, resp) })
		return err
	})
	if made != nil {
		made.Update(func(hook.Payload) {
			res.Usage = res.Usage.Add(call.Usage)
			res.CostNanoUSD += call.CostNanoUSD
		})
	}
	return resp, err
}

func (a *Agent) onChunk() func(Chunk) error {
	if a.cfg.OnChunk != nil {
		return a.cfg.OnChunk
	}
	return func(Chunk) error { return nil }
}

// fill adds what the response says to what the transport has seen on the wire,
// which knows more and is left as it is.
func fill(call *hook.ModelCall, resp *Response) {
	if resp == nil {
		return
	}
	if call.ResponseModel == "" {
		call.ResponseModel = resp.Model
	}
	if call.ResponseID == "" {
		call.ResponseID = resp.ID
	}
	if len(call.FinishReasons) == 0 && resp.FinishReason != "" {
		call.FinishReasons = []string{resp.FinishReason}
	}
	if !call.HasUsage && resp.HasUsage {
		call.Usage, call.HasUsage = resp.Usage, true
	}
	if call.ToolCalls == 0 {
		call.ToolCalls = len(resp.Message.ToolCalls)
	}
}

// callTools carries out calls at once and returns their results in the order
// of the calls.
func (a *Agent) callTools(ctx context.Context, calls []ToolCall, res *Result) []ToolResult {
	results := make([]ToolResult, len(calls))
	nested := &tally{res: res}
	ctx = context.WithValue(ctx, tallyKey{}, nested)
	var wg sync.WaitGroup
	for i, c := range calls {
		wg.Go(func() { results[i] = a.callTool(ctx, c) })
	}
	wg.Wait()
	return results
}

// callTool makes one observed call of a tool. What goes wrong is an answer to
// the model, not the end of the run.
func (a *Agent) callTool(ctx context.Context, c ToolCall) (result ToolResult) {
	result = ToolResult{ID: c.ID, Name: c.Name}
	tool := a.tools[c.Name]
	payload := &hook.Tool{Name: c.Name, CallID: c.ID, Type: "function", Arguments: string(c.Arguments)}
	if tool != nil {
		payload.Description = tool.Description
	}
	defer func() {
		if v := recover(); v != nil { // the panic is recorded; the agent goes on
			result.Text, result.IsError = fmt.Sprintf("the tool failed: %v", v), true
		}
	}()
	err := hook.From(ctx).Do(ctx, payload, func(ctx context.Context, op *hook.Op) error {
		out, err := a.carryOut(ctx, tool, c)
		op.Update(func(hook.Payload) { payload.Result = out })
		result.Text = out
		return err
	})
	if err != nil {
		result.Text, result.IsError = err.Error(), true
	}
	return result
}

func (a *Agent) carryOut(ctx context.Context, tool *boundTool, c ToolCall) (string, error) {
	if tool == nil {
		return "", fmt.Errorf("no tool is named %s", c.Name)
	}
	if err := tool.validate(c.Arguments); err != nil {
		return "", err
	}
	if err := a.permit(ctx, c); err != nil {
		return "", err
	}
	return tool.Call(ctx, c.Arguments)
}

// permit asks whether a tool may be called and records the answer.
func (a *Agent) permit(ctx context.Context, c ToolCall) error {
	if a.cfg.Permit == nil {
		return nil
	}
	p := &hook.Permission{Action: "tool:" + c.Name}
	var answer Permission
	err := hook.From(ctx).Do(ctx, p, func(ctx context.Context, op *hook.Op) error {
		answer = a.cfg.Permit(ctx, c)
		op.Update(func(hook.Payload) {
			p.Decision, p.By, p.Reason = "allow", answer.By, answer.Reason
			if answer.Denied {
				p.Decision = "deny"
			}
		})
		return nil
	})
	if err != nil {
		return err
	}
	if answer.Denied {
		return &hook.DeniedError{Kind: hook.KindTool, Name: c.Name, By: answer.By, Reason: answer.Reason}
	}
	return nil
}
