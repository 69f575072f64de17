package agentlog

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"strings"
	"sync"
	"testing"
	"testing/slogtest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/kaizen-go/kaizen/internal/runctx"
)

// buffer is a writer that many goroutines may use.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) lines() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return strings.Split(strings.TrimSuffix(b.b.String(), "\n"), "\n")
}

func newLogs(t testing.TB, cfg Config) (*Logs, *buffer) {
	t.Helper()
	out := new(buffer)
	cfg.Sinks = append(cfg.Sinks, NewStream(out))
	logs, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return logs, out
}

func parse(t testing.TB, line string) map[string]any {
	t.Helper()
	m := make(map[string]any)
	if err := json.Unmarshal([]byte(line), &m); err != nil {
		t.Fatalf("line is not JSON: %v\n%s", err, line)
	}
	return m
}

// last returns the last line, without its time.
func last(t testing.TB, out *buffer) map[string]any {
	t.Helper()
	lines := out.lines()
	m := parse(t, lines[len(lines)-1])
	delete(m, "timestamp")
	return m
}

func TestSlogtest(t *testing.T) {
	var out *buffer
	slogtest.Run(t, func(t *testing.T) slog.Handler {
		var logs *Logs
		logs, out = newLogs(t, Config{})
		return logs.Handler("")
	}, func(t *testing.T) map[string]any {
		m := parse(t, out.lines()[0])
		flat := make(map[string]any)
		for from, to := range map[string]string{"timestamp": slog.TimeKey, "level": slog.LevelKey, "message": slog.MessageKey} {
			if v, ok := m[from]; ok {
				flat[to] = v
			}
		}
		if c, ok := m["context"].(map[string]any); ok {
			for k, v := range c {
				flat[k] = v
			}
		}
		return flat
	})
}

func TestFormats(t *testing.T) {
	tests := []struct {
		name   string
		format Format
		want   string
	}{
		{"JSON", FormatJSON, `{"timestamp":"2026-01-02T15:04:05.000000006Z","level":"info","message":"tool \"a\"\n","logger":"planner",` +
			`"trace_id":"0a000000000000000000000000000000","span_id":"0b00000000000000","agent_id":"a1","session_id":"s1","run_id":"r1","user_id":"u1",` +
			`"context":{"app":"x","n":1,"g":{"f":0.5,"d":1000000000,"b":true},"when":"2026-01-02T15:04:05.000000006Z"}}`},
		{"ECS", FormatECS, `{"@timestamp":"2026-01-02T15:04:05.000000006Z","log.level":"info","ecs.version":"8.17.0","message":"tool \"a\"\n","log.logger":"planner",` +
			`"trace.id":"0a000000000000000000000000000000","span.id":"0b00000000000000","gen_ai.agent.id":"a1","gen_ai.conversation.id":"s1","kaizen.run.id":"r1","user.id":"u1",` +
			`"kaizen.context":{"app":"x","n":1,"g":{"f":0.5,"d":1000000000,"b":true},"when":"2026-01-02T15:04:05.000000006Z"}}`},
		{"text", FormatText, `2026-01-02T15:04:05.000000006Z INFO planner: tool "a"\x0a trace_id=0a000000000000000000000000000000 span_id=0b00000000000000 ` +
			`agent_id=a1 session_id=s1 run_id=r1 user_id=u1 app=x n=1 g.f=0.5 g.d=1000000000 g.b=true when="2026-01-02T15:04:05.000000006Z"`},
	}
	sc := trace.NewSpanContext(trace.SpanContextConfig{TraceID: [16]byte{10}, SpanID: [8]byte{11}})
	ctx := trace.ContextWithSpanContext(t.Context(), sc)
	ctx = runctx.With(ctx, runctx.Run{RunID: "r1", AgentID: "a1", SessionID: "s1", UserID: "u1"})
	when := time.Date(2026, 1, 2, 16, 4, 5, 6, time.FixedZone("", 3600))
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			logs, out := newLogs(t, Config{Format: tt.format})
			logs.AddContext(slog.String("app", "x"))
			r := slog.NewRecord(when, slog.LevelInfo, "tool \"a\"\n", 0)
			r.Add("n", 1, slog.Group("g", "f", 0.5, "d", time.Second, "b", true), "when", when)
			if err := logs.Handler("planner").Handle(ctx, r); err != nil {
				t.Fatal(err)
			}
			if got := out.lines()[0]; got != tt.want {
				t.Errorf("line\n got %s\nwant %s", got, tt.want)
			}
		})
	}
}

