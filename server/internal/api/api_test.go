package api

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// TestStats counts one of everything, before and after a restart.
func TestStats(t *testing.T) {
	w := newWorld(t)
	w.story()
	want := object{
		"runs": 3., "runs_failed": 1., "spans": 14., "model_calls": 5., "model_calls_failed": 1., "model_calls_unpriced": 1.,
		"tool_calls": 3., "tool_calls_failed": 1., "log_records": 3., "sessions": 2., "agents": 2.,
		// claude 100 and 400 cached, 30 and 20 reasoning; gpt 10, 5; embedding 7; unknown 3
		"tokens":   object{"input": 120., "cache_read": 400., "cache_write": 0., "output": 35., "reasoning": 20.},
		"cost_usd": 0.000000572, "audit_entries": 0.,
	}
	for _, when := range []string{"before", "after restart"} {
		if diff := cmp.Diff(want, get[object](w, "/api/stats")); diff != "" {
			t.Errorf("%s: /api/stats (-want +got):\n%s", when, diff)
		}
		w.restart()
	}
	t.Run("window", func(t *testing.T) {
		got := get[object](w, "/api/stats?since=2026-11-22T10:00:09Z&until=2026-11-22T10:00:14Z")
		if got["model_calls"] != 1. || got["tool_calls"] != 3. || got["runs"] != 1. || got["log_records"] != 2. {
			t.Errorf("window: %v", got)
		}
	})
}

func TestTraces(t *testing.T) {
	w := newWorld(t)
	w.story()
	mustAppendAudit(t, w, fmt.Sprintf(`{"agent_id":"planner-1","action":"tool.execute","result":"failure","trace_id":%q,"span_id":%q}`, traceHex(1), spanHex(9)))
	traces := list(get[object](w, "/api/traces")["traces"])
	if len(traces) != 2 || traces[0]["trace_id"] != traceHex(2) {
		t.Fatalf("traces: %v", traces)
	}
	want := object{
		"trace_id": traceHex(1), "name": "invoke_agent planner", "run_id": "r1", "agent_name": "planner", "agent_id": "planner-1",
		"session_id": "s1", "user_id": "u1", "service": "svc",
		"start": "2026-11-22T10:00:00.000000000Z", "end": "2026-11-22T10:00:30.000000000Z", "duration_ms": 30000.,
		"status": "ok", "spans": 13., "errors": 4., "runs": 2., "model_calls": 5., "tool_calls": 3., "log_records": 2., "audit_entries": 1.,
		"tokens":   object{"input": 120., "cache_read": 400., "cache_write": 0., "output": 35., "reasoning": 20.},
		"cost_usd": 0.000000572, "unpriced_calls": 1., "agents": []any{"planner", "helper"},
	}
	if diff := cmp.Diff(want, traces[1]); diff != "" {
		t.Errorf("trace 1 (-want +got):\n%s", diff)
	}
	if k := traces[0]; k["status"] != "running" || k["end"] != nil {
		t.Errorf("killed run: status %v, end %v", k["status"], k["end"])
	}
	for query, n := range map[string]int{
		"agent=planner": 2, "agent=helper": 1, "agent=nobody": 0, "status=running": 1, "status=error": 0, "session=s2": 1,
		"user=u1": 2, "user=u2": 0, "q=HELPER": 1, "q=anthropic.messages": 1, "q=nothing-like-it": 0, "q=" + traceHex(2): 1,
		"since=2026-11-22T10:01:00Z": 1, "until=2026-11-22T10:01:00Z": 1, "since=1h": 2, "since=59m": 1, "limit=1": 1,
	} {
		if got := list(get[object](w, "/api/traces?"+query)["traces"]); len(got) != n {
			t.Errorf("traces?%s: %d, want %d", query, len(got), n)
		}
	}
}

func mustAppendAudit(t *testing.T, w *world, body string) {
	t.Helper()
	if rec := w.do("POST", "/api/audit", body); rec.Code != 200 {
		t.Fatalf("POST /api/audit: %d %s", rec.Code, rec.Body)
	}
}

