package kaizentest

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"math"
	"net/http"

	"github.com/kaizen-go/kaizen/price"
)

// openAIError is the error body of all of OpenAI's formats.
type openAIError struct{}

func (openAIError) failure(status int, message, _ string) []byte {
	kind, code := "invalid_request_error", any(nil)
	switch {
	case status == 401:
		code = "invalid_api_key"
	case status == 404:
		code = "model_not_found"
	case status == 429:
		kind, code = "requests", "rate_limit_exceeded"
	case status >= 500:
		kind = "server_error"
	}
	return mustJSON(object{"error": object{"message": message, "type": kind, "param": nil, "code": code}})
}

// openAIChat is OpenAI's POST /v1/chat/completions.
type openAIChat struct{ openAIError }

type chatToolCall struct {
	ID       string `json:"id"`
	Function struct {
		Name      string `json:"name"`
		Arguments string `json:"arguments"`
	} `json:"function"`
}

// chatRequest is the part of the request that is not in [Request] too.
type chatRequest struct {
	Model         string `json:"model"`
	Stream        bool   `json:"stream"`
	StreamOptions struct {
		IncludeUsage bool `json:"include_usage"`
	} `json:"stream_options"`
	Messages []struct {
		Role       string          `json:"role"`
		Content    json.RawMessage `json:"content"`
		ToolCalls  []chatToolCall  `json:"tool_calls"`
		ToolCallID string          `json:"tool_call_id"`
	} `json:"messages"`
	Tools []struct {
		Function struct {
			Name string `json:"name"`
		} `json:"function"`
	} `json:"tools"`
}

func (openAIChat) parse(_ *http.Request, body []byte) (Request, error) {
	r := Request{Dialect: "openai.chat"}
	var in chatRequest
	if err := json.Unmarshal(body, &in); err != nil {
		return r, fmt.Errorf("the body is not the JSON of a chat completions request: %w", err)
	}
	if in.Model == "" || len(in.Messages) == 0 {
		return r, errors.New("model and messages are required")
	}
	r.Model, r.Stream, r.includeUsage = in.Model, in.Stream, in.StreamOptions.IncludeUsage
	for i, m := range in.Messages {
		text, err := textOf(m.Content)
		if err != nil {
			return r, fmt.Errorf("messages[%d]: %w", i, err)
		}
		switch m.Role {
		case "system", "developer":
			r.System = join(r.System, text)
			continue
		case "tool":
			r.Messages = append(r.Messages, Message{Role: "tool", ToolResults: []ToolResult{{ID: m.ToolCallID, Text: text}}})
			continue
		}
		msg := Message{Role: m.Role, Text: text}
		for _, c := range m.ToolCalls {
			msg.ToolCalls = append(msg.ToolCalls, ToolCall{ID: c.ID, Name: c.Function.Name, Arguments: json.RawMessage(c.Function.Arguments)})
		}
		r.Messages = append(r.Messages, msg)
	}
	for _, t := range in.Tools {
		r.Tools = append(r.Tools, t.Function.Name)
	}
	return r, nil
}

// chatUsage has the cached tokens in prompt_tokens and the reasoning in completion_tokens.
func chatUsage(u price.Usage) object {
	in, out := u.Input+u.CacheRead+u.CacheWrite, u.Output+u.Reasoning
	return object{
		"prompt_tokens": in, "completion_tokens": out, "total_tokens": in + out,
		"prompt_tokens_details":     object{"cached_tokens": u.CacheRead, "cache_write_tokens": u.CacheWrite},
		"completion_tokens_details": object{"reasoning_tokens": u.Reasoning},
	}
}

func chatFinish(a *answer) string {
	switch {
	case a.FinishReason != "":
		return a.FinishReason
	case len(a.ToolCalls) > 0:
		return "tool_calls"
	}
	return "stop"
}

func (openAIChat) body(a *answer) []byte {
	message := object{"role": "assistant", "content": a.Text, "refusal": nil}
	if len(a.ToolCalls) > 0 {
		if a.Text == "" {
			message["content"] = nil
		}
		var calls []any
		for _, c := range a.ToolCalls {
			calls = append(calls, object{"id": c.ID, "type": "function", "function": object{"name": c.Name, "arguments": string(c.Arguments)}})
		}
		message["tool_calls"] = calls
	}
	return mustJSON(object{
		"id": "chatcmpl-" + a.id, "object": "chat.completion", "created": a.created, "model": a.req.Model,
		"choices":      []any{object{"index": 0, "message": message, "logprobs": nil, "finish_reason": chatFinish(a)}},
		"usage":        chatUsage(a.Usage),
		"service_tier": "default",
	})
}

