package logship

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/kaizen-go/kaizen/agentlog"
	"github.com/kaizen-go/kaizen/audit"
	"github.com/kaizen-go/kaizen/server/internal/record"
)

func open(t *testing.T, cfg Config) *Shipper {
	t.Helper()
	s, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = s.Close(ctx) // a test that cares has closed it
	})
	return s
}

var traceOne = record.TraceID{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}

func logRecord(i int) *record.Log {
	return &record.Log{
		Time: time.Date(2026, 3, 9, 14, 5, 6, i, time.UTC), Severity: 13, Message: fmt.Sprintf("line %d", i), Logger: "planner",
		TraceID: traceOne, SpanID: record.SpanID{1}, Service: "helper", RunID: "run-1", AgentID: "helper", SessionID: "s-1",
		Attributes: map[string]any{"n": int64(i), "password": "hunter2"},
	}
}

func auditEntry() (audit.Entry, audit.Receipt) {
	e := audit.Entry{
		Time: time.Date(2026, 3, 9, 14, 5, 7, 0, time.UTC), AgentID: "helper", Action: "tool_execute", Result: audit.Denied,
		Details: map[string]any{"secret": "of ada"}, UserID: "ada", Subject: "ada", RunID: "run-1", TraceID: traceOne.String(), SpanID: "0100000000000000",
	}
	return e, audit.Receipt{Index: 7, ID: "01HZY3V9T5XKQ2M4N6P8R0S1T2"}
}

// TestShipToOpenSearch sends to a real OpenSearch with the template that we
// ship: one query by trace id finds logs and audit headers; what is sent while
// the node is dead arrives when it is back, once.
func TestShipToOpenSearch(t *testing.T) {
	node := newOpenSearch(t)
	node.start()
	node.installTemplate()
	spool := t.TempDir()
	s := open(t, Config{URL: node.url(), SpoolDir: spool})
	const lines = 300
	for i := range lines {
		s.Logs([]*record.Log{logRecord(i)})
	}
	e, r := auditEntry()
	again := r
	again.Duplicate = true
	s.Entries([]audit.Entry{e, e}, []audit.Receipt{r, again}, e.Time)
	if err := s.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	both := node.sources("logs-kaizen*", quoted("trace.id", traceOne.String()))
	if len(both) != lines+1 {
		t.Fatalf("one query by trace id finds %d documents, want %d lines and one audit entry: %v of the logs, of %v; sent %+v",
			len(both), lines, len(node.sources(LogStream, "*")), node.call("GET", "/_data_stream", nil), s.Stats())
	}
	checkDocuments(t, both)
	// Headers of entries have fields of their own, which dashboards group by.
	if got := node.sources("logs-kaizen*", `event.action:tool_execute AND kaizen.audit.result:denied AND kaizen.audit.index:7`); len(got) != 1 {
		t.Errorf("%d audit headers by action, result and index, want 1", len(got))
	}
	checkAgentlog(t, node)

	node.kill()
	for i := range lines {
		s.Logs([]*record.Log{logRecord(lines + i)})
	}
	// Another process takes over what the dead server left to the spool.
	if err := s.Close(t.Context()); err != nil {
		t.Fatalf("close while the server is dead, with room in the spool: %v", err)
	}
	node.start()
	next := open(t, Config{URL: node.url(), SpoolDir: spool})
	next.Logs([]*record.Log{logRecord(2 * lines)}) // goes after what was in the spool
	if err := next.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := len(node.sources(LogStream, "*")); got != 2*lines+1 {
		t.Errorf("%d lines after the outage, want %d, each once", got, 2*lines+1)
	}
	if st := next.Stats()["shipped_logs"]; len(st.Dropped) != 0 || st.Adopted != lines {
		t.Errorf("adopted %d, dropped %v, want %d and nothing", st.Adopted, st.Dropped, lines)
	}
}

// checkAgentlog sends a line as an agent does that ships its logs itself: the
// same query by trace finds it.
func checkAgentlog(t *testing.T, node *openSearch) {
	t.Helper()
	sink, err := agentlog.NewElastic(agentlog.ElasticConfig{URL: node.url(), DataStream: "logs-kaizen-agents", SpoolDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	logs, err := agentlog.New(agentlog.Config{Sinks: []agentlog.Sink{sink}})
	if err != nil {
		t.Fatal(err)
	}
	span := trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID(traceOne), SpanID: trace.SpanID{1}})
	logs.Logger("agent").InfoContext(trace.ContextWithSpanContext(t.Context(), span), "from the agent", "password", "hunter2")
	if err := logs.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	found := node.sources("logs-kaizen*", quoted("trace.id", traceOne.String())+` AND log.logger:agent`)
	if len(found) != 1 || found[0]["message"] != "from the agent" || strings.Contains(fmt.Sprint(found), "hunter2") {
		t.Errorf("the agent's own line: %v", found)
	}
}

func checkDocuments(t *testing.T, found []map[string]any) {
	t.Helper()
	first, last := found[0], found[len(found)-1]
	for key, want := range map[string]string{
		"message": "line 0", "log.level": "warning", "log.logger": "planner", "span.id": "0100000000000000",
		"gen_ai.agent.id": "helper", "gen_ai.conversation.id": "s-1", "kaizen.run.id": "run-1",
	} {
		if first[key] != want {
			t.Errorf("%s = %v, want %q", key, first[key], want)
		}
	}
	context, _ := first["kaizen.context"].(map[string]any)
	if got := fmt.Sprint(context["password"]); strings.Contains(got, "hunter2") {
		t.Error("a password was shipped")
	}
	text := fmt.Sprint(last)
	for _, want := range []string{"tool_execute", "denied", "01HZY3V9T5XKQ2M4N6P8R0S1T2", "run-1"} {
		if !strings.Contains(text, want) {
			t.Errorf("audit header %v lacks %q", last, want)
		}
	}
	if strings.Contains(text, "ada") {
		t.Errorf("audit header %v holds what can be erased in the ledger", last)
	}
}

func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	empty := filepath.Join(dir, "empty")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, cfg := range map[string]Config{
		"no password file": {URL: "http://127.0.0.1:1", User: "u", PasswordFile: filepath.Join(dir, "none")},
		"empty secret":     {URL: "http://127.0.0.1:1", APIKeyFile: empty},
		"no certificate":   {URL: "https://127.0.0.1:1", CAFile: empty},
		"not a URL":        {URL: "::"},
	} {
		if _, err := Open(cfg); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestLevel(t *testing.T) {
	for severity, want := range map[int]string{0: "INFO", 5: "DEBUG", 9: "INFO", 13: "WARN", 17: "ERROR", 21: "ERROR+4"} {
		if got := level(severity).String(); got != want {
			t.Errorf("level(%d) = %s, want %s", severity, got, want)
		}
	}
}
