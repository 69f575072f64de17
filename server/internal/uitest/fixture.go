package uitest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Fixture answers the JSON API with canned data, in the shapes that the server
// answers with. It refuses parameters that the API does not know, so that the
// page cannot come to rely on one.
type Fixture struct {
	traces []*trace // newest first
	logs   []object // newest first
	ledger *ledger
	mux    *http.ServeMux
}

// object is a JSON object on its way out.
type object = map[string]any

// trace is one canned run.
type trace struct {
	summary object
	spans   []object
}

// NewFixture builds the data around now, the present to the agents in it.
func NewFixture(now time.Time) (*Fixture, error) {
	b := newBuilder(now.UTC())
	b.all()
	slices.SortStableFunc(b.entries, func(x, y object) int { return strings.Compare(x["time"].(string), y["time"].(string)) })
	l, err := newLedger(b.entries)
	if err != nil {
		return nil, err
	}
	f := &Fixture{ledger: l, logs: b.logs, mux: http.NewServeMux()}
	slices.SortStableFunc(f.logs, func(x, y object) int { return strings.Compare(y["timestamp"].(string), x["timestamp"].(string)) })
	for _, t := range b.traces {
		f.traces = append(f.traces, b.finish(t))
	}
	slices.SortStableFunc(f.traces, func(x, y *trace) int {
		return strings.Compare(y.summary["start"].(string), x.summary["start"].(string))
	})
	f.routes()
	return f, nil
}

// Empty returns a fixture of a server that has not been sent anything.
func Empty() (*Fixture, error) {
	l, err := newLedger(nil)
	if err != nil {
		return nil, err
	}
	f := &Fixture{ledger: l, mux: http.NewServeMux()}
	f.routes()
	return f, nil
}

// ServeHTTP implements [http.Handler] for the paths below /api, and a query of /prometheus.
func (f *Fixture) ServeHTTP(w http.ResponseWriter, r *http.Request) { f.mux.ServeHTTP(w, r) }

// TraceNamed returns the id of the trace of that name, "" if there is none.
func (f *Fixture) TraceNamed(name string) string {
	for _, t := range f.traces {
		if t.summary["name"] == name {
			return t.summary["trace_id"].(string)
		}
	}
	return ""
}

const common = "since until limit cursor "

func (f *Fixture) routes() {
	f.get("/api/traces", common+"agent status session user q", f.listTraces)
	f.get("/api/traces/{trace}", "", f.oneTrace)
	f.get("/api/spans/{trace}/{span}", "", f.oneSpan)
	f.get("/api/logs", common+"trace_id span_id run_id agent level logger q order", f.listLogs)
	f.get("/api/sessions", common, f.sessions)
	f.get("/api/agents", "since until", f.agents)
	f.get("/api/costs", "since until by", f.costs)
	f.get("/api/stats", "since until", f.stats)
	f.get("/api/audit", common+"agent user action result trace span run session order count", f.audit)
	f.get("/prometheus/api/v1/query", "query", func(r *http.Request) (any, error) {
		name, _, _ := strings.Cut(r.URL.Query().Get("query"), "{")
		return object{"status": "success", "data": object{"resultType": "vector", "result": []object{{"metric": object{"__name__": name}, "value": []any{0, "3"}}}}}, nil
	})
	f.get("/api/audit/holds", "", func(*http.Request) (any, error) { return object{"holds": []object{}}, nil })
	f.get("/api/audit/checkpoint", "", func(*http.Request) (any, error) { return f.ledger.checkpoint(), nil })
	f.mux.HandleFunc("GET /api/audit/proof/{index}", func(w http.ResponseWriter, r *http.Request) {
		i, err := strconv.ParseInt(r.PathValue("index"), 10, 64)
		if err != nil {
			fail(w, http.StatusBadRequest, "bad_request", "index is no number")
			return
		}
		text, err := f.ledger.proof(i)
		if err != nil {
			fail(w, http.StatusNotFound, "not_found", err.Error())
			return
		}
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = w.Write(text)
	})
}

// notFound is an answer of 404.
type notFound string

func (e notFound) Error() string { return string(e) }

func (f *Fixture) get(path, params string, answer func(*http.Request) (any, error)) {
	known := strings.Fields(params)
	f.mux.HandleFunc("GET "+path, func(w http.ResponseWriter, r *http.Request) {
		for name := range r.URL.Query() {
			if !slices.Contains(known, name) {
				fail(w, http.StatusBadRequest, "bad_request", "unknown parameter "+name)
				return
			}
		}
		body, err := answer(r)
		if err != nil {
			fail(w, http.StatusNotFound, "not_found", err.Error())
			return
		}
		w.Header().Set("Content-Type", "application/json")
		if err := json.NewEncoder(w).Encode(body); err != nil {
			panic(http.ErrAbortHandler) // the browser went away
		}
	})
}

func fail(w http.ResponseWriter, status int, code, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(object{"error": object{"code": code, "message": message}})
}

