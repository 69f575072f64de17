package kaizen_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/kaizen-go/kaizen"
	"github.com/kaizen-go/kaizen/audit"
	"github.com/kaizen-go/kaizen/hook"
	"github.com/kaizen-go/kaizen/price"
)

// observation is an observer whose four records can be read.
type observation struct {
	obs   *kaizen.Observer
	spans *tracetest.SpanRecorder
	logs  *bytes.Buffer
}

func observe(t *testing.T, cfg kaizen.Config) *observation {
	t.Helper()
	t.Setenv("KAIZEN_SERVER", "")
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "")
	o := &observation{spans: tracetest.NewSpanRecorder(), logs: &bytes.Buffer{}}
	cfg.TracerProvider = sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(o.spans))
	cfg.LogWriter = o.logs
	cfg.LogLevel = -8
	if cfg.AuditDir == "" && cfg.Off&kaizen.Audit == 0 {
		cfg.AuditDir = filepath.Join(t.TempDir(), "audit")
	}
	obs, err := kaizen.Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	o.obs = obs
	t.Cleanup(func() {
		if err := obs.Shutdown(context.Background()); err != nil {
			t.Errorf("Shutdown = %v", err)
		}
	})
	return o
}

func (o *observation) entries(t *testing.T) []audit.Entry {
	t.Helper()
	if err := o.obs.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	var es []audit.Entry
	for e, err := range o.obs.Audit().Ledger().Query(t.Context(), audit.Query{}) {
		if err != nil {
			t.Fatal(err)
		}
		es = append(es, e)
	}
	return es
}

func (o *observation) lines(t *testing.T) []map[string]any {
	t.Helper()
	if err := o.obs.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	var ls []map[string]any
	for line := range strings.Lines(o.logs.String()) {
		var l map[string]any
		if err := json.Unmarshal([]byte(line), &l); err != nil {
			t.Fatalf("log line %q: %v", line, err)
		}
		ls = append(ls, l)
	}
	return ls
}

func (o *observation) span(t *testing.T, name string) sdktrace.ReadOnlySpan {
	t.Helper()
	for _, s := range o.spans.Ended() {
		if s.Name() == name {
			return s
		}
	}
	t.Fatalf("no span named %q", name)
	return nil
}

func attributes(s sdktrace.ReadOnlySpan) map[string]string {
	m := make(map[string]string)
	for _, kv := range s.Attributes() {
		m[string(kv.Key)] = kv.Value.String()
	}
	return m
}

// scrape returns the exposition text, exemplars included.
func (o *observation) scrape(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	mfs, err := o.obs.Metrics().Gatherer().Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, mf := range mfs {
		b.WriteString(mf.String() + "\n")
	}
	return b.String()
}

var testRun = kaizen.Run{RunID: "01RUN", AgentID: "agent-1", AgentName: "helper", SessionID: "s1", UserID: "u1"}

