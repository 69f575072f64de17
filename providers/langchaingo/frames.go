package langchaingo

import (
	"bytes"
	"container/list"
	"context"
	"encoding/json"
	"errors"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tmc/langchaingo/llms"
	"github.com/tmc/langchaingo/schema"
	"go.opentelemetry.io/otel/trace"

	"github.com/kaizen-go/kaizen"
	"github.com/kaizen-go/kaizen/genai"
	"github.com/kaizen-go/kaizen/hook"
	"github.com/kaizen-go/kaizen/llmhttp"
	"github.com/kaizen-go/kaizen/price"
)

// maxOpen bounds the operations whose end has not come: langchaingo does not
// tell all of them. The oldest gives way.
const maxOpen = 4096

type kind uint8

const (
	chain kind = iota
	modelCall
	toolCall
	retrieval
)

func (k kind) String() string { return [...]string{"chain", "model", "tool", "retrieval"}[k] }

// leaf reports whether nothing of langchaingo runs within an operation of kind k.
func (k kind) leaf() bool { return k == modelCall || k == retrieval }

// A frame is an operation that is open.
type frame struct {
	kind      kind
	ctx       context.Context // that it would have handed to what it encloses
	caller    *hook.Op        // the operation of the context that its start was given
	from      trace.SpanContext
	op        *hook.Op // nil for a plain span
	span      trace.Span
	payload   hook.Payload
	model     string // that was known at the start
	denied    error
	start     time.Time
	run       *totals // of the run that it is part of
	ended     atomic.Bool
	goroutine uint64
	element   *list.Element // in frames.all
}

// within is ctx as the operation's own: with its cancellation and our values.
func (f *frame) within(ctx context.Context) context.Context {
	run, _ := kaizen.RunFrom(f.ctx)
	ctx = kaizen.FromContext(f.ctx).Context(kaizen.WithRun(ctx, run))
	return f.op.In(trace.ContextWithSpan(ctx, f.span))
}

// leave ends f for a wrapper, also when what it wraps panics.
func (h *Handler) leave(f *frame, err *error, fill func()) {
	v := recover()
	failed := *err
	if v != nil {
		failed = &hook.PanicError{Value: v, Stack: debug.Stack()}
	}
	for _, w := range h.open.remove(f) {
		h.finish(w, errors.Join(ErrNoEnd, failed))
	}
	f.op.Update(func(hook.Payload) { fill() })
	h.finish(f, failed)
	if v != nil {
		panic(v)
	}
}

// frames are the open operations, by the goroutine that runs them.
type frames struct {
	lost atomic.Int64

	mu      sync.Mutex
	stacks  map[uint64][]*frame
	actions map[uint64]schema.AgentAction
	all     list.List // of *frame, the oldest first
	finders map[*hook.Registry]func()
}

func (o *frames) init() {
	o.stacks, o.actions = make(map[uint64][]*frame), make(map[uint64]schema.AgentAction)
}

// known lets the transports of reg ask find for the operation of a request, from
// the first operation that is announced to reg on.
func (o *frames) known(reg *hook.Registry, find func(context.Context) *hook.Op) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if _, ok := o.finders[reg]; ok {
		return
	}
	if o.finders == nil {
		o.finders = make(map[*hook.Registry]func())
	}
	o.finders[reg] = reg.AddFinder(find)
}

// forget undoes known.
func (o *frames) forget() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, remove := range o.finders {
		remove()
	}
	o.finders = nil
}

// around returns the operation in which f begins, and takes out those that must
// be over then.
func (o *frames) around(f *frame) (outer *frame, ended []*frame) {
	o.mu.Lock()
	stack := o.stacks[f.goroutine]
	for len(stack) > 0 && stack[len(stack)-1].kind.leaf() {
		ended = append(ended, o.takeTop(f.goroutine))
		stack = o.stacks[f.goroutine]
	}
	if n := len(stack); n > 0 {
		outer = stack[n-1]
	}
	none := len(o.stacks) == 0
	o.mu.Unlock()
	o.lost.Add(int64(len(ended)))
	if outer != nil || none {
		return outer, ended
	}
	// The first of this goroutine: it is part of what the goroutine that started
	// it was doing, if both are in the same context.
	parent := o.innermost(parentID())
	if parent != nil && !parent.kind.leaf() && parent.caller == f.caller && parent.from.Equal(f.span.SpanContext()) {
		return parent, ended
	}
	return nil, ended
}

