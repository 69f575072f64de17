// Package langchaingo observes applications that are made with langchaingo: its
// callbacks become Kaizen's operations.
//
//	h := langchaingo.New(langchaingo.Config{Observer: obs})
//	defer h.Close()
//	llm, err := openai.New(openai.WithCallback(h), openai.WithHTTPClient(h.HTTPClient(nil)))
//	out, err := chains.Call(ctx, chain, inputs) // of a chain with h as its handler
//
//	outermost chain      run of an agent, by Config.Agent
//	chain below it       a span of its own, neither counted nor audited
//	model                model call
//	tool                 tool call, by the name in the agent's action before it
//	retriever            memory load
//
// langchaingo's callbacks can hand nothing back: neither a context for what they
// enclose, nor an id that joins an end to its start. The handler therefore goes by
// the goroutine: langchaingo makes all callbacks of a call on the one that makes
// the call, so that the operations of a goroutine are nested as its calls are.
// What a chain runs on goroutines of its own belongs to the one that started them.
//
// It also forgets ends: a model of langchaingo that fails tells nobody. Such an
// operation is ended by the next event that shows it to be over, with the error of
// the chain around it if there is one; see [Handler.Lost]. [Handler.Model] and
// [Handler.Tool] wrap a model or tool instead of being called by it, which misses
// nothing, knows a tool's name without an agent, and lets hooks refuse.
package langchaingo

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/tmc/langchaingo/callbacks"
	"github.com/tmc/langchaingo/llms"
	"github.com/tmc/langchaingo/schema"
	"github.com/tmc/langchaingo/tools"
	"go.opentelemetry.io/otel/trace"

	"github.com/kaizen-go/kaizen"
	"github.com/kaizen-go/kaizen/genai"
	"github.com/kaizen-go/kaizen/hook"
	"github.com/kaizen-go/kaizen/redact"
)

// Config tunes a [Handler]. The zero value observes for whoever observes the
// context of a call.
type Config struct {
	// Observer observes all calls. If nil, the one of each context does, and
	// nothing is done in a context without one.
	Observer *kaizen.Observer
	// Agent names the runs of outermost chains. If empty, "langchaingo". It is a
	// metric label, so there should be few of them.
	Agent string
	// Provider and Model are recorded for calls of a model whose requests do not
	// pass [Handler.HTTPClient]; langchaingo does not tell them.
	Provider, Model string
}

// ErrNoEnd is the error of an operation whose end langchaingo did not tell.
var ErrNoEnd = errors.New("langchaingo: the end was not told")

// Handler is a [callbacks.Handler]. Its methods may be called at once from any
// number of goroutines.
type Handler struct {
	cfg    Config
	redact *redact.Redactor
	open   frames
}

var _ callbacks.Handler = (*Handler)(nil)

// New returns a handler.
func New(cfg Config) *Handler {
	if cfg.Agent == "" {
		cfg.Agent = "langchaingo"
	}
	h := &Handler{cfg: cfg, redact: redact.New(redact.Config{})}
	h.open.init()
	return h
}

// Lost returns how many operations were ended without being told how they ended.
func (h *Handler) Lost() int64 { return h.open.lost.Load() }

// Close ends the operations that are still open, as lost. The handler can go on
// after it.
func (h *Handler) Close() {
	for _, f := range h.open.takeAll() {
		h.finish(f, ErrNoEnd)
	}
	h.open.forget()
}

// observer returns who observes, and a context in which they do.
func (h *Handler) observer(ctx context.Context) (context.Context, *kaizen.Observer) {
	obs := kaizen.FromContext(ctx)
	if h.cfg.Observer == nil || obs == h.cfg.Observer {
		return ctx, obs
	}
	return h.cfg.Observer.Context(ctx), h.cfg.Observer
}

