package llmhttp

import (
	"bytes"

	"github.com/kaizen-go/kaizen/price"
	"github.com/tidwall/gjson"
)

// anthropicCounts are Anthropic's usage as it stands on the wire: the input
// without what the cache read and wrote, the output with its thinking.
type anthropicCounts struct {
	input, cacheRead, cacheWrite, cacheWrite1h, output, thinking int64
}

// merge takes the counts of a later event. They are cumulative, so they
// replace what was there; a prompt's count that falls to nothing (some gateways
// send zeros at the end) does not.
func (n *anthropicCounts) merge(u gjson.Result) bool {
	known := false
	for _, f := range []struct {
		into   *int64
		path   string
		prompt bool
	}{
		{&n.input, "input_tokens", true},
		{&n.cacheRead, "cache_read_input_tokens", true},
		{&n.cacheWrite, "cache_creation_input_tokens", true},
		{&n.cacheWrite1h, "cache_creation.ephemeral_1h_input_tokens", true},
		{&n.output, "output_tokens", false},
		{&n.thinking, "output_tokens_details.thinking_tokens", false},
	} {
		v := u.Get(f.path)
		if v.Type != gjson.Number {
			continue
		}
		known = true
		if c := count(v); c > 0 || !f.prompt {
			*f.into = c
		}
	}
	return known
}

func (n *anthropicCounts) usage() price.Usage {
	thinking := min(n.thinking, n.output)
	return price.Usage{
		Input: n.input, CacheRead: n.cacheRead, CacheWrite: n.cacheWrite,
		CacheWrite1h: min(n.cacheWrite1h, n.cacheWrite),
		Output:       n.output - thinking, Reasoning: thinking,
	}
}

// anthropicReader reads Anthropic messages.
type anthropicReader struct{}

var anthropicDelta = []byte(`{"type":"content_block_delta"`)

func (anthropicReader) event(a *answer, d doc) {
	if !a.content && bytes.HasPrefix(d.raw, anthropicDelta) {
		return
	}
	index := d.get("index").Int()
	switch d.get("type").Str {
	case "message_start":
		a.identify(d.get("message.id"), d.get("message.model"), d.get("message.usage").Get("service_tier"))
		a.anthropicUsage(d.get("message.usage"))
	case "content_block_start":
		a.anthropicBlock(index, d.get("content_block"), false)
	case "content_block_delta":
		a.anthropicDelta(index, d.get("delta"))
	case "message_delta":
		a.finish(0, d.get("delta.stop_reason").Str)
		a.anthropicUsage(d.get("usage"))
	case "message_stop":
		a.terminal = true
	case "error":
		a.fail(d.get("error"))
		a.terminal = true
	}
	if d.cut() {
		a.res.Truncated = true
	}
}

func (anthropicReader) whole(a *answer, d doc) {
	a.identify(d.get("id"), d.get("model"), d.get("usage").Get("service_tier"))
	a.anthropicUsage(d.get("usage"))
	a.finish(0, d.get("stop_reason").Str)
	if d.get("type").Str == "error" || d.get("error").Exists() {
		a.fail(d.get("error"))
	}
	if d.cut() {
		a.res.Truncated = true
		return
	}
	for i, b := range d.get("content").Array() {
		a.anthropicBlock(int64(i), b, true)
	}
}

func (a *answer) anthropicUsage(u gjson.Result) {
	if a.usage.merge(u) {
		a.setUsage(a.usage.usage())
	}
	if tier := u.Get("service_tier").Str; tier != "" {
		a.res.ServiceTier = tier
	}
}

// anthropicBlock reads a block of content. One that begins in a stream has an
// empty input, whose pieces follow.
func (a *answer) anthropicBlock(index int64, b gjson.Result, whole bool) {
	switch kind := b.Get("type").Str; kind {
	case "text":
		a.text(0, partKey{kind: "text", a: index}, b.Get("text").Str)
	case "thinking":
		a.text(0, partKey{kind: "reasoning", a: index}, b.Get("thinking").Str)
	case "tool_use", "server_tool_use":
		key := partKey{kind: "tool_call", a: index}
		if kind == "server_tool_use" {
			key.kind = "server_tool_call" // the provider runs it itself
		}
		a.tool(0, key, b.Get("id").Str, b.Get("name").Str)
		if input := b.Get("input"); whole || len(input.Map()) > 0 {
			a.text(0, key, input.Raw)
		}
	}
}

func (a *answer) anthropicDelta(index int64, delta gjson.Result) {
	switch delta.Get("type").Str {
	case "text_delta":
		a.text(0, partKey{kind: "text", a: index}, delta.Get("text").Str)
	case "thinking_delta":
		a.text(0, partKey{kind: "reasoning", a: index}, delta.Get("thinking").Str)
	case "input_json_delta":
		key := partKey{kind: "tool_call", a: index}
		if c := a.choice(0); c != nil && c.byKey[key] == nil {
			key.kind = "server_tool_call"
		}
		a.text(0, key, delta.Get("partial_json").Str)
	}
}
