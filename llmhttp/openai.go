package llmhttp

import (
	"bytes"

	"github.com/kaizen-go/kaizen/price"
	"github.com/tidwall/gjson"
)

// openAIUsage takes OpenAI's counts apart: its prompt includes what the cache
// read and wrote, its completion includes the reasoning.
func openAIUsage(u gjson.Result) (price.Usage, bool) {
	in, out := u.Get("prompt_tokens"), u.Get("completion_tokens")
	inDetails, outDetails := u.Get("prompt_tokens_details"), u.Get("completion_tokens_details")
	if !in.Exists() { // the responses API has other names
		in, out = u.Get("input_tokens"), u.Get("output_tokens")
		inDetails, outDetails = u.Get("input_tokens_details"), u.Get("output_tokens_details")
	}
	if in.Type != gjson.Number {
		return price.Usage{}, false
	}
	prompt, completion := count(in), count(out)
	cached := inDetails.Get("cached_tokens")
	if !cached.Exists() {
		cached = u.Get("prompt_cache_hit_tokens") // DeepSeek
	}
	r := price.Usage{Reasoning: count(outDetails.Get("reasoning_tokens"))}
	r.CacheRead = min(count(cached), prompt)
	r.CacheWrite = min(count(inDetails.Get("cache_write_tokens")), prompt-r.CacheRead)
	r.Input = prompt - r.CacheRead - r.CacheWrite
	// Some (x.ai) count the reasoning beside the completion; the total tells.
	if total := count(u.Get("total_tokens")); r.Reasoning > 0 && total == prompt+completion+r.Reasoning {
		r.Output = completion
		return r, true
	}
	r.Reasoning = min(r.Reasoning, completion)
	r.Output = completion - r.Reasoning
	return r, true
}

// chatReader reads chat completions.
type chatReader struct{}

var (
	doneData     = []byte("[DONE]")
	keyUsage     = []byte(`"usage"`)
	keyFinish    = []byte(`"finish_reason"`)
	keyToolCalls = []byte(`"tool_calls"`)
	keyError     = []byte(`"error"`)
)

const jsonSpace = " \t\r\n"

// event looks into a chunk only as far as it has to: most carry a piece of
// text and nothing else, and there are hundreds of them in an answer.
func (chatReader) event(a *answer, d doc) {
	if bytes.Equal(d.raw, doneData) {
		a.terminal = true
		return
	}
	if a.res.ResponseID == "" || a.res.ResponseModel == "" || d.cut() {
		a.identify(d.get("id"), d.get("model"), d.get("service_tier"))
	}
	if d.cut() || bytes.Contains(d.raw, keyUsage) {
		if u, ok := openAIUsage(d.get("usage")); ok {
			a.setUsage(u)
		}
	}
	if d.cut() || bytes.Contains(d.raw, keyError) {
		a.fail(d.get("error"))
	}
	if d.cut() {
		a.res.Truncated = true
		return
	}
	if a.content || bytes.Contains(d.raw, keyToolCalls) || hasString(d.raw, keyFinish) {
		for _, c := range d.get("choices").Array() {
			a.chatMessage(c.Get("index").Int(), c.Get("delta"))
			a.finish(c.Get("index").Int(), c.Get("finish_reason").Str)
		}
	}
}

func (chatReader) whole(a *answer, d doc) {
	a.identify(d.get("id"), d.get("model"), d.get("service_tier"))
	if u, ok := openAIUsage(d.get("usage")); ok {
		a.setUsage(u)
	}
	a.fail(d.get("error"))
	a.res.Truncated = a.res.Truncated || d.cut()
	for _, c := range d.get("choices").Array() {
		a.chatMessage(c.Get("index").Int(), c.Get("message"))
		a.finish(c.Get("index").Int(), c.Get("finish_reason").Str)
	}
}

// chatMessage reads a message, or a piece of one.
func (a *answer) chatMessage(index int64, m gjson.Result) {
	if a.content {
		reasoning := m.Get("reasoning_content")
		if reasoning.Type != gjson.String {
			reasoning = m.Get("reasoning")
		}
		if reasoning.Type == gjson.String {
			a.text(index, partKey{kind: "reasoning"}, reasoning.Str)
		}
		a.text(index, partKey{kind: "text"}, m.Get("content").Str)
		a.text(index, partKey{kind: "refusal"}, m.Get("refusal").Str)
	}
	for i, c := range m.Get("tool_calls").Array() {
		at := int64(i)
		if n := c.Get("index"); n.Exists() {
			at = n.Int()
		}
		key := partKey{kind: "tool_call", a: at}
		a.tool(index, key, c.Get("id").Str, c.Get("function.name").Str)
		a.text(index, key, c.Get("function.arguments").Str)
		if custom := c.Get("custom"); custom.Exists() {
			a.tool(index, key, "", custom.Get("name").Str)
			a.text(index, key, custom.Get("input").Str)
		}
	}
}

// hasString reports whether the key is there with a string for its value. It
// can be wrong where a text holds the key; then the caller looks in vain.
func hasString(raw, key []byte) bool {
	for {
		i := bytes.Index(raw, key)
		if i < 0 {
			return false
		}
		raw = bytes.TrimLeft(raw[i+len(key):], jsonSpace)
		if len(raw) > 0 && raw[0] == ':' {
			if v := bytes.TrimLeft(raw[1:], jsonSpace); len(v) > 0 && v[0] == '"' {
				return true
			}
		}
	}
}

// embeddingsReader reads embeddings, of which only the edges matter.
type embeddingsReader struct{}

func (embeddingsReader) event(*answer, doc) {}

func (embeddingsReader) whole(a *answer, d doc) {
	a.identify(d.get("id"), d.get("model"), d.get("service_tier"))
	if u, ok := openAIUsage(d.get("usage")); ok {
		a.setUsage(u)
	}
	a.fail(d.get("error"))
}
