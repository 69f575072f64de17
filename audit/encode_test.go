package audit

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

// plainLine is EncodeLine for entries whose fields but names, details and
// metadata are right: by the standard library and a byte at a time.
func plainLine(e Entry) (_ []byte, err error) {
	for _, f := range namesOf(&e) {
		switch {
		case len(*f.value) > MaxNameBytes:
			return nil, &EntryError{Field: f.name, Reason: fmt.Sprintf("%d bytes, at most %d", len(*f.value), MaxNameBytes)}
		case !utf8.ValidString(*f.value):
			return nil, &EntryError{Field: f.name, Reason: "not UTF-8"}
		}
	}
	var b bytes.Buffer
	field := func(name, value string) {
		if value != "" {
			fmt.Fprintf(&b, `,"%s":%s`, name, plainQuote(value))
		}
	}
	fmt.Fprintf(&b, `{"id":"%s","time":"%s"`, e.ID, e.Time.UTC().Format("2006-01-02T15:04:05.000000000Z"))
	field("agent_id", e.AgentID)
	field("action", e.Action)
	field("result", string(e.Result))
	b.WriteString(`,"details":`)
	if err := plainValue(&b, e.Details, "details", 1); err != nil {
		return nil, err
	}
	field("user_id", e.UserID)
	field("subject", e.Subject)
	field("session_id", e.SessionID)
	field("run_id", e.RunID)
	field("trace_id", e.TraceID)
	field("span_id", e.SpanID)
	field("parent", e.Parent)
	field("severity", e.Severity)
	if len(e.Metadata) > 0 {
		b.WriteString(`,"metadata":`)
		if err := plainValue(&b, e.Metadata, "metadata", 1); err != nil {
			return nil, err
		}
	}
	b.WriteByte('}')
	if b.Len() > MaxLineBytes {
		return nil, tooLong(b.Len())
	}
	return b.Bytes(), nil
}

type nameOf struct {
	name  string
	value *string
}

func namesOf(e *Entry) []nameOf {
	return []nameOf{
		{"agent_id", &e.AgentID}, {"action", &e.Action}, {"user_id", &e.UserID},
		{"subject", &e.Subject}, {"session_id", &e.SessionID}, {"run_id", &e.RunID}, {"severity", &e.Severity},
	}
}

func plainValue(b *bytes.Buffer, v any, path string, depth int) error {
	refuse := func(reason string) error { return &EntryError{Field: path, Reason: reason} }
	switch v := v.(type) {
	case map[string]any:
		if depth > MaxDepth {
			return refuse(tooDeep().(*EntryError).Reason)
		}
		return plainObject(b, v, path, depth)
	case []any:
		if depth > MaxDepth {
			return refuse(tooDeep().(*EntryError).Reason)
		}
		b.WriteByte('[')
		for i, item := range v {
			if i > 0 {
				b.WriteByte(',')
			}
			if err := plainValue(b, item, fmt.Sprintf("%s[%d]", path, i), depth+1); err != nil {
				return err
			}
		}
		b.WriteByte(']')
	case string:
		if !utf8.ValidString(v) {
			return refuse("not UTF-8")
		}
		b.WriteString(plainQuote(v))
	case float64:
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return refuse("not a finite number")
		}
		b.WriteString(plainFloat(v))
	case json.Number:
		if !json.Valid([]byte(v)) {
			return refuse("not a JSON number")
		}
		text, err := plainNumber(string(v))
		if err != nil {
			return refuse("number too large")
		}
		b.WriteString(text)
	case time.Time:
		b.WriteString(v.UTC().Format(`"2006-01-02T15:04:05.000000000Z"`))
	default: // nil, bool and integers
		text, err := json.Marshal(v)
		if err != nil {
			return err
		}
		b.Write(text)
	}
	return nil
}

func plainObject(b *bytes.Buffer, m map[string]any, path string, depth int) error {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(a, b string) int {
		if utf8.ValidString(a) && utf8.ValidString(b) {
			return slices.Compare(utf16.Encode([]rune(a)), utf16.Encode([]rune(b)))
		}
		return compareUTF16(a, b)
	})
	b.WriteByte('{')
	for i, k := range keys {
		if i > 0 {
			b.WriteByte(',')
		}
		if !utf8.ValidString(k) {
			return &EntryError{Field: path, Reason: "key is not UTF-8"}
		}
		b.WriteString(plainQuote(k) + ":")
		if err := plainValue(b, m[k], path+"."+k, depth+1); err != nil {
			return err
		}
	}
	b.WriteByte('}')
	return nil
}

var shortEscapes = map[byte]string{'"': `\"`, '\\': `\\`, '\b': `\b`, '\t': `\t`, '\n': `\n`, '\f': `\f`, '\r': `\r`}

