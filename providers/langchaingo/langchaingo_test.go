package langchaingo_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tmc/langchaingo/agents"
	"github.com/tmc/langchaingo/callbacks"
	"github.com/tmc/langchaingo/chains"
	"github.com/tmc/langchaingo/llms"
	lcopenai "github.com/tmc/langchaingo/llms/openai"
	"github.com/tmc/langchaingo/prompts"
	"github.com/tmc/langchaingo/tools"

	"github.com/kaizen-go/kaizen"
	"github.com/kaizen-go/kaizen/audit"
	"github.com/kaizen-go/kaizen/hook"
	"github.com/kaizen-go/kaizen/kaizentest"
	"github.com/kaizen-go/kaizen/price"
	"github.com/kaizen-go/kaizen/providers/internal/rig"
	"github.com/kaizen-go/kaizen/providers/langchaingo"
)

var usage = price.Usage{Input: 100, CacheRead: 40, Output: 10, Reasoning: 6}

const nanoUSD = 100*250 + 40*25 + 16*2000

func hello(kaizentest.Request) kaizentest.Reply {
	return kaizentest.Reply{Text: "hello to you", Usage: usage}
}

func newHandler(t *testing.T, r *rig.Rig) *langchaingo.Handler {
	t.Helper()
	h := langchaingo.New(langchaingo.Config{Observer: r.Obs, Agent: "helper"})
	t.Cleanup(h.Close)
	return h
}

// newLLM returns langchaingo's own model of OpenAI on the model server.
func newLLM(t *testing.T, reply func(kaizentest.Request) kaizentest.Reply, opts ...lcopenai.Option) *lcopenai.LLM {
	t.Helper()
	s := kaizentest.NewModelServer(kaizentest.Script{Reply: reply})
	t.Cleanup(s.Close)
	llm, err := lcopenai.New(append(opts, lcopenai.WithToken("k"), lcopenai.WithModel("gpt-5-mini"), lcopenai.WithBaseURL(s.URL+"/v1"))...)
	if err != nil {
		t.Fatal(err)
	}
	return llm
}

func newChain(llm llms.Model, h callbacks.Handler) *chains.LLMChain {
	return chains.NewLLMChain(llm, prompts.NewPromptTemplate("Say {{.what}}.", []string{"what"}), chains.WithCallback(h))
}

func noOpen(t *testing.T, r *rig.Rig, h *langchaingo.Handler, lost int64) {
	t.Helper()
	if n := r.Open(); n != 0 {
		t.Errorf("%d spans never ended", n)
	}
	if h.Lost() != lost {
		t.Errorf("%d operations lost, want %d", h.Lost(), lost)
	}
}