func TestTraceAndSpan(t *testing.T) {
	w := newWorld(t)
	w.story()
	mustAppendAudit(t, w, fmt.Sprintf(`{"agent_id":"planner-1","action":"tool.execute","result":"failure","trace_id":%q,"span_id":%q}`, traceHex(1), spanHex(9)))
	d := get[object](w, "/api/traces/"+traceHex(1))
	spans := list(d["spans"])
	if len(spans) != 13 || d["trace"].(object)["trace_id"] != traceHex(1) {
		t.Fatalf("%d spans", len(spans))
	}
	var order []string
	for _, s := range spans {
		order = append(order, strings.TrimLeft(s["span_id"].(string), "0"))
	}
	if got := strings.Join(order, " "); got != "1 2 3 4 5 6 7 8 9 a b c d" {
		t.Errorf("order %s", got)
	}
	lib := spans[2]
	if lib["agent_name"] != "planner" || lib["run_id"] != "r1" || lib["first_chunk_ms"] != 250. || lib["cost_usd"] != 5.5e-7 {
		t.Errorf("library span: %v", lib)
	}
	if helper := spans[11]; helper["agent_name"] != "helper" || helper["run_id"] != "r2" || helper["cost_usd"] != nil {
		t.Errorf("span of the helper: %v", helper)
	}

	one := get[object](w, "/api/spans/"+traceHex(1)+"/"+spanHex(9))
	if s := one["span"].(object); s["status"] != "error" || s["kind"] != "tool" || s["tool_name"] != "search" {
		t.Errorf("span: %v", s)
	}
	logs, entries, ex := list(one["logs"]), list(one["audit"]), list(one["exemplars"])
	if len(logs) != 1 || logs[0]["message"] != "search failed" || len(entries) != 1 || entries[0]["action"] != "tool.execute" {
		t.Errorf("logs %v, audit %v", logs, entries)
	}
	found := false
	for _, e := range ex {
		found = found || e["metric"] == "kaizen_tool_call_duration_seconds" && e["value"] == 1.
	}
	if !found {
		t.Errorf("exemplars %v", ex)
	}
	if rec := w.do("GET", "/api/traces/"+traceHex(99), ""); rec.Code != 404 {
		t.Errorf("unknown trace: %d", rec.Code)
	}
	if rec := w.do("GET", "/api/spans/"+traceHex(1)+"/"+spanHex(99), ""); rec.Code != 404 {
		t.Errorf("unknown span: %d", rec.Code)
	}
}

func TestSpansLogsSessionsAgentsCosts(t *testing.T) {
	w := newWorld(t)
	w.story()
	for query, n := range map[string]int{
		"": 14, "kind=tool": 3, "kind=run&status=error": 1, "tool=rm": 1, "model=claude": 3, "agent=helper": 3, "run_id=r1": 10,
		"trace_id=" + traceHex(2): 1, "status=running": 1, "limit=3": 3,
	} {
		if got := list(get[object](w, "/api/spans?"+query)["spans"]); len(got) != n {
			t.Errorf("spans?%s: %d, want %d", query, len(got), n)
		}
	}
	for query, n := range map[string]int{
		"": 3, "level=error": 1, "level=info": 2, "logger=other": 1, "q=TIMEOUT": 1, "run_id=r1": 1, "agent=planner": 2,
		"trace_id=" + traceHex(1): 2, "trace_id=" + traceHex(1) + "&span_id=" + spanHex(9): 1, "span_id=" + spanHex(9): 1,
	} {
		if got := list(get[object](w, "/api/logs?"+query)["logs"]); len(got) != n {
			t.Errorf("logs?%s: %d, want %d", query, len(got), n)
		}
	}
	if l := list(get[object](w, "/api/logs?order=asc")["logs"])[0]; l["message"] != "starting" || l["run_id"] != "r1" || !cmp.Equal(l["context"], object{"step": 1.}) {
		t.Errorf("first log: %v", l)
	}
	sessions := list(get[object](w, "/api/sessions")["sessions"])
	if len(sessions) != 2 || sessions[0]["session_id"] != "s2" || sessions[1]["model_calls"] != 5. || sessions[1]["cost_usd"] != 0.000000572 || sessions[1]["runs_failed"] != 1. {
		t.Errorf("sessions: %v", sessions)
	}
	agents := list(get[object](w, "/api/agents")["agents"])
	if len(agents) != 2 || agents[1]["agent"] != "planner" || agents[1]["active"] != 1. || agents[1]["runs"] != 2. || agents[1]["run_p50_ms"] != 30000. || agents[1]["model_calls"] != 3. || agents[0]["runs_failed"] != 1. {
		t.Errorf("agents: %v", agents)
	}
	for by, want := range map[string]string{
		"model": "claude gpt e unknown-model", "provider": "anthropic openai ", "agent": "planner helper", "session": "s1", "user": "u1",
	} {
		c := get[object](w, "/api/costs?by="+by)
		var keys []string
		for _, r := range list(c["rows"]) {
			keys = append(keys, r["key"].(string))
		}
		if got := strings.Join(keys, " "); got != want || c["total_usd"] != 0.000000572 || c["model_calls"] != 5. || c["unpriced_calls"] != 1. {
			t.Errorf("costs by %s: %q, %v", by, got, c)
		}
	}
}

