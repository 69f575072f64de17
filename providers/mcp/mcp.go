// Package mcp observes clients and servers of the official Go SDK of the Model
// Context Protocol: each request is a span on both sides and in both directions,
// each call of a tool an operation with its audit entry, and the trace goes on
// from the one process into the other.
//
//	mcp.ObserveClient(client, mcp.Config{}) // before it connects
//	mcp.ObserveServer(server, mcp.Config{Observer: obs})
//
// The spans are the conventions': "tools/call search" of kind client where the
// request is sent and of kind server where it is received. The trace, the session
// and the user travel in the request's _meta, as traceparent, tracestate and
// baggage.
//
// A call of a tool is an execute_tool operation around the client's span, unless
// the agent that makes it has announced that tool already, and one inside the
// server's: the agent used a tool, the server carried one out. Each is counted and
// audited by the observer of its own process. Notifications and pings are neither.
package mcp

import (
	"context"
	"encoding/json"
	"errors"
	"reflect"
	"strconv"
	"strings"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	sdk "github.com/modelcontextprotocol/go-sdk/mcp"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/kaizen-go/kaizen"
	"github.com/kaizen-go/kaizen/genai"
	"github.com/kaizen-go/kaizen/hook"
	"github.com/kaizen-go/kaizen/redact"
)

// Names of the conventions' attributes of MCP.
const (
	methodName      = attribute.Key("mcp.method.name")
	sessionID       = attribute.Key("mcp.session.id")
	protocolVersion = attribute.Key("mcp.protocol.version")
	resourceURI     = attribute.Key("mcp.resource.uri")
	promptName      = attribute.Key("gen_ai.prompt.name")
	statusCode      = attribute.Key("rpc.response.status_code")
)

const callTool = "tools/call"

// toolError is the error.type of a tool that answered that it failed.
const toolError = "tool_error"

// Config tunes the middleware. The zero value observes for whoever observes the
// context of a request.
type Config struct {
	// Observer observes all requests. If nil, the one of each request's context
	// does, and nothing is done for a request without one: a server, whose
	// contexts come from the SDK, usually needs it.
	Observer *kaizen.Observer
}

// ObserveClient adds the middleware of both directions to c: what it asks of
// servers, and what they ask of it (sampling, elicitation, roots). It must be
// called once, before c connects.
func ObserveClient(c *sdk.Client, cfg Config) {
	c.AddSendingMiddleware(Sending(cfg))
	c.AddReceivingMiddleware(Receiving(cfg))
}

// ObserveServer adds the middleware of both directions to s. It must be called
// once, before s serves.
func ObserveServer(s *sdk.Server, cfg Config) {
	s.AddSendingMiddleware(Sending(cfg))
	s.AddReceivingMiddleware(Receiving(cfg))
}

// Sending observes the requests that a client or server sends.
func Sending(cfg Config) sdk.Middleware {
	o := &observed{cfg: cfg, redact: redact.New(redact.Config{})}
	return func(next sdk.MethodHandler) sdk.MethodHandler {
		return func(ctx context.Context, method string, req sdk.Request) (sdk.Result, error) {
			ctx, obs := o.observer(ctx)
			if obs == nil || silent(method) {
				return next(ctx, method, req)
			}
			send := func(ctx context.Context) (sdk.Result, error) {
				return o.span(ctx, obs, trace.SpanKindClient, method, req, func(ctx context.Context) (sdk.Result, error) {
					return next(ctx, method, withMeta(ctx, req))
				})
			}
			tool := toolOf(method, req)
			if tool == nil || announced(ctx, tool.Name) {
				return send(ctx)
			}
			return o.tool(ctx, tool, send)
		}
	}
}

// Receiving observes the requests that a client or server gets. What it takes
// from their _meta are claims of the sender: the session and the user that
// entries name are those of whoever is let in to send.
func Receiving(cfg Config) sdk.Middleware {
	o := &observed{cfg: cfg, redact: redact.New(redact.Config{})}
	return func(next sdk.MethodHandler) sdk.MethodHandler {
		return func(ctx context.Context, method string, req sdk.Request) (sdk.Result, error) {
			ctx, obs := o.observer(ctx)
			if obs == nil || silent(method) {
				return next(ctx, method, req)
			}
			serve := func(ctx context.Context) (sdk.Result, error) { return next(ctx, method, req) }
			return o.span(received(ctx, req), obs, trace.SpanKindServer, method, req, func(ctx context.Context) (sdk.Result, error) {
				if tool := toolOf(method, req); tool != nil {
					return o.tool(ctx, tool, serve)
				}
				return serve(ctx)
			})
		}
	}
}

