package audit

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/oklog/ulid/v2"
)

// Buffers and key lists are reused: encoding an entry of plain values
// allocates nothing but what dst lacks.
var (
	linePool = sync.Pool{New: func() any { b := make([]byte, 0, 1024); return &b }}
	keyPool  = sync.Pool{New: func() any { k := make([]string, 0, 16); return &k }}
)

// EncodeLine appends the stored line of e to dst, without newline, and returns
// the longer slice; on an error, an [*EntryError], dst as it was. Nothing is
// filled in: ID and Time must be set.
//
// The line is one JSON object without spaces: id, time, agent_id, action,
// result, details, and when set user_id, subject, session_id, run_id, trace_id, span_id,
// parent, severity, metadata, in this order. Inside details and metadata keys
// are sorted and strings escaped as RFC 8785 says. Integers are written in
// full, other numbers in the shortest form of RFC 8785 (ECMAScript). Times are
// RFC 3339 in UTC with nine decimals.
func EncodeLine(dst []byte, e Entry) ([]byte, error) { return encodeLine(dst, &e) }

func encodeLine(dst []byte, e *Entry) ([]byte, error) {
	if e.Withheld != (Withheld{}) {
		return dst, &EntryError{Field: e.Withheld.field(), Reason: "withheld when the entry was read: it cannot be recorded"}
	}
	return appendEntry(dst, e)
}

// appendEntry is EncodeLine for entries whose user may be withheld, which no
// stored line has.
func appendEntry(dst []byte, e *Entry) ([]byte, error) {
	if err := e.check(); err != nil {
		return dst, err
	}
	b := append(dst, `{"id":"`...)
	b = append(b, e.ID...)
	b = append(b, `","time":"`...)
	b = appendTime(b, e.Time)
	b = append(b, '"')
	b = appendField(b, `,"agent_id":`, e.AgentID)
	b = appendField(b, `,"action":`, e.Action)
	b = append(b, `,"result":"`...)
	b = append(b, e.Result...)
	b = append(b, `","details":`...)
	b, err := appendMap(b, e.Details, 1)
	if err != nil {
		return dst, inField("details", err)
	}
	b = appendField(b, `,"user_id":`, e.UserID)
	if e.Withheld.UserID != Shown {
		b = append(append(b, `,"user_id":`...), e.Withheld.UserID.mark()...)
	}
	b = appendField(b, `,"subject":`, e.Subject)
	b = appendField(b, `,"session_id":`, e.SessionID)
	b = appendField(b, `,"run_id":`, e.RunID)
	b = appendField(b, `,"trace_id":`, e.TraceID)
	b = appendField(b, `,"span_id":`, e.SpanID)
	b = appendField(b, `,"parent":`, e.Parent)
	b = appendField(b, `,"severity":`, e.Severity)
	if len(e.Metadata) > 0 {
		b = append(b, `,"metadata":`...)
		if b, err = appendMap(b, e.Metadata, 1); err != nil {
			return dst, inField("metadata", err)
		}
	}
	b = append(b, '}')
	if n := len(b) - len(dst); n > MaxLineBytes {
		return dst, tooLong(n)
	}
	return b, nil
}

// The years that an int64 of nanoseconds since 1970 can hold in full.
var (
	minTime = time.Unix(0, 0)
	maxTime = time.Date(2262, 1, 1, 0, 0, 0, 0, time.UTC)
)

// check validates every field but the two maps.
func (e *Entry) check() error {
	switch {
	case !isULID(e.ID):
		return &EntryError{Field: "id", Reason: "not a ULID in upper case"}
	case e.Time.Before(minTime) || !e.Time.Before(maxTime):
		return &EntryError{Field: "time", Reason: "not between 1970 and 2261"}
	case e.AgentID == "":
		return &EntryError{Field: "agent_id", Reason: "missing"}
	case e.Action == "":
		return &EntryError{Field: "action", Reason: "missing"}
	case e.Result != Success && e.Result != Failure && e.Result != Denied:
		return &EntryError{Field: "result", Reason: "not success, failure or denied"}
	case e.TraceID != "" && !isHexID(e.TraceID, 32):
		return &EntryError{Field: "trace_id", Reason: "not 32 digits of lower-case hex, or zero"}
	case e.SpanID != "" && !isHexID(e.SpanID, 16):
		return &EntryError{Field: "span_id", Reason: "not 16 digits of lower-case hex, or zero"}
	case e.Parent != "" && !isULID(e.Parent):
		return &EntryError{Field: "parent", Reason: "not a ULID in upper case"}
	}
	for _, f := range [...]struct{ name, value string }{
		{"agent_id", e.AgentID}, {"action", e.Action}, {"user_id", e.UserID},
		{"subject", e.Subject}, {"session_id", e.SessionID}, {"run_id", e.RunID}, {"severity", e.Severity},
	} {
		if len(f.value) > MaxNameBytes {
			return &EntryError{Field: f.name, Reason: fmt.Sprintf("%d bytes, at most %d", len(f.value), MaxNameBytes)}
		}
		if !utf8.ValidString(f.value) {
			return &EntryError{Field: f.name, Reason: "not UTF-8"}
		}
	}
	return nil
}

