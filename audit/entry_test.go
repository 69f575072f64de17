package audit

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var testTime = time.Date(2026, 3, 9, 14, 5, 6, 789_000_001, time.UTC)

func fullEntry() Entry {
	return Entry{
		ID: "01HZY3V9T5XKQ2M4N6P8R0S1T2", Time: testTime, AgentID: "planner", Action: "tool.execute", Result: Denied,
		Details: map[string]any{"tool": "search", "args": []any{"a", 1, 2.5, true, nil}, "tokens": map[string]any{"in": 12, "out": uint8(3)}},
		UserID:  "u-7", SessionID: "s-1", RunID: "01HZY3V9T5XKQ2M4N6P8R0S1T1",
		TraceID: "4bf92f3577b34da6a3ce929d0e0e4736", SpanID: "00f067aa0ba902b7", Parent: "01HZY3V9T5XKQ2M4N6P8R0S1T0",
		Severity: "high", Metadata: map[string]any{"region": "eu"},
	}
}

func minimalEntry() Entry {
	return Entry{ID: "01HZY3V9T5XKQ2M4N6P8R0S1T2", Time: testTime, AgentID: "a", Action: "x", Result: Success}
}

func encode(t testing.TB, e Entry) string {
	t.Helper()
	b, err := EncodeLine(nil, e)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestEncodeLine(t *testing.T) {
	tests := []struct {
		name  string
		entry Entry
		want  string
	}{
		{"full", fullEntry(), `{"id":"01HZY3V9T5XKQ2M4N6P8R0S1T2","time":"2026-03-09T14:05:06.789000001Z","agent_id":"planner","action":"tool.execute","result":"denied","details":{"args":["a",1,2.5,true,null],"tokens":{"in":12,"out":3},"tool":"search"},"user_id":"u-7","session_id":"s-1","run_id":"01HZY3V9T5XKQ2M4N6P8R0S1T1","trace_id":"4bf92f3577b34da6a3ce929d0e0e4736","span_id":"00f067aa0ba902b7","parent":"01HZY3V9T5XKQ2M4N6P8R0S1T0","severity":"high","metadata":{"region":"eu"}}`},
		{"minimal", minimalEntry(), `{"id":"01HZY3V9T5XKQ2M4N6P8R0S1T2","time":"2026-03-09T14:05:06.789000001Z","agent_id":"a","action":"x","result":"success","details":{}}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, encode(t, tt.entry)); diff != "" {
				t.Errorf("EncodeLine: -want +got\n%s", diff)
			}
		})
	}
}

func TestEncodeValues(t *testing.T) {
	type point struct {
		X int `json:"x"`
	}
	tests := []struct {
		name string
		in   any
		want string
	}{
		{"nil", nil, `null`},
		{"escapes", "\x00\x1f\b\t\n\f\r\"\\/<>&\u2028é\x7f", "\"\\u0000\\u001f\\b\\t\\n\\f\\r\\\"\\\\/<>&\u2028é\x7f\""},
		{"int64", int64(math.MinInt64), `-9223372036854775808`},
		{"uint64", uint64(math.MaxUint64), `18446744073709551615`},
		{"float integer", 5.0, `5`},
		{"negative zero", math.Copysign(0, -1), `0`},
		{"float small", 1e-7, `1e-7`},
		{"float 1e-6", 0.000001, `0.000001`},
		{"float large", 1e21, `1e+21`},
		{"float below 1e21", 1e20, `100000000000000000000`},
		{"float max", math.MaxFloat64, `1.7976931348623157e+308`},
		{"float min", 5e-324, `5e-324`},
		{"float32", float32(0.5), `0.5`},
		{"number", json.Number("1.50e1"), `15`},
		{"number integer", json.Number("9007199254740993"), `9007199254740993`},
		{"number beyond uint64", json.Number("18446744073709551616"), `18446744073709552000`},
		{"duration", 1500 * time.Millisecond, `1500000000`},
		{"time", testTime.In(time.FixedZone("x", 3600)), `"2026-03-09T14:05:06.789000001Z"`},
		{"strings", []string{"a", ""}, `["a",""]`},
		{"string map", map[string]string{"b": "1", "a": "2"}, `{"a":"2","b":"1"}`},
		{"struct", point{3}, `{"x":3}`},
		{"struct slice", []point{{1}}, `[{"x":1}]`},
		// RFC 8785, section 3.2.3: the order of UTF-16 code units.
		{"keys", map[string]any{"\u20ac": 1, "\r": 2, "\ufb33": 3, "1": 4, "\U0001f600": 5, "\u0080": 6, "\u00f6": 7},
			"{\"\\r\":2,\"1\":4,\"\u0080\":6,\"ö\":7,\"€\":1,\"😀\":5,\"\ufb33\":3}"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b, err := appendValue(nil, tt.in, 1)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, string(b)); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
		})
	}
}

func TestEncodeRefuses(t *testing.T) {
	loop := map[string]any{}
	loop["self"] = loop
	deep := any("x")
	for range MaxDepth + 1 {
		deep = []any{deep}
	}
	tests := []struct {
		name   string
		change func(*Entry)
		field  string
	}{
		{"no id", func(e *Entry) { e.ID = "" }, "id"},
		{"lower-case id", func(e *Entry) { e.ID = strings.ToLower(e.ID) }, "id"},
		{"id overflow", func(e *Entry) { e.ID = "8" + e.ID[1:] }, "id"},
		{"id alphabet", func(e *Entry) { e.ID = e.ID[:25] + "U" }, "id"},
		{"no time", func(e *Entry) { e.Time = time.Time{} }, "time"},
		{"late time", func(e *Entry) { e.Time = time.Date(2262, 1, 1, 0, 0, 0, 0, time.UTC) }, "time"},
		{"no agent", func(e *Entry) { e.AgentID = "" }, "agent_id"},
		{"no action", func(e *Entry) { e.Action = "" }, "action"},
		{"result", func(e *Entry) { e.Result = "ok" }, "result"},
		{"long user", func(e *Entry) { e.UserID = strings.Repeat("u", MaxNameBytes+1) }, "user_id"},
		{"session not UTF-8", func(e *Entry) { e.SessionID = "\xff" }, "session_id"},
		{"trace case", func(e *Entry) { e.TraceID = strings.ToUpper(fullEntry().TraceID) }, "trace_id"},
		{"trace zero", func(e *Entry) { e.TraceID = strings.Repeat("0", 32) }, "trace_id"},
		{"span length", func(e *Entry) { e.SpanID = "00f067aa0ba902b" }, "span_id"},
		{"parent", func(e *Entry) { e.Parent = "x" }, "parent"},
		{"NaN", func(e *Entry) { e.Details = map[string]any{"n": math.NaN()} }, "details.n"},
		{"number", func(e *Entry) { e.Details = map[string]any{"n": []any{json.Number("01")}} }, "details.n[0]"},
		{"huge number", func(e *Entry) { e.Details = map[string]any{"n": json.Number("1e999")} }, "details.n"},
		{"text not UTF-8", func(e *Entry) { e.Metadata = map[string]any{"a": map[string]string{"b": "\xc0"}} }, "metadata.a.b"},
		{"key not UTF-8", func(e *Entry) { e.Details = map[string]any{"\xff": 1} }, "details"},
		{"channel", func(e *Entry) { e.Details = map[string]any{"c": make(chan int)} }, "details.c"},
		{"too long", func(e *Entry) { e.Details = map[string]any{"c": strings.Repeat("x", MaxLineBytes)} }, "entry"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			e := fullEntry()
			tt.change(&e)
			dst, err := EncodeLine([]byte("before"), e)
			var bad *EntryError
			if !errors.As(err, &bad) || bad.Field != tt.field {
				t.Errorf("EncodeLine = %v, want an EntryError for %s", err, tt.field)
			}
			if string(dst) != "before" {
				t.Errorf("EncodeLine changed dst to %q", dst)
			}
		})
	}
	for name, v := range map[string]any{"loop": loop, "deep": deep} {
		e := minimalEntry()
		e.Details = map[string]any{"v": v}
		var bad *EntryError
		if _, err := EncodeLine(nil, e); !errors.As(err, &bad) {
			t.Errorf("EncodeLine(%s) = %v, want an EntryError", name, err)
		}
	}
}

func TestDecodeLine(t *testing.T) {
	for _, e := range []Entry{fullEntry(), minimalEntry()} {
		line := encode(t, e)
		got, err := DecodeLine([]byte(line))
		if err != nil {
			t.Fatal(err)
		}
		if again := encode(t, got); again != line {
			t.Errorf("decoded and encoded:\n got %s\nwant %s", again, line)
		}
	}
}

func TestDecodeLineRefuses(t *testing.T) {
	good := encode(t, fullEntry())
	swap := func(old, new string) string {
		t.Helper()
		if strings.Count(good, old) == 0 {
			t.Fatalf("%q is not in the line", old)
		}
		return strings.Replace(good, old, new, 1)
	}
	tests := []struct{ name, line string }{
		{"empty", ""},
		{"not an object", "[]"},
		{"space", swap(`,"time"`, `, "time"`)},
		{"newline at the end", good + "\n"},
		{"trailing", good + "{}"},
		{"order", swap(`"agent_id":"planner","action":"tool.execute"`, `"action":"tool.execute","agent_id":"planner"`)},
		{"duplicate key", swap(`"tool":"search"`, `"tool":"search","tool":"search"`)},
		{"duplicate field", swap(`"severity":"high"`, `"severity":"high","severity":"high"`)},
		{"escaped key twice", swap(`"tool":"search"`, `"tool":"search","t\u006fol":"x"`)},
		{"unsorted keys", swap(`"in":12,"out":3`, `"out":3,"in":12`)},
		{"number form", swap(`2.5`, `2.50`)},
		{"exponent", swap(`2.5`, `25e-1`)},
		{"minus zero", swap(`"in":12`, `"in":-0`)},
		{"escape", swap(`search`, `s\u0065arch`)},
		{"slash escape", swap(`search`, `\/`)},
		{"raw control", swap(`search`, "\x01")},
		{"bad UTF-8", swap(`search`, "\xff")},
		{"lone surrogate", swap(`search`, `\ud800`)},
		{"time zone", swap(`789000001Z`, `789000001+00:00`)},
		{"time digits", swap(`.789000001Z`, `.7890000010Z`)},
		{"unknown field", swap(`"severity"`, `"severitx"`)},
		{"index", swap(`{"id"`, `{"index":1,"id"`)},
		{"empty metadata", swap(`{"region":"eu"}`, `{}`)},
		{"empty user", swap(`"u-7"`, `""`)},
		{"no details", strings.Replace(encode(t, minimalEntry()), `,"details":{}`, ``, 1)},
		{"cut", good[:len(good)-1]},
		{"too long", swap(`search`, strings.Repeat("x", MaxLineBytes))},
		{"deep", swap(`"search"`, strings.Repeat("[", 10_000))},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var bad *EntryError
			if e, err := DecodeLine([]byte(tt.line)); !errors.As(err, &bad) {
				t.Errorf("DecodeLine = %v, %v; want an EntryError", e, err)
			}
		})
	}
}

func TestEntryJSON(t *testing.T) {
	e := fullEntry()
	e.Index = 41
	b, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	if want := `{"index":41,` + encode(t, e)[1:]; string(b) != want {
		t.Errorf("MarshalJSON = %s, want %s", b, want)
	}
	var back Entry
	if err := json.Unmarshal(append([]byte(" \n"), b...), &back); err != nil {
		t.Fatal(err)
	}
	again, err := json.Marshal(back)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(again, b) {
		t.Errorf("round trip: got %s, want %s", again, b)
	}
	if err := json.Unmarshal([]byte(`{"id":"x"}`), &back); err == nil {
		t.Error("UnmarshalJSON took an entry without its fields")
	}
}

// TestGoldenLines holds the encoder to lines that docs/ledger-format.md shows.
func TestGoldenLines(t *testing.T) {
	data, err := os.ReadFile("testdata/lines.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	for line := range bytes.Lines(data) {
		line = bytes.TrimSuffix(line, []byte("\n"))
		e, err := DecodeLine(line)
		if err != nil {
			t.Errorf("%s: %v", line, err)
			continue
		}
		if got := encode(t, e); got != string(line) {
			t.Errorf("got  %s\nwant %s", got, line)
		}
	}
}

func FuzzDecodeLine(f *testing.F) {
	for _, e := range []Entry{fullEntry(), minimalEntry()} {
		b, err := EncodeLine(nil, e)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add([]byte(`{"id":"01HZY3V9T5XKQ2M4N6P8R0S1T2","time":"2026-03-09T14:05:06.789000001Z","agent_id":"a","action":"x","result":"success","details":{"a":[1e-7,-5,1e+21,"\u0001"],"é":{}}}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		e, err := DecodeLine(line)
		if err != nil {
			var bad *EntryError
			if !errors.As(err, &bad) {
				t.Fatalf("error of another type: %v", err)
			}
			return
		}
		again, err := EncodeLine(nil, e)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(again, line) {
			t.Fatalf("two spellings of one entry:\n in %s\nout %s", line, again)
		}
		if !json.Valid(line) {
			t.Fatalf("not JSON for others: %s", line)
		}
	})
}

// benchEntry is about 550 bytes long when encoded.
func benchEntry() Entry {
	e := fullEntry()
	e.Details = map[string]any{
		"tool": "web.search", "duration_ms": 184.25, "attempt": 2, "cached": false,
		"input":  "weather in Oslo on the second weekend of March",
		"output": "4 results, the first of which answers the question in full",
	}
	return e
}

func BenchmarkEncodeLine(b *testing.B) {
	e := benchEntry()
	buf, err := EncodeLine(nil, e)
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(buf)))
	b.ReportAllocs()
	for b.Loop() {
		if buf, err = EncodeLine(buf[:0], e); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkEncodeLineStd is the baseline: encoding/json on the same fields.
func BenchmarkEncodeLineStd(b *testing.B) {
	e := benchEntry()
	type plain struct {
		ID                       string    `json:"id"`
		Time                     time.Time `json:"time"`
		AgentID, Action          string
		Result                   Result         `json:"result"`
		Details                  map[string]any `json:"details"`
		UserID, SessionID, RunID string
		TraceID, SpanID, Parent  string
		Severity                 string
		Metadata                 map[string]any
	}
	p := plain{e.ID, e.Time, e.AgentID, e.Action, e.Result, e.Details, e.UserID, e.SessionID, e.RunID, e.TraceID, e.SpanID, e.Parent, e.Severity, e.Metadata}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := json.Marshal(p); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDecodeLine(b *testing.B) {
	line, err := EncodeLine(nil, benchEntry())
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := DecodeLine(line); err != nil {
			b.Fatal(err)
		}
	}
}