func TestLevels(t *testing.T) {
	logs, out := newLogs(t, Config{Level: slog.LevelDebug, Levels: map[string]slog.Level{"quiet": LevelCritical}})
	ctx, logger := t.Context(), logs.Logger("a")
	logger.Debug("m")
	logger.Info("m")
	logger.Warn("m")
	logger.Error("m")
	Critical(ctx, logger, "m")
	logs.Logger("quiet").Error("m")
	var got []string
	for _, line := range out.lines() {
		got = append(got, parse(t, line)["level"].(string))
	}
	if diff := cmp.Diff([]string{"debug", "info", "warning", "error", "critical"}, got); diff != "" {
		t.Errorf("levels (-want +got):\n%s", diff)
	}
	logs.SetLevel("a", slog.LevelError)
	logger.Warn("no")
	logs.Logger("b").Debug("yes")
	logs.SetLevel("", slog.LevelWarn)
	logger.Warn("yes")
	logs.Logger("new").Info("no")
	if n := len(out.lines()); n != 7 {
		t.Errorf("%d lines, want 7", n)
	}
	if logs.Level("a") != slog.LevelWarn || fmt.Sprint(logs.Names()) != "[a b new quiet]" {
		t.Errorf("level %v, names %v", logs.Level("a"), logs.Names())
	}
	for level, want := range map[slog.Level]int{-20: 1, slog.LevelDebug: 5, slog.LevelInfo: 9, slog.LevelWarn: 13, slog.LevelError: 17, LevelCritical: 21, 100: 24} {
		if got := severity(level); got != want {
			t.Errorf("severity(%v) = %d, want %d", level, got, want)
		}
	}
}

func TestContext(t *testing.T) {
	logs, out := newLogs(t, Config{})
	logger := logs.Logger("a")
	logs.AddContext(slog.String("env", "test"), slog.Int("n", 1))
	logs.AddContext(slog.Int("n", 2), slog.String("session_id", "s9"))
	got := logs.Context()
	got[0] = slog.String("mine", "x") // a copy
	tests := []struct {
		name string
		do   func()
		want map[string]any
	}{
		{"persistent", func() { logger.Info("m") }, map[string]any{"session_id": "s9", "context": map[string]any{"env": "test", "n": 2.0}}},
		{"call wins", func() { logger.Info("m", "n", 3) }, map[string]any{"session_id": "s9", "context": map[string]any{"env": "test", "n": 3.0}}},
		{"logger wins", func() { logger.With("n", 4).Info("m") }, map[string]any{"session_id": "s9", "context": map[string]any{"env": "test", "n": 4.0}}},
		{"call over logger", func() { logger.With("n", 4, "x", 1).Info("m", "n", 5, "n", 6) }, map[string]any{"session_id": "s9", "context": map[string]any{"env": "test", "n": 6.0, "x": 1.0}}},
		{"group of the same name", func() { logger.WithGroup("n").Info("m", "a", 1) }, map[string]any{"session_id": "s9", "context": map[string]any{"env": "test", "n": map[string]any{"a": 1.0}}}},
		{"in a group", func() { logger.With("x", 1).WithGroup("g").With("y", 2).Info("m", "n", 5, "y", 3) }, map[string]any{"session_id": "s9", "context": map[string]any{"env": "test", "n": 2.0, "x": 1.0, "g": map[string]any{"n": 5.0, "y": 3.0}}}},
		{"group over attribute", func() { logger.With("g", 1).WithGroup("g").Info("m", "y", 3) }, map[string]any{"session_id": "s9", "context": map[string]any{"env": "test", "n": 2.0, "g": map[string]any{"y": 3.0}}}},
		{"ids are lifted", func() { logger.With("agent_id", "a7").Info("m", "run_id", "r7", "session_id", "s7", "user_id", 7) }, map[string]any{"agent_id": "a7", "run_id": "r7", "session_id": "s7", "context": map[string]any{"env": "test", "n": 2.0, "user_id": 7.0}}},
		{"trace as text", func() { logger.Info("m", "trace_id", "0a000000000000000000000000000000", "span_id", "odd") }, map[string]any{"trace_id": "0a000000000000000000000000000000", "span_id": "odd", "session_id": "s9", "context": map[string]any{"env": "test", "n": 2.0}}},
		{"ids in a group stay", func() { logger.WithGroup("g").Info("m", "run_id", "r7") }, map[string]any{"session_id": "s9", "context": map[string]any{"env": "test", "n": 2.0, "g": map[string]any{"run_id": "r7"}}}},
		{"cleared", func() { logs.ClearContext(); logger.Info("m") }, map[string]any{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.do()
			tt.want["level"], tt.want["message"], tt.want["logger"] = "info", "m", "a"
			if diff := cmp.Diff(tt.want, last(t, out)); diff != "" {
				t.Errorf("line (-want +got):\n%s", diff)
			}
			lines := out.lines()
			checkNames(t, lines[len(lines)-1])
		})
	}
}