// TestOneEventFourRecords: each kind of event becomes the span, samples, line
// and entry of its rule, all under the same ids.
func TestOneEventFourRecords(t *testing.T) {
	tests := []struct {
		payload hook.Payload
		span    string
		kind    string
		metric  string
		line    string
		action  string
		want    map[string]string // attributes beside identity
	}{
		{&hook.RunInfo{Iterations: 3, StopReason: "answer", ResumedFrom: "01OLD"}, "invoke_agent helper", "run", "kaizen_agent_runs_total", "agent run", "agent_run", map[string]string{"gen_ai.operation.name": "invoke_agent", "kaizen.run.iterations": "3", "kaizen.run.resumed_from": "01OLD"}},
		{&hook.Iteration{Number: 2}, "iteration", "iteration", "", "iteration", "", map[string]string{"kaizen.iteration": "2"}},
		{&hook.Plan{Steps: 4}, "plan helper", "plan", "kaizen_plans_total", "plan", "plan_generate", map[string]string{"gen_ai.operation.name": "plan", "kaizen.plan.steps": "4"}},
		{&hook.ModelCall{Operation: "chat", Provider: "openai", Model: "gpt-5-mini", HasUsage: true, Usage: price.Usage{Input: 100, CacheRead: 40, Output: 10, Reasoning: 5}, Attempts: 2},
			"chat gpt-5-mini", "model", "kaizen_model_calls_total", "model call", "model_call",
			map[string]string{
				"gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai", "gen_ai.request.model": "gpt-5-mini",
				"gen_ai.usage.input_tokens": "140", "gen_ai.usage.output_tokens": "15", "gen_ai.usage.cache_read.input_tokens": "40",
				"gen_ai.usage.reasoning.output_tokens": "5", "kaizen.attempts": "2", "kaizen.cost.nano_usd": "56000",
			}},
		{&hook.Tool{Name: "search", CallID: "c1", Arguments: `{"q":"x"}`}, "execute_tool search", "tool", "kaizen_tool_calls_total", "tool call", "tool_execute", map[string]string{"gen_ai.tool.name": "search", "gen_ai.tool.call.id": "c1"}},
		{&hook.MemoryLoad{Store: "file", Records: 7}, "search_memory", "memory", "kaizen_memory_operations_total", "memory load", "memory_load", map[string]string{"gen_ai.memory.record.count": "7"}},
		{&hook.MemorySave{Store: "file", Records: 1}, "update_memory", "memory", "kaizen_memory_operations_total", "memory save", "memory_save", nil},
		{&hook.CheckpointSave{CheckpointID: "k", Step: 2, SizeBytes: 99}, "checkpoint save", "checkpoint", "kaizen_checkpoints_total", "checkpoint save", "checkpoint_save", map[string]string{"kaizen.checkpoint.size_bytes": "99"}},
		{&hook.CheckpointLoad{CheckpointID: "k"}, "checkpoint load", "checkpoint", "kaizen_checkpoints_total", "checkpoint load", "checkpoint_load", nil},
		{&hook.Permission{Action: "tool:x", Decision: "allow", By: "rule"}, "permission check", "permission", "kaizen_permission_checks_total", "permission check", "permission_grant", map[string]string{"kaizen.decision": "allow"}},
		{&hook.Interrupt{Mode: "graceful", Source: "user"}, "interrupt", "interrupt", "kaizen_interrupts_total", "interrupt", "interrupt_triggered", map[string]string{"kaizen.interrupt.mode": "graceful"}},
		{&hook.Specialist{Agent: "other", Pattern: "tool"}, "specialist other", "specialist", "", "specialist", "specialist_invoke", nil},
		{&hook.Handoff{From: "a", To: "b"}, "handoff b", "handoff", "kaizen_handoffs_total", "handoff", "handoff", nil},
		{&hook.ErrorInfo{Where: "startup"}, "error startup", "error", "kaizen_errors_total", "error", "error", nil},
		{&hook.Guard{Guard: "loop", Action: "stop"}, "guard loop", "guard", "kaizen_guard_events_total", "guard", "guard_action", nil},
	}
	if len(tests) != len(hook.Kinds()) {
		t.Fatalf("%d kinds tested of %d", len(tests), len(hook.Kinds()))
	}
	for _, tt := range tests {
		t.Run(tt.payload.Kind().String(), func(t *testing.T) {
			o := observe(t, kaizen.Config{})
			ctx := kaizen.WithRun(t.Context(), testRun)
			if err := o.obs.Hooks().Do(ctx, tt.payload, func(context.Context, *hook.Op) error { return nil }); err != nil {
				t.Fatal(err)
			}
			s := o.span(t, tt.span)
			traceID, spanID := s.SpanContext().TraceID().String(), s.SpanContext().SpanID().String()
			attrs := attributes(s)
			want := map[string]string{
				"kaizen.kind": tt.kind, "kaizen.status": "ok", "kaizen.run.id": "01RUN", "gen_ai.agent.name": "helper",
				"gen_ai.agent.id": "agent-1", "gen_ai.conversation.id": "s1", "user.id": "u1",
			}
			for k, v := range tt.want {
				want[k] = v
			}
			for k, v := range want {
				if attrs[k] != v {
					t.Errorf("span attribute %s = %q, want %q", k, attrs[k], v)
				}
			}
			if s.Status().Code != codes.Ok {
				t.Errorf("span status = %v, want ok", s.Status())
			}
			if strings.Contains(s.Name(), "c1") || attrs["gen_ai.tool.call.arguments"] != "" {
				t.Error("content is recorded although it is off")
			}
			if tt.metric != "" {
				text := o.scrape(t)
				i := strings.Index(text, `name:"`+tt.metric+`"`)
				if i < 0 || !strings.Contains(text[i:], "helper") {
					t.Errorf("metric %s is missing", tt.metric)
				}
				if tt.kind != "error" && !strings.Contains(text, traceID) {
					t.Errorf("no exemplar leads to trace %s", traceID)
				}
			}
			o.checkLine(t, tt.line, traceID, spanID)
			o.checkEntry(t, tt.action, traceID, spanID)
		})
	}
}

