// Package eino observes applications that are made with the eino framework: its
// callbacks become Kaizen's operations.
//
//	h := eino.New(eino.Config{Observer: obs})
//	defer h.Close(ctx)
//	out, err := runnable.Invoke(ctx, in, compose.WithCallbacks(h))
//
// or, for everything in the process, callbacks.AppendGlobalHandlers(h); or, for an
// agent of the ADK, whose runs take no callbacks, runner.Run(h.Context(ctx), …).
//
//	outermost graph, chain, workflow   run of an agent, by the graph's name
//	agent of the ADK                   the same: each is a chain by the agent's name
//	chat model, embedding              model call
//	tool                               tool call
//	retriever, indexer                 memory load, memory save
//	lambda, template, nested graph, …  a span of its own, neither counted nor audited
//
// The handler puts the operation into the context that the component runs in. A
// model whose HTTP client has Kaizen's transport (kaizen.Observer.HTTPClient)
// finds it there and tells it what it sees on the wire, so that a call is counted
// once, with the tokens and the price that only the wire knows.
package eino

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cloudwego/eino/callbacks"
	"github.com/cloudwego/eino/components"
	"github.com/cloudwego/eino/components/embedding"
	"github.com/cloudwego/eino/components/indexer"
	"github.com/cloudwego/eino/components/model"
	"github.com/cloudwego/eino/components/tool"
	"github.com/cloudwego/eino/compose"
	"github.com/cloudwego/eino/schema"
	"github.com/oklog/ulid/v2"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/kaizen-go/kaizen"
	"github.com/kaizen-go/kaizen/genai"
	"github.com/kaizen-go/kaizen/hook"
	"github.com/kaizen-go/kaizen/redact"
)

// Config tunes a [Handler]. The zero value observes for whoever observes the
// context of a run.
type Config struct {
	// Observer observes all runs. If nil, the one of each context does, and
	// nothing is done in a context without one.
	Observer *kaizen.Observer
	// Agent names the runs of graphs that have no name. If empty, "eino". It is
	// a metric label, so there should be few of them.
	Agent string
	// Provider names the provider of a model by the type that eino gives it, such
	// as "OpenAI", in the words of the GenAI conventions. If nil, or if it returns
	// "", the type in lower case, which fits most.
	Provider func(modelType string) string
}

// Handler is a [callbacks.Handler]. It may serve any number of runs at once.
type Handler struct {
	cfg     Config
	redact  *redact.Redactor
	readers sync.WaitGroup // one for each copy of a stream that is being read
}

var _ callbacks.Handler = (*Handler)(nil)

// New returns a handler.
func New(cfg Config) *Handler {
	if cfg.Agent == "" {
		cfg.Agent = "eino"
	}
	return &Handler{cfg: cfg, redact: redact.New(redact.Config{})}
}

// Context returns a context whose runs h observes, for those that take no
// callbacks of their own.
func (h *Handler) Context(ctx context.Context) context.Context {
	return callbacks.InitCallbacks(ctx, &callbacks.RunInfo{}, h)
}

// Close waits until the streams of all runs that began are read to their ends,
// or until ctx is done, which is an error then. The handler can go on after.
func (h *Handler) Close(ctx context.Context) error {
	done := make(chan struct{})
	go func() { // ends with the last stream, which those who make it must end
		h.readers.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("eino: close: streams are open: %w", context.Cause(ctx))
	}
}

type frameKey struct{}

// A frame is one component that runs. It is in the context of that component.
type frame struct {
	info  *callbacks.RunInfo // eino's own, the same at the start and the end
	what  kind
	op    *hook.Op   // nil for a component that is a span only, whose
	span  trace.Span // span this is; of an operation the one that it has
	call  *hook.ModelCall
	model string // that was known at the start
	start time.Time
	run   *totals // of the run that it is part of; its own if it is one
	ended atomic.Bool
}

type kind uint8

const (
	other kind = iota
	graph      // nested in another one
	run
	modelCall
	toolCall
	load
	save
)

