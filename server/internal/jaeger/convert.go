package jaeger

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strconv"

	"github.com/kaizen-go/kaizen/server/internal/record"
)

// The types below are Jaeger's JSON for its page. Times and durations are
// microseconds.
type (
	trace struct {
		TraceID   string             `json:"traceID"`
		Spans     []spanJSON         `json:"spans"`
		Processes map[string]process `json:"processes"`
		Warnings  []string           `json:"warnings"`
	}
	spanJSON struct {
		TraceID    string      `json:"traceID"`
		SpanID     string      `json:"spanID"`
		Operation  string      `json:"operationName"`
		References []reference `json:"references"`
		Start      int64       `json:"startTime"`
		Duration   int64       `json:"duration"`
		Tags       []tag       `json:"tags"`
		Logs       []entry     `json:"logs"`
		ProcessID  string      `json:"processID"`
		Warnings   []string    `json:"warnings"`
	}
	reference struct {
		Type    string `json:"refType"`
		TraceID string `json:"traceID"`
		SpanID  string `json:"spanID"`
	}
	tag struct {
		Key   string `json:"key"`
		Type  string `json:"type"`
		Value any    `json:"value"`
	}
	entry struct {
		Timestamp int64 `json:"timestamp"`
		Fields    []tag `json:"fields"`
	}
	process struct {
		Service string `json:"serviceName"`
		Tags    []tag  `json:"tags"`
	}
)

// convert turns the spans of one trace into Jaeger's form, in order of start.
func (s *server) convert(spans []*record.Span) trace {
	spans = slices.Clone(spans)
	slices.SortStableFunc(spans, func(a, b *record.Span) int { return a.Start.Compare(b.Start) })
	t := trace{Spans: make([]spanJSON, 0, len(spans)), Processes: map[string]process{}}
	ids := map[string]string{} // of processes, by what they are
	for _, sp := range spans {
		t.TraceID = sp.TraceID.String()
		p := process{serviceOf(sp), processTags(sp)}
		key := fmt.Sprint(p)
		id, ok := ids[key]
		if !ok {
			id = "p" + strconv.Itoa(len(ids)+1)
			ids[key] = id
			t.Processes[id] = p
		}
		t.Spans = append(t.Spans, s.span(sp, id))
	}
	return t
}

func (s *server) span(sp *record.Span, process string) spanJSON {
	out := spanJSON{
		TraceID:    sp.TraceID.String(),
		SpanID:     sp.SpanID.String(),
		Operation:  sp.Name,
		References: references(sp),
		Start:      sp.Start.UnixMicro(),
		Tags:       spanTags(sp),
		Logs:       []entry{},
		ProcessID:  process,
	}
	end := sp.End
	if sp.Pending || end.IsZero() {
		end = s.cfg.now()
		out.Warnings = append(out.Warnings, "the span has not ended; its duration is the time until now")
	}
	out.Duration = max(0, end.Sub(sp.Start).Microseconds())
	for _, e := range sp.Events {
		out.Logs = append(out.Logs, entry{e.Time.UnixMicro(), eventTags(e)})
	}
	return out
}

func references(sp *record.Span) []reference {
	refs := []reference{}
	if !sp.ParentID.IsZero() {
		refs = append(refs, reference{"CHILD_OF", sp.TraceID.String(), sp.ParentID.String()})
	}
	for _, l := range sp.Links {
		refs = append(refs, reference{"FOLLOWS_FROM", l.TraceID.String(), l.SpanID.String()})
	}
	return refs
}

// spanTags returns a span's attributes, and what OpenTelemetry's translation to
// Jaeger makes tags of: kind, status and scope.
func spanTags(sp *record.Span) []tag {
	tags := tagsOf(sp.Attributes)
	add := func(key string, value any) { tags = append(tags, tagOf(key, value)) }
	if k := kindOf(sp); k != "" {
		add("span.kind", k)
	}
	switch sp.Status {
	case record.StatusOK:
		add("otel.status_code", "OK")
	case record.StatusError:
		add("otel.status_code", "ERROR")
		add("error", true)
	}
	if sp.StatusMessage != "" {
		add("otel.status_description", sp.StatusMessage)
	}
	if sp.Scope != "" {
		add("otel.scope.name", sp.Scope)
	}
	return tags
}

// processTags returns the resource without its name, which stands beside.
func processTags(sp *record.Span) []tag {
	tags := tagsOf(sp.Resource)
	return slices.DeleteFunc(tags, func(t tag) bool { return t.Key == "service.name" })
}

func eventTags(e record.SpanEvent) []tag {
	return append([]tag{tagOf("event", e.Name)}, tagsOf(e.Attributes)...)
}

func tagsOf(attrs map[string]any) []tag {
	tags := make([]tag, 0, len(attrs)+4)
	for k, v := range attrs {
		tags = append(tags, tagOf(k, v))
	}
	slices.SortFunc(tags, func(a, b tag) int { return cmp.Compare(a.Key, b.Key) })
	return tags
}

// tagOf gives a value Jaeger's type. Lists and maps become JSON text, bytes
// base64, and numbers that JSON has no form for become text.
func tagOf(key string, v any) tag {
	switch x := v.(type) {
	case string:
		return tag{key, "string", x}
	case bool:
		return tag{key, "bool", x}
	case int64:
		return tag{key, "int64", x}
	case int:
		return tag{key, "int64", int64(x)}
	case float64:
		if math.IsNaN(x) || math.IsInf(x, 0) {
			return tag{key, "string", strconv.FormatFloat(x, 'g', -1, 64)}
		}
		return tag{key, "float64", x}
	case []byte:
		return tag{key, "binary", base64.StdEncoding.EncodeToString(x)}
	}
	b, err := json.Marshal(v)
	if err != nil {
		return tag{key, "string", fmt.Sprint(v)}
	}
	return tag{key, "string", string(b)}
}

// serviceOf names what sent a span; Jaeger has no span without a service.
func serviceOf(sp *record.Span) string {
	if sp.Service != "" {
		return sp.Service
	}
	return "unknown_service"
}

// kindOf returns the span's kind where it says something.
func kindOf(sp *record.Span) string {
	if sp.OTelKind == "unspecified" {
		return ""
	}
	return sp.OTelKind
}
