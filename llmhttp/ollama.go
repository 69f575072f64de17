package llmhttp

import (
	"bytes"

	"github.com/kaizen-go/kaizen/price"
	"github.com/tidwall/gjson"
)

// ollamaFields are the fields of an Ollama request that are kept.
var ollamaFields = []string{"model", "stream", "options.num_predict", "options.temperature", "options.top_p"}

// ollamaReader reads Ollama's chat and generate answers. A stream is such
// objects, one a line; the last has done set, and the counts.
type ollamaReader struct{}

var (
	keyDone = []byte(`"done"`)
)

func (r ollamaReader) event(a *answer, d doc) {
	// Most lines carry a piece of text and nothing else.
	if !a.content && !d.cut() && a.res.ResponseModel != "" && hasValue(d.raw, keyDone, 'f') &&
		!bytes.Contains(d.raw, keyToolCalls) && !bytes.Contains(d.raw, keyError) {
		return
	}
	r.whole(a, d)
	a.terminal = a.failure != nil || d.get("done").Bool()
}

func (ollamaReader) whole(a *answer, d doc) {
	a.identify(gjson.Result{}, d.get("remote_model"), gjson.Result{}) // of a model that runs elsewhere
	a.identify(gjson.Result{}, d.get("model"), gjson.Result{})
	a.ollamaUsage(d)
	a.fail(d.get("error"))
	if d.cut() {
		a.res.Truncated = true
		a.finish(0, d.get("done_reason").Str)
		return
	}
	message := d.get("message")
	a.ollamaText("reasoning", message.Get("thinking").Str+d.get("thinking").Str)
	a.ollamaText("text", message.Get("content").Str+d.get("response").Str)
	for _, c := range message.Get("tool_calls").Array() {
		key := a.nextKey(0, "tool_call", false)
		a.tool(0, key, c.Get("id").Str, c.Get("function.name").Str)
		a.text(0, key, c.Get("function.arguments").Raw)
	}
	a.finish(0, d.get("done_reason").Str)
}

func (a *answer) ollamaText(kind, text string) {
	if text != "" {
		a.text(0, a.nextKey(0, kind, true), text)
	}
}

// ollamaUsage takes the counts. They have no classes: the prompt is all that
// was evaluated, the output includes the thinking. A count of nothing is left out.
func (a *answer) ollamaUsage(d doc) {
	in, out := d.get("prompt_eval_count"), d.get("eval_count")
	if in.Type == gjson.Number || out.Type == gjson.Number {
		a.setUsage(price.Usage{Input: count(in), Output: count(out)})
	}
}

// ollamaEmbedReader reads embeddings, of which only the edges matter.
type ollamaEmbedReader struct{}

func (ollamaEmbedReader) event(*answer, doc) {}

func (ollamaEmbedReader) whole(a *answer, d doc) {
	a.identify(gjson.Result{}, d.get("model"), gjson.Result{})
	a.ollamaUsage(d)
	a.fail(d.get("error"))
}

// ollamaChatContent reads a chat request.
func ollamaChatContent(c *Call, body gjson.Result) {
	for _, m := range body.Get("messages").Array() {
		role, parts := m.Get("role").Str, []Part{}
		if thinking := m.Get("thinking").Str; thinking != "" {
			parts = append(parts, Part{Type: "reasoning", Content: thinking})
		}
		parts = append(parts, contentParts(m.Get("content"))...)
		parts = append(parts, ollamaImages(m.Get("images"))...)
		switch role {
		case "system":
			c.System = append(c.System, parts...)
			continue
		case "tool":
			parts = []Part{{Type: "tool_call_response", ID: m.Get("tool_call_id").Str, Name: m.Get("tool_name").Str, Response: raw(m.Get("content"))}}
		}
		for _, tc := range m.Get("tool_calls").Array() {
			parts = append(parts, Part{Type: "tool_call", ID: tc.Get("id").Str, Name: tc.Get("function.name").Str,
				Arguments: raw(tc.Get("function.arguments"))})
		}
		c.Input = append(c.Input, Message{Role: role, Parts: parts})
	}
	for _, t := range body.Get("tools").Array() {
		c.Tools = append(c.Tools, Tool{Type: t.Get("type").Str, Name: t.Get("function.name").Str,
			Description: t.Get("function.description").Str, Parameters: raw(t.Get("function.parameters"))})
	}
}

// ollamaGenerateContent reads a generate request.
func ollamaGenerateContent(c *Call, body gjson.Result) {
	if system := body.Get("system"); system.Exists() {
		c.System = contentParts(system)
	}
	c.Input = []Message{{Role: "user", Parts: append(contentParts(body.Get("prompt")), ollamaImages(body.Get("images"))...)}}
}

// ollamaImages are images in base64, whose type is not said.
func ollamaImages(list gjson.Result) []Part {
	var parts []Part
	for range list.Array() {
		parts = append(parts, Part{Type: "blob", Modality: "image"})
	}
	return parts
}
