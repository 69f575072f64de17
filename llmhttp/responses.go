package llmhttp

import (
	"bytes"
	"strings"

	"github.com/tidwall/gjson"
)

// responsesReader reads OpenAI responses. The last event of a stream repeats
// the whole response.
type responsesReader struct{}

// idleEvents are the most frequent ones, by how they begin; they say nothing
// unless content is wanted.
var idleEvents = [][]byte{
	[]byte(`{"type":"response.output_text.delta"`),
	[]byte(`{"type":"response.function_call_arguments.delta"`),
	[]byte(`{"type":"response.reasoning_summary_text.delta"`),
}

func (responsesReader) event(a *answer, d doc) {
	if !a.content {
		for _, idle := range idleEvents {
			if bytes.HasPrefix(d.raw, idle) {
				return
			}
		}
	}
	kind := d.get("type").Str
	switch kind {
	case "response.output_item.added":
		a.responsesItem(d.get("output_index").Int(), d.get("item"), false)
	case "response.output_text.delta", "response.refusal.delta":
		a.text(0, partKey{kind: "text", a: d.get("output_index").Int(), b: d.get("content_index").Int()}, d.get("delta").Str)
	case "response.reasoning_summary_text.delta", "response.reasoning_text.delta":
		a.text(0, partKey{kind: "reasoning", a: d.get("output_index").Int()}, d.get("delta").Str)
	case "response.function_call_arguments.delta", "response.custom_tool_call_input.delta":
		a.text(0, partKey{kind: "tool_call", a: d.get("output_index").Int()}, d.get("delta").Str)
	case "response.completed", "response.incomplete", "response.failed":
		a.responsesEnd(d, "response.")
		a.terminal = true
	case "error":
		// {"type":"error","code":…,"message":…}, or with an object as elsewhere
		a.fail(d.get("error"))
		if a.failure == nil {
			a.failure = &APIError{Type: lowCardinality(d.get("code").String()), Message: d.get("message").Str}
		}
		a.terminal = true
	default:
		if strings.HasPrefix(kind, "response.") {
			a.identify(d.get("response.id"), d.get("response.model"), gjson.Result{})
		}
	}
}

func (responsesReader) whole(a *answer, d doc) { a.responsesEnd(d, "") }

// responsesEnd reads a whole response object below a prefix of paths.
func (a *answer) responsesEnd(d doc, prefix string) {
	a.res.ServiceTier = "" // was what had been asked for
	a.identify(d.get(prefix+"id"), d.get(prefix+"model"), d.get(prefix+"service_tier"))
	if u, ok := openAIUsage(d.get(prefix + "usage")); ok {
		a.setUsage(u)
	}
	a.fail(d.get(prefix + "error"))
	switch status := d.get(prefix + "status").Str; status {
	case "incomplete":
		reason := d.get(prefix + "incomplete_details").Get("reason").Str
		if reason == "" {
			reason = status
		}
		a.finish(0, reason)
	case "completed", "cancelled":
		a.finish(0, status)
	case "failed":
		if a.failure == nil {
			a.failure = &APIError{Type: status}
		}
	}
	if d.cut() {
		a.res.Truncated = true
		return
	}
	output := d.get(prefix + "output").Array()
	if len(output) > 0 && len(a.choices) > 0 {
		a.forgetParts(a.choices[0]) // what came in pieces comes again in one
	}
	for i, item := range output {
		a.responsesItem(int64(i), item, true)
	}
}

// forgetParts drops the parts of a choice that is about to be read anew.
func (a *answer) forgetParts(c *choice) {
	for _, p := range c.parts {
		a.budget += len(p.text)
	}
	c.parts, c.byKey = nil, map[partKey]*outPart{}
	a.res.Truncated = false
}

// responsesItem reads an item of the output; its texts only if it is whole,
// since those of an item that begins come in events of their own.
func (a *answer) responsesItem(index int64, item gjson.Result, whole bool) {
	switch item.Get("type").Str {
	case "function_call", "custom_tool_call":
		key := partKey{kind: "tool_call", a: index}
		a.tool(0, key, item.Get("call_id").Str, item.Get("name").Str)
		if whole {
			a.text(0, key, item.Get("arguments").Str+item.Get("input").Str)
		}
	case "message":
		for i, c := range item.Get("content").Array() {
			if whole {
				a.text(0, partKey{kind: "text", a: index, b: int64(i)}, c.Get("text").Str+c.Get("refusal").Str)
			}
		}
	case "reasoning":
		for _, c := range item.Get("summary").Array() {
			if whole {
				a.text(0, partKey{kind: "reasoning", a: index}, c.Get("text").Str)
			}
		}
	}
}