// TestChain: a model is counted once in each way of observing it, with the
// tokens and the price of the wire.
func TestChain(t *testing.T) {
	const tree = "invoke_agent helper\n  chat gpt-5-mini\n"
	for _, way := range [...]struct {
		name string
		make func(*testing.T, *langchaingo.Handler, *rig.Rig) llms.Model
	}{
		{"callback and client", func(t *testing.T, h *langchaingo.Handler, _ *rig.Rig) llms.Model {
			return newLLM(t, hello, lcopenai.WithCallback(h), lcopenai.WithHTTPClient(h.HTTPClient(nil)))
		}},
		{"callback and client of both", func(t *testing.T, h *langchaingo.Handler, r *rig.Rig) llms.Model {
			return newLLM(t, hello, lcopenai.WithCallback(h), lcopenai.WithHTTPClient(h.HTTPClient(r.Obs.HTTPClient(nil))))
		}},
		{"callback and the observer's client", func(t *testing.T, h *langchaingo.Handler, r *rig.Rig) llms.Model {
			return newLLM(t, hello, lcopenai.WithCallback(h), lcopenai.WithHTTPClient(r.Obs.HTTPClient(nil)))
		}},
		{"callback and the observer's client, twice", func(t *testing.T, h *langchaingo.Handler, r *rig.Rig) llms.Model {
			return newLLM(t, hello, lcopenai.WithCallback(h), lcopenai.WithHTTPClient(r.Obs.HTTPClient(r.Obs.HTTPClient(nil))))
		}},
		{"client", func(t *testing.T, h *langchaingo.Handler, _ *rig.Rig) llms.Model {
			return newLLM(t, hello, lcopenai.WithHTTPClient(h.HTTPClient(nil)))
		}},
		{"wrapper, callback and the observer's client", func(t *testing.T, h *langchaingo.Handler, r *rig.Rig) llms.Model {
			return h.Model(newLLM(t, hello, lcopenai.WithCallback(h), lcopenai.WithHTTPClient(r.Obs.HTTPClient(nil))))
		}},
	} {
		t.Run(way.name, func(t *testing.T) {
			r := rig.New(t, kaizen.Config{})
			h := newHandler(t, r)
			out, err := chains.Run(t.Context(), newChain(way.make(t, h, r), h), "hello")
			if err != nil || out != "hello to you" {
				t.Fatalf("Run = %q, %v", out, err)
			}
			if way.name == "client" { // without a callback the call is in nothing that its request could know
				if got := r.Metric(t, "kaizen_model_calls_total"); got != 1 {
					t.Errorf("%v calls, want 1", got)
				}
				return
			}
			if got := r.Tree(); got != tree {
				t.Fatalf("spans:\n%s\nwant:\n%s", got, tree)
			}
			trace := r.OneTrace(t)
			r.One(t, "chat gpt-5-mini").Want(t, map[string]string{
				"gen_ai.provider.name": "openai", "gen_ai.request.model": "gpt-5-mini", "gen_ai.agent.name": "helper",
				"gen_ai.usage.input_tokens": "140", "gen_ai.usage.output_tokens": "16", "gen_ai.usage.cache_read.input_tokens": "40",
				"gen_ai.usage.reasoning.output_tokens": "6", "kaizen.cost.nano_usd": "58000", "http.response.status_code": "200",
			})
			for name, want := range map[string]float64{
				"kaizen_model_calls_total": 1, "kaizen_agent_runs_total": 1, "kaizen_agents_active": 0,
				"kaizen_model_cost_usd_total": nanoUSD / 1e9, "kaizen_model_tokens_total": 156,
			} {
				if got := r.Metric(t, name, "agent=helper"); got != want {
					t.Errorf("%s = %v, want %v", name, got, want)
				}
			}
			for _, action := range [...]string{"agent_run", "model_call"} {
				if e := r.Entries(t, action); len(e) != 1 || e[0].TraceID != trace || e[0].Result != audit.Success {
					t.Errorf("entries of %s: %+v", action, e)
				}
			}
			if cost := fmt.Sprint(r.Entries(t, "agent_run")[0].Details["cost_nano_usd"]); cost != "58000" {
				t.Errorf("the run's cost is %s, want 58000", cost)
			}
			noOpen(t, r, h, 0)
		})
	}
}

// TestOffTheWire: a model whose requests nobody sees is told by what langchaingo
// knows.
func TestOffTheWire(t *testing.T) {
	r := rig.New(t, kaizen.Config{Content: kaizen.ContentFull})
	h := langchaingo.New(langchaingo.Config{Observer: r.Obs, Agent: "helper", Provider: "openai", Model: "gpt-5-mini"})
	if _, err := chains.Run(t.Context(), newChain(newLLM(t, hello, lcopenai.WithCallback(h)), h), "hello"); err != nil {
		t.Fatal(err)
	}
	r.One(t, "chat gpt-5-mini").Want(t, map[string]string{
		"gen_ai.usage.input_tokens": "140", "gen_ai.usage.output_tokens": "16", "gen_ai.usage.cache_read.input_tokens": "40",
		"gen_ai.usage.reasoning.output_tokens": "6", "kaizen.cost.nano_usd": "58000", "gen_ai.response.finish_reasons": `["stop"]`,
		"gen_ai.input.messages":  `[{"role":"user","parts":[{"type":"text","content":"Say hello."}]}]`,
		"gen_ai.output.messages": `[{"role":"assistant","parts":[{"type":"text","content":"hello to you"}]}]`,
	})
	noOpen(t, r, h, 0)
}

