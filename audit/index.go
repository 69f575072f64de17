package audit

import (
	"bytes"
	"hash/maphash"
	"strings"
	"unicode/utf8"

	"github.com/oklog/ulid/v2"
)

// index finds the entries of a segment that is not sealed without reading
// lines; its entries count from 0. It is a table with a column for each field
// that can be queried, in blocks of groupLen, so that it grows without copying:
// a query runs down the columns it names, about 1 ns an entry and column.
//
// An entry takes 67 bytes here, 71 in a block where an entry has a subject, and
// 32 for its hash: about 100 bytes of memory, and each distinct agent, user and
// action its text once. Who looks for ids has 9 bytes more, see [idTable].
type index struct {
	n      int64
	blocks []*block
	spare  []block // what the next blocks are
	// terms gives each distinct agent, user, subject and action a number,
	// exactly; 0 is the empty text. texts are they by number, and recent the
	// numbers of some that were there lately: apart, as a sealed segment has none.
	// Fields with many values have fingerprints instead.
	terms   map[string]uint32
	texts   []string
	recent  *[recentTerms]uint32
	seed    maphash.Seed
	scratch []byte // of add
	ids     idTable
}

type block struct {
	subject             *[groupLen]uint32 // nil while nobody here has one
	minTime, maxTime    int64             // nanoseconds since 1970
	time                [groupLen]int64
	offset              [groupLen]uint32 // in the segment's file
	agent, user, action [groupLen]uint32
	// Fingerprints: 0 is the empty text.
	session, run, trace [groupLen]uint64
	span                [groupLen]uint16 // as index files have it, see shortPrint
	result              [groupLen]uint8
	id                  [groupLen]ulid.ULID
}

// blocksAtOnce of a segment that has as many are made together: one of them would
// be rounded up by a tenth.
const blocksAtOnce = 16

// recentTerms is a power of two.
const recentTerms = 256

func newIndex() index {
	return index{
		terms: map[string]uint32{"": 0}, texts: []string{""}, recent: new([recentTerms]uint32), seed: maphash.MakeSeed(),
	}
}

// add appends the entry with the next index, whose line starts at offset and
// whose ID is id.
func (x *index) add(e *Entry, id ulid.ULID, offset uint32) {
	at := x.n % groupLen
	if at == 0 {
		x.grow()
	}
	b := x.blocks[len(x.blocks)-1]
	b.put(at, e.Time.UnixNano())
	b.offset[at] = offset
	b.agent[at], b.user[at], b.action[at] = x.term(e.AgentID), x.term(e.UserID), x.term(e.Action)
	if e.Subject != "" {
		if b.subject == nil {
			b.subject = new([groupLen]uint32)
		}
		b.subject[at] = x.term(e.Subject)
	}
	b.session[at], b.run[at], b.trace[at] = x.print(e.SessionID), x.print(e.RunID), x.print(e.TraceID)
	x.scratch = append(x.scratch[:0], e.SpanID...)
	b.span[at] = shortPrint(x.scratch)
	b.result[at] = resultCode(e.Result)
	b.id[at] = id
	x.n++
}

// grow adds a block.
func (x *index) grow() {
	if len(x.spare) == 0 {
		n := 1
		if len(x.blocks) >= blocksAtOnce {
			n = blocksAtOnce
		}
		x.spare = make([]block, n)
	}
	x.blocks = append(x.blocks, &x.spare[0])
	x.spare = x.spare[1:]
}

func (b *block) put(at, t int64) {
	if at == 0 || t < b.minTime {
		b.minTime = t
	}
	if at == 0 || t > b.maxTime {
		b.maxTime = t
	}
	b.time[at] = t
}

func (b *block) subjectOf(at int) uint32 {
	if b.subject == nil {
		return 0
	}
	return b.subject[at]
}

// term is the number of a text. Most were there a moment ago: a look at the last
// one of that length and ending takes a quarter of what the map takes.
func (x *index) term(s string) uint32 {
	if s == "" {
		return 0
	}
	slot := &x.recent[(len(s)<<4^int(s[len(s)-1])^int(s[len(s)/2])<<2)%recentTerms]
	if x.texts[*slot] == s {
		return *slot
	}
	n, ok := x.terms[s]
	if !ok {
		n = uint32(len(x.texts))
		s = strings.Clone(s) // the caller's may be part of something large
		x.terms[s] = n
		x.texts = append(x.texts, s)
	}
	*slot = n
	return n
}

