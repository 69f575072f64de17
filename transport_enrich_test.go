package kaizen_test

import (
	"net/http"
	"testing"

	"go.opentelemetry.io/otel/attribute"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/kaizen-go/kaizen"
)

// TestSpanOfALibrary: a span that is the model call's already gets what it
// lacks and no second one; any other span around a call is its parent.
func TestSpanOfALibrary(t *testing.T) {
	chat := attribute.String("gen_ai.operation.name", "chat")
	model := attribute.String("gen_ai.request.model", "gpt-5-mini")
	tests := []struct {
		name, scope string
		attrs       []attribute.KeyValue
		ended       bool // before the request
		enriched    bool
	}{
		{name: "a chat of a model", scope: "library", attrs: []attribute.KeyValue{chat, model}, enriched: true},
		{name: "a chat of Anthropic's", scope: "com.anthropic.sdk.go", attrs: []attribute.KeyValue{chat}, enriched: true},
		{name: "a tool of Anthropic's", scope: "com.anthropic.sdk.go", attrs: []attribute.KeyValue{attribute.String("gen_ai.operation.name", "execute_tool"), model}},
		{name: "an agent", scope: "library", attrs: []attribute.KeyValue{attribute.String("gen_ai.operation.name", "invoke_agent"), model}},
		{name: "a chat of no model", scope: "library", attrs: []attribute.KeyValue{chat}},
		{name: "something else", scope: "library"},
		{name: "one that is over", scope: "library", attrs: []attribute.KeyValue{chat, model}, ended: true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			o := observe(t, kaizen.Config{})
			theirs := tracetest.NewSpanRecorder()
			ctx := kaizen.WithRun(t.Context(), testRun)
			ctx, span := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(theirs)).Tracer(tt.scope).Start(ctx, "call", trace.WithAttributes(tt.attrs...))
			if tt.ended {
				span.End()
			}
			client := o.obs.HTTPClient(&http.Client{Transport: attempts(func(n int) (*http.Response, error) {
				if n == 0 {
					return answer(429, "application/json", "{}"), nil
				}
				return answer(200, "application/json", goodAnswer), nil
			})})
			for n := range 2 {
				try(ctx, client, n, "hi", false)
			}
			if !tt.ended {
				span.End()
			}
			ours := o.spans.Ended()
			if (len(ours) == 0) != tt.enriched {
				t.Fatalf("%d spans of our own", len(ours))
			}
			entries, lines := o.entries(t), o.lines(t)
			if len(entries) != 1 || len(lines) != 1 || lines[0]["trace_id"] != span.SpanContext().TraceID().String() {
				t.Fatalf("entries %v, lines %v", entries, lines)
			}
			attrs := attributes(theirs.Ended()[0])
			if !tt.enriched {
				if ours[0].Parent().SpanID() != span.SpanContext().SpanID() || attrs["kaizen.cost.nano_usd"] != "" {
					t.Errorf("parent = %v, attributes of it %v", ours[0].Parent(), attrs)
				}
				return
			}
			for k, v := range map[string]string{
				"kaizen.cost.nano_usd": "6000", "gen_ai.usage.input_tokens": "8", "gen_ai.agent.id": "agent-1", "gen_ai.conversation.id": "s1",
				"kaizen.run.id": "01RUN", "kaizen.kind": "model", "kaizen.status": "ok", "http.request.resend_count": "1",
			} {
				if attrs[k] != v {
					t.Errorf("%s = %q, want %q", k, attrs[k], v)
				}
			}
			if id := span.SpanContext().SpanID().String(); entries[0].SpanID != id || lines[0]["span_id"] != id {
				t.Errorf("entry of span %s, line of %v, want %s", entries[0].SpanID, lines[0]["span_id"], id)
			}
		})
	}
}
