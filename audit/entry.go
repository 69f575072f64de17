package audit

import (
	"bytes"
	"fmt"
	"strconv"
	"time"
)

// Result is how an audited action ended.
type Result string

// The results. No other is recorded.
const (
	Success Result = "success" // it was done
	Failure Result = "failure" // it was tried, and went wrong
	Denied  Result = "denied"  // it was refused before it was tried
)

// Limits of one entry.
const (
	// MaxLineBytes is the longest line: what a C2SP entry bundle can hold.
	MaxLineBytes = 65_535
	// MaxNameBytes is the longest text field (agent, action, user, session,
	// run, severity): an identifier, not a message.
	MaxNameBytes = 512
	// MaxDepth is how deep details and metadata may be nested, which also
	// stops a map that contains itself.
	MaxDepth = 32
)

// Entry is one audited action. AgentID, Action and Result must be set, the
// rest is optional. Text must be UTF-8: [EncodeLine] refuses what is not.
//
// Details and Metadata may hold nil, bool, string, all integer types, finite
// floats, [json.Number], [time.Time], [time.Duration] (written in nanoseconds),
// []any, []string, map[string]any and map[string]string. Any other value is
// passed through encoding/json once, at its cost, and refused with an
// [*EntryError] if that cannot encode it.
type Entry struct {
	// Index is the position in the ledger, from 0. The ledger gives it:
	// appending ignores it and a stored line does not contain it.
	Index int64
	// ID is a ULID in upper case, unique in the ledger. If empty, appending
	// makes one. Set it to be able to retry without writing twice.
	ID string
	// Time is when the action ended, to the nanosecond; any zone, kept in UTC.
	// If zero, appending sets it to now. From 1970 to 2261.
	Time time.Time
	// AgentID says which agent acted; Action what it did ("tool.execute").
	AgentID, Action string
	// Result is how it ended.
	Result Result
	// Details describe the action. Nil and empty are the same.
	Details map[string]any
	// UserID, SessionID and RunID say for whom, in which conversation, and in
	// which run. Empty if unknown.
	UserID, SessionID, RunID string
	// Subject is whose personal data the entry holds: details, metadata and the
	// names of subject and user are then encrypted, see [Ledger.Erase]. Empty if
	// nobody's. In an entry that was read it may be a token, if the name is not
	// known any more.
	Subject string
	// TraceID and SpanID are W3C ids in lower-case hex, 32 and 16 digits.
	TraceID, SpanID string
	// Parent is the ID of the entry that this one follows from.
	Parent string
	// Severity grades the entry, in the caller's words.
	Severity string
	// Metadata is what the caller's system wants to keep beside the details.
	Metadata map[string]any
	// Withheld says which fields of an entry that was read could not be shown.
	// An entry with such fields cannot be appended.
	Withheld Withheld
}

// MarshalJSON gives the printed form: the line with "index" before it. A field
// that is withheld prints as {"erased":true} or {"encrypted":true}; in details
// and metadata that mark stands beside the keys that are shown. Errors are
// [*EntryError].
func (e Entry) MarshalJSON() ([]byte, error) {
	b := append(make([]byte, 0, 640), `{"index":`...)
	b = strconv.AppendInt(b, e.Index, 10)
	b = append(b, ',')
	at := len(b)
	e.mark()
	b, err := appendEntry(b, &e)
	if err != nil {
		return nil, err
	}
	return append(b[:at], b[at+1:]...), nil // without the line's own brace
}

// UnmarshalJSON reads the printed form back, in any order and spacing of its
// fields: it goes through [EncodeLine]'s checks, so the values are valid.
func (e *Entry) UnmarshalJSON(b []byte) error {
	v, err := parseJSON(b)
	if err != nil {
		return err
	}
	obj, ok := v.(map[string]any)
	if !ok {
		return &EntryError{Field: "entry", Reason: "not a JSON object"}
	}
	withheld := takeUserMark(obj)
	out, err := entryOf(obj)
	if err != nil {
		return err
	}
	if _, err := EncodeLine(nil, out); err != nil {
		return err
	}
	out.Withheld.UserID = withheld
	out.takeMarks()
	*e = out
	return nil
}

// DecodeLine reads a stored line, without its newline. It accepts exactly what
// [EncodeLine] writes, so one entry has one spelling: encoding the result
// gives the same bytes. Numbers in details come back as [json.Number]. Errors
// are [*EntryError].
func DecodeLine(line []byte) (Entry, error) {
	if len(line) > MaxLineBytes {
		return Entry{}, tooLong(len(line))
	}
	v, err := parseJSON(line)
	if err != nil {
		return Entry{}, err
	}
	obj, ok := v.(map[string]any)
	if !ok {
		return Entry{}, &EntryError{Field: "entry", Reason: "not a JSON object"}
	}
	if _, ok := obj["index"]; ok {
		return Entry{}, &EntryError{Field: "index", Reason: "must not stand in a stored line"}
	}
	e, err := entryOf(obj)
	if err != nil {
		return Entry{}, err
	}
	// Comparing with the one canonical spelling is what makes this strict:
	// field order, key order, escapes and number forms need no rule of their own.
	buf := linePool.Get().(*[]byte)
	defer linePool.Put(buf)
	again, err := EncodeLine((*buf)[:0], e)
	if err != nil {
		return Entry{}, err
	}
	*buf = again
	if !bytes.Equal(again, line) {
		return Entry{}, &EntryError{Field: "entry", Reason: fmt.Sprintf("not in canonical form at byte %d", diffAt(again, line))}
	}
	return e, nil
}

// entryOf takes the fields of a parsed object, and refuses ones it has no
// place for.
func entryOf(obj map[string]any) (Entry, error) {
	var e Entry
	for name, v := range obj {
		if err := e.set(name, v); err != nil {
			return Entry{}, err
		}
	}
	return e, nil
}

func (e *Entry) set(name string, v any) (err error) {
	var ok bool
	switch name {
	case "index":
		e.Index, ok = indexOf(v)
	case "id":
		e.ID, ok = v.(string)
	case "time":
		var s string
		if s, ok = v.(string); ok {
			e.Time, ok = parseTime(s)
		}
	case "agent_id":
		e.AgentID, ok = v.(string)
	case "action":
		e.Action, ok = v.(string)
	case "result":
		var s string
		s, ok = v.(string)
		e.Result = Result(s)
	case "details":
		e.Details, ok = v.(map[string]any)
	case "user_id":
		e.UserID, ok = v.(string)
	case "subject":
		e.Subject, ok = v.(string)
	case "session_id":
		e.SessionID, ok = v.(string)
	case "run_id":
		e.RunID, ok = v.(string)
	case "trace_id":
		e.TraceID, ok = v.(string)
	case "span_id":
		e.SpanID, ok = v.(string)
	case "parent":
		e.Parent, ok = v.(string)
	case "severity":
		e.Severity, ok = v.(string)
	case "metadata":
		e.Metadata, ok = v.(map[string]any)
	default:
		return &EntryError{Field: name, Reason: "unknown field"}
	}
	if !ok {
		return &EntryError{Field: name, Reason: "wrong type or form"}
	}
	return nil
}

func parseTime(s string) (time.Time, bool) {
	t, err := time.Parse(time.RFC3339Nano, s)
	return t.UTC(), err == nil
}

func diffAt(a, b []byte) int {
	n := min(len(a), len(b))
	for i := range n {
		if a[i] != b[i] {
			return i
		}
	}
	return n
}

func tooLong(n int) error {
	return &EntryError{Field: "entry", Reason: fmt.Sprintf("line of %d bytes, at most %d", n, MaxLineBytes)}
}