// begin opens what payload describes, or a plain span for none. It returns nil
// when nobody observes.
func (h *Handler) begin(ctx context.Context, k kind, payload func(outermost bool) hook.Payload) *frame {
	f := &frame{kind: k, caller: hook.Current(ctx), span: trace.SpanFromContext(ctx), goroutine: goroutineID()}
	outer, ended := h.open.around(f)
	for _, e := range ended {
		h.finish(e, ErrNoEnd)
	}
	f.from = f.span.SpanContext()
	if outer != nil {
		f.run = outer.run
		if f.caller == outer.caller && f.from.Equal(outer.from) { // the context of before outer: outer's own is within it
			ctx = outer.ctx
		}
	}
	ctx, obs := h.observer(ctx)
	if obs == nil {
		return nil
	}
	h.open.known(obs.Hooks(), h.find)
	p := payload(f.run == nil)
	if _, isRun := p.(*hook.RunInfo); isRun {
		f.run = &totals{}
		ctx = h.newRun(ctx)
	}
	if p == nil {
		f.ctx, f.span = obs.Tracer().Start(ctx, k.String(), trace.WithAttributes(genai.Kind.String("other")))
	} else {
		f.payload = p
		f.ctx, f.op, f.denied = obs.Hooks().Begin(ctx, p)
		f.span = trace.SpanFromContext(f.ctx)
		if call, ok := p.(*hook.ModelCall); ok {
			f.model = call.Model
		}
	}
	f.start = time.Now()
	for _, e := range h.open.push(f) {
		h.finish(e, ErrNoEnd)
	}
	return f
}

// newRun returns a context in which a run of its own goes on.
func (h *Handler) newRun(ctx context.Context) context.Context {
	outer, _ := kaizen.RunFrom(ctx)
	r := outer
	r.RunID, r.ParentRunID = ulid.Make().String(), outer.RunID
	r.AgentID, r.AgentName = h.cfg.Agent, h.cfg.Agent
	if asked := genai.SessionFrom(ctx); outer.RunID == "" && r.SessionID == "" {
		r.SessionID, r.UserID = asked.ID, asked.User
	}
	return kaizen.WithRun(ctx, r)
}

// end ends the innermost open operation of kind k, and what is still open within
// it: those ends were not told.
func (h *Handler) end(k kind, err error, fill func(*frame)) {
	f, within := h.open.pop(k, goroutineID())
	for _, w := range within {
		cause := ErrNoEnd
		if err != nil {
			cause = err // most likely what it failed of
		}
		h.finish(w, cause)
	}
	if f == nil {
		return
	}
	if fill != nil && f.op != nil {
		f.op.Update(func(hook.Payload) { fill(f) })
	}
	h.finish(f, err)
}

// finish ends f. Only the first call has an effect.
func (h *Handler) finish(f *frame, err error) {
	if f.ended.Swap(true) {
		return
	}
	if f.op == nil {
		out := genai.Outcome{Status: string(hook.StatusOf(err))}
		if err != nil {
			out.Message = h.redact.String(err.Error())
		}
		genai.End(f.span, out)
		return
	}
	switch p := f.payload.(type) {
	case *hook.ModelCall:
		f.op.Update(func(hook.Payload) { f.learn(p) })
		f.op.End(err)
		f.op.Update(func(hook.Payload) { f.run.add(p) })
	case *hook.RunInfo:
		f.op.Update(func(hook.Payload) { f.run.fill(p, err) })
		f.op.End(err)
	default:
		f.op.End(err)
	}
}

// HandleChainStart implements [callbacks.Handler].
func (h *Handler) HandleChainStart(ctx context.Context, inputs map[string]any) {
	h.begin(ctx, chain, func(outermost bool) hook.Payload {
		if !outermost {
			return nil
		}
		return &hook.RunInfo{Input: textOf(inputs)}
	})
}

// HandleChainEnd implements [callbacks.Handler].
func (h *Handler) HandleChainEnd(_ context.Context, outputs map[string]any) {
	h.end(chain, nil, func(f *frame) {
		if p, ok := f.payload.(*hook.RunInfo); ok {
			p.Output = textOf(outputs)
		}
	})
}

// HandleChainError implements [callbacks.Handler].
func (h *Handler) HandleChainError(_ context.Context, err error) { h.end(chain, err, nil) }

// HandleLLMStart implements [callbacks.Handler].
func (h *Handler) HandleLLMStart(ctx context.Context, prompts []string) {
	list := make([]llms.MessageContent, len(prompts))
	for i, p := range prompts {
		list[i] = llms.TextParts(llms.ChatMessageTypeHuman, p)
	}
	h.HandleLLMGenerateContentStart(ctx, list)
}

// HandleLLMGenerateContentStart implements [callbacks.Handler].
func (h *Handler) HandleLLMGenerateContentStart(ctx context.Context, ms []llms.MessageContent) {
	if !wrapped(ctx, hook.KindModelCall) {
		h.begin(ctx, modelCall, func(bool) hook.Payload { return h.call(ms, h.cfg.Model) })
	}
}

