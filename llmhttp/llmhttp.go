// Package llmhttp observes calls of language models on the wire. Its
// [http.RoundTripper] recognises the OpenAI chat completions, responses and
// embeddings requests, the Anthropic messages requests, the Gemini
// generateContent and embedContent requests (Vertex AI's too), the Ollama chat,
// generate and embed requests and the Amazon Bedrock Converse requests of any
// client library, streaming or not, and tells an [Observer] what went out and
// what came back: model, tokens, finish reasons, tool calls, first chunk, errors.
//
// The caller receives exactly what the server sent, when it was sent: bytes,
// errors and timing are passed on, the request is never altered (but for what
// [Config.InjectStreamUsage] allows), and every other request goes through
// untouched.
//
//	client := &http.Client{Transport: llmhttp.Transport(nil, observer, llmhttp.Config{})}
package llmhttp

import (
	"context"
	"encoding/json"
	"time"

	"github.com/kaizen-go/kaizen/price"
)

// Dialects: the wire formats that this package reads, as [Call.Dialect].
const (
	OpenAIChat            = "openai.chat"
	OpenAIResponses       = "openai.responses"
	OpenAIEmbeddings      = "openai.embeddings"
	AnthropicMessages     = "anthropic.messages"
	GeminiGenerateContent = "gemini.generate_content"
	GeminiEmbedContent    = "gemini.embed_content"
	OllamaChat            = "ollama.chat"
	OllamaGenerate        = "ollama.generate"
	OllamaEmbed           = "ollama.embed"
	BedrockConverse       = "bedrock.converse"
)

// Observer is told of model calls. Its methods run on the goroutine of the
// caller, so they must be quick, and may be called by many goroutines at once.
// A panic of an observer is contained: the call goes on.
type Observer interface {
	// Start is called before the request leaves. It returns a context whose
	// values the request is sent with (nil means ctx itself; deadline and
	// cancellation stay the caller's) and a function that is called exactly
	// once when the call has ended, which may happen on another goroutine (nil
	// is allowed). With a context of [Refuse] the request is not sent.
	Start(ctx context.Context, c Call) (context.Context, func(Result))
}

// Call is what is known of a model call before it is sent.
type Call struct {
	// Provider is the name of the GenAI conventions: openai, anthropic, azure.ai.openai, …
	Provider string
	// Operation is the one of the GenAI conventions: "chat", "embeddings",
	// "generate_content" (Gemini), "text_completion" (Ollama's generate).
	Operation string
	// Dialect is the wire format, one of the constants of this package.
	Dialect string
	// Model is the requested model; empty when the request did not say, or
	// said it beyond the bound of what is read ahead (see [Transport]).
	Model string
	// Stream reports whether the caller asked for a stream.
	Stream bool
	// ServerAddress and ServerPort are the host (without port) and the port of the URL.
	ServerAddress string
	ServerPort    int
	// Attempt is 0 for the first try of a call and counts the retries of
	// client libraries that say so in a header (X-Stainless-Retry-Count,
	// Amz-Sdk-Request).
	Attempt int
	// Counted reports that the library counts its attempts in such a header, so
	// that an Attempt of 0 is known to be a first try; MaxAttempts is how many it
	// makes at most, 0 where it does not say (only Amazon's do).
	Counted     bool
	MaxAttempts int
	// Fingerprint is the same for the attempts of one call: it is made of the
	// name that the library gives the call in a header (Amz-Sdk-Invocation-Id,
	// Idempotency-Key), else of the URL and the body. It means something within
	// this process only, and two calls that ask the same may share one.
	Fingerprint uint64
	// MaxTokens is the requested limit of generated tokens; 0 if none was given.
	MaxTokens int
	// Temperature and TopP are nil when the request leaves them to the provider.
	Temperature, TopP *float64
	// ConversationID is the conversation that an OpenAI responses request names; usually empty.
	ConversationID string

	// Input, System and Tools are set only if [Config.Content] is.
	Input  []Message
	System []Part
	Tools  []Tool
	// Truncated reports that content was asked for and left out, in whole or
	// in part, because the request is longer than [Config.MaxContentBytes] or
	// could not be read.
	Truncated bool
}

