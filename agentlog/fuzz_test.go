package agentlog

import (
	"encoding/json"
	"log/slog"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// FuzzLine logs any message, name and value in any nesting: each line is one
// JSON object, no name stands twice in it, and message and value come back as
// they went in (bytes that are no UTF-8 as U+FFFD).
func FuzzLine(f *testing.F) {
	f.Add("tool called", "tool", "search", "g", 1.5, int64(1))
	f.Add("a \"b\"\n\\ \x00\x1f\x7f \u2028 é\xff", "n", "\r\t", "n", 1e300, int64(-1))
	f.Add("", "", "", "", 0.0, int64(0))
	f.Add("m", "trace_id", "0a000000000000000000000000000000", "context", -1e-9, int64(253402300800))
	logs, out := newLogs(f, Config{NoRedaction: true, MaxValueBytes: 1 << 20})
	text, textOut := newLogs(f, Config{Format: FormatText})
	f.Fuzz(func(t *testing.T, message, key, value, group string, number float64, sec int64) {
		out.b.Reset()
		r := slog.NewRecord(time.Unix(sec, 0), slog.LevelInfo, message, 0)
		r.Add(key, value, slog.Group(group, key, number, "a", value), slog.Any("any", map[string]any{key: value}))
		h := logs.Handler(group).WithAttrs([]slog.Attr{slog.String("with", value), slog.Float64(key, number)})
		if group != "" {
			h = h.WithGroup(group).WithAttrs([]slog.Attr{slog.String(key, value)})
		}
		if err := h.Handle(t.Context(), r); err != nil {
			t.Fatal(err)
		}
		line := out.b.String()
		if !strings.HasSuffix(line, "}\n") || strings.Count(line, "\n") != 1 || !utf8.ValidString(line) {
			t.Fatalf("line %q", line)
		}
		var back struct {
			Message string
			Context map[string]any
		}
		if err := json.Unmarshal([]byte(line), &back); err != nil {
			t.Fatalf("%v in %q", err, line)
		}
		if want := asRunes(message); back.Message != want {
			t.Errorf("message %q, want %q", back.Message, want)
		}
		if key != "with" && group != "with" {
			if got, want := back.Context["with"], asRunes(value); got != want {
				t.Errorf("value %q, want %q in %s", got, want, line)
			}
		}
		if logs.Stats().Failed != 0 {
			t.Errorf("a line failed: %s", line)
		}
		if utf8.ValidString(key) && utf8.ValidString(group) { // others can become the same name
			checkNames(t, line)
		}
		textOut.b.Reset()
		if err := text.Handler(group).Handle(t.Context(), r); err != nil {
			t.Fatal(err)
		}
		if s := textOut.b.String(); strings.Count(s, "\n") != 1 || strings.ContainsAny(s, "\x1b\x00\r") {
			t.Errorf("text line %q", s)
		}
	})
}

// asRunes replaces each byte that is no UTF-8 by U+FFFD.
func asRunes(s string) string { return string([]rune(s)) }
