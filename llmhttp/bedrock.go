package llmhttp

import (
	"cmp"
	"net/url"
	"strings"

	"github.com/kaizen-go/kaizen/price"
	"github.com/tidwall/gjson"
)

// bedrockFields are the fields of a Converse request that are kept.
var bedrockFields = []string{"inferenceConfig.maxTokens", "inferenceConfig.temperature", "inferenceConfig.topP"}

// bedrockModel reads the model out of …/model/ID/converse. The id may be an
// ARN, whose slashes are escaped unless a proxy has undone that.
func bedrockModel(path string) string {
	path = strings.TrimSuffix(strings.TrimSuffix(strings.TrimSuffix(path, "/"), "-stream"), "/converse")
	_, id, ok := strings.Cut(path, "/model/")
	if !ok {
		return ""
	}
	if plain, err := url.PathUnescape(id); err == nil {
		id = plain
	}
	return id
}

// bedrockUsage takes Converse's counts: the input without what the cache read
// and wrote, the output with its reasoning, which is not told.
func bedrockUsage(u gjson.Result) (price.Usage, bool) {
	if u.Get("inputTokens").Type != gjson.Number {
		return price.Usage{}, false
	}
	r := price.Usage{
		Input: count(u.Get("inputTokens")), CacheRead: count(u.Get("cacheReadInputTokens")),
		CacheWrite: count(u.Get("cacheWriteInputTokens")), Output: count(u.Get("outputTokens")),
	}
	for _, written := range u.Get("cacheDetails").Array() {
		if written.Get("ttl").Str == "1h" {
			r.CacheWrite1h += count(written.Get("inputTokens"))
		}
	}
	r.CacheWrite1h = min(r.CacheWrite1h, r.CacheWrite)
	return r, true
}

// bedrockReader reads Converse answers. The events of a stream have their names
// outside of the document. Neither form names model or response.
type bedrockReader struct{}

func (bedrockReader) event(a *answer, d doc) {
	if kind, failed := strings.CutPrefix(d.name, "!"); failed {
		a.failure = &APIError{Type: lowCardinality(kind), Message: gjson.GetBytes(d.raw, "message").Str}
		a.terminal = true
		return
	}
	if d.name == "contentBlockDelta" && !a.content {
		return // most events are such, and say nothing else
	}
	index := d.get("contentBlockIndex").Int()
	switch d.name {
	case "contentBlockStart":
		if tool := d.get("start").Get("toolUse"); tool.Exists() {
			a.bedrockTool(index, tool)
		}
	case "contentBlockDelta":
		a.bedrockDelta(index, d.get("delta"))
	case "messageStop":
		a.finish(0, d.get("stopReason").Str)
	case "metadata":
		a.bedrockMetadata(d)
		a.terminal = true
	}
	if d.cut() {
		a.res.Truncated = true
	}
}

func (bedrockReader) whole(a *answer, d doc) {
	a.bedrockMetadata(d)
	a.finish(0, d.get("stopReason").Str)
	kind := cmp.Or(a.errorType, d.get("__type").Str)
	if kind != "" || a.res.StatusCode >= 400 {
		kind = kind[strings.LastIndexByte(kind, '#')+1:] // com.amazonaws.bedrock#ThrottlingException
		a.failure = &APIError{Type: lowCardinality(kind), Message: either(gjson.ParseBytes(d.raw), "message", "Message").Str}
	}
	if d.cut() {
		a.res.Truncated = true
		return
	}
	for i, b := range d.get("output.message.content").Array() {
		index := int64(i)
		a.bedrockDelta(index, b)
		if tool := b.Get("toolUse"); tool.Exists() {
			a.bedrockTool(index, tool)
		}
	}
}

func (a *answer) bedrockMetadata(d doc) {
	a.identify(gjson.Result{}, gjson.Result{}, d.get("serviceTier").Get("type"))
	if u, ok := bedrockUsage(d.get("usage")); ok {
		a.setUsage(u)
	}
}

// bedrockTool notes a tool call; that of an answer that is not a stream has its
// input too, as an object.
func (a *answer) bedrockTool(index int64, tool gjson.Result) {
	key := partKey{kind: "tool_call", a: index}
	if tool.Get("type").Str == "server_tool_use" {
		key.kind = "server_tool_call"
	}
	a.tool(0, key, tool.Get("toolUseId").Str, tool.Get("name").Str)
	if input := tool.Get("input"); input.Exists() {
		a.text(0, key, input.Raw)
	}
}

// bedrockDelta reads a piece of a block, or the texts of a whole one.
func (a *answer) bedrockDelta(index int64, delta gjson.Result) {
	if text := delta.Get("text").Str; text != "" {
		a.text(0, partKey{kind: "text", a: index}, text)
	}
	reasoning := delta.Get("reasoningContent")
	if text := reasoning.Get("text").Str + reasoning.Get("reasoningText.text").Str; text != "" {
		a.text(0, partKey{kind: "reasoning", a: index}, text)
	}
	if input := delta.Get("toolUse.input"); input.Type == gjson.String {
		key := partKey{kind: "tool_call", a: index}
		if c := a.choice(0); c != nil && c.byKey[key] == nil {
			key.kind = "server_tool_call"
		}
		a.text(0, key, input.Str)
	}
}

// bedrockContent reads a Converse request.
func bedrockContent(c *Call, body gjson.Result) {
	for _, s := range body.Get("system").Array() {
		if text := s.Get("text"); text.Exists() { // and not a cachePoint
			c.System = append(c.System, Part{Type: "text", Content: text.Str})
		}
	}
	for _, m := range body.Get("messages").Array() {
		parts := []Part{}
		for _, b := range m.Get("content").Array() {
			parts = append(parts, bedrockRequestPart(b))
		}
		c.Input = append(c.Input, Message{Role: m.Get("role").Str, Parts: parts})
	}
	for _, t := range body.Get("toolConfig.tools").Array() {
		if spec := t.Get("toolSpec"); spec.Exists() {
			c.Tools = append(c.Tools, Tool{Type: "function", Name: spec.Get("name").Str,
				Description: spec.Get("description").Str, Parameters: raw(spec.Get("inputSchema.json"))})
		}
	}
}

// bedrockRequestPart reads a block: an object of one field, its kind.
func bedrockRequestPart(b gjson.Result) Part {
	part := Part{Type: "unknown"}
	b.ForEach(func(name, v gjson.Result) bool {
		switch name.Str {
		case "text":
			part = Part{Type: "text", Content: v.Str}
		case "toolUse":
			part = Part{Type: "tool_call", ID: v.Get("toolUseId").Str, Name: v.Get("name").Str, Arguments: raw(v.Get("input"))}
		case "toolResult":
			part = Part{Type: "tool_call_response", ID: v.Get("toolUseId").Str, Response: raw(v.Get("content"))}
		case "reasoningContent":
			part = Part{Type: "reasoning", Content: v.Get("reasoningText.text").Str}
		case "image", "audio", "video", "document":
			part = Part{Type: "blob", Modality: name.Str, MimeType: v.Get("format").Str}
			if uri := v.Get("source.s3Location.uri").Str; uri != "" {
				part.Type, part.URI = "uri", uri
			}
		default:
			part.Type = name.Str
		}
		return false
	})
	return part
}
