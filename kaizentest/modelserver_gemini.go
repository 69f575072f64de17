package kaizentest

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/kaizen-go/kaizen/price"
)

// geminiError is the error body of Google's formats.
type geminiError struct{}

func (geminiError) failure(status int, message, _ string) []byte {
	name := map[int]string{
		401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED", 404: "NOT_FOUND",
		429: "RESOURCE_EXHAUSTED", 503: "UNAVAILABLE", 504: "DEADLINE_EXCEEDED",
	}[status]
	switch {
	case name != "":
	case status < 500:
		name = "INVALID_ARGUMENT"
	default:
		name = "INTERNAL"
	}
	return mustJSON(object{"error": object{"code": status, "message": message, "status": name}})
}

// gemini is Google's POST …/models/NAME:generateContent and
// :streamGenerateContent, which is server-sent events with alt=sse and one
// array without.
type gemini struct{ geminiError }

// geminiModel is the NAME of the path.
func geminiModel(path string) string {
	name, _, _ := strings.Cut(path[strings.LastIndexByte(path, '/')+1:], ":")
	return name
}

type geminiContent struct {
	Role  string `json:"role"`
	Parts []struct {
		Text    string `json:"text"`
		Thought bool   `json:"thought"`
		Call    *struct {
			ID   string          `json:"id"`
			Name string          `json:"name"`
			Args json.RawMessage `json:"args"`
		} `json:"functionCall"`
		Response *struct {
			ID       string          `json:"id"`
			Name     string          `json:"name"`
			Response json.RawMessage `json:"response"`
		} `json:"functionResponse"`
	} `json:"parts"`
}

func (gemini) parse(r *http.Request, body []byte) (Request, error) {
	stream := strings.HasSuffix(r.URL.Path, ":streamGenerateContent")
	req := Request{Dialect: "gemini.generate_content", Model: geminiModel(r.URL.Path), Stream: stream, array: stream && r.URL.Query().Get("alt") != "sse"}
	var in struct {
		Contents []geminiContent `json:"contents"`
		System   geminiContent   `json:"systemInstruction"`
		Tools    []struct {
			Functions []struct {
				Name string `json:"name"`
			} `json:"functionDeclarations"`
		} `json:"tools"`
	}
	if err := json.Unmarshal(body, &in); err != nil {
		return req, fmt.Errorf("the body is not the JSON of a generateContent request: %w", err)
	}
	if req.Model == "" || len(in.Contents) == 0 {
		return req, errors.New("a model in the path and contents are required")
	}
	req.System = in.System.message().Text
	for _, c := range in.Contents {
		req.Messages = append(req.Messages, c.message())
	}
	for _, t := range in.Tools {
		for _, f := range t.Functions {
			req.Tools = append(req.Tools, f.Name)
		}
	}
	return req, nil
}

// message is the content as a message. A call has no id unless the client gave
// it one; the function's name stands for it then.
func (c geminiContent) message() Message {
	m := Message{Role: "user"}
	if c.Role == "model" {
		m.Role = "assistant"
	}
	for _, p := range c.Parts {
		switch {
		case p.Call != nil:
			m.ToolCalls = append(m.ToolCalls, ToolCall{ID: firstOf(p.Call.ID, p.Call.Name), Name: p.Call.Name, Arguments: p.Call.Args})
		case p.Response != nil:
			m.ToolResults = append(m.ToolResults, ToolResult{ID: firstOf(p.Response.ID, p.Response.Name), Text: string(p.Response.Response)})
		case !p.Thought:
			m.Text = join(m.Text, p.Text)
		}
	}
	return m
}

