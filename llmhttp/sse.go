package llmhttp

import (
	"bytes"

	"github.com/tidwall/gjson"
)

// sse cuts a stream of server-sent events into the data of its events,
// however the bytes come. Lines may be of any length; what is kept of an event
// is bounded: of a longer one, the wanted values are found as it passes.
//
// Lines end in LF or CR LF. Fields other than data carry nothing that the
// dialects need: each names its event in the data too.
type sse struct {
	limit int
	emit  func(doc)

	part    []byte   // a line whose end has not come
	long    bool     // the line is longer than the limit: part is not kept
	data    []byte   // data of the event so far, unless
	over    *scanner // they are longer than the limit
	hasData bool
}

var dataField = []byte("data:")

func (s *sse) write(b []byte) {
	for {
		i := bytes.IndexByte(b, '\n')
		if i < 0 {
			s.more(b)
			return
		}
		if len(s.part) == 0 && !s.long {
			s.line(b[:i])
		} else {
			s.more(b[:i])
			s.endLine()
		}
		b = b[i+1:]
	}
}

// flush ends the stream. A last event may lack its empty line; one that was cut
// in the middle is none.
func (s *sse) flush() {
	s.endLine()
	if s.over != nil && s.over.done || s.over == nil && (gjson.ValidBytes(s.data) || bytes.Equal(s.data, doneData)) {
		s.dispatch()
	}
}

// more takes a piece of a line.
func (s *sse) more(b []byte) {
	if s.long {
		if s.over != nil {
			s.over.write(b)
		}
		return
	}
	s.part = append(s.part, b...)
	// One byte more may be the CR of the line's end; line decides then.
	if payload, isData := payloadOf(s.part); !isData && len(s.part) > s.limit+len(dataField) {
		s.long, s.part = true, nil
	} else if isData && len(payload) > s.limit+1 {
		s.add(payload)
		s.long, s.part = true, nil
	}
}

func (s *sse) endLine() {
	if s.long {
		s.long = false
		return
	}
	if len(s.part) > 0 {
		s.line(s.part)
		s.part = s.part[:0]
	}
}

// line takes a whole line. A field's line that is long and not data ends an
// event no more than a short one does.
func (s *sse) line(l []byte) {
	l = bytes.TrimSuffix(l, []byte{'\r'})
	if len(l) == 0 {
		s.dispatch()
		return
	}
	if payload, ok := payloadOf(l); ok {
		s.add(payload)
	}
}

func payloadOf(line []byte) ([]byte, bool) {
	payload, ok := bytes.CutPrefix(line, dataField)
	if ok && len(payload) > 0 && payload[0] == ' ' {
		payload = payload[1:]
	}
	return payload, ok
}

// add adds a line of data to the event, joined to the others by LF.
func (s *sse) add(payload []byte) {
	if s.over == nil && len(s.data)+len(payload) > s.limit {
		s.over = newScanner(wanted, maxValueBytes)
		s.over.write(s.data)
	}
	switch {
	case s.over != nil:
		if s.hasData {
			s.over.write([]byte{'\n'})
		}
		s.over.write(payload)
	default:
		if s.hasData {
			s.data = append(s.data, '\n')
		}
		s.data = append(s.data, payload...)
	}
	s.hasData = true
}

func (s *sse) dispatch() {
	if !s.hasData {
		return
	}
	d := doc{raw: s.data}
	if s.over != nil {
		d = doc{found: s.over.found}
	}
	s.emit(d)
	s.data, s.over, s.hasData = s.data[:0], nil, false
}
