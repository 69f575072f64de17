package kaizen_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/kaizen-go/kaizen"
	"github.com/kaizen-go/kaizen/hook"
)

// discard is an exporter that does nothing.
type discard struct{}

func (discard) ExportSpans(context.Context, []sdktrace.ReadOnlySpan) error { return nil }
func (discard) Shutdown(context.Context) error                             { return nil }

// BenchmarkToolEvent is a tool call of a run: its span with twelve attributes to
// the queue, samples with exemplars, a log line that is written, or not. The
// baselines are a bare OpenTelemetry span with as many attributes, set at once,
// and the same span as our own: the same name, kind, attributes, times and
// status, written by hand.
//
// With our own provider the way to the queue is that of Config.Server, and the
// server takes everything and does nothing.
//
// On Linux caller-ns/op is the processor time of the thread that makes the call.
func BenchmarkToolEvent(b *testing.B) {
	provider := func(b *testing.B, opts ...sdktrace.TracerProviderOption) *sdktrace.TracerProvider {
		p := sdktrace.NewTracerProvider(append(opts, sdktrace.WithBatcher(discard{}, sdktrace.WithMaxQueueSize(1<<16)))...)
		b.Cleanup(func() { // what waits in its queue must not be the next one's to collect
			if err := p.Shutdown(context.Background()); err != nil {
				b.Error(err)
			}
		})
		return p
	}
	never := sdktrace.NewTracerProvider(sdktrace.WithSampler(sdktrace.NeverSample()))
	// A program that has an observer holds what that one holds: all rows run in one,
	// so that the garbage collector has as much to do for the baselines.
	held, err := kaizen.Start(b.Context(), kaizen.Config{LogWriter: io.Discard, SpoolDir: kaizen.NoSpool, Off: kaizen.Audit, TracerProvider: never})
	if err != nil {
		b.Fatal(err)
	}
	defer func() {
		if err := held.Shutdown(context.Background()); err != nil {
			b.Error(err)
		}
	}()
	b.Run("bare span", func(b *testing.B) {
		tracer := provider(b).Tracer("bench")
		b.ReportAllocs()
		report := callerTime(b)
		for b.Loop() {
			bareSpan(b.Context(), tracer)
		}
		report()
	})
	b.Run("the same span by hand", func(b *testing.B) {
		tracer := provider(b).Tracer("bench")
		b.ReportAllocs()
		report := callerTime(b)
		for b.Loop() {
			toolByHand(b.Context(), tracer, &hook.Tool{Name: "search", CallID: "c1", Description: "Searches.", Type: "function"})
		}
		report()
	})
	b.Run("the same span by hand, unsampled", func(b *testing.B) {
		tracer := never.Tracer("bench")
		b.ReportAllocs()
		report := callerTime(b)
		for b.Loop() {
			toolByHand(b.Context(), tracer, &hook.Tool{Name: "search", CallID: "c1", Description: "Searches.", Type: "function"})
		}
		report()
	})
	event := func(b *testing.B, cfg kaizen.Config) {
		if cfg.TracerProvider == nil && cfg.Server == "" {
			cfg.TracerProvider = provider(b)
		}
		cfg.LogWriter, cfg.SpoolDir = io.Discard, kaizen.NoSpool
		obs, err := kaizen.Start(b.Context(), cfg)
		if err != nil {
			b.Fatal(err)
		}
		ctx := kaizen.WithRun(b.Context(), testRun)
		b.ReportAllocs()
		report := callerTime(b)
		for b.Loop() {
			toolEvent(b, ctx, obs.Hooks())
		}
		report()
		b.StopTimer()
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = obs.Shutdown(ctx)
	}
	b.Run("span and samples", func(b *testing.B) { event(b, kaizen.Config{LogLevel: 12, Off: kaizen.Audit}) })
	b.Run("unsampled span, and samples", func(b *testing.B) {
		event(b, kaizen.Config{LogLevel: 12, Off: kaizen.Audit, TracerProvider: never})
	})
	b.Run("a sampler that may ask, span and samples", func(b *testing.B) {
		event(b, kaizen.Config{LogLevel: 12, Off: kaizen.Audit, TracerProvider: provider(b, sdktrace.WithSampler(curious{sdktrace.AlwaysSample()}))})
	})
	b.Run("our provider, span and samples", func(b *testing.B) {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) }))
		defer server.Close()
		event(b, kaizen.Config{LogLevel: 12, Off: kaizen.Audit, Server: server.URL})
	})
	b.Run("our provider, unsampled, and samples", func(b *testing.B) {
		b.Setenv("OTEL_TRACES_SAMPLER", "always_off")
		event(b, kaizen.Config{LogLevel: 12, Off: kaizen.Audit, Server: "http://127.0.0.1:1"})
	})
	b.Run("span, samples and line", func(b *testing.B) { event(b, kaizen.Config{Off: kaizen.Audit}) })
	b.Run("all four", func(b *testing.B) { event(b, kaizen.Config{AuditDir: b.TempDir() + "/audit"}) })
}

// bareSpan is a span with twelve attributes, and no more.
func bareSpan(ctx context.Context, tracer trace.Tracer) {
	_, span := tracer.Start(ctx, "execute_tool search")
	span.SetAttributes(
		attribute.String("a", "1"), attribute.String("b", "2"), attribute.String("c", "3"), attribute.String("d", "4"),
		attribute.String("e", "5"), attribute.String("f", "6"), attribute.String("g", "7"), attribute.String("h", "8"),
		attribute.String("i", "9"), attribute.String("j", "10"), attribute.String("k", "11"), attribute.String("l", "12"))
	span.End()
}

// toolEvent is a tool call without a tool.
func toolEvent(tb testing.TB, ctx context.Context, hooks *hook.Registry) {
	_, op, err := hook.Begin(ctx, hooks, hook.Tool{Name: "search", CallID: "c1", Description: "Searches.", Type: "function"})
	if err != nil {
		tb.Fatal(err)
	}
	op.End(nil)
}

// curious is a sampler that may ask for attributes.
type curious struct{ sdktrace.Sampler }

// toolByHand is the span of a tool call as one writes it with OpenTelemetry's SDK.
func toolByHand(ctx context.Context, tracer trace.Tracer, tool *hook.Tool) {
	_, span := tracer.Start(ctx, "execute_tool "+tool.Name, trace.WithTimestamp(time.Now()), trace.WithAttributes(
		attribute.String("gen_ai.operation.name", "execute_tool"), attribute.String("gen_ai.tool.name", tool.Name),
		attribute.String("gen_ai.tool.call.id", tool.CallID), attribute.String("gen_ai.tool.description", tool.Description),
		attribute.String("gen_ai.tool.type", tool.Type), attribute.String("kaizen.kind", "tool"),
		attribute.String("gen_ai.agent.name", testRun.AgentName), attribute.String("gen_ai.agent.id", testRun.AgentID),
		attribute.String("kaizen.run.id", testRun.RunID), attribute.String("gen_ai.conversation.id", testRun.SessionID),
		attribute.String("user.id", testRun.UserID)))
	span.SetAttributes(attribute.String("kaizen.status", "ok"))
	span.SetStatus(codes.Ok, "")
	span.End(trace.WithTimestamp(time.Now()))
}
