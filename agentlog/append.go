package agentlog

import (
	"log/slog"
	"math"
	"strconv"
	"time"
	"unicode/utf8"
)

// This file appends to a buffer that is a local variable of its caller: storing
// the encoder's after each of twenty parts of a line is a third of its cost.

// scalar writes the attribute in JSON, if its value is one of the usual kinds
// and its name tells of no secret.
func (e *encoder) scalar(key string, v slog.Value, kind slog.Kind) bool {
	var text string
	switch kind {
	case slog.KindString:
		text = e.clean(v.String())
	case slog.KindInt64, slog.KindUint64, slog.KindFloat64, slog.KindBool, slog.KindDuration:
	default:
		return false
	}
	buf := e.buf
	if n := len(buf); n > 0 && buf[n-1] != '{' {
		buf = append(buf, ',')
	}
	buf = append(appendQuoted(buf, key), ':')
	switch kind {
	case slog.KindString:
		buf = appendQuoted(buf, text)
	case slog.KindInt64:
		buf = strconv.AppendInt(buf, v.Int64(), 10)
	case slog.KindUint64:
		buf = strconv.AppendUint(buf, v.Uint64(), 10)
	case slog.KindFloat64:
		buf = appendFloat(buf, v.Float64())
	case slog.KindBool:
		buf = strconv.AppendBool(buf, v.Bool())
	case slog.KindDuration: // nanoseconds, as slog's own handler
		buf = strconv.AppendInt(buf, int64(v.Duration()), 10)
	}
	e.buf = buf
	return true
}

// appendFloat writes a number as JSON has it; what JSON has not is a text.
func appendFloat(buf []byte, f float64) []byte {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return appendQuoted(buf, strconv.FormatFloat(f, 'g', -1, 64))
	}
	format := byte('f')
	if abs := math.Abs(f); abs != 0 && (abs < 1e-6 || abs >= 1e21) {
		format = 'e'
	}
	return strconv.AppendFloat(buf, f, format, -1, 64)
}

// appendNamed writes a part of the head, unless it is empty.
func appendNamed(buf []byte, name, value string) []byte {
	if value == "" {
		return buf
	}
	return appendQuoted(append(buf, name...), value)
}

// appendID writes an id, or the text that stands for it where it is no valid one.
func appendID(buf []byte, name string, id []byte, text string) []byte {
	if text != "" {
		return appendNamed(buf, name, text)
	}
	if allZero(id) {
		return buf
	}
	buf = append(append(buf, name...), '"')
	for _, b := range id {
		buf = append(buf, hexDigits[b>>4], hexDigits[b&15])
	}
	return append(buf, '"')
}

func allZero(id []byte) bool {
	for _, b := range id {
		if b != 0 {
			return false
		}
	}
	return true
}

// appendTime writes an RFC 3339 time in UTC with nanoseconds. Lines come in
// order of time, so the date and the second are mostly those of the line before.
func (e *encoder) appendTime(buf []byte, t time.Time) []byte {
	if sec := t.Unix(); sec != e.second {
		u := t.UTC()
		if y := u.Year(); y < 0 || y > 9999 {
			return append(buf, "0000-00-00T00:00:00Z"...) // RFC 3339 has no such year
		}
		e.second = sec
		u.AppendFormat(e.date[:0], "2006-01-02T15:04:05.")
	}
	buf = append(buf, e.date[:]...)
	n := uint32(t.Nanosecond())
	buf = append(buf, byte('0'+n/1e8))
	for _, pair := range [...]uint32{n / 1e6 % 100, n / 1e4 % 100, n / 100 % 100, n % 100} {
		buf = append(buf, byte('0'+pair/10), byte('0'+pair%10))
	}
	return append(buf, 'Z')
}

// safe tells the bytes that stand in a JSON text as they are.
var safe = func() (t [256]bool) {
	for c := 0x20; c < utf8.RuneSelf; c++ {
		t[c] = c != '"' && c != '\\' && c != 0x7f
	}
	return t
}()

const hexDigits = "0123456789abcdef"

// allSafe reports whether all bytes of s are safe, eight at a time.
func allSafe(s string) bool {
	const ones, high = 0x0101010101010101, 0x8080808080808080
	for len(s) >= 8 {
		x := uint64(s[0]) | uint64(s[1])<<8 | uint64(s[2])<<16 | uint64(s[3])<<24 |
			uint64(s[4])<<32 | uint64(s[5])<<40 | uint64(s[6])<<48 | uint64(s[7])<<56
		// The high bit of a byte is set where it is no ASCII, below a space, a
		// quote, a backslash or a delete. A carry comes from such bytes only.
		if (x|(x-0x20*ones)|((x^'"'*ones)-ones)|((x^'\\'*ones)-ones)|(x+ones))&high != 0 {
			return false
		}
		s = s[8:]
	}
	for i := range len(s) {
		if !safe[s[i]] {
			return false
		}
	}
	return true
}

// appendQuoted writes a text in quotes as JSON has it.
func appendQuoted(buf []byte, s string) []byte {
	buf = append(buf, '"')
	if allSafe(s) {
		return append(append(buf, s...), '"')
	}
	start := 0
	for i := 0; i < len(s); {
		c := s[i]
		if safe[c] {
			i++
			continue
		}
		if c >= utf8.RuneSelf {
			r, size := utf8.DecodeRuneInString(s[i:])
			if r != utf8.RuneError || size > 1 {
				i += size
				continue
			}
			buf = append(append(buf, s[start:i]...), "\ufffd"...)
			i++
			start = i
			continue
		}
		buf = append(buf, s[start:i]...)
		switch c {
		case '"', '\\':
			buf = append(buf, '\\', c)
		case '\n':
			buf = append(buf, '\\', 'n')
		case '\r':
			buf = append(buf, '\\', 'r')
		case '\t':
			buf = append(buf, '\\', 't')
		default:
			buf = append(buf, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		}
		i++
		start = i
	}
	return append(append(buf, s[start:]...), '"')
}