// checkNames fails when a name stands twice in one object.
func checkNames(t testing.TB, line string) {
	t.Helper()
	dec := json.NewDecoder(strings.NewReader(line))
	var walk func()
	walk = func() {
		tok, err := dec.Token()
		if err != nil {
			t.Fatalf("%v in %s", err, line)
		}
		switch tok {
		case json.Delim('{'):
			seen := make(map[string]bool)
			for dec.More() {
				key, err := dec.Token()
				if err != nil {
					t.Fatalf("%v in %s", err, line)
				}
				if seen[key.(string)] {
					t.Errorf("name %q twice in %s", key, line)
				}
				seen[key.(string)] = true
				walk()
			}
			_, _ = dec.Token() // the brace that More has seen
		case json.Delim('['):
			for dec.More() {
				walk()
			}
			_, _ = dec.Token()
		}
	}
	walk()
}

func TestRedaction(t *testing.T) {
	do := func(logger *slog.Logger) {
		logger.With("api_key", "abc").Info("login of ada@example.com", "password", "hunter2", "n", 5, slog.Group("auth", "x", "y"),
			"body", map[string]any{"token": "abcdefgh1", "ok": "yes"}, "err", errors.New("dial redis://u:pw@cache"), "user_id", "ada@example.com")
	}
	logs, out := newLogs(t, Config{})
	do(logs.Logger("a"))
	want := map[string]any{
		"level": "info", "logger": "a", "message": "login of [REDACTED:email]", "user_id": "[REDACTED:email]",
		"context": map[string]any{
			"api_key": "[REDACTED:field]", "password": "[REDACTED:field]", "n": 5.0, "auth": "[REDACTED:field]",
			"body": map[string]any{"token": "[REDACTED:field]", "ok": "yes"}, "err": "dial redis://u:[REDACTED:dsn]@cache",
		},
	}
	if diff := cmp.Diff(want, last(t, out)); diff != "" {
		t.Errorf("line (-want +got):\n%s", diff)
	}
	logs, out = newLogs(t, Config{NoRedaction: true})
	do(logs.Logger("a"))
	if line := out.lines()[0]; strings.Contains(line, "REDACTED") || !strings.Contains(line, "hunter2") {
		t.Errorf("without redaction: %s", line)
	}
}

type badJSON struct{}

func (badJSON) MarshalJSON() ([]byte, error) { panic("bad marshaler") }

type badError struct{ p *int }

func (e badError) Error() string { return fmt.Sprint(*e.p) }

type badValuer struct{}

