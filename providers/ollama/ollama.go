// Package ollama is a model of an [agent.Agent] over Ollama's own client, by its
// chat API.
//
//	model, err := ollama.New(ollama.Config{Model: "llama3.1"}) // server from OLLAMA_HOST
package ollama

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"

	"github.com/ollama/ollama/api"

	"github.com/kaizen-go/kaizen"
	"github.com/kaizen-go/kaizen/agent"
	"github.com/kaizen-go/kaizen/price"
)

// DefaultBaseURL is where an Ollama server listens unless told otherwise.
const DefaultBaseURL = "http://127.0.0.1:11434"

// Config describes a [Model]. Only Model is needed.
type Config struct {
	// Model is the model's name, such as "llama3.1".
	Model string
	// BaseURL is the server's address without a path. If empty, OLLAMA_HOST,
	// which may lack the scheme; then [DefaultBaseURL].
	BaseURL string
	// HTTPClient sends the requests; a new client if nil. Its model calls are
	// observed for whoever observes the context of a call.
	HTTPClient *http.Client
	// Options are the model's own, such as num_ctx. MaxTokens and Temperature of
	// a request go above them.
	Options map[string]any
}

// Model is an [agent.Streamer]. It keeps no state between calls.
type Model struct {
	name    string
	options map[string]any
	client  *api.Client
}

var _ agent.Streamer = (*Model)(nil)

// New returns a model, or an error when the server's address is no URL. It does
// no I/O.
func New(cfg Config) (*Model, error) {
	address := cmp.Or(cfg.BaseURL, os.Getenv("OLLAMA_HOST"), DefaultBaseURL)
	if !strings.Contains(address, "://") {
		address = "http://" + address
	}
	base, err := url.Parse(address)
	if err != nil {
		return nil, fmt.Errorf("ollama: address: %w", err)
	}
	if base.Host == "" {
		return nil, fmt.Errorf("ollama: address %q names no host", address)
	}
	client := http.Client{}
	if cfg.HTTPClient != nil {
		client = *cfg.HTTPClient
	}
	client.Transport = kaizen.Transport(client.Transport)
	return &Model{cfg.Model, cfg.Options, api.NewClient(base, &client)}, nil
}

// Info implements [agent.Model].
func (m *Model) Info() agent.ModelInfo {
	return agent.ModelInfo{Provider: "ollama", Name: m.name}
}

// Generate implements [agent.Model].
func (m *Model) Generate(ctx context.Context, req agent.Request) (*agent.Response, error) {
	return m.chat(ctx, req, false, func(agent.Chunk) error { return nil })
}

// Stream implements [agent.Streamer].
func (m *Model) Stream(ctx context.Context, req agent.Request, f func(agent.Chunk) error) (*agent.Response, error) {
	return m.chat(ctx, req, true, f)
}

func (m *Model) chat(ctx context.Context, req agent.Request, stream bool, f func(agent.Chunk) error) (*agent.Response, error) {
	in, err := m.request(req, stream)
	if err != nil {
		return nil, err
	}
	out := &agent.Response{Message: agent.Message{Role: agent.Assistant}}
	done := false
	err = m.client.Chat(ctx, in, func(part api.ChatResponse) error {
		done = done || part.Done
		if err := add(out, part); err != nil {
			return err
		}
		if !stream || part.Message.Content == "" {
			return nil
		}
		return f(agent.Chunk{Text: part.Message.Content})
	})
	if err == nil && !done { // the client takes a connection that breaks for the end
		err = errors.New("the answer is cut off")
	}
	if err != nil {
		return nil, fmt.Errorf("ollama: chat %s: %w", m.name, err)
	}
	return out, nil
}

// request is what the server is asked.
func (m *Model) request(req agent.Request, stream bool) (*api.ChatRequest, error) {
	in := &api.ChatRequest{Model: m.name, Stream: &stream, Options: make(map[string]any, len(m.options)+2)}
	for k, v := range m.options {
		in.Options[k] = v
	}
	if req.MaxTokens > 0 {
		in.Options["num_predict"] = req.MaxTokens
	}
	if req.Temperature != nil {
		in.Options["temperature"] = *req.Temperature
	}
	if req.System != "" {
		in.Messages = append(in.Messages, api.Message{Role: "system", Content: req.System})
	}
	for _, msg := range req.Messages {
		list, err := messages(msg)
		if err != nil {
			return nil, err
		}
		in.Messages = append(in.Messages, list...)
	}
	for _, t := range req.Tools {
		tool := api.Tool{Type: "function", Function: api.ToolFunction{Name: t.Name, Description: t.Description}}
		if err := json.Unmarshal(t.Schema, &tool.Function.Parameters); err != nil {
			return nil, fmt.Errorf("ollama: schema of tool %s: %w", t.Name, err)
		}
		in.Tools = append(in.Tools, tool)
	}
	return in, nil
}

// messages are what a message is here: each result of a tool is one of its own.
func messages(msg agent.Message) ([]api.Message, error) {
	if msg.Role == agent.ToolRole {
		var out []api.Message
		for _, r := range msg.ToolResults {
			out = append(out, api.Message{Role: "tool", Content: r.Text, ToolName: r.Name, ToolCallID: r.ID})
		}
		return out, nil
	}
	out := api.Message{Role: string(msg.Role), Content: msg.Text}
	for i, c := range msg.ToolCalls {
		call := api.ToolCall{ID: c.ID, Function: api.ToolCallFunction{Index: i, Name: c.Name, Arguments: api.NewToolCallFunctionArguments()}}
		if err := json.Unmarshal(c.Arguments, &call.Function.Arguments); err != nil {
			return nil, fmt.Errorf("ollama: arguments of tool %s: %w", c.Name, err)
		}
		out.ToolCalls = append(out.ToolCalls, call)
	}
	return []api.Message{out}, nil
}

// add joins the next part of an answer to what came before it.
func add(out *agent.Response, part api.ChatResponse) error {
	out.Model = part.Model
	out.Message.Text += part.Message.Content
	for _, c := range part.Message.ToolCalls {
		arguments, err := json.Marshal(c.Function.Arguments)
		if err != nil {
			return fmt.Errorf("arguments of tool %s: %w", c.Function.Name, err)
		}
		if c.Function.Arguments.Len() == 0 {
			arguments = []byte("{}")
		}
		// Servers before ids had no way to tell two calls of one tool apart.
		id := cmp.Or(c.ID, fmt.Sprintf("%s_%d", c.Function.Name, len(out.Message.ToolCalls)))
		out.Message.ToolCalls = append(out.Message.ToolCalls, agent.ToolCall{ID: id, Name: c.Function.Name, Arguments: arguments})
	}
	if part.Done {
		out.FinishReason = part.DoneReason
		out.Usage = price.Usage{Input: int64(part.PromptEvalCount), Output: int64(part.EvalCount)}
		out.HasUsage = out.Usage.Total() > 0
	}
	return nil
}