// TestPaging walks every list in pages of every size and compares with the
// whole, also while newer items arrive.
func TestPaging(t *testing.T) {
	w := newWorld(t)
	for n := range byte(7) {
		// Pairs of traces start at the same moment.
		w.send(n+1, sp{id: 1, name: "invoke_agent a", at: int(n / 2), end: 10, attrs: map[string]any{
			"gen_ai.operation.name": "invoke_agent", "gen_ai.conversation.id": fmt.Sprint("s", n)}})
		w.log(lg{at: int(n / 2), text: fmt.Sprint("log ", n), level: 9})
		mustAppendAudit(t, w, fmt.Sprintf(`{"agent_id":"a","action":"x","result":"success","details":{"n":%d}}`, n))
	}
	for _, tt := range []struct{ path, list, key string }{
		{"/api/traces?", "traces", "trace_id"}, {"/api/spans?", "spans", "trace_id"}, {"/api/logs?", "logs", "message"},
		{"/api/logs?order=asc&", "logs", "message"}, {"/api/sessions?", "sessions", "session_id"},
		{"/api/audit?", "entries", "id"}, {"/api/audit?order=desc&", "entries", "id"},
	} {
		keys := func(v object) []any {
			var out []any
			for _, e := range list(v[tt.list]) {
				out = append(out, e[tt.key])
			}
			return out
		}
		whole := keys(get[object](w, tt.path))
		if len(whole) != 7 {
			t.Fatalf("%s: %d items", tt.path, len(whole))
		}
		for limit := 1; limit <= 8; limit++ {
			var got []any
			cursor := ""
			for range 9 {
				page := get[object](w, fmt.Sprintf("%slimit=%d&cursor=%s", tt.path, limit, url.QueryEscape(cursor)))
				got = append(got, keys(page)...)
				if cursor = page["next"].(string); cursor == "" {
					break
				}
			}
			if diff := cmp.Diff(whole, got); diff != "" {
				t.Errorf("%slimit=%d (-whole +paged):\n%s", tt.path, limit, diff)
			}
		}
	}
}

func TestBadInput(t *testing.T) {
	w := newWorld(t)
	for _, tt := range []struct {
		method, path, body string
		status             int
		says               string
	}{
		{"GET", "/api/traces?colour=red", "", 400, "colour"},
		{"GET", "/api/agents?limit=5", "", 400, "limit"},
		{"GET", "/api/stats?since=a&since=b", "", 400, "2 times"},
		{"GET", "/api/traces?since=yesterday", "", 400, "yesterday"},
		{"GET", "/api/traces?since=-5h", "", 400, "since"},
		{"GET", "/api/traces?limit=0", "", 400, "limit"},
		{"GET", "/api/traces?limit=1001", "", 400, "limit"},
		{"GET", "/api/traces?cursor=!", "", 400, "cursor"},
		{"GET", "/api/logs?cursor=AAAA", "", 400, "cursor"},
		{"GET", "/api/audit?cursor=AAAA", "", 400, "cursor"},
		{"GET", "/api/traces?status=fine", "", 400, "fine"},
		{"GET", "/api/spans?kind=thing", "", 400, "thing"},
		{"GET", "/api/spans?trace_id=12", "", 400, "trace_id"},
		{"GET", "/api/logs?level=loud", "", 400, "loud"},
		{"GET", "/api/logs?order=random", "", 400, "random"},
		{"GET", "/api/costs?by=colour", "", 400, "colour"},
		{"GET", "/api/traces/xyz", "", 400, "xyz"},
		{"GET", "/api/spans/" + traceHex(1) + "/q", "", 400, "span_id"},
		{"GET", "/api/audit?result=maybe", "", 400, "maybe"},
		{"GET", "/api/audit/proof/-1", "", 400, "-1"},
		{"GET", "/api/audit/proof/5", "", 404, "no such entry"},
		{"GET", "/api/nothing", "", 404, "/api/nothing"},
		{"POST", "/api/traces", "", 405, "GET"},
		{"DELETE", "/api/audit", "", 405, "GET or POST"},
		{"POST", "/api/audit", "", 400, "no entry"},
		{"POST", "/api/audit", "{", 400, "entry 0"},
		{"POST", "/api/audit", "{}", 400, "agent_id"},
		{"POST", "/api/audit", "[1]", 400, "entry 0"},
		{"POST", "/api/audit", `[{"agent_id":"a","action":"x","result":"success"},{"agent_id":"a","action":"x","result":"perhaps"}]`, 400, "entry 1"},
		{"POST", "/api/audit", `{"agent_id":"a","action":"x","result":"success","colour":"red"}`, 400, "colour"},
	} {
		rec := w.do(tt.method, tt.path, tt.body)
		if rec.Code != tt.status || !strings.Contains(rec.Body.String(), tt.says) || !strings.Contains(rec.Body.String(), `"code"`) {
			t.Errorf("%s %s %s: %d %s, want %d that says %q", tt.method, tt.path, tt.body, rec.Code, rec.Body, tt.status, tt.says)
		}
	}
	if n := w.ledger.Size(); n != 0 {
		t.Errorf("%d entries were stored", n)
	}
}