// isULID accepts the one spelling of a ULID: upper case, and no overflow.
func isULID(s string) bool {
	if len(s) != ulid.EncodedSize || s[0] > '7' {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if c-'0' > 9 && (c < 'A' || c > 'Z' || c == 'I' || c == 'L' || c == 'O' || c == 'U') {
			return false
		}
	}
	return true
}

func isHexID(s string, digits int) bool {
	if len(s) != digits {
		return false
	}
	var seen byte // stays '0' if all digits are
	for i := range len(s) {
		c := s[i]
		if c-'0' > 9 && c-'a' > 5 {
			return false
		}
		seen |= c
	}
	return seen != '0'
}

// appendField appends name and value, or nothing if value is empty. The value
// was checked to be UTF-8.
func appendField(b []byte, name, value string) []byte {
	if value == "" {
		return b
	}
	return appendString(append(b, name...), value)
}

// appendTime is RFC 3339 in UTC with nine decimals: 30 bytes, so that texts
// sort as times do.
func appendTime(b []byte, t time.Time) []byte {
	t = t.UTC()
	year, month, day := t.Date()
	hour, minute, sec := t.Clock()
	b = append(b, byte('0'+year/1000), byte('0'+year/100%10), byte('0'+year/10%10), byte('0'+year%10), '-')
	b = append(append2(b, int(month)), '-')
	b = append(append2(b, day), 'T')
	b = append(append2(b, hour), ':')
	b = append(append2(b, minute), ':')
	b = append(append2(b, sec), '.')
	ns := t.Nanosecond()
	for div := 100_000_000; div > 0; div /= 10 {
		b = append(b, byte('0'+ns/div%10))
	}
	return append(b, 'Z')
}

func append2(b []byte, n int) []byte { return append(b, byte('0'+n/10), byte('0'+n%10)) }

// appendMap and appendValue write a JSON value. Their errors are *EntryError
// with the path below the value in Field, which inField completes.
func appendMap(b []byte, m map[string]any, depth int) ([]byte, error) {
	return appendObject(b, m, depth, func(b []byte, v any) ([]byte, error) { return appendValue(b, v, depth) })
}

func appendObject[V any](b []byte, m map[string]V, depth int, value func([]byte, V) ([]byte, error)) ([]byte, error) {
	if depth > MaxDepth {
		return b, &EntryError{Reason: fmt.Sprintf("nested more than %d deep", MaxDepth)}
	}
	keys := keyPool.Get().(*[]string)
	defer func() {
		clear(*keys) // the pool must not keep a caller's strings alive
		*keys = (*keys)[:0]
		keyPool.Put(keys)
	}()
	for k := range m {
		*keys = append(*keys, k)
	}
	slices.SortFunc(*keys, compareUTF16)
	b = append(b, '{')
	for i, k := range *keys {
		if i > 0 {
			b = append(b, ',')
		}
		var err error
		if b, err = appendText(b, k); err != nil {
			return b, &EntryError{Reason: "key is not UTF-8"}
		}
		b = append(b, ':')
		if b, err = value(b, m[k]); err != nil {
			return b, inField("."+k, err)
		}
	}
	return append(b, '}'), nil
}

func appendValue(b []byte, v any, depth int) ([]byte, error) {
	switch v := v.(type) {
	case nil:
		return append(b, "null"...), nil
	case bool:
		return strconv.AppendBool(b, v), nil
	case string:
		return appendText(b, v)
	case int:
		return strconv.AppendInt(b, int64(v), 10), nil
	case int64:
		return strconv.AppendInt(b, v, 10), nil
	case int32:
		return strconv.AppendInt(b, int64(v), 10), nil
	case int16:
		return strconv.AppendInt(b, int64(v), 10), nil
	case int8:
		return strconv.AppendInt(b, int64(v), 10), nil
	case uint:
		return strconv.AppendUint(b, uint64(v), 10), nil
	case uint64:
		return strconv.AppendUint(b, v, 10), nil
	case uint32:
		return strconv.AppendUint(b, uint64(v), 10), nil
	case uint16:
		return strconv.AppendUint(b, uint64(v), 10), nil
	case uint8:
		return strconv.AppendUint(b, uint64(v), 10), nil
	case float64:
		return appendFloat(b, v)
	case float32:
		return appendFloat(b, float64(v))
	case json.Number:
		return appendNumber(b, string(v))
	case time.Time:
		if year := v.UTC().Year(); year < 0 || year > 9999 {
			return b, &EntryError{Reason: "time outside the years 0 to 9999"}
		}
		b = appendTime(append(b, '"'), v)
		return append(b, '"'), nil
	case time.Duration:
		return strconv.AppendInt(b, int64(v), 10), nil
	case map[string]any:
		return appendMap(b, v, depth+1)
	case map[string]string:
		return appendObject(b, v, depth+1, appendText)
	case []any:
		return appendArray(b, v, depth+1, func(b []byte, v any) ([]byte, error) { return appendValue(b, v, depth+1) })
	case []string:
		return appendArray(b, v, depth+1, appendText)
	default:
		return appendForeign(b, v, depth)
	}
}

