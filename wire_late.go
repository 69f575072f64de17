package kaizen

import (
	"context"
	"reflect"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/kaizen-go/kaizen/genai"
	"github.com/kaizen-go/kaizen/hook"
)

// This file has what makes the span of a tool cheap where OpenTelemetry's SDK
// makes it: attributes that are set once, and times that are read once.

// comesLate reports whether the span of an operation learns at its end what
// others start with: one allocation for all attributes instead of three, and
// none without a record.
func (w *wire) comesLate(k hook.Kind) bool { return w.late && k == hook.KindTool }

// startLate starts a span that has a name and nothing else.
func (w *wire) startLate(ctx context.Context, e *hook.Event) (context.Context, trace.Span) {
	ctx, span := w.tracer.Start(ctx, genai.Operation{Name: w.names.of(genai.ExecuteTool, e.Payload.Label())})
	startedWith(span, e)
	return ctx, span
}

// startedWith makes the start of span, which the SDK read from the clock, that of
// e: an option that tells the SDK a time is an allocation.
func startedWith(span trace.Span, e *hook.Event) {
	if s, ok := span.(sdktrace.ReadOnlySpan); ok {
		e.Start = s.StartTime()
		e.Time = e.Start
	}
}

// endSpan ends the span of e. The end of an operation that ends now is the SDK's,
// and the event's from then on; but where texts had to be redacted first, which
// takes its time, or where it was over before, it is the event's.
func (w *wire) endSpan(span trace.Span, e *hook.Event, out genai.Outcome) {
	s, ok := span.(sdktrace.ReadOnlySpan)
	exact := e.Past() || e.Err != nil || w.content != ContentOff
	if !ok || exact {
		genai.End(span, out)
		return
	}
	out.Time = time.Time{}
	genai.End(span, out)
	if end := s.EndTime(); !end.Before(e.Time) { // not one that somebody else ended before
		e.Time = end
	}
}

// asksNothing reports whether spans of p may learn late what they are about: p is
// OpenTelemetry's SDK, and its sampler is one of the SDK's own, which look at the
// trace and not at attributes. Any other sampler is shown what it may ask for.
//
// The SDK has no method that tells its sampler, and does not change it. Where the
// field is not found, attributes come early.
func asksNothing(p trace.TracerProvider) bool {
	sdk, ok := p.(*sdktrace.TracerProvider)
	if !ok || sdk == nil {
		return false
	}
	field := reflect.ValueOf(sdk).Elem().FieldByName("sampler")
	return field.IsValid() && field.Type() == samplerType && isBlind(field)
}

var samplerType = reflect.TypeFor[sdktrace.Sampler]()

// isBlind reports whether sampler, a value of type [sdktrace.Sampler], and those
// in it never look at attributes.
func isBlind(sampler reflect.Value) bool {
	if sampler.IsNil() {
		return false
	}
	v := sampler.Elem()
	for _, own := range [...]sdktrace.Sampler{sdktrace.AlwaysSample(), sdktrace.NeverSample(), sdktrace.TraceIDRatioBased(1), sdktrace.TraceIDRatioBased(0.5)} {
		if v.Type() == reflect.TypeOf(own) {
			return true
		}
	}
	around := v.Type() == reflect.TypeOf(sdktrace.ParentBased(sdktrace.AlwaysSample())) || v.Type() == reflect.TypeOf(sdktrace.AlwaysRecord(sdktrace.AlwaysSample()))
	return around && holdsOnlyBlind(v)
}

// holdsOnlyBlind reports whether every sampler in the fields of v is blind. There
// are no other fields in the samplers that are made of others.
func holdsOnlyBlind(v reflect.Value) bool {
	for i := range v.NumField() {
		f := v.Field(i)
		switch {
		case f.Type() == samplerType:
			if !isBlind(f) {
				return false
			}
		case f.Kind() != reflect.Struct || !holdsOnlyBlind(f):
			return false
		}
	}
	return true
}
