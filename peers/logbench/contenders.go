package main

import (
	"context"
	"io"
	"log/slog"
	"time"

	"github.com/phuslu/log"
	"github.com/rs/zerolog"
	"go.opentelemetry.io/otel/trace"

	"github.com/kaizen-go/kaizen"
	"github.com/kaizen-go/kaizen/agentlog"
)

// contender is one way to write a line.
type contender struct {
	name    string
	handler func(w io.Writer, level slog.Level) (slog.Handler, error)
}

// contenders: "with ids" adds those of the run and the span to the line, as
// agentlog does by itself; none of the others redacts.
func contenders() []contender {
	kaizen := func(cfg agentlog.Config) func(io.Writer, slog.Level) (slog.Handler, error) {
		return func(w io.Writer, level slog.Level) (slog.Handler, error) {
			cfg := cfg
			cfg.Level, cfg.Sinks = level, []agentlog.Sink{agentlog.NewStream(w)}
			logs, err := agentlog.New(cfg)
			if err != nil {
				return nil, err
			}
			return logs.Handler("bench"), nil
		}
	}
	phuslu := func(w io.Writer, level slog.Level) slog.Handler {
		return log.SlogNewJSONHandler(w, &slog.HandlerOptions{Level: level})
	}
	zero := func(w io.Writer, level slog.Level) slog.Handler {
		return zerolog.NewSlogHandler(zerolog.New(w).Level(zerologLevel(level)))
	}
	std := func(w io.Writer, level slog.Level) slog.Handler {
		return slog.NewJSONHandler(w, &slog.HandlerOptions{Level: level})
	}
	bare := func(make func(io.Writer, slog.Level) slog.Handler) func(io.Writer, slog.Level) (slog.Handler, error) {
		return func(w io.Writer, level slog.Level) (slog.Handler, error) { return make(w, level), nil }
	}
	withIDs := func(make func(io.Writer, slog.Level) slog.Handler) func(io.Writer, slog.Level) (slog.Handler, error) {
		return func(w io.Writer, level slog.Level) (slog.Handler, error) { return idHandler{make(w, level)}, nil }
	}
	return []contender{
		{"kaizen", kaizen(agentlog.Config{})},
		{"kaizen, no redaction", kaizen(agentlog.Config{NoRedaction: true})},
		{"phuslu with ids", withIDs(phuslu)},
		{"zerolog with ids", withIDs(zero)},
		{"slog with ids", withIDs(std)},
		{"phuslu bare", bare(phuslu)},
		{"zerolog bare", bare(zero)},
		{"slog bare", bare(std)},
		{"nothing", func(io.Writer, slog.Level) (slog.Handler, error) { return nothing{}, nil }},
	}
}

func zerologLevel(level slog.Level) zerolog.Level {
	if level >= slog.LevelError {
		return zerolog.ErrorLevel
	}
	return zerolog.InfoLevel
}

// idHandler adds the ids that agentlog adds, the way users of other handlers do.
type idHandler struct{ slog.Handler }

// Handle implements [slog.Handler].
func (h idHandler) Handle(ctx context.Context, r slog.Record) error {
	if sc := trace.SpanContextFromContext(ctx); sc.IsValid() {
		r.AddAttrs(slog.String("trace_id", sc.TraceID().String()), slog.String("span_id", sc.SpanID().String()))
	}
	if run, ok := kaizen.RunFrom(ctx); ok {
		r.AddAttrs(slog.String("agent_id", run.AgentID), slog.String("session_id", run.SessionID),
			slog.String("run_id", run.RunID), slog.String("user_id", run.UserID))
	}
	return h.Handler.Handle(ctx, r)
}

// nothing is what slog itself costs.
type nothing struct{}

func (nothing) Enabled(context.Context, slog.Level) bool  { return true }
func (nothing) Handle(context.Context, slog.Record) error { return nil }
func (h nothing) WithAttrs([]slog.Attr) slog.Handler      { return h }
func (h nothing) WithGroup(string) slog.Handler           { return h }

// runContext is the context of a running agent.
func runContext() context.Context {
	sc := trace.NewSpanContext(trace.SpanContextConfig{TraceID: [16]byte{1, 2, 3}, SpanID: [8]byte{4, 5}, TraceFlags: 1})
	return kaizen.WithRun(trace.ContextWithSpanContext(context.Background(), sc), kaizen.Run{
		RunID: "01HZX3J5V7K9M2N4P6Q8R0S1T2", AgentID: "planner-7f3c", AgentName: "planner", SessionID: "session-42", UserID: "user-17",
	})
}

// logLine is the line that all write.
func logLine(ctx context.Context, l *slog.Logger) {
	l.LogAttrs(ctx, slog.LevelInfo, "tool call finished", slog.String("tool", "search"), slog.String("provider", "openai"),
		slog.String("model", "gpt-4o"), slog.Int("iteration", 3), slog.Int("input_tokens", 1532), slog.Int("output_tokens", 201),
		slog.Float64("cost_usd", 0.0123), slog.Duration("took", 1532*time.Millisecond), slog.Bool("cached", false), slog.String("status", "ok"))
}
