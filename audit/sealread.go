package audit

import (
	"bytes"
	"errors"
	"io"
	"slices"

	"github.com/oklog/ulid/v2"

	"github.com/kaizen-go/kaizen/internal/merkle"
)

// sealReader reads the lines of a segment that gets no more entries, some at a
// time, where its index in memory says that they are, and compares each with its
// hash in memory.
type sealReader struct {
	seg  *segment
	buf  []byte // one byte, and the lines
	msgs [][]byte
	sums []merkle.Hash
}

// read returns the lines from the one at index from, of those in the segment, to
// that before end, each with its newline. They stay valid until the next call.
func (r *sealReader) read(from, end int64) ([]byte, error) {
	x, seg := &r.seg.idx, r.seg
	first, last := x.offset(from), seg.size
	if end < x.n {
		last = x.offset(end)
	}
	size := int(last - first)
	r.buf = slices.Grow(r.buf[:0], 1+size)[:1+size]
	n, err := seg.lines.ReadAt(r.buf[1:], first)
	if n < size && err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	// From the byte before each line, which hashing needs, to before its newline.
	r.msgs = r.msgs[:0]
	start := 0
	for i := from; i < end; i++ {
		stop := size
		if i+1 < end {
			stop = int(x.offset(i+1) - first)
		}
		if stop > n {
			return nil, &TamperError{Path: seg.path(), Index: seg.base + i, Reason: "line is cut off"}
		}
		if r.buf[stop] != '\n' {
			return nil, hashMismatch(seg.path(), seg.base+i, seg.leaves.at(i), merkle.HashLeaf(r.buf[1+start:1+stop]))
		}
		r.msgs = append(r.msgs, r.buf[start:stop])
		start = stop
	}
	r.sums = slices.Grow(r.sums[:0], len(r.msgs))[:len(r.msgs)]
	merkle.HashAllPrefixed(r.sums, r.msgs)
	for i, got := range r.sums {
		if want := seg.leaves.at(from + int64(i)); got != want {
			return nil, hashMismatch(seg.path(), seg.base+from+int64(i), want, got)
		}
		r.msgs[i][0] = '\n'
	}
	return r.buf[1:], nil
}

// line is the i-th of the lines that read returned last, without its newline.
func (r *sealReader) line(i int) []byte { return r.msgs[i][1:] }

// idxFeed builds the index file of a segment from its lines. From the index in
// memory it takes times and ids, which are values, and for texts the codes that
// they had before: so it takes half of what parsing the lines takes, and gives
// the same. What the lines say counts: a text in memory may be another one if it
// was a piece of memory that its owner used again.
type idxFeed struct {
	b     *idxBuilder
	x     *index
	codes [numTexts][]uint32 // in the file, by number in memory; 0 is none yet
}

func newIdxFeed(b *idxBuilder, x *index) *idxFeed {
	f := &idxFeed{b: b, x: x}
	for col := range f.codes {
		f.codes[col] = make([]uint32, len(x.texts))
	}
	b.grow(int(x.n))
	return f
}

// add adds the entry at index i, of those in the segment, which has that line.
func (f *idxFeed) add(i int64, line []byte) error {
	b, block, at := f.b, f.x.blocks[i/groupLen], int(i%groupLen)
	t, ok := quickTexts(line)
	if !ok {
		e, err := header(line)
		if err != nil {
			return err
		}
		t = textsOf(&e)
	}
	id := block.id[at]
	var text [ulid.EncodedSize]byte
	if err := id.MarshalTextTo(text[:]); err != nil {
		return err
	}
	b.codes[colAgent] = append(b.codes[colAgent], f.code(colAgent, block.agent[at], t.agent))
	b.codes[colUser] = append(b.codes[colUser], f.code(colUser, block.user[at], t.user))
	b.codes[colSubject] = append(b.codes[colSubject], f.code(colSubject, block.subjectOf(at), t.subject))
	b.codes[colAction] = append(b.codes[colAction], f.code(colAction, block.action[at], t.action))
	b.codes[colResult] = append(b.codes[colResult], uint32(resultCode(Result(t.result))))
	b.codes[colSession] = append(b.codes[colSession], b.codeOf(colSession, t.session))
	b.codes[colRun] = append(b.codes[colRun], b.codeOf(colRun, t.run))
	b.codes[colTrace] = append(b.codes[colTrace], b.codeOf(colTrace, t.trace))
	b.times = append(b.times, block.time[at])
	b.spans = append(b.spans, shortPrint(t.span))
	b.ids = append(b.ids, shortPrint(text[:]))
	b.millis = append(b.millis, id.Time())
	return nil
}

// code is the code in the file of a text that has that number in memory, or
// should have.
func (f *idxFeed) code(col int, term uint32, text []byte) uint32 {
	if f.x.texts[term] != string(text) {
		return f.b.codeOf(col, text)
	}
	if term == 0 {
		return 0
	}
	code := &f.codes[col][term]
	if *code == 0 {
		*code = f.b.codeOf(col, text)
	}
	return *code
}

// lineTexts are the texts of a line that its index file has something of.
type lineTexts struct{ agent, user, subject, action, result, session, run, trace, span []byte }

func textsOf(e *Entry) lineTexts {
	return lineTexts{
		agent: []byte(e.AgentID), user: []byte(e.UserID), subject: []byte(e.Subject), action: []byte(e.Action), result: []byte(e.Result),
		session: []byte(e.SessionID), run: []byte(e.RunID), trace: []byte(e.TraceID), span: []byte(e.SpanID),
	}
}

// field is where the text of that name belongs, nil if it is none of them.
func (t *lineTexts) field(name []byte) *[]byte {
	switch string(name) {
	case "agent_id":
		return &t.agent
	case "action":
		return &t.action
	case "result":
		return &t.result
	case "user_id":
		return &t.user
	case "subject":
		return &t.subject
	case "session_id":
		return &t.session
	case "run_id":
		return &t.run
	case "trace_id":
		return &t.trace
	case "span_id":
		return &t.span
	}
	return nil
}

// quickTexts finds the texts in a stored line, which was signed and is in
// canonical form. It gives up if one of them has escapes.
func quickTexts(line []byte) (t lineTexts, ok bool) {
	for at := 1; at < len(line); {
		n := bytes.IndexByte(line[at+1:], '"')
		if n < 0 || at+n+3 >= len(line) {
			return t, false
		}
		field := t.field(line[at+1 : at+1+n])
		at += n + 3 // both quotes and the colon
		p := parser{in: line, at: at}
		if line[at] != '"' {
			p.skip()
			at = p.at + 1
			continue
		}
		p.skipText()
		if p.at >= len(line) {
			return t, false
		}
		v := line[at+1 : p.at]
		at = p.at + 2 // the quote and the comma, or the brace at the end
		if field == nil {
			continue
		}
		if bytes.IndexByte(v, '\\') >= 0 {
			return t, false
		}
		if *field = v; field == &t.span { // the last of them
			return t, true
		}
	}
	return t, true
}
