package agentlog

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"math"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"

	"go.opentelemetry.io/otel/trace"

	"github.com/kaizen-go/kaizen/redact"
)

// maxDepth bounds nested groups.
const maxDepth = 32

// ecsVersion is the schema that FormatECS follows.
const ecsVersion = "8.17.0"

// encoder builds one line. Encoders are pooled: buf, record and the date of
// the last second are used again.
type encoder struct {
	buf      []byte
	record   Record
	found    ids         // what the head of the line was written with
	inside   []byte      // of buf: what stands in the context
	attrs    []slog.Attr // room for those of a line
	red      *redact.Redactor
	maxValue int
	text     bool
	depth    int

	second int64 // of date
	date   [20]byte
}

var encoders = sync.Pool{New: func() any { return &encoder{buf: make([]byte, 0, 1024), second: math.MinInt64} }}

func (l *Logs) encoder() *encoder {
	e := encoders.Get().(*encoder)
	e.buf = e.buf[:0]
	e.red, e.maxValue, e.text, e.depth = l.red, l.cfg.MaxValueBytes, l.cfg.Format == FormatText, 0
	return e
}

func (l *Logs) release(e *encoder) {
	if cap(e.buf) > maxPooledBytes {
		return
	}
	attrs := e.record.Attrs
	clear(attrs) // let go of the texts
	clear(e.attrs)
	// The record's other texts are written over by the next line: to clear them
	// as well costs as much as to write them. Only what is not always written is.
	e.record.Attrs, e.record.TraceID, e.record.SpanID = attrs[:0], trace.TraceID{}, trace.SpanID{}
	e.inside, e.red = nil, nil
	encoders.Put(e)
}

// fieldNames are the names of the parts of a line in one format, as they are
// written in front of the value.
type fieldNames struct {
	time, level, message, logger, trace, span, agent, session, run, user, context string
}

var names = [...]fieldNames{
	FormatJSON: {
		time: `"timestamp":"`, level: `"level":"`, message: `"message":`, logger: `,"logger":`, trace: `,"trace_id":`, span: `,"span_id":`,
		agent: `,"agent_id":`, session: `,"session_id":`, run: `,"run_id":`, user: `,"user_id":`, context: `,"context":{`,
	},
	FormatECS: {
		time: `"@timestamp":"`, level: `"log.level":"`, message: `"ecs.version":"` + ecsVersion + `","message":`, logger: `,"log.logger":`,
		trace: `,"trace.id":`, span: `,"span.id":`, agent: `,"gen_ai.agent.id":`, session: `,"gen_ai.conversation.id":`,
		run: `,"kaizen.run.id":`, user: `,"user.id":`, context: `,"kaizen.context":{`,
	},
}

// head writes everything before the context. found holds the ids that are
// texts; trace and span of the record win where it has them.
func (e *encoder) head(format Format, r *Record, found *ids) {
	if e.text {
		e.headText(r, found)
		return
	}
	n := &names[format]
	buf := append(e.buf, '{')
	if !r.Time.IsZero() {
		buf = append(buf, n.time...)
		buf = e.appendTime(buf, r.Time)
		buf = append(buf, '"', ',')
	}
	buf = append(buf, n.level...)
	buf = append(buf, LevelName(r.Level)...)
	buf = append(buf, '"', ',')
	buf = append(buf, n.message...)
	buf = appendQuoted(buf, r.Message)
	buf = appendNamed(buf, n.logger, r.Logger)
	buf = appendID(buf, n.trace, r.TraceID[:], found.trace)
	buf = appendID(buf, n.span, r.SpanID[:], found.span)
	buf = appendNamed(buf, n.agent, found.agent)
	buf = appendNamed(buf, n.session, found.session)
	buf = appendNamed(buf, n.run, found.run)
	e.buf = appendNamed(buf, n.user, found.user)
}

// headText writes "2026-01-02T15:04:05.123456789Z INFO planner: message id=…".
func (e *encoder) headText(r *Record, found *ids) {
	if !r.Time.IsZero() {
		e.buf = e.appendTime(e.buf, r.Time)
		e.buf = append(e.buf, ' ')
	}
	e.buf = append(e.buf, strings.ToUpper(LevelName(r.Level))...)
	e.buf = append(e.buf, ' ')
	if r.Logger != "" {
		e.plain(r.Logger)
		e.buf = append(e.buf, ": "...)
	}
	e.plain(r.Message)
	traceID, span := found.trace, found.span
	if traceID == "" && r.TraceID.IsValid() {
		traceID = r.TraceID.String()
	}
	if span == "" && r.SpanID.IsValid() {
		span = r.SpanID.String()
	}
	for _, id := range [...]struct{ name, value string }{
		{"trace_id", traceID}, {"span_id", span}, {"agent_id", found.agent}, {"session_id", found.session}, {"run_id", found.run}, {"user_id", found.user},
	} {
		if id.value != "" {
			e.buf = append(e.buf, ' ')
			e.buf = append(e.buf, id.name...)
			e.buf = append(e.buf, '=')
			e.word(id.value)
		}
	}
}

