package llmhttp

import (
	"encoding/json"
	"slices"
	"unicode/utf8"

	"github.com/kaizen-go/kaizen/price"
	"github.com/tidwall/gjson"
)

// reader reads the answers of a dialect into an [answer].
type reader interface {
	// event takes the data of a stream's event.
	event(a *answer, d doc)
	// whole takes an answer that is not a stream.
	whole(a *answer, d doc)
}

// answer is what has been read of a call's answer so far.
type answer struct {
	res     Result
	content bool // keep texts too
	budget  int  // bytes of content that may still be kept

	terminal bool // the event came that ends the stream
	finished bool // the model has said why it stopped
	failure  *APIError
	// errorType is what the response's head calls an error (Amazon's do).
	errorType string
	choices   []*choice // by their index
	usage     anthropicCounts
	shape     chunkShape // of OpenAI chat
}

// choice is one message of the answer.
type choice struct {
	finish string
	parts  []*outPart
	byKey  map[partKey]*outPart
}

// partKey tells the parts of a message apart as the wire does.
type partKey struct {
	kind string
	a, b int64
}

type outPart struct {
	kind     string // of Part.Type
	id, name string
	modality string // of a blob, with
	mime     string // its type
	text     []byte // content or arguments
}

// maxChoices and maxParts bound what an answer can make us keep.
const (
	maxChoices = 128
	maxParts   = 1024
)

// choice returns the choice of an index, nil if that is out of bounds.
func (a *answer) choice(index int64) *choice {
	if index < 0 || index >= maxChoices {
		a.res.Truncated = true
		return nil
	}
	for int64(len(a.choices)) <= index {
		a.choices = append(a.choices, &choice{byKey: map[partKey]*outPart{}})
	}
	return a.choices[index]
}

// part returns the part of a choice that goes by key, or a new one; nil if
// there are too many.
func (a *answer) part(index int64, key partKey) *outPart {
	c := a.choice(index)
	if c == nil {
		return nil
	}
	p := c.byKey[key]
	if p == nil {
		if len(c.parts) == maxParts {
			a.res.Truncated = true
			return nil
		}
		p = &outPart{kind: key.kind}
		c.parts = append(c.parts, p)
		c.byKey[key] = p
	}
	return p
}

// nextKey is a key for a part that the wire gives none: it is new, or that of
// the last part if that is of the same kind and may be continued.
func (a *answer) nextKey(index int64, kind string, continued bool) partKey {
	key := partKey{kind: kind}
	if c := a.choice(index); c != nil {
		key.a = int64(len(c.parts))
		if continued && key.a > 0 && c.parts[key.a-1].kind == kind {
			key.a--
		}
	}
	return key
}

// text adds to the text of a part, if content is wanted.
func (a *answer) text(index int64, key partKey, s string) {
	if !a.content || s == "" {
		return
	}
	p := a.part(index, key)
	if p == nil {
		return
	}
	if len(s) > a.budget {
		s = s[:a.budget]
		for len(s) > 0 {
			if r, size := utf8.DecodeLastRuneInString(s); r != utf8.RuneError || size != 1 {
				break
			}
			s = s[:len(s)-1]
		}
		a.res.Truncated = true
	}
	a.budget -= len(s)
	p.text = append(p.text, s...)
}

// tool notes a tool call; arguments come by text.
func (a *answer) tool(index int64, key partKey, id, name string) {
	if p := a.part(index, key); p != nil {
		if id != "" {
			p.id = id
		}
		if name != "" {
			p.name = name
		}
	}
}

// finish notes why a choice ended.
func (a *answer) finish(index int64, reason string) {
	if c := a.choice(index); c != nil && reason != "" {
		c.finish = reason
		a.finished = true
	}
}

// identify notes who answered. Later words for the same do not replace earlier.
func (a *answer) identify(id, model, tier gjson.Result) {
	for _, f := range []struct {
		into *string
		from gjson.Result
	}{{&a.res.ResponseID, id}, {&a.res.ResponseModel, model}, {&a.res.ServiceTier, tier}} {
		if *f.into == "" && f.from.Type == gjson.String {
			*f.into = f.from.Str
		}
	}
}

func (a *answer) setUsage(u price.Usage) { a.res.Usage, a.res.HasUsage = u, true }

// fail notes an error that the provider reports in a body: a text, or an object
// with type, code, status and message, in the providers' forms alike.
func (a *answer) fail(e gjson.Result) {
	if !e.IsObject() && e.Type != gjson.String {
		return
	}
	kind := e.Get("code").String()
	if kind == "" || e.Get("code").Type == gjson.Number {
		kind = e.Get("type").String()
	}
	if status := e.Get("status"); kind == "" && status.Type == gjson.String {
		kind = status.Str // Google's
	}
	message := e.Get("message").String()
	if e.Type == gjson.String {
		message = e.Str
	}
	a.failure = &APIError{Type: lowCardinality(kind), Message: message}
}

// lowCardinality returns a word as providers use them for errors, and "" for
// anything else, such as a sentence.
func lowCardinality(s string) string {
	if len(s) > 64 {
		return ""
	}
	for _, c := range []byte(s) {
		if c != '_' && c != '-' && c != '.' && (c < '0' || c > '9') && (c|0x20 < 'a' || c|0x20 > 'z') {
			return ""
		}
	}
	return s
}

// result returns what has been read, for the observer.
func (a *answer) result() Result {
	r := a.res
	for _, c := range a.choices {
		if c.finish != "" {
			r.FinishReasons = append(r.FinishReasons, c.finish)
		}
		m := Message{Role: "assistant", Parts: []Part{}, FinishReason: c.finish}
		for _, p := range c.parts {
			if p.kind == "tool_call" {
				r.ToolCalls = append(r.ToolCalls, ToolCall{ID: p.id, Name: p.name})
			}
			m.Parts = append(m.Parts, p.part())
		}
		if a.content && (len(m.Parts) > 0 || m.FinishReason != "") {
			r.Output = append(r.Output, m)
		}
	}
	return r
}

func (p *outPart) part() Part {
	out := Part{Type: p.kind, ID: p.id, Name: p.name, Modality: p.modality, MimeType: p.mime}
	switch {
	case p.kind != "tool_call" && p.kind != "server_tool_call":
		out.Content = string(p.text)
	case len(p.text) > 0:
		out.Arguments = jsonOrString(p.text)
	}
	return out
}

// jsonOrString returns b if it is JSON, and b as a JSON string if it is not:
// arguments that were cut, or that the model got wrong.
func jsonOrString(b []byte) json.RawMessage {
	if json.Valid(b) {
		return slices.Clone(b)
	}
	quoted, err := json.Marshal(string(b))
	if err != nil { // cannot be: a string is JSON
		return nil
	}
	return quoted
}

// count returns a number of tokens, 0 if v is none.
func count(v gjson.Result) int64 {
	if v.Type != gjson.Number || v.Num < 0 || v.Num > 1<<52 {
		return 0
	}
	return int64(v.Num)
}
