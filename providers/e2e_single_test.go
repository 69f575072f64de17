package providers_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	anthropicsdk "github.com/anthropics/anthropic-sdk-go"
	anthropicoption "github.com/anthropics/anthropic-sdk-go/option"
	openaisdk "github.com/openai/openai-go/v3"
	openaioption "github.com/openai/openai-go/v3/option"

	"github.com/kaizen-go/kaizen"
	"github.com/kaizen-go/kaizen/agent"
	"github.com/kaizen-go/kaizen/kaizentest"
	"github.com/kaizen-go/kaizen/price"
	"github.com/kaizen-go/kaizen/providers/internal/rig"
)

// oneRun is the spans of a run of the agent helper that answers at once.
func (e *e2e) oneRun() string {
	return "invoke_agent helper\n  iteration\n    chat " + e.p.model + "\n"
}

// TestE2ETenCalls: ten calls, one after another, in all four systems.
func TestE2ETenCalls(t *testing.T) {
	everyProvider(t, says("four"), func(e *e2e) {
		a := e.agent(agent.Config{Name: "helper"})
		for range 10 {
			res := e.run(e.t.Context(), a, "2+2?", "four")
			if res.Usage != e.p.usage || res.CostNanoUSD != e.p.nanoUSD {
				e.t.Errorf("usage %+v for %d nano-dollars", res.Usage, res.CostNanoUSD)
			}
		}
		e.check(expected{tree: strings.Repeat(e.oneRun(), 10), traces: 10, runs: counts{"helper": 10}, calls: counts{"helper": 10}})
	})
}

// TestE2EModels: the older models of OpenAI, ten calls of the small one and three
// of the large one, at their own prices.
func TestE2EModels(t *testing.T) {
	for _, m := range [...]struct {
		name       string
		calls      int
		input, out int64 // nano-dollars for a token, by the provider's list
	}{{"gpt-3.5-turbo", 10, 500, 1500}, {"gpt-4", 3, 30_000, 60_000}} {
		t.Run(m.name, func(t *testing.T) {
			p := providers[0]
			p.model, p.usage = m.name, price.Usage{Input: 100, Output: 16}
			p.nanoUSD = p.usage.Input*m.input + p.usage.Output*m.out
			e := newE2E(t, p, says("four"))
			a := e.agent(agent.Config{Name: "helper"})
			for range m.calls {
				e.run(t.Context(), a, "2+2?", "four")
			}
			e.check(expected{tree: strings.Repeat(e.oneRun(), m.calls), traces: m.calls, runs: counts{"helper": m.calls}, calls: counts{"helper": m.calls}})
		})
	}
}

// TestE2EStreaming: an answer in pieces is one call, with the time to its first.
func TestE2EStreaming(t *testing.T) {
	const text = "one two three four five"
	everyProvider(t, says(text), func(e *e2e) {
		var pieces []string
		a := e.agent(agent.Config{Name: "helper", Stream: true, OnChunk: func(c agent.Chunk) error {
			pieces = append(pieces, c.Text)
			return nil
		}})
		e.run(e.t.Context(), a, "count", text)
		if len(pieces) < 5 || strings.Join(pieces, "") != text {
			e.t.Errorf("pieces %q", pieces)
		}
		call := e.One(e.t, "chat "+e.p.model)
		call.Want(e.t, map[string]string{"gen_ai.request.stream": "true"})
		if e.p.make != nil {
			if first, err := strconv.ParseFloat(call.Attrs["gen_ai.response.time_to_first_chunk"], 64); err != nil || first <= 0 {
				e.t.Errorf("time to first chunk: %v, %v", first, err)
			}
			e.metric(1, "kaizen_model_first_chunk_seconds", "agent=helper")
		}
		e.check(expected{tree: e.oneRun(), traces: 1, runs: counts{"helper": 1}, calls: counts{"helper": 1}})
	})
}