// push opens f. It returns what has to give way.
func (o *frames) push(f *frame) (evicted []*frame) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for o.all.Len() >= maxOpen {
		old := o.all.Front().Value.(*frame)
		o.take(old)
		o.lost.Add(1)
		evicted = append(evicted, old)
	}
	f.element = o.all.PushBack(f)
	o.stacks[f.goroutine] = append(o.stacks[f.goroutine], f)
	return evicted
}

// pop takes out the innermost operation of kind k that the goroutine has, nil if
// it has none, and those within it.
func (o *frames) pop(k kind, goroutine uint64) (f *frame, within []*frame) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, f := range slices.Backward(o.stacks[goroutine]) {
		if f.kind == k {
			return f, o.cut(f)
		}
	}
	return nil, nil
}

// remove takes out f and returns what was still open within it.
func (o *frames) remove(f *frame) (within []*frame) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if f.element == nil {
		return nil // it gave way
	}
	return o.cut(f)
}

// cut takes out f and returns what is above it, the innermost first.
func (o *frames) cut(f *frame) (within []*frame) {
	for {
		top := o.takeTop(f.goroutine)
		if top == f {
			o.lost.Add(int64(len(within)))
			return within
		}
		within = append(within, top)
	}
}

func (o *frames) takeTop(goroutine uint64) *frame {
	stack := o.stacks[goroutine]
	f := stack[len(stack)-1]
	o.take(f)
	return f
}

func (o *frames) take(f *frame) {
	o.all.Remove(f.element)
	f.element = nil
	stack := o.stacks[f.goroutine]
	if stack = slices.DeleteFunc(stack, func(g *frame) bool { return g == f }); len(stack) > 0 {
		o.stacks[f.goroutine] = stack
		return
	}
	delete(o.stacks, f.goroutine)
	delete(o.actions, f.goroutine)
}

// takeAll takes out everything, the innermost first.
func (o *frames) takeAll() (fs []*frame) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for o.all.Len() > 0 {
		f := o.all.Back().Value.(*frame)
		o.take(f)
		fs = append(fs, f)
	}
	o.lost.Add(int64(len(fs)))
	return fs
}

// innermost returns the innermost open operation of the goroutine, or nil.
func (o *frames) innermost(goroutine uint64) *frame {
	o.mu.Lock()
	defer o.mu.Unlock()
	if stack := o.stacks[goroutine]; len(stack) > 0 {
		return stack[len(stack)-1]
	}
	return nil
}

// expect notes which tool comes next. It is kept while the goroutine has
// something open, which an agent that acts has.
func (o *frames) expect(goroutine uint64, action schema.AgentAction) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.stacks[goroutine]) > 0 {
		o.actions[goroutine] = action
	}
}

// expected returns which tool was to come next, and forgets it.
func (o *frames) expected(goroutine uint64) schema.AgentAction {
	o.mu.Lock()
	defer o.mu.Unlock()
	action := o.actions[goroutine]
	delete(o.actions, goroutine)
	return action
}

// goroutineID returns the number of the calling goroutine, which the runtime
// tells nowhere but at the head of a stack: "goroutine 18 [running]:". That takes
// about a microsecond. It is 0 if that should ever read otherwise; calls made at
// once are then nested as if they were made by one goroutine.
func goroutineID() uint64 {
	var buf [64]byte
	return number(buf[:runtime.Stack(buf[:], false)], "goroutine ")
}

// parentID returns the number of the goroutine that started the calling one, 0
// when it is not known. It stands at the end of the stack.
func parentID() uint64 {
	stack := debug.Stack()
	const created = " in goroutine "
	if i := bytes.LastIndex(stack, []byte(created)); i >= 0 {
		return number(stack[i:], created)
	}
	return 0
}

