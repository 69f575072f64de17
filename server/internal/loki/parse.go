package loki

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// expr is a query: lines, or their number over a time, by labels.
type expr struct {
	matchers []matcher
	contains []string // line filters |= "…"
	metric   bool
	by       []string
	window   time.Duration
	top      int // 0 for all
}

// matcher is one condition on a label, as {agent=~"a.*"} has them.
type matcher struct {
	name, op, value string
	re              *regexp.Regexp
}

func (m matcher) match(v string) bool {
	switch m.op {
	case "=":
		return v == m.value
	case "!=":
		return v != m.value
	case "=~":
		return m.re.MatchString(v)
	}
	return !m.re.MatchString(v)
}

// maxQueryBytes bounds a query's text, maxTop a topk.
const (
	maxQueryBytes = 8192
	maxTop        = 1000
	maxWindow     = 366 * 24 * time.Hour
)

// parse reads a query: a selector with line filters, or
// [topk(N,] sum by (labels) (count_over_time(selector[window])) [)].
func parse(text string) (expr, error) {
	if len(text) > maxQueryBytes {
		return expr{}, fmt.Errorf("the query has %d bytes, more than %d", len(text), maxQueryBytes)
	}
	p := &parser{rest: text}
	var e expr
	p.query(&e)
	if p.space(); p.err == nil && p.rest != "" {
		p.fail("end of query")
	}
	return e, p.err
}

type parser struct {
	rest string
	err  error
}

func (p *parser) fail(want string) {
	if p.err == nil {
		p.err = fmt.Errorf("parse error: want %s at %.40q; this server knows {labels} |= \"text\" and topk(N, sum by (labels) (count_over_time(…[1h])))", want, p.rest)
	}
}

func (p *parser) space() { p.rest = strings.TrimLeft(p.rest, " \t\r\n") }

// take takes a token if it comes next.
func (p *parser) take(token string) bool {
	p.space()
	if p.err != nil || !strings.HasPrefix(p.rest, token) {
		return false
	}
	p.rest = p.rest[len(token):]
	return true
}

func (p *parser) need(token string) {
	if !p.take(token) {
		p.fail(token)
	}
}

func (p *parser) query(e *expr) {
	switch {
	case p.take("topk"):
		p.need("(")
		n, err := strconv.Atoi(p.word())
		if err != nil || n < 1 || n > maxTop {
			p.fail("a number of series")
		}
		e.top = n
		p.need(",")
		p.sum(e)
		p.need(")")
	case strings.HasPrefix(strings.TrimSpace(p.rest), "{"):
		p.lines(e)
	default:
		p.sum(e)
	}
}

func (p *parser) sum(e *expr) {
	e.metric = true
	if !p.take("sum") {
		p.count(e)
		return
	}
	if p.take("by") {
		p.need("(")
		for p.err == nil && !p.take(")") {
			e.by = append(e.by, p.name())
			if !p.take(",") {
				p.need(")")
				break
			}
		}
	}
	p.need("(")
	p.count(e)
	p.need(")")
}

func (p *parser) count(e *expr) {
	p.need("count_over_time")
	p.need("(")
	p.lines(e)
	p.need("[")
	word := p.word()
	d, err := parseDuration(word)
	if err != nil || d <= 0 || d > maxWindow {
		p.fail("a duration such as 1h")
	}
	e.window = d
	p.need("]")
	p.need(")")
}

func (p *parser) lines(e *expr) {
	p.need("{")
	for p.err == nil && !p.take("}") {
		m := matcher{name: p.name()}
		for _, op := range []string{"=~", "!~", "!=", "="} {
			if p.take(op) {
				m.op = op
				break
			}
		}
		if m.op == "" {
			p.fail("=, !=, =~ or !~")
			return
		}
		m.value = p.text()
		if strings.HasSuffix(m.op, "~") {
			var err error
			if m.re, err = regexp.Compile("^(?:" + m.value + ")$"); err != nil {
				p.fail("a regular expression")
				return
			}
		}
		e.matchers = append(e.matchers, m)
		if !p.take(",") {
			p.need("}")
			break
		}
	}
	for p.take("|=") {
		e.contains = append(e.contains, p.text())
	}
}

// word takes letters, digits and dots.
func (p *parser) word() string {
	p.space()
	n := strings.IndexFunc(p.rest, func(r rune) bool {
		return !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || r == '_' || r == '.')
	})
	if n < 0 {
		n = len(p.rest)
	}
	w := p.rest[:n]
	p.rest = p.rest[n:]
	return w
}

func (p *parser) name() string {
	w := p.word()
	if !slices.Contains(labelNames, w) {
		p.fail("one of the labels " + strings.Join(labelNames, ", "))
	}
	return w
}

// text takes a quoted string.
func (p *parser) text() string {
	p.space()
	q, err := strconv.QuotedPrefix(p.rest)
	if err != nil || q[0] == '\'' {
		p.fail("a quoted string")
		return ""
	}
	p.rest = p.rest[len(q):]
	s, err := strconv.Unquote(q)
	if err != nil {
		p.fail("a quoted string")
	}
	return s
}

// parseDuration reads Go's durations and days.
func parseDuration(s string) (time.Duration, error) {
	if days, ok := strings.CutSuffix(s, "d"); ok {
		n, err := strconv.Atoi(days)
		if n > 366 {
			return 0, fmt.Errorf("%s is longer than a year", s)
		}
		return time.Duration(n) * 24 * time.Hour, err
	}
	return time.ParseDuration(s)
}
