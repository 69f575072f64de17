package agentlog

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/otel/attribute"
)

// secretive is a value that says what it is only when asked.
type secretive struct{ v slog.Value }

func (s secretive) LogValue() slog.Value { return s.v }

// TestPlainAttributes: a record without groups and repeated names has the same
// attributes the quick way as the thorough way; one with groups has no quick way.
func TestPlainAttributes(t *testing.T) {
	group := slog.Group("g", "a", 1)
	for _, tt := range []struct {
		name    string
		context []slog.Attr
		with    []any
		group   string
		call    []any
		plain   bool
	}{
		{name: "nothing", plain: true},
		{name: "the call's", call: []any{"s", "text", "n", 7, "f", 1.5, "b", true, "d", time.Second, "t", time.Unix(1, 0), "u", uint64(1)}, plain: true},
		{name: "of all kinds of origin", context: []slog.Attr{slog.String("env", "test")}, with: []any{"part", "a"}, call: []any{"n", 1}, plain: true},
		{name: "ids are lifted", context: []slog.Attr{slog.String("agent_id", "a")}, with: []any{"run_id", "r"}, call: []any{"trace_id", "x", "user_id", "u", "span_id", 7, "own_id", "o"}, plain: true},
		{name: "values that resolve", with: []any{"w", secretive{slog.StringValue("w")}}, call: []any{"c", secretive{slog.IntValue(7)}, "session_id", secretive{slog.StringValue("s")}}, plain: true},
		{name: "empty ones are left out", call: []any{slog.Attr{}, "n", 1, slog.Any("nil", nil), slog.String("", "v")}, plain: true},
		{name: "errors", call: []any{"err", errors.New("broken")}, plain: true},
		{name: "a group in the call", call: []any{"n", 1, group}},
		{name: "a group with no name", call: []any{slog.Group("", "a", 1), "n", 2}},
		{name: "a group in the logger", with: []any{group}, call: []any{"n", 1}},
		{name: "a group in the context", context: []slog.Attr{group}},
		{name: "a value that resolves to a group", call: []any{"v", secretive{slog.GroupValue(slog.Int("a", 1))}}},
		{name: "a logger in a group", group: "g", call: []any{"n", 1}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			logs, err := New(Config{Sinks: []Sink{NewStream(io.Discard)}})
			if err != nil {
				t.Fatal(err)
			}
			logs.AddContext(tt.context...)
			logger := slog.New(logs.Handler("l")).With(tt.with...)
			if tt.group != "" {
				logger = logger.WithGroup(tt.group)
			}
			h := logger.Handler().(*handler)
			r := slog.NewRecord(time.Now(), slog.LevelInfo, "m", 0)
			r.Add(tt.call...)
			e := logs.encoder()
			defer logs.release(e)
			got, plain := h.plain(&r, e, logs.base.Load())
			if plain != tt.plain {
				t.Fatalf("plain = %v, want %v", plain, tt.plain)
			}
			if !plain {
				return
			}
			want := h.all(&r, logs.base.Load())
			if diff := cmp.Diff(flat(e, want), flat(e, got), cmp.Comparer(func(a, b attribute.KeyValue) bool { return a == b })); diff != "" {
				t.Errorf("(-thorough +quick):\n%s", diff)
			}
		})
	}
}

func flat(e *encoder, attrs []slog.Attr) []attribute.KeyValue {
	return e.flatten(make([]attribute.KeyValue, 0, len(attrs)), attrs, "")
}

// taking is a stream that wants attributes too, and keeps nothing.
type taking struct{ *Stream }

func (taking) WantsAttrs() bool { return true }

// TestAttrsAllocations: attributes for a sink cost no allocation of their own.
func TestAttrsAllocations(t *testing.T) {
	if raceDetector {
		return
	}
	logs, err := New(Config{Sinks: []Sink{taking{NewStream(io.Discard)}}})
	if err != nil {
		t.Fatal(err)
	}
	line := func(h slog.Handler) float64 {
		ctx, l := agentContext(t.Context()), slog.New(h).With("part", "a")
		return testing.AllocsPerRun(200, func() { fourFields(ctx, l) })
	}
	if ours, slogs := line(logs.Handler("a")), line(nothing{}); ours > slogs {
		t.Errorf("%v allocations a line, slog itself makes %v", ours, slogs)
	}
}

func fourFields(ctx context.Context, l *slog.Logger) {
	l.InfoContext(ctx, "tool call", "tool", "search", "call_id", "c1", "status", "ok", "duration_ms", 1.5)
}
