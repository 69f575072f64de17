package hook

import (
	"encoding/json"
	"slices"
	"time"

	"github.com/kaizen-go/kaizen/price"
)

// Payload is what an operation is about. It is one of the types of this file;
// producers pass a pointer and fill in what came of the operation before it
// ends, through [Op.Update].
type Payload interface {
	// Kind returns the kind of operation that the payload describes.
	Kind() Kind
	// Label returns the low-cardinality name of what is operated on (a tool's
	// name, a model's), or "".
	Label() string
	copy() Payload
	// fields returns the payload with the names that its fields have in JSON.
	fields() namedFields
}

// RunInfo is the payload of a run.
type RunInfo struct {
	// Input and Output are the task and the answer. They are recorded only when
	// content capture is on.
	Input, Output string
	// Iterations is how many turns the loop took; set at the end.
	Iterations int
	// Usage and CostNanoUSD sum the run's own model calls, set at the end.
	Usage       price.Usage
	CostNanoUSD int64
	// StopReason says why the run ended: "answer", "max_iterations", "error", …
	StopReason string
	// ResumedFrom is the run that this one goes on with; set at the end, empty
	// for a run from the start.
	ResumedFrom string
}

// Iteration is the payload of one turn of an agent's loop.
type Iteration struct {
	// Number counts from 1.
	Number int
}

// Plan is the payload of making a plan.
type Plan struct {
	// Task is what is planned for, recorded only when content capture is on.
	Task string
	// Steps is how many steps the plan has, set at the end.
	Steps int
}

// ModelCall is the payload of a call of a model: one for all its attempts.
type ModelCall struct {
	// Operation is the GenAI operation: "chat", "embeddings", ….
	Operation string
	// Provider is the convention's name of the provider, Model what was asked for.
	Provider, Model string
	Stream          bool
	MaxTokens       int
	Temperature     *float64
	ServerAddress   string
	ServerPort      int

	// What follows is known at the end.

	ResponseModel, ResponseID, RequestID, ServiceTier string
	FinishReasons                                     []string
	// Usage is known only if HasUsage.
	Usage    price.Usage
	HasUsage bool
	// FirstChunk is the time to the first chunk of a stream, zero when unknown.
	FirstChunk time.Duration
	// Attempts counts the requests that were sent for this call.
	Attempts int
	// HTTPStatus is the last attempt's status code, 0 when there was none.
	HTTPStatus int
	// ErrorType names what went wrong, as far as the wire told: the provider's
	// own word or the HTTP status.
	ErrorType string
	// Partial is true when the answer was cut off.
	Partial bool
	// ToolCalls is how many calls of tools the model asked for.
	ToolCalls int
	// Cost is the call's price; it is unknown unless Priced.
	CostNanoUSD int64
	Priced      bool
	// PriceTable and PriceRule say where the price comes from.
	PriceTable, PriceRule string

	// Input, Output and System hold the messages in the GenAI conventions' JSON
	// form. They are nil unless content capture is on.
	Input, Output, System json.RawMessage
}

// Tool is the payload of a call of a tool.
type Tool struct {
	// Name is the tool's name, CallID the id that the model gave the call.
	Name, CallID, Description string
	// Type is "function" unless said otherwise.
	Type string
	// Arguments and Result are recorded only when content capture is on.
	Arguments, Result string
}

// MemoryLoad is the payload of reading memory.
type MemoryLoad struct {
	Store string
	// Records is how many messages were read, set at the end.
	Records int
}

// MemorySave is the payload of writing memory.
type MemorySave struct {
	Store   string
	Records int
}

// CheckpointSave is the payload of writing a checkpoint.
type CheckpointSave struct {
	CheckpointID string
	Step         int
	SizeBytes    int64
}

// CheckpointLoad is the payload of reading a checkpoint.
type CheckpointLoad struct {
	CheckpointID string
	Step         int
	SizeBytes    int64
}

// Permission is the payload of deciding whether something may be done.
type Permission struct {
	// Action is what is asked for, such as "tool:shell".
	Action string
	// Decision is "allow", "deny" or "ask"; By names the rule or person that
	// decided and Reason says why. All are set at the end.
	Decision, By, Reason string
}