// TestE2ETool: a tool that is really called, and whose result is in the answer.
func TestE2ETool(t *testing.T) {
	script := func(e *e2e) reply {
		return func(r kaizentest.Request) kaizentest.Reply {
			if r.Turn == 0 {
				return kaizentest.Reply{Usage: e.p.usage, ToolCalls: []kaizentest.ToolCall{{ID: "c1", Name: "add", Arguments: []byte(`{"a":2,"b":3}`)}}}
			}
			return kaizentest.Reply{Usage: e.p.usage, Text: "It is " + r.Messages[len(r.Messages)-1].ToolResults[0].Text}
		}
	}
	everyProvider(t, script, func(e *e2e) {
		var called int
		add, err := agent.Func("add", "Adds.", func(_ context.Context, in struct {
			A int `json:"a"`
			B int `json:"b"`
		}) (int, error) {
			called++
			return in.A + in.B, nil
		})
		if err != nil {
			e.t.Fatal(err)
		}
		e.run(e.t.Context(), e.agent(agent.Config{Name: "helper", Tools: []agent.Tool{add}}), "2+3?", "It is 5")
		if called != 1 {
			e.t.Errorf("the tool was called %d times", called)
		}
		e.One(e.t, "execute_tool add").Want(e.t, map[string]string{
			"gen_ai.tool.name": "add", "gen_ai.tool.call.arguments": `{"a":2,"b":3}`, "gen_ai.tool.call.result": "5",
		})
		chat := "    chat " + e.p.model + "\n"
		e.check(expected{
			tree:   "invoke_agent helper\n  iteration\n" + chat + "    execute_tool add\n  iteration\n" + chat,
			traces: 1, runs: counts{"helper": 1}, calls: counts{"helper": 2}, tools: counts{"add": 1},
		})
	})
}

// guarded answers those who have the right key.
func guarded(e *e2e) reply {
	return func(r kaizentest.Request) kaizentest.Reply {
		if !authorized(r) {
			return kaizentest.Reply{Status: 401, ErrorMessage: "invalid key"}
		}
		return kaizentest.Reply{Text: "welcome", Usage: e.p.usage}
	}
}

// TestE2EBadKey: a call with a bad key is an error in all four systems, and free.
func TestE2EBadKey(t *testing.T) {
	everyProvider(t, guarded, func(e *e2e) {
		a := e.agent(agent.Config{Name: "helper", Model: e.model("bad")})
		if res, err := a.Run(e.t.Context(), "hi"); err == nil {
			e.t.Fatalf("Run = %q", res.Output)
		}
		for _, s := range e.Spans() {
			if s.Status != "Error" || s.Attrs["error.type"] == "" {
				e.t.Errorf("%s: status %s, error.type %q", s.Name, s.Status, s.Attrs["error.type"])
			}
		}
		if e.p.make != nil {
			e.One(e.t, "chat "+e.p.model).Want(e.t, map[string]string{"http.response.status_code": "401", "kaizen.cost.unpriced": ""})
		}
		e.metric(0, "kaizen_model_tokens_total")
		e.metric(0, "kaizen_model_cost_usd_total")
		e.check(expected{tree: e.oneRun(), traces: 1, failedRuns: counts{"helper": 1}, failedCalls: counts{"helper": 1}})
	})
}

// TestE2EFallback: a second agent with a good key answers for the first; both are
// in one trace.
func TestE2EFallback(t *testing.T) {
	everyProvider(t, guarded, func(e *e2e) {
		bad := e.agent(agent.Config{Name: "first", Model: e.model("bad")})
		good := e.agent(agent.Config{Name: "second"})
		ctx, span := e.Obs.Tracer().Start(e.t.Context(), "request")
		if _, err := bad.Run(ctx, "hi"); err == nil {
			e.t.Fatal("the bad key was taken")
		}
		e.run(ctx, good, "hi", "welcome")
		span.End()
		rest := "    iteration\n      chat " + e.p.model + "\n"
		e.check(expected{
			tree:   "request\n  invoke_agent first\n" + rest + "  invoke_agent second\n" + rest,
			traces: 1, runs: counts{"second": 1}, failedRuns: counts{"first": 1}, calls: counts{"second": 1}, failedCalls: counts{"first": 1},
		})
	})
}

// TestE2ETimeout: a deadline of 1 ms ends the run, the call and their spans.
func TestE2ETimeout(t *testing.T) {
	script := func(e *e2e) reply {
		return func(kaizentest.Request) kaizentest.Reply {
			return kaizentest.Reply{Text: "too late", Usage: e.p.usage, Delay: time.Minute}
		}
	}
	everyProvider(t, script, func(e *e2e) {
		a := e.agent(agent.Config{Name: "helper"})
		ctx, cancel := context.WithTimeout(e.t.Context(), time.Millisecond)
		defer cancel()
		if _, err := a.Run(ctx, "hi"); !errors.Is(err, context.DeadlineExceeded) {
			e.t.Fatalf("Run = %v, want the deadline", err)
		}
		for _, s := range e.Spans() {
			s.Want(e.t, map[string]string{"error.type": "timeout", "kaizen.status": "error"})
		}
		e.check(expected{tree: e.oneRun(), traces: 1, failedRuns: counts{"helper": 1}, failedCalls: counts{"helper": 1}, unserved: true})
	})
}