func firstOf(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// geminiUsage has the cached tokens in the prompt and the thoughts beside the candidates.
func geminiUsage(u price.Usage) object {
	o := object{"promptTokenCount": u.Input + u.CacheRead, "totalTokenCount": u.Total(), "trafficType": "ON_DEMAND"}
	for name, n := range map[string]int64{"cachedContentTokenCount": u.CacheRead, "candidatesTokenCount": u.Output, "thoughtsTokenCount": u.Reasoning} {
		if n > 0 { // as Google does
			o[name] = n
		}
	}
	return o
}

func (gemini) response(a *answer, parts []any, finish string, u price.Usage) object {
	candidate := object{"index": 0, "content": object{"role": "model", "parts": parts}}
	if finish != "" {
		candidate["finishReason"] = finish
	}
	return object{"candidates": []any{candidate}, "usageMetadata": geminiUsage(u), "modelVersion": a.req.Model, "responseId": a.id}
}

func (gemini) call(c ToolCall) object {
	return object{"functionCall": object{"id": c.ID, "name": c.Name, "args": c.Arguments}}
}

func (g gemini) body(a *answer) []byte {
	var parts []any
	if a.Text != "" || len(a.ToolCalls) == 0 {
		parts = append(parts, object{"text": a.Text})
	}
	for _, c := range a.ToolCalls {
		parts = append(parts, g.call(c))
	}
	return mustJSON(g.response(a, parts, firstOf(a.FinishReason, "STOP"), a.Usage))
}

func (g gemini) stream(a *answer) []frame {
	// Usage is told with each event, as it stands.
	opening := a.Usage
	opening.Output, opening.Reasoning = min(1, a.Usage.Output), 0
	var frames []frame
	add := func(part object, finish string, u *price.Usage, tools int) {
		data := mustJSON(g.response(a, []any{part}, finish, *u))
		switch {
		case !a.req.array:
			data = fmt.Appendf(nil, "data: %s\r\n\r\n", data)
		case len(frames) == 0:
			data = append([]byte("["), data...)
		default:
			data = append([]byte("\n,\n"), data...)
		}
		if finish != "" && a.req.array {
			data = append(data, "\n]"...)
		}
		frames = append(frames, frame{data: data, told: u, tools: tools})
	}
	if a.Text != "" {
		for _, p := range pieces(a.Text) {
			add(object{"text": p}, "", &opening, 0)
		}
	}
	for _, c := range a.ToolCalls {
		add(g.call(c), "", &opening, 1)
	}
	add(object{"text": ""}, firstOf(a.FinishReason, "STOP"), &a.Usage, 0)
	return frames
}

// geminiEmbed is Google's POST …/models/NAME:embedContent and :batchEmbedContents.
type geminiEmbed struct{ geminiError }

func (geminiEmbed) parse(r *http.Request, body []byte) (Request, error) {
	req := Request{Dialect: "gemini.embed_content", Model: geminiModel(r.URL.Path), batch: strings.HasSuffix(r.URL.Path, ":batchEmbedContents")}
	type one struct {
		Content    geminiContent `json:"content"`
		Dimensions int           `json:"outputDimensionality"`
	}
	var in struct {
		one
		Requests []one `json:"requests"`
	}
	if err := json.Unmarshal(body, &in); err != nil {
		return req, fmt.Errorf("the body is not the JSON of an embedContent request: %w", err)
	}
	if !req.batch {
		in.Requests = []one{in.one}
	}
	if req.Model == "" || len(in.Requests) == 0 || len(in.Requests[0].Content.Parts) == 0 {
		return req, errors.New("a model in the path and content are required")
	}
	req.dimensions = in.Requests[0].Dimensions
	if req.dimensions < 0 || req.dimensions > maxDimensions {
		return req, fmt.Errorf("outputDimensionality is at most %d", maxDimensions)
	}
	for _, one := range in.Requests {
		req.Messages = append(req.Messages, one.Content.message())
	}
	return req, nil
}

func (geminiEmbed) body(a *answer) []byte {
	var list []any
	for _, m := range a.req.Messages {
		list = append(list, object{"values": embedding(m.Text, a.req.dimensions, false)})
	}
	o := object{"usageMetadata": object{"promptTokenCount": a.Usage.Input, "totalTokenCount": a.Usage.Input}}
	if a.req.batch {
		o["embeddings"] = list
	} else {
		o["embedding"] = list[0]
	}
	return mustJSON(o)
}

func (f geminiEmbed) stream(a *answer) []frame {
	return []frame{{data: f.body(a), told: &a.Usage}} // never asked for: parse leaves Stream false
}
