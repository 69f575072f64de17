// Package kaizentest has what the tests of agents need: a scripted model server
// that speaks the providers' wire formats.
//
//	server := kaizentest.NewModelServer(kaizentest.Script{Reply: reply})
//	defer server.Close()
package kaizentest

import (
	"encoding/json"
	"net/http"
	"time"

	"github.com/kaizen-go/kaizen/price"
)

// AgentHeader is a request header that names the agent a call belongs to, for
// [ModelServer]'s count of calls. Without it, calls with the same model and the same
// system prompt belong together.
const AgentHeader = "X-Kaizen-Test-Agent"

// Script says what a [ModelServer] answers.
type Script struct {
	// Reply answers a request. It is called once for each attempt, by many
	// goroutines at once, and should depend on nothing but the request. If
	// nil, every answer is the text "ok".
	Reply func(Request) Reply
	// Prices are the list prices that [ModelServer.Bill] charges, by model.
	// Calls of a model that is not here are counted as unpriced.
	Prices map[string]Rates
}

// Rates are prices in nano-dollars (10⁻⁹ USD) for each token of a class.
type Rates struct {
	Input, CacheRead, CacheWrite, CacheWrite1h, Output, Reasoning int64
}

// Request is what the server understood of a request.
type Request struct {
	// Dialect is the wire format: openai.chat, openai.responses,
	// openai.embeddings, anthropic.messages, gemini.generate_content,
	// gemini.embed_content, ollama.chat, ollama.generate, ollama.embed or
	// bedrock.converse.
	Dialect string
	Model   string
	Stream  bool
	// System is the text of the system prompt, or of developer messages.
	System   string
	Messages []Message
	// Tools are the names of the tools on offer.
	Tools []string
	// Agent is the value of [AgentHeader]; empty when it was not sent.
	Agent string
	// Attempt is what X-Stainless-Retry-Count or Amz-Sdk-Request say: 0 for the first.
	Attempt int
	// Nth counts the calls of the same agent (see [AgentHeader]) from 0;
	// further attempts of a call have the same number. Where one agent has
	// calls in flight at the same time, Turn is the number to script by.
	Nth int
	// Turn is the number of assistant messages in the request: it depends on
	// nothing but the request.
	Turn int
	// Header is the request's header; not to be changed.
	Header http.Header

	includeUsage bool // openai.chat: a stream is to end with usage
	dimensions   int  // of embeddings, with
	base64       bool // their encoding
	array        bool // gemini: a stream is to be one array
	batch        bool // gemini: embeddings are to be a list
}

// Message is a message of a [Request].
type Message struct {
	// Role is user, assistant or tool.
	Role string
	// Text is the text parts, joined by newlines.
	Text string
	// ToolCalls are those that an assistant message asked for.
	ToolCalls []ToolCall
	// ToolResults are the results that the message brings, by call id.
	ToolResults []ToolResult
}

// ToolCall is a tool call in an answer, or in a message of the history.
type ToolCall struct {
	// ID is made up from the call's number when empty.
	ID   string
	Name string
	// Arguments is a JSON object; nil means {}.
	Arguments json.RawMessage
}

// ToolResult is the result of a tool call.
type ToolResult struct {
	ID   string
	Text string
}

// Reply is one answer. The zero value is an empty text with status 200.
type Reply struct {
	Text      string
	ToolCalls []ToolCall
	// Usage is what the answer bills. If zero, it is derived from the lengths
	// of the texts: a token for each 4 bytes begun. What a format cannot say is
	// not billed, or billed in the plain class: OpenAI's know no CacheWrite1h,
	// embeddings nothing but Input, Gemini no CacheWrite, Bedrock no Reasoning,
	// Ollama only Input and Output.
	Usage price.Usage
	// Status is the HTTP status; 0 means 200. From 400 on, the answer is an
	// error body as the provider sends it, with ErrorMessage.
	Status int
	// ErrorMessage stands in the error body; a default if empty.
	ErrorMessage string
	// RetryAfter is sent with an error as Retry-After and retry-after-ms. If
	// zero, 1 ms with status 429, nothing otherwise.
	RetryAfter time.Duration
	// CutAfterChunks, when positive, cuts the connection after that many
	// events of a stream, or in the middle of a body that is not a stream.
	CutAfterChunks int
	// Delay is the wait before the answer, ChunkDelay before each event of a stream.
	Delay, ChunkDelay time.Duration
	// FinishReason is in the provider's words. If empty, it is the normal one
	// for a text or for tool calls.
	FinishReason string
}

// Served is one request in the server's own account.
type Served struct {
	// Time is when the request had been read.
	Time time.Time
	// Dialect is as in [Request]; empty for a request that was not understood.
	Dialect string
	Model   string
	Agent   string
	Stream  bool
	// Call numbers the logical calls from 0: the attempts of a call share it.
	Call int
	// Attempt is what the client said, see [Request.Attempt].
	Attempt int
	Status  int
	// Usage is what is billed: all of an answer that was sent to its end, and of
	// one that was cut what had been announced to the client by then.
	Usage price.Usage
	// Told reports that the client was told of Usage; an OpenAI chat client that
	// streams has to ask for that.
	Told bool
	// ToolCalls counts the tool calls whose arguments were sent in full.
	ToolCalls int
	// Cut reports that the answer was cut, by the script or because the client went away.
	Cut bool
}

// Bill is the sum of a server's account.
type Bill struct {
	// Calls counts logical calls: all attempts of a call are one. OK of them
	// were answered in full, Failed were not: Calls = OK + Failed.
	Calls, OK, Failed int
	// Attempts counts HTTP requests.
	Attempts int
	// ToolCalls counts the tool calls that answers asked for.
	ToolCalls int
	// Usage is the sum over all attempts.
	Usage price.Usage
	// NanoUSD is what the usage costs after [Script.Prices].
	NanoUSD int64
	// Unpriced counts attempts with usage whose model has no price.
	Unpriced int
}