// OnStart implements [callbacks.Handler].
func (h *Handler) OnStart(ctx context.Context, info *callbacks.RunInfo, input callbacks.CallbackInput) context.Context {
	obs := kaizen.FromContext(ctx)
	if h.cfg.Observer != nil && obs != h.cfg.Observer {
		obs = h.cfg.Observer
		ctx = obs.Context(ctx)
	}
	if obs == nil || info == nil {
		return ctx
	}
	outer, _ := ctx.Value(frameKey{}).(*frame)
	if outer != nil && outer.info == info {
		return ctx // a handler that is registered twice
	}
	f := &frame{info: info, start: time.Now()}
	if outer != nil {
		f.run = outer.run
	}
	payload := h.payload(ctx, f, outer, input)
	if payload == nil {
		ctx, f.span = obs.Tracer().Start(ctx, genai.SpanName(string(info.Component), info.Name),
			trace.WithAttributes(genai.Kind.String("other"), componentType.String(info.Type)))
		return context.WithValue(ctx, frameKey{}, f)
	}
	if f.what == run {
		ctx = h.newRun(ctx, info)
		f.run = &totals{}
	}
	if f.call != nil {
		f.model = f.call.Model
	}
	ctx, op, err := obs.Hooks().Begin(ctx, payload)
	f.op, f.span = op, trace.SpanFromContext(ctx)
	ctx = context.WithValue(ctx, frameKey{}, f)
	if err != nil {
		// Callbacks cannot stop a component. One that heeds its context, as all
		// that talk to a network do, stops with the refusal as the cause.
		stopped, cancel := context.WithCancelCause(ctx)
		cancel(err)
		return stopped
	}
	return ctx
}

// componentType is eino's type of a component, such as "OpenAI".
const componentType = attribute.Key("eino.component.type")

// newRun returns a context in which a run of its own goes on.
func (h *Handler) newRun(ctx context.Context, info *callbacks.RunInfo) context.Context {
	outer, _ := kaizen.RunFrom(ctx)
	r := outer
	r.RunID, r.ParentRunID = ulid.Make().String(), outer.RunID
	r.AgentName = info.Name
	if r.AgentName == "" {
		r.AgentName = h.cfg.Agent
	}
	r.AgentID = r.AgentName
	if asked := genai.SessionFrom(ctx); outer.RunID == "" && r.SessionID == "" {
		r.SessionID, r.UserID = asked.ID, asked.User
	}
	return kaizen.WithRun(ctx, r)
}

// payload says what operation the component is, nil for none of its own.
func (h *Handler) payload(ctx context.Context, f, outer *frame, input callbacks.CallbackInput) hook.Payload {
	info := f.info
	switch info.Component {
	case components.ComponentOfChatModel:
		f.what, f.call = modelCall, &hook.ModelCall{Operation: "chat", Provider: h.provider(info.Type)}
		if in := model.ConvCallbackInput(input); in != nil {
			f.call.Input, f.call.System = inputMessages(in.Messages)
			configured(f.call, in.Config)
		}
		return f.call
	case components.ComponentOfEmbedding:
		f.what, f.call = modelCall, &hook.ModelCall{Operation: "embeddings", Provider: h.provider(info.Type)}
		if in := embedding.ConvCallbackInput(input); in != nil && in.Config != nil {
			f.call.Model = in.Config.Model
		}
		return f.call
	case components.ComponentOfTool:
		f.what = toolCall
		t := &hook.Tool{Name: nameOf(info), CallID: compose.GetToolCallID(ctx), Type: "function"}
		if in := tool.ConvCallbackInput(input); in != nil {
			t.Arguments = in.ArgumentsInJSON
		}
		return t
	case components.ComponentOfRetriever:
		f.what = load
		return &hook.MemoryLoad{Store: nameOf(info)}
	case components.ComponentOfIndexer:
		f.what = save
		s := &hook.MemorySave{Store: nameOf(info)}
		if in := indexer.ConvCallbackInput(input); in != nil {
			s.Records = len(in.Docs)
		}
		return s
	case compose.ComponentOfGraph, compose.ComponentOfChain, compose.ComponentOfWorkflow:
		// A graph that a tool runs is an agent that another one asks.
		if f.what = graph; outer == nil || outer.what == toolCall {
			f.what = run
			return &hook.RunInfo{Input: text(input)}
		}
	}
	return nil
}

