package agentlog

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// wantLine compares the last line, without its time.
func wantLine(t *testing.T, out *buffer, want map[string]any) {
	t.Helper()
	if diff := cmp.Diff(want, last(t, out)); diff != "" {
		t.Errorf("line (-want +got):\n%s", diff)
	}
}

// contextOf is what stands in the context of the last line; nil if nothing.
func contextOf(t *testing.T, out *buffer) map[string]any {
	t.Helper()
	c, _ := last(t, out)["context"].(map[string]any)
	return c
}

func wantContext(t *testing.T, out *buffer, want map[string]any) {
	t.Helper()
	if diff := cmp.Diff(want, contextOf(t, out)); diff != "" {
		t.Errorf("context (-want +got):\n%s", diff)
	}
}

func wantPersistent(t *testing.T, logs *Logs, want ...slog.Attr) {
	t.Helper()
	if got := logs.Context(); !slices.EqualFunc(got, want, slog.Attr.Equal) {
		t.Errorf("Context() = %v, want %v", got, want)
	}
}

type behaviour struct {
	name  string
	check func(t *testing.T, logs *Logs, out *buffer)
}

func behaviours() []behaviour {
	return slices.Concat(loggerBehaviours, contextBehaviours, levelBehaviours, lineBehaviours, mergeBehaviours, managerBehaviours)
}

// TestBehavioursAreListed holds the document to the tests, one row for one test.
func TestBehavioursAreListed(t *testing.T) {
	page, err := os.ReadFile("../docs/behaviours-metrics-logs.md")
	if err != nil {
		t.Fatal(err)
	}
	for i, b := range behaviours() {
		number, words, _ := strings.Cut(b.name, " ")
		row := fmt.Sprintf("\n| %s | %s | `agentlog.TestBehaviours/%s` |\n", number, words, strings.ReplaceAll(b.name, " ", "_"))
		if number != fmt.Sprint("L", i+1) || strings.Count(string(page), row) != 1 {
			t.Errorf("no row, or several:%s", row)
		}
	}
	if got, want := strings.Count(string(page), "`agentlog.TestBehaviours/"), len(behaviours()); got != want || want != 31 {
		t.Errorf("%d rows for %d behaviours, want 31", got, want)
	}
}

// TestBehaviours has one test for each thing that users of logs count on, in
// the numbering of docs/behaviours-metrics-logs.md.
func TestBehaviours(t *testing.T) {
	for _, tt := range behaviours() {
		t.Run(tt.name, func(t *testing.T) {
			logs, out := newLogs(t, Config{})
			tt.check(t, logs, out)
		})
	}
}

var loggerBehaviours = []behaviour{
	{"L1 logger has its name and an empty context", func(t *testing.T, logs *Logs, out *buffer) {
		wantPersistent(t, logs)
		logs.Logger("planner").Info("m")
		wantLine(t, out, map[string]any{"level": "info", "message": "m", "logger": "planner"})
	}},
	{"L2 logger has a handler and writes from info on", func(t *testing.T, logs *Logs, out *buffer) {
		logger := logs.Logger("planner")
		if logger.Handler() == nil || logs.Level("planner") != slog.LevelInfo {
			t.Errorf("handler %v, level %v", logger.Handler(), logs.Level("planner"))
		}
		logger.Debug("no")
		logger.Info("yes")
		if lines := out.lines(); len(lines) != 1 || parse(t, lines[0])["message"] != "yes" {
			t.Errorf("lines %q", lines)
		}
	}},
}

var contextBehaviours = []behaviour{
	{"L3 one attribute is added to the context", func(t *testing.T, logs *Logs, _ *buffer) {
		logs.AddContext(slog.String("env", "test"))
		wantPersistent(t, logs, slog.String("env", "test"))
	}},
	{"L4 many attributes are added at once", func(t *testing.T, logs *Logs, _ *buffer) {
		logs.AddContext(slog.String("env", "test"), slog.Int("n", 1), slog.Bool("b", true))
		wantPersistent(t, logs, slog.String("env", "test"), slog.Int("n", 1), slog.Bool("b", true))
	}},
	{"L5 later attributes are merged with earlier ones", func(t *testing.T, logs *Logs, _ *buffer) {
		logs.AddContext(slog.String("env", "test"))
		logs.AddContext(slog.Int("n", 1))
		wantPersistent(t, logs, slog.String("env", "test"), slog.Int("n", 1))
	}},
	{"L6 a known name is overwritten", func(t *testing.T, logs *Logs, _ *buffer) {
		logs.AddContext(slog.String("env", "test"))
		logs.AddContext(slog.String("env", "prod"))
		wantPersistent(t, logs, slog.String("env", "prod"))
	}},
	{"L7 the context is cleared", func(t *testing.T, logs *Logs, _ *buffer) {
		logs.AddContext(slog.String("env", "test"))
		logs.ClearContext()
		wantPersistent(t, logs)
	}},
	{"L8 what Context returns is a copy", func(t *testing.T, logs *Logs, _ *buffer) {
		logs.AddContext(slog.String("env", "test"))
		logs.Context()[0] = slog.String("mine", "x")
		wantPersistent(t, logs, slog.String("env", "test"))
	}},
}