func (o *observation) checkLine(t *testing.T, message, traceID, spanID string) {
	t.Helper()
	for _, l := range o.lines(t) {
		if l["message"] == message && l["span_id"] == spanID {
			if l["trace_id"] != traceID || l["run_id"] != "01RUN" || l["agent_id"] != "agent-1" || l["session_id"] != "s1" || l["user_id"] != "u1" {
				t.Errorf("ids of the line %q are not those of its span: %v", message, l)
			}
			return
		}
	}
	t.Errorf("no line %q of span %s in:\n%s", message, spanID, o.logs)
}

func (o *observation) checkEntry(t *testing.T, action, traceID, spanID string) {
	t.Helper()
	for _, e := range o.entries(t) {
		if action == "" {
			t.Errorf("an entry %s that the rule has not", e.Action)
			return
		}
		if e.Action == action {
			if e.TraceID != traceID || e.SpanID != spanID || e.RunID != "01RUN" || e.AgentID != "agent-1" || e.UserID != "u1" || e.Result != audit.Success {
				t.Errorf("entry = %+v, want the ids of its span", e)
			}
			return
		}
	}
	if action != "" {
		t.Errorf("no entry %s", action)
	}
}

func TestHowOperationsEnd(t *testing.T) {
	tests := []struct {
		name      string
		err       error
		status    string
		errorType string
		result    audit.Result
		level     string
	}{
		{"error", errors.New("disk on fire"), "error", "_OTHER", audit.Failure, "ERROR"},
		{"denied", &hook.DeniedError{Kind: hook.KindTool, Name: "x", By: "rule", Reason: "no"}, "denied", "denied", audit.Denied, "WARNING"},
		{"cancelled", context.Canceled, "cancelled", "cancelled", audit.Failure, "WARNING"},
		{"deadline", context.DeadlineExceeded, "error", "timeout", audit.Failure, "ERROR"},
		{"panic", &hook.PanicError{Value: "x", Stack: []byte("goroutine 1")}, "error", "panic", audit.Failure, "ERROR"},
		{"secret in the text", errors.New("login with password=hunter2secret failed, key sk-ant-api03-AbCdEfGhIjKlMnOpQrStUvWxYz0123456789AbCdEfGhIjKlMnOpQrStUvWx"), "error", "_OTHER", audit.Failure, "ERROR"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			o := observe(t, kaizen.Config{})
			_ = o.obs.Hooks().Do(kaizen.WithRun(t.Context(), testRun), &hook.Tool{Name: "x"}, func(context.Context, *hook.Op) error { return tt.err })
			s := o.span(t, "execute_tool x")
			attrs := attributes(s)
			if attrs["kaizen.status"] != tt.status || attrs["error.type"] != tt.errorType || s.Status().Code != codes.Error {
				t.Errorf("span: status %s, type %s, code %v", attrs["kaizen.status"], attrs["error.type"], s.Status().Code)
			}
			if len(s.Events()) != 1 || s.Events()[0].Name != "exception" {
				t.Errorf("span events = %v, want the exception", s.Events())
			}
			es := o.entries(t)
			if len(es) != 1 || es[0].Result != tt.result {
				t.Errorf("entries = %+v, want one with %s", es, tt.result)
			}
			line := o.lines(t)[0]
			if !strings.EqualFold(line["level"].(string), tt.level) {
				t.Errorf("level = %v, want %s", line["level"], tt.level)
			}
			entry, err := json.Marshal(es)
			if err != nil {
				t.Fatal(err)
			}
			for where, text := range map[string]string{"log": o.logs.String(), "span": s.Status().Description, "entry": string(entry)} {
				if strings.Contains(text, "hunter2secret") || strings.Contains(text, "sk-ant-api03-AbCdEf") {
					t.Errorf("the secret stands in the %s: %s", where, text)
				}
			}
		})
	}
}

