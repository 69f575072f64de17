package providers_test

import (
	"errors"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	anthropicsdk "github.com/anthropics/anthropic-sdk-go"
	anthropicoption "github.com/anthropics/anthropic-sdk-go/option"
	openaisdk "github.com/openai/openai-go/v3"
	openaioption "github.com/openai/openai-go/v3/option"
	"go.opentelemetry.io/otel/attribute"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/kaizen-go/kaizen"
	"github.com/kaizen-go/kaizen/audit"
	"github.com/kaizen-go/kaizen/kaizentest"
	"github.com/kaizen-go/kaizen/price"
)

// plain is a program without an agent's runtime, that is observed by its HTTP
// client only. Its spans and the libraries' own meet in one recorder.
type plain struct {
	obs      *kaizen.Observer
	spans    *tracetest.SpanRecorder
	provider *sdktrace.TracerProvider
	server   *kaizentest.ModelServer
}

// newPlain's server fails the first two attempts of each call.
func newPlain(t *testing.T) *plain {
	t.Helper()
	t.Setenv("KAIZEN_SERVER", "")
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "")
	p := &plain{spans: tracetest.NewSpanRecorder()}
	p.provider = sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(p.spans))
	var err error
	p.obs, err = kaizen.Start(t.Context(), kaizen.Config{
		TracerProvider: p.provider, LogWriter: io.Discard, AuditDir: filepath.Join(t.TempDir(), "audit"),
	})
	if err != nil {
		t.Fatal(err)
	}
	p.server = kaizentest.NewModelServer(kaizentest.Script{Reply: func(r kaizentest.Request) kaizentest.Reply {
		if r.Attempt < 2 {
			return kaizentest.Reply{Status: []int{429, 500}[r.Attempt]}
		}
		return kaizentest.Reply{Text: "hello", Usage: price.Usage{Input: 100, CacheRead: 40, Output: 10}}
	}})
	t.Cleanup(p.server.Close)
	return p
}

func (p *plain) anthropic(t *testing.T, opts ...anthropicoption.RequestOption) anthropicsdk.Client {
	t.Helper()
	return anthropicsdk.NewClient(append([]anthropicoption.RequestOption{
		anthropicoption.WithBaseURL(p.server.URL), anthropicoption.WithAPIKey(testKey), anthropicoption.WithHTTPClient(p.obs.HTTPClient(nil)),
	}, opts...)...)
}

// check ends the observation, and checks that one call was recorded: one span,
// one entry under its ids, one sample.
func (p *plain) check(t *testing.T, want map[string]string) {
	t.Helper()
	var entries []audit.Entry
	if err := p.obs.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	for e, err := range p.obs.Audit().Ledger().Query(t.Context(), audit.Query{}) {
		if err != nil {
			t.Fatal(err)
		}
		entries = append(entries, e)
	}
	if err := p.obs.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := len(p.server.Ledger()); n != 3 {
		t.Fatalf("the server saw %d attempts, want 3", n)
	}
	spans := p.spans.Ended()
	if len(spans) != 1 || len(entries) != 1 {
		t.Fatalf("%d spans and %d entries of one call", len(spans), len(entries))
	}
	if sc := spans[0].SpanContext(); entries[0].TraceID != sc.TraceID().String() || entries[0].SpanID != sc.SpanID().String() {
		t.Errorf("the entry is of span %s/%s, want %s/%s", entries[0].TraceID, entries[0].SpanID, sc.TraceID(), sc.SpanID())
	}
	attrs := map[string]string{}
	for _, kv := range spans[0].Attributes() {
		attrs[string(kv.Key)] = kv.Value.String()
	}
	for k, v := range want {
		if attrs[k] != v {
			t.Errorf("%s = %q, want %q", k, attrs[k], v)
		}
	}
	events := 0
	for _, e := range spans[0].Events() {
		if e.Name == "kaizen.attempt" {
			events++
		}
	}
	if events != 3 {
		t.Errorf("%d events of attempts, want 3", events)
	}
	families, err := p.obs.Metrics().Gatherer().Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "kaizen_model_calls_total" && (len(f.Metric) != 1 || f.Metric[0].Counter.GetValue() != 1) {
			t.Errorf("samples: %s", f)
		}
	}
}

var question = anthropicsdk.MessageNewParams{
	Model: "claude-haiku-4-5", MaxTokens: 50,
	Messages: []anthropicsdk.MessageParam{anthropicsdk.NewUserMessage(anthropicsdk.NewTextBlock("hi"))},
}

// oneCall is what a call of the server's answer has, on whosever span.
var oneCall = map[string]string{
	"http.request.resend_count": "2", "kaizen.attempts": "3", "kaizen.status": "ok", "kaizen.kind": "model",
	"gen_ai.usage.input_tokens": "140", "gen_ai.usage.output_tokens": "10", "gen_ai.usage.cache_read.input_tokens": "40",
	"gen_ai.agent.id": "agent-1", "gen_ai.conversation.id": "s1",
}

func with(m map[string]string, key, value string) map[string]string {
	c := map[string]string{key: value}
	for k, v := range m {
		c[k] = v
	}
	return c
}

