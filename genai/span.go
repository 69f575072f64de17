package genai

import (
	"context"
	"slices"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"
)

// ScopeName is the instrumentation scope of the spans that [Tracer] starts.
const ScopeName = "github.com/kaizen-go/kaizen"

// Tracer starts the spans of agent operations.
type Tracer struct {
	tracer trace.Tracer
	copies bool // what it is given, and keeps nothing of it
}

// NewTracer returns a Tracer whose spans come from p, under our scope and schema.
func NewTracer(p trace.TracerProvider) Tracer {
	t := Tracer{tracer: p.Tracer(ScopeName, trace.WithSchemaURL(SchemaURL))}
	switch p.(type) {
	case *sdktrace.TracerProvider, noop.TracerProvider:
		t.copies = true
	}
	return t
}

// OTel returns the OpenTelemetry tracer, for spans of the user's own.
func (t Tracer) OTel() trace.Tracer { return t.tracer }

// Operation is what is known of an operation when it begins.
type Operation struct {
	// Name is the conventions' low-cardinality span name, as [SpanName] makes it.
	Name string
	// Kind is trace.SpanKindInternal if zero.
	Kind trace.SpanKind
	// Start is now if zero.
	Start time.Time
	// Attributes are set before the sampler sees the span.
	Attributes []attribute.KeyValue
	// Details are set right after the start, if the span is recorded: attributes
	// that no sampler needs are cheaper here.
	Details []attribute.KeyValue
	// Links name spans of other traces; see [NewLink] and [trace.LinkFromContext].
	Links []trace.Link
	// Root starts a trace of its own, also when the context has a span. With a
	// link to that span it is a linked root: work that one trace set off and
	// that another tells, such as a job that outlives its request.
	Root bool
}

// SpanName returns "operation target", or the operation alone without a target:
// the conventions' names of spans, such as "chat gpt-5" and "execute_tool search".
func SpanName(operation, target string) string {
	if target == "" {
		return operation
	}
	return operation + " " + target
}

// optionPool has room for the options of a start: the SDK reads them and keeps none.
var optionPool = sync.Pool{New: func() any { return new([5]trace.SpanStartOption) }}

// Start starts the span of an operation, a child of the span in ctx. It is the
// one place where a Kaizen event becomes a span.
func (t Tracer) Start(ctx context.Context, op Operation) (context.Context, trace.Span) {
	pooled := optionPool.Get().(*[5]trace.SpanStartOption)
	opts := append(pooled[:0], trace.WithAttributes(op.Attributes...))
	if op.Kind != trace.SpanKindUnspecified {
		opts = append(opts, trace.WithSpanKind(op.Kind))
	}
	if !op.Start.IsZero() {
		opts = append(opts, trace.WithTimestamp(op.Start))
	}
	if len(op.Links) > 0 {
		opts = append(opts, trace.WithLinks(op.Links...))
	}
	if op.Root {
		opts = append(opts, trace.WithNewRoot())
	}
	ctx, span := t.tracer.Start(ctx, op.Name, opts...)
	if t.copies {
		clear(opts)
		optionPool.Put(pooled)
	}
	if len(op.Details) > 0 && span.IsRecording() {
		span.SetAttributes(op.Details...)
	}
	return ctx, span
}

// Copies reports whether the provider is known to copy the attributes that it is
// given, so that their slice can be used again. OpenTelemetry's SDK does.
func (t Tracer) Copies() bool { return t.copies }

// Outcome is how an operation ended.
type Outcome struct {
	// Time is now if zero.
	Time time.Time
	// Status is "ok", "error", "denied" or "cancelled".
	Status string
	// ErrorType is the conventions' low-cardinality error.type, "" without one.
	ErrorType string
	// Message describes the error for a person. It must be free of secrets.
	Message string
	// Stack is the stack of a panic, "" without one.
	Stack string
	// Attributes are set before the span ends.
	Attributes []attribute.KeyValue
}

// unknownType is the conventions' error.type of an error without one.
const unknownType = "_OTHER"

// The attributes of the statuses, made once: they are set on every span.
var (
	statusOK        = []attribute.KeyValue{Status.String("ok")}
	statusError     = []attribute.KeyValue{Status.String("error")}
	statusDenied    = []attribute.KeyValue{Status.String("denied")}
	statusCancelled = []attribute.KeyValue{Status.String("cancelled")}
)

func statusAttribute(status string) []attribute.KeyValue {
	switch status {
	case "ok":
		return statusOK
	case "error":
		return statusError
	case "denied":
		return statusDenied
	case "cancelled":
		return statusCancelled
	}
	return []attribute.KeyValue{Status.String(status)}
}

// End sets the outcome's attributes and status on span and ends it. An
// operation that was denied or cancelled is no error of the agent's: its span
// keeps the reason, and its status says which it was.
func End(span trace.Span, o Outcome) {
	recording := span.IsRecording()
	if recording {
		if len(o.Attributes) > 0 {
			span.SetAttributes(o.Attributes...)
		}
		span.SetAttributes(statusAttribute(o.Status)...)
		switch {
		case o.Status == "ok":
			span.SetStatus(codes.Ok, "")
		case o.Message != "" || o.ErrorType != "":
			fail(span, o)
		default:
			span.SetStatus(codes.Error, o.Status)
		}
	}
	if !recording || o.Time.IsZero() {
		span.End()
		return
	}
	span.End(trace.WithTimestamp(o.Time))
}

// Enrich sets what is known of an operation on a span that somebody else
// started for it, and will end: the attributes that it lacks, and the status
// where o has one as an attribute. What the span says already stays.
func Enrich(span trace.Span, o Outcome) {
	if !span.IsRecording() {
		return
	}
	kvs := make([]attribute.KeyValue, 0, len(o.Attributes)+2)
	kvs = append(kvs, o.Attributes...)
	if o.Status != "" {
		kvs = append(kvs, Status.String(o.Status))
	}
	if o.ErrorType != "" {
		kvs = append(kvs, ErrorType.String(o.ErrorType))
	}
	if own, ok := span.(interface{ Attributes() []attribute.KeyValue }); ok {
		there := make(map[attribute.Key]bool)
		for _, kv := range own.Attributes() {
			there[kv.Key] = true
		}
		kvs = slices.DeleteFunc(kvs, func(kv attribute.KeyValue) bool {
			return there[kv.Key] && kv.Key != Status && kv.Key != Attempts && kv.Key != ResendCount
		})
	}
	span.SetAttributes(kvs...)
}

// fail records the error as the conventions do: error.type, an event and the status.
func fail(span trace.Span, o Outcome) {
	if o.ErrorType == "" {
		o.ErrorType = unknownType
	}
	span.SetAttributes(ErrorType.String(o.ErrorType))
	opts := []trace.EventOption{trace.WithAttributes(exception(o)...)}
	if !o.Time.IsZero() {
		opts = append(opts, trace.WithTimestamp(o.Time))
	}
	span.AddEvent("exception", opts...)
	span.SetStatus(codes.Error, o.Message)
}

func exception(o Outcome) []attribute.KeyValue {
	kvs := []attribute.KeyValue{
		attribute.String("exception.type", o.ErrorType),
		attribute.String("exception.message", o.Message),
	}
	if o.Stack != "" {
		kvs = append(kvs, attribute.String("exception.stacktrace", o.Stack))
	}
	return kvs
}