// nameOf is the component's name as its graph knows it, or else its type.
func nameOf(info *callbacks.RunInfo) string {
	if info.Name != "" {
		return info.Name
	}
	if info.Type != "" {
		return info.Type
	}
	return string(info.Component)
}

// OnStartWithStreamInput implements [callbacks.Handler]. What streams in is what
// another component streams out, and known from there: the copy is given back.
func (h *Handler) OnStartWithStreamInput(ctx context.Context, info *callbacks.RunInfo, input *schema.StreamReader[callbacks.CallbackInput]) context.Context {
	input.Close()
	return h.OnStart(ctx, info, nil)
}

// OnEnd implements [callbacks.Handler].
func (h *Handler) OnEnd(ctx context.Context, info *callbacks.RunInfo, output callbacks.CallbackOutput) context.Context {
	if f := frameOf(ctx, info); f != nil {
		a := &answer{}
		a.add(f, output)
		h.end(f, a, nil, time.Now())
	}
	return ctx
}

// OnError implements [callbacks.Handler].
func (h *Handler) OnError(ctx context.Context, info *callbacks.RunInfo, err error) context.Context {
	if f := frameOf(ctx, info); f != nil {
		h.end(f, &answer{}, err, time.Now())
	}
	return ctx
}

// OnEndWithStreamOutput implements [callbacks.Handler]. The operation ends when
// the stream does: a copy of it is read to its end, by a goroutine that
// [Handler.Close] waits for.
func (h *Handler) OnEndWithStreamOutput(ctx context.Context, info *callbacks.RunInfo, output *schema.StreamReader[callbacks.CallbackOutput]) context.Context {
	f := frameOf(ctx, info)
	if f == nil {
		output.Close()
		return ctx
	}
	if f.what != run {
		f.run.hold()
	}
	h.readers.Go(func() {
		a, err := read(f, output)
		h.end(f, a, err, time.Now())
		if f.what != run {
			f.run.release()
		}
	})
	return ctx
}

// frameOf returns the frame of the component, nil for one whose start was not seen.
func frameOf(ctx context.Context, info *callbacks.RunInfo) *frame {
	f, _ := ctx.Value(frameKey{}).(*frame)
	if f == nil || f.info != info {
		return nil
	}
	return f
}

// end ends what f stands for, as of at. Only the first call has an effect.
func (h *Handler) end(f *frame, a *answer, err error, at time.Time) {
	if f.ended.Swap(true) {
		return
	}
	stop := stopReason(err)
	if stop == interrupted {
		err = nil // somebody has to answer first; nothing went wrong
	}
	switch f.what {
	case modelCall:
		f.op.Update(func(hook.Payload) { a.fill(f) })
		f.op.EndAt(err, at)
		f.op.Update(func(hook.Payload) { f.run.add(f.call) })
	case run:
		f.run.whenIdle(func() {
			f.op.Update(func(p hook.Payload) { f.run.fill(p.(*hook.RunInfo), a, stop) })
			f.op.EndAt(err, at)
		})
	case toolCall:
		f.op.Update(func(p hook.Payload) { p.(*hook.Tool).Result = a.text.String() })
		f.op.EndAt(err, at)
	case load:
		f.op.Update(func(p hook.Payload) { p.(*hook.MemoryLoad).Records = a.records })
		f.op.EndAt(err, at)
	case save:
		f.op.EndAt(err, at)
	default:
		out := genai.Outcome{Time: at, Status: string(hook.StatusOf(err))}
		if err != nil {
			out.Message = h.redact.String(err.Error())
		}
		genai.End(f.span, out)
	}
}

// interrupted is the stop reason of a run that waits for a person.
const interrupted = "interrupt"

func stopReason(err error) string {
	if err == nil {
		return "answer"
	}
	if _, ok := compose.ExtractInterruptInfo(err); ok {
		return interrupted
	}
	return "error"
}
