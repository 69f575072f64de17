// Package openai has models of an [agent.Agent] over the official OpenAI SDK: by
// the chat completions API, which many servers speak, and by the Responses API.
//
//	model := openai.New(openai.Config{Model: "gpt-5-mini"}) // key from OPENAI_API_KEY
//	model := openai.NewResponses(openai.Config{Model: "gpt-5-mini"})
package openai

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	sdk "github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"
	"github.com/openai/openai-go/v3/packages/param"
	"github.com/openai/openai-go/v3/shared"

	"github.com/kaizen-go/kaizen"
	"github.com/kaizen-go/kaizen/agent"
	"github.com/kaizen-go/kaizen/price"
)

// Config describes a [Model] or [Responses]. Only Model is needed.
type Config struct {
	// Model is the model's name, such as "gpt-5-mini".
	Model string
	// APIKey is read from OPENAI_API_KEY if empty.
	APIKey string
	// BaseURL is the API's own if empty. It ends in /v1.
	BaseURL string
	// HTTPClient sends the requests; a new client if nil. Its model calls are
	// observed for whoever observes the context of a call.
	HTTPClient *http.Client
	// Options go to the SDK after those above.
	Options []option.RequestOption
}

// Model is an [agent.Streamer] over chat completions. It keeps no state between
// calls.
type Model struct {
	name   string
	client sdk.Client
}

var _ agent.Streamer = (*Model)(nil)

// New returns a model. It does no I/O.
func New(cfg Config) *Model { return &Model{cfg.Model, newClient(cfg)} }

func newClient(cfg Config) sdk.Client {
	client := http.Client{}
	if cfg.HTTPClient != nil {
		client = *cfg.HTTPClient
	}
	client.Transport = kaizen.Transport(client.Transport)
	opts := []option.RequestOption{option.WithHTTPClient(&client)}
	if cfg.APIKey != "" {
		opts = append(opts, option.WithAPIKey(cfg.APIKey))
	}
	if cfg.BaseURL != "" {
		opts = append(opts, option.WithBaseURL(cfg.BaseURL))
	}
	return sdk.NewClient(append(opts, cfg.Options...)...)
}

// Info implements [agent.Model].
func (m *Model) Info() agent.ModelInfo {
	return agent.ModelInfo{Provider: "openai", Name: m.name}
}

// Generate implements [agent.Model].
func (m *Model) Generate(ctx context.Context, req agent.Request) (*agent.Response, error) {
	params, err := m.params(req)
	if err != nil {
		return nil, err
	}
	c, err := m.client.Chat.Completions.New(ctx, params)
	if err != nil {
		return nil, fmt.Errorf("openai: chat %s: %w", m.name, err)
	}
	return m.response(c)
}

// Stream implements [agent.Streamer].
func (m *Model) Stream(ctx context.Context, req agent.Request, f func(agent.Chunk) error) (_ *agent.Response, err error) {
	params, err := m.params(req)
	if err != nil {
		return nil, err
	}
	params.StreamOptions.IncludeUsage = sdk.Bool(true)
	stream := m.client.Chat.Completions.NewStreaming(ctx, params)
	defer func() { err = errors.Join(err, stream.Close()) }()
	var acc sdk.ChatCompletionAccumulator
	for stream.Next() {
		chunk := stream.Current()
		if !acc.AddChunk(chunk) {
			return nil, fmt.Errorf("openai: chat %s: a chunk of another answer", m.name)
		}
		if len(chunk.Choices) == 0 || chunk.Choices[0].Delta.Content == "" {
			continue
		}
		if err := f(agent.Chunk{Text: chunk.Choices[0].Delta.Content}); err != nil {
			return nil, err
		}
	}
	if err := stream.Err(); err != nil {
		return nil, fmt.Errorf("openai: chat %s: %w", m.name, err)
	}
	return m.response(&acc.ChatCompletion)
}

