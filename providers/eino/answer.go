package eino

import (
	"encoding/json"
	"errors"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/cloudwego/eino/callbacks"
	"github.com/cloudwego/eino/components/embedding"
	"github.com/cloudwego/eino/components/model"
	"github.com/cloudwego/eino/components/retriever"
	"github.com/cloudwego/eino/components/tool"
	"github.com/cloudwego/eino/schema"

	"github.com/kaizen-go/kaizen/genai"
	"github.com/kaizen-go/kaizen/hook"
	"github.com/kaizen-go/kaizen/llmhttp"
	"github.com/kaizen-go/kaizen/price"
)

// maxText bounds what is kept of a streamed text: a span holds no more.
const maxText = 1 << 20

// answer is what came out of a component, in one piece or in many.
type answer struct {
	text    strings.Builder
	usage   *model.TokenUsage
	finish  string
	model   string
	calls   map[int]bool // tool calls of a streamed message, by their index
	whole   int          // tool calls without an index
	records int
	first   time.Duration
}

// read reads a stream to its end, and returns what ended it early.
func read(f *frame, stream *schema.StreamReader[callbacks.CallbackOutput]) (*answer, error) {
	defer stream.Close()
	a := &answer{}
	for {
		part, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return a, nil
		}
		if err != nil {
			return a, err
		}
		if a.first == 0 {
			a.first = time.Since(f.start)
		}
		a.add(f, part)
	}
}

// add takes in a piece of the output.
func (a *answer) add(f *frame, output callbacks.CallbackOutput) {
	switch f.what {
	case modelCall:
		if f.call.Operation == "embeddings" {
			a.addEmbedding(embedding.ConvCallbackOutput(output))
			return
		}
		a.addMessage(model.ConvCallbackOutput(output))
	case toolCall:
		if out := tool.ConvCallbackOutput(output); out != nil {
			a.addText(out.Response)
		}
	case load:
		if out := retriever.ConvCallbackOutput(output); out != nil {
			a.records += len(out.Docs)
		}
	case run:
		a.addText(text(output))
	}
}

func (a *answer) addText(s string) {
	if a.text.Len()+len(s) <= maxText {
		a.text.WriteString(s)
	}
}

func (a *answer) addMessage(out *model.CallbackOutput) {
	if out == nil {
		return
	}
	if out.Config != nil && out.Config.Model != "" {
		a.model = out.Config.Model
	}
	if out.TokenUsage != nil {
		a.usage = out.TokenUsage
	}
	msg := out.Message
	if msg == nil {
		return
	}
	a.addText(msg.Content)
	for _, c := range msg.ToolCalls {
		if c.Index == nil {
			a.whole++
			continue
		}
		if a.calls == nil {
			a.calls = make(map[int]bool)
		}
		a.calls[*c.Index] = true
	}
	if m := msg.ResponseMeta; m != nil {
		if m.FinishReason != "" {
			a.finish = m.FinishReason
		}
		if u := m.Usage; u != nil && out.TokenUsage == nil {
			a.usage = &model.TokenUsage{
				PromptTokens: u.PromptTokens, CompletionTokens: u.CompletionTokens, TotalTokens: u.TotalTokens,
				PromptTokenDetails:      model.PromptTokenDetails{CachedTokens: u.PromptTokenDetails.CachedTokens},
				CompletionTokensDetails: model.CompletionTokensDetails{ReasoningTokens: u.CompletionTokensDetails.ReasoningTokens},
			}
		}
	}
}

func (a *answer) addEmbedding(out *embedding.CallbackOutput) {
	if out == nil {
		return
	}
	if out.Config != nil && out.Config.Model != "" {
		a.model = out.Config.Model
	}
	if u := out.TokenUsage; u != nil {
		a.usage = &model.TokenUsage{PromptTokens: u.PromptTokens, TotalTokens: u.TotalTokens}
	}
}