func TestStream(t *testing.T) {
	r := rig.New(t, kaizen.Config{})
	h := newHandler(t, r)
	llm := newLLM(t, hello, lcopenai.WithCallback(h), lcopenai.WithHTTPClient(h.HTTPClient(nil)))
	var text strings.Builder
	_, err := llms.GenerateFromSinglePrompt(t.Context(), llm, "hi", llms.WithStreamingFunc(func(ctx context.Context, chunk []byte) error {
		h.HandleStreamingFunc(ctx, chunk)
		text.Write(chunk)
		return nil
	}))
	if err != nil || text.String() != "hello to you" {
		t.Fatalf("streamed %q, %v", text.String(), err)
	}
	s := r.One(t, "chat gpt-5-mini")
	s.Want(t, map[string]string{"gen_ai.usage.input_tokens": "140", "kaizen.cost.nano_usd": "58000"})
	if s.Attrs["gen_ai.response.time_to_first_chunk"] == "" {
		t.Error("no time to the first chunk")
	}
	noOpen(t, r, h, 0)
}

// TestErrorThatIsNotTold: langchaingo's OpenAI model tells nobody that it failed.
// The chain does.
func TestErrorThatIsNotTold(t *testing.T) {
	r := rig.New(t, kaizen.Config{})
	h := newHandler(t, r)
	bad := func(kaizentest.Request) kaizentest.Reply {
		return kaizentest.Reply{Status: 401, ErrorMessage: "bad key"}
	}
	llm := newLLM(t, bad, lcopenai.WithCallback(h), lcopenai.WithHTTPClient(h.HTTPClient(nil)))
	if _, err := chains.Run(t.Context(), newChain(llm, h), "hello"); err == nil {
		t.Fatal("no error")
	}
	for _, name := range [...]string{"invoke_agent helper", "chat gpt-5-mini"} {
		if s := r.One(t, name); s.Status != "Error" || !strings.Contains(s.Description, "401") {
			t.Errorf("%s: %s %q", name, s.Status, s.Description)
		}
	}
	noOpen(t, r, h, 1)

	// Without a chain, the next call shows that the one before is over.
	for range 2 {
		if _, err := llm.Call(t.Context(), "hi"); err == nil {
			t.Fatal("no error")
		}
	}
	if n := len(r.Named("chat gpt-5-mini")); n != 2 {
		t.Errorf("%d calls ended, want 2", n)
	}
	h.Close()
	if n := len(r.Named("chat gpt-5-mini")); n != 3 {
		t.Errorf("%d calls ended after Close, want 3", n)
	}
	noOpen(t, r, h, 3)

	// A call whose end was not told does not draw the request of another.
	if _, err := llm.Call(t.Context(), "hi"); err == nil {
		t.Fatal("no error")
	}
	before := r.Metric(t, "kaizen_model_calls_total")
	if _, err := newLLM(t, hello, lcopenai.WithHTTPClient(r.Obs.HTTPClient(nil))).Call(t.Context(), "hi"); err != nil {
		t.Fatal(err)
	}
	if n := r.Metric(t, "kaizen_model_calls_total", "status=ok"); n != 1 || before != 3 {
		t.Errorf("%v calls that went well, after %v; want 1 after 3", n, before)
	}
	h.Close()
	noOpen(t, r, h, 4)

	// A wrapper misses nothing.
	if _, err := llms.GenerateFromSinglePrompt(t.Context(), h.Model(llm), "hi"); err == nil {
		t.Fatal("no error")
	}
	noOpen(t, r, h, 4)
}

// weather is a tool without callbacks.
type weather struct{ err error }

func (weather) Name() string        { return "weather" }
func (weather) Description() string { return "Tells the weather." }
func (w weather) Call(_ context.Context, city string) (string, error) {
	return "sunny in " + city, w.err
}

// act asks for a tool in the words that langchaingo's agent reads, then answers
// with what it said.
func act(tool, input string) func(kaizentest.Request) kaizentest.Reply {
	return func(req kaizentest.Request) kaizentest.Reply {
		text := req.Messages[0].Text
		if !strings.Contains(text, "Action Input: "+input) {
			return kaizentest.Reply{Usage: usage, Text: "Thought: look\nAction: " + tool + "\nAction Input: " + input}
		}
		const before = "\nObservation: "
		seen, _, _ := strings.Cut(text[strings.LastIndex(text, before)+len(before):], "\n")
		return kaizentest.Reply{Usage: usage, Text: "Final Answer: " + seen}
	}
}