type observed struct {
	cfg    Config
	redact *redact.Redactor
}

// observer returns who observes, and a context in which they do.
func (o *observed) observer(ctx context.Context) (context.Context, *kaizen.Observer) {
	obs := kaizen.FromContext(ctx)
	if o.cfg.Observer == nil || obs == o.cfg.Observer {
		return ctx, obs
	}
	return o.cfg.Observer.Context(ctx), o.cfg.Observer
}

// silent reports whether a method has no span: a notification has no end that
// could be seen, and pings only say that the line stands.
func silent(method string) bool {
	return strings.HasPrefix(method, "notifications/") || method == "ping"
}

// announced reports whether the innermost operation is that tool's already, as
// it is when an agent's tool is one of an MCP server.
func announced(ctx context.Context, tool string) bool {
	op := hook.Current(ctx)
	if op == nil || op.Kind() != hook.KindTool {
		return false
	}
	same := false
	op.Update(func(p hook.Payload) { same = p.Label() == tool })
	return same
}

// received returns ctx with what the sender says of trace, session and user.
func received(ctx context.Context, req sdk.Request) context.Context {
	if p := paramsOf(req); p != nil {
		ctx = genai.ExtractMeta(ctx, p.GetMeta())
	}
	run, known := kaizen.RunFrom(ctx)
	if s := genai.SessionFrom(ctx); !known && (s.ID != "" || s.User != "") {
		run.SessionID, run.UserID = s.ID, s.User
		ctx = kaizen.WithRun(ctx, run)
	}
	return ctx
}

// span runs f in the request's span.
func (o *observed) span(ctx context.Context, obs *kaizen.Observer, kind trace.SpanKind, method string, req sdk.Request, f func(context.Context) (sdk.Result, error)) (sdk.Result, error) {
	target, kvs := describe(method, req)
	ctx, span := obs.Tracer().Start(ctx, genai.SpanName(method, target), trace.WithSpanKind(kind), trace.WithAttributes(kvs...))
	out := genai.Outcome{Status: string(hook.Failed), ErrorType: "panic", Message: "panic"} // unless f returns
	defer func() { genai.End(span, out) }()
	res, err := f(ctx)
	out = o.outcome(res, err)
	// A session's id and version are known after the request that agrees on them.
	out.Attributes = append(out.Attributes, session(req, res)...)
	return res, err
}

// tool runs f in the operation of a tool. It is the failure of the tool, too,
// when the answer says so.
func (o *observed) tool(ctx context.Context, tool *hook.Tool, f func(context.Context) (sdk.Result, error)) (res sdk.Result, err error) {
	opErr := hook.From(ctx).Do(ctx, tool, func(ctx context.Context, op *hook.Op) error {
		if res, err = f(ctx); err != nil {
			return err
		}
		text, failed := textOf(res)
		op.Update(func(hook.Payload) { tool.Result = text })
		if failed {
			return &failedError{text}
		}
		return nil
	})
	if err == nil && res == nil {
		return nil, opErr // a handler refused
	}
	return res, err
}

// outcome says how the request ended, free of secrets.
func (o *observed) outcome(res sdk.Result, err error) genai.Outcome {
	if err == nil {
		text, failed := textOf(res)
		if !failed {
			return genai.Outcome{Status: string(hook.OK)}
		}
		return genai.Outcome{Status: string(hook.Failed), ErrorType: toolError, Message: o.redact.String((&failedError{text}).Error())}
	}
	out := genai.Outcome{Status: string(hook.StatusOf(err)), ErrorType: "_OTHER", Message: o.redact.String(err.Error())}
	var wire *jsonrpc.Error
	switch {
	case errors.As(err, &wire):
		out.ErrorType = strconv.FormatInt(wire.Code, 10)
		out.Attributes = append(out.Attributes, statusCode.String(out.ErrorType))
	case errors.Is(err, context.DeadlineExceeded):
		out.ErrorType = "timeout"
	case errors.Is(err, context.Canceled):
		out.ErrorType = "cancelled"
	}
	return out
}

// failedError is the failure that a tool answered with.
type failedError struct{ text string }

// longestError bounds what an error quotes of a tool's answer.
const longestError = 256