// levelIs wants a line of that level from do.
func levelIs(want string, do func(context.Context, *slog.Logger)) func(*testing.T, *Logs, *buffer) {
	return func(t *testing.T, logs *Logs, out *buffer) {
		logs.SetLevel("", slog.LevelDebug)
		do(t.Context(), logs.Logger("a"))
		wantLine(t, out, map[string]any{"level": want, "message": "m", "logger": "a", "context": map[string]any{"k": "v"}})
	}
}

var levelBehaviours = []behaviour{
	{"L9 debug line says so, with its attributes", levelIs("debug", func(ctx context.Context, l *slog.Logger) { l.DebugContext(ctx, "m", "k", "v") })},
	{"L10 info line says so, with its attributes", levelIs("info", func(ctx context.Context, l *slog.Logger) { l.InfoContext(ctx, "m", "k", "v") })},
	{"L11 warning line says so, with its attributes", levelIs("warning", func(ctx context.Context, l *slog.Logger) { l.WarnContext(ctx, "m", "k", "v") })},
	{"L12 error line says so, with its attributes", levelIs("error", func(ctx context.Context, l *slog.Logger) { l.ErrorContext(ctx, "m", "k", "v") })},
	{"L13 critical line says so, with its attributes", levelIs("critical", func(ctx context.Context, l *slog.Logger) { Critical(ctx, l, "m", "k", "v") })},
}

var lineBehaviours = []behaviour{
	{"L14 line has time, level, message, context, agent, trace and span", func(t *testing.T, logs *Logs, out *buffer) {
		logs.Logger("a").InfoContext(agentContext(t.Context()), "m", "k", "v")
		line := parse(t, out.lines()[0])
		for _, field := range []string{"timestamp", "level", "message", "context", "agent_id", "trace_id", "span_id"} {
			if line[field] == nil {
				t.Errorf("no %s in %v", field, line)
			}
		}
	}},
	{"L15 time is ISO 8601 in UTC", func(t *testing.T, logs *Logs, out *buffer) {
		before := time.Now()
		logs.Logger("a").Info("m")
		text := parse(t, out.lines()[0])["timestamp"].(string)
		at, err := time.Parse(time.RFC3339Nano, text)
		if err != nil || text[len(text)-1] != 'Z' || at.Before(before.Truncate(0)) || at.After(time.Now()) {
			t.Errorf("timestamp %s (%v)", text, err)
		}
	}},
	{"L16 values are nested as they came", func(t *testing.T, logs *Logs, out *buffer) {
		logs.Logger("a").Info("m", "map", map[string]any{"list": []int{1, 2}, "deep": map[string]any{"ok": true}}, slog.Group("g", "n", 1))
		wantContext(t, out, map[string]any{"map": map[string]any{"list": []any{1.0, 2.0}, "deep": map[string]any{"ok": true}}, "g": map[string]any{"n": 1.0}})
	}},
}

