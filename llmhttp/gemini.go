package llmhttp

import (
	"net/url"
	"strings"
	"time"

	"github.com/kaizen-go/kaizen/price"
	"github.com/tidwall/gjson"
)

// geminiFields are the fields of a generateContent request that are kept.
var geminiFields = []string{"generationConfig.maxOutputTokens", "generationConfig.temperature", "generationConfig.topP"}

// geminiModel reads the model out of …/models/NAME:method.
func geminiModel(path string) string {
	path = strings.TrimSuffix(path, "/")
	name, _, ok := strings.Cut(path[strings.LastIndexByte(path, '/')+1:], ":")
	if !ok {
		name, _, _ = strings.Cut(path[strings.LastIndexByte(path, '/')+1:], "%3A")
	}
	if plain, err := url.PathUnescape(name); err == nil {
		name = plain
	}
	return name
}

// geminiUsage takes Gemini's counts apart: its prompt includes what the cache
// read, its candidates do not include the thoughts, and what tools brought
// into the prompt stands beside it.
func geminiUsage(u gjson.Result) (price.Usage, bool) {
	if u.Get("promptTokenCount").Type != gjson.Number {
		return price.Usage{}, false
	}
	prompt := count(u.Get("promptTokenCount"))
	cached := min(count(u.Get("cachedContentTokenCount")), prompt)
	return price.Usage{
		Input: prompt - cached + count(u.Get("toolUsePromptTokenCount")), CacheRead: cached,
		Output: count(u.Get("candidatesTokenCount")), Reasoning: count(u.Get("thoughtsTokenCount")),
	}, true
}

// geminiReader reads generateContent responses. The events of a stream are such
// responses too, each with the next parts and the usage so far.
type geminiReader struct{}

func (r geminiReader) event(a *answer, d doc) {
	r.whole(a, d)
	a.terminal = a.failure != nil // nothing else ends a stream but its end
	if d.cut() {
		// An image is longer than what is kept, and may stand beside the reason
		// to stop. Better to take the answer for whole than to call it broken.
		a.finished = true
	}
}

func (geminiReader) whole(a *answer, d doc) {
	usage := d.get("usageMetadata")
	a.identify(d.get("responseId"), d.get("modelVersion"), usage.Get("serviceTier"))
	a.identify(gjson.Result{}, gjson.Result{}, usage.Get("trafficType"))
	if u, ok := geminiUsage(usage); ok {
		a.setUsage(u)
	}
	if e := d.get("error"); e.Exists() {
		a.fail(e)
		a.geminiRetry(e)
	}
	a.finish(0, d.get("promptFeedback").Get("blockReason").Str)
	if d.cut() {
		a.res.Truncated = true
		return
	}
	d.get("candidates").ForEach(func(_, c gjson.Result) bool {
		index := c.Get("index").Int()
		c.Get("content.parts").ForEach(func(_, p gjson.Result) bool {
			a.geminiPart(index, p)
			return true
		})
		a.finish(index, c.Get("finishReason").Str)
		return true
	})
}

// geminiRetry reads the wait that stands in an error's details.
func (a *answer) geminiRetry(e gjson.Result) {
	for _, detail := range e.Get("details").Array() {
		if wait, err := time.ParseDuration(detail.Get("retryDelay").Str); err == nil && wait > 0 && a.res.RetryAfter == 0 {
			a.res.RetryAfter = wait
		}
	}
}

// geminiPart reads a part of the answer. Parts have no index: a text continues
// the one before it, everything else is whole.
func (a *answer) geminiPart(index int64, p gjson.Result) {
	if text := p.Get("text"); text.Exists() {
		kind := "text"
		if p.Get("thought").Bool() {
			kind = "reasoning"
		}
		a.text(index, a.nextKey(index, kind, true), text.Str)
	}
	if call := p.Get("functionCall"); call.Get("name").Str != "" { // without one it continues the arguments
		key := a.nextKey(index, "tool_call", false)
		a.tool(index, key, call.Get("id").Str, call.Get("name").Str)
		a.text(index, key, call.Get("args").Raw)
	}
	if !a.content {
		return
	}
	if code := p.Get("executableCode"); code.Exists() {
		key := a.nextKey(index, "server_tool_call", false)
		a.tool(index, key, "", "code_execution")
		a.text(index, key, code.Raw)
	}
	if result := p.Get("codeExecutionResult"); result.Exists() {
		a.text(index, a.nextKey(index, "code_execution_result", false), result.Get("output").Str)
	}
	if blob := p.Get("inlineData"); blob.Exists() {
		if out := a.part(index, a.nextKey(index, "blob", false)); out != nil {
			out.mime = blob.Get("mimeType").Str
			out.modality = modalityOf(out.mime)
		}
	}
}