// call is the payload of a call of a model.
func (h *Handler) call(ms []llms.MessageContent, model string) *hook.ModelCall {
	p := &hook.ModelCall{Operation: "chat", Provider: h.cfg.Provider, Model: model}
	p.Input, p.System = inputMessages(ms)
	return p
}

// HandleLLMGenerateContentEnd implements [callbacks.Handler].
func (h *Handler) HandleLLMGenerateContentEnd(ctx context.Context, res *llms.ContentResponse) {
	if !wrapped(ctx, hook.KindModelCall) {
		h.end(modelCall, nil, func(f *frame) { f.answer(res) })
	}
}

// HandleLLMError implements [callbacks.Handler].
func (h *Handler) HandleLLMError(ctx context.Context, err error) {
	if !wrapped(ctx, hook.KindModelCall) {
		h.end(modelCall, err, nil)
	}
}

// HandleStreamingFunc implements [callbacks.Handler]: the first piece tells how
// long it took.
func (h *Handler) HandleStreamingFunc(_ context.Context, _ []byte) {
	f := h.open.innermost(goroutineID())
	if f == nil || f.kind != modelCall || f.op == nil {
		return
	}
	f.op.Update(func(hook.Payload) {
		if p, ok := f.payload.(*hook.ModelCall); ok && p.FirstChunk == 0 {
			p.FirstChunk, p.Stream = time.Since(f.start), true
		}
	})
}

// HandleAgentAction implements [callbacks.Handler]: it names the tool that starts
// next on its goroutine.
func (h *Handler) HandleAgentAction(_ context.Context, action schema.AgentAction) {
	h.open.expect(goroutineID(), action)
}

// HandleToolStart implements [callbacks.Handler].
func (h *Handler) HandleToolStart(ctx context.Context, input string) {
	if wrapped(ctx, hook.KindTool) {
		return
	}
	action := h.open.expected(goroutineID())
	if action.Tool == "" {
		action.Tool = "tool" // called by nobody who says which
	}
	h.begin(ctx, toolCall, func(bool) hook.Payload {
		return &hook.Tool{Name: action.Tool, CallID: action.ToolID, Type: "function", Arguments: input}
	})
}

// HandleToolEnd implements [callbacks.Handler].
func (h *Handler) HandleToolEnd(ctx context.Context, output string) {
	if !wrapped(ctx, hook.KindTool) {
		h.end(toolCall, nil, func(f *frame) { f.payload.(*hook.Tool).Result = output })
	}
}

// HandleToolError implements [callbacks.Handler].
func (h *Handler) HandleToolError(ctx context.Context, err error) {
	if !wrapped(ctx, hook.KindTool) {
		h.end(toolCall, err, nil)
	}
}

// HandleRetrieverStart implements [callbacks.Handler].
func (h *Handler) HandleRetrieverStart(ctx context.Context, _ string) {
	h.begin(ctx, retrieval, func(bool) hook.Payload { return &hook.MemoryLoad{Store: "retriever"} })
}

// HandleRetrieverEnd implements [callbacks.Handler].
func (h *Handler) HandleRetrieverEnd(_ context.Context, _ string, documents []schema.Document) {
	h.end(retrieval, nil, func(f *frame) { f.payload.(*hook.MemoryLoad).Records = len(documents) })
}

// HandleAgentFinish implements [callbacks.Handler]. The answer is that of the
// chain around the agent, whose end follows.
func (h *Handler) HandleAgentFinish(context.Context, schema.AgentFinish) {}

// HandleText implements [callbacks.Handler]. Texts are not operations.
func (h *Handler) HandleText(context.Context, string) {}

// wrapped reports whether ctx is that of an operation of kind k that a wrapper
// has opened: the callbacks below it tell the same a second time.
func wrapped(ctx context.Context, k hook.Kind) bool {
	op := hook.Current(ctx)
	return op != nil && op.Kind() == k
}

