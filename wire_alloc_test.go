//go:build !race

package kaizen

import (
	"context"
	"io"
	"testing"

	"go.opentelemetry.io/otel/attribute"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/kaizen-go/kaizen/hook"
)

// ignores takes spans as an exporter's processor does, and does nothing: nobody
// else allocates while allocations are counted.
type ignores struct{}

func (ignores) OnStart(context.Context, sdktrace.ReadWriteSpan) {}
func (ignores) OnEnd(sdktrace.ReadOnlySpan)                     {}
func (ignores) Shutdown(context.Context) error                  { return nil }
func (ignores) ForceFlush(context.Context) error                { return nil }

// TestToolEventAllocations: a tool call of a run, with its span of twelve attributes and
// two samples, makes no more allocations than a bare span with as many attributes,
// whoever provides spans; and one that no trace is kept of fewer.
func TestToolEventAllocations(t *testing.T) {
	provider := func(s sdktrace.Sampler) *sdktrace.TracerProvider {
		return sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(ignores{}), sdktrace.WithSampler(s))
	}
	tracer := provider(sdktrace.AlwaysSample()).Tracer("bare")
	bare := testing.AllocsPerRun(500, func() { twelveAttributes(t.Context(), tracer) })
	for _, tt := range []struct {
		name    string
		cfg     Config
		sampler string // of the environment
		most    float64
	}{
		{"our own provider", Config{}, "", bare},
		{"our own provider, unsampled", Config{}, "always_off", 3},
		{"a user's provider", Config{TracerProvider: provider(sdktrace.AlwaysSample())}, "", bare},
		{"a user's provider, unsampled", Config{TracerProvider: provider(sdktrace.NeverSample())}, "", 3},
		{"a sampler that may ask", Config{TracerProvider: provider(&asking{Sampler: sdktrace.AlwaysSample()})}, "", bare + 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Setenv("OTEL_TRACES_SAMPLER", tt.sampler)
			tt.cfg.LogWriter, tt.cfg.LogLevel, tt.cfg.SpoolDir, tt.cfg.Off = io.Discard, 12, NoSpool, Audit
			obs, err := Start(t.Context(), tt.cfg)
			if err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := obs.Shutdown(context.Background()); err != nil {
					t.Error(err)
				}
			}()
			if obs.provider != nil {
				obs.provider.RegisterSpanProcessor(ignores{})
			}
			ctx := WithRun(t.Context(), Run{RunID: "r", AgentID: "a", AgentName: "helper", SessionID: "s", UserID: "u"})
			got := testing.AllocsPerRun(500, func() {
				_, op, err := hook.Begin(ctx, obs.Hooks(), hook.Tool{Name: "search", CallID: "c", Description: "Searches.", Type: "function"})
				if err != nil {
					t.Fatal(err)
				}
				op.End(nil)
			})
			if got > tt.most {
				t.Errorf("%v allocations, want at most %v; a bare span makes %v", got, tt.most, bare)
			}
			t.Logf("%v allocations, a bare span makes %v", got, bare)
		})
	}
}

// twelveAttributes is a span with twelve attributes, and no more.
func twelveAttributes(ctx context.Context, tracer trace.Tracer) {
	_, span := tracer.Start(ctx, "execute_tool search")
	span.SetAttributes(
		attribute.String("a", "1"), attribute.String("b", "2"), attribute.String("c", "3"), attribute.String("d", "4"),
		attribute.String("e", "5"), attribute.String("f", "6"), attribute.String("g", "7"), attribute.String("h", "8"),
		attribute.String("i", "9"), attribute.String("j", "10"), attribute.String("k", "11"), attribute.String("l", "12"))
	span.End()
}