func (openAIChat) stream(a *answer) []frame {
	var frames []frame
	chunk := func(choices []any, usage any) *frame {
		v := object{"id": "chatcmpl-" + a.id, "object": "chat.completion.chunk", "created": a.created,
			"model": a.req.Model, "service_tier": "default", "choices": choices}
		if a.req.includeUsage {
			v["usage"] = usage
		}
		frames = append(frames, frame{data: event("", v)})
		return &frames[len(frames)-1]
	}
	delta := func(d object, finish any) *frame {
		return chunk([]any{object{"index": 0, "delta": d, "finish_reason": finish}}, nil)
	}
	delta(object{"role": "assistant", "content": ""}, nil)
	if a.Text != "" {
		for _, p := range pieces(a.Text) {
			delta(object{"content": p}, nil)
		}
	}
	for i, c := range a.ToolCalls {
		delta(object{"tool_calls": []any{object{"index": i, "id": c.ID, "type": "function", "function": object{"name": c.Name, "arguments": ""}}}}, nil)
		var last *frame
		for _, p := range halves(c.Arguments) {
			last = delta(object{"tool_calls": []any{object{"index": i, "function": object{"arguments": p}}}}, nil)
		}
		last.tools = 1
	}
	delta(object{}, chatFinish(a))
	if a.req.includeUsage {
		chunk([]any{}, chatUsage(a.Usage)).told = &a.Usage
	}
	return append(frames, frame{data: []byte("data: [DONE]\n\n")})
}

// openAIEmbeddings is OpenAI's POST /v1/embeddings.
type openAIEmbeddings struct{ openAIError }

func (openAIEmbeddings) parse(_ *http.Request, body []byte) (Request, error) {
	r := Request{Dialect: "openai.embeddings"}
	var in struct {
		Model      string          `json:"model"`
		Input      json.RawMessage `json:"input"`
		Dimensions int             `json:"dimensions"`
		Encoding   string          `json:"encoding_format"`
	}
	if err := json.Unmarshal(body, &in); err != nil {
		return r, fmt.Errorf("the body is not the JSON of an embeddings request: %w", err)
	}
	if in.Model == "" || len(in.Input) == 0 || in.Dimensions < 0 || in.Dimensions > maxDimensions {
		return r, fmt.Errorf("model and input are required, dimensions are at most %d", maxDimensions)
	}
	r.Model, r.dimensions, r.base64 = in.Model, in.Dimensions, in.Encoding == "base64"
	texts := []string{""}
	err := json.Unmarshal(in.Input, &texts[0])
	if in.Input[0] == '[' {
		err = json.Unmarshal(in.Input, &texts)
	}
	if err != nil {
		return r, errors.New("input is neither a text nor a list of texts")
	}
	for _, text := range texts {
		r.Messages = append(r.Messages, Message{Role: "user", Text: text})
	}
	return r, nil
}

func (openAIEmbeddings) body(a *answer) []byte {
	var data []any
	for i, m := range a.req.Messages {
		data = append(data, object{"object": "embedding", "index": i, "embedding": embedding(m.Text, a.req.dimensions, a.req.base64)})
	}
	in := a.Usage.Input + a.Usage.CacheRead + a.Usage.CacheWrite
	return mustJSON(object{"object": "list", "model": a.req.Model, "data": data, "usage": object{"prompt_tokens": in, "total_tokens": in}})
}

func (f openAIEmbeddings) stream(a *answer) []frame {
	return []frame{{data: f.body(a), told: &a.Usage}} // never asked for: parse leaves Stream false
}

// maxDimensions bounds what a request can make us compute.
const maxDimensions = 4096

// embedding is a vector that depends on nothing but the text.
func embedding(text string, dimensions int, encoded bool) any {
	if dimensions == 0 {
		dimensions = 8
	}
	vector := make([]float32, dimensions)
	for i := range vector {
		h := fnv.New32a()
		fmt.Fprintf(h, "%d\x00%s", i, text) // a hash cannot fail to write
		vector[i] = float32(h.Sum32()%2001)/1000 - 1
	}
	if !encoded {
		return vector
	}
	raw := make([]byte, 0, 4*dimensions)
	for _, v := range vector {
		raw = binary.LittleEndian.AppendUint32(raw, math.Float32bits(v))
	}
	return base64.StdEncoding.EncodeToString(raw)
}