func plainQuote(s string) string {
	out := []byte{'"'}
	for i := range len(s) {
		switch short, c := shortEscapes[s[i]], s[i]; {
		case short != "":
			out = append(out, short...)
		case c < ' ':
			out = fmt.Appendf(out, `\u%04x`, c)
		default:
			out = append(out, c)
		}
	}
	return string(append(out, '"'))
}

// plainFloat tries precision after precision for the fewest digits.
func plainFloat(f float64) string {
	if f == 0 {
		return "0"
	}
	form := byte('f')
	if abs := math.Abs(f); abs < 1e-6 || abs >= 1e21 {
		form = 'e'
	}
	for digits := 1; ; digits++ {
		shorter := strconv.FormatFloat(f, 'e', digits-1, 64)
		back, err := strconv.ParseFloat(shorter, 64)
		if err != nil || back != f {
			continue
		}
		mantissa, exponent, _ := strings.Cut(shorter, "e")
		n, _ := strconv.Atoi(exponent)
		if form == 'e' {
			return fmt.Sprintf("%se%+d", mantissa, n)
		}
		if decimals := digits - 1 - n; decimals > 0 {
			return strconv.FormatFloat(f, 'f', decimals, 64)
		}
		sign, mantissa := strings.HasPrefix(mantissa, "-"), strings.NewReplacer(".", "", "-", "").Replace(mantissa)
		mantissa += strings.Repeat("0", n-digits+1)
		if sign {
			return "-" + mantissa
		}
		return mantissa
	}
}

func plainNumber(s string) (string, error) {
	if !strings.ContainsAny(s, ".eE") {
		if n, err := strconv.ParseInt(s, 10, 64); err == nil {
			return strconv.FormatInt(n, 10), nil
		}
		if n, err := strconv.ParseUint(s, 10, 64); err == nil {
			return strconv.FormatUint(n, 10), nil
		}
	}
	f, err := strconv.ParseFloat(s, 64)
	if err != nil {
		return "", err
	}
	return plainFloat(f), nil
}

// maker makes entries of what an encoder may get wrong, the same for the same
// numbers.
type maker struct {
	*rand.Rand
	text string // one of the texts that it mixes in
}

func (m maker) one(of ...string) string { return of[m.IntN(len(of))] }

