package jaeger

import (
	"encoding/json"
	"iter"
	"math"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/kaizen-go/kaizen/server/internal/record"
)

var now = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)

// memory is a Source of traces, newest first. It counts how often all are read.
type memory struct {
	traces [][]*record.Span
	reads  int
}

func (m *memory) Trace(id record.TraceID) ([]*record.Span, bool) {
	for _, t := range m.traces {
		if t[0].TraceID == id {
			return t, true
		}
	}
	return nil, false
}

func (m *memory) Traces(since, until time.Time) iter.Seq[[]*record.Span] {
	m.reads++
	return func(yield func([]*record.Span) bool) {
		for _, t := range m.traces {
			if !since.IsZero() && t[0].Start.Before(since) || !until.IsZero() && !t[0].Start.Before(until) {
				continue
			}
			if !yield(t) {
				return
			}
		}
	}
}

func span(trace, id, parent byte, service, name, kind string, ago, took time.Duration) *record.Span {
	return &record.Span{
		TraceID: record.TraceID{15: trace}, SpanID: record.SpanID{id}, ParentID: record.SpanID{parent},
		Service: service, Name: name, OTelKind: kind, Start: now.Add(-ago), End: now.Add(-ago + took), Status: record.StatusOK,
	}
}

func source() *memory {
	run := span(2, 1, 0, "agents", "invoke_agent planner", "internal", 10*time.Minute, 4*time.Second)
	chat := span(2, 2, 1, "agents", "chat gpt-5", "client", 9*time.Minute, 1500*time.Millisecond)
	chat.Attributes = map[string]any{"gen_ai.request.model": "gpt-5", "n": int64(3), "f": 0.5, "nan": math.NaN(), "stream": true, "list": []any{"a", int64(1)}, "raw": []byte("hi")}
	chat.Resource = map[string]any{"service.name": "agents", "host.name": "h1"}
	chat.Status, chat.StatusMessage, chat.Scope = record.StatusError, "rate limited", "openai"
	chat.Events = []record.SpanEvent{{Name: "exception", Time: now.Add(-9 * time.Minute), Attributes: map[string]any{"exception.type": "rate_limit"}}}
	chat.Links = []record.Link{{TraceID: record.TraceID{15: 1}, SpanID: record.SpanID{7}}}
	backend := span(2, 3, 2, "model", "POST /v1", "server", 9*time.Minute, time.Second)
	running := span(3, 1, 0, "agents", "invoke_agent coder", "internal", time.Minute, 0)
	running.Pending, running.End, running.Status = true, time.Time{}, record.StatusRunning
	old := span(1, 7, 0, "", "tick", "unspecified", 3*time.Hour, time.Second)
	return &memory{traces: [][]*record.Span{{running}, {run, backend, chat}, {old}}}
}

// get serves one request and decodes the data of its answer.
func get(t *testing.T, src Source, path string, data any) (int, []answerError) {
	t.Helper()
	w := httptest.NewRecorder()
	New(src, Config{now: func() time.Time { return now }}).ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/jaeger/api"+path, nil))
	var a struct {
		Data   json.RawMessage `json:"data"`
		Errors []answerError   `json:"errors"`
	}
	if err := json.Unmarshal(w.Body.Bytes(), &a); err != nil {
		t.Fatalf("%s: %v: %s", path, err, w.Body)
	}
	if data != nil {
		if err := json.Unmarshal(a.Data, data); err != nil {
			t.Fatalf("%s: %v: %s", path, err, w.Body)
		}
	}
	return w.Code, a.Errors
}

func TestLists(t *testing.T) {
	for _, c := range []struct{ path, want string }{
		{"/services", `{"data":["agents","model","unknown_service"],"total":3,"limit":0,"offset":0,"errors":null}`},
		{"/operations?service=agents", `{"data":[{"name":"chat gpt-5","spanKind":"client"},{"name":"invoke_agent coder","spanKind":"internal"},{"name":"invoke_agent planner","spanKind":"internal"}],"total":3,"limit":0,"offset":0,"errors":null}`},
		{"/operations?service=agents&spanKind=client", `{"data":[{"name":"chat gpt-5","spanKind":"client"}],"total":1,"limit":0,"offset":0,"errors":null}`},
		{"/operations?service=none", `{"data":[],"total":0,"limit":0,"offset":0,"errors":null}`},
		{"/services/model/operations", `{"data":["POST /v1"],"total":1,"limit":0,"offset":0,"errors":null}`},
		{"/services/none/operations", `{"data":[],"total":0,"limit":0,"offset":0,"errors":null}`},
		{"/dependencies?endTs=1&lookback=1", `{"data":[{"parent":"agents","child":"model","callCount":1}],"total":1,"limit":0,"offset":0,"errors":null}`},
		{"/operations", `{"data":null,"total":0,"limit":0,"offset":0,"errors":[{"code":400,"msg":"parameter 'service' is required"}]}`},
		{"/traces/ff", `{"data":null,"total":0,"limit":0,"offset":0,"errors":[{"code":404,"msg":"trace not found"}]}`},
	} {
		w := httptest.NewRecorder()
		New(source(), Config{}).ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/jaeger/api"+c.path, nil))
		if got := w.Body.String(); got != c.want {
			t.Errorf("%s:\n got %s\nwant %s", c.path, got, c.want)
		}
		if w.Header().Get("Content-Type") != "application/json" {
			t.Errorf("%s: content type %q", c.path, w.Header().Get("Content-Type"))
		}
	}
}