func TestAudit(t *testing.T) {
	w := newWorld(t)
	rec := w.do("POST", "/api/audit", `[{"agent_id":"a","action":"x","result":"success","id":"01JD0000000000000000000001"},{"agent_id":"b","action":"y","result":"denied","user_id":"u"}]`)
	if rec.Code != 200 {
		t.Fatalf("%d %s", rec.Code, rec.Body)
	}
	// One again, as a JSON line beside a new one: the receipt is the old one's.
	rec = w.do("POST", "/api/audit", `{"agent_id":"a","action":"x","result":"success","id":"01JD0000000000000000000001","time":"2026-11-22T11:00:00Z"}`+"\n"+
		`{"agent_id":"c","action":"z","result":"failure"}`+"\n")
	if rec.Code != 200 || w.ledger.Size() != 3 {
		t.Fatalf("%d %s, %d entries", rec.Code, rec.Body, w.ledger.Size())
	}
	page := get[object](w, "/api/audit?agent=b&user=u&action=y&result=denied")
	if e := list(page["entries"]); len(e) != 1 || e[0]["index"] != 1. || page["size"] != 3. {
		t.Errorf("query: %v", page)
	}
	if c := get[object](w, "/api/audit?count=true&result=success"); !cmp.Equal(c, object{"count": 1.}) {
		t.Errorf("count: %v", c)
	}
	cp := get[object](w, "/api/audit/checkpoint")
	if cp["size"] != 3. || cp["origin"] == "" || cp["note"] == "" || len(cp["root"].(string)) != 64 {
		t.Errorf("checkpoint: %v", cp)
	}
	proof := w.do("GET", "/api/audit/proof/1", "")
	if proof.Code != 200 || proof.Body.Len() == 0 || !strings.HasPrefix(proof.Header().Get("Content-Type"), "text/plain") {
		t.Errorf("proof: %d %s", proof.Code, proof.Body)
	}
	without := New(Config{Store: w.store})
	w.api = without
	if rec := w.do("GET", "/api/audit", ""); rec.Code != http.StatusServiceUnavailable {
		t.Errorf("without a ledger: %d", rec.Code)
	}
	if got := get[object](w, "/api/stats"); got["audit_entries"] != 0. {
		t.Errorf("without a ledger: %v", got)
	}
}

func TestQueryDuration(t *testing.T) {
	w := newWorld(t)
	get[object](w, "/api/stats")
	w.do("GET", "/api/traces/zz", "")
	if n, err := testutil.GatherAndCount(w.reg, "kaizen_server_query_duration_seconds"); err != nil || n != 2 {
		t.Errorf("%d endpoints, %v", n, err)
	}
	problems, err := testutil.GatherAndLint(w.reg)
	if err != nil || len(problems) > 0 {
		t.Errorf("%v %v", problems, err)
	}
}
