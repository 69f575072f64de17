package kaizen_test

import (
	"context"
	"io"
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"github.com/kaizen-go/kaizen"
	"github.com/kaizen-go/kaizen/hook"
)

// discard is an exporter that does nothing.
type discard struct{}

func (discard) ExportSpans(context.Context, []sdktrace.ReadOnlySpan) error { return nil }
func (discard) Shutdown(context.Context) error                             { return nil }

// BenchmarkToolEvent is a tool call of a run: its span with twelve attributes to
// the queue, samples with exemplars, a log line that is written, or not. The
// baseline is a bare OpenTelemetry span with as many attributes.
func BenchmarkToolEvent(b *testing.B) {
	provider := func() *sdktrace.TracerProvider {
		return sdktrace.NewTracerProvider(sdktrace.WithBatcher(discard{}, sdktrace.WithMaxQueueSize(1<<16)))
	}
	b.Run("bare span", func(b *testing.B) {
		tracer := provider().Tracer("bench")
		b.ReportAllocs()
		for b.Loop() {
			_, span := tracer.Start(b.Context(), "execute_tool search")
			span.SetAttributes(
				attribute.String("a", "1"), attribute.String("b", "2"), attribute.String("c", "3"), attribute.String("d", "4"),
				attribute.String("e", "5"), attribute.String("f", "6"), attribute.String("g", "7"), attribute.String("h", "8"),
				attribute.String("i", "9"), attribute.String("j", "10"), attribute.String("k", "11"), attribute.String("l", "12"))
			span.End()
		}
	})
	event := func(b *testing.B, cfg kaizen.Config) {
		cfg.TracerProvider, cfg.LogWriter, cfg.SpoolDir = provider(), io.Discard, kaizen.NoSpool
		obs, err := kaizen.Start(b.Context(), cfg)
		if err != nil {
			b.Fatal(err)
		}
		ctx := kaizen.WithRun(b.Context(), testRun)
		b.ReportAllocs()
		for b.Loop() {
			tool := &hook.Tool{Name: "search", CallID: "c1", Description: "Searches.", Type: "function"}
			_, op, err := obs.Hooks().Begin(ctx, tool)
			if err != nil {
				b.Fatal(err)
			}
			op.End(nil)
		}
		b.StopTimer()
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = obs.Shutdown(ctx)
	}
	b.Run("span and samples", func(b *testing.B) { event(b, kaizen.Config{LogLevel: 12, Off: kaizen.Audit}) })
	b.Run("span, samples and line", func(b *testing.B) { event(b, kaizen.Config{Off: kaizen.Audit}) })
	b.Run("all four", func(b *testing.B) { event(b, kaizen.Config{AuditDir: b.TempDir() + "/audit"}) })
}