// Error quotes the beginning of the tool's answer.
func (e *failedError) Error() string {
	text := e.text
	if len(text) > longestError {
		text = strings.ToValidUTF8(text[:longestError], "") + "…"
	}
	return "the tool failed: " + text
}

// ErrorType is the error.type of the operation.
func (*failedError) ErrorType() string { return toolError }

// describe returns what the request is about and the attributes that its span
// begins with.
func describe(method string, req sdk.Request) (target string, kvs []attribute.KeyValue) {
	// A call of a tool is classed by the operation beside it, not a second time.
	kvs = append(make([]attribute.KeyValue, 0, 6), methodName.String(method), genai.Kind.String("other"))
	switch p := req.GetParams().(type) {
	case *sdk.CallToolParams:
		target, kvs = p.Name, append(kvs, genai.ToolName.String(p.Name))
	case *sdk.CallToolParamsRaw:
		target, kvs = p.Name, append(kvs, genai.ToolName.String(p.Name))
	case *sdk.GetPromptParams:
		target, kvs = p.Name, append(kvs, promptName.String(p.Name))
	case *sdk.ReadResourceParams: // its URI is no name of few values
		kvs = append(kvs, resourceURI.String(p.URI))
	}
	return target, kvs
}

// session returns the attributes of the request's session, as far as they are known.
func session(req sdk.Request, res sdk.Result) []attribute.KeyValue {
	var kvs []attribute.KeyValue
	var version string
	switch s := req.GetSession().(type) {
	case *sdk.ClientSession:
		if r := s.InitializeResult(); r != nil {
			version = r.ProtocolVersion
		}
	case *sdk.ServerSession:
		if p := s.InitializeParams(); p != nil {
			version = p.ProtocolVersion
		}
	}
	if r, ok := res.(*sdk.InitializeResult); ok && r != nil { // what was agreed on, not what was asked for
		version = r.ProtocolVersion
	}
	if version != "" {
		kvs = append(kvs, protocolVersion.String(version))
	}
	if s := req.GetSession(); s != nil {
		if id := s.ID(); id != "" {
			kvs = append(kvs, sessionID.String(id))
		}
	}
	return kvs
}

// toolOf returns the operation of a call of a tool, nil for other requests.
func toolOf(method string, req sdk.Request) *hook.Tool {
	if method != callTool {
		return nil
	}
	switch p := req.GetParams().(type) {
	case *sdk.CallToolParams:
		arguments, err := json.Marshal(p.Arguments)
		if err != nil {
			arguments = nil // the SDK will say so when it sends them
		}
		return &hook.Tool{Name: p.Name, Type: "function", Arguments: string(arguments)}
	case *sdk.CallToolParamsRaw:
		return &hook.Tool{Name: p.Name, Type: "function", Arguments: string(p.Arguments)}
	}
	return nil
}

// textOf returns the text of a tool's answer, and whether it says that it failed.
func textOf(res sdk.Result) (text string, failed bool) {
	r, ok := res.(*sdk.CallToolResult)
	if !ok || r == nil {
		return "", false
	}
	var parts []string
	for _, c := range r.Content {
		if t, ok := c.(*sdk.TextContent); ok {
			parts = append(parts, t.Text)
		}
	}
	return strings.Join(parts, "\n"), r.IsError
}

func paramsOf(req sdk.Request) sdk.Params {
	p := req.GetParams()
	if p == nil || reflect.ValueOf(p).IsNil() {
		return nil
	}
	return p
}

// withMeta returns req with the trace of ctx in its _meta. The parameters are a
// copy: they are the caller's, who may send them again, at once.
func withMeta(ctx context.Context, req sdk.Request) sdk.Request {
	p := paramsOf(req)
	if p == nil {
		return req
	}
	v := reflect.ValueOf(p)
	if v.Kind() != reflect.Pointer {
		return req
	}
	c := reflect.New(v.Type().Elem())
	c.Elem().Set(v.Elem())
	params := c.Interface().(sdk.Params)
	params.SetMeta(genai.InjectMeta(ctx, p.GetMeta()))
	switch r := req.(type) {
	case *sdk.ClientRequest[sdk.Params]:
		return &sdk.ClientRequest[sdk.Params]{Session: r.Session, Params: params}
	case *sdk.ServerRequest[sdk.Params]:
		return &sdk.ServerRequest[sdk.Params]{Session: r.Session, Params: params, Extra: r.Extra}
	}
	return req // of a kind that the SDK does not send today
}
