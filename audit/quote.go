package audit

import (
	"encoding/binary"
	"math/bits"
	"unicode/utf8"
)

// Text is looked at eight bytes at a time, as one number w whose lowest byte
// comes first. In each of the masks below a byte has its top bit set if
// something is to be said about it.
const (
	ones = 0x0101010101010101
	tops = 0x80 * ones // in text, the bytes beyond ASCII

	hexDigits = "0123456789abcdef"
)

// word is the first eight bytes of s. The compiler makes one load of it.
func word(s string) uint64 {
	_ = s[7]
	return uint64(s[0]) | uint64(s[1])<<8 | uint64(s[2])<<16 | uint64(s[3])<<24 |
		uint64(s[4])<<32 | uint64(s[5])<<40 | uint64(s[6])<<48 | uint64(s[7])<<56
}

// halfWord is the first four bytes of s.
func halfWord(s string) uint32 {
	_ = s[3]
	return uint32(s[0]) | uint32(s[1])<<8 | uint32(s[2])<<16 | uint32(s[3])<<24
}

// special is not zero if w has a byte that is beyond ASCII or that JSON
// escapes: a control character, quote or backslash. Of a mask's marks the
// lowest is right and those above it may be wrong, because subtracting borrows.
//
// Subtracting n from an ASCII byte sets its top bit if it is below n. Turning
// the second bit around puts the quote, 0x22, right above the control
// characters and moves none of these out, so that one subtraction finds both.
func special(w uint64) uint64 { return (w | escapes(w)) & tops }

// escapes is special without what is beyond ASCII, whose bytes may be marked too.
func escapes(w uint64) uint64 { return ((w ^ 0x02*ones) - 0x21*ones) | ((w ^ '\\'*ones) - ones) }

// quote appends s as RFC 8785, section 3.2.2.2, says: two-character escapes
// where JSON has them, \u00xx for other control characters, the rest as it is.
// It reports whether s is UTF-8; what it appends of other text is not to be used.
func quote(b []byte, s string) (_ []byte, valid bool) {
	n, size := len(b), len(s)+2
	if cap(b)-n < size {
		b = append(b, make([]byte, size)...)[:n]
	}
	room := b[n : n+size]
	room[0], room[size-1] = '"', '"'
	if done := copyPlain(room[1:], s); done < len(s) {
		return quoteRest(b[:n+1+done], s, done)
	}
	return b[:n+size], true
}

// copyPlain copies s to d, which is at least as long, up to somewhere before
// the first byte that is special, and says how far: to the end if none is. It
// looks and copies in one pass. What is no multiple of a word ends with one that
// overlaps the word before it.
func copyPlain(d []byte, s string) int {
	n := len(s)
	d = d[:n]
	switch {
	case n >= 8:
		i := 0
		for ; i < n-8; i += 8 {
			w := word(s[i:])
			if special(w) != 0 {
				return i
			}
			binary.LittleEndian.PutUint64(d[i:], w)
		}
		w := word(s[n-8:])
		if special(w) != 0 {
			return i
		}
		binary.LittleEndian.PutUint64(d[n-8:], w)
	case n >= 4:
		first, last := halfWord(s), halfWord(s[n-4:])
		if special(uint64(first)|uint64(last)<<32) != 0 {
			return 0
		}
		binary.LittleEndian.PutUint32(d, first)
		binary.LittleEndian.PutUint32(d[n-4:], last)
	default:
		for i := range n {
			if byteClass[s[i]] != 0 {
				return i
			}
			d[i] = s[i]
		}
	}
	return n
}

// quoteRest goes on where copyPlain stopped: s[:start] is in b, and is ASCII.
func quoteRest(b []byte, s string, start int) (_ []byte, valid bool) {
	var seen uint64
	for i := start; ; {
		next, w := nextEscape(s, i)
		seen |= w
		b = append(b, s[i:next]...)
		if next == len(s) {
			break
		}
		b = appendEscape(b, s[next])
		i = next + 1
	}
	return append(b, '"'), seen&tops == 0 || utf8.ValidString(s[start:])
}

// nextEscape is where in s, from i on, the first byte stands that JSON escapes,
// or else its length. In seen all bytes before that are put together.
func nextEscape(s string, i int) (_ int, seen uint64) {
	for ; len(s)-i >= 8; i += 8 {
		w := word(s[i:])
		seen |= w
		if found := escapes(w) &^ w & tops; found != 0 {
			return i + bits.TrailingZeros64(found)/8, seen
		}
	}
	for ; i < len(s) && byteClass[s[i]]&escaped == 0; i++ {
		seen |= uint64(s[i])
	}
	return i, seen
}

// What a single byte may be: one that JSON escapes, or one beyond ASCII.
const (
	escaped = 1 << iota
	beyondASCII
)

var byteClass = func() (t [256]uint8) {
	for c := range t {
		switch {
		case c < ' ', c == '"', c == '\\':
			t[c] = escaped
		case c >= utf8.RuneSelf:
			t[c] = beyondASCII
		}
	}
	return t
}()

func appendEscape(b []byte, c byte) []byte {
	switch c {
	case '"', '\\':
		return append(b, '\\', c)
	case '\b':
		return append(b, '\\', 'b')
	case '\t':
		return append(b, '\\', 't')
	case '\n':
		return append(b, '\\', 'n')
	case '\f':
		return append(b, '\\', 'f')
	case '\r':
		return append(b, '\\', 'r')
	}
	return append(b, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
}
