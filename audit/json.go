package audit

import (
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// appendFloat writes f as ECMAScript does (RFC 8785, section 3.2.2.3): the
// shortest digits that give f back, plain from 1e-6 up to 1e21, with an
// exponent outside of that, and no minus before zero.
func appendFloat(b []byte, f float64) ([]byte, error) {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return b, &EntryError{Reason: "not a finite number"}
	}
	if f == 0 {
		return append(b, '0'), nil
	}
	abs := math.Abs(f)
	if abs < 1e9 { // so n has at most 15 digits
		if n := int64(abs*1e6 + 0.5); float64(n)/1e6 == abs {
			if f < 0 {
				b = append(b, '-')
			}
			return appendMillionths(b, uint64(n)), nil
		}
	}
	if abs >= 1e-6 && abs < 1e21 {
		return strconv.AppendFloat(b, f, 'f', -1, 64), nil
	}
	b = strconv.AppendFloat(b, f, 'e', -1, 64)
	// Go writes at least two digits of exponent: 1e-07 becomes 1e-7.
	if n := len(b); b[n-2] == '0' && (b[n-3] == '-' || b[n-3] == '+') {
		b[n-2] = b[n-1]
		b = b[:n-1]
	}
	return b, nil
}

// appendMillionths writes n/10⁶, with the decimals that it needs.
//
// For a float these are the shortest digits if the float nearest to n/10⁶, which
// a division gives, is that float and n has at most 15 digits: two decimals
// of 15 digits never have the same nearest float, so that no shorter one exists
// but n/10⁶ itself without zeros at its end.
func appendMillionths(b []byte, n uint64) []byte {
	b = strconv.AppendUint(b, n/1e6, 10)
	rest := n % 1e6
	if rest == 0 {
		return b
	}
	digits := 6
	for ; rest%10 == 0; rest /= 10 {
		digits--
	}
	b = append(b, ".000000"[:1+digits]...)
	for at := len(b) - 1; rest > 0; rest /= 10 {
		b[at] = byte('0' + rest%10)
		at--
	}
	return b
}

// isNumber reports whether s is a number by JSON's grammar.
func isNumber(s string) bool {
	p := parser{in: []byte(s)}
	return p.skipNumber() == nil && p.at == len(s)
}

func indexOf(v any) (int64, bool) {
	n, ok := v.(json.Number)
	if !ok {
		return 0, false
	}
	i, err := strconv.ParseInt(string(n), 10, 64)
	return i, err == nil && i >= 0
}

// parseJSON parses one JSON value into map[string]any, []any, string,
// json.Number, bool and nil. It differs from encoding/json where an audit log
// must: a key may stand once in an object, text must be UTF-8, surrogates must
// come in pairs, and nesting is bounded.
func parseJSON(in []byte) (any, error) {
	p := parser{in: in}
	p.space()
	v, err := p.value(0)
	if err != nil {
		return nil, err
	}
	p.space()
	if p.at != len(in) {
		return nil, p.fail("something after the value")
	}
	return v, nil
}

type parser struct {
	in []byte
	at int
}

func (p *parser) fail(reason string) error {
	return &EntryError{Field: "entry", Reason: fmt.Sprintf("bad JSON at byte %d: %s", p.at, reason)}
}

func (p *parser) space() {
	for p.at < len(p.in) {
		switch p.in[p.at] {
		case ' ', '\t', '\n', '\r':
			p.at++
		default:
			return
		}
	}
}

// peek is the next byte, or 0 at the end: no JSON token starts with that.
func (p *parser) peek() byte {
	if p.at < len(p.in) {
		return p.in[p.at]
	}
	return 0
}

func (p *parser) value(depth int) (any, error) {
	// The entry itself is one level more than its details.
	if depth > MaxDepth+1 {
		return nil, p.fail(fmt.Sprintf("nested more than %d deep", MaxDepth))
	}
	switch c := p.peek(); {
	case c == '{':
		return p.object(depth)
	case c == '[':
		return p.array(depth)
	case c == '"':
		return p.str()
	case c == 't':
		return true, p.word("true")
	case c == 'f':
		return false, p.word("false")
	case c == 'n':
		return nil, p.word("null")
	default:
		return p.number()
	}
}

func (p *parser) word(w string) error {
	if len(p.in)-p.at < len(w) || string(p.in[p.at:p.at+len(w)]) != w {
		return p.fail("unknown word")
	}
	p.at += len(w)
	return nil
}

