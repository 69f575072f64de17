package normalise

import (
	"errors"
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/kaizen-go/kaizen/price"
	"github.com/kaizen-go/kaizen/server/internal/record"
)

var t0 = time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)

// flat prices a token at a nano-dollar.
type flat struct{}

func (flat) Cost(_, model string, _ time.Time, u price.Usage) (price.Cost, bool) {
	return price.Cost{NanoUSD: u.Total(), Table: "test", Rule: model}, model != "unknown"
}

// span makes a valid span with attributes.
func span(t testing.TB, name string, m map[string]any) ptrace.Span {
	t.Helper()
	s := ptrace.NewSpan()
	s.SetName(name)
	s.SetTraceID(pcommon.TraceID{1})
	s.SetSpanID(pcommon.SpanID{2})
	s.SetStartTimestamp(pcommon.NewTimestampFromTime(t0))
	s.SetEndTimestamp(pcommon.NewTimestampFromTime(t0.Add(time.Second)))
	if err := s.Attributes().FromRaw(m); err != nil {
		t.Fatal(err)
	}
	return s
}

func normal(t testing.TB, scope string, s ptrace.Span) *record.Span {
	t.Helper()
	res, err := NewResource(pcommon.NewResource())
	if err != nil {
		t.Fatal(err)
	}
	out, err := Normaliser{Pricer: flat{}}.Span(res, scope, s, t0)
	if err != nil {
		t.Fatalf("Span: %v", err)
	}
	return out
}

// The price book is what prices calls in a server.
var _ Pricer = (*price.Book)(nil)

type m = map[string]any

func TestUsage(t *testing.T) {
	for _, tt := range []struct {
		name, scope string
		attrs       m
		want        price.Usage
		none        bool
	}{
		{name: "ours: totals include their parts", attrs: m{
			"kaizen.kind": "model", "gen_ai.usage.input_tokens": 1000, "gen_ai.usage.output_tokens": 100,
			"gen_ai.usage.cache_read.input_tokens": 600, "gen_ai.usage.cache_write.input_tokens": 300, "gen_ai.usage.reasoning.output_tokens": 40,
		}, want: price.Usage{Input: 100, CacheRead: 600, CacheWrite: 300, Output: 60, Reasoning: 40}},
		{name: "generation B: cache_creation", attrs: m{
			"gen_ai.operation.name": "chat", "gen_ai.usage.input_tokens": 10, "gen_ai.usage.cache_creation.input_tokens": 4,
		}, want: price.Usage{Input: 6, CacheWrite: 4}},
		{name: "generation A: prompt and completion", attrs: m{
			"gen_ai.operation.name": "chat", "gen_ai.system": "openai", "gen_ai.usage.prompt_tokens": 10, "gen_ai.usage.completion_tokens": 5,
		}, want: price.Usage{Input: 10, Output: 5}},
		{name: "a total smaller than its parts excludes them", attrs: m{
			"gen_ai.operation.name": "chat", "gen_ai.usage.input_tokens": 5, "gen_ai.usage.cache_read.input_tokens": 100,
			"gen_ai.usage.output_tokens": 3, "gen_ai.usage.reasoning.output_tokens": 9,
		}, want: price.Usage{Input: 5, CacheRead: 100, Output: 3, Reasoning: 9}},
		{name: "OpenInference", attrs: m{
			"openinference.span.kind": "LLM", "llm.token_count.prompt": 20, "llm.token_count.completion": 7, "llm.token_count.prompt_details.cache_read": 8,
		}, want: price.Usage{Input: 12, CacheRead: 8, Output: 7}},
		{name: "OpenLLMetry", attrs: m{
			"llm.request.type": "chat", "gen_ai.usage.prompt_tokens": 20, "gen_ai.usage.completion_tokens": 7, "gen_ai.usage.cache_read_input_tokens": 8,
		}, want: price.Usage{Input: 12, CacheRead: 8, Output: 7}},
		{name: "Vercel with Anthropic excludes the cache", scope: "ai", attrs: m{
			"ai.operationId": "ai.generateText.doGenerate", "gen_ai.system": "anthropic.messages", "gen_ai.usage.input_tokens": 50, "ai.usage.cachedInputTokens": 20,
		}, want: price.Usage{Input: 50, CacheRead: 20}},
		{name: "Vercel with OpenAI includes it", scope: "ai", attrs: m{
			"ai.operationId": "ai.streamText.doStream", "gen_ai.system": "openai.chat", "gen_ai.usage.input_tokens": 50, "ai.usage.cachedInputTokens": 20,
		}, want: price.Usage{Input: 30, CacheRead: 20}},
		{name: "Vercel that states the rest", scope: "ai", attrs: m{
			"gen_ai.system": "openai.chat", "ai.usage.inputTokens": 50, "ai.usage.inputTokenDetails.noCacheTokens": 30, "ai.usage.inputTokenDetails.cacheReadTokens": 20,
		}, want: price.Usage{Input: 30, CacheRead: 20}},
		{name: "Langfuse splits everything", attrs: m{
			"langfuse.observation.type": "generation", "langfuse.observation.usage_details": `{"input":10,"input_cached_tokens":90,"output":5,"output_reasoning_tokens":20}`,
		}, want: price.Usage{Input: 10, CacheRead: 90, Output: 5, Reasoning: 20}},
		{name: "Google ADK counts thoughts apart", scope: "gcp.vertex.agent", attrs: m{
			"gen_ai.operation.name": "generate_content", "gen_ai.usage.output_tokens": 50, "gen_ai.usage.experimental.reasoning_tokens": 20,
		}, want: price.Usage{Output: 50, Reasoning: 20}},
		{name: "as text", attrs: m{"gen_ai.operation.name": "chat", "gen_ai.usage.input_tokens": "12"}, want: price.Usage{Input: 12}},
		{name: "negative and senseless counts are none", attrs: m{
			"gen_ai.operation.name": "chat", "gen_ai.usage.input_tokens": -5, "gen_ai.usage.output_tokens": "many", "gen_ai.usage.reasoning.output_tokens": math.Inf(1),
		}, none: true},
		{name: "an hour's cache writes are part of all", attrs: m{
			"gen_ai.operation.name": "chat", "gen_ai.usage.input_tokens": 10, "gen_ai.usage.cache_creation.input_tokens": 4, "gen_ai.usage.cache_creation.ephemeral_1h_input_tokens": 9,
		}, want: price.Usage{Input: 6, CacheWrite: 4, CacheWrite1h: 4}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := normal(t, tt.scope, span(t, "x", tt.attrs))
			if got.Usage != tt.want || got.HasUsage == tt.none {
				t.Errorf("usage %+v (known %v), want %+v", got.Usage, got.HasUsage, tt.want)
			}
		})
	}
}

