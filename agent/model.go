package agent

import (
	"context"
	"encoding/json"

	"github.com/kaizen-go/kaizen/price"
)

// Model is a language model. Its methods may be called at once from several
// goroutines. The module providers has models for the official SDKs.
type Model interface {
	// Info names the model. It does no I/O.
	Info() ModelInfo
	// Generate answers req. Retries are the model's own affair: one call of
	// Generate is one call, however many requests it takes.
	Generate(ctx context.Context, req Request) (*Response, error)
}

// Streamer is a [Model] that can hand out its answer while it comes in.
type Streamer interface {
	Model
	// Stream is Generate that also calls f for each piece, in order, on the
	// calling goroutine. An error of f ends the call with that error.
	Stream(ctx context.Context, req Request, f func(Chunk) error) (*Response, error)
}

// ModelInfo names a model.
type ModelInfo struct {
	// Provider is the GenAI conventions' name: "openai", "anthropic", ….
	Provider string
	// Name is what is asked for, such as "gpt-5-mini".
	Name string
}

// Role says who speaks in a [Message].
type Role string

// The roles. Instructions of the system are not a message: see [Request].
const (
	User      Role = "user"
	Assistant Role = "assistant"
	ToolRole  Role = "tool"
)

// Message is one turn of a conversation.
type Message struct {
	Role Role   `json:"role"`
	Text string `json:"text,omitempty"`
	// ToolCalls are what an assistant's message asks for.
	ToolCalls []ToolCall `json:"tool_calls,omitempty"`
	// ToolResults are what a tool message answers, one for each call.
	ToolResults []ToolResult `json:"tool_results,omitempty"`
}

// ToolCall is a model's wish that a tool be called.
type ToolCall struct {
	ID   string `json:"id"`
	Name string `json:"name"`
	// Arguments is a JSON object.
	Arguments json.RawMessage `json:"arguments"`
}

// ToolResult answers the [ToolCall] with the same ID.
type ToolResult struct {
	ID   string `json:"id"`
	Name string `json:"name"`
	// Text is the tool's result, or what went wrong if IsError.
	Text    string `json:"text"`
	IsError bool   `json:"is_error,omitempty"`
}

// ToolSpec describes a tool to a model.
type ToolSpec struct {
	Name, Description string
	// Schema is the JSON schema of the arguments, of type object.
	Schema json.RawMessage
}

// Request is one call of a model.
type Request struct {
	// System is the instructions that stand above the conversation; may be empty.
	System   string
	Messages []Message
	Tools    []ToolSpec
	// MaxTokens bounds the answer; the model's own default if zero.
	MaxTokens int
	// Temperature is the model's own default if nil.
	Temperature *float64
}

// Response is the answer of a model.
type Response struct {
	Message Message
	// FinishReason is the provider's word for why the answer ended.
	FinishReason string
	// Model and ID are what the provider says of the model and the response.
	Model, ID string
	// Usage is known only if HasUsage.
	Usage    price.Usage
	HasUsage bool
}

// Chunk is a piece of a streamed answer.
type Chunk struct {
	// Text is the next piece of the answer's text; may be empty.
	Text string
}