func appendArray[V any](b []byte, vs []V, depth int, value func([]byte, V) ([]byte, error)) ([]byte, error) {
	if depth > MaxDepth {
		return b, &EntryError{Reason: fmt.Sprintf("nested more than %d deep", MaxDepth)}
	}
	b = append(b, '[')
	for i, v := range vs {
		if i > 0 {
			b = append(b, ',')
		}
		var err error
		if b, err = value(b, v); err != nil {
			return b, inField(fmt.Sprintf("[%d]", i), err)
		}
	}
	return append(b, ']'), nil
}

// appendForeign encodes a type that the switch above does not know: what
// encoding/json makes of it, brought into canonical form.
func appendForeign(b []byte, v any, depth int) ([]byte, error) {
	raw, err := json.Marshal(v)
	if err != nil {
		return b, &EntryError{Reason: fmt.Sprintf("%T cannot be written as JSON", v)}
	}
	parsed, err := parseJSON(raw)
	if err != nil {
		return b, err
	}
	return appendValue(b, parsed, depth)
}

func inField(path string, err error) error {
	e, ok := err.(*EntryError)
	if !ok {
		return err
	}
	return &EntryError{Field: path + e.Field, Reason: e.Reason}
}

func appendText(b []byte, s string) ([]byte, error) {
	b, ascii := quote(b, s)
	if !ascii && !utf8.ValidString(s) {
		return b, &EntryError{Reason: "not UTF-8"}
	}
	return b, nil
}

// appendString is quote for text that is known to be UTF-8.
func appendString(b []byte, s string) []byte {
	b, _ = quote(b, s)
	return b
}

const hexDigits = "0123456789abcdef"

// What quote has to look at: bytes that JSON escapes, and those beyond ASCII.
const (
	escaped = 1 << iota
	beyondASCII
)

var byteClass = func() (t [256]uint8) {
	for c := range t {
		switch {
		case c < ' ', c == '"', c == '\\':
			t[c] = escaped
		case c >= utf8.RuneSelf:
			t[c] = beyondASCII
		}
	}
	return t
}()

// quote appends s as RFC 8785, section 3.2.2.2, says: two-character escapes
// where JSON has them, \u00xx for other control characters, the rest as it is.
// It reports whether s is all ASCII.
func quote(b []byte, s string) (_ []byte, ascii bool) {
	b = append(b, '"')
	start, seen := 0, uint8(0)
	for i := 0; i < len(s); i++ {
		class := byteClass[s[i]]
		seen |= class
		if class&escaped != 0 {
			b = append(b, s[start:i]...)
			b = appendEscape(b, s[i])
			start = i + 1
		}
	}
	return append(append(b, s[start:]...), '"'), seen&beyondASCII == 0
}

func appendEscape(b []byte, c byte) []byte {
	switch c {
	case '"', '\\':
		return append(b, '\\', c)
	case '\b':
		return append(b, '\\', 'b')
	case '\t':
		return append(b, '\\', 't')
	case '\n':
		return append(b, '\\', 'n')
	case '\f':
		return append(b, '\\', 'f')
	case '\r':
		return append(b, '\\', 'r')
	}
	return append(b, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
}

// compareUTF16 orders keys by UTF-16 code units, as RFC 8785 asks. That is the
// order of UTF-8 bytes, except that U+E000 to U+FFFF (lead bytes EE and EF)
// come after everything beyond them, whose surrogates start with D8 to DB.
func compareUTF16(a, b string) int {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return cmp.Compare(utf16Rank(a[i]), utf16Rank(b[i]))
		}
	}
	return cmp.Compare(len(a), len(b))
}

func utf16Rank(c byte) byte {
	if c == 0xEE || c == 0xEF {
		return c + 0x10
	}
	return c
}

// appendNumber writes a number given as text, in the same form as a Go value
// of the same worth.
func appendNumber(b []byte, s string) ([]byte, error) {
	if !isNumber(s) {
		return b, &EntryError{Reason: "not a JSON number"}
	}
	if !strings.ContainsAny(s, ".eE") {
		if n, err := strconv.ParseInt(s, 10, 64); err == nil {
			return strconv.AppendInt(b, n, 10), nil
		}
		if n, err := strconv.ParseUint(s, 10, 64); err == nil {
			return strconv.AppendUint(b, n, 10), nil
		}
	}
	f, err := strconv.ParseFloat(s, 64)
	if err != nil {
		return b, &EntryError{Reason: "number too large"}
	}
	return appendFloat(b, f)
}