func TestKindsAndNames(t *testing.T) {
	type want struct {
		Kind                                                   record.Kind
		Operation, Provider, Model, Agent, Tool, Session, User string
	}
	for _, tt := range []struct {
		name, span string
		attrs      m
		want       want
	}{
		{"ours", "invoke_agent planner", m{
			"kaizen.kind": "run", "gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "planner", "gen_ai.conversation.id": "s", "user.id": "u",
		}, want{Kind: "run", Operation: "invoke_agent", Agent: "planner", Session: "s", User: "u"}},
		{"our kind beats the operation", "approve", m{"kaizen.kind": "permission", "gen_ai.operation.name": "execute_tool"}, want{Kind: "permission", Operation: "execute_tool"}},
		{"unknown kind is not believed", "x", m{"kaizen.kind": "thing"}, want{Kind: "other"}},
		{"generation A", "chat gpt", m{"gen_ai.system": "az.ai.openai", "gen_ai.operation.name": "chat", "gen_ai.request.model": "gpt"},
			want{Kind: "model", Operation: "chat", Provider: "azure.ai.openai", Model: "gpt"}},
		{"generation A without operation", "openai.chat", m{"gen_ai.system": "openai", "gen_ai.request.model": "gpt"},
			want{Kind: "model", Operation: "chat", Provider: "openai", Model: "gpt"}},
		{"workflow", "invoke_workflow", m{"gen_ai.operation.name": "invoke_workflow", "gen_ai.workflow.name": "pipeline"}, want{Kind: "run", Operation: "invoke_workflow", Agent: "pipeline"}},
		{"agent without attribute", "invoke_agent planner", m{"gen_ai.operation.name": "invoke_agent"}, want{Kind: "run", Operation: "invoke_agent", Agent: "planner"}},
		{"OpenInference model", "ChatOpenAI", m{"openinference.span.kind": "LLM", "llm.model_name": "gpt", "llm.provider": "google", "session.id": "s"},
			want{Kind: "model", Operation: "chat", Provider: "gcp.gemini", Model: "gpt", Session: "s"}},
		{"OpenInference tool", "search", m{"openinference.span.kind": "TOOL", "tool.name": "search"}, want{Kind: "tool", Operation: "execute_tool", Tool: "search"}},
		{"OpenLLMetry", "search.tool", m{"traceloop.span.kind": "tool", "traceloop.entity.name": "search", "traceloop.association.properties.session_id": "s"},
			want{Kind: "tool", Operation: "execute_tool", Tool: "search", Session: "s"}},
		{"Vercel outer", "ai.generateText", m{"ai.operationId": "ai.generateText", "ai.telemetry.functionId": "f", "ai.model.id": "claude", "ai.telemetry.metadata.userId": "u"},
			want{Kind: "run", Operation: "invoke_agent", Agent: "f", User: "u"}},
		{"Vercel inner", "ai.generateText.doGenerate", m{"ai.operationId": "ai.generateText.doGenerate", "gen_ai.system": "anthropic.messages", "gen_ai.request.model": "claude"},
			want{Kind: "model", Operation: "chat", Provider: "anthropic", Model: "claude"}},
		{"Langfuse", "gen", m{"langfuse.observation.type": "generation", "langfuse.observation.model.name": "gpt"}, want{Kind: "model", Operation: "chat", Model: "gpt"}},
		{"MCP", "tools/call search", m{"mcp.method.name": "tools/call"}, want{Kind: "tool", Operation: "execute_tool", Tool: "search"}},
		{"memory", "search_memory", m{"gen_ai.operation.name": "search_memory"}, want{Kind: "memory", Operation: "search_memory"}},
		{"Claude Code", "claude_code.llm_request", m{"model": "claude"}, want{Kind: "model", Operation: "chat", Model: "claude"}},
		{"anything", "GET /", m{"http.request.method": "GET"}, want{Kind: "other"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := normal(t, "", span(t, tt.span, tt.attrs))
			got := want{s.Kind, s.Operation, s.Provider, s.Model, s.AgentName, s.ToolName, s.SessionID, s.UserID}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestStatus(t *testing.T) {
	for _, tt := range []struct {
		name    string
		attrs   m
		code    ptrace.StatusCode
		unended bool
		want    record.Status
	}{
		{"unset is ok", nil, ptrace.StatusCodeUnset, false, "ok"},
		{"error", nil, ptrace.StatusCodeError, false, "error"},
		{"ours says more", m{"kaizen.status": "denied"}, ptrace.StatusCodeError, false, "denied"},
		{"a type alone is a failure", m{"error.type": "timeout"}, ptrace.StatusCodeUnset, false, "error"},
		{"a type beside ok is none", m{"error.type": "retried"}, ptrace.StatusCodeOk, false, "ok"},
		{"announced", m{"kaizen.pending": true}, ptrace.StatusCodeUnset, false, "running"},
		{"without an end", nil, ptrace.StatusCodeUnset, true, "running"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := span(t, "x", tt.attrs)
			p.Status().SetCode(tt.code)
			if tt.unended {
				p.SetEndTimestamp(0)
			}
			s := normal(t, "", p)
			if s.Status != tt.want || s.Pending != (tt.want == "running") || s.Pending != s.End.IsZero() {
				t.Errorf("status %s, pending %v, end %v; want %s", s.Status, s.Pending, s.End, tt.want)
			}
		})
	}
}

func TestCost(t *testing.T) {
	usage := m{"gen_ai.operation.name": "chat", "gen_ai.request.model": "gpt", "gen_ai.usage.input_tokens": 10}
	with := func(more m) m {
		out := m{}
		for _, from := range []m{usage, more} {
			for k, v := range from {
				out[k] = v
			}
		}
		return out
	}
	for _, tt := range []struct {
		name  string
		attrs m
		nano  int64
		table string
		known bool
	}{
		{"the sender's integer first", with(m{"kaizen.cost.nano_usd": 5, "kaizen.cost.table": "t"}), 5, "t", true},
		{"the price book", usage, 10, "test", true},
		{"the book beats dollars", with(m{"gen_ai.usage.cost": 0.5}), 10, "test", true},
		{"dollars where the book is silent", with(m{"gen_ai.request.model": "unknown", "gen_ai.usage.cost": 0.0000005}), 500, "sender", true},
		{"Langfuse", with(m{"gen_ai.request.model": "unknown", "langfuse.observation.cost_details": `{"total":0.25}`}), 250_000_000, "sender", true},
		{"unknown is not zero", with(m{"gen_ai.request.model": "unknown"}), 0, "", false},
		{"no usage, no price", m{"gen_ai.operation.name": "chat", "gen_ai.request.model": "gpt"}, 0, "", false},
		{"negative is not believed", with(m{"gen_ai.request.model": "unknown", "kaizen.cost.nano_usd": -5}), 0, "", false},
		{"a run costs nothing itself", with(m{"gen_ai.operation.name": "invoke_agent"}), 0, "", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := normal(t, "", span(t, "x", tt.attrs))
			if s.CostNanoUSD != tt.nano || s.CostTable != tt.table || s.HasCost != tt.known {
				t.Errorf("cost %d of %q, known %v; want %d of %q", s.CostNanoUSD, s.CostTable, s.HasCost, tt.nano, tt.table)
			}
		})
	}
}

func TestFirstChunkAndTimes(t *testing.T) {
	s := normal(t, "", span(t, "x", m{"gen_ai.response.time_to_first_chunk": 0.25}))
	if s.FirstChunk != 250*time.Millisecond {
		t.Errorf("first chunk %v", s.FirstChunk)
	}
	s = normal(t, "", span(t, "x", m{"ai.response.msToFirstChunk": 30}))
	if s.FirstChunk != 30*time.Millisecond {
		t.Errorf("first chunk %v", s.FirstChunk)
	}
	p := span(t, "x", nil)
	p.SetEndTimestamp(p.StartTimestamp() - 5)
	if s := normal(t, "", p); !s.End.Equal(s.Start) {
		t.Errorf("a span that ends before it starts: %v to %v", s.Start, s.End)
	}
	p.SetStartTimestamp(math.MaxUint64)
	res, _ := NewResource(pcommon.NewResource())
	var e *RejectError
	if _, err := (Normaliser{}).Span(res, "", p, t0); !errors.As(err, &e) || e.Reason != ReasonTime {
		t.Errorf("Span(after 2262) = %v", err)
	}
}

func TestLog(t *testing.T) {
	l := plog.NewLogRecord()
	l.Body().SetEmptyMap().PutInt("n", 1)
	l.SetObservedTimestamp(pcommon.NewTimestampFromTime(t0))
	l.SetSeverityText("WARN")
	l.SetEventName("gen_ai.choice")
	if err := l.Attributes().FromRaw(m{"user.id": "u", "log.record.uid": "01J", "kaizen.run.id": "r", "kaizen.agent.id": "a", "gen_ai.conversation.id": "s", "k": 1}); err != nil {
		t.Fatal(err)
	}
	res, _ := NewResource(pcommon.NewResource())
	got, err := Normaliser{}.Log(res, "app", l, t0.Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	want := &record.Log{
		Time: t0, Level: "warning", Severity: 13, Message: `{"n":1}`, Logger: "app", RunID: "r", AgentID: "a", SessionID: "s", UserID: "u", UID: "01J",
		Attributes: m{"k": int64(1), "event.name": "gen_ai.choice"}, Resource: m{}, Received: t0.Add(time.Hour),
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for n, want := range map[plog.SeverityNumber]string{1: "debug", 5: "debug", 9: "info", 12: "info", 13: "warning", 17: "error", 21: "critical", 24: "critical", 0: "info", 99: "info"} {
		if _, got := severity(n, ""); got != want {
			t.Errorf("severity(%d) = %s, want %s", n, got, want)
		}
	}
}

func TestContent(t *testing.T) {
	hello := []Message{{Role: "user", Parts: []Part{{"type": "text", "content": "hello"}}}}
	for _, tt := range []struct {
		name  string
		attrs m
		want  Content
	}{
		{"text of JSON", m{"gen_ai.input.messages": `[{"role":"user","parts":[{"type":"text","content":"hello"}]}]`}, Content{Input: hello}},
		{"structured", m{"gen_ai.input.messages": []any{m{"role": "user", "parts": []any{m{"type": "text", "content": "hello"}}}}}, Content{Input: hello}},
		{"OpenAI's form", m{"gen_ai.output.messages": `[{"role":"assistant","content":null,"tool_calls":[{"id":"1","function":{"name":"f","arguments":"{}"}}],"finish_reason":"tool_calls"}]`},
			Content{Output: []Message{{Role: "assistant", Parts: []Part{{"type": "tool_call", "id": "1", "name": "f", "arguments": "{}"}}, FinishReason: "tool_calls"}}}},
		{"OpenInference", m{"llm.input_messages.0.message.role": "user", "llm.input_messages.0.message.content": "hello"}, Content{Input: hello}},
		{"OpenLLMetry", m{"gen_ai.prompt.0.role": "user", "gen_ai.prompt.0.content": "hello"}, Content{Input: hello}},
		{"Vercel", m{"ai.prompt.messages": `[{"role":"user","content":[{"type":"text","text":"hello"}]}]`}, Content{Input: hello}},
		{"system", m{"gen_ai.system_instructions": `[{"type":"text","content":"be kind"}]`}, Content{System: []Part{{"type": "text", "content": "be kind"}}}},
		{"tool", m{"gen_ai.tool.call.arguments": `{"a":1}`, "gen_ai.tool.call.result": "done"}, Content{ToolArguments: `{"a":1}`, ToolResult: "done"}},
		{"no JSON after all", m{"gen_ai.input.messages": `[hello`}, Content{Input: []Message{{Role: "user", Parts: []Part{{"type": "text", "content": "[hello"}}}}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := ContentOf(normal(t, "", span(t, "x", tt.attrs)))
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}