// fill adds what eino tells to what the transport has seen on the wire, which
// knows more and is left as it is.
func (a *answer) fill(f *frame) {
	p := f.call
	if p.Model == "" {
		p.Model = a.model
	}
	if f.model != p.Model { // the component did not say what it asks for; the wire has
		f.span.SetName(genai.SpanName(p.Operation, p.Model))
		f.span.SetAttributes(genai.RequestModel.String(p.Model))
	}
	if a.first > 0 {
		if !p.Stream {
			p.Stream = true
			f.span.SetAttributes(genai.RequestStream.Bool(true))
		}
		if p.FirstChunk == 0 {
			p.FirstChunk = a.first
		}
	}
	if len(p.FinishReasons) == 0 && a.finish != "" {
		p.FinishReasons = []string{a.finish}
	}
	if !p.HasUsage && a.usage != nil {
		p.Usage, p.HasUsage = usage(a.usage), true
	}
	if p.ToolCalls == 0 {
		p.ToolCalls = len(a.calls) + a.whole
	}
	if p.Output == nil && a.text.Len() > 0 {
		p.Output = messages(message("assistant", a.text.String()))
	}
}

// usage makes the buckets disjoint: eino's prompt includes what came from the
// cache, and its completion the reasoning.
func usage(u *model.TokenUsage) price.Usage {
	cached, reasoning := int64(u.PromptTokenDetails.CachedTokens), int64(u.CompletionTokensDetails.ReasoningTokens)
	return price.Usage{
		Input: max(0, int64(u.PromptTokens)-cached), CacheRead: cached,
		Output: max(0, int64(u.CompletionTokens)-reasoning), Reasoning: reasoning,
	}
}

// configured notes what the component says of its settings.
func configured(p *hook.ModelCall, c *model.Config) {
	if c == nil {
		return
	}
	p.Model, p.MaxTokens = c.Model, c.MaxTokens
	if c.Temperature != 0 {
		t := float64(c.Temperature)
		p.Temperature = &t
	}
}

// provider names the provider of a type of model.
func (h *Handler) provider(modelType string) string {
	if h.cfg.Provider != nil {
		if name := h.cfg.Provider(modelType); name != "" {
			return name
		}
	}
	switch name := strings.ToLower(modelType); name {
	case "claude":
		return "anthropic"
	case "gemini":
		return "gcp.gemini"
	case "azureopenai":
		return "azure.ai.openai"
	default:
		return name
	}
}

// text is what an input or output says, as far as it is one of eino's own types.
func text(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case *schema.Message:
		if v != nil {
			return v.Content
		}
	case []*schema.Message:
		if n := len(v); n > 0 && v[n-1] != nil {
			return v[n-1].Content
		}
	}
	return ""
}

// inputMessages are messages in the form of the GenAI conventions.
func inputMessages(list []*schema.Message) (input, system json.RawMessage) {
	var in, sys []llmhttp.Message
	for _, m := range list {
		switch {
		case m == nil:
		case m.Role == schema.System:
			sys = append(sys, message("system", m.Content))
		default:
			in = append(in, message(string(m.Role), m.Content))
		}
	}
	return messages(in...), messages(sys...)
}

func message(role, content string) llmhttp.Message {
	return llmhttp.Message{Role: role, Parts: []llmhttp.Part{{Type: "text", Content: content}}}
}

func messages(list ...llmhttp.Message) json.RawMessage {
	if len(list) == 0 {
		return nil
	}
	b, err := json.Marshal(list)
	if err != nil {
		return nil // they are made of texts only
	}
	return b
}

// totals is what a run sums up of its model calls. A nil *totals is of no run.
type totals struct {
	mu    sync.Mutex
	usage price.Usage
	cost  int64
	calls int
	open  int    // streams of the run's components that are still read
	end   func() // of the run, once they are
}

// add counts a call that has ended.
func (t *totals) add(p *hook.ModelCall) {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.usage, t.cost, t.calls = t.usage.Add(p.Usage), t.cost+p.CostNanoUSD, t.calls+1
}

func (t *totals) hold() {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.open++
}

func (t *totals) release() {
	if t == nil {
		return
	}
	t.mu.Lock()
	t.open--
	end := t.end
	if t.open > 0 {
		end = nil
	}
	t.mu.Unlock()
	if end != nil {
		end()
	}
}

// whenIdle calls end when no stream of the run is read any more: what they told
// belongs to the run.
func (t *totals) whenIdle(end func()) {
	t.mu.Lock()
	if t.open > 0 {
		if t.end == nil {
			t.end = end
		}
		t.mu.Unlock()
		return
	}
	t.mu.Unlock()
	end()
}

// fill says what the run came to.
func (t *totals) fill(p *hook.RunInfo, a *answer, stop string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	p.Usage, p.CostNanoUSD, p.Iterations = t.usage, t.cost, t.calls
	p.Output, p.StopReason = a.text.String(), stop
}
