package kaizentest

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/kaizen-go/kaizen/price"
)

// anthropicMessages is Anthropic's POST /v1/messages.
type anthropicMessages struct{}

func (anthropicMessages) parse(_ *http.Request, body []byte) (Request, error) {
	var in struct {
		Model     string          `json:"model"`
		MaxTokens *int            `json:"max_tokens"`
		Stream    bool            `json:"stream"`
		System    json.RawMessage `json:"system"`
		Messages  []struct {
			Role    string          `json:"role"`
			Content json.RawMessage `json:"content"`
		} `json:"messages"`
		Tools []struct {
			Name string `json:"name"`
		} `json:"tools"`
	}
	r := Request{Dialect: "anthropic.messages"}
	if err := json.Unmarshal(body, &in); err != nil {
		return r, fmt.Errorf("the body is not the JSON of a messages request: %w", err)
	}
	if in.Model == "" || in.MaxTokens == nil || len(in.Messages) == 0 {
		return r, errors.New("model, max_tokens and messages are required")
	}
	r.Model, r.Stream = in.Model, in.Stream
	var err error
	if r.System, err = textOf(in.System); err != nil {
		return r, fmt.Errorf("system: %w", err)
	}
	for i, m := range in.Messages {
		msg, err := anthropicMessage(m.Role, m.Content)
		if err != nil {
			return r, fmt.Errorf("messages[%d]: %w", i, err)
		}
		r.Messages = append(r.Messages, msg)
	}
	for _, t := range in.Tools {
		r.Tools = append(r.Tools, t.Name)
	}
	return r, nil
}

func anthropicMessage(role string, content json.RawMessage) (Message, error) {
	m := Message{Role: role}
	text, err := textOf(content)
	if err != nil {
		return m, err
	}
	m.Text = text
	var blocks []struct {
		Type      string          `json:"type"`
		ID        string          `json:"id"`
		Name      string          `json:"name"`
		Input     json.RawMessage `json:"input"`
		ToolUseID string          `json:"tool_use_id"`
		Content   json.RawMessage `json:"content"`
	}
	if len(content) == 0 || content[0] != '[' {
		return m, nil
	}
	if err := json.Unmarshal(content, &blocks); err != nil {
		return m, err
	}
	for _, b := range blocks {
		switch b.Type {
		case "tool_use":
			m.ToolCalls = append(m.ToolCalls, ToolCall{ID: b.ID, Name: b.Name, Arguments: b.Input})
		case "tool_result":
			result, err := textOf(b.Content)
			if err != nil {
				return m, err
			}
			m.ToolResults = append(m.ToolResults, ToolResult{ID: b.ToolUseID, Text: result})
		}
	}
	return m, nil
}

func (anthropicMessages) message(a *answer, content []any, stop any, usage object) object {
	return object{
		"id": "msg_" + a.id, "type": "message", "role": "assistant", "model": a.req.Model,
		"content": content, "stop_reason": stop, "stop_sequence": nil, "usage": usage,
	}
}

func (anthropicMessages) stopReason(a *answer) string {
	switch {
	case a.FinishReason != "":
		return a.FinishReason
	case len(a.ToolCalls) > 0:
		return "tool_use"
	}
	return "end_turn"
}

// anthropicUsage has the input without what the cache read and wrote, and the
// output with its thinking.
func anthropicUsage(u price.Usage) object {
	return object{
		"input_tokens":                u.Input,
		"cache_read_input_tokens":     u.CacheRead,
		"cache_creation_input_tokens": u.CacheWrite,
		"cache_creation": object{
			"ephemeral_5m_input_tokens": u.CacheWrite - u.CacheWrite1h,
			"ephemeral_1h_input_tokens": u.CacheWrite1h,
		},
		"output_tokens":         u.Output + u.Reasoning,
		"output_tokens_details": object{"thinking_tokens": u.Reasoning},
		"service_tier":          "standard",
	}
}

func (f anthropicMessages) body(a *answer) []byte {
	content := []any{}
	if a.Text != "" || len(a.ToolCalls) == 0 {
		content = append(content, object{"type": "text", "text": a.Text})
	}
	for _, c := range a.ToolCalls {
		content = append(content, object{"type": "tool_use", "id": c.ID, "name": c.Name, "input": c.Arguments})
	}
	return mustJSON(f.message(a, content, f.stopReason(a), anthropicUsage(a.Usage)))
}

func (f anthropicMessages) stream(a *answer) []frame {
	var frames []frame
	add := func(name string, v object) *frame {
		v["type"] = name
		frames = append(frames, frame{data: event(name, v)})
		return &frames[len(frames)-1]
	}
	// The opening event tells the input and the first generated token.
	opening := a.Usage
	opening.Output, opening.Reasoning = min(1, a.Usage.Output), 0
	add("message_start", object{"message": f.message(a, []any{}, nil, anthropicUsage(opening))}).told = &opening
	index := 0
	if a.Text != "" || len(a.ToolCalls) == 0 {
		add("content_block_start", object{"index": index, "content_block": object{"type": "text", "text": ""}})
		for _, p := range pieces(a.Text) {
			add("content_block_delta", object{"index": index, "delta": object{"type": "text_delta", "text": p}})
		}
		add("content_block_stop", object{"index": index})
		index++
	}
	for _, c := range a.ToolCalls {
		add("content_block_start", object{"index": index, "content_block": object{"type": "tool_use", "id": c.ID, "name": c.Name, "input": object{}}})
		for _, p := range halves(c.Arguments) {
			add("content_block_delta", object{"index": index, "delta": object{"type": "input_json_delta", "partial_json": p}})
		}
		add("content_block_stop", object{"index": index}).tools = 1
		index++
	}
	add("message_delta", object{
		"delta": object{"stop_reason": f.stopReason(a), "stop_sequence": nil},
		"usage": anthropicUsage(a.Usage),
	}).told = &a.Usage
	add("message_stop", object{})
	return frames
}

func (anthropicMessages) failure(status int, message, id string) []byte {
	kind := map[int]string{
		401: "authentication_error", 403: "permission_error", 404: "not_found_error",
		413: "request_too_large", 429: "rate_limit_error", 529: "overloaded_error",
	}[status]
	switch {
	case kind != "":
	case status < 500:
		kind = "invalid_request_error"
	default:
		kind = "api_error"
	}
	return mustJSON(object{"type": "error", "error": object{"type": kind, "message": message}, "request_id": id})
}