func (m *Model) params(req agent.Request) (sdk.ChatCompletionNewParams, error) {
	p := sdk.ChatCompletionNewParams{Model: m.name}
	if req.MaxTokens > 0 {
		p.MaxCompletionTokens = sdk.Int(int64(req.MaxTokens))
	}
	if req.Temperature != nil {
		p.Temperature = sdk.Float(*req.Temperature)
	}
	if req.System != "" {
		p.Messages = append(p.Messages, sdk.SystemMessage(req.System))
	}
	for _, msg := range req.Messages {
		p.Messages = append(p.Messages, message(msg)...)
	}
	for _, t := range req.Tools {
		def := shared.FunctionDefinitionParam{Name: t.Name, Description: param.NewOpt(t.Description)}
		if err := json.Unmarshal(t.Schema, &def.Parameters); err != nil {
			return p, fmt.Errorf("openai: schema of tool %s: %w", t.Name, err)
		}
		p.Tools = append(p.Tools, sdk.ChatCompletionFunctionTool(def))
	}
	return p, nil
}

func message(msg agent.Message) []sdk.ChatCompletionMessageParamUnion {
	switch msg.Role {
	case agent.User:
		return []sdk.ChatCompletionMessageParamUnion{sdk.UserMessage(msg.Text)}
	case agent.ToolRole:
		var out []sdk.ChatCompletionMessageParamUnion
		for _, r := range msg.ToolResults {
			out = append(out, sdk.ToolMessage(r.Text, r.ID))
		}
		return out
	}
	var a sdk.ChatCompletionAssistantMessageParam
	if msg.Text != "" {
		a.Content.OfString = sdk.String(msg.Text)
	}
	for _, c := range msg.ToolCalls {
		a.ToolCalls = append(a.ToolCalls, sdk.ChatCompletionMessageToolCallUnionParam{
			OfFunction: &sdk.ChatCompletionMessageFunctionToolCallParam{
				ID:       c.ID,
				Function: sdk.ChatCompletionMessageFunctionToolCallFunctionParam{Name: c.Name, Arguments: string(c.Arguments)},
			},
		})
	}
	return []sdk.ChatCompletionMessageParamUnion{{OfAssistant: &a}}
}

func (m *Model) response(c *sdk.ChatCompletion) (*agent.Response, error) {
	if len(c.Choices) == 0 {
		return nil, fmt.Errorf("openai: chat %s: an answer without choices", m.name)
	}
	choice := c.Choices[0]
	r := &agent.Response{
		Message:      agent.Message{Role: agent.Assistant, Text: choice.Message.Content},
		FinishReason: choice.FinishReason,
		Model:        c.Model,
		ID:           c.ID,
		HasUsage:     c.Usage.TotalTokens > 0,
		Usage:        usage(c.Usage),
	}
	for _, tc := range choice.Message.ToolCalls {
		r.Message.ToolCalls = append(r.Message.ToolCalls, agent.ToolCall{
			ID: tc.ID, Name: tc.Function.Name, Arguments: arguments(tc.Function.Arguments),
		})
	}
	return r, nil
}

// arguments gives a model that asks for a tool without arguments an object, as
// a schema wants one.
func arguments(s string) json.RawMessage {
	if s == "" {
		s = "{}"
	}
	return json.RawMessage(s)
}

// usage takes the cached tokens out of the prompt's and reasoning out of the
// completion's, in which OpenAI counts them.
func usage(u sdk.CompletionUsage) price.Usage {
	read, write := u.PromptTokensDetails.CachedTokens, u.PromptTokensDetails.CacheWriteTokens
	reasoning := u.CompletionTokensDetails.ReasoningTokens
	return price.Usage{
		Input: max(0, u.PromptTokens-read-write), CacheRead: read, CacheWrite: write,
		Output: max(0, u.CompletionTokens-reasoning), Reasoning: reasoning,
	}
}
