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
	if text, ok := a.shape.match(d.raw); ok {
		if a.content {
			a.text(a.shape.index, partKey{kind: "text"}, string(text))
		}
		return
	}
	idle := !d.cut()
	if a.res.ResponseID == "" || a.res.ResponseModel == "" || d.cut() {
		a.identify(d.get("id"), d.get("model"), d.get("service_tier"))
	}
	if d.cut() || hasValue(d.raw, keyUsage, '{') {
		idle = false
		if u, ok := openAIUsage(d.get("usage")); ok {
			a.setUsage(u)
		}
	}
	if d.cut() || hasValue(d.raw, keyError, '{') || hasValue(d.raw, keyError, '"') {
		idle = false
		a.fail(d.get("error"))
	}
	if d.cut() {
		a.res.Truncated = true
		return
	}
	says := hasValue(d.raw, keyToolCalls, '[') || hasValue(d.raw, keyFinish, '"')
	if a.content || says {
		a.chatChoices(d.get("choices"))
	}
	if idle && !says && a.res.ResponseID != "" && a.res.ResponseModel != "" && gjson.ValidBytes(d.raw) {
		a.shape.learn(d.raw)
	}
}

func (chatReader) whole(a *answer, d doc) {
	a.identify(d.get("id"), d.get("model"), d.get("service_tier"))
	if u, ok := openAIUsage(d.get("usage")); ok {
		a.setUsage(u)
	}
	a.fail(d.get("error"))
	a.res.Truncated = a.res.Truncated || d.cut()
	a.chatChoices(d.get("choices"))
}

// chatChoices reads choices, whole or in pieces, in one pass over each.
func (a *answer) chatChoices(choices gjson.Result) {
	choices.ForEach(func(_, c gjson.Result) bool {
		var index, finish, message gjson.Result
		c.ForEach(func(k, v gjson.Result) bool {
			switch k.Str {
			case "index":
				index = v
			case "finish_reason":
				finish = v
			case "message", "delta":
				message = v
			}
			return true
		})
		a.chatMessage(index.Int(), message)
		a.finish(index.Int(), finish.Str)
		return true
	})
}

// chatMessage reads a message, or a piece of one.
func (a *answer) chatMessage(index int64, m gjson.Result) {
	m.ForEach(func(k, v gjson.Result) bool {
		switch k.Str {
		case "reasoning_content", "reasoning": // DeepSeek and others; OpenRouter and others
			a.text(index, partKey{kind: "reasoning"}, v.Str)
		case "content":
			a.text(index, partKey{kind: "text"}, v.Str)
		case "refusal":
			a.text(index, partKey{kind: "refusal"}, v.Str)
		case "tool_calls":
			for i, c := range v.Array() {
				a.chatToolCall(index, int64(i), c)
			}
		}
		return true
	})
}

func (a *answer) chatToolCall(index, at int64, c gjson.Result) {
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

// hasValue reports whether the key is there with a value that begins with c.
// It can be wrong where a text holds the key; then the caller looks in vain.
func hasValue(raw, key []byte, c byte) bool {
	for {
		i := bytes.Index(raw, key)
		if i < 0 {
			return false
		}
		raw = bytes.TrimLeft(raw[i+len(key):], jsonSpace)
		if len(raw) > 0 && raw[0] == ':' {
			if v := bytes.TrimLeft(raw[1:], jsonSpace); len(v) > 0 && v[0] == c {
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
