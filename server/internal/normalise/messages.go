package normalise

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"

	"github.com/kaizen-go/kaizen/server/internal/record"
)

// Message is one message of a conversation, as the newest convention has it.
type Message struct {
	Role         string `json:"role"`
	Name         string `json:"name,omitempty"`
	Parts        []Part `json:"parts"`
	FinishReason string `json:"finish_reason,omitempty"`
}

// Part is one part of a message. Its field "type" says what else it has:
// text{content}, tool_call{id,name,arguments}, tool_call_response{id,response},
// reasoning{content}; parts of other types are kept as they were sent.
type Part map[string]any

// Content is what a model or tool call said and was told.
type Content struct {
	Input, Output []Message
	System        []Part
	// ToolArguments and ToolResult are text or structured, as sent.
	ToolArguments, ToolResult any
}

// ContentOf reads the messages of s, whichever convention they follow. What it
// cannot read it leaves out: the attributes still have it.
func ContentOf(s *record.Span) Content {
	a := attrs(s.Attributes)
	c := Content{
		Input:         firstMessages(a, "user", "gen_ai.input.messages", "ai.prompt.messages", "langfuse.observation.input"),
		Output:        firstMessages(a, "assistant", "gen_ai.output.messages", "langfuse.observation.output"),
		System:        parts(structured(a["gen_ai.system_instructions"])),
		ToolArguments: firstOf(a, "gen_ai.tool.call.arguments", "ai.toolCall.args", "input.value", "tool.parameters", "traceloop.entity.input"),
		ToolResult:    firstOf(a, "gen_ai.tool.call.result", "ai.toolCall.result", "output.value", "traceloop.entity.output"),
	}
	if s.Kind != record.KindTool {
		c.ToolArguments, c.ToolResult = a["gen_ai.tool.call.arguments"], a["gen_ai.tool.call.result"]
	}
	numbered := hasNumbered(a)
	if c.Input == nil && numbered {
		c.Input = indexed(a, "llm.input_messages.", ".message.", "gen_ai.prompt.", ".")
	}
	if c.Output == nil && numbered {
		c.Output = indexed(a, "llm.output_messages.", ".message.", "gen_ai.completion.", ".")
	}
	if c.Output == nil {
		c.Output = vercelOutput(a)
	}
	if c.Input == nil && c.Output == nil {
		c.Input, c.Output = eventMessages(s.Events)
	}
	return c
}

func firstOf(a attrs, keys ...string) any {
	for _, k := range keys {
		if v, ok := a[k]; ok && v != nil {
			return v
		}
	}
	return nil
}

func firstMessages(a attrs, role string, keys ...string) []Message {
	for _, k := range keys {
		if m := messages(structured(a[k]), role); len(m) > 0 {
			return m
		}
	}
	return nil
}

// structured returns v, parsed when it is JSON text.
func structured(v any) any {
	s, ok := v.(string)
	if !ok {
		return v
	}
	if t := strings.TrimSpace(s); strings.HasPrefix(t, "[") || strings.HasPrefix(t, "{") {
		var x any
		if json.Unmarshal([]byte(t), &x) == nil {
			return x
		}
	}
	return v
}

// messages reads a list of messages, or one. role is for those without.
func messages(v any, role string) []Message {
	switch v := v.(type) {
	case []any:
		var out []Message
		for _, e := range v {
			out = append(out, messages(e, role)...)
		}
		return out
	case map[string]any:
		if inner, ok := v["messages"].([]any); ok {
			return messages(inner, role)
		}
		return []Message{message1(v, role)}
	case string:
		if v != "" {
			return []Message{{Role: role, Parts: []Part{text(v)}}}
		}
	}
	return nil
}

// message1 reads one message: of the convention with parts, or in the form of
// the OpenAI API with content and tool_calls.
func message1(m attrs, role string) Message {
	out := Message{Role: m.str("role"), Name: m.str("name"), FinishReason: m.str("finish_reason")}
	if out.Role == "" {
		out.Role = role
	}
	if p, ok := m["parts"]; ok {
		out.Parts = append([]Part{}, parts(p)...)
		return out
	}
	if id := m.str("tool_call_id"); id != "" && out.Role == "tool" {
		out.Parts = []Part{{"type": "tool_call_response", "id": id, "response": m["content"]}}
		return out
	}
	out.Parts = append(parts(m["content"]), toolCalls(m["tool_calls"])...)
	if out.Parts == nil {
		out.Parts = []Part{}
	}
	return out
}

func text(s string) Part { return Part{"type": "text", "content": s} }

// parts reads a list of parts; text stands for one part.
func parts(v any) []Part {
	switch v := v.(type) {
	case string:
		return []Part{text(v)}
	case map[string]any:
		return []Part{part(v)}
	case []any:
		out := make([]Part, 0, len(v))
		for _, e := range v {
			out = append(out, parts(e)...)
		}
		return out
	}
	return nil
}

