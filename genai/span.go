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
	// Room, if not nil, is used for the start and free again when it returns.
	Room *Room
	// Root starts a trace of its own, also when the context has a span. With a
	// link to that span it is a linked root: work that one trace set off and
	// that another tells, such as a job that outlives its request.
	Root bool
}

// bare reports whether op is nothing but its name: the start needs no options.
func (op *Operation) bare() bool {
	return len(op.Attributes) == 0 && len(op.Details) == 0 && len(op.Links) == 0 &&
		op.Kind == trace.SpanKindUnspecified && op.Start.IsZero() && !op.Root
}

// SpanName returns "operation target", or the operation alone without a target:
// the conventions' names of spans, such as "chat gpt-5" and "execute_tool search".
func SpanName(operation, target string) string {
	if target == "" {
		return operation
	}
	return operation + " " + target
}

// Room is what starting or ending a span needs room for: its attributes and
// options. It can be used for one span after the other, never for two at once,
// and only where [Tracer.Copies] is true. A nil Room is valid and has no room.
type Room struct {
	attributes [roomSize]attribute.KeyValue
	with       [roomSize + 1]trace.SpanStartOption // the first n attributes, once asked for
	start      [5]trace.SpanStartOption
	end        [1]trace.SpanEndOption
}

const roomSize = 32

// Attributes returns no attributes, with room for 32.
func (r *Room) Attributes() []attribute.KeyValue {
	if r == nil {
		return nil
	}
	return r.attributes[:0]
}

// Forget lets go of kvs, if they stand in r, but for the first few: those are
// written over by whatever comes next.
func (r *Room) Forget(kvs []attribute.KeyValue) {
	const few = 8
	if r.holds(kvs) && len(kvs) > few {
		clear(kvs[few:])
	}
}

func (r *Room) holds(kvs []attribute.KeyValue) bool {
	return r != nil && len(kvs) > 0 && &kvs[0] == &r.attributes[0]
}

// options returns room for options, with the one of kvs.
func (r *Room) options(kvs []attribute.KeyValue) []trace.SpanStartOption {
	if r == nil {
		return []trace.SpanStartOption{trace.WithAttributes(kvs...)}
	}
	if !r.holds(kvs) {
		return append(r.start[:0], trace.WithAttributes(kvs...))
	}
	n := len(kvs)
	if r.with[n] == nil {
		r.with[n] = trace.WithAttributes(r.attributes[:n]...)
	}
	return append(r.start[:0], r.with[n])
}

// rooms are for those who bring none.
var rooms = sync.Pool{New: func() any { return new(Room) }}

// Start starts the span of an operation, a child of the span in ctx. It is the
// one place where a Kaizen event becomes a span.
func (t Tracer) Start(ctx context.Context, op Operation) (context.Context, trace.Span) {
	if op.bare() {
		return t.tracer.Start(ctx, op.Name)
	}
	if op.Room == nil && t.copies {
		op.Room = rooms.Get().(*Room)
		defer rooms.Put(op.Room)
	}
	opts := op.Room.options(op.Attributes)
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
	// Room, if not nil, is used for the end and free again when it returns.
	Room *Room
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
		finish(span, o)
	}
	if !recording || o.Time.IsZero() {
		span.End()
		return
	}
	if o.Room == nil {
		span.End(trace.WithTimestamp(o.Time))
		return
	}
	o.Room.end[0] = trace.WithTimestamp(o.Time)
	span.End(o.Room.end[:]...)
}

// finish sets what a span that is recorded learns at its end.
func finish(span trace.Span, o Outcome) {
	status := statusAttribute(o.Status)
	if o.Room.holds(o.Attributes) {
		span.SetAttributes(append(o.Attributes, status...)...)
	} else {
		if len(o.Attributes) > 0 {
			span.SetAttributes(o.Attributes...)
		}
		span.SetAttributes(status...)
	}
	switch {
	case o.Status == "ok":
		span.SetStatus(codes.Ok, "")
	case o.Message != "" || o.ErrorType != "":
		fail(span, o)
	default:
		span.SetStatus(codes.Error, o.Status)
	}
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
