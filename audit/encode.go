package audit

import (
	"cmp"
	"encoding/json"
	"fmt"
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
	if err := e.checkForm(); err != nil {
		return dst, err
	}
	b := append(dst, `{"id":"`...)
	b = append(b, e.ID...)
	b = append(b, `","time":"`...)
	b = appendTime(b, e.Time)
	b = append(b, '"')
	b, valid := appendName(b, `,"agent_id":`, e.AgentID, true)
	b, valid = appendName(b, `,"action":`, e.Action, valid)
	b = append(b, `,"result":"`...)
	b = append(b, e.Result...)
	b = append(b, `","details":`...)
	b, err := appendMap(b, e.Details, 1)
	if err != nil {
		return dst, cmp.Or(e.badName(), inField("details", err))
	}
	b, valid = appendName(b, `,"user_id":`, e.UserID, valid)
	if e.Withheld.UserID != Shown {
		b = append(append(b, `,"user_id":`...), e.Withheld.UserID.mark()...)
	}
	b, valid = appendName(b, `,"subject":`, e.Subject, valid)
	b, valid = appendName(b, `,"session_id":`, e.SessionID, valid)
	b, valid = appendName(b, `,"run_id":`, e.RunID, valid)
	b = appendID(b, `,"trace_id":"`, e.TraceID)
	b = appendID(b, `,"span_id":"`, e.SpanID)
	b = appendID(b, `,"parent":"`, e.Parent)
	b, valid = appendName(b, `,"severity":`, e.Severity, valid)
	if !valid {
		return dst, e.badName()
	}
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
	maxTime = time.Unix(maxSeconds, 0).UTC()
)

const maxSeconds = 9_214_646_400 // 2262-01-01T00:00:00Z

// check validates every field but the two maps.
func (e *Entry) check() error {
	if err := e.checkForm(); err != nil {
		return err
	}
	return e.badName()
}

// checkForm validates the fields that have a form, and leaves the names and
// the two maps to whoever writes them.
func (e *Entry) checkForm() error {
	switch sec := e.Time.Unix(); {
	case !isULID(e.ID):
		return &EntryError{Field: "id", Reason: "not a ULID in upper case"}
	case sec < 0 || sec >= maxSeconds:
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
	return nil
}

// badName says which of the names is none, or nothing if all are.
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

// isHexID reports whether s is that many digits, a multiple of eight, of
// lower-case hex, and not all zero.
func isHexID(s string, digits int) bool {
	if len(s) != digits {
		return false
	}
	var other, notZero uint64
	for ; len(s) >= 8; s = s[8:] {
		w := word(s)
		other |= w | ^hexes(w&^tops)
		notZero |= w ^ '0'*ones
	}
	return other&tops == 0 && notZero != 0
}

// hexes marks the bytes of w, all ASCII, that are digits of lower-case hex. To
// add 0x80-n to such a byte sets its top bit if it is n or more.
func hexes(w uint64) uint64 {
	const least = 0x80 * ones
	digit := (w + least - '0'*ones) &^ (w + least - ('9'+1)*ones)
	letter := (w + least - 'a'*ones) &^ (w + least - ('f'+1)*ones)
	return digit | letter
}

// appendName appends a field that holds a name, or nothing if it is empty. It
// returns whether valid was true and the name is one, so that the names of an
// entry are looked at once, while they are copied. If not, badName says why.
func appendName(b []byte, field, name string, valid bool) ([]byte, bool) {
	if name == "" {
		return b, valid
	}
	if len(name) > MaxNameBytes {
		return b, false
	}
	b, isText := quote(append(b, field...), name)
	return b, valid && isText
}

// appendID appends a field that holds an id, or nothing if it is empty. That the
// id has nothing to escape is known from its form.
func appendID(b []byte, field, id string) []byte {
	if id == "" {
		return b
	}
	return append(append(append(b, field...), id...), '"')
}

// appendTime is RFC 3339 in UTC with nine decimals: 30 bytes, so that texts
// sort as times do.
func appendTime(b []byte, t time.Time) []byte {
	const form = "0000-00-00T00:00:00.000000000Z"
	b = append(b, form...)
	p := (*[len(form)]byte)(b[len(b)-len(form):])
	year, month, day := t.UTC().Date()
	put2(p[0:2], uint32(year)/100)
	put2(p[2:4], uint32(year)%100)
	put2(p[5:7], uint32(month))
	put2(p[8:10], uint32(day))
	second := uint32((t.Unix()%daySeconds + daySeconds) % daySeconds) // of the day
	put2(p[11:13], second/3600)
	put2(p[14:16], second/60%60)
	put2(p[17:19], second%60)
	ns := uint32(t.Nanosecond())
	p[20] = byte('0' + ns/100_000_000)
	put2(p[21:23], ns/1_000_000%100)
	put2(p[23:25], ns/10_000%100)
	put2(p[25:27], ns/100%100)
	put2(p[27:29], ns%100)
	return b
}

const daySeconds = 24 * 60 * 60

// put2 writes n, from 0 to 99, as two digits.
func put2(p []byte, n uint32) { p[0], p[1] = byte('0'+n/10), byte('0'+n%10) }

// appendValue writes v as JSON, and appendMap an object. Their errors are
// *EntryError with the path below the value in Field, which inField completes.
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
		return b, tooDeep()
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
	b, valid := quote(b, s)
	if !valid {
		return b, &EntryError{Reason: "not UTF-8"}
	}
	return b, nil
}

// appendString is quote for text that is known to be UTF-8.
func appendString(b []byte, s string) []byte {
	b, _ = quote(b, s)
	return b
}

func tooDeep() error {
	return &EntryError{Reason: fmt.Sprintf("nested more than %d deep", MaxDepth)}
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