// words is a text of about n pieces.
func (m maker) words(n int) string {
	var b strings.Builder
	for range m.IntN(n + 1) {
		b.WriteString(m.one("the second weekend of March ", "a", "bc ", "def", "1234567", "12345678", "\x7f~!#[]",
			"\"", "\\", "\n", "\t", "\b\f\r", "\x00", "\x1f", " ", "é", "værsågod", "\u2028", "\u2029", "日本", "\U0001f600",
			"\ufffd", "\uffff", "\ue000", "{\"k\":[1]}", "<&>", strings.Repeat("long ", 12), m.text))
		if m.IntN(400) == 0 {
			b.WriteString(m.one("\xff", "\xc0\x80", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xe2\x80", "\x80"))
		}
	}
	return b.String()
}

func (m maker) name() string {
	if m.IntN(300) == 0 {
		return strings.Repeat("n", MaxNameBytes+m.IntN(2))
	}
	return m.words(4)
}

func (m maker) key() string {
	if m.IntN(2) == 0 {
		return m.words(3)
	}
	return m.one("", "input", "input_tokens", "input_cost", "in", "id", "duration_ms", "duration", "duration_s",
		"duration\x00", "tool", "output", "a", "b", "ab", "abc", "abcd", "abcde", "abcdefg", "abcdefgh", "abcdefghi", "é", "\ue000z", "\U00010000")
}

func (m maker) float() float64 {
	switch m.IntN(5) {
	case 0:
		return math.Float64frombits(m.Uint64())
	case 1:
		return float64(m.Int64()>>m.IntN(64)) / 1e6
	case 2:
		return (m.Float64() - 0.5) * math.Pow(10, float64(m.IntN(60)-30))
	case 3:
		f := float64(m.IntN(1e9)) / math.Pow(10, float64(m.IntN(9)))
		return math.Nextafter(f, float64(m.IntN(3)-1)*1e300)
	}
	return []float64{0, math.Copysign(0, -1), 1, -1, 1e-6, 1e-7, 999999999.999999, 1e9, 1e15, 1e20, 1e21, 1 << 53,
		0.1, 0.3, 184.25, 5e-324, math.MaxFloat64, math.NaN(), math.Inf(-1)}[m.IntN(19)]
}

func (m maker) value(depth int) any {
	switch m.IntN(16) {
	case 0:
		return nil
	case 1:
		return m.IntN(2) == 0
	case 2, 3:
		return m.Int64() >> m.IntN(64)
	case 4:
		return m.Uint64() >> m.IntN(64)
	case 5:
		return m.IntN(300) - 150
	case 6, 7:
		if f := m.float(); !math.IsNaN(f) && !math.IsInf(f, 0) || m.IntN(20) == 0 {
			return f
		}
		return 0.5
	case 8:
		if m.IntN(40) == 0 {
			return json.Number(m.one("01", "+1", "", "1e999", ".5", "-"))
		}
		return json.Number(m.one("0", "-0", "12", "-9223372036854775808", "9223372036854775808", "18446744073709551615",
			"18446744073709551616", "1.50e1", "1E-7", "-0.0", "123456789012345678901234567890", "0.1000"))
	case 9:
		return time.Unix(m.Int64N(253402300800+62135596800)-62135596800, m.Int64N(1e9)).In(time.FixedZone("", 3600))
	case 10:
		if depth < 4 {
			list := make([]any, m.IntN(4))
			for i := range list {
				list[i] = m.value(depth + 1)
			}
			return list
		}
	case 11, 12:
		if depth < 4 {
			return m.object(depth + 1)
		}
	}
	return m.words(6)
}

func (m maker) object(depth int) map[string]any {
	out := map[string]any{}
	size := m.IntN(fewMembers + 4)
	if m.IntN(50) == 0 {
		size *= 10
	}
	for range size {
		out[m.key()] = m.value(depth)
	}
	return out
}

func (m maker) entry() Entry {
	e := fullEntry()
	e.Time = time.Unix(m.Int64N(maxSeconds), m.Int64N(1e9))
	e.Result = []Result{Success, Failure, Denied}[m.IntN(3)]
	for _, f := range namesOf(&e) {
		*f.value = m.name()
	}
	e.AgentID, e.Action = "a"+e.AgentID, "x"+e.Action
	if m.IntN(2) == 0 {
		e.TraceID, e.SpanID, e.Parent = fmt.Sprintf("%016x%016x", m.Uint64()|1, m.Uint64()), "", ""
	}
	e.Details, e.Metadata = m.object(0), m.object(0)
	if m.IntN(100) == 0 {
		e.Details["long"] = strings.Repeat(m.one("x", "é", "\n"), MaxLineBytes/2-m.IntN(3000))
	}
	return e
}

// checkLine compares what EncodeLine and plainLine make of an entry.
func checkLine(t *testing.T, e Entry) (refused bool) {
	t.Helper()
	want, wantErr := plainLine(e)
	got, err := EncodeLine([]byte("before"), e)
	if wantErr != nil {
		var bad *EntryError
		if !errors.As(err, &bad) || *bad != *wantErr.(*EntryError) {
			t.Fatalf("EncodeLine = %v, want %v", err, wantErr)
		}
		return true
	}
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff("before"+string(want), string(got)); diff != "" {
		t.Fatalf("EncodeLine: -want +got\n%s", diff)
	}
	if short := make([]byte, 0, len(want)); cap(short) == len(want) {
		if got, err = EncodeLine(short, e); err != nil || &got[0] != &short[:1][0] {
			t.Fatalf("EncodeLine, %v, did not use the room there is", err)
		}
	}
	return false
}

// TestEncodeLineAsPlainly holds the encoder to what the standard library makes
// of many entries, and to the same errors.
func TestEncodeLineAsPlainly(t *testing.T) {
	refused, entries := 0, 4000
	if raced {
		entries = 400
	}
	for i := range uint64(entries) {
		if checkLine(t, maker{rand.New(rand.NewPCG(i, 1)), "x"}.entry()) {
			refused++
		}
	}
	if refused == 0 || refused > entries/2 {
		t.Errorf("%d of %d entries were refused", refused, entries)
	}
}

func FuzzEncodeLine(f *testing.F) {
	for i, text := range []string{"", "a \"word\"\n", "日本\u2028", "\xff", "\x00", "0123456789abcdef"} {
		f.Add(uint64(i), text)
	}
	f.Fuzz(func(t *testing.T, seed uint64, text string) {
		checkLine(t, maker{rand.New(rand.NewPCG(seed, 2)), text}.entry())
	})
}

// TestQuoteEverywhere puts every byte, and what is not UTF-8, at every place of
// texts of many lengths.
func TestQuoteEverywhere(t *testing.T) {
	pieces := []string{"é", "\u2028", "\U0001f600", "\xc3", "\xe2\x80", "\xed\xa0\x80", "\"\"", "\n\x00", "\"é"}
	for c := range 256 {
		pieces = append(pieces, string([]byte{byte(c)}))
	}
	for _, piece := range pieces {
		for size := range 27 {
			if raced && size%5 != 0 {
				continue
			}
			for at := range size + 1 {
				s := strings.Repeat("x", at) + piece + strings.Repeat("~", size-at)
				b, valid := quote([]byte("b"), s)
				if valid != utf8.ValidString(s) {
					t.Fatalf("quote(%q) says %v of its being UTF-8", s, valid)
				}
				if want := "b" + plainQuote(s); valid && string(b) != want {
					t.Fatalf("quote(%q) = %s, want %s", s, b, want)
				}
			}
		}
	}
}

func TestHexIDEverywhere(t *testing.T) {
	const good = "4bf92f3577b34da6a3ce929d0e0e4736"
	for c := range 256 {
		for at := range len(good) {
			s := good[:at] + string([]byte{byte(c)}) + good[at+1:]
			if want := strings.IndexByte("0123456789abcdef", byte(c)) >= 0; isHexID(s, 32) != want {
				t.Errorf("isHexID(%q) = %v, want %v", s, !want, want)
			}
		}
	}
	for at := range 16 {
		if s := "0000000000000000"; isHexID(s, 16) || !isHexID(s[:at]+"1"+s[at+1:], 16) {
			t.Errorf("zero, or a one at %d, is taken for the other", at)
		}
	}
}

// TestOrderOfKeys compares orderHeads, where it decides, with the order of
// whole keys.
func TestOrderOfKeys(t *testing.T) {
	r := maker{rand.New(rand.NewPCG(3, 4)), ""}
	decided := 0
	for range 20_000 {
		keys := make([]string, r.IntN(fewMembers+1))
		heads := make([]uint64, len(keys))
		for i := range keys {
			keys[i] = r.key()
			heads[i] = keyHead(keys[i])
		}
		order, ok := orderHeads(heads)
		if !ok {
			continue
		}
		decided++
		got := make([]string, len(keys))
		for i := range got {
			got[i] = keys[order>>(i*orderBits)%fewMembers]
		}
		want := slices.SortedFunc(slices.Values(keys), compareUTF16)
		if !slices.Equal(got, want) {
			t.Fatalf("%q, want %q", got, want)
		}
	}
	if decided == 0 {
		t.Error("orderHeads decided nothing")
	}
}

// TestEncodeLineAllocates checks that entries of plain values need no memory,
// whatever the number of their members and the length of their texts.
func TestEncodeLineAllocates(t *testing.T) {
	e := benchEntry()
	e.Details["nested"] = map[string]any{"text": "two\nlines, \"quoted\", and é", "number": json.Number("12.5")}
	for range 2 {
		buf := make([]byte, 0, MaxLineBytes)
		if n := testing.AllocsPerRun(100, func() {
			if _, err := EncodeLine(buf, e); err != nil {
				t.Fatal(err)
			}
		}); n != 0 && !raced {
			t.Errorf("EncodeLine of %d details allocates %v times", len(e.Details), n)
		}
		for i := range 2 * fewMembers {
			e.Details[fmt.Sprintf("key %d", i)] = "value"
		}
	}
}

// mixedEntries are of the kinds that agents write: prompts, code, other
// languages, JSON in text.
func mixedEntries() []Entry {
	texts := []map[string]any{
		{"tool": "fs.write", "path": "/srv/app/main.go", "bytes": 1832, "content": "package main\n\nfunc main() {\n\tfmt.Println(\"hello\")\n}\n"},
		{"model": "large", "input_tokens": 1204, "output_tokens": 311, "cost_usd": 0.00847, "finish": "stop",
			"prompt": "Hva er været i Tromsø på lørdag, og når går solen ned? Svar kort, på norsk.", "stream": true},
		{"tool": "db.query", "rows": 17, "duration_ms": 3.417, "args": map[string]any{"sql": "SELECT name FROM users WHERE id = $1", "params": []any{7}}},
		{"tool": "http.get", "status": 200, "body": `{"items":[{"id":1,"name":"first"},{"id":2,"name":"second"}],"next":null}`},
		{"text": "東京の天気は晴れです。最高気温は二十五度の見込みです。", "lang": "ja", "score": 0.9312847561},
		{"decision": "denied", "policy": "spend-limit", "limit": 50.0, "wanted": 75.5, "reason": "over the day's limit of the team"},
		nil,
	}
	var out []Entry
	for _, details := range texts {
		e := fullEntry()
		e.Details = details
		out = append(out, e)
	}
	return out
}

// BenchmarkEncodeLineMixed is per entry, of several kinds in turn.
func BenchmarkEncodeLineMixed(b *testing.B) {
	entries := mixedEntries()
	buf := make([]byte, 0, 4096)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if _, err := EncodeLine(buf, entries[i%len(entries)]); err != nil {
			b.Fatal(err)
		}
	}
}