// Interrupt is the payload of stopping a run.
type Interrupt struct {
	// Mode is "graceful" or "immediate".
	Mode   string
	Source string
	Reason string
}

// Specialist is the payload of asking another agent and waiting for it.
type Specialist struct {
	// Agent is the name of the agent that is asked, Pattern how: "supervisor",
	// "consensus", "tool", ….
	Agent, Pattern string
}

// Handoff is the payload of giving a task to another agent.
type Handoff struct {
	From, To string
	Reason   string
}

// ErrorInfo is the payload of an error that no other operation carries.
type ErrorInfo struct {
	// Where says what was attempted.
	Where string
}

// Guard is the payload of a guard that acted.
type Guard struct {
	// Guard is "loop", "budget" or "anomaly", Action what it did.
	Guard, Action, Reason string
}

// Kind and Label implement [Payload].

func (*RunInfo) Kind() Kind        { return KindRun }
func (*Iteration) Kind() Kind      { return KindIteration }
func (*Plan) Kind() Kind           { return KindPlan }
func (*ModelCall) Kind() Kind      { return KindModelCall }
func (*Tool) Kind() Kind           { return KindTool }
func (*MemoryLoad) Kind() Kind     { return KindMemoryLoad }
func (*MemorySave) Kind() Kind     { return KindMemorySave }
func (*CheckpointSave) Kind() Kind { return KindCheckpointSave }
func (*CheckpointLoad) Kind() Kind { return KindCheckpointLoad }
func (*Permission) Kind() Kind     { return KindPermission }
func (*Interrupt) Kind() Kind      { return KindInterrupt }
func (*Specialist) Kind() Kind     { return KindSpecialist }
func (*Handoff) Kind() Kind        { return KindHandoff }
func (*ErrorInfo) Kind() Kind      { return KindError }
func (*Guard) Kind() Kind          { return KindGuard }

func (*RunInfo) Label() string        { return "" }
func (*Iteration) Label() string      { return "" }
func (*Plan) Label() string           { return "" }
func (p *ModelCall) Label() string    { return p.Model }
func (p *Tool) Label() string         { return p.Name }
func (p *MemoryLoad) Label() string   { return p.Store }
func (p *MemorySave) Label() string   { return p.Store }
func (*CheckpointSave) Label() string { return "" }
func (*CheckpointLoad) Label() string { return "" }
func (p *Permission) Label() string   { return p.Action }
func (p *Interrupt) Label() string    { return p.Mode }
func (p *Specialist) Label() string   { return p.Agent }
func (p *Handoff) Label() string      { return p.To }
func (p *ErrorInfo) Label() string    { return p.Where }
func (p *Guard) Label() string        { return p.Guard }

func (p *RunInfo) copy() Payload        { c := *p; return &c }
func (p *Iteration) copy() Payload      { c := *p; return &c }
func (p *Plan) copy() Payload           { c := *p; return &c }
func (p *Tool) copy() Payload           { c := *p; return &c }
func (p *MemoryLoad) copy() Payload     { c := *p; return &c }
func (p *MemorySave) copy() Payload     { c := *p; return &c }
func (p *CheckpointSave) copy() Payload { c := *p; return &c }
func (p *CheckpointLoad) copy() Payload { c := *p; return &c }
func (p *Permission) copy() Payload     { c := *p; return &c }
func (p *Interrupt) copy() Payload      { c := *p; return &c }
func (p *Specialist) copy() Payload     { c := *p; return &c }
func (p *Handoff) copy() Payload        { c := *p; return &c }
func (p *ErrorInfo) copy() Payload      { c := *p; return &c }
func (p *Guard) copy() Payload          { c := *p; return &c }

func (p *ModelCall) copy() Payload {
	c := *p
	c.FinishReasons = slices.Clone(p.FinishReasons)
	c.Input, c.Output, c.System = slices.Clone(p.Input), slices.Clone(p.Output), slices.Clone(p.System)
	if p.Temperature != nil {
		t := *p.Temperature
		c.Temperature = &t
	}
	return &c
}