// TestE2EBurst: twenty runs at once are twenty traces, all under way at the same
// moment.
func TestE2EBurst(t *testing.T) {
	const n = 20
	script := func(e *e2e) reply {
		all := newBarrier(n)
		return func(kaizentest.Request) kaizentest.Reply {
			all.pass()
			return kaizentest.Reply{Text: "done", Usage: e.p.usage}
		}
	}
	everyProvider(t, script, func(e *e2e) {
		a := e.agent(agent.Config{Name: "helper"})
		var wg sync.WaitGroup
		for i := range n {
			wg.Go(func() {
				if res, err := a.Run(e.t.Context(), fmt.Sprint("task ", i)); err != nil || res.Output != "done" {
					e.t.Errorf("Run = %v, %v", res, err)
				}
			})
		}
		wg.Wait()
		e.check(expected{tree: strings.Repeat(e.oneRun(), n), traces: n, runs: counts{"helper": n}, calls: counts{"helper": n}})
	})
}

// TestE2EMemory: five turns of one session, each of which knows those before it.
func TestE2EMemory(t *testing.T) {
	script := func(e *e2e) reply {
		return func(r kaizentest.Request) kaizentest.Reply {
			return kaizentest.Reply{Usage: e.p.usage, Text: fmt.Sprintf("%d before, the first %q", r.Turn, r.Messages[0].Text)}
		}
	}
	everyProvider(t, script, func(e *e2e) {
		a := e.agent(agent.Config{Name: "helper", Memory: agent.NewWindowMemory(agent.WindowConfig{})})
		ctx := kaizen.WithRun(e.t.Context(), kaizen.Run{SessionID: "s1"})
		for i := range 5 {
			e.run(ctx, a, fmt.Sprint("turn ", i), fmt.Sprintf("%d before, the first %q", i, "turn 0"))
		}
		for _, s := range e.Spans() {
			s.Want(e.t, map[string]string{"gen_ai.conversation.id": "s1"})
		}
		e.metric(5, "kaizen_memory_operations_total", "operation=load", "status=ok")
		e.metric(5, "kaizen_memory_operations_total", "operation=save", "status=ok")
		if load, save := len(e.Entries(e.t, "memory_load")), len(e.Entries(e.t, "memory_save")); load != 5 || save != 5 {
			e.t.Errorf("%d entries of loads and %d of saves, want 5 each", load, save)
		}
		e.check(expected{
			tree:   strings.Repeat(e.oneRun()+"  search_memory\n  update_memory\n", 5),
			traces: 5, runs: counts{"helper": 5}, calls: counts{"helper": 5},
		})
	})
}

// TestE2EContinuous: a long row of runs leaves nothing open and loses nothing.
// KAIZEN_E2E_RUNS makes it longer.
func TestE2EContinuous(t *testing.T) {
	n := 15
	if s := os.Getenv("KAIZEN_E2E_RUNS"); s != "" {
		var err error
		if n, err = strconv.Atoi(s); err != nil {
			t.Fatal(err)
		}
	}
	everyProvider(t, says("on"), func(e *e2e) {
		a := e.agent(agent.Config{Name: "helper"})
		for range n {
			e.run(e.t.Context(), a, "go on", "on")
		}
		if h := e.Obs.Health(); h.AuditDropped != 0 || h.AuditFailure != nil {
			e.t.Errorf("health %+v", h)
		}
		e.check(expected{tree: strings.Repeat(e.oneRun(), n), traces: n, runs: counts{"helper": n}, calls: counts{"helper": n}})
	})
}

// TestE2E10000Observations: ten thousand observations, made at once by a tool of
// an agent, are all counted, and their percentiles are exact.
func TestE2E10000Observations(t *testing.T) {
	script := func(e *e2e) reply {
		return func(r kaizentest.Request) kaizentest.Reply {
			if r.Turn == 0 {
				return kaizentest.Reply{Usage: e.p.usage, ToolCalls: []kaizentest.ToolCall{{ID: "c1", Name: "measure"}}}
			}
			return kaizentest.Reply{Usage: e.p.usage, Text: "measured"}
		}
	}
	everyProvider(t, script, func(e *e2e) {
		measure := agent.Tool{Name: "measure", Call: func(ctx context.Context, _ json.RawMessage) (string, error) { return "ok", observe(ctx) }}
		e.run(e.t.Context(), e.agent(agent.Config{Name: "helper", Tools: []agent.Tool{measure}}), "measure", "measured")
		e.metric(10_000, "e2e_size_units")
		for q, want := range map[float64]float64{0.5: 50.5, 0.95: 95.05, 0.99: 99.01} {
			if got, ok := e.Obs.Metrics().Percentile("e2e_last_units", q); !ok || got < want-1e-9 || got > want+1e-9 {
				e.t.Errorf("percentile %v = %v, %v, want %v", q, got, ok, want)
			}
		}
		chat := "    chat " + e.p.model + "\n"
		e.check(expected{
			tree:   "invoke_agent helper\n  iteration\n" + chat + "    execute_tool measure\n  iteration\n" + chat,
			traces: 1, runs: counts{"helper": 1}, calls: counts{"helper": 2}, tools: counts{"measure": 1},
		})
	})
}

