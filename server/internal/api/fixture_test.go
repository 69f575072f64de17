package api

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/plog/plogotlp"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/collector/pdata/ptrace/ptraceotlp"

	"github.com/kaizen-go/kaizen/audit"
	"github.com/kaizen-go/kaizen/price"
	"github.com/kaizen-go/kaizen/server/internal/ingest"
	"github.com/kaizen-go/kaizen/server/internal/store"
)

// t0 is when the stories of these tests begin.
var t0 = time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)

// world is a server's inside: OTLP in, JSON out.
type world struct {
	t      *testing.T
	dir    string
	store  *store.Store
	ledger *audit.Ledger
	otlp   http.Handler
	api    http.Handler
	reg    *prometheus.Registry
}

// flat prices every call of a known model at a nano-dollar a token.
type flat struct{}

func (flat) Cost(_, model string, _ time.Time, u price.Usage) (price.Cost, bool) {
	return price.Cost{NanoUSD: u.Total(), Table: "test", Rule: model}, model != "unknown-model"
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, dir: t.TempDir()}
	ledger, err := audit.Open(t.TempDir(), audit.Config{})
	if err != nil {
		t.Fatal(err)
	}
	w.ledger = ledger
	w.open()
	t.Cleanup(func() {
		if err := w.store.Close(); err != nil {
			t.Error(err)
		}
		if err := ledger.Close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

func (w *world) open() {
	w.t.Helper()
	st, err := store.Open(w.dir, store.Config{Pricer: flat{}})
	if err != nil {
		w.t.Fatal(err)
	}
	w.store = st
	w.reg = prometheus.NewRegistry()
	w.otlp = ingest.New(ingest.Config{Store: st, Registerer: w.reg}).Handler()
	w.api = New(Config{Store: st, Ledger: w.ledger, Registerer: w.reg, Now: func() time.Time { return t0.Add(time.Hour) }})
}

// restart closes the store and opens it again.
func (w *world) restart() {
	w.t.Helper()
	if err := w.store.Close(); err != nil {
		w.t.Fatal(err)
	}
	w.open()
}

// sp is a span in short.
type sp struct {
	id, parent byte
	name       string
	at, end    int // seconds after t0; end 0 = pending
	scope      string
	failed     bool
	attrs      map[string]any
}

// send exports spans of trace n over OTLP/HTTP.
func (w *world) send(n byte, spans ...sp) {
	w.t.Helper()
	td := ptrace.NewTraces()
	rs := td.ResourceSpans().AppendEmpty()
	rs.Resource().Attributes().PutStr("service.name", "svc")
	for _, s := range spans {
		ss := rs.ScopeSpans().AppendEmpty()
		ss.Scope().SetName(s.scope)
		s.fill(n, ss.Spans().AppendEmpty())
	}
	b, err := ptraceotlp.NewExportRequestFromTraces(td).MarshalProto()
	if err != nil {
		w.t.Fatal(err)
	}
	w.export("/v1/traces", b)
}

func (s sp) fill(n byte, p ptrace.Span) {
	p.SetTraceID(traceID(n))
	p.SetSpanID(spanID(s.id))
	if s.parent != 0 {
		p.SetParentSpanID(spanID(s.parent))
	}
	p.SetName(s.name)
	p.SetStartTimestamp(pcommon.NewTimestampFromTime(t0.Add(time.Duration(s.at) * time.Second)))
	if s.end != 0 {
		p.SetEndTimestamp(pcommon.NewTimestampFromTime(t0.Add(time.Duration(s.end) * time.Second)))
	} else {
		p.Attributes().PutBool("kaizen.pending", true)
	}
	if s.failed {
		p.Status().SetCode(ptrace.StatusCodeError)
	}
	for k, v := range s.attrs {
		if err := p.Attributes().PutEmpty(k).FromRaw(v); err != nil {
			panic(err) // a fault of the test
		}
	}
}

func traceID(n byte) pcommon.TraceID { return pcommon.TraceID{15: n} }
func spanID(n byte) pcommon.SpanID   { return pcommon.SpanID{7: n} }
func traceHex(n byte) string         { return fmt.Sprintf("%032x", n) }
func spanHex(n byte) string          { return fmt.Sprintf("%016x", n) }

// lg is a log record in short.
type lg struct {
	at       int
	text     string
	level    plog.SeverityNumber
	trace    byte
	span     byte
	scope    string
	contents map[string]any
}

func (w *world) log(records ...lg) {
	w.t.Helper()
	ld := plog.NewLogs()
	rl := ld.ResourceLogs().AppendEmpty()
	for _, r := range records {
		sl := rl.ScopeLogs().AppendEmpty()
		sl.Scope().SetName(r.scope)
		l := sl.LogRecords().AppendEmpty()
		l.Body().SetStr(r.text)
		l.SetTimestamp(pcommon.NewTimestampFromTime(t0.Add(time.Duration(r.at) * time.Second)))
		l.SetSeverityNumber(r.level)
		if r.trace != 0 {
			l.SetTraceID(traceID(r.trace))
			l.SetSpanID(spanID(r.span))
		}
		if err := l.Attributes().FromRaw(r.contents); err != nil {
			w.t.Fatal(err)
		}
	}
	b, err := plogotlp.NewExportRequestFromLogs(ld).MarshalProto()
	if err != nil {
		w.t.Fatal(err)
	}
	w.export("/v1/logs", b)
}

func (w *world) export(path string, body []byte) {
	w.t.Helper()
	r := httptest.NewRequest(http.MethodPost, path, bytes.NewReader(body))
	r.Header.Set("Content-Type", "application/x-protobuf")
	rec := httptest.NewRecorder()
	w.otlp.ServeHTTP(rec, r)
	if rec.Code != 200 || rec.Body.Len() != 0 {
		w.t.Fatalf("export: status %d %q", rec.Code, rec.Body)
	}
}

// do asks the API.
func (w *world) do(method, path, body string) *httptest.ResponseRecorder {
	w.t.Helper()
	rec := httptest.NewRecorder()
	w.api.ServeHTTP(rec, httptest.NewRequest(method, path, bytes.NewBufferString(body)))
	return rec
}

// get asks the API, which must know, and decodes the answer.
func get[T any](w *world, path string) T {
	w.t.Helper()
	rec := w.do(http.MethodGet, path, "")
	if rec.Code != 200 {
		w.t.Fatalf("GET %s: status %d %s", path, rec.Code, rec.Body)
	}
	var v T
	if err := json.Unmarshal(rec.Body.Bytes(), &v); err != nil {
		w.t.Fatalf("GET %s: %v in %s", path, err, rec.Body)
	}
	return v
}

// object is an answer whose fields a test picks from.
type object = map[string]any

func list(v any) []object {
	var out []object
	for _, e := range v.([]any) {
		out = append(out, e.(object))
	}
	return out
}

// story sends one of everything:
//
// Trace 1: agent "planner" in session s1 for user u1, announced, then ended. It
// calls a model through a wrapper that counts input without the cache and a
// library that counts it with (one call), fails and repeats another (one call,
// two attempts), embeds, uses three tools (one fails, one is denied), and hands
// a part to agent "helper", which calls a model nobody can price.
// Trace 2: agent "planner" in session s2, announced and killed.
func (w *world) story() {
	w.t.Helper()
	own := func(kind string, more ...any) map[string]any {
		m := map[string]any{"kaizen.kind": kind}
		for i := 0; i < len(more); i += 2 {
			m[more[i].(string)] = more[i+1]
		}
		return m
	}
	run := func(id, agent, session string) map[string]any {
		return own("run", "gen_ai.operation.name", "invoke_agent", "gen_ai.agent.name", agent, "gen_ai.agent.id", agent+"-1",
			"kaizen.run.id", id, "gen_ai.conversation.id", session, "user.id", "u1")
	}
	w.send(1, sp{id: 1, name: "invoke_agent planner", at: 0, attrs: run("r1", "planner", "s1")})
	claude := map[string]any{"gen_ai.operation.name": "chat", "gen_ai.request.model": "claude"}
	wrapper := merge(claude, "gen_ai.system", "anthropic", "gen_ai.usage.input_tokens", 100, "gen_ai.usage.output_tokens", 50,
		"gen_ai.usage.cache_read_input_tokens", 400)
	library := merge(claude, "gen_ai.provider.name", "anthropic", "gen_ai.usage.input_tokens", 500, "gen_ai.usage.output_tokens", 50,
		"gen_ai.usage.cache_read.input_tokens", 400, "gen_ai.usage.reasoning.output_tokens", 20, "gen_ai.response.time_to_first_chunk", 0.25)
	gpt := map[string]any{"gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai", "gen_ai.request.model": "gpt"}
	w.send(1,
		sp{id: 2, parent: 1, name: "chat claude", at: 1, end: 5, scope: "ai", attrs: wrapper},
		sp{id: 3, parent: 2, name: "anthropic.messages.create", at: 1, end: 4, scope: "com.anthropic.sdk.go", attrs: library},
		sp{id: 4, parent: 1, name: "chat gpt", at: 6, end: 9, attrs: gpt},
		sp{id: 5, parent: 4, name: "attempt", at: 6, end: 7, failed: true, attrs: merge(gpt, "error.type", "429")},
		sp{id: 6, parent: 4, name: "attempt", at: 7, end: 9, attrs: merge(gpt, "gen_ai.usage.prompt_tokens", 10, "gen_ai.usage.completion_tokens", 5)},
		sp{id: 7, parent: 1, name: "embeddings e", at: 9, end: 10, attrs: map[string]any{"gen_ai.operation.name": "embeddings", "gen_ai.request.model": "e", "gen_ai.usage.input_tokens": 7}},
		sp{id: 8, parent: 1, name: "execute_tool search", at: 10, end: 11, attrs: own("tool", "gen_ai.tool.name", "search", "gen_ai.tool.call.arguments", `{"q":"x"}`)},
		sp{id: 9, parent: 1, name: "execute_tool search", at: 11, end: 12, failed: true, attrs: own("tool", "gen_ai.tool.name", "search")},
		sp{id: 10, parent: 1, name: "execute_tool rm", at: 12, end: 13, attrs: own("tool", "gen_ai.tool.name", "rm", "kaizen.status", "denied")},
		sp{id: 11, parent: 1, name: "invoke_agent helper", at: 13, end: 20, failed: true, attrs: run("r2", "helper", "s1")},
		sp{id: 12, parent: 11, name: "chat unknown", at: 14, end: 16, attrs: map[string]any{"gen_ai.operation.name": "chat", "gen_ai.request.model": "unknown-model", "gen_ai.usage.input_tokens": 3}},
		sp{id: 13, parent: 11, name: "chat claude", at: 16, end: 17, failed: true, attrs: claude},
	)
	// The run's end repeats the sum of its calls' tokens, as some senders do.
	w.send(1, sp{id: 1, name: "invoke_agent planner", at: 0, end: 30, attrs: merge(run("r1", "planner", "s1"), "gen_ai.usage.input_tokens", 9999, "kaizen.cost.nano_usd", 9999)})
	w.send(2, sp{id: 1, name: "invoke_agent planner", at: 100, attrs: run("r3", "planner", "s2")})
	w.log(
		lg{at: 1, text: "starting", level: 9, trace: 1, span: 1, scope: "app", contents: map[string]any{"kaizen.run.id": "r1", "kaizen.agent.id": "planner-1", "step": 1}},
		lg{at: 11, text: "search failed", level: 17, trace: 1, span: 9, scope: "app.tools", contents: map[string]any{"detail": "Timeout"}},
		lg{at: 12, text: "a thing", level: 5, scope: "other"},
	)
}

func merge(base map[string]any, more ...any) map[string]any {
	m := map[string]any{}
	for k, v := range base {
		m[k] = v
	}
	for i := 0; i < len(more); i += 2 {
		m[more[i].(string)] = more[i+1]
	}
	return m
}
