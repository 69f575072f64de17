package kaizen

import (
	"context"
	"encoding/json"
	"net/http"
	"time"

	"github.com/kaizen-go/kaizen/hook"
	"github.com/kaizen-go/kaizen/llmhttp"
)

type observerKey struct{}

// Context returns a context whose operations o observes: agents and model
// clients that run in it need no further set-up.
func (o *Observer) Context(ctx context.Context) context.Context {
	return hook.With(context.WithValue(ctx, observerKey{}, o), o.hooks)
}

// FromContext returns the observer of ctx, or nil.
func FromContext(ctx context.Context) *Observer {
	o, _ := ctx.Value(observerKey{}).(*Observer)
	return o
}

// Transport returns a round tripper that observes the model calls among its
// requests and passes all others on. A nil base is [http.DefaultTransport].
func (o *Observer) Transport(base http.RoundTripper) http.RoundTripper {
	return newTransport(base, o)
}

// HTTPClient returns a copy of c, or of a new client if c is nil, that observes
// model calls: give it to the client library of a provider.
func (o *Observer) HTTPClient(c *http.Client) *http.Client {
	if c == nil {
		c = &http.Client{}
	}
	observed := *c
	observed.Transport = o.Transport(c.Transport)
	return &observed
}

// Transport returns a round tripper that observes model calls for the observer
// of each request's context and does nothing for requests without one. The
// models of module providers send their requests through it.
func Transport(base http.RoundTripper) http.RoundTripper {
	return newTransport(base, nil)
}

// transport observes requests for obs, or for the observer in their context.
type transport struct {
	base           http.RoundTripper
	plain, content http.RoundTripper    // llmhttp over base, without and with content
	usage          [2]http.RoundTripper // the same with InjectStreamUsage
	obs            *Observer
}

func newTransport(base http.RoundTripper, obs *Observer) *transport {
	if base == nil {
		base = http.DefaultTransport
	}
	return &transport{
		base:    base,
		plain:   llmhttp.Transport(base, modelCalls{}, llmhttp.Config{}),
		content: llmhttp.Transport(base, modelCalls{}, llmhttp.Config{Content: true}),
		usage: [2]http.RoundTripper{
			llmhttp.Transport(base, modelCalls{}, llmhttp.Config{InjectStreamUsage: true}),
			llmhttp.Transport(base, modelCalls{}, llmhttp.Config{InjectStreamUsage: true, Content: true}),
		},
		obs: obs,
	}
}

// RoundTrip implements [http.RoundTripper].
func (t *transport) RoundTrip(req *http.Request) (*http.Response, error) {
	obs := FromContext(req.Context())
	if obs == nil && t.obs != nil {
		obs = t.obs
		req = req.WithContext(obs.Context(req.Context()))
	}
	switch {
	case obs == nil:
		return t.base.RoundTrip(req)
	case obs.cfg.Content == ContentOff && obs.cfg.InjectStreamUsage:
		return t.usage[0].RoundTrip(req)
	case obs.cfg.InjectStreamUsage:
		return t.usage[1].RoundTrip(req)
	case obs.cfg.Content == ContentOff:
		return t.plain.RoundTrip(req)
	}
	return t.content.RoundTrip(req)
}

// CloseIdleConnections closes those of the base, if it can.
func (t *transport) CloseIdleConnections() {
	if c, ok := t.base.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}

// modelCalls makes operations of what llmhttp sees on the wire. A request that
// belongs to a model call announced by the agent's runtime tells that one more
// about itself; any other is a call of its own.
type modelCalls struct{}

// Start implements [llmhttp.Observer].
func (modelCalls) Start(ctx context.Context, c llmhttp.Call) (context.Context, func(llmhttp.Result)) {
	if op := announced(ctx); op != nil {
		if ctx.Value(attemptKey{}) == op {
			return ctx, nil // another transport around this one has told of this attempt
		}
		op.Update(func(p hook.Payload) { sent(p.(*hook.ModelCall), c) })
		return context.WithValue(ctx, attemptKey{}, op), func(r llmhttp.Result) {
			op.Update(func(p hook.Payload) { received(p.(*hook.ModelCall), r) })
		}
	}
	obs := FromContext(ctx)
	key, now := keyOf(ctx, c), time.Now()
	if h := obs.folds.take(key, c); h != nil {
		return h.again(ctx, c, now), func(r llmhttp.Result) { obs.folds.ended(ctx, h, c, r) }
	}
	call := &hook.ModelCall{
		Operation: c.Operation, Provider: c.Provider, Model: c.Model, Stream: c.Stream,
		MaxTokens: c.MaxTokens, Temperature: c.Temperature, Attempts: c.Attempt,
	}
	sent(call, c)
	in := ctx
	if spanOfCall(ctx) {
		in = context.WithValue(ctx, enrichKey{}, true)
	}
	in, op, err := hook.From(ctx).Begin(in, call)
	if err != nil { // a handler refused: the request must not leave
		return llmhttp.Refuse(in, err), nil
	}
	h := &heldCall{key: key, op: op, ctx: in, w: obs.wire, began: now, tried: now, counted: c.Counted, attempt: c.Attempt}
	return context.WithValue(in, attemptKey{}, op), func(r llmhttp.Result) { obs.folds.ended(ctx, h, c, r) }
}

// announced returns the model call that a request in ctx is an attempt of, nil
// when none was announced.
func announced(ctx context.Context) *hook.Op {
	if op := hook.Current(ctx); op != nil && op.Kind() == hook.KindModelCall {
		return op
	}
	if op, ok := ctx.Value(attemptKey{}).(*hook.Op); ok { // found by a transport around this one
		return op
	}
	// An adapter may know of one that it could not put into ctx.
	if op := hook.From(ctx).Find(ctx); op != nil && op.Kind() == hook.KindModelCall {
		return op
	}
	return nil
}

// attemptKey marks the context of a request with the operation that it has been
// told of, for a client that is wrapped twice.
type attemptKey struct{}

// sent notes that a request of the call leaves.
func sent(p *hook.ModelCall, c llmhttp.Call) {
	p.Attempts++
	if p.Model == "" { // announced by a framework that does not know which
		p.Model = c.Model
	}
	if p.Provider == "" {
		p.Provider = c.Provider
	}
	p.ServerAddress, p.ServerPort = c.ServerAddress, c.ServerPort
	p.Input, p.System = messages(c.Input), messages(c.System)
}

// received notes what came back. A later attempt replaces an earlier one.
func received(p *hook.ModelCall, r llmhttp.Result) {
	p.HTTPStatus, p.ErrorType, p.Partial = r.StatusCode, r.ErrorType, r.Partial
	p.ResponseModel, p.ResponseID, p.RequestID = r.ResponseModel, r.ResponseID, r.RequestID
	p.ServiceTier, p.FinishReasons, p.FirstChunk = r.ServiceTier, r.FinishReasons, r.FirstChunk
	p.Usage, p.HasUsage, p.ToolCalls = r.Usage, r.HasUsage, len(r.ToolCalls)
	p.Output = messages(r.Output)
}

// messages is the GenAI conventions' JSON of a list, nil for none.
func messages[T any](list []T) json.RawMessage {
	if len(list) == 0 {
		return nil
	}
	b, err := json.Marshal(list)
	if err != nil {
		return nil // the types hold nothing that has no JSON form, but for raw parts of the wire
	}
	return b
}