var mergeBehaviours = []behaviour{
	{"L17 context stands on every line", func(t *testing.T, logs *Logs, out *buffer) {
		logs.AddContext(slog.String("env", "test"))
		for _, name := range []string{"a", "b"} {
			for range 2 {
				logs.Logger(name).Info("m")
				wantContext(t, out, map[string]any{"env": "test"})
			}
		}
	}},
	{"L18 attributes of a call are merged with the context", func(t *testing.T, logs *Logs, out *buffer) {
		logs.AddContext(slog.String("env", "test"))
		logs.Logger("a").Info("m", "n", 1)
		wantContext(t, out, map[string]any{"env": "test", "n": 1.0})
	}},
	{"L19 attributes of a call win, for that line", func(t *testing.T, logs *Logs, out *buffer) {
		logs.AddContext(slog.String("env", "test"))
		logs.Logger("a").Info("m", "env", "call")
		wantContext(t, out, map[string]any{"env": "call"})
		logs.Logger("a").Info("m")
		wantContext(t, out, map[string]any{"env": "test"})
	}},
	{"L20 a cleared context is on no line", func(t *testing.T, logs *Logs, out *buffer) {
		logs.AddContext(slog.String("env", "test"), slog.String("agent_id", "a1"))
		logs.ClearContext()
		logs.Logger("a").Info("m")
		wantLine(t, out, map[string]any{"level": "info", "message": "m", "logger": "a"})
	}},
	{"L21 ids of the context stand at the top, once, and stay in the context for the next line", func(t *testing.T, logs *Logs, out *buffer) {
		ids := []slog.Attr{slog.String("agent_id", "a1"), slog.String("trace_id", "0a000000000000000000000000000000"), slog.String("span_id", "0b00000000000000")}
		logs.AddContext(ids...)
		for range 2 {
			logs.Logger("a").Info("m")
			wantLine(t, out, map[string]any{"level": "info", "message": "m", "logger": "a",
				"agent_id": "a1", "trace_id": "0a000000000000000000000000000000", "span_id": "0b00000000000000"})
		}
		wantPersistent(t, logs, ids...)
	}},
	{"L22 a record that was made before is written as it is", func(t *testing.T, logs *Logs, out *buffer) {
		r := slog.NewRecord(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), slog.LevelError, "made before", 0)
		r.AddAttrs(slog.Int("n", 1))
		if err := logs.Handler("a").Handle(t.Context(), r); err != nil {
			t.Fatal(err)
		}
		const want = `{"timestamp":"2026-01-02T03:04:05.000000000Z","level":"error","message":"made before","logger":"a","context":{"n":1}}`
		if got := out.lines()[0]; got != want {
			t.Errorf("line\n got %s\nwant %s", got, want)
		}
	}},
}

func wantNames(t *testing.T, logs *Logs, want ...string) {
	t.Helper()
	if got := logs.Names(); !slices.Equal(got, want) {
		t.Errorf("Names() = %q, want %q", got, want)
	}
}

var managerBehaviours = []behaviour{
	{"L23 there are no loggers at first", func(t *testing.T, logs *Logs, _ *buffer) { wantNames(t, logs) }},
	{"L24 a logger is made when it is asked for", func(t *testing.T, logs *Logs, out *buffer) {
		logs.Logger("planner").Info("m")
		wantNames(t, logs, "planner")
		wantLine(t, out, map[string]any{"level": "info", "message": "m", "logger": "planner"})
	}},
	{"L25 loggers of one name are one logger", func(t *testing.T, logs *Logs, out *buffer) {
		one, two := logs.Logger("planner"), logs.Logger("planner")
		logs.SetLevel("planner", slog.LevelError)
		one.Info("no")
		two.Info("no")
		wantNames(t, logs, "planner")
		if lines := out.lines(); lines[0] != "" {
			t.Errorf("lines %q", lines)
		}
	}},
	{"L26 loggers of distinct names are distinct", func(t *testing.T, logs *Logs, out *buffer) {
		logs.Logger("a").Info("m")
		logs.Logger("b").Info("m")
		wantNames(t, logs, "a", "b")
		if lines := out.lines(); parse(t, lines[0])["logger"] != "a" || parse(t, lines[1])["logger"] != "b" {
			t.Errorf("lines %q", lines)
		}
	}},
	{"L27 loggers are listed by name", func(t *testing.T, logs *Logs, _ *buffer) {
		for _, name := range []string{"c", "a", "b", "a"} {
			logs.Logger(name)
		}
		wantNames(t, logs, "a", "b", "c")
	}},
	{"L28 the list is a copy", func(t *testing.T, logs *Logs, _ *buffer) {
		logs.Logger("a")
		logs.Names()[0] = "mine"
		wantNames(t, logs, "a")
	}},
	{"L29 the context of all loggers is cleared at once", func(t *testing.T, logs *Logs, out *buffer) {
		one, two := logs.Logger("a"), logs.Logger("b")
		logs.AddContext(slog.String("env", "test"))
		logs.ClearContext()
		for _, logger := range []*slog.Logger{one, two} {
			logger.Info("m")
			wantContext(t, out, nil)
		}
	}},
	{"L30 the level of all loggers is set at once, for new ones too", func(t *testing.T, logs *Logs, out *buffer) {
		old := logs.Logger("old")
		logs.SetLevel("", slog.LevelError)
		old.Warn("no")
		logs.Logger("new").Warn("no")
		if lines := out.lines(); lines[0] != "" {
			t.Errorf("lines %q", lines)
		}
	}},
	{"L31 loggers have levels of their own", func(t *testing.T, logs *Logs, out *buffer) {
		logs.SetLevel("quiet", slog.LevelError)
		logs.SetLevel("loud", slog.LevelDebug)
		logs.Logger("quiet").Warn("no")
		logs.Logger("loud").Debug("yes")
		if lines := out.lines(); len(lines) != 1 || parse(t, lines[0])["logger"] != "loud" {
			t.Errorf("lines %q", lines)
		}
	}},
}