func TestContent(t *testing.T) {
	const secret = "sk-ant-api03-AbCdEfGhIjKlMnOpQrStUvWxYz0123456789AbCdEfGhIjKlMnOpQrStUvWx"
	tests := []struct {
		name    string
		content kaizen.Content
		text    bool
		secret  bool
	}{
		{"off", kaizen.ContentOff, false, false},
		{"redacted", kaizen.ContentRedacted, true, false},
		{"full", kaizen.ContentFull, true, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			o := observe(t, kaizen.Config{Content: tt.content})
			tool := &hook.Tool{Name: "x", Arguments: `{"q":"weather"}`, Result: "the key is " + secret}
			if err := o.obs.Hooks().Do(t.Context(), tool, func(context.Context, *hook.Op) error { return nil }); err != nil {
				t.Fatal(err)
			}
			attrs := attributes(o.span(t, "execute_tool x"))
			if got := attrs["gen_ai.tool.call.arguments"] != ""; got != tt.text {
				t.Errorf("arguments recorded: %v, want %v", got, tt.text)
			}
			if got := strings.Contains(attrs["gen_ai.tool.call.result"], secret); got != tt.secret {
				t.Errorf("secret recorded: %v, want %v", got, tt.secret)
			}
			// Neither the log nor the ledger ever holds it: they redact on their own.
			b, err := json.Marshal(o.entries(t))
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(o.logs.String(), secret) || strings.Contains(string(b), secret) {
				t.Error("the secret stands in the log or the ledger")
			}
		})
	}
}

func TestUnpricedIsNotFree(t *testing.T) {
	o := observe(t, kaizen.Config{})
	call := &hook.ModelCall{Operation: "chat", Provider: "openai", Model: "no-such-model", HasUsage: true, Usage: price.Usage{Input: 10}}
	if err := o.obs.Hooks().Do(kaizen.WithRun(t.Context(), testRun), call, func(context.Context, *hook.Op) error { return nil }); err != nil {
		t.Fatal(err)
	}
	attrs := attributes(o.span(t, "chat no-such-model"))
	if _, has := attrs["kaizen.cost.nano_usd"]; has || attrs["kaizen.cost.unpriced"] != "true" {
		t.Errorf("attributes = %v, want unpriced and no cost", attrs)
	}
	labels := []string{"agent", "helper", "provider", "openai", "model", "no-such-model"}
	if v, _ := o.obs.Metrics().Value("kaizen_model_calls_unpriced_total", labels...); v != 1 {
		t.Errorf("unpriced calls = %v, want 1", v)
	}
	if v, ok := o.obs.Metrics().Value("kaizen_model_cost_usd_total", labels...); ok {
		t.Errorf("cost = %v, want no series: unknown is not zero", v)
	}
}

func TestPartsOff(t *testing.T) {
	o := observe(t, kaizen.Config{Off: kaizen.Audit})
	if err := o.obs.Hooks().Do(t.Context(), &hook.Tool{Name: "x"}, func(context.Context, *hook.Op) error { return nil }); err != nil {
		t.Fatal(err)
	}
	if _, err := o.obs.Audit().Record(t.Context(), audit.Entry{Action: "x", Result: audit.Success}); !errors.Is(err, kaizen.ErrNoLedger) {
		t.Errorf("Record without a ledger = %v, want ErrNoLedger", err)
	}
	o.obs.Audit().Note(t.Context(), audit.Entry{Action: "x", Result: audit.Success})
}

func TestRecordIsDurableAndFilledIn(t *testing.T) {
	o := observe(t, kaizen.Config{ServiceName: "svc"})
	r, err := o.obs.Audit().Record(kaizen.WithRun(t.Context(), testRun), audit.Entry{
		Action: "data_export", Result: audit.Success, Details: map[string]any{"api_key": "abcdefghijklmnop", "rows": 7},
	})
	if err != nil {
		t.Fatal(err)
	}
	e := o.entries(t)[0]
	if r.Index != 0 || e.AgentID != "agent-1" || e.RunID != "01RUN" || e.ID != r.ID || time.Since(e.Time) > time.Minute {
		t.Errorf("entry = %+v with receipt %+v", e, r)
	}
	if e.Details["api_key"] == "abcdefghijklmnop" {
		t.Error("the key was not redacted")
	}
	if _, err := o.obs.Audit().Record(t.Context(), audit.Entry{Action: "x", Result: "banana"}); err == nil {
		t.Error("a bad result was taken")
	}
	// Outside of a run, the service is who acted.
	o.obs.Audit().Note(t.Context(), audit.Entry{Action: "tidy", Result: audit.Success})
	if es := o.entries(t); len(es) != 2 || es[1].AgentID != "svc" {
		t.Errorf("entries = %+v", es)
	}
}

func TestDurableAuditWithoutLedgerFails(t *testing.T) {
	t.Setenv("KAIZEN_SERVER", "")
	_, err := kaizen.Start(t.Context(), kaizen.Config{DurableAudit: true, LogWriter: &bytes.Buffer{}})
	if !errors.Is(err, kaizen.ErrNoLedger) {
		t.Errorf("Start = %v, want ErrNoLedger", err)
	}
}
