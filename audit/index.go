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
// An entry takes 93 bytes here, 8 on average in the id table, and 32 for its
// hash: about 133 bytes of memory, and each distinct agent, user and action its
// text once.
type index struct {
	n      int64
	blocks []*block
	// terms gives each distinct agent, user and action a number, exactly; 0 is
	// the empty text. Fields with many values have fingerprints instead.
	terms map[string]uint32
	seed  maphash.Seed
	ids   idTable
}

type block struct {
	minTime, maxTime    int64 // nanoseconds since 1970
	time                [groupLen]int64
	offset              [groupLen]uint32 // in the segment's file
	agent, user, action [groupLen]uint32
	subject             [groupLen]uint32
	// Fingerprints: 0 is the empty text.
	session, run, trace, span [groupLen]uint64
	result                    [groupLen]uint8
	id                        [groupLen]ulid.ULID
}

func newIndex() index {
	return index{terms: map[string]uint32{"": 0}, seed: maphash.MakeSeed()}
}

// add appends the entry with the next index, whose line starts at offset.
func (x *index) add(e *Entry, offset uint32) {
	at := x.n % groupLen
	if at == 0 {
		x.blocks = append(x.blocks, new(block))
	}
	b := x.blocks[len(x.blocks)-1]
	b.put(at, e.Time.UnixNano())
	b.offset[at] = offset
	b.agent[at], b.user[at], b.action[at] = x.term(e.AgentID), x.term(e.UserID), x.term(e.Action)
	b.subject[at] = x.term(e.Subject)
	b.session[at], b.run[at] = x.print(e.SessionID), x.print(e.RunID)
	b.trace[at], b.span[at] = x.print(e.TraceID), x.print(e.SpanID)
	b.result[at] = resultCode(e.Result)
	b.id[at] = mustID(e.ID)
	x.n++
	x.ids.add(x, x.n-1)
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

func (x *index) term(s string) uint32 {
	n, ok := x.terms[s]
	if !ok {
		n = uint32(len(x.terms))
		x.terms[strings.Clone(s)] = n // the caller's may be part of something large
	}
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

// idTable finds an entry by its id: an open-addressed table of index+1, at
// most three quarters full. The ids themselves stand in the blocks.
type idTable struct {
	slots []uint32
	used  int
}

func (x *index) hashID(id *ulid.ULID) uint64 { return maphash.Bytes(x.seed, id[:]) }

// lookup returns the index of the entry with that id.
func (x *index) lookup(id ulid.ULID) (int64, bool) {
	if x.ids.used == 0 {
		return 0, false
	}
	mask := uint64(len(x.ids.slots) - 1)
	for h := x.hashID(&id); ; h++ {
		slot := x.ids.slots[h&mask]
		if slot == 0 {
			return 0, false
		}
		if i := int64(slot) - 1; *x.id(i) == id {
			return i, true
		}
	}
}

func (t *idTable) add(x *index, i int64) {
	if t.used >= len(t.slots)*3/4 {
		t.grow(x)
	}
	t.place(x, i)
	t.used++
}

func (t *idTable) place(x *index, i int64) {
	mask := uint64(len(t.slots) - 1)
	h := x.hashID(x.id(i))
	for t.slots[h&mask] != 0 {
		h++
	}
	t.slots[h&mask] = uint32(i + 1)
}

func (t *idTable) grow(x *index) {
	old := t.slots
	t.slots = make([]uint32, max(1024, 2*len(old)))
	for _, slot := range old {
		if slot != 0 {
			t.place(x, int64(slot)-1)
		}
	}
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