func TestCatalogueIsKept(t *testing.T) {
	src, at := source(), now
	h := New(src, Config{now: func() time.Time { return at }})
	for _, step := range []time.Duration{0, catalogueAge, time.Second} {
		at = at.Add(step)
		for range 3 {
			h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/jaeger/api/services", nil))
		}
	}
	if src.reads != 2 {
		t.Errorf("read %d times, want 2", src.reads)
	}
}

func TestTrace(t *testing.T) {
	var got []trace
	if code, errs := get(t, source(), "/traces/2", &got); code != 200 || errs != nil { // as Jaeger writes ids: without zeros
		t.Fatalf("%d %v", code, errs)
	}
	const id = "00000000000000000000000000000002"
	us := func(ago time.Duration) int64 { return now.Add(-ago).UnixMicro() }
	ok := []tag{{"span.kind", "string", "internal"}, {"otel.status_code", "string", "OK"}}
	want := []trace{{
		TraceID: id,
		Processes: map[string]process{
			"p1": {"agents", []tag{}},
			"p2": {"model", []tag{}},
			"p3": {"agents", []tag{{"host.name", "string", "h1"}}},
		},
		Spans: []spanJSON{
			{TraceID: id, SpanID: "0100000000000000", Operation: "invoke_agent planner", References: []reference{}, Start: us(10 * time.Minute), Duration: 4e6, Tags: ok, Logs: []entry{}, ProcessID: "p1"},
			{TraceID: id, SpanID: "0300000000000000", Operation: "POST /v1", References: []reference{{"CHILD_OF", id, "0200000000000000"}}, Start: us(9 * time.Minute), Duration: 1e6,
				Tags: []tag{{"span.kind", "string", "server"}, {"otel.status_code", "string", "OK"}}, Logs: []entry{}, ProcessID: "p2"},
			{TraceID: id, SpanID: "0200000000000000", Operation: "chat gpt-5", References: []reference{{"CHILD_OF", id, "0100000000000000"}, {"FOLLOWS_FROM", "00000000000000000000000000000001", "0700000000000000"}},
				Start: us(9 * time.Minute), Duration: 15e5, ProcessID: "p3",
				Tags: []tag{
					{"f", "float64", 0.5}, {"gen_ai.request.model", "string", "gpt-5"}, {"list", "string", `["a",1]`}, {"n", "int64", 3.0}, {"nan", "string", "NaN"}, {"raw", "binary", "aGk="}, {"stream", "bool", true},
					{"span.kind", "string", "client"}, {"otel.status_code", "string", "ERROR"}, {"error", "bool", true}, {"otel.status_description", "string", "rate limited"}, {"otel.scope.name", "string", "openai"},
				},
				Logs: []entry{{us(9 * time.Minute), []tag{{"event", "string", "exception"}, {"exception.type", "string", "rate_limit"}}}}},
		},
	}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("trace (-want +got):\n%s", diff)
	}

	got = nil
	get(t, source(), "/traces/3", &got)
	if s := got[0].Spans[0]; s.Duration != 60e6 || len(s.Warnings) != 1 {
		t.Errorf("running span: duration %d, warnings %v, want a minute and a warning", s.Duration, s.Warnings)
	}
}

