package llmhttp

import "bytes"

// objects cuts a stream of JSON objects into those objects, however the bytes
// come: one a line, or the elements of one array. What is kept of an object is
// bounded: of a longer one, the wanted values are found as it passes.
type objects struct {
	limit int
	emit  func(doc)

	open bool // within an object
	nest brackets
	part []byte   // what has come of it, unless
	over *scanner // it is longer than the limit
}

func (o *objects) write(b []byte) {
	for len(b) > 0 {
		if !o.open {
			i := bytes.IndexByte(b, '{') // the rest is commas, the array's brackets and space
			if i < 0 {
				return
			}
			b, o.open, o.nest = b[i:], true, brackets{}
		}
		n, closed := o.nest.take(b)
		o.keep(b[:n], closed)
		b = b[n:]
	}
}

func (o *objects) keep(b []byte, last bool) {
	if o.over == nil && len(o.part)+len(b) > o.limit {
		o.over = newScanner(wanted, maxValueBytes)
		o.over.write(o.part)
		o.part = o.part[:0]
	}
	switch {
	case o.over != nil:
		o.over.write(b)
	case last && len(o.part) == 0:
		o.emit(doc{raw: b}) // whole in one piece: no copy
	default:
		o.part = append(o.part, b...)
	}
	if !last {
		return
	}
	switch {
	case o.over != nil:
		o.emit(doc{found: o.over.found})
	case len(o.part) > 0:
		o.emit(doc{raw: o.part})
	}
	o.open, o.part, o.over = false, o.part[:0], nil
}

// flush ends the stream: an object that was cut is none.
func (o *objects) flush() { o.part = nil }
