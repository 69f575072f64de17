package jaeger

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/kaizen-go/kaizen/server/internal/record"
)

// query is a search for traces. A trace is found when one of its spans meets
// all conditions, as in Jaeger.
type query struct {
	service, operation string
	tags               map[string]string
	start, end         time.Time
	minDur, maxDur     time.Duration // zero: no bound
	limit              int
}

func (s *server) traces(r *http.Request) (any, int, error) {
	if err := r.ParseForm(); err != nil {
		return nil, 0, badRequest("parse query: %v", err)
	}
	if ids := r.Form["traceID"]; len(ids) > 0 {
		return s.byID(ids)
	}
	q, err := parseQuery(r.Form, s.cfg.now())
	if err != nil {
		return nil, 0, err
	}
	found := []trace{}
	scanned := 0
	for spans := range s.src.Traces(q.start.Add(-longestTrace), q.end.Add(time.Microsecond)) {
		if err := r.Context().Err(); err != nil {
			return nil, 0, fmt.Errorf("search traces: %w", err)
		}
		if slices.ContainsFunc(spans, q.matches) {
			found = append(found, s.convert(spans))
		}
		if scanned += len(spans); len(found) == q.limit || scanned > maxScanned {
			break
		}
	}
	return found, len(found), nil
}

// byID returns the traces that exist of those asked for.
func (s *server) byID(ids []string) (any, int, error) {
	found := []trace{}
	for _, text := range ids[:min(len(ids), maxLimit)] {
		id, err := parseTraceID(text)
		if err != nil {
			return nil, 0, err
		}
		if spans, ok := s.src.Trace(id); ok {
			found = append(found, s.convert(spans))
		}
	}
	return found, len(found), nil
}

func (s *server) trace(r *http.Request) (any, int, error) {
	id, err := parseTraceID(r.PathValue("id"))
	if err != nil {
		return nil, 0, err
	}
	spans, ok := s.src.Trace(id)
	if !ok || len(spans) == 0 {
		return nil, 0, &apiError{http.StatusNotFound, "trace not found"}
	}
	return []trace{s.convert(spans)}, 1, nil
}

// parseTraceID reads up to 32 hex digits; Jaeger leaves zeros in front out.
func parseTraceID(text string) (id record.TraceID, err error) {
	if len(text) == 0 || len(text) > 32 {
		return id, badRequest("malformed trace id %.40q", text)
	}
	b, err := hex.DecodeString(strings.Repeat("0", 32-len(text)) + text)
	if err != nil {
		return id, badRequest("malformed trace id %.40q", text)
	}
	copy(id[:], b)
	if id.IsZero() {
		return id, badRequest("trace id is zero")
	}
	return id, nil
}

func parseQuery(form url.Values, now time.Time) (q query, err error) {
	q = query{service: form.Get("service"), operation: form.Get("operation"), limit: defaultLimit}
	if q.service == "" {
		return q, badRequest("parameter 'service' is required")
	}
	if q.operation == "all" { // what older pages send for any
		q.operation = ""
	}
	if q.end, err = micros(form, "end", now); err != nil {
		return q, err
	}
	if q.start, err = micros(form, "start", q.end.Add(-time.Hour)); err != nil {
		return q, err
	}
	if q.minDur, err = duration(form, "minDuration"); err != nil {
		return q, err
	}
	if q.maxDur, err = duration(form, "maxDuration"); err != nil {
		return q, err
	}
	if q.maxDur > 0 && q.minDur > q.maxDur {
		return q, badRequest("'maxDuration' should be greater than 'minDuration'")
	}
	if v := form.Get("limit"); v != "" {
		n, err := strconv.Atoi(v)
		if err != nil || n < 1 {
			return q, badRequest("unable to parse param 'limit': %.40q is no positive number", v)
		}
		q.limit = min(n, maxLimit)
	}
	q.tags, err = parseTags(form)
	return q, err
}

// micros reads a time in microseconds since 1970.
func micros(form url.Values, name string, def time.Time) (time.Time, error) {
	v := form.Get(name)
	if v == "" {
		return def, nil
	}
	n, err := strconv.ParseInt(v, 10, 64)
	if err != nil {
		return def, badRequest("unable to parse param '%s': %.40q is no time in microseconds", name, v)
	}
	return time.UnixMicro(n), nil
}

func duration(form url.Values, name string) (time.Duration, error) {
	v := form.Get(name)
	if v == "" {
		return 0, nil
	}
	d, err := time.ParseDuration(v)
	if err != nil || d < 0 {
		return 0, badRequest("unable to parse param '%s': %.40q is no duration", name, v)
	}
	return d, nil
}

// parseTags reads both forms: tags={"k":"v"} and tag=k:v, which may be repeated.
func parseTags(form url.Values) (map[string]string, error) {
	tags := map[string]string{}
	for _, v := range form["tag"] {
		key, value, ok := strings.Cut(v, ":")
		if !ok || key == "" {
			return nil, badRequest("malformed 'tag' parameter, expecting key:value, received: %.100q", v)
		}
		tags[key] = value
	}
	for _, v := range form["tags"] {
		if v == "" {
			continue
		}
		var m map[string]string
		if err := json.Unmarshal([]byte(v), &m); err != nil {
			return nil, badRequest("malformed 'tags' parameter, cannot unmarshal JSON: %v", err)
		}
		for k, value := range m {
			tags[k] = value
		}
	}
	return tags, nil
}

// matches reports whether a span meets all conditions.
func (q *query) matches(s *record.Span) bool {
	if serviceOf(s) != q.service || q.operation != "" && s.Name != q.operation {
		return false
	}
	if s.Start.Before(q.start) || s.Start.After(q.end) {
		return false
	}
	if q.minDur > 0 || q.maxDur > 0 {
		if s.End.IsZero() {
			return false // how long it takes is not known yet
		}
		d := s.End.Sub(s.Start)
		if d < q.minDur || q.maxDur > 0 && d > q.maxDur {
			return false
		}
	}
	for k, v := range q.tags {
		if !hasTag(s, k, v) {
			return false
		}
	}
	return true
}

// hasTag reports whether a span, its process or one of its events carries the
// tag, as Jaeger looks it up.
func hasTag(s *record.Span, key, value string) bool {
	is := func(t tag) bool { return t.Key == key && fmt.Sprint(t.Value) == value }
	if slices.ContainsFunc(spanTags(s), is) || slices.ContainsFunc(processTags(s), is) {
		return true
	}
	return slices.ContainsFunc(s.Events, func(e record.SpanEvent) bool {
		return slices.ContainsFunc(eventTags(e), is)
	})
}