// observe makes the observations with the observer of ctx.
func observe(ctx context.Context) error {
	m := kaizen.FromContext(ctx).Metrics()
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for i := range 2500 {
				m.Histogram("e2e_size_units").Observe(float64(i%100 + 1))
			}
		})
	}
	wg.Wait()
	for i := 1; i <= 100; i++ {
		m.Histogram("e2e_last_units").Observe(float64(i))
	}
	return nil
}

// pixel is a PNG image of one pixel, in base64.
const pixel = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="

// TestE2EVision: an image goes to the model by the SDKs themselves, observed by
// their HTTP client alone.
func TestE2EVision(t *testing.T) {
	for _, p := range []provider{providers[0], providers[len(providers)-1]} {
		t.Run(p.name, func(t *testing.T) {
			r := rig.New(t, kaizen.Config{Content: kaizen.ContentFull})
			server := kaizentest.NewModelServer(kaizentest.Script{Reply: func(req kaizentest.Request) kaizentest.Reply {
				return kaizentest.Reply{Text: "a pixel, asked: " + asked(req), Usage: p.usage}
			}})
			defer server.Close()
			see := seeByOpenAI
			if p.name == "anthropic" {
				see = seeByAnthropic
			}
			text, err := see(t.Context(), r.Obs, server.URL)
			if err != nil || text != "a pixel, asked: What is this?" {
				t.Fatalf("the model said %q, %v", text, err)
			}
			call := r.One(t, "chat "+p.model)
			call.Want(t, map[string]string{"gen_ai.provider.name": p.provider, "kaizen.cost.nano_usd": str(p.nanoUSD), "kaizen.status": "ok"})
			if in := call.Attrs["gen_ai.input.messages"]; !strings.Contains(in, "What is this?") || !strings.Contains(in, "image") {
				t.Errorf("the image is not in the messages: %s", in)
			}
			if e := r.Entries(t, "model_call"); len(e) != 1 || e[0].TraceID != call.Trace || e[0].SpanID != call.ID {
				t.Errorf("entries %+v", e)
			}
			if n := r.Metric(t, "kaizen_model_calls_total", "provider="+p.provider, "status=ok"); n != 1 {
				t.Errorf("%v calls counted, want 1", n)
			}
		})
	}
}

func seeByAnthropic(ctx context.Context, obs *kaizen.Observer, url string) (string, error) {
	c := anthropicsdk.NewClient(anthropicoption.WithHTTPClient(obs.HTTPClient(nil)), anthropicoption.WithAPIKey(testKey), anthropicoption.WithBaseURL(url))
	msg, err := c.Messages.New(ctx, anthropicsdk.MessageNewParams{Model: "claude-haiku-4-5", MaxTokens: 50, Messages: []anthropicsdk.MessageParam{
		anthropicsdk.NewUserMessage(anthropicsdk.NewImageBlockBase64("image/png", pixel), anthropicsdk.NewTextBlock("What is this?")),
	}})
	if err != nil {
		return "", err
	}
	return msg.Content[0].Text, nil
}

func seeByOpenAI(ctx context.Context, obs *kaizen.Observer, url string) (string, error) {
	c := openaisdk.NewClient(openaioption.WithHTTPClient(obs.HTTPClient(nil)), openaioption.WithAPIKey(testKey), openaioption.WithBaseURL(url+"/v1"))
	answer, err := c.Chat.Completions.New(ctx, openaisdk.ChatCompletionNewParams{Model: "gpt-5-mini", Messages: []openaisdk.ChatCompletionMessageParamUnion{
		openaisdk.UserMessage([]openaisdk.ChatCompletionContentPartUnionParam{
			openaisdk.TextContentPart("What is this?"),
			openaisdk.ImageContentPart(openaisdk.ChatCompletionContentPartImageImageURLParam{URL: "data:image/png;base64," + pixel}),
		}),
	}})
	if err != nil {
		return "", err
	}
	return answer.Choices[0].Message.Content, nil
}