func (badValuer) LogValue() slog.Value { panic("bad valuer") }

func TestNothingFailsTheCaller(t *testing.T) {
	loop := map[string]any{}
	loop["loop"] = loop
	var nilErr *badError
	values := map[string]any{
		"channel": make(chan int), "function": func() {}, "NaN": math.NaN(), "infinity": math.Inf(-1), "panicking marshaler": badJSON{},
		"panicking error": badError{}, "nil pointer in an error": error(nilErr), "panicking valuer": badValuer{}, "loop": loop, "complex": 1i,
		"bad raw JSON": json.RawMessage("{"), "nil": nil, "bytes": []byte{0xff}, "huge": strings.Repeat("é", 100_000), "year": time.Date(12345, 1, 1, 0, 0, 0, 0, time.UTC),
	}
	for _, cfg := range []Config{{}, {NoRedaction: true}, {Format: FormatText}, {Sinks: []Sink{new(recorder)}}} {
		for name, v := range values {
			t.Run(name, func(t *testing.T) {
				logs, out := newLogs(t, cfg)
				logs.Logger("a").With("w", v).WithGroup("g").Info("kept", "v", v)
				line := out.lines()[0]
				if !strings.Contains(line, "kept") {
					t.Errorf("line %s", line)
				}
				if cfg.Format == FormatJSON {
					parse(t, line)
				}
				if len(line) > 4*defaultMaxValueBytes {
					t.Errorf("line of %d bytes", len(line))
				}
				if s := logs.Stats(); s.Failed != 0 || s.Errors != 0 {
					t.Errorf("stats %+v", s)
				}
			})
		}
	}
}

// recorder is a sink that keeps what it gets, and fails as it is told.
type recorder struct {
	mu      sync.Mutex
	records []Record
	err     error
	panics  bool
	closed  int
}

func (s *recorder) WantsAttrs() bool { return true }

