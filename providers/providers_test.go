package providers_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	anthropicsdk "github.com/anthropics/anthropic-sdk-go"
	"github.com/ollama/ollama/api"
	openaisdk "github.com/openai/openai-go/v3"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/kaizen-go/kaizen"
	"github.com/kaizen-go/kaizen/agent"
	"github.com/kaizen-go/kaizen/audit"
	"github.com/kaizen-go/kaizen/kaizentest"
	"github.com/kaizen-go/kaizen/price"
	"github.com/kaizen-go/kaizen/providers/anthropic"
	"github.com/kaizen-go/kaizen/providers/ollama"
	"github.com/kaizen-go/kaizen/providers/openai"
)

const testKey = "sk-test-0123456789abcdefghijklmnopqrstuv"

// provider is one SDK's API against the model server.
type provider struct {
	name, provider, model string      // name is the test's, provider the conventions'
	dialect               string      // what the server hears
	usage                 price.Usage // what a full answer bills: every class that the provider knows
	nanoUSD               int64       // its price, by hand from the provider's list; 0 for what has none
	retries               bool        // whether the SDK tries again by itself
	make                  func(url, key, model string) agent.Streamer
}

// cost is the span's attribute of n calls' price, "" for an unpriced model.
func (p provider) cost(n int64) string {
	if p.nanoUSD == 0 {
		return ""
	}
	return str(n * p.nanoUSD)
}

var providers = []provider{
	{
		"openai", "openai", "gpt-5-mini", "openai.chat", price.Usage{Input: 100, CacheRead: 40, Output: 10, Reasoning: 6},
		100*250 + 40*25 + 16*2000, true,
		func(url, key, model string) agent.Streamer {
			return openai.New(openai.Config{Model: model, APIKey: key, BaseURL: url + "/v1"})
		},
	},
	{
		"responses", "openai", "gpt-5-mini", "openai.responses", price.Usage{Input: 100, CacheRead: 40, Output: 10, Reasoning: 6},
		100*250 + 40*25 + 16*2000, true,
		func(url, key, model string) agent.Streamer {
			return openai.NewResponses(openai.Config{Model: model, APIKey: key, BaseURL: url + "/v1"})
		},
	},
	{
		"ollama", "ollama", "llama3.1", "ollama.chat", price.Usage{Input: 100, Output: 16}, 0, false,
		func(url, key, model string) agent.Streamer {
			m, err := ollama.New(ollama.Config{Model: model, BaseURL: url, HTTPClient: &http.Client{Transport: bearer{key}}})
			if err != nil {
				panic(err) // the model server's address is a URL
			}
			return m
		},
	},
	{
		"anthropic", "anthropic", "claude-haiku-4-5", "anthropic.messages", price.Usage{Input: 100, CacheRead: 40, CacheWrite: 30, Output: 16},
		100*1000 + 40*100 + 30*1250 + 16*5000, true,
		func(url, key, model string) agent.Streamer {
			return anthropic.New(anthropic.Config{Model: model, APIKey: key, BaseURL: url})
		},
	},
}

// bearer sends a key with each request, for a server behind a proxy that wants one.
type bearer struct{ key string }

func (b bearer) RoundTrip(req *http.Request) (*http.Response, error) {
	req = req.Clone(req.Context())
	req.Header.Set("Authorization", "Bearer "+b.key)
	return http.DefaultTransport.RoundTrip(req)
}

// observedAgent is an observed agent on a scripted model server.
type observedAgent struct {
	server *kaizentest.ModelServer
	agent  *agent.Agent
	obs    *kaizen.Observer
	spans  *tracetest.SpanRecorder
	logs   *bytes.Buffer
	dir    string
}

