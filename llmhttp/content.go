package llmhttp

import (
	"encoding/json"
	"strings"

	"github.com/tidwall/gjson"
)

// raw returns a JSON value as it stands, nil if there is none.
func raw(v gjson.Result) json.RawMessage {
	if !v.Exists() {
		return nil
	}
	return json.RawMessage(v.Raw)
}

// chatContent reads a chat completions request.
func chatContent(c *Call, body gjson.Result) {
	for _, m := range body.Get("messages").Array() {
		role, parts := m.Get("role").Str, contentParts(m.Get("content"))
		switch role {
		case "system", "developer":
			c.System = append(c.System, parts...)
			continue
		case "tool":
			parts = []Part{{Type: "tool_call_response", ID: m.Get("tool_call_id").Str, Response: raw(m.Get("content"))}}
		}
		for _, tc := range m.Get("tool_calls").Array() {
			parts = append(parts, Part{Type: "tool_call", ID: tc.Get("id").Str, Name: tc.Get("function.name").Str,
				Arguments: jsonOrString([]byte(tc.Get("function.arguments").Str))})
		}
		c.Input = append(c.Input, Message{Role: role, Parts: parts})
	}
	for _, t := range body.Get("tools").Array() {
		c.Tools = append(c.Tools, Tool{Type: t.Get("type").Str, Name: t.Get("function.name").Str,
			Description: t.Get("function.description").Str, Parameters: raw(t.Get("function.parameters"))})
	}
}

// responsesContent reads a responses request.
func responsesContent(c *Call, body gjson.Result) {
	c.System = contentParts(body.Get("instructions"))
	for _, t := range body.Get("tools").Array() {
		c.Tools = append(c.Tools, Tool{Type: t.Get("type").Str, Name: t.Get("name").Str,
			Description: t.Get("description").Str, Parameters: raw(t.Get("parameters"))})
	}
	input := body.Get("input")
	if input.Type == gjson.String {
		c.Input = []Message{{Role: "user", Parts: contentParts(input)}}
		return
	}
	for _, item := range input.Array() {
		role := item.Get("role").Str
		switch item.Get("type").Str {
		case "function_call", "custom_tool_call":
			args := item.Get("arguments").Str + item.Get("input").Str
			c.Input = append(c.Input, Message{Role: "assistant", Parts: []Part{{Type: "tool_call", ID: item.Get("call_id").Str,
				Name: item.Get("name").Str, Arguments: jsonOrString([]byte(args))}}})
		case "function_call_output", "custom_tool_call_output":
			c.Input = append(c.Input, Message{Role: "tool", Parts: []Part{{Type: "tool_call_response",
				ID: item.Get("call_id").Str, Response: raw(item.Get("output"))}}})
		case "reasoning":
			c.Input = append(c.Input, Message{Role: "assistant", Parts: reasoningParts(item.Get("summary"))})
		case "", "message":
			parts := contentParts(item.Get("content"))
			if role == "system" || role == "developer" {
				c.System = append(c.System, parts...)
				continue
			}
			c.Input = append(c.Input, Message{Role: role, Parts: parts})
		default:
			c.Input = append(c.Input, Message{Role: "assistant", Parts: []Part{{Type: item.Get("type").Str, ID: item.Get("id").Str}}})
		}
	}
}

func reasoningParts(summary gjson.Result) []Part {
	parts := []Part{}
	for _, s := range summary.Array() {
		parts = append(parts, Part{Type: "reasoning", Content: s.Get("text").Str})
	}
	return parts
}

// embeddingsContent reads an embeddings request: each text is a message.
func embeddingsContent(c *Call, body gjson.Result) {
	input := body.Get("input")
	if input.Type == gjson.String {
		c.Input = []Message{{Role: "user", Parts: contentParts(input)}}
		return
	}
	for _, text := range input.Array() {
		if text.Type == gjson.String {
			c.Input = append(c.Input, Message{Role: "user", Parts: contentParts(text)})
		}
	}
}

// anthropicContent reads an Anthropic messages request.
func anthropicContent(c *Call, body gjson.Result) {
	c.System = contentParts(body.Get("system"))
	for _, m := range body.Get("messages").Array() {
		c.Input = append(c.Input, Message{Role: m.Get("role").Str, Parts: contentParts(m.Get("content"))})
	}
	for _, t := range body.Get("tools").Array() {
		kind := t.Get("type").Str
		if kind == "" || kind == "custom" {
			kind = "function"
		}
		c.Tools = append(c.Tools, Tool{Type: kind, Name: t.Get("name").Str,
			Description: t.Get("description").Str, Parameters: raw(t.Get("input_schema"))})
	}
}

// contentParts reads content that is a text or a list of parts, in the forms
// of all dialects.
func contentParts(v gjson.Result) []Part {
	parts := []Part{}
	if v.Type == gjson.String {
		if v.Str != "" {
			parts = append(parts, Part{Type: "text", Content: v.Str})
		}
		return parts
	}
	for _, p := range v.Array() {
		parts = append(parts, contentPart(p))
	}
	return parts
}

func contentPart(p gjson.Result) Part {
	switch kind := p.Get("type").Str; kind {
	case "text", "input_text", "output_text":
		return Part{Type: "text", Content: p.Get("text").Str}
	case "refusal":
		return Part{Type: kind, Content: p.Get("refusal").Str}
	case "thinking":
		return Part{Type: "reasoning", Content: p.Get("thinking").Str}
	case "tool_use":
		return Part{Type: "tool_call", ID: p.Get("id").Str, Name: p.Get("name").Str, Arguments: raw(p.Get("input"))}
	case "server_tool_use":
		return Part{Type: "server_tool_call", ID: p.Get("id").Str, Name: p.Get("name").Str, Arguments: raw(p.Get("input"))}
	case "tool_result":
		return Part{Type: "tool_call_response", ID: p.Get("tool_use_id").Str, Response: raw(p.Get("content"))}
	case "image_url":
		return linked("image", p.Get("image_url.url").Str)
	case "input_image":
		if id := p.Get("file_id").Str; id != "" {
			return Part{Type: "file", Modality: "image", FileID: id}
		}
		return linked("image", p.Get("image_url").Str)
	case "image", "document":
		return anthropicSource(kind, p.Get("source"))
	case "input_audio":
		return Part{Type: "blob", Modality: "audio", MimeType: p.Get("input_audio.format").Str}
	case "file", "input_file":
		id := p.Get("file_id").Str + p.Get("file.file_id").Str
		if id == "" {
			return Part{Type: "blob", Modality: "document"}
		}
		return Part{Type: "file", FileID: id}
	default:
		return Part{Type: kind}
	}
}

func anthropicSource(modality string, source gjson.Result) Part {
	switch source.Get("type").Str {
	case "url":
		return linked(modality, source.Get("url").Str)
	case "file":
		return Part{Type: "file", Modality: modality, FileID: source.Get("file_id").Str}
	case "text":
		return Part{Type: "text", Content: source.Get("data").Str}
	}
	return Part{Type: "blob", Modality: modality, MimeType: source.Get("media_type").Str}
}

// linked is a part behind a URL; of a data URL the bytes are left out.
func linked(modality, url string) Part {
	data, ok := strings.CutPrefix(url, "data:")
	if !ok {
		return Part{Type: "uri", Modality: modality, URI: url}
	}
	mime, _, _ := strings.Cut(data, ";")
	mime, _, _ = strings.Cut(mime, ",")
	return Part{Type: "blob", Modality: modality, MimeType: mime}
}