func (s *recorder) Write(r *Record) error {
	if s.panics {
		panic("broken sink")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	c := *r
	c.Attrs = append([]attribute.KeyValue(nil), r.Attrs...)
	c.Line = bytes.Clone(r.Line)
	s.records = append(s.records, c)
	return s.err
}

func (s *recorder) Close(context.Context) error { s.closed++; return s.err }

func TestSinkGetsRecord(t *testing.T) {
	sink := new(recorder)
	logs, out := newLogs(t, Config{Sinks: []Sink{sink}})
	sc := trace.NewSpanContext(trace.SpanContextConfig{TraceID: [16]byte{10}, SpanID: [8]byte{11}})
	ctx := runctx.With(trace.ContextWithSpanContext(t.Context(), sc), runctx.Run{RunID: "r1", ParentRunID: "r0", AgentID: "a1", AgentName: "planner"})
	logs.AddContext(slog.String("env", "test"))
	logs.Logger("l").WithGroup("g").WarnContext(ctx, "to ada@example.com", "n", 1, "f", 0.5, "b", true, "password", "x", "d", time.Second, "any", []int{1}, "session", uint64(3))
	got := sink.records[0]
	if string(got.Line) != out.lines()[0]+"\n" {
		t.Errorf("line %s", got.Line)
	}
	got.Line, got.Time = nil, time.Time{}
	want := Record{
		Level: slog.LevelWarn, Severity: 13, Message: "to [REDACTED:email]", Logger: "l", TraceID: sc.TraceID(), SpanID: sc.SpanID(),
		RunID: "r1", ParentRunID: "r0", AgentID: "a1", AgentName: "planner",
		Attrs: []attribute.KeyValue{attribute.String("env", "test"), attribute.Int64("g.n", 1), attribute.Float64("g.f", 0.5), attribute.Bool("g.b", true),
			attribute.String("g.password", "[REDACTED:field]"), attribute.String("g.d", "1s"), attribute.String("g.any", "[1]"), attribute.String("g.session", "3")},
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(attribute.Value{}), cmp.Comparer(func(a, b attribute.Value) bool { return a == b })); diff != "" {
		t.Errorf("record (-want +got):\n%s", diff)
	}
}

func TestSinksThatFail(t *testing.T) {
	broken, panicking, good := &recorder{err: errors.New("disk full")}, &recorder{panics: true}, new(recorder)
	logs, err := New(Config{Sinks: []Sink{broken, panicking, good}})
	if err != nil {
		t.Fatal(err)
	}
	logs.Logger("a").Info("m")
	if s := logs.Stats(); s.Errors != 2 || s.Written != 1 || len(good.records) != 1 {
		t.Errorf("stats %+v, %d records", s, len(good.records))
	}
	if err := logs.Close(t.Context()); err == nil || !strings.Contains(err.Error(), "disk full") {
		t.Errorf("Close = %v", err)
	}
	if err := logs.Close(t.Context()); err != nil || good.closed != 1 {
		t.Errorf("second Close = %v, closed %d times", err, good.closed)
	}
}

func TestClosed(t *testing.T) {
	logs, out := newLogs(t, Config{})
	if err := logs.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	logs.Logger("a").Info("late")
	if s := logs.Stats(); s.Errors != 1 || out.lines()[0] != "" {
		t.Errorf("stats %+v, lines %q", s, out.lines())
	}
}

func TestNewRefuses(t *testing.T) {
	for name, cfg := range map[string]Config{
		"format": {Format: 9}, "nil sink": {Sinks: []Sink{nil}}, "negative": {MaxValueBytes: -1}, "negative sample": {SampleFirst: -1},
	} {
		if _, err := New(cfg); err == nil {
			t.Errorf("New(%s) took it", name)
		}
	}
}

func TestSampling(t *testing.T) {
	logs, out := newLogs(t, Config{SampleFirst: 3, SampleEvery: 10})
	now := time.Unix(1000, 0)
	h := logs.Handler("a")
	say := func(level slog.Level, message string, n int, at time.Time) {
		for range n {
			if err := h.Handle(t.Context(), slog.NewRecord(at, level, message, 0)); err != nil {
				t.Fatal(err)
			}
		}
	}
	say(slog.LevelInfo, "often", 25, now)                 // 3 + 2
	say(slog.LevelError, "error", 25, now)                // all
	say(slog.LevelInfo, "seldom", 2, now)                 // all
	say(slog.LevelInfo, "often", 1, now.Add(time.Second)) // a new second
	if n := len(out.lines()); n != 5+25+2+1 {
		t.Errorf("%d lines, want 33", n)
	}
	if s := logs.Stats(); s.Sampled != 20 || s.Written != 33 {
		t.Errorf("stats %+v, want 20 sampled", s)
	}
}

func TestCut(t *testing.T) {
	logs, out := newLogs(t, Config{MaxValueBytes: 10})
	logs.Logger("a").Info(strings.Repeat("é", 20), "v", strings.Repeat("x", 11), "ok", "0123456789")
	m := last(t, out)
	if m["message"] != "ééééé…[cut, 40 bytes in all]" {
		t.Errorf("message %q", m["message"])
	}
	if c := m["context"].(map[string]any); c["v"] != "xxxxxxxxxx…[cut, 11 bytes in all]" || c["ok"] != "0123456789" {
		t.Errorf("context %v", c)
	}
}

func TestConcurrent(t *testing.T) {
	logs, out := newLogs(t, Config{})
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			logger := logs.Logger(fmt.Sprint("l", w%3)).With("w", w)
			for i := range 200 {
				logger.Info("m", "i", i, "s", strings.Repeat("x", i))
				switch i % 50 {
				case 0:
					logs.AddContext(slog.Int("k", i))
				case 25:
					logs.SetLevel("", slog.LevelInfo)
					logs.ClearContext()
				}
			}
		})
	}
	wg.Wait()
	lines := out.lines()
	if len(lines) != 1600 {
		t.Errorf("%d lines", len(lines))
	}
	for _, line := range lines {
		if m := parse(t, line); m["message"] != "m" {
			t.Errorf("line %s", line)
		}
		checkNames(t, line)
	}
}