func newObserved(t *testing.T, p provider, stream bool, reply func(kaizentest.Request) kaizentest.Reply, tools ...agent.Tool) *observedAgent {
	t.Helper()
	t.Setenv("KAIZEN_SERVER", "")
	r := &observedAgent{spans: tracetest.NewSpanRecorder(), logs: &bytes.Buffer{}, dir: t.TempDir()}
	r.server = kaizentest.NewModelServer(kaizentest.Script{Reply: reply})
	t.Cleanup(r.server.Close)
	var err error
	r.agent, err = agent.New(agent.Config{Name: "helper", Model: p.make(r.server.URL, testKey, p.model), System: "be brief", Tools: tools, Stream: stream})
	if err != nil {
		t.Fatal(err)
	}
	r.obs, err = r.agent.EnableObservability(t.Context(), kaizen.Config{
		TracerProvider: sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(r.spans)),
		AuditDir:       filepath.Join(r.dir, "audit"), LogWriter: r.logs, Content: kaizen.ContentFull,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.agent.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return r
}

// calls returns the attributes of the model calls' spans, in order.
func (r *observedAgent) calls() []map[string]string {
	var out []map[string]string
	for _, s := range r.spans.Ended() {
		m := map[string]string{"name": s.Name()}
		for _, kv := range s.Attributes() {
			m[string(kv.Key)] = kv.Value.String()
		}
		if m["kaizen.kind"] == "model" {
			out = append(out, m)
		}
	}
	return out
}

func str(n int64) string { return strconv.FormatInt(n, 10) }

func forAll(t *testing.T, f func(t *testing.T, p provider, stream bool)) {
	for _, p := range providers {
		for _, stream := range []bool{false, true} {
			name := p.name
			if stream {
				name += "/stream"
			}
			t.Run(name, func(t *testing.T) { f(t, p, stream) })
		}
	}
}

func want(t *testing.T, got map[string]string, pairs map[string]string) {
	t.Helper()
	for k, v := range pairs {
		if got[k] != v {
			t.Errorf("%s = %q, want %q", k, got[k], v)
		}
	}
}

// TestToolsAndUsage: a conversation with a tool, its tokens in every class, its
// price, and what was said.
func TestToolsAndUsage(t *testing.T) {
	type query struct {
		City string `json:"city"`
	}
	forAll(t, func(t *testing.T, p provider, stream bool) {
		tool, err := agent.Func("weather", "Tells the weather.", func(_ context.Context, q query) (string, error) { return "sunny in " + q.City, nil })
		if err != nil {
			t.Fatal(err)
		}
		r := newObserved(t, p, stream, func(req kaizentest.Request) kaizentest.Reply {
			if req.System != "be brief" || len(req.Tools) != 1 || req.Tools[0] != "weather" {
				return kaizentest.Reply{Status: 400, ErrorMessage: "system and tools did not arrive"}
			}
			if req.Turn == 0 {
				return kaizentest.Reply{ToolCalls: []kaizentest.ToolCall{{ID: "c1", Name: "weather", Arguments: json.RawMessage(`{"city":"Lima"}`)}}, Usage: p.usage}
			}
			last := req.Messages[len(req.Messages)-1]
			if len(last.ToolResults) != 1 || last.ToolResults[0].Text != "sunny in Lima" {
				return kaizentest.Reply{Status: 400, ErrorMessage: "the tool's result did not arrive"}
			}
			return kaizentest.Reply{Text: "It is sunny.", Usage: p.usage}
		}, tool)
		res, err := r.agent.Run(t.Context(), "How is the weather in Lima?")
		if err != nil || res.Output != "It is sunny." {
			t.Fatalf("Run = %q, %v", res.Output, err)
		}
		if res.Usage != p.usage.Add(p.usage) || res.CostNanoUSD != 2*p.nanoUSD {
			t.Errorf("usage %+v for %d nano-dollars, want twice %+v for %d", res.Usage, res.CostNanoUSD, p.usage, p.nanoUSD)
		}
		calls := r.calls()
		if len(calls) != 2 {
			t.Fatalf("%d spans of model calls, want 2", len(calls))
		}
		for _, c := range calls {
			want(t, c, map[string]string{
				"name": "chat " + p.model, "gen_ai.provider.name": p.provider, "gen_ai.request.model": p.model, "kaizen.status": "ok",
				"gen_ai.usage.input_tokens":            str(p.usage.Input + p.usage.CacheRead + p.usage.CacheWrite),
				"gen_ai.usage.output_tokens":           str(p.usage.Output + p.usage.Reasoning),
				"gen_ai.usage.cache_read.input_tokens": str(p.usage.CacheRead), "gen_ai.usage.cache_write.input_tokens": str(p.usage.CacheWrite),
				"gen_ai.usage.reasoning.output_tokens": str(p.usage.Reasoning), "kaizen.cost.nano_usd": p.cost(1),
				"server.address": "127.0.0.1", "http.response.status_code": "200",
			})
			if stream != (c["gen_ai.response.time_to_first_chunk"] != "") {
				t.Errorf("time to first chunk = %q, streaming %v", c["gen_ai.response.time_to_first_chunk"], stream)
			}
		}
		if !strings.Contains(calls[0]["gen_ai.output.messages"], `"tool_call"`) || !strings.Contains(calls[1]["gen_ai.input.messages"], "sunny in Lima") {
			t.Errorf("content: %s … %s", calls[0]["gen_ai.output.messages"], calls[1]["gen_ai.input.messages"])
		}
		r.checkNoKey(t)
	})
}

// TestRetryIsOneCall: the SDK tries again after a 429; the call is one.
func TestRetryIsOneCall(t *testing.T) {
	forAll(t, func(t *testing.T, p provider, stream bool) {
		if !p.retries {
			return // its client sends a request once
		}
		r := newObserved(t, p, stream, func(req kaizentest.Request) kaizentest.Reply {
			if req.Attempt == 0 {
				return kaizentest.Reply{Status: 429, RetryAfter: time.Millisecond}
			}
			return kaizentest.Reply{Text: "hello", Usage: p.usage}
		})
		res, err := r.agent.Run(t.Context(), "hi")
		if err != nil || res.Output != "hello" {
			t.Fatalf("Run = %v, %v", res, err)
		}
		calls := r.calls()
		if len(calls) != 1 {
			t.Fatalf("%d spans, want one for both attempts", len(calls))
		}
		want(t, calls[0], map[string]string{"kaizen.attempts": "2", "http.request.resend_count": "1", "kaizen.cost.nano_usd": p.cost(1), "error.type": ""})
		if b := r.server.Bill(); b.Calls != 1 || b.Attempts != 2 {
			t.Errorf("bill = %+v", b)
		}
	})
}

func TestRefused(t *testing.T) {
	forAll(t, func(t *testing.T, p provider, stream bool) {
		r := newObserved(t, p, stream, func(kaizentest.Request) kaizentest.Reply {
			return kaizentest.Reply{Status: 400, ErrorMessage: "no such parameter"}
		})
		_, err := r.agent.Run(t.Context(), "hi")
		var o *openaisdk.Error
		var a *anthropicsdk.Error
		var l api.StatusError
		if !errors.As(err, &o) && !errors.As(err, &a) && !errors.As(err, &l) {
			t.Fatalf("Run = %v, want the SDK's own error inside", err)
		}
		c := r.calls()[0]
		kind := "invalid_request_error"
		if p.name == "ollama" {
			kind = "400" // its errors have a text and no type
		}
		want(t, c, map[string]string{"kaizen.status": "error", "error.type": kind, "http.response.status_code": "400", "kaizen.cost.unpriced": "", "kaizen.cost.nano_usd": ""})
	})
}

// TestCutStream: the connection breaks in the middle of an answer. The caller
// gets an error, and the span says that the answer is partial.
func TestCutStream(t *testing.T) {
	for _, p := range providers {
		t.Run(p.name, func(t *testing.T) {
			r := newObserved(t, p, true, func(kaizentest.Request) kaizentest.Reply {
				return kaizentest.Reply{Text: strings.Repeat("word ", 50), Usage: p.usage, CutAfterChunks: 3}
			})
			if res, err := r.agent.Run(t.Context(), "hi"); err == nil {
				t.Fatalf("Run = %q, want an error", res.Output)
			}
			c := r.calls()[0]
			want(t, c, map[string]string{"kaizen.status": "error", "kaizen.partial": "true"})
			if c["kaizen.cost.nano_usd"] == "" && c["kaizen.cost.unpriced"] != "true" {
				t.Errorf("cost is neither known nor marked as unknown: %v", c)
			}
		})
	}
}

// TestUnobservedModel: a model works the same for nobody.
func TestUnobservedModel(t *testing.T) {
	for _, p := range providers {
		t.Run(p.name, func(t *testing.T) {
			s := kaizentest.NewModelServer(kaizentest.Script{})
			defer s.Close()
			resp, err := p.make(s.URL, testKey, p.model).Generate(t.Context(), agent.Request{Messages: []agent.Message{{Role: agent.User, Text: "hi"}}})
			if err != nil || resp.Message.Text != "ok" || !resp.HasUsage {
				t.Errorf("Generate = %+v, %v", resp, err)
			}
		})
	}
}

// checkNoKey fails when the API key stands in any record.
func (r *observedAgent) checkNoKey(t *testing.T) {
	t.Helper()
	if err := r.obs.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	var all strings.Builder
	all.WriteString(r.logs.String())
	for _, s := range r.spans.Ended() {
		for _, kv := range s.Attributes() {
			all.WriteString(kv.Value.String())
		}
	}
	for e, err := range r.obs.Audit().Ledger().Query(t.Context(), audit.Query{}) {
		if err != nil {
			t.Fatal(err)
		}
		b, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		all.Write(b)
	}
	if strings.Contains(all.String(), testKey) {
		t.Error("the API key was recorded")
	}
}
