package api

import (
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/kaizen-go/kaizen/server/internal/query"
	"github.com/kaizen-go/kaizen/server/internal/record"
)

// params are the parameters of a request, checked for their names.
type params struct {
	values url.Values
	now    time.Time
}

func parseParams(r *http.Request, allowed []string, now time.Time) (params, error) {
	values, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return params{}, badRequest("query string: %v", err)
	}
	for name, v := range values {
		if !slices.Contains(allowed, name) {
			if len(allowed) == 0 {
				return params{}, badRequest("unknown parameter %q: this path takes none", name)
			}
			return params{}, badRequest("unknown parameter %q: this path takes %s", name, strings.Join(allowed, ", "))
		}
		if len(v) > 1 {
			return params{}, badRequest("parameter %q is given %d times", name, len(v))
		}
	}
	return params{values: values, now: now}, nil
}

func (p params) get(name string) string { return p.values.Get(name) }

// window reads since, until, limit and cursor.
func (p params) window() (query.Window, error) {
	w := query.Window{Cursor: p.get("cursor")}
	var err error
	if w.Since, err = p.time("since"); err != nil {
		return w, err
	}
	if w.Until, err = p.time("until"); err != nil {
		return w, err
	}
	if s := p.get("limit"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 || n > maxLimit {
			return w, badRequest("limit %.40q is not a number from 1 to %d", s, maxLimit)
		}
		w.Limit = n
	}
	return w, nil
}

const maxLimit = 1000

// time reads RFC 3339, or a duration ago: 90s, 24h, 7d.
func (p params) time(name string) (time.Time, error) {
	s := p.get(name)
	if s == "" {
		return time.Time{}, nil
	}
	if t, err := time.Parse(time.RFC3339Nano, s); err == nil {
		if t.Year() < 1678 || t.Year() > 2261 {
			return t, badRequest("%s %.40q is not between the years 1678 and 2261", name, s)
		}
		return t, nil
	}
	d, err := time.ParseDuration(s)
	if days, ok := strings.CutSuffix(s, "d"); ok {
		var n float64
		n, err = strconv.ParseFloat(days, 64)
		if err == nil && !(n >= 0 && n < 36_500) {
			err = strconv.ErrRange
		}
		d = time.Duration(n * 24 * float64(time.Hour))
	}
	if err != nil || d < 0 {
		return time.Time{}, badRequest("%s %.60q is neither RFC 3339 nor a duration ago such as 24h", name, s)
	}
	return p.now.Add(-d), nil
}

// oneOf reads a word from a list; "" when it is absent.
func (p params) oneOf(name string, words ...string) (string, error) {
	s := p.get(name)
	if s != "" && !slices.Contains(words, s) {
		return "", badRequest("%s %.40q is not one of %s", name, s, strings.Join(words, ", "))
	}
	return s, nil
}

var statuses = []string{"running", "ok", "error", "denied", "cancelled"}

func (p params) status() (record.Status, error) {
	s, err := p.oneOf("status", statuses...)
	return record.Status(s), err
}

// traceID reads a trace id; zero when it is absent.
func (p params) traceID(name string) (record.TraceID, error) {
	if p.get(name) == "" {
		return record.TraceID{}, nil
	}
	return query.ParseTraceID(p.get(name))
}

func (p params) spanID(name string) (record.SpanID, error) {
	if p.get(name) == "" {
		return record.SpanID{}, nil
	}
	return query.ParseSpanID(p.get(name))
}