// waiting returns the model call of this goroutine that a request in ctx belongs
// to, nil if it has none. A call whose failure nobody told must not draw the
// requests of others: it waits no more once it had an answer that is not to be
// tried again.
func (h *Handler) waiting(ctx context.Context) *frame {
	f := h.open.innermost(goroutineID())
	if f == nil || f.kind != modelCall || f.op == nil {
		return nil
	}
	// The request's context is that of the callback, or already the operation's.
	if op := hook.Current(ctx); op != f.op && (op != f.caller || !trace.SpanContextFromContext(ctx).Equal(f.from)) {
		return nil
	}
	open := true
	f.op.Update(func(hook.Payload) {
		p := f.payload.(*hook.ModelCall)
		open = p.Attempts == 0 || p.HTTPStatus == http.StatusTooManyRequests || p.HTTPStatus >= 500 || p.HTTPStatus == 0
	})
	if !open {
		return nil
	}
	return f
}

// find is [Handler.waiting] for the transport of an observer.
func (h *Handler) find(ctx context.Context) *hook.Op {
	if f := h.waiting(ctx); f != nil {
		return f.op
	}
	return nil
}

// HTTPClient returns a copy of c, or of a new client if c is nil, for a model of
// langchaingo: what it sees of a request it tells the operation that the model's
// callback opened, so that a call is counted once, with the tokens and the price
// that only the wire knows. Requests of other models are calls of their own. The
// observer's own client does the same; through this one hooks can refuse as well.
func (h *Handler) HTTPClient(c *http.Client) *http.Client {
	if c == nil {
		c = &http.Client{}
	}
	observed := *c
	observed.Transport = &transport{h, kaizen.Transport(c.Transport)}
	return &observed
}

type transport struct {
	h    *Handler
	base http.RoundTripper
}

// RoundTrip implements [http.RoundTripper]. An [http.Client] calls it on the
// goroutine of the request, which is that of the callback.
func (t *transport) RoundTrip(req *http.Request) (*http.Response, error) {
	ctx, obs := t.h.observer(req.Context())
	if obs == nil {
		return t.base.RoundTrip(req)
	}
	if f := t.h.waiting(ctx); f != nil && !wrapped(ctx, hook.KindModelCall) {
		if f.denied != nil {
			return nil, f.denied
		}
		ctx = f.within(ctx)
	}
	return t.base.RoundTrip(req.WithContext(ctx))
}

// CloseIdleConnections closes those of the base, if it can.
func (t *transport) CloseIdleConnections() {
	if c, ok := t.base.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}

// Model returns m such that its calls are observed without callbacks of its own.
// They are counted once also if it has some, or an HTTP client that is observed.
func (h *Handler) Model(m llms.Model) llms.Model { return &observedModel{h, m} }

type observedModel struct {
	h *Handler
	llms.Model
}

// GenerateContent implements [llms.Model].
func (m *observedModel) GenerateContent(ctx context.Context, ms []llms.MessageContent, options ...llms.CallOption) (_ *llms.ContentResponse, err error) {
	var opts llms.CallOptions
	for _, o := range options {
		o(&opts)
	}
	model := opts.Model
	if model == "" {
		model = m.h.cfg.Model
	}
	f := m.h.begin(ctx, modelCall, func(bool) hook.Payload { return m.h.call(ms, model) })
	if f == nil {
		return m.Model.GenerateContent(ctx, ms, options...)
	}
	var res *llms.ContentResponse
	defer m.h.leave(f, &err, func() { f.answer(res) })
	if f.denied != nil {
		return nil, f.denied
	}
	res, err = m.Model.GenerateContent(f.within(ctx), ms, options...)
	return res, err
}

// Call implements [llms.Model].
func (m *observedModel) Call(ctx context.Context, prompt string, options ...llms.CallOption) (string, error) {
	return llms.GenerateFromSinglePrompt(ctx, m, prompt, options...)
}

// Tool returns t such that its calls are observed without callbacks of its own.
func (h *Handler) Tool(t tools.Tool) tools.Tool { return &observedTool{h, t} }

type observedTool struct {
	h *Handler
	tools.Tool
}

// Call implements [tools.Tool]. A refusal is the tool's error.
func (t *observedTool) Call(ctx context.Context, input string) (out string, err error) {
	action := t.h.open.expected(goroutineID())
	p := &hook.Tool{Name: t.Name(), CallID: action.ToolID, Description: t.Description(), Type: "function", Arguments: input}
	f := t.h.begin(ctx, toolCall, func(bool) hook.Payload { return p })
	if f == nil {
		return t.Tool.Call(ctx, input)
	}
	defer t.h.leave(f, &err, func() { p.Result = out })
	if f.denied != nil {
		return "", f.denied
	}
	return t.Tool.Call(f.within(ctx), input)
}