func (x *index) print(s string) uint64 {
	if s == "" {
		return 0
	}
	return max(1, maphash.String(x.seed, s))
}

func (x *index) id(i int64) *ulid.ULID { return &x.blocks[i/groupLen].id[i%groupLen] }

func (x *index) offset(i int64) int64 { return int64(x.blocks[i/groupLen].offset[i%groupLen]) }

func resultCode(r Result) uint8 {
	switch r {
	case Success:
		return 1
	case Failure:
		return 2
	default:
		return 3
	}
}

// mustID is for ids that isULID has accepted.
func mustID(s string) ulid.ULID {
	id, err := ulid.ParseStrict(s)
	if err != nil {
		panic("audit: unchecked id: " + err.Error())
	}
	return id
}

// header reads the fields of a stored line that the index needs, and skips the
// rest. The line is one that was signed, so it is in canonical form.
func header(line []byte) (Entry, error) {
	if e, ok := quickHeader(line); ok {
		return e, e.check()
	}
	return slowHeader(line)
}

// quickHeader is slowHeader for lines whose fields have no escapes: with one
// allocation, of which all fields are parts.
func quickHeader(line []byte) (e Entry, ok bool) {
	text := string(line)
	for at := 1; at < len(text); {
		if text[at] != '"' {
			return e, false
		}
		n := strings.IndexByte(text[at+1:], '"')
		if n < 0 || at+n+3 >= len(text) {
			return e, false
		}
		name := text[at+1 : at+1+n]
		at += n + 3 // both quotes and the colon
		if text[at] != '"' {
			if name != "details" && name != "metadata" {
				return e, false
			}
			p := parser{in: line, at: at}
			p.skip()
			at = p.at + 1
			continue
		}
		if n = strings.IndexByte(text[at+1:], '"'); n < 0 {
			return e, false
		}
		v := text[at+1 : at+1+n]
		if strings.IndexByte(v, '\\') >= 0 || !utf8.ValidString(v) {
			return e, false
		}
		at += n + 3 // both quotes and the comma, or the brace at the end
		if !e.setText(name, v) {
			return e, false
		}
	}
	return e, true
}

// setText is set for fields of text.
func (e *Entry) setText(name, v string) (ok bool) {
	switch name {
	case "id":
		e.ID = v
	case "time":
		e.Time, ok = parseTime(v)
		return ok
	case "agent_id":
		e.AgentID = v
	case "action":
		e.Action = v
	case "result":
		e.Result = Result(v)
	case "user_id":
		e.UserID = v
	case "subject":
		e.Subject = v
	case "session_id":
		e.SessionID = v
	case "run_id":
		e.RunID = v
	case "trace_id":
		e.TraceID = v
	case "span_id":
		e.SpanID = v
	case "parent":
		e.Parent = v
	case "severity":
		e.Severity = v
	default:
		return false
	}
	return true
}

// slowHeader is header for any line.
func slowHeader(line []byte) (e Entry, err error) {
	p := parser{in: line, at: 1}
	for p.at < len(line) {
		name, err := p.str()
		if err != nil {
			return e, err
		}
		p.at++ // the colon
		switch {
		case p.peek() == '"':
			var v string
			if v, err = p.str(); err == nil {
				err = e.set(name, v)
			}
		case name == "details" || name == "metadata":
			p.skip()
		default:
			err = p.fail("want a string")
		}
		if err != nil {
			return e, err
		}
		p.at++ // the comma, or the brace at the end
	}
	return e, e.check()
}

// skip passes over an object in canonical form.
func (p *parser) skip() {
	depth := 0
	for ; p.at < len(p.in); p.at++ {
		switch p.in[p.at] {
		case '"':
			p.skipText()
		case '{':
			depth++
		case '}':
			if depth--; depth == 0 {
				p.at++
				return
			}
		}
	}
}

// skipText goes to the quote that ends the text which begins here.
func (p *parser) skipText() {
	for p.at++; p.at < len(p.in); p.at++ {
		n := bytes.IndexByte(p.in[p.at:], '"')
		if n < 0 {
			p.at = len(p.in)
			return
		}
		end := p.at + n
		slashes := 0
		for end-slashes > p.at && p.in[end-slashes-1] == '\\' {
			slashes++
		}
		if p.at = end; slashes%2 == 0 {
			return
		}
	}
}
