package genai_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/kaizen-go/kaizen/genai"
)

// discard takes spans as an exporter's processor does, and does nothing.
type discard struct{}

func (discard) OnStart(context.Context, sdktrace.ReadWriteSpan) {}
func (discard) OnEnd(sdktrace.ReadOnlySpan)                     {}
func (discard) Shutdown(context.Context) error                  { return nil }
func (discard) ForceFlush(context.Context) error                { return nil }

// twelve attributes: eight are known at the start, three with the outcome, and
// the status.
func twelve() (start, end []attribute.KeyValue) {
	for i := range 8 {
		start = append(start, attribute.String(fmt.Sprint("start.", i), "value"))
	}
	for i := range 3 {
		end = append(end, attribute.Int(fmt.Sprint("end.", i), i))
	}
	return start, end
}

// bare does with OpenTelemetry's SDK what [genai.Tracer] does.
func bare(ctx context.Context, tracer trace.Tracer, at time.Time, start, end []attribute.KeyValue) {
	_, span := tracer.Start(ctx, "chat gpt-5",
		trace.WithAttributes(start...), trace.WithSpanKind(trace.SpanKindClient), trace.WithTimestamp(at))
	if span.IsRecording() {
		span.SetAttributes(end...)
		span.SetAttributes(attribute.String("kaizen.status", "ok"))
		span.SetStatus(codes.Ok, "")
	}
	span.End(trace.WithTimestamp(at))
}

func ours(ctx context.Context, tracer genai.Tracer, at time.Time, start, end []attribute.KeyValue) {
	_, span := tracer.Start(ctx, genai.Operation{Name: "chat gpt-5", Kind: trace.SpanKindClient, Start: at, Attributes: start})
	genai.End(span, genai.Outcome{Time: at, Status: "ok", Attributes: end})
}

// BenchmarkSpan: go test -bench Span -benchmem ./genai
func BenchmarkSpan(b *testing.B) {
	start, end := twelve()
	at := time.Now()
	for _, s := range []struct {
		name    string
		sampler sdktrace.Sampler
	}{{"sampled", sdktrace.AlwaysSample()}, {"unsampled", sdktrace.NeverSample()}} {
		tp := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(discard{}), sdktrace.WithSampler(s.sampler))
		b.Run(s.name+"/sdk", func(b *testing.B) {
			tracer := tp.Tracer("bench")
			b.ReportAllocs()
			for b.Loop() {
				bare(b.Context(), tracer, at, start, end)
			}
		})
		b.Run(s.name+"/genai", func(b *testing.B) {
			tracer := genai.NewTracer(tp)
			b.ReportAllocs()
			for b.Loop() {
				ours(b.Context(), tracer, at, start, end)
			}
		})
	}
}

// TestAllocations: a span costs no more allocations than with the bare SDK.
func TestAllocations(t *testing.T) {
	start, end := twelve()
	at := time.Now()
	for _, s := range []sdktrace.Sampler{sdktrace.AlwaysSample(), sdktrace.NeverSample()} {
		tp := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(discard{}), sdktrace.WithSampler(s))
		tracer, own := tp.Tracer("bench"), genai.NewTracer(tp)
		base := testing.AllocsPerRun(200, func() { bare(t.Context(), tracer, at, start, end) })
		if got := testing.AllocsPerRun(200, func() { ours(t.Context(), own, at, start, end) }); got > base {
			t.Errorf("%s: %v allocations for a span, %v with the bare SDK", s.Description(), got, base)
		}
	}
}