func (e *encoder) openContext(format Format) {
	if !e.text {
		e.buf = append(e.buf, names[format].context...)
	}
}

func (e *encoder) closeContext(Format) {
	if !e.text {
		e.buf = append(e.buf, '}')
	}
}

func (e *encoder) tail(Format) {
	if !e.text {
		e.buf = append(e.buf, '}')
	}
	e.buf = append(e.buf, '\n')
}

// openGroups writes the beginning of groups, and reports whether there were any.
func (e *encoder) openGroups(groups []string) bool {
	if !e.text {
		for _, g := range groups {
			e.comma()
			e.string(g)
			e.buf = append(e.buf, ':', '{')
		}
	}
	return len(groups) > 0
}

func (e *encoder) closeGroups(n int) {
	if !e.text {
		for range n {
			e.buf = append(e.buf, '}')
		}
	}
}

// comma separates members of an object.
func (e *encoder) comma() {
	if n := len(e.buf); !e.text && n > 0 && e.buf[n-1] != '{' {
		e.buf = append(e.buf, ',')
	}
}

// attr writes one attribute with a comma before it where one is needed. It
// reports whether it wrote anything: empty attributes and groups are left out.
func (e *encoder) attr(a slog.Attr, prefix string) bool {
	v, kind := a.Value, a.Value.Kind()
	if kind == slog.KindLogValuer {
		v = v.Resolve()
		kind = v.Kind()
	}
	if kind == slog.KindGroup {
		return e.group(a.Key, v.Group(), prefix)
	}
	if kind == slog.KindAny && a.Key == "" && v.Any() == nil {
		return false
	}
	telling := e.red != nil && e.red.Field(a.Key)
	if !telling && !e.text && e.scalar(a.Key, v, kind) {
		return true
	}
	if telling || kind == slog.KindAny && e.red != nil {
		v = e.red.Attr(slog.Attr{Key: a.Key, Value: v}).Value
		if v.Kind() == slog.KindGroup {
			return e.group(a.Key, v.Group(), prefix)
		}
		telling = true // redacted by now
	}
	e.key(a.Key, prefix)
	e.value(v, telling)
	return true
}

func (e *encoder) key(key, prefix string) {
	if e.text {
		e.buf = append(e.buf, ' ')
		e.word(prefix + key)
		e.buf = append(e.buf, '=')
		return
	}
	e.comma()
	e.string(key)
	e.buf = append(e.buf, ':')
}

func (e *encoder) group(key string, members []slog.Attr, prefix string) bool {
	if len(members) == 0 || e.depth >= maxDepth {
		return false
	}
	if key != "" && e.red != nil && e.red.Field(key) {
		e.key(key, prefix)
		e.value(slog.StringValue(redact.Field.Marker()), true)
		return true
	}
	mark := len(e.buf)
	if key != "" {
		if e.text {
			prefix += key + "."
		} else {
			e.key(key, prefix)
			e.buf = append(e.buf, '{')
		}
	}
	e.depth++
	wrote := false
	for _, m := range members {
		wrote = e.attr(m, prefix) || wrote
	}
	e.depth--
	if !wrote {
		e.buf = e.buf[:mark]
		return false
	}
	if key != "" {
		e.closeGroups(1)
	}
	return true
}

// value writes a value; redacted says that this has been done.
func (e *encoder) value(v slog.Value, redacted bool) {
	switch v.Kind() {
	case slog.KindString:
		s := v.String()
		if redacted {
			s = e.cut(s)
		} else {
			s = e.clean(s)
		}
		e.string(s)
	case slog.KindInt64:
		e.buf = strconv.AppendInt(e.buf, v.Int64(), 10)
	case slog.KindUint64:
		e.buf = strconv.AppendUint(e.buf, v.Uint64(), 10)
	case slog.KindFloat64:
		e.float(v.Float64())
	case slog.KindBool:
		e.buf = strconv.AppendBool(e.buf, v.Bool())
	case slog.KindDuration: // nanoseconds, as slog's own handler
		e.buf = strconv.AppendInt(e.buf, int64(v.Duration()), 10)
	case slog.KindTime:
		e.buf = append(e.buf, '"')
		e.buf = e.appendTime(e.buf, v.Time())
		e.buf = append(e.buf, '"')
	default:
		e.any(v.Any())
	}
}

