package openai

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	sdk "github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/packages/param"
	"github.com/openai/openai-go/v3/responses"

	"github.com/kaizen-go/kaizen/agent"
	"github.com/kaizen-go/kaizen/price"
)

// Responses is an [agent.Streamer] over the Responses API. Each call sends the
// whole conversation, as [Model] does, so that memory and checkpoints stay the
// agent's: no previous_response_id is used, and nothing is stored at OpenAI.
// It keeps no state between calls.
type Responses struct {
	name   string
	client sdk.Client
}

var _ agent.Streamer = (*Responses)(nil)

// NewResponses returns a model. It does no I/O.
func NewResponses(cfg Config) *Responses { return &Responses{cfg.Model, newClient(cfg)} }

// Info implements [agent.Model].
func (m *Responses) Info() agent.ModelInfo {
	return agent.ModelInfo{Provider: "openai", Name: m.name}
}

// Generate implements [agent.Model].
func (m *Responses) Generate(ctx context.Context, req agent.Request) (*agent.Response, error) {
	params, err := m.params(req)
	if err != nil {
		return nil, err
	}
	r, err := m.client.Responses.New(ctx, params)
	if err != nil {
		return nil, fmt.Errorf("openai: responses %s: %w", m.name, err)
	}
	return m.response(r)
}

// Stream implements [agent.Streamer].
func (m *Responses) Stream(ctx context.Context, req agent.Request, f func(agent.Chunk) error) (_ *agent.Response, err error) {
	params, err := m.params(req)
	if err != nil {
		return nil, err
	}
	stream := m.client.Responses.NewStreaming(ctx, params)
	defer func() { err = errors.Join(err, stream.Close()) }()
	var last *responses.Response
	for stream.Next() {
		switch event := stream.Current().AsAny().(type) {
		case responses.ResponseTextDeltaEvent:
			if err := f(agent.Chunk{Text: event.Delta}); err != nil {
				return nil, err
			}
		case responses.ResponseCompletedEvent:
			last = &event.Response
		case responses.ResponseIncompleteEvent:
			last = &event.Response
		case responses.ResponseFailedEvent:
			last = &event.Response
		case responses.ResponseErrorEvent:
			return nil, fmt.Errorf("openai: responses %s: %s: %s", m.name, event.Code, event.Message)
		}
	}
	if err := stream.Err(); err != nil {
		return nil, fmt.Errorf("openai: responses %s: %w", m.name, err)
	}
	if last == nil {
		return nil, fmt.Errorf("openai: responses %s: the stream ended without an answer", m.name)
	}
	return m.response(last)
}

func (m *Responses) params(req agent.Request) (responses.ResponseNewParams, error) {
	p := responses.ResponseNewParams{Model: m.name, Store: sdk.Bool(false)}
	if req.MaxTokens > 0 {
		p.MaxOutputTokens = sdk.Int(int64(req.MaxTokens))
	}
	if req.Temperature != nil {
		p.Temperature = sdk.Float(*req.Temperature)
	}
	if req.System != "" {
		p.Instructions = sdk.String(req.System)
	}
	for _, msg := range req.Messages {
		p.Input.OfInputItemList = append(p.Input.OfInputItemList, items(msg)...)
	}
	for _, t := range req.Tools {
		// Strict mode wants schemas of a narrower kind than agents' tools have.
		tool := &responses.FunctionToolParam{Name: t.Name, Description: param.NewOpt(t.Description), Strict: sdk.Bool(false)}
		if err := json.Unmarshal(t.Schema, &tool.Parameters); err != nil {
			return p, fmt.Errorf("openai: schema of tool %s: %w", t.Name, err)
		}
		p.Tools = append(p.Tools, responses.ToolUnionParam{OfFunction: tool})
	}
	return p, nil
}

// items are what a message is in this API: its text, its calls of tools and
// their results are one item each.
func items(msg agent.Message) []responses.ResponseInputItemUnionParam {
	var out []responses.ResponseInputItemUnionParam
	if msg.Text != "" {
		role := responses.EasyInputMessageRoleUser
		if msg.Role == agent.Assistant {
			role = responses.EasyInputMessageRoleAssistant
		}
		out = append(out, responses.ResponseInputItemParamOfMessage(msg.Text, role))
	}
	for _, c := range msg.ToolCalls {
		out = append(out, responses.ResponseInputItemParamOfFunctionCall(string(c.Arguments), c.ID, c.Name))
	}
	for _, r := range msg.ToolResults {
		item := responses.ResponseInputItemParamOfFunctionCallOutput(r.Text)
		item.OfFunctionCallOutput.CallID = param.NewOpt(r.ID)
		out = append(out, item)
	}
	return out
}

func (m *Responses) response(r *responses.Response) (*agent.Response, error) {
	if r.Status == responses.ResponseStatusFailed {
		return nil, fmt.Errorf("openai: responses %s: %s: %s", m.name, r.Error.Code, r.Error.Message)
	}
	out := &agent.Response{
		Message:      agent.Message{Role: agent.Assistant, Text: r.OutputText()},
		FinishReason: string(r.Status),
		Model:        r.Model,
		ID:           r.ID,
		HasUsage:     r.Usage.TotalTokens > 0,
		Usage:        responsesUsage(r.Usage),
	}
	if r.IncompleteDetails.Reason != "" {
		out.FinishReason = string(r.IncompleteDetails.Reason)
	}
	for _, item := range r.Output {
		if item.Type == "function_call" {
			call := item.AsFunctionCall()
			out.Message.ToolCalls = append(out.Message.ToolCalls, agent.ToolCall{
				ID: call.CallID, Name: call.Name, Arguments: arguments(call.Arguments),
			})
		}
	}
	return out, nil
}

// responsesUsage is [usage] of this API, which counts in the same way.
func responsesUsage(u responses.ResponseUsage) price.Usage {
	read, write := u.InputTokensDetails.CachedTokens, u.InputTokensDetails.CacheWriteTokens
	reasoning := u.OutputTokensDetails.ReasoningTokens
	return price.Usage{
		Input: max(0, u.InputTokens-read-write), CacheRead: read, CacheWrite: write,
		Output: max(0, u.OutputTokens-reasoning), Reasoning: reasoning,
	}
}