// modalityOf names what a MIME type is of, as the GenAI conventions do.
func modalityOf(mime string) string {
	switch kind, _, _ := strings.Cut(mime, "/"); kind {
	case "image", "audio", "video":
		return kind
	}
	return "document"
}

// geminiEmbedReader reads embeddings; most models bill without telling the tokens.
type geminiEmbedReader struct{}

func (geminiEmbedReader) event(*answer, doc) {}

func (geminiEmbedReader) whole(a *answer, d doc) {
	if u, ok := geminiUsage(d.get("usageMetadata")); ok {
		a.setUsage(u)
	}
	if e := d.get("error"); e.Exists() {
		a.fail(e)
		a.geminiRetry(e)
	}
}

// geminiContent reads a generateContent request. Its JSON form allows names
// with underscores for the same fields, which some clients send.
func geminiContent(c *Call, body gjson.Result) {
	c.System = geminiParts(either(body, "systemInstruction", "system_instruction").Get("parts"))
	for _, m := range body.Get("contents").Array() {
		role := m.Get("role").Str
		switch role {
		case "", "user":
			role = "user"
		case "model":
			role = "assistant"
		case "function":
			role = "tool"
		}
		c.Input = append(c.Input, Message{Role: role, Parts: geminiParts(m.Get("parts"))})
	}
	for _, t := range body.Get("tools").Array() {
		t.ForEach(func(name, v gjson.Result) bool {
			if name.Str != "functionDeclarations" && name.Str != "function_declarations" {
				c.Tools = append(c.Tools, Tool{Type: name.Str, Name: name.Str}) // one that the provider runs
				return true
			}
			for _, f := range v.Array() {
				c.Tools = append(c.Tools, Tool{Type: "function", Name: f.Get("name").Str, Description: f.Get("description").Str,
					Parameters: raw(either(f, "parameters", "parametersJsonSchema"))})
			}
			return true
		})
	}
}

// geminiEmbedContent reads an embedContent or batchEmbedContents request.
func geminiEmbedContent(c *Call, body gjson.Result) {
	if content := body.Get("content"); content.Exists() {
		c.Input = []Message{{Role: "user", Parts: geminiParts(content.Get("parts"))}}
	}
	for _, r := range body.Get("requests").Array() {
		c.Input = append(c.Input, Message{Role: "user", Parts: geminiParts(r.Get("content.parts"))})
	}
}

// either returns the value of the first of two keys that is there.
func either(v gjson.Result, a, b string) gjson.Result {
	if r := v.Get(a); r.Exists() {
		return r
	}
	return v.Get(b)
}

func geminiParts(list gjson.Result) []Part {
	parts := []Part{}
	for _, p := range list.Array() {
		parts = append(parts, geminiRequestPart(p))
	}
	return parts
}

func geminiRequestPart(p gjson.Result) Part {
	blob, file := either(p, "inlineData", "inline_data"), either(p, "fileData", "file_data")
	call, answer := either(p, "functionCall", "function_call"), either(p, "functionResponse", "function_response")
	switch {
	case call.Exists():
		return Part{Type: "tool_call", ID: call.Get("id").Str, Name: call.Get("name").Str, Arguments: raw(call.Get("args"))}
	case answer.Exists():
		return Part{Type: "tool_call_response", ID: answer.Get("id").Str, Name: answer.Get("name").Str, Response: raw(answer.Get("response"))}
	case blob.Exists():
		mime := either(blob, "mimeType", "mime_type").Str
		return Part{Type: "blob", Modality: modalityOf(mime), MimeType: mime}
	case file.Exists():
		mime := either(file, "mimeType", "mime_type").Str
		return Part{Type: "uri", Modality: modalityOf(mime), MimeType: mime, URI: either(file, "fileUri", "file_uri").Str}
	case p.Get("thought").Bool():
		return Part{Type: "reasoning", Content: p.Get("text").Str}
	case p.Get("text").Exists():
		return Part{Type: "text", Content: p.Get("text").Str}
	case p.Get("executableCode").Exists():
		return Part{Type: "server_tool_call", Name: "code_execution", Arguments: raw(p.Get("executableCode"))}
	case p.Get("codeExecutionResult").Exists():
		return Part{Type: "code_execution_result", Content: p.Get("codeExecutionResult.output").Str}
	}
	part := Part{Type: "unknown"}
	p.ForEach(func(name, _ gjson.Result) bool {
		part.Type = name.Str
		return false
	})
	return part
}