// Result is how a model call ended.
type Result struct {
	// StatusCode is the HTTP status; 0 when there was no response.
	StatusCode int
	// Err is what the call ended with: an error of the transport or of reading
	// the body, the context's error, or an [*APIError] that the provider
	// reported. It is nil for a call that succeeded, and for one that the
	// caller closed early (see Partial).
	Err error
	// ErrorType is a short, low-cardinality name for Err, as the error.type
	// attribute wants it; empty when Err is nil. It is the provider's own code
	// or type, the HTTP status where the body had none (or was not read, as
	// clients do that try again), or one of the Error constants.
	ErrorType string
	// ResponseModel and ResponseID are what the provider says it used and
	// called the answer; RequestID is its name for the request (a header).
	ResponseModel, ResponseID, RequestID string
	// ServiceTier is the tier that served the call, when said.
	ServiceTier string
	// FinishReasons has one reason for each choice, in the provider's words.
	FinishReasons []string
	// Usage is in disjoint buckets. It means something only if HasUsage is
	// set: unknown is not zero.
	Usage    price.Usage
	HasUsage bool
	// FirstChunk is the time from the start to the first event of a stream; 0
	// when the response is not a stream or has sent none.
	FirstChunk time.Duration
	// Partial reports that an answer began and was not received to its end:
	// closed early, cut, cancelled, broken off by an error in the stream. Usage
	// is then what had been announced.
	Partial bool
	// ToolCalls are the tools that the model asked for, in order.
	ToolCalls []ToolCall
	// Output is set only if [Config.Content] is.
	Output []Message
	// Truncated reports that a part of the answer was longer than what is
	// kept: ToolCalls, FinishReasons or Output may be incomplete.
	Truncated bool
	// RetryAfter is how long the server asked to wait; 0 if it did not.
	RetryAfter time.Duration
	// Retryable reports that the call failed in a way after which client
	// libraries try again: no response, status 408, 409, 429 or from 500 on,
	// unless the header X-Should-Retry says otherwise.
	Retryable bool
	// Chunks counts the events of a stream, Bytes what the caller read of the body.
	Chunks int
	Bytes  int64
}

// ToolCall names a tool that the model asked for.
type ToolCall struct {
	ID   string
	Name string
}

// Message is a message in the JSON form of the GenAI conventions.
type Message struct {
	// Role is system, user, assistant or tool.
	Role string `json:"role"`
	// Parts are in the order of the wire.
	Parts []Part `json:"parts"`
	// FinishReason is set on output messages.
	FinishReason string `json:"finish_reason,omitempty"`
}

// Part is a part of a message. Which fields are set depends on Type:
//
//	text, reasoning      Content
//	tool_call            ID, Name, Arguments (server_tool_call: the provider runs it itself)
//	tool_call_response   ID, Response
//	blob                 Modality, MimeType (the bytes themselves are left out)
//	uri                  Modality, URI
//	file                 FileID
//
// Other types are the provider's own; they carry a Content at most.
type Part struct {
	Type      string          `json:"type"`
	Content   string          `json:"content,omitempty"`
	ID        string          `json:"id,omitempty"`
	Name      string          `json:"name,omitempty"`
	Arguments json.RawMessage `json:"arguments,omitempty"`
	Response  json.RawMessage `json:"response,omitempty"`
	Modality  string          `json:"modality,omitempty"`
	MimeType  string          `json:"mime_type,omitempty"`
	URI       string          `json:"uri,omitempty"`
	FileID    string          `json:"file_id,omitempty"`
}

// Tool is a tool that the request offers to the model.
type Tool struct {
	Type        string          `json:"type"`
	Name        string          `json:"name"`
	Description string          `json:"description,omitempty"`
	Parameters  json.RawMessage `json:"parameters,omitempty"`
}

// Config tunes [Transport]. The zero value is fit for production.
type Config struct {
	// Provider is the provider's name for hosts that the price book does not
	// know: a gateway, a proxy, a server on loopback. If empty, it is that of
	// the dialect: openai, anthropic, gcp.gemini, gcp.vertex_ai, ollama or
	// aws.bedrock.
	Provider string
	// Content has messages, system instructions and tool definitions read too.
	// They are personal data: redact them before they are recorded.
	Content bool
	// MaxContentBytes bounds the content that is kept of a request, and again
	// of its response. If zero, 1 MiB. It has no effect without Content.
	MaxContentBytes int
	// InjectStreamUsage asks for the usage of OpenAI chat streams whose caller did
	// not (stream_options.include_usage), as their tokens are unknown otherwise,
	// and takes the event that brings it out of what the caller receives. It is
	// off by default, as it changes the request: servers that do not know the
	// option may refuse it, and OpenAI's then says "usage":null in the other
	// events. Requests above 8 MiB, compressed or signed ones, and those with an
	// Accept-Encoding of the caller's are left as they are.
	InjectStreamUsage bool
	// OnPanic is told of a panic of the observer, or of reading a response,
	// with the recovered value. It runs on the caller's goroutine. If nil,
	// panics are swallowed.
	OnPanic func(value any)
}
