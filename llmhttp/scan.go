package llmhttp

import (
	"bytes"
	"strings"

	"github.com/tidwall/gjson"
)

// scanner finds values by their path in a JSON object that comes in pieces and
// is too long to keep: it holds no more than the values that it looks for.
// It trusts the text to be JSON; of anything else it makes no sense, nor harm.
type scanner struct {
	want  map[string]bool // paths of keys, joined by dots, to keep the values of
	into  map[string]bool // objects on the way to one of them
	limit int             // bytes of a value that are kept; a longer one is dropped

	found   map[string][]byte // kept values, as JSON
	noted   map[string]bool   // keys of the top level that were there
	dropped bool              // a wanted value was too long
	done    bool              // the object has ended

	mode    scanMode
	path    []string // keys of the open objects below the top
	key     []byte
	target  string // path of the value being read, if it is wanted
	value   []byte
	nest    brackets
	escaped bool // in a key
}

type scanMode int

const (
	scanStart scanMode = iota
	scanKeyStart
	scanKey
	scanColon
	scanValueStart
	scanScalar // until what follows it
	scanNested // object, array or string, until it is closed
	scanDead
)

// maxKeyBytes bounds the keys that are kept: no wanted one is longer.
const maxKeyBytes = 64

func newScanner(want []string, limit int) *scanner {
	s := &scanner{want: map[string]bool{}, into: map[string]bool{}, limit: limit, found: map[string][]byte{}, noted: map[string]bool{}}
	for _, w := range want {
		s.want[w] = true
		for i := range len(w) {
			if w[i] == '.' {
				s.into[w[:i]] = true
			}
		}
	}
	return s
}

func (s *scanner) write(b []byte) {
	for i := 0; i < len(b); {
		switch s.mode {
		case scanDead:
			return
		case scanNested:
			i += s.nested(b[i:])
		case scanScalar:
			if strings.IndexByte(",}] \t\r\n", b[i]) >= 0 {
				s.endValue() // b[i] belongs to the object
				continue
			}
			s.keep(b[i : i+1])
			i++
		default:
			s.structure(b[i])
			i++
		}
	}
}

// structure takes a byte between the values.
func (s *scanner) structure(c byte) {
	if s.mode == scanKey {
		s.inKey(c)
		return
	}
	if c == ' ' || c == '\t' || c == '\r' || c == '\n' {
		return
	}
	switch s.mode {
	case scanStart:
		s.mode = scanDead
		if c == '{' {
			s.mode = scanKeyStart
		}
	case scanKeyStart:
		switch c {
		case '"':
			s.key, s.mode = s.key[:0], scanKey
		case '}':
			s.endObject()
		case ',':
		default:
			s.mode = scanDead
		}
	case scanColon:
		s.mode = scanDead
		if c == ':' {
			s.mode = scanValueStart
		}
	case scanValueStart:
		s.startValue(c)
	}
}

func (s *scanner) inKey(c byte) {
	switch {
	case s.escaped:
		s.escaped = false
	case c == '\\':
		s.escaped = true
	case c == '"':
		s.mode = scanColon
		if len(s.path) == 0 && len(s.noted) < maxKeyBytes {
			s.noted[string(s.key)] = true
		}
		return
	}
	if len(s.key) < maxKeyBytes {
		s.key = append(s.key, c)
	}
}

func (s *scanner) endObject() {
	if len(s.path) == 0 {
		s.done, s.mode = true, scanDead
		return
	}
	s.path = s.path[:len(s.path)-1]
}

func (s *scanner) startValue(c byte) {
	full := string(s.key)
	if len(s.path) > 0 {
		full = s.path[len(s.path)-1] + "." + full
	}
	if c == '{' && s.into[full] {
		s.path = append(s.path, full)
		s.mode = scanKeyStart
		return
	}
	s.target, s.value = "", nil
	if s.want[full] {
		s.target = full
	}
	s.keep([]byte{c})
	switch c {
	case '{', '[':
		s.mode, s.nest = scanNested, brackets{depth: 1}
	case '"':
		s.mode, s.nest = scanNested, brackets{quoted: true}
	default:
		s.mode = scanScalar
	}
}

// nested takes the bytes of an object, array or string up to its end, and
// returns how many those were.
func (s *scanner) nested(b []byte) int {
	n, closed := s.nest.take(b)
	s.keep(b[:n])
	if closed {
		s.endValue()
	}
	return n
}

// brackets finds the end of a JSON value that comes in pieces.
type brackets struct {
	depth           int // of brackets that are open
	quoted, escaped bool
}

// take takes the bytes of an object, array or string that has begun, up to its
// end, and returns how many those were and whether the value is closed.
func (s *brackets) take(b []byte) (n int, closed bool) {
	for i := 0; i < len(b); i++ {
		if s.quoted {
			i += s.inString(b[i:])
		} else {
			switch b[i] {
			case '"':
				s.quoted = true
			case '{', '[':
				s.depth++
			case '}', ']':
				s.depth--
			}
		}
		if s.depth == 0 && !s.quoted {
			return i + 1, true
		}
	}
	return len(b), false
}

// inString moves to the end of a string, or as far as b goes, and returns the
// offset of the last byte that it took.
func (s *brackets) inString(b []byte) int {
	for i := 0; i < len(b); i++ {
		if s.escaped {
			s.escaped = false
			continue
		}
		if b[i] != '"' && b[i] != '\\' {
			skip := bytes.IndexByte(b[i:], '"')
			if skip < 0 {
				skip = len(b) - i
			}
			if back := bytes.IndexByte(b[i:i+skip], '\\'); back >= 0 {
				skip = back
			}
			i += skip
			if i == len(b) {
				break
			}
		}
		if b[i] == '\\' {
			s.escaped = true
			continue
		}
		s.quoted = false
		return i
	}
	return len(b) - 1
}

func (s *scanner) keep(b []byte) {
	if s.target == "" {
		return
	}
	if len(s.value)+len(b) > s.limit {
		s.target, s.value, s.dropped = "", nil, true
		return
	}
	s.value = append(s.value, b...)
}

func (s *scanner) endValue() {
	if s.target != "" {
		s.found[s.target] = s.value
	}
	s.target, s.value, s.mode = "", nil, scanKeyStart
}

// doc is a JSON document: whole, or the values that were found in one too long
// to keep.
type doc struct {
	name  string // of the event, where it is not in the document
	raw   []byte
	found map[string][]byte
}

// cut reports that only some values are there.
func (d doc) cut() bool { return d.found != nil }

// get returns the value at a path of keys. In a cut document that must be one
// of [wanted].
func (d doc) get(path string) gjson.Result {
	if d.cut() {
		return gjson.ParseBytes(d.found[path])
	}
	return gjson.GetBytes(d.raw, path)
}

// wanted are the values that matter in a response too long to keep, of all
// dialects.
var wanted = []string{
	"type", "id", "model", "usage", "service_tier", "error", "code", "status", "incomplete_details", "stop_reason",
	"response.id", "response.model", "response.usage", "response.service_tier", "response.error", "response.status", "response.incomplete_details",
	"message.id", "message.model", "message.usage", "delta.stop_reason",
	"usageMetadata", "modelVersion", "responseId", "promptFeedback",
	"remote_model", "done", "done_reason", "prompt_eval_count", "eval_count",
	"stopReason", "serviceTier", "__type",
}

// maxValueBytes bounds each of them.
const maxValueBytes = 16 << 10