// TestAnthropicSpans: the library's own span of a call is enriched, with its
// spans on; with them off, ours stands alone. Its retries are one call either way.
func TestAnthropicSpans(t *testing.T) {
	// 100 input at 1 $, 40 cached at 0.1 $ and 10 output at 5 $ per million are 154,000 nano-dollars.
	for _, tt := range []struct {
		name      string
		own       bool
		streaming bool
	}{{"its spans on", true, false}, {"its spans on, streaming", true, true}, {"its spans off", false, false}, {"its spans off, streaming", false, true}} {
		t.Run(tt.name, func(t *testing.T) {
			p := newPlain(t)
			client := p.anthropic(t, anthropicoption.WithTracerProvider(p.provider), anthropicoption.WithOpenTelemetryTraces(tt.own))
			ctx := kaizen.WithRun(t.Context(), kaizen.Run{RunID: "01RUN", AgentID: "agent-1", AgentName: "helper", SessionID: "s1"})
			text := ""
			if tt.streaming {
				stream := client.Messages.NewStreaming(ctx, question)
				for stream.Next() {
					text += stream.Current().Delta.Text
				}
				if err := stream.Err(); err != nil {
					t.Fatal(err)
				}
				if err := stream.Close(); err != nil {
					t.Fatal(err)
				}
			} else {
				msg, err := client.Messages.New(ctx, question)
				if err != nil {
					t.Fatal(err)
				}
				text = msg.Content[0].Text
			}
			if text != "hello" {
				t.Errorf("the answer is %q", text)
			}
			p.check(t, with(oneCall, "kaizen.cost.nano_usd", "154000"))
			name, scope := p.spans.Ended()[0].Name(), p.spans.Ended()[0].InstrumentationScope().Name
			if own := strings.HasPrefix(scope, "com.anthropic.sdk"); own != tt.own {
				t.Errorf("the span is %q of %q", name, scope)
			}
		})
	}
}

// TestAnthropicGivesUp: all attempts fail: one failed call, on the library's span.
func TestAnthropicGivesUp(t *testing.T) {
	p := newPlain(t)
	client := p.anthropic(t, anthropicoption.WithTracerProvider(p.provider), anthropicoption.WithMaxRetries(1))
	if _, err := client.Messages.New(t.Context(), question); err == nil {
		t.Fatal("no error")
	}
	if err := p.obs.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	spans := p.spans.Ended()
	if len(spans) != 1 {
		t.Fatalf("%d spans, want 1", len(spans))
	}
	if !hasAttribute(spans[0], attribute.String("kaizen.kind", "model")) {
		t.Errorf("attributes = %v", spans[0].Attributes())
	}
}

func hasAttribute(s sdktrace.ReadOnlySpan, want attribute.KeyValue) bool {
	for _, kv := range s.Attributes() {
		if kv == want {
			return true
		}
	}
	return false
}

// TestOpenAIRetries: OpenAI's library tries again inside of itself: one call.
func TestOpenAIRetries(t *testing.T) {
	for _, timeout := range []bool{false, true} {
		p := newPlain(t)
		c := &http.Client{}
		if timeout {
			c.Timeout = 1 << 40 // each attempt has then a context of its own, which ends with it
		}
		client := openaisdk.NewClient(openaioption.WithBaseURL(p.server.URL+"/v1"), openaioption.WithAPIKey(testKey), openaioption.WithHTTPClient(p.obs.HTTPClient(c)))
		ctx := kaizen.WithRun(t.Context(), kaizen.Run{RunID: "01RUN", AgentID: "agent-1", AgentName: "helper", SessionID: "s1"})
		answer, err := client.Chat.Completions.New(ctx, openaisdk.ChatCompletionNewParams{
			Model: "gpt-5-mini", Messages: []openaisdk.ChatCompletionMessageParamUnion{openaisdk.UserMessage("hi")},
		})
		if err != nil {
			t.Fatal(err)
		}
		if answer.Choices[0].Message.Content != "hello" {
			t.Errorf("the answer is %q", answer.Choices[0].Message.Content)
		}
		p.check(t, with(oneCall, "kaizen.cost.nano_usd", "46000")) // 100 at 0.25 $, 40 at 0.025 $, 10 at 2 $ per million
	}
}

// TestInjectStreamUsage: OpenAI's library streams without asking for the usage;
// it is recorded, and no chunk without choices comes.
func TestInjectStreamUsage(t *testing.T) {
	p := newPlain(t)
	obs, err := kaizen.Start(t.Context(), kaizen.Config{
		TracerProvider: p.provider, LogWriter: io.Discard, Off: kaizen.Audit, SpoolDir: kaizen.NoSpool, InjectStreamUsage: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	client := openaisdk.NewClient(openaioption.WithBaseURL(p.server.URL+"/v1"), openaioption.WithAPIKey(testKey), openaioption.WithHTTPClient(obs.HTTPClient(nil)))
	stream := client.Chat.Completions.NewStreaming(t.Context(), openaisdk.ChatCompletionNewParams{
		Model: "gpt-5-mini", Messages: []openaisdk.ChatCompletionMessageParamUnion{openaisdk.UserMessage("hi")},
	})
	text := ""
	for stream.Next() {
		text += stream.Current().Choices[0].Delta.Content // panics on a chunk without choices, as naive code does
	}
	if err := errors.Join(stream.Err(), stream.Close(), obs.Shutdown(t.Context())); err != nil || text != "hello" {
		t.Fatalf("%q, %v", text, err)
	}
	if s := p.spans.Ended(); len(s) != 1 || !hasAttribute(s[0], attribute.Int64("gen_ai.usage.input_tokens", 140)) {
		t.Errorf("%d spans, %v", len(s), s[0].Attributes())
	}
}
