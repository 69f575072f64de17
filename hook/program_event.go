package hook

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/kaizen-go/kaizen/price"
)

// eventJSON is an [Event] as a program reads it: the schema is in the comment
// of [Program]. A field that is empty is left out.
type eventJSON struct {
	Version     int         `json:"version"`
	Op          ID          `json:"op"`
	Parent      ID          `json:"parent,omitempty"`
	Phase       string      `json:"phase"`
	Kind        string      `json:"kind"`
	Time        time.Time   `json:"time"`
	DurationMS  *float64    `json:"duration_ms,omitempty"`
	Status      Status      `json:"status,omitempty"`
	Error       string      `json:"error,omitempty"`
	RunID       string      `json:"run_id,omitempty"`
	ParentRunID string      `json:"parent_run_id,omitempty"`
	AgentID     string      `json:"agent_id,omitempty"`
	AgentName   string      `json:"agent_name,omitempty"`
	SessionID   string      `json:"session_id,omitempty"`
	UserID      string      `json:"user_id,omitempty"`
	Payload     namedFields `json:"payload"`
}

// eventVersion is the version of eventJSON. It changes when a field changes
// its meaning; new fields may come without.
const eventVersion = 1

func encodeEvent(e Event) ([]byte, error) {
	j := eventJSON{
		Version: eventVersion, Op: e.Op, Parent: e.Parent, Phase: e.Phase.String(), Kind: e.Kind().String(),
		Time: e.Time.UTC(), Status: e.Status,
		RunID: e.Run.RunID, ParentRunID: e.Run.ParentRunID, AgentID: e.Run.AgentID, AgentName: e.Run.AgentName,
		SessionID: e.Run.SessionID, UserID: e.Run.UserID,
		Payload: e.Payload.fields(),
	}
	if e.Err != nil {
		j.Error = e.Err.Error()
	}
	if e.Phase == End {
		ms := milliseconds(e.Duration())
		j.DurationMS = &ms
	}
	b, err := json.Marshal(j)
	if err != nil {
		return nil, fmt.Errorf("encode the event: %w", err)
	}
	return append(b, '\n'), nil
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// namedFields is a payload with the names that its fields have outside: one of
// the types below. Their fields are those of the payloads in the same order, so
// that the conversions in the fields methods stop compiling when a payload
// grows a field that has no name yet.
type namedFields any

type (
	runJSON struct {
		Input       string      `json:"input,omitempty"`
		Output      string      `json:"output,omitempty"`
		Iterations  int         `json:"iterations,omitempty"`
		Usage       price.Usage `json:"usage,omitzero"`
		CostNanoUSD int64       `json:"cost_nano_usd,omitempty"`
		StopReason  string      `json:"stop_reason,omitempty"`
		ResumedFrom string      `json:"resumed_from,omitempty"`
	}
	iterationJSON struct {
		Number int `json:"number"`
	}
	planJSON struct {
		Task  string `json:"task,omitempty"`
		Steps int    `json:"steps,omitempty"`
	}
	modelCallJSON struct {
		modelCallFields
		FirstChunkMS float64 `json:"first_chunk_ms,omitempty"`
	}
	toolJSON struct {
		Name        string `json:"name"`
		CallID      string `json:"call_id,omitempty"`
		Description string `json:"description,omitempty"`
		Type        string `json:"type,omitempty"`
		Arguments   string `json:"arguments,omitempty"`
		Result      string `json:"result,omitempty"`
	}
	memoryJSON struct {
		Store   string `json:"store,omitempty"`
		Records int    `json:"records,omitempty"`
	}
	checkpointJSON struct {
		CheckpointID string `json:"checkpoint_id,omitempty"`
		Step         int    `json:"step,omitempty"`
		SizeBytes    int64  `json:"size_bytes,omitempty"`
	}
	permissionJSON struct {
		Action   string `json:"action"`
		Decision string `json:"decision,omitempty"`
		By       string `json:"by,omitempty"`
		Reason   string `json:"reason,omitempty"`
	}
	interruptJSON struct {
		Mode   string `json:"mode"`
		Source string `json:"source,omitempty"`
		Reason string `json:"reason,omitempty"`
	}
	specialistJSON struct {
		Agent   string `json:"agent"`
		Pattern string `json:"pattern,omitempty"`
	}
	handoffJSON struct {
		From   string `json:"from,omitempty"`
		To     string `json:"to"`
		Reason string `json:"reason,omitempty"`
	}
	errorJSON struct {
		Where string `json:"where,omitempty"`
	}
	guardJSON struct {
		Guard  string `json:"guard"`
		Action string `json:"action,omitempty"`
		Reason string `json:"reason,omitempty"`
	}
)

// modelCallFields are the fields of [ModelCall]; a duration is in milliseconds
// outside.
type modelCallFields struct {
	Operation     string        `json:"operation,omitempty"`
	Provider      string        `json:"provider,omitempty"`
	Model         string        `json:"model"`
	Stream        bool          `json:"stream,omitempty"`
	MaxTokens     int           `json:"max_tokens,omitempty"`
	Temperature   *float64      `json:"temperature,omitempty"`
	ServerAddress string        `json:"server_address,omitempty"`
	ServerPort    int           `json:"server_port,omitempty"`
	ResponseModel string        `json:"response_model,omitempty"`
	ResponseID    string        `json:"response_id,omitempty"`
	RequestID     string        `json:"request_id,omitempty"`
	ServiceTier   string        `json:"service_tier,omitempty"`
	FinishReasons []string      `json:"finish_reasons,omitempty"`
	Usage         price.Usage   `json:"usage,omitzero"`
	HasUsage      bool          `json:"has_usage,omitempty"`
	FirstChunk    time.Duration `json:"-"`
	Attempts      int           `json:"attempts,omitempty"`
	HTTPStatus    int           `json:"http_status,omitempty"`
	ErrorType     string        `json:"error_type,omitempty"`
	Partial       bool          `json:"partial,omitempty"`
	ToolCalls     int           `json:"tool_calls,omitempty"`
	CostNanoUSD   int64         `json:"cost_nano_usd,omitempty"`
	Priced        bool          `json:"priced,omitempty"`
	PriceTable    string        `json:"price_table,omitempty"`
	PriceRule     string        `json:"price_rule,omitempty"`

	Input  json.RawMessage `json:"input,omitempty"`
	Output json.RawMessage `json:"output,omitempty"`
	System json.RawMessage `json:"system,omitempty"`
}

func (p *RunInfo) fields() namedFields        { return runJSON(*p) }
func (p *Iteration) fields() namedFields      { return iterationJSON(*p) }
func (p *Plan) fields() namedFields           { return planJSON(*p) }
func (p *Tool) fields() namedFields           { return toolJSON(*p) }
func (p *MemoryLoad) fields() namedFields     { return memoryJSON(*p) }
func (p *MemorySave) fields() namedFields     { return memoryJSON(*p) }
func (p *CheckpointSave) fields() namedFields { return checkpointJSON(*p) }
func (p *CheckpointLoad) fields() namedFields { return checkpointJSON(*p) }
func (p *Permission) fields() namedFields     { return permissionJSON(*p) }
func (p *Interrupt) fields() namedFields      { return interruptJSON(*p) }
func (p *Specialist) fields() namedFields     { return specialistJSON(*p) }
func (p *Handoff) fields() namedFields        { return handoffJSON(*p) }
func (p *ErrorInfo) fields() namedFields      { return errorJSON(*p) }
func (p *Guard) fields() namedFields          { return guardJSON(*p) }

func (p *ModelCall) fields() namedFields {
	return modelCallJSON{modelCallFields(*p), milliseconds(p.FirstChunk)}
}