// part gives the parts of provider APIs the names of the convention.
func part(m attrs) Part {
	switch m.str("type") {
	case "text", "input_text", "output_text":
		if s, ok := m["text"].(string); ok && !m.has("content") {
			return text(s)
		}
	case "tool-call":
		return Part{"type": "tool_call", "id": m["toolCallId"], "name": m["toolName"], "arguments": firstOf(m, "args", "input")}
	case "tool-result":
		return Part{"type": "tool_call_response", "id": m["toolCallId"], "response": firstOf(m, "result", "output")}
	case "tool_use":
		return Part{"type": "tool_call", "id": m["id"], "name": m["name"], "arguments": m["input"]}
	case "tool_result":
		return Part{"type": "tool_call_response", "id": m["tool_use_id"], "response": m["content"]}
	case "tool_call_response":
		if old, ok := m["result"]; ok && !m.has("response") {
			return Part{"type": "tool_call_response", "id": m["id"], "response": old}
		}
	case "":
		if s, ok := m["content"].(string); ok && len(m) == 1 {
			return text(s)
		}
	}
	return Part(m)
}

func toolCalls(v any) []Part {
	list, _ := structured(v).([]any)
	var out []Part
	for _, e := range list {
		m, ok := e.(map[string]any)
		if !ok {
			continue
		}
		call := attrs(m)
		p := Part{"type": "tool_call", "id": firstOf(call, "id", "toolCallId"), "name": firstOf(call, "name", "toolName"), "arguments": firstOf(call, "arguments", "args", "input")}
		if f, ok := m["function"].(map[string]any); ok {
			p["name"], p["arguments"] = f["name"], f["arguments"]
		}
		out = append(out, p)
	}
	return out
}

// hasNumbered spares most spans the making of names that they do not have.
func hasNumbered(a attrs) bool {
	for k := range a {
		if strings.HasPrefix(k, "llm.") || strings.HasPrefix(k, "gen_ai.prompt.") || strings.HasPrefix(k, "gen_ai.completion.") {
			return true
		}
	}
	return false
}

// maxIndexed bounds the messages read from numbered attributes.
const maxIndexed = 1_000

// indexed reads messages that are spread over numbered attributes:
// llm.input_messages.0.message.role (OpenInference), gen_ai.prompt.0.role
// (OpenLLMetry). pairs holds a prefix and what stands after the number.
func indexed(a attrs, pairs ...string) []Message {
	for i := 0; i+1 < len(pairs); i += 2 {
		var out []Message
		for n := range maxIndexed {
			at := pairs[i] + strconv.Itoa(n) + pairs[i+1]
			role, hasRole := a[at+"role"].(string)
			content, hasContent := a[at+"content"]
			calls := indexedCalls(a, at+"tool_calls.")
			if !hasRole && !hasContent && calls == nil {
				break
			}
			out = append(out, Message{
				Role: role, Parts: append(append([]Part{}, parts(structured(content))...), calls...), FinishReason: a.str(at + "finish_reason"),
			})
		}
		if out != nil {
			return out
		}
	}
	return nil
}

func indexedCalls(a attrs, prefix string) []Part {
	var out []Part
	for n := range maxIndexed {
		at := prefix + strconv.Itoa(n) + "."
		name := firstOf(a, at+"tool_call.function.name", at+"name")
		if name == nil {
			return out
		}
		out = append(out, Part{
			"type": "tool_call", "id": firstOf(a, at+"tool_call.id", at+"id"), "name": name,
			"arguments": firstOf(a, at+"tool_call.function.arguments", at+"arguments"),
		})
	}
	return out
}

// vercelOutput reads the answer as the Vercel AI SDK writes it.
func vercelOutput(a attrs) []Message {
	var p []Part
	if s := a.str("ai.response.text", "ai.result.text"); s != "" {
		p = append(p, text(s))
	}
	p = append(p, toolCalls(a["ai.response.toolCalls"])...)
	if p == nil {
		return nil
	}
	return []Message{{Role: "assistant", Parts: p, FinishReason: a.str("ai.response.finishReason")}}
}

// eventMessages reads the span events of generation A and of its preview.
func eventMessages(events []record.SpanEvent) (in, out []Message) {
	for _, e := range events {
		a := attrs(e.Attributes)
		role, isMessage := strings.CutPrefix(e.Name, "gen_ai.")
		role, ok := strings.CutSuffix(role, ".message")
		switch {
		case isMessage && ok && slices.Contains([]string{"system", "user", "assistant", "tool"}, role):
			in = append(in, message1(a, role))
		case e.Name == "gen_ai.choice":
			if m := messages(structured(a["message"]), "assistant"); m != nil {
				out = append(out, m...)
			} else {
				out = append(out, message1(a, "assistant"))
			}
		case e.Name == "gen_ai.content.prompt":
			in = append(in, messages(structured(a["gen_ai.prompt"]), "user")...)
		case e.Name == "gen_ai.content.completion":
			out = append(out, messages(structured(a["gen_ai.completion"]), "assistant")...)
		}
	}
	return in, out
}
