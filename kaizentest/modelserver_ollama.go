package kaizentest

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"time"
)

// ollamaError is the error body of all of Ollama's formats.
type ollamaError struct{}

func (ollamaError) failure(_ int, message, _ string) []byte {
	return mustJSON(object{"error": message})
}

// ollamaLines are the objects of an Ollama stream, one a line. Usage is told
// with the last.
func ollamaLines(a *answer, parts []object, tools []int, end object) []frame {
	var frames []frame
	for i, p := range parts {
		p["done"] = false
		frames = append(frames, frame{data: append(mustJSON(ollamaObject(a, p)), '\n'), tools: tools[i]})
	}
	return append(frames, frame{data: append(mustJSON(ollamaEnd(a, end)), '\n'), told: &a.Usage})
}

func ollamaObject(a *answer, fields object) object {
	o := object{"model": a.req.Model, "created_at": time.Unix(a.created, 0).UTC().Format(time.RFC3339Nano)}
	maps.Copy(o, fields)
	return o
}

// ollamaEnd is the last object, or the only one. A count of nothing is left
// out, as Ollama does.
func ollamaEnd(a *answer, fields object) object {
	o := ollamaObject(a, fields)
	o["done"], o["done_reason"] = true, firstOf(a.FinishReason, "stop")
	o["total_duration"], o["load_duration"] = 2_000_000, 1_000_000
	if a.Usage.Input > 0 {
		o["prompt_eval_count"], o["prompt_eval_duration"] = a.Usage.Input, 400_000
	}
	if a.Usage.Output > 0 {
		o["eval_count"], o["eval_duration"] = a.Usage.Output, 600_000
	}
	return o
}

// ollamaChat is Ollama's POST /api/chat. A stream is sent unless the request
// says no.
type ollamaChat struct{ ollamaError }

func (ollamaChat) parse(_ *http.Request, body []byte) (Request, error) {
	r := Request{Dialect: "ollama.chat"}
	var in struct {
		Model    string `json:"model"`
		Stream   *bool  `json:"stream"`
		Messages []struct {
			Role       string `json:"role"`
			Content    string `json:"content"`
			ToolCallID string `json:"tool_call_id"`
			ToolName   string `json:"tool_name"`
			ToolCalls  []struct {
				ID       string `json:"id"`
				Function struct {
					Name      string          `json:"name"`
					Arguments json.RawMessage `json:"arguments"`
				} `json:"function"`
			} `json:"tool_calls"`
		} `json:"messages"`
		Tools []struct {
			Function struct {
				Name string `json:"name"`
			} `json:"function"`
		} `json:"tools"`
	}
	if err := json.Unmarshal(body, &in); err != nil {
		return r, fmt.Errorf("the body is not the JSON of a chat request: %w", err)
	}
	if in.Model == "" || len(in.Messages) == 0 {
		return r, errors.New("model and messages are required")
	}
	r.Model, r.Stream = in.Model, in.Stream == nil || *in.Stream
	for _, m := range in.Messages {
		switch m.Role {
		case "system":
			r.System = join(r.System, m.Content)
			continue
		case "tool":
			r.Messages = append(r.Messages, Message{Role: "tool", ToolResults: []ToolResult{{ID: firstOf(m.ToolCallID, m.ToolName), Text: m.Content}}})
			continue
		}
		msg := Message{Role: m.Role, Text: m.Content}
		for _, c := range m.ToolCalls {
			msg.ToolCalls = append(msg.ToolCalls, ToolCall{ID: firstOf(c.ID, c.Function.Name), Name: c.Function.Name, Arguments: c.Function.Arguments})
		}
		r.Messages = append(r.Messages, msg)
	}
	for _, t := range in.Tools {
		r.Tools = append(r.Tools, t.Function.Name)
	}
	return r, nil
}

func (ollamaChat) message(text string, calls ...ToolCall) object {
	m := object{"role": "assistant", "content": text}
	var list []any
	for i, c := range calls {
		list = append(list, object{"id": c.ID, "function": object{"index": i, "name": c.Name, "arguments": c.Arguments}})
	}
	if list != nil {
		m["tool_calls"] = list
	}
	return object{"message": m}
}

func (f ollamaChat) body(a *answer) []byte {
	return mustJSON(ollamaEnd(a, f.message(a.Text, a.ToolCalls...)))
}

func (f ollamaChat) stream(a *answer) []frame {
	var parts []object
	var tools []int
	if a.Text != "" {
		for _, p := range pieces(a.Text) {
			parts, tools = append(parts, f.message(p)), append(tools, 0)
		}
	}
	for _, c := range a.ToolCalls {
		parts, tools = append(parts, f.message("", c)), append(tools, 1)
	}
	return ollamaLines(a, parts, tools, f.message(""))
}

// ollamaGenerate is Ollama's POST /api/generate.
type ollamaGenerate struct{ ollamaError }

func (ollamaGenerate) parse(_ *http.Request, body []byte) (Request, error) {
	r := Request{Dialect: "ollama.generate"}
	var in struct {
		Model  string `json:"model"`
		Prompt string `json:"prompt"`
		System string `json:"system"`
		Stream *bool  `json:"stream"`
	}
	if err := json.Unmarshal(body, &in); err != nil {
		return r, fmt.Errorf("the body is not the JSON of a generate request: %w", err)
	}
	if in.Model == "" || in.Prompt == "" {
		return r, errors.New("model and prompt are required")
	}
	r.Model, r.Stream, r.System = in.Model, in.Stream == nil || *in.Stream, in.System
	r.Messages = []Message{{Role: "user", Text: in.Prompt}}
	return r, nil
}

func (ollamaGenerate) body(a *answer) []byte {
	return mustJSON(ollamaEnd(a, object{"response": a.Text}))
}

func (ollamaGenerate) stream(a *answer) []frame {
	var parts []object
	for _, p := range pieces(a.Text) {
		parts = append(parts, object{"response": p})
	}
	return ollamaLines(a, parts, make([]int, len(parts)), object{"response": ""})
}

// ollamaEmbed is Ollama's POST /api/embed.
type ollamaEmbed struct{ ollamaError }

func (ollamaEmbed) parse(r *http.Request, body []byte) (Request, error) {
	req, err := openAIEmbeddings{}.parse(r, body) // model, input and dimensions are the same
	req.Dialect = "ollama.embed"
	return req, err
}

func (ollamaEmbed) body(a *answer) []byte {
	var list []any
	for _, m := range a.req.Messages {
		list = append(list, embedding(m.Text, a.req.dimensions, false))
	}
	return mustJSON(object{"model": a.req.Model, "embeddings": list, "total_duration": 2_000_000, "load_duration": 1_000_000, "prompt_eval_count": a.Usage.Input})
}

func (f ollamaEmbed) stream(a *answer) []frame {
	return []frame{{data: f.body(a), told: &a.Usage}} // never asked for: parse leaves Stream false
}