// paged cuts a list as the API does; the cursor is an offset.
func paged(r *http.Request, all []object) ([]object, string) {
	q := r.URL.Query()
	at, _ := strconv.Atoi(q.Get("cursor"))
	limit, err := strconv.Atoi(q.Get("limit"))
	if err != nil || limit <= 0 {
		limit = 50
	}
	at = min(at, len(all))
	end := min(at+limit, len(all))
	next := ""
	if end < len(all) {
		next = strconv.Itoa(end)
	}
	if at == end {
		return []object{}, next
	}
	return all[at:end], next
}

// keep returns the objects that pass every test.
func keep(all []object, tests ...func(object) bool) []object {
	var out []object
	for _, o := range all {
		if !slices.ContainsFunc(tests, func(t func(object) bool) bool { return !t(o) }) {
			out = append(out, o)
		}
	}
	return out
}

// is tests a field for equality, if the parameter is set.
func is(r *http.Request, param, field string) func(object) bool {
	want := r.URL.Query().Get(param)
	return func(o object) bool { return want == "" || fmt.Sprint(o[field]) == want }
}

// has tests fields for a substring, if the parameter is set.
func has(r *http.Request, param string, fields ...string) func(object) bool {
	want := strings.ToLower(r.URL.Query().Get(param))
	return func(o object) bool {
		return want == "" || slices.ContainsFunc(fields, func(f string) bool {
			return strings.Contains(strings.ToLower(fmt.Sprint(o[f])), want)
		})
	}
}

func (f *Fixture) summaries() []object {
	out := make([]object, len(f.traces))
	for i, t := range f.traces {
		out[i] = t.summary
	}
	return out
}

func (f *Fixture) listTraces(r *http.Request) (any, error) {
	agent := r.URL.Query().Get("agent")
	list, next := paged(r, keep(f.summaries(), is(r, "status", "status"), is(r, "session", "session_id"), is(r, "user", "user_id"),
		has(r, "q", "name", "trace_id"), func(o object) bool { return agent == "" || slices.Contains(o["agents"].([]string), agent) }))
	return object{"traces": list, "next": next}, nil
}

func (f *Fixture) find(id string) *trace {
	for _, t := range f.traces {
		if t.summary["trace_id"] == id {
			return t
		}
	}
	return nil
}

func (f *Fixture) oneTrace(r *http.Request) (any, error) {
	t := f.find(r.PathValue("trace"))
	if t == nil {
		return nil, notFound("no trace " + r.PathValue("trace"))
	}
	return object{"trace": t.summary, "spans": t.spans}, nil
}

func (f *Fixture) oneSpan(r *http.Request) (any, error) {
	t := f.find(r.PathValue("trace"))
	if t == nil {
		return nil, notFound("no trace " + r.PathValue("trace"))
	}
	id := r.PathValue("span")
	for _, s := range t.spans {
		if s["span_id"] != id {
			continue
		}
		ofSpan := func(o object) bool { return o["span_id"] == id && o["trace_id"] == t.summary["trace_id"] }
		return object{"span": s, "logs": keep(f.logs, ofSpan), "audit": keep(f.ledger.entries, ofSpan), "exemplars": exemplars(s)}, nil
	}
	return nil, notFound("no span " + id)
}

// exemplars are those that the metrics of the contract would hold for a span.
func exemplars(s object) []object {
	metric := map[any]string{"tool": "kaizen_tool_call_duration_seconds", "model": "kaizen_model_call_duration_seconds", "run": "kaizen_agent_run_duration_seconds"}[s["kind"]]
	ms, ended := s["duration_ms"].(float64)
	if metric == "" || !ended {
		return []object{}
	}
	labels := object{"agent": s["agent_name"], "status": s["status"]}
	for label, field := range map[string]string{"tool": "tool_name", "model": "model", "provider": "provider"} {
		if v, ok := s[field].(string); ok && v != "" {
			labels[label] = v
		}
	}
	out := []object{{"metric": metric, "labels": labels, "value": ms / 1000, "timestamp": s["end"]}}
	if s["kind"] == "model" && s["first_chunk_ms"] != nil {
		out = append(out, object{"metric": "kaizen_model_first_chunk_seconds", "labels": labels, "value": s["first_chunk_ms"].(float64) / 1000, "timestamp": s["end"]})
	}
	return out
}

func (f *Fixture) listLogs(r *http.Request) (any, error) {
	levels := []string{"debug", "info", "warning", "error", "critical"}
	least := slices.Index(levels, r.URL.Query().Get("level"))
	list, next := paged(r, keep(f.logs, is(r, "trace_id", "trace_id"), is(r, "span_id", "span_id"), is(r, "run_id", "run_id"), is(r, "agent", "agent_id"),
		is(r, "logger", "logger"), has(r, "q", "message"), func(o object) bool { return slices.Index(levels, o["level"].(string)) >= least }))
	return object{"logs": list, "next": next}, nil
}

func (f *Fixture) audit(r *http.Request) (any, error) {
	list := keep(f.ledger.entries, has(r, "action", "action"), is(r, "agent", "agent_id"), is(r, "user", "user_id"), is(r, "result", "result"),
		is(r, "trace", "trace_id"), is(r, "span", "span_id"), is(r, "run", "run_id"), is(r, "session", "session_id"))
	if r.URL.Query().Get("order") == "desc" {
		slices.Reverse(list)
	}
	out, next := paged(r, list)
	return object{"entries": out, "next": next, "size": len(f.ledger.entries)}, nil
}
