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

// Buffers and lists of members are reused: encoding an entry of plain values
// allocates nothing but what dst lacks.
var linePool = sync.Pool{New: func() any { b := make([]byte, 0, 1024); return &b }}

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
	if isName(e.AgentID) && isName(e.Action) && isName(e.UserID) && isName(e.Subject) &&
		isName(e.SessionID) && isName(e.RunID) && isName(e.Severity) {
		return nil
	}
	return e.badName()
}

func isName(s string) bool { return len(s) <= MaxNameBytes && (isPlain(s) || utf8.ValidString(s)) }

// badName says which of the names is none.
func (e *Entry) badName() error {
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
		if !ulidDigit[s[i]] {
			return false
		}
	}
	return true
}

var ulidDigit = func() (t [256]bool) {
	for _, c := range ulid.Encoding {
		t[c] = true
	}
	return t
}()

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
	sec, ns := t.Unix(), t.Nanosecond()
	year, month, day := t.UTC().Date()
	second := int((sec%daySeconds + daySeconds) % daySeconds) // of the day
	b = append2(append2(b, year/100), year%100)
	b = append2(append(b, '-'), int(month))
	b = append2(append(b, '-'), day)
	b = append2(append(b, 'T'), second/3600)
	b = append2(append(b, ':'), second/60%60)
	b = append2(append(b, ':'), second%60)
	b = append(b, '.', byte('0'+ns/100_000_000))
	b = append2(append2(append2(append2(b, ns/1_000_000%100), ns/10_000%100), ns/100%100), ns%100)
	return append(b, 'Z')
}

const daySeconds = 24 * 60 * 60

func append2(b []byte, n int) []byte { return append(b, byte('0'+n/10), byte('0'+n%10)) }

// appendMap and appendValue write a JSON value. Their errors are *EntryError
// with the path below the value in Field, which inField completes.
// member is one of an object. Of its value one of the two is meant.
type member struct {
	key  string
	any  any
	text string
}

var memberPool = sync.Pool{New: func() any { m := make([]member, 0, 16); return &m }}

// appendMap writes an object, its keys sorted.
func appendMap(b []byte, m map[string]any, depth int) ([]byte, error) {
	if len(m) == 0 && depth <= MaxDepth {
		return append(b, '{', '}'), nil
	}
	members := memberPool.Get().(*[]member)
	for k, v := range m {
		*members = append(*members, member{key: k, any: v})
	}
	b, err := appendMembers(b, *members, depth, func(b []byte, m *member) ([]byte, error) { return appendValue(b, m.any, depth) })
	releaseMembers(members)
	return b, err
}

// appendTexts is appendMap for values that are all strings.
func appendTexts(b []byte, m map[string]string, depth int) ([]byte, error) {
	members := memberPool.Get().(*[]member)
	for k, v := range m {
		*members = append(*members, member{key: k, text: v})
	}
	b, err := appendMembers(b, *members, depth, func(b []byte, m *member) ([]byte, error) { return appendText(b, m.text) })
	releaseMembers(members)
	return b, err
}

func releaseMembers(m *[]member) {
	clear(*m) // the pool must not keep a caller's values alive
	*m = (*m)[:0]
	memberPool.Put(m)
}

func appendMembers(b []byte, members []member, depth int, value func([]byte, *member) ([]byte, error)) ([]byte, error) {
	if depth > MaxDepth {
		return b, &EntryError{Reason: fmt.Sprintf("nested more than %d deep", MaxDepth)}
	}
	sortMembers(members)
	b = append(b, '{')
	for i := range members {
		m := &members[i]
		if i > 0 {
			b = append(b, ',')
		}
		var err error
		if b, err = appendText(b, m.key); err != nil {
			return b, &EntryError{Reason: "key is not UTF-8"}
		}
		b = append(b, ':')
		if b, err = value(b, m); err != nil {
			return b, inField("."+m.key, err)
		}
	}
	return append(b, '}'), nil
}

// sortMembers sorts by key. Few are sorted by insertion, without the calls
// through a function that make up most of a general sort of few.
func sortMembers(m []member) {
	if len(m) > 12 {
		slices.SortFunc(m, func(a, b member) int { return compareUTF16(a.key, b.key) })
		return
	}
	for i := 1; i < len(m); i++ {
		for j := i; j > 0 && compareUTF16(m[j].key, m[j-1].key) < 0; j-- {
			m[j], m[j-1] = m[j-1], m[j]
		}
	}
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
	case *box:
		return append(b, v.text...), nil
	case map[string]string:
		return appendTexts(b, v, depth+1)
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
	if isPlain(s) {
		return append(append(b, s...), '"'), true
	}
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

// isPlain reports whether s is ASCII without anything to escape, eight bytes
// at a time: a byte of x is below n if subtracting n from it borrows and its
// top bit was clear, and it is c if x^c has a zero there.
func isPlain(s string) bool {
	const (
		ones = 0x0101010101010101
		tops = 0x80 * ones
	)
	i := 0
	for ; i+8 <= len(s); i += 8 {
		x := uint64(s[i]) | uint64(s[i+1])<<8 | uint64(s[i+2])<<16 | uint64(s[i+3])<<24 |
			uint64(s[i+4])<<32 | uint64(s[i+5])<<40 | uint64(s[i+6])<<48 | uint64(s[i+7])<<56
		quote, slash := x^'"'*ones, x^'\\'*ones
		found := x | (x-' '*ones)&^x | (quote-ones)&^quote | (slash-ones)&^slash
		if found&tops != 0 {
			return false
		}
	}
	for ; i < len(s); i++ {
		if byteClass[s[i]] != 0 {
			return false
		}
	}
	return true
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