// TestAgent: an agent with a tool that makes its own callbacks, and one that is
// wrapped.
func TestAgent(t *testing.T) {
	for _, way := range [...]struct {
		tool, input, want string
		make              func(*langchaingo.Handler) tools.Tool
	}{
		{"calculator", "2 + 3", "5", func(h *langchaingo.Handler) tools.Tool { return tools.Calculator{CallbacksHandler: h} }},
		{"weather", "Lima", "sunny in Lima", func(h *langchaingo.Handler) tools.Tool { return h.Tool(weather{}) }},
	} {
		t.Run(way.tool, func(t *testing.T) {
			r := rig.New(t, kaizen.Config{Content: kaizen.ContentFull})
			h := newHandler(t, r)
			llm := newLLM(t, act(way.tool, way.input), lcopenai.WithCallback(h), lcopenai.WithHTTPClient(h.HTTPClient(nil)))
			a := agents.NewOneShotAgent(llm, []tools.Tool{way.make(h)}, agents.WithCallbacksHandler(h))
			out, err := chains.Run(t.Context(), agents.NewExecutor(a, agents.WithCallbacksHandler(h)), "go")
			if err != nil || strings.TrimSpace(out) != way.want {
				t.Fatalf("Run = %q, %v", out, err)
			}
			want := "invoke_agent helper\n  chain\n    chat gpt-5-mini\n  chain\n    chat gpt-5-mini\n  execute_tool " + way.tool + "\n"
			if got := r.Tree(); got != want {
				t.Errorf("spans:\n%s\nwant:\n%s", got, want)
			}
			r.OneTrace(t)
			r.One(t, "execute_tool "+way.tool).Want(t, map[string]string{
				"gen_ai.tool.call.arguments": way.input, "gen_ai.tool.call.result": way.want, "gen_ai.agent.name": "helper", "kaizen.status": "ok",
			})
			if e := r.Entries(t, "tool_execute"); len(e) != 1 || e[0].Details["tool"] != way.tool {
				t.Errorf("entries of the tool: %+v", e)
			}
			if got := r.Metric(t, "kaizen_model_cost_usd_total"); got != 2*nanoUSD/1e9 {
				t.Errorf("cost %v, want %v", got, 2*nanoUSD/1e9)
			}
			noOpen(t, r, h, 0)
		})
	}
}

// TestApply: chains that a chain runs at once, all with one context, are each
// part of it and of none of the others.
func TestApply(t *testing.T) {
	r := rig.New(t, kaizen.Config{})
	h := newHandler(t, r)
	chain := newChain(newLLM(t, hello, lcopenai.WithCallback(h), lcopenai.WithHTTPClient(h.HTTPClient(nil))), h)
	ctx := t.Context()
	h.HandleChainStart(ctx, map[string]any{"all": "of them"})
	var inputs []map[string]any
	for range 12 {
		inputs = append(inputs, map[string]any{"what": "hello"})
	}
	if _, err := chains.Apply(ctx, chain, inputs, 4); err != nil {
		t.Fatal(err)
	}
	h.HandleChainEnd(ctx, map[string]any{})
	want := "invoke_agent helper\n" + strings.Repeat("  chain\n    chat gpt-5-mini\n", 12)
	if got := r.Tree(); got != want {
		t.Errorf("spans:\n%s", got)
	}
	if got := r.Metric(t, "kaizen_model_calls_total"); got != 12 {
		t.Errorf("%v calls, want 12", got)
	}
	noOpen(t, r, h, 0)
}

