package llmhttp

import (
	"encoding/binary"
	"hash/crc32"
)

// eventStream cuts a stream of Amazon's event frames into their payloads,
// however the bytes come. A frame is, in big-endian numbers,
//
//	length of the frame (4) | length of the headers (4) | CRC-32 of these 8 (4) | headers | payload | CRC-32 of all before it (4)
//
// and a header is length of the name (1), name, type (1), value. The names of
// events are in the headers. After a frame that is not as it should be nothing
// more is read: the caller's own client gives up on it too.
type eventStream struct {
	limit int // of a payload that is kept; of a longer one, the wanted values are found as it passes
	emit  func(doc)

	broken bool
	part   []byte // of the prelude and headers, then of the payload
	crc    uint32 // of the frame so far
	sum    uint32 // what the frame says that it is, as far as that came
	left   int    // bytes of payload and last CRC that are to come; 0 before the payload
	name   string
	over   *scanner
}

const (
	preludeBytes    = 12
	maxHeadersBytes = 128 << 10 // Amazon's limits
	maxFrameBytes   = 24<<20 + maxHeadersBytes + preludeBytes + 4
)

func (s *eventStream) write(b []byte) {
	for len(b) > 0 && !s.broken {
		if s.left == 0 {
			b = s.head(b)
		} else {
			b = s.body(b)
		}
	}
}

// flush ends the stream: a frame that was cut is none.
func (s *eventStream) flush() { s.broken, s.part = true, nil }

// fill moves bytes from b until there are n of the part, and returns the rest.
func (s *eventStream) fill(b []byte, n int) []byte {
	take := min(max(n-len(s.part), 0), len(b))
	s.part = append(s.part, b[:take]...)
	return b[take:]
}

// head takes the prelude and the headers.
func (s *eventStream) head(b []byte) []byte {
	b = s.fill(b, preludeBytes)
	if len(s.part) < preludeBytes {
		return b
	}
	total, headers := binary.BigEndian.Uint32(s.part), binary.BigEndian.Uint32(s.part[4:])
	if binary.BigEndian.Uint32(s.part[8:]) != crc32.ChecksumIEEE(s.part[:8]) ||
		headers > maxHeadersBytes || total > maxFrameBytes || total < preludeBytes+headers+4 {
		s.broken = true
		return nil
	}
	before := preludeBytes + int(headers)
	b = s.fill(b, before)
	if len(s.part) < before {
		return b
	}
	name, ok := eventName(s.part[preludeBytes:])
	s.broken, s.name = !ok, name
	s.crc = crc32.ChecksumIEEE(s.part)
	s.left = int(total) - before
	s.part = s.part[:0]
	if s.left-4 > s.limit {
		s.over = newScanner(wanted, maxValueBytes)
	}
	return b
}

// body takes the payload and the last checksum.
func (s *eventStream) body(b []byte) []byte {
	if n := min(len(b), s.left-4); n > 0 {
		s.crc = crc32.Update(s.crc, crc32.IEEETable, b[:n])
		if s.over != nil {
			s.over.write(b[:n])
		} else {
			s.part = append(s.part, b[:n]...)
		}
		s.left -= n
		b = b[n:]
	}
	for len(b) > 0 && s.left > 0 && s.left <= 4 {
		s.sum = s.sum<<8 | uint32(b[0])
		s.left--
		b = b[1:]
		if s.left == 0 {
			s.end()
		}
	}
	return b
}

// end takes the end of a frame.
func (s *eventStream) end() {
	if s.sum != s.crc {
		s.broken = true
		return
	}
	d := doc{raw: s.part, name: s.name}
	if s.over != nil {
		d = doc{found: s.over.found, name: s.name}
	}
	s.emit(d)
	s.part, s.over = s.part[:0], nil
}

// eventName reads what kind of event a frame is out of its headers, and
// reports whether they are well-formed. The name of an exception begins with !.
func eventName(h []byte) (name string, ok bool) {
	for len(h) > 0 {
		n := int(h[0])
		if len(h) < n+2 {
			return "", false
		}
		header, kind := string(h[1:n+1]), h[n+1]
		h = h[n+2:]
		size := 0
		switch kind {
		case 0, 1: // true, false
		case 2:
			size = 1
		case 3:
			size = 2
		case 4:
			size = 4
		case 5, 8: // long, timestamp
			size = 8
		case 9: // UUID
			size = 16
		case 6, 7: // bytes and text, after their length
			if len(h) < 2 {
				return "", false
			}
			size = int(binary.BigEndian.Uint16(h))
			h = h[2:]
		default:
			return "", false
		}
		if len(h) < size {
			return "", false
		}
		switch value := string(h[:size]); header {
		case ":event-type":
			name = value
		case ":exception-type", ":error-code":
			name = "!" + value
		}
		h = h[size:]
	}
	return name, true
}
