// Package anthropic is a model of an [agent.Agent] over the official Anthropic
// SDK, by the messages API.
//
//	model := anthropic.New(anthropic.Config{Model: "claude-haiku-4-5"}) // key from ANTHROPIC_API_KEY
package anthropic

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	sdk "github.com/anthropics/anthropic-sdk-go"
	"github.com/anthropics/anthropic-sdk-go/option"
	"github.com/anthropics/anthropic-sdk-go/packages/param"

	"github.com/kaizen-go/kaizen"
	"github.com/kaizen-go/kaizen/agent"
	"github.com/kaizen-go/kaizen/price"
)

// DefaultMaxTokens bounds an answer when the request does not: the API wants a
// bound with every call.
const DefaultMaxTokens = 4096

// Config describes a [Model]. Only Model is needed.
type Config struct {
	// Model is the model's name, such as "claude-haiku-4-5".
	Model string
	// APIKey is read from ANTHROPIC_API_KEY if empty.
	APIKey string
	// BaseURL is the API's own if empty.
	BaseURL string
	// HTTPClient sends the requests; a new client if nil. Its model calls are
	// observed for whoever observes the context of a call.
	HTTPClient *http.Client
	// Options go to the SDK after those above.
	Options []option.RequestOption
}

// Model is an [agent.Streamer]. It keeps no state between calls.
type Model struct {
	name   string
	client sdk.Client
}

var _ agent.Streamer = (*Model)(nil)

// New returns a model. It does no I/O.
//
// The SDK traces calls by itself once a global tracer provider is set. That is
// off here: the call is one span, which the observer writes.
func New(cfg Config) *Model {
	client := http.Client{}
	if cfg.HTTPClient != nil {
		client = *cfg.HTTPClient
	}
	client.Transport = kaizen.Transport(client.Transport)
	opts := []option.RequestOption{option.WithHTTPClient(&client), option.WithoutOpenTelemetry()}
	if cfg.APIKey != "" {
		opts = append(opts, option.WithAPIKey(cfg.APIKey))
	}
	if cfg.BaseURL != "" {
		opts = append(opts, option.WithBaseURL(cfg.BaseURL))
	}
	return &Model{cfg.Model, sdk.NewClient(append(opts, cfg.Options...)...)}
}

// Info implements [agent.Model].
func (m *Model) Info() agent.ModelInfo {
	return agent.ModelInfo{Provider: "anthropic", Name: m.name}
}

// Generate implements [agent.Model].
func (m *Model) Generate(ctx context.Context, req agent.Request) (*agent.Response, error) {
	params, err := m.params(req)
	if err != nil {
		return nil, err
	}
	msg, err := m.client.Messages.New(ctx, params)
	if err != nil {
		return nil, fmt.Errorf("anthropic: messages %s: %w", m.name, err)
	}
	return response(msg), nil
}

// Stream implements [agent.Streamer].
func (m *Model) Stream(ctx context.Context, req agent.Request, f func(agent.Chunk) error) (_ *agent.Response, err error) {
	params, err := m.params(req)
	if err != nil {
		return nil, err
	}
	stream := m.client.Messages.NewStreaming(ctx, params)
	defer func() { err = errors.Join(err, stream.Close()) }()
	var msg sdk.Message
	for stream.Next() {
		event := stream.Current()
		if err := msg.Accumulate(event); err != nil {
			return nil, fmt.Errorf("anthropic: messages %s: %w", m.name, err)
		}
		if event.Type != "content_block_delta" || event.Delta.Text == "" {
			continue
		}
		if err := f(agent.Chunk{Text: event.Delta.Text}); err != nil {
			return nil, err
		}
	}
	if err := stream.Err(); err != nil {
		return nil, fmt.Errorf("anthropic: messages %s: %w", m.name, err)
	}
	return response(&msg), nil
}

func (m *Model) params(req agent.Request) (sdk.MessageNewParams, error) {
	p := sdk.MessageNewParams{Model: sdk.Model(m.name), MaxTokens: DefaultMaxTokens}
	if req.MaxTokens > 0 {
		p.MaxTokens = int64(req.MaxTokens)
	}
	if req.Temperature != nil {
		p.Temperature = sdk.Float(*req.Temperature)
	}
	if req.System != "" {
		p.System = []sdk.TextBlockParam{{Text: req.System}}
	}
	for _, msg := range req.Messages {
		p.Messages = append(p.Messages, message(msg))
	}
	for _, t := range req.Tools {
		tool, err := toolParam(t)
		if err != nil {
			return p, err
		}
		p.Tools = append(p.Tools, sdk.ToolUnionParam{OfTool: &tool})
	}
	return p, nil
}

func toolParam(t agent.ToolSpec) (sdk.ToolParam, error) {
	var schema map[string]any
	if err := json.Unmarshal(t.Schema, &schema); err != nil {
		return sdk.ToolParam{}, fmt.Errorf("anthropic: schema of tool %s: %w", t.Name, err)
	}
	in := sdk.ToolInputSchemaParam{Properties: schema["properties"], ExtraFields: map[string]any{}}
	for k, v := range schema {
		switch k {
		case "type", "properties":
		case "required":
			for _, name := range v.([]any) {
				in.Required = append(in.Required, fmt.Sprint(name))
			}
		default:
			in.ExtraFields[k] = v
		}
	}
	return sdk.ToolParam{Name: t.Name, Description: param.NewOpt(t.Description), InputSchema: in}, nil
}

func message(msg agent.Message) sdk.MessageParam {
	var blocks []sdk.ContentBlockParamUnion
	if msg.Text != "" {
		blocks = append(blocks, sdk.NewTextBlock(msg.Text))
	}
	for _, c := range msg.ToolCalls {
		blocks = append(blocks, sdk.NewToolUseBlock(c.ID, c.Arguments, c.Name))
	}
	for _, r := range msg.ToolResults {
		blocks = append(blocks, sdk.NewToolResultBlock(r.ID, r.Text, r.IsError))
	}
	if msg.Role == agent.Assistant {
		return sdk.NewAssistantMessage(blocks...)
	}
	return sdk.NewUserMessage(blocks...) // results of tools are the user's turn here
}

func response(msg *sdk.Message) *agent.Response {
	r := &agent.Response{
		Message:      agent.Message{Role: agent.Assistant},
		FinishReason: string(msg.StopReason),
		Model:        string(msg.Model),
		ID:           msg.ID,
		HasUsage:     msg.Usage.InputTokens > 0 || msg.Usage.OutputTokens > 0,
		Usage:        usage(msg.Usage),
	}
	for _, block := range msg.Content {
		switch block.Type {
		case "text":
			r.Message.Text += block.Text
		case "tool_use":
			r.Message.ToolCalls = append(r.Message.ToolCalls, agent.ToolCall{ID: block.ID, Name: block.Name, Arguments: block.Input})
		}
	}
	return r
}

// usage takes reasoning out of the output, in which Anthropic counts it. Its
// input excludes the cache already.
func usage(u sdk.Usage) price.Usage {
	thinking := u.OutputTokensDetails.ThinkingTokens
	return price.Usage{
		Input: u.InputTokens, CacheRead: u.CacheReadInputTokens, CacheWrite: u.CacheCreationInputTokens,
		CacheWrite1h: u.CacheCreation.Ephemeral1hInputTokens,
		Output:       max(0, u.OutputTokens-thinking), Reasoning: thinking,
	}
}
