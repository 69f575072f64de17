package agentlog

import (
	"context"
	"io"
	"log/slog"
	"testing"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/kaizen-go/kaizen/internal/runctx"
)

// agentContext is a context as wire code makes it for a running agent.
func agentContext(ctx context.Context) context.Context {
	sc := trace.NewSpanContext(trace.SpanContextConfig{TraceID: [16]byte{1, 2, 3}, SpanID: [8]byte{4, 5}, TraceFlags: 1})
	return runctx.With(trace.ContextWithSpanContext(ctx, sc), runctx.Run{
		RunID: "01HZX3J5V7K9M2N4P6Q8R0S1T2", AgentID: "planner-7f3c", AgentName: "planner", SessionID: "session-42", UserID: "user-17",
	})
}

func tenFields(ctx context.Context, l *slog.Logger) {
	l.LogAttrs(ctx, slog.LevelInfo, "tool call finished", slog.String("tool", "search"), slog.String("provider", "openai"),
		slog.String("model", "gpt-4o"), slog.Int("iteration", 3), slog.Int("input_tokens", 1532), slog.Int("output_tokens", 201),
		slog.Float64("cost_usd", 0.0123), slog.Duration("took", 1532*time.Millisecond), slog.Bool("cached", false), slog.String("status", "ok"))
}

// idHandler adds the same ids to slog's own handler, the way its users do.
type idHandler struct{ slog.Handler }

func (h idHandler) Handle(ctx context.Context, r slog.Record) error {
	if sc := trace.SpanContextFromContext(ctx); sc.IsValid() {
		r.AddAttrs(slog.String("trace_id", sc.TraceID().String()), slog.String("span_id", sc.SpanID().String()))
	}
	if run, ok := runctx.From(ctx); ok {
		r.AddAttrs(slog.String("agent_id", run.AgentID), slog.String("session_id", run.SessionID), slog.String("run_id", run.RunID), slog.String("user_id", run.UserID))
	}
	return h.Handler.Handle(ctx, r)
}

// BenchmarkLine writes a line with run context and ten fields. The baseline,
// slog, is slog's JSON handler with the ids, and without any redaction.
func BenchmarkLine(b *testing.B) {
	quiet := func(cfg Config) slog.Handler {
		cfg.Sinks = append(cfg.Sinks, NewStream(io.Discard))
		logs, err := New(cfg)
		if err != nil {
			b.Fatal(err)
		}
		return logs.Handler("bench")
	}
	ctx := agentContext(context.Background())
	for _, bm := range []struct {
		name string
		h    slog.Handler
	}{
		{"kaizen", quiet(Config{})},
		{"kaizen without redaction", quiet(Config{NoRedaction: true})},
		{"kaizen in two formats", quiet(Config{Sinks: []Sink{inECS{NewStream(io.Discard)}}})},
		{"kaizen text", quiet(Config{Format: FormatText})},
		{"slog", idHandler{slog.NewJSONHandler(io.Discard, nil)}},
		{"slog without ids", slog.NewJSONHandler(io.Discard, nil)},
		{"no handler", nothing{}},
	} {
		b.Run(bm.name, func(b *testing.B) {
			b.ReportAllocs()
			logger := slog.New(bm.h)
			for b.Loop() {
				tenFields(ctx, logger)
			}
		})
	}
}

// inECS is a stream that wants its own format.
type inECS struct{ *Stream }

func (inECS) WantsFormat() Format { return FormatECS }

// nothing is what slog itself costs.
type nothing struct{}

func (nothing) Enabled(context.Context, slog.Level) bool  { return true }
func (nothing) Handle(context.Context, slog.Record) error { return nil }
func (h nothing) WithAttrs([]slog.Attr) slog.Handler      { return h }
func (h nothing) WithGroup(string) slog.Handler           { return h }

// BenchmarkSuppressed logs below the level.
func BenchmarkSuppressed(b *testing.B) {
	logs, err := New(Config{Level: slog.LevelError, Sinks: []Sink{NewStream(io.Discard)}})
	if err != nil {
		b.Fatal(err)
	}
	ctx := context.Background()
	b.Run("kaizen", func(b *testing.B) {
		b.ReportAllocs()
		l := logs.Logger("bench")
		for b.Loop() {
			l.InfoContext(ctx, "m", "k", "v")
		}
	})
	b.Run("slog", func(b *testing.B) {
		b.ReportAllocs()
		l := slog.New(slog.NewJSONHandler(io.Discard, &slog.HandlerOptions{Level: slog.LevelError}))
		for b.Loop() {
			l.InfoContext(ctx, "m", "k", "v")
		}
	})
}

func TestAllocations(t *testing.T) {
	if raceDetector {
		return
	}
	logs, err := New(Config{Sinks: []Sink{NewStream(io.Discard)}})
	if err != nil {
		t.Fatal(err)
	}
	ctx := agentContext(t.Context())
	measure := func(h slog.Handler) float64 {
		l := slog.New(h)
		return testing.AllocsPerRun(200, func() { tenFields(ctx, l) })
	}
	two, err := New(Config{Sinks: []Sink{NewStream(io.Discard), inECS{NewStream(io.Discard)}}})
	if err != nil {
		t.Fatal(err)
	}
	slogs := measure(nothing{})
	for name, logs := range map[string]*Logs{"one format": logs, "two formats": two} {
		if ours := measure(logs.Handler("a")); ours > slogs {
			t.Errorf("%s: %v allocations a line, slog itself makes %v", name, ours, slogs)
		}
	}
	l := logs.Logger("a")
	if n := testing.AllocsPerRun(200, func() { l.DebugContext(ctx, "m") }); n != 0 {
		t.Errorf("%v allocations for a line that is not written", n)
	}
}
