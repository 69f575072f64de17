package kaizentest

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/kaizen-go/kaizen/price"
)

// openAIResponses is OpenAI's POST /v1/responses.
type openAIResponses struct{ openAIError }

type responsesItem struct {
	Type      string          `json:"type"`
	Role      string          `json:"role"`
	Content   json.RawMessage `json:"content"`
	CallID    string          `json:"call_id"`
	Name      string          `json:"name"`
	Arguments string          `json:"arguments"`
	Output    json.RawMessage `json:"output"`
}

func (openAIResponses) parse(_ *http.Request, body []byte) (Request, error) {
	r := Request{Dialect: "openai.responses"}
	var in struct {
		Model        string          `json:"model"`
		Stream       bool            `json:"stream"`
		Instructions string          `json:"instructions"`
		Input        json.RawMessage `json:"input"`
		Tools        []struct {
			Name string `json:"name"`
		} `json:"tools"`
	}
	if err := json.Unmarshal(body, &in); err != nil {
		return r, fmt.Errorf("the body is not the JSON of a responses request: %w", err)
	}
	if in.Model == "" || len(in.Input) == 0 {
		return r, errors.New("model and input are required")
	}
	r.Model, r.Stream, r.System = in.Model, in.Stream, in.Instructions
	for _, t := range in.Tools {
		r.Tools = append(r.Tools, t.Name)
	}
	if in.Input[0] == '"' {
		text, err := textOf(in.Input)
		r.Messages = []Message{{Role: "user", Text: text}}
		return r, err
	}
	var items []responsesItem
	if err := json.Unmarshal(in.Input, &items); err != nil {
		return r, fmt.Errorf("input is neither a text nor a list of items: %w", err)
	}
	for i, item := range items {
		if err := item.addTo(&r); err != nil {
			return r, fmt.Errorf("input[%d]: %w", i, err)
		}
	}
	return r, nil
}

// addTo adds an item of the history. What the assistant said in one turn are
// several items; they become one message.
func (item *responsesItem) addTo(r *Request) error {
	assistant := func() *Message {
		if n := len(r.Messages); n > 0 && r.Messages[n-1].Role == "assistant" {
			return &r.Messages[n-1]
		}
		r.Messages = append(r.Messages, Message{Role: "assistant"})
		return &r.Messages[len(r.Messages)-1]
	}
	switch item.Type {
	case "function_call":
		m := assistant()
		m.ToolCalls = append(m.ToolCalls, ToolCall{ID: item.CallID, Name: item.Name, Arguments: json.RawMessage(item.Arguments)})
		return nil
	case "function_call_output":
		text, err := textOf(item.Output)
		r.Messages = append(r.Messages, Message{Role: "tool", ToolResults: []ToolResult{{ID: item.CallID, Text: text}}})
		return err
	case "", "message":
	default:
		return nil // reasoning and the like say nothing that a script reads
	}
	text, err := textOf(item.Content)
	switch item.Role {
	case "system", "developer":
		r.System = join(r.System, text)
	case "assistant":
		m := assistant()
		m.Text = join(m.Text, text)
	default:
		r.Messages = append(r.Messages, Message{Role: item.Role, Text: text})
	}
	return err
}

func responsesUsage(u price.Usage) object {
	in, out := u.Input+u.CacheRead+u.CacheWrite, u.Output+u.Reasoning
	return object{
		"input_tokens": in, "output_tokens": out, "total_tokens": in + out,
		"input_tokens_details":  object{"cached_tokens": u.CacheRead, "cache_write_tokens": u.CacheWrite},
		"output_tokens_details": object{"reasoning_tokens": u.Reasoning},
	}
}

// response is the response object: in progress, or at its end.
func (openAIResponses) response(a *answer, output []any, done bool) object {
	v := object{
		"id": "resp_" + a.id, "object": "response", "created_at": a.created, "model": a.req.Model,
		"status": "in_progress", "output": output, "error": nil, "incomplete_details": nil,
		"instructions": a.req.System, "metadata": object{}, "parallel_tool_calls": true, "temperature": 1.0, "top_p": 1.0,
		"tool_choice": "auto", "tools": []any{}, "usage": nil, "service_tier": "default",
	}
	if !done {
		return v
	}
	v["status"], v["usage"] = "completed", responsesUsage(a.Usage)
	if a.FinishReason != "" && a.FinishReason != "completed" {
		v["status"], v["incomplete_details"] = "incomplete", object{"reason": a.FinishReason}
	}
	return v
}

func (openAIResponses) message(a *answer, text, status string) object {
	content := []any{}
	if status == "completed" {
		content = append(content, outputText(text))
	}
	return object{"id": "msg_" + a.id, "type": "message", "role": "assistant", "status": status, "content": content}
}

func outputText(text string) object {
	return object{"type": "output_text", "text": text, "annotations": []any{}, "logprobs": []any{}}
}

func (openAIResponses) call(c ToolCall, arguments, status string) object {
	return object{"id": "fc_" + c.ID, "type": "function_call", "call_id": c.ID, "name": c.Name, "arguments": arguments, "status": status}
}

func (f openAIResponses) output(a *answer) []any {
	output := []any{}
	if a.Text != "" || len(a.ToolCalls) == 0 {
		output = append(output, f.message(a, a.Text, "completed"))
	}
	for _, c := range a.ToolCalls {
		output = append(output, f.call(c, string(c.Arguments), "completed"))
	}
	return output
}

func (f openAIResponses) body(a *answer) []byte {
	return mustJSON(f.response(a, f.output(a), true))
}

func (f openAIResponses) stream(a *answer) []frame {
	var frames []frame
	add := func(name string, v object) *frame {
		v["type"], v["sequence_number"] = name, len(frames)
		frames = append(frames, frame{data: event(name, v)})
		return &frames[len(frames)-1]
	}
	add("response.created", object{"response": f.response(a, []any{}, false)})
	add("response.in_progress", object{"response": f.response(a, []any{}, false)})
	index := 0
	if a.Text != "" || len(a.ToolCalls) == 0 {
		f.streamText(a, add)
		index++
	}
	for _, c := range a.ToolCalls {
		id, args := "fc_"+c.ID, string(c.Arguments)
		add("response.output_item.added", object{"output_index": index, "item": f.call(c, "", "in_progress")})
		for _, p := range halves(c.Arguments) {
			add("response.function_call_arguments.delta", object{"output_index": index, "item_id": id, "delta": p})
		}
		add("response.function_call_arguments.done", object{"output_index": index, "item_id": id, "name": c.Name, "arguments": args})
		add("response.output_item.done", object{"output_index": index, "item": f.call(c, args, "completed")}).tools = 1
		index++
	}
	last := f.response(a, f.output(a), true)
	add("response."+last["status"].(string), object{"response": last}).told = &a.Usage
	return frames
}

// streamText adds the events of a text, the first item of the output.
func (f openAIResponses) streamText(a *answer, add func(string, object) *frame) {
	at := func(v object) object {
		v["output_index"], v["content_index"], v["item_id"] = 0, 0, "msg_"+a.id
		return v
	}
	add("response.output_item.added", object{"output_index": 0, "item": f.message(a, "", "in_progress")})
	add("response.content_part.added", at(object{"part": outputText("")}))
	for _, p := range pieces(a.Text) {
		add("response.output_text.delta", at(object{"delta": p, "logprobs": []any{}}))
	}
	add("response.output_text.done", at(object{"text": a.Text, "logprobs": []any{}}))
	add("response.content_part.done", at(object{"part": outputText(a.Text)}))
	add("response.output_item.done", object{"output_index": 0, "item": f.message(a, a.Text, "completed")})
}