func (p *parser) object(depth int) (any, error) {
	p.at++
	m := make(map[string]any)
	for p.space(); p.peek() != '}'; {
		if len(m) > 0 {
			if p.peek() != ',' {
				return nil, p.fail("want , or }")
			}
			p.at++
			p.space()
		}
		if p.peek() != '"' {
			return nil, p.fail("want a key")
		}
		k, err := p.str()
		if err != nil {
			return nil, err
		}
		if _, twice := m[k]; twice {
			return nil, p.fail("key for the second time")
		}
		if p.space(); p.peek() != ':' {
			return nil, p.fail("want :")
		}
		p.at++
		p.space()
		if m[k], err = p.value(depth + 1); err != nil {
			return nil, err
		}
		p.space()
	}
	p.at++
	return m, nil
}

func (p *parser) array(depth int) (any, error) {
	p.at++
	list := []any{}
	for p.space(); p.peek() != ']'; {
		if len(list) > 0 {
			if p.peek() != ',' {
				return nil, p.fail("want , or ]")
			}
			p.at++
			p.space()
		}
		v, err := p.value(depth + 1)
		if err != nil {
			return nil, err
		}
		list = append(list, v)
		p.space()
	}
	p.at++
	return list, nil
}

func (p *parser) digits() bool {
	start := p.at
	for c := p.peek(); c >= '0' && c <= '9'; c = p.peek() {
		p.at++
	}
	return p.at > start
}

func (p *parser) number() (json.Number, error) {
	start := p.at
	if err := p.skipNumber(); err != nil {
		return "", err
	}
	return json.Number(p.in[start:p.at]), nil
}

func (p *parser) skipNumber() error {
	if p.peek() == '-' {
		p.at++
	}
	zero := p.peek() == '0'
	first := p.at
	if !p.digits() || zero && p.at > first+1 {
		return p.fail("want a value")
	}
	if p.peek() == '.' {
		p.at++
		if !p.digits() {
			return p.fail("want a digit")
		}
	}
	if c := p.peek(); c == 'e' || c == 'E' {
		p.at++
		if c := p.peek(); c == '+' || c == '-' {
			p.at++
		}
		if !p.digits() {
			return p.fail("want a digit")
		}
	}
	return nil
}

// str parses a string whose opening quote is next.
func (p *parser) str() (string, error) {
	p.at++
	start := p.at
	for p.at < len(p.in) {
		switch c := p.in[p.at]; {
		case c == '"':
			s := p.in[start:p.at]
			if !utf8.Valid(s) {
				return "", p.fail("text is not UTF-8")
			}
			p.at++
			return string(s), nil
		case c == '\\':
			return p.escaped(start)
		case c < ' ':
			return "", p.fail("raw control character")
		}
		p.at++
	}
	return "", p.fail("string without end")
}

// escaped goes on where str met the first backslash.
func (p *parser) escaped(start int) (string, error) {
	out := append([]byte(nil), p.in[start:p.at]...)
	for p.at < len(p.in) {
		c := p.in[p.at]
		p.at++
		switch {
		case c == '"':
			if !utf8.Valid(out) {
				return "", p.fail("text is not UTF-8")
			}
			return string(out), nil
		case c < ' ':
			return "", p.fail("raw control character")
		case c != '\\':
			out = append(out, c)
		default:
			var err error
			if out, err = p.escape(out); err != nil {
				return "", err
			}
		}
	}
	return "", p.fail("string without end")
}

func (p *parser) escape(out []byte) ([]byte, error) {
	c := p.peek()
	p.at++
	switch c {
	case '"', '\\', '/':
		return append(out, c), nil
	case 'b':
		return append(out, '\b'), nil
	case 'f':
		return append(out, '\f'), nil
	case 'n':
		return append(out, '\n'), nil
	case 'r':
		return append(out, '\r'), nil
	case 't':
		return append(out, '\t'), nil
	case 'u':
		r, ok := p.hex4()
		if ok && utf16.IsSurrogate(r) {
			r, ok = p.lowSurrogate(r)
		}
		if ok {
			return utf8.AppendRune(out, r), nil
		}
	}
	return nil, p.fail("bad escape")
}

func (p *parser) hex4() (rune, bool) {
	if len(p.in)-p.at < 4 {
		return 0, false
	}
	n, err := strconv.ParseUint(string(p.in[p.at:p.at+4]), 16, 16)
	p.at += 4
	return rune(n), err == nil
}

func (p *parser) lowSurrogate(high rune) (rune, bool) {
	if len(p.in)-p.at < 6 || p.in[p.at] != '\\' || p.in[p.at+1] != 'u' {
		return 0, false
	}
	p.at += 2
	low, ok := p.hex4()
	r := utf16.DecodeRune(high, low)
	return r, ok && r != utf8.RuneError
}