// TestAtOnce: runs at once with one context are traces of their own.
func TestAtOnce(t *testing.T) {
	r := rig.New(t, kaizen.Config{})
	h := newHandler(t, r)
	chain := newChain(newLLM(t, hello, lcopenai.WithCallback(h), lcopenai.WithHTTPClient(h.HTTPClient(nil))), h)
	var wg sync.WaitGroup
	for range 10 {
		wg.Go(func() {
			if _, err := chains.Run(t.Context(), chain, "hello"); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if got := r.Tree(); got != strings.Repeat("invoke_agent helper\n  chat gpt-5-mini\n", 10) {
		t.Errorf("spans:\n%s", got)
	}
	noOpen(t, r, h, 0)
}

// TestBound: operations whose ends never come do not pile up.
func TestBound(t *testing.T) {
	r := rig.New(t, kaizen.Config{})
	h := newHandler(t, r)
	for range 5000 {
		h.HandleToolStart(t.Context(), "x") // tools may be within tools
	}
	if n := r.Open(); n != 4096 {
		t.Errorf("%d are open, want the bound of 4096", n)
	}
	h.Close()
	noOpen(t, r, h, 5000)
	h.HandleToolEnd(t.Context(), "late") // of nothing
	h.HandleChainError(t.Context(), errors.New("late"))
	if n := len(r.Spans()); n != 5000 {
		t.Errorf("%d spans ended, want 5000", n)
	}
}

// TestRefused: what a handler refuses is not done: by a request that does not
// leave, or by a wrapper.
func TestRefused(t *testing.T) {
	r := rig.New(t, kaizen.Config{})
	h := newHandler(t, r)
	if err := r.Obs.Hooks().Register(hook.Registration{
		Name: "guard", Timeout: time.Minute, Kinds: []hook.Kind{hook.KindModelCall, hook.KindTool}, Phases: []hook.Phase{hook.Start},
		Handler: hook.HandlerFunc(func(context.Context, hook.Event) error { return &hook.DeniedError{Reason: "not today"} }),
	}); err != nil {
		t.Fatal(err)
	}
	llm := newLLM(t, func(kaizentest.Request) kaizentest.Reply {
		t.Error("a refused request was sent")
		return kaizentest.Reply{}
	}, lcopenai.WithCallback(h), lcopenai.WithHTTPClient(h.HTTPClient(nil)))
	_, byClient := llm.Call(t.Context(), "hi")
	_, byWrapper := llms.GenerateFromSinglePrompt(t.Context(), h.Model(llm), "hi")
	_, byTool := h.Tool(weather{}).Call(t.Context(), "Lima")
	for i, err := range [...]error{byClient, byWrapper, byTool} {
		// langchaingo's model replaces the errors of its client by one of its own.
		if err == nil || i > 0 && !strings.Contains(err.Error(), "not today") {
			t.Errorf("%d: %v, want the refusal", i, err)
		}
	}
	h.Close()
	if n := r.Metric(t, "kaizen_model_calls_total", "status=denied"); n != 2 {
		t.Errorf("%v denied calls, want 2", n)
	}
}

// TestToolFails: the tool's error is recorded, also when it panics.
func TestToolFails(t *testing.T) {
	r := rig.New(t, kaizen.Config{})
	h := newHandler(t, r)
	broken := errors.New("broken")
	if _, err := h.Tool(weather{broken}).Call(t.Context(), "Lima"); !errors.Is(err, broken) {
		t.Errorf("Call = %v, want %v", err, broken)
	}
	func() {
		defer func() {
			if v := recover(); v != "boom" {
				t.Errorf("recovered %v, want the tool's panic", v)
			}
		}()
		_, err := h.Tool(panics{}).Call(t.Context(), "")
		t.Errorf("Call returned %v", err)
	}()
	spans := r.Spans()
	if len(spans) != 2 || spans[0].Description != "broken" || spans[1].Attrs["error.type"] != "panic" {
		t.Errorf("spans %+v", spans)
	}
	noOpen(t, r, h, 0)
}

type panics struct{ weather }

func (panics) Call(context.Context, string) (string, error) { panic("boom") }

// TestUnobserved: without an observer everything works and nothing is kept.
func TestUnobserved(t *testing.T) {
	h := langchaingo.New(langchaingo.Config{})
	llm := newLLM(t, hello, lcopenai.WithCallback(h), lcopenai.WithHTTPClient(h.HTTPClient(nil)))
	for _, m := range [...]llms.Model{llm, h.Model(llm)} {
		if out, err := chains.Run(t.Context(), newChain(m, h), "hello"); err != nil || out != "hello to you" {
			t.Errorf("Run = %q, %v", out, err)
		}
	}
	if out, err := h.Tool(weather{}).Call(t.Context(), "Lima"); err != nil || out != "sunny in Lima" {
		t.Errorf("Call = %q, %v", out, err)
	}
	if h.Close(); h.Lost() != 0 {
		t.Errorf("%d operations were kept", h.Lost())
	}
}