func TestSearch(t *testing.T) {
	for _, c := range []struct {
		name string
		form url.Values
		want string // last digits of the traces found
	}{
		{"service", url.Values{"service": {"agents"}}, "3 2"},
		{"the last hour by default", url.Values{"service": {"unknown_service"}}, ""},
		{"start", url.Values{"service": {"unknown_service"}, "start": {micro(4 * time.Hour)}}, "1"},
		{"end", url.Values{"service": {"agents"}, "end": {micro(5 * time.Minute)}}, "2"},
		{"a span within, its trace begun before", url.Values{"service": {"model"}, "start": {micro(9*time.Minute + time.Second)}}, "2"},
		{"limit", url.Values{"service": {"agents"}, "limit": {"1"}}, "3"},
		{"operation", url.Values{"service": {"agents"}, "operation": {"chat gpt-5"}}, "2"},
		{"operation of another service", url.Values{"service": {"model"}, "operation": {"chat gpt-5"}}, ""},
		{"all operations", url.Values{"service": {"agents"}, "operation": {"all"}}, "3 2"},
		{"minimum", url.Values{"service": {"agents"}, "minDuration": {"3s"}}, "2"},
		{"minimum above all", url.Values{"service": {"agents"}, "minDuration": {"5s"}}, ""},
		{"maximum", url.Values{"service": {"agents"}, "maxDuration": {"2s"}}, "2"},
		{"both, of no one span", url.Values{"service": {"agents"}, "minDuration": {"2s"}, "maxDuration": {"3s"}}, ""},
		{"tags as JSON", url.Values{"service": {"agents"}, "tags": {`{"error":"true","gen_ai.request.model":"gpt-5"}`}}, "2"},
		{"tag", url.Values{"service": {"agents"}, "tag": {"n:3", "f:0.5"}}, "2"},
		{"tag with a colon in its value", url.Values{"service": {"agents"}, "tag": {"n:3:4"}}, ""},
		{"tag of the process", url.Values{"service": {"agents"}, "tag": {"host.name:h1"}}, "2"},
		{"tag of an event", url.Values{"service": {"agents"}, "tag": {"exception.type:rate_limit"}}, "2"},
		{"tag of another span", url.Values{"service": {"model"}, "tag": {"n:3"}}, ""},
		{"ids", url.Values{"traceID": {"1", "00000000000000000000000000000002", "77"}}, "1 2"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got []trace
			if code, errs := get(t, source(), "/traces?"+c.form.Encode(), &got); code != 200 {
				t.Fatalf("%d %v", code, errs)
			}
			var ids []string
			for _, tr := range got {
				ids = append(ids, strings.TrimLeft(tr.TraceID, "0"))
			}
			if s := strings.Join(ids, " "); s != c.want {
				t.Errorf("found %q, want %q", s, c.want)
			}
		})
	}
}

func micro(ago time.Duration) string {
	b, err := json.Marshal(now.Add(-ago).UnixMicro())
	if err != nil {
		panic(err)
	}
	return string(b)
}

func TestSearchErrors(t *testing.T) {
	for _, c := range []struct{ query, want string }{
		{"", "parameter 'service' is required"},
		{"service=a&start=x", "unable to parse param 'start'"},
		{"service=a&end=1.5", "unable to parse param 'end'"},
		{"service=a&minDuration=3", "unable to parse param 'minDuration'"},
		{"service=a&maxDuration=-3s", "unable to parse param 'maxDuration'"},
		{"service=a&minDuration=3s&maxDuration=2s", "'maxDuration' should be greater than 'minDuration'"},
		{"service=a&limit=0", "unable to parse param 'limit'"},
		{"service=a&tag=x", "malformed 'tag' parameter"},
		{"service=a&tags=x", "malformed 'tags' parameter"},
		{"traceID=xyz", "malformed trace id"},
		{"traceID=" + strings.Repeat("1", 33), "malformed trace id"},
		{"traceID=0", "trace id is zero"},
	} {
		code, errs := get(t, source(), "/traces?"+c.query, nil)
		if code != 400 || len(errs) != 1 || errs[0].Code != 400 || !strings.HasPrefix(errs[0].Msg, c.want) {
			t.Errorf("%s: %d %v, want 400 %s", c.query, code, errs, c.want)
		}
	}
}

// FuzzSearch checks that a search finds exactly the traces with a span that
// satisfies what was asked for, whatever was asked, and never fails by itself.
func FuzzSearch(f *testing.F) {
	f.Add("service=agents&limit=1&tag=n:3&minDuration=1s&start=1")
	f.Add(`service=agents&tags={"n":"3"}`)
	f.Add("traceID=2&traceID=1")
	f.Fuzz(func(t *testing.T, raw string) {
		form, err := url.ParseQuery(raw)
		if err != nil {
			return
		}
		var got []trace
		src := source()
		code, errs := get(t, src, "/traces?"+form.Encode(), &got)
		if code != 200 && code != 400 || code == 400 && (len(errs) != 1 || errs[0].Msg == "") {
			t.Fatalf("%d %v", code, errs)
		}
		if code != 200 || len(form["traceID"]) > 0 {
			return
		}
		q, err := parseQuery(form, now)
		if err != nil {
			t.Fatalf("answered 200, though: %v", err)
		}
		want := 0
		for _, spans := range src.traces {
			for _, s := range spans {
				if q.matches(s) {
					want++
					break
				}
			}
		}
		if want = min(want, q.limit); len(got) != want {
			t.Fatalf("found %d traces, want %d", len(got), want)
		}
	})
}