// float writes a number, in quotes where JSON has none such.
func (e *encoder) float(f float64) {
	if e.text && (math.IsNaN(f) || math.IsInf(f, 0)) {
		e.word(strconv.FormatFloat(f, 'g', -1, 64))
		return
	}
	e.buf = appendFloat(e.buf, f)
}

// any writes a value of any other type as JSON, and one that cannot be encoded
// as the reason why.
func (e *encoder) any(v any) {
	switch v := v.(type) {
	case nil:
		e.buf = append(e.buf, "null"...)
		return
	case error:
		e.string(e.cut(textOf(v)))
		return
	case []byte:
		if utf8.Valid(v) {
			e.string(e.cut(string(v)))
			return
		}
	}
	text, err := marshal(v)
	switch {
	case err != nil:
		e.string("!ERROR: " + e.clean(err.Error()))
	case len(text) > e.maxValue || e.text:
		e.string(e.cut(string(text)))
	default:
		e.buf = append(e.buf, text...)
	}
}

// marshal is json.Marshal that does not panic.
func marshal(v any) (text []byte, err error) {
	defer func() {
		if p := recover(); p != nil {
			text, err = nil, fmt.Errorf("encoding %T panicked: %v", v, p)
		}
	}()
	return json.Marshal(v)
}

// textOf is the text of an error, or the JSON of anything else.
func textOf(v any) (text string) {
	defer func() {
		if p := recover(); p != nil {
			text = fmt.Sprintf("!ERROR: %T panicked: %v", v, p)
		}
	}()
	switch v := v.(type) {
	case string:
		return v
	case error:
		return v.Error()
	case []byte:
		return string(v)
	}
	b, err := json.Marshal(v)
	if err != nil {
		return "!ERROR: " + err.Error()
	}
	return string(b)
}

// clean removes secrets from a text and cuts it. It is cut first, with room
// for a secret across the edge, so that a huge one costs no more than that.
func (e *encoder) clean(s string) string {
	if s == "" {
		return s
	}
	if e.red == nil {
		return e.cut(s)
	}
	const slack = 4 << 10
	if len(s) > e.maxValue+slack {
		return e.cutOff(e.red.String(s[:e.maxValue+slack]), len(s))
	}
	return e.cut(e.red.String(s))
}

func (e *encoder) cut(s string) string {
	if len(s) <= e.maxValue {
		return s
	}
	return e.cutOff(s, len(s))
}

// cutOff cuts s, which is what is left of total bytes, and says so.
func (e *encoder) cutOff(s string, total int) string {
	end := min(e.maxValue, len(s))
	for end > 0 && end < len(s) && !utf8.RuneStart(s[end]) {
		end--
	}
	return s[:end] + "…[cut, " + strconv.Itoa(total) + " bytes in all]"
}

// string writes a text in quotes; bytes that are no UTF-8 become U+FFFD. In
// the text format quotes are left out where nothing needs them.
func (e *encoder) string(s string) {
	if e.text {
		e.word(s)
		return
	}
	e.quoted(s)
}

func (e *encoder) quoted(s string) { e.buf = appendQuoted(e.buf, s) }

// word writes a value of the text format, in quotes if it has a sign that
// separates.
func (e *encoder) word(s string) {
	if s == "" {
		e.buf = append(e.buf, '"', '"')
		return
	}
	for i := range len(s) {
		if c := s[i]; !safe[c] || c == ' ' || c == '=' {
			e.quoted(s)
			return
		}
	}
	e.buf = append(e.buf, s...)
}

// plain writes a text of the text format without quotes; what would break the
// line or steer a terminal is escaped.
func (e *encoder) plain(s string) {
	start := len(e.buf)
	e.quoted(s)
	inner := e.buf[start+1 : len(e.buf)-1]
	if !strings.ContainsAny(s, `"\`) {
		e.buf = append(e.buf[:start], inner...)
		return
	}
	e.buf = e.buf[:start]
	for i := range len(s) { // quotes and backslashes stay readable
		if c := s[i]; c >= 0x20 && c != 0x7f {
			e.buf = append(e.buf, c)
		} else {
			e.buf = append(e.buf, '\\', 'x', hexDigits[c>>4], hexDigits[c&15])
		}
	}
}