func number(b []byte, after string) uint64 {
	b, ok := bytes.CutPrefix(b, []byte(after))
	if !ok {
		return 0
	}
	end := 0
	for end < len(b) && '0' <= b[end] && b[end] <= '9' {
		end++
	}
	n, err := strconv.ParseUint(string(b[:end]), 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// learn names the span by the model, where only the wire knew which it is.
func (f *frame) learn(p *hook.ModelCall) {
	if f.model != p.Model {
		f.span.SetName(genai.SpanName(p.Operation, p.Model))
		f.span.SetAttributes(genai.RequestModel.String(p.Model), genai.ProviderName.String(p.Provider))
	}
}

// answer adds what langchaingo tells of the answer to what was seen on the wire,
// which knows more and is left as it is.
func (f *frame) answer(res *llms.ContentResponse) {
	p, ok := f.payload.(*hook.ModelCall)
	if !ok || res == nil || len(res.Choices) == 0 || res.Choices[0] == nil {
		return
	}
	first := res.Choices[0]
	if len(p.FinishReasons) == 0 && first.StopReason != "" {
		p.FinishReasons = []string{first.StopReason}
	}
	if p.ToolCalls == 0 {
		p.ToolCalls = len(first.ToolCalls)
	}
	if !p.HasUsage {
		p.Usage, p.HasUsage = usageOf(first.GenerationInfo)
	}
	if p.Output == nil && first.Content != "" {
		p.Output = messages(message("assistant", first.Content))
	}
}

// usageOf reads the words that langchaingo's models have for tokens: OpenAI's and
// those that follow it count the cache in the prompt and reasoning in the
// completion, Anthropic's excludes the cache.
func usageOf(info map[string]any) (price.Usage, bool) {
	n := func(name string) int64 {
		switch v := info[name].(type) {
		case int:
			return int64(v)
		case int32:
			return int64(v)
		case int64:
			return v
		case float64:
			return int64(v)
		}
		return 0
	}
	var u price.Usage
	if _, ok := info["InputTokens"]; ok {
		u = price.Usage{
			Input: n("InputTokens"), Output: n("OutputTokens"),
			CacheRead: n("CacheReadInputTokens"), CacheWrite: n("CacheCreationInputTokens"),
		}
	} else {
		cached, reasoning := n("PromptCachedTokens"), n("ReasoningTokens")
		u = price.Usage{
			Input: max(0, n("PromptTokens")-cached), CacheRead: cached,
			Output: max(0, n("CompletionTokens")-reasoning), Reasoning: reasoning,
		}
	}
	return u, u.Total() > 0
}

// textOf is the text of a chain's values: the only one, or else all as JSON.
func textOf(values map[string]any) string {
	if len(values) == 1 {
		for _, v := range values {
			if s, ok := v.(string); ok {
				return s
			}
		}
	}
	b, err := json.Marshal(values)
	if err != nil {
		return "" // they hold something that is no data
	}
	return string(b)
}

// inputMessages are messages in the form of the GenAI conventions.
func inputMessages(ms []llms.MessageContent) (input, system json.RawMessage) {
	roles := map[llms.ChatMessageType]string{
		llms.ChatMessageTypeAI: "assistant", llms.ChatMessageTypeSystem: "system", llms.ChatMessageTypeTool: "tool", llms.ChatMessageTypeFunction: "tool",
	}
	var in, sys []llmhttp.Message
	for _, m := range ms {
		var texts []string
		for _, part := range m.Parts {
			switch part := part.(type) {
			case llms.TextContent:
				texts = append(texts, part.Text)
			case llms.ToolCallResponse:
				texts = append(texts, part.Content)
			}
		}
		role := roles[m.Role]
		if role == "" {
			role = "user"
		}
		if msg := message(role, strings.Join(texts, "\n")); role == "system" {
			sys = append(sys, msg)
		} else {
			in = append(in, msg)
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
}

func (t *totals) add(p *hook.ModelCall) {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.usage, t.cost, t.calls = t.usage.Add(p.Usage), t.cost+p.CostNanoUSD, t.calls+1
}

// fill says what the run came to.
func (t *totals) fill(p *hook.RunInfo, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	p.Usage, p.CostNanoUSD, p.Iterations = t.usage, t.cost, t.calls
	if p.StopReason = "answer"; err != nil {
		p.StopReason = "error"
	}
}
