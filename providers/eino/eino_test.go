package eino_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cloudwego/eino/adk"
	"github.com/cloudwego/eino/callbacks"
	"github.com/cloudwego/eino/components/model"
	"github.com/cloudwego/eino/components/retriever"
	"github.com/cloudwego/eino/components/tool"
	"github.com/cloudwego/eino/components/tool/utils"
	"github.com/cloudwego/eino/compose"
	"github.com/cloudwego/eino/schema"

	"github.com/kaizen-go/kaizen"
	"github.com/kaizen-go/kaizen/agent"
	"github.com/kaizen-go/kaizen/audit"
	"github.com/kaizen-go/kaizen/hook"
	"github.com/kaizen-go/kaizen/kaizentest"
	"github.com/kaizen-go/kaizen/price"
	"github.com/kaizen-go/kaizen/providers/eino"
	"github.com/kaizen-go/kaizen/providers/internal/rig"
	"github.com/kaizen-go/kaizen/providers/openai"
)

// chatModel is an eino model that asks the model server with the official
// client, whose requests Kaizen's transport sees.
type chatModel struct {
	agent.Streamer
	tools []agent.ToolSpec
}

func (*chatModel) GetType() string { return "OpenAI" }

func (m *chatModel) WithTools(list []*schema.ToolInfo) (model.ToolCallingChatModel, error) {
	c := &chatModel{Streamer: m.Streamer}
	for _, t := range list {
		s, err := t.ToJSONSchema()
		if err != nil {
			return nil, err
		}
		raw, err := s.MarshalJSON()
		if err != nil {
			return nil, err
		}
		c.tools = append(c.tools, agent.ToolSpec{Name: t.Name, Description: t.Desc, Schema: raw})
	}
	return c, nil
}

func (m *chatModel) request(in []*schema.Message) agent.Request {
	req := agent.Request{Tools: m.tools}
	for _, msg := range in {
		switch msg.Role {
		case schema.System:
			req.System = msg.Content
		case schema.Tool:
			req.Messages = append(req.Messages, agent.Message{Role: agent.ToolRole, ToolResults: []agent.ToolResult{{ID: msg.ToolCallID, Text: msg.Content}}})
		default:
			out := agent.Message{Role: agent.Role(msg.Role), Text: msg.Content}
			for _, c := range msg.ToolCalls {
				out.ToolCalls = append(out.ToolCalls, agent.ToolCall{ID: c.ID, Name: c.Function.Name, Arguments: []byte(c.Function.Arguments)})
			}
			req.Messages = append(req.Messages, out)
		}
	}
	return req
}

func message(r *agent.Response) *schema.Message {
	msg := &schema.Message{Role: schema.Assistant, Content: r.Message.Text}
	for _, c := range r.Message.ToolCalls {
		msg.ToolCalls = append(msg.ToolCalls, schema.ToolCall{ID: c.ID, Type: "function", Function: schema.FunctionCall{Name: c.Name, Arguments: string(c.Arguments)}})
	}
	return msg
}

func (m *chatModel) Generate(ctx context.Context, in []*schema.Message, _ ...model.Option) (*schema.Message, error) {
	r, err := m.Streamer.Generate(ctx, m.request(in))
	if err != nil {
		return nil, err
	}
	return message(r), nil
}

func (m *chatModel) Stream(ctx context.Context, in []*schema.Message, _ ...model.Option) (*schema.StreamReader[*schema.Message], error) {
	out, w := schema.Pipe[*schema.Message](1)
	go func() {
		defer w.Close()
		r, err := m.Streamer.Stream(ctx, m.request(in), func(c agent.Chunk) error {
			w.Send(&schema.Message{Role: schema.Assistant, Content: c.Text}, nil)
			return nil
		})
		if err != nil {
			w.Send(nil, err)
			return
		}
		last := message(r)
		last.Content = ""
		w.Send(last, nil)
	}()
	return out, nil
}

var usage = price.Usage{Input: 100, CacheRead: 40, Output: 10, Reasoning: 6}

const nanoUSD = 100*250 + 40*25 + 16*2000

func newModel(t *testing.T, reply func(kaizentest.Request) kaizentest.Reply) *chatModel {
	t.Helper()
	s := kaizentest.NewModelServer(kaizentest.Script{Reply: reply})
	t.Cleanup(s.Close)
	return &chatModel{Streamer: openai.New(openai.Config{Model: "gpt-5-mini", APIKey: "k", BaseURL: s.URL + "/v1"})}
}

func hello(kaizentest.Request) kaizentest.Reply {
	return kaizentest.Reply{Text: "hello to you", Usage: usage}
}

func newHandler(t *testing.T, r *rig.Rig) *eino.Handler {
	t.Helper()
	h := eino.New(eino.Config{Observer: r.Obs})
	t.Cleanup(func() {
		if err := h.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return h
}

func compile(t *testing.T, m *chatModel) compose.Runnable[string, *schema.Message] {
	t.Helper()
	chain := compose.NewChain[string, *schema.Message]()
	chain.AppendLambda(compose.InvokableLambda(func(_ context.Context, in string) ([]*schema.Message, error) {
		return []*schema.Message{schema.SystemMessage("be brief"), schema.UserMessage(in)}, nil
	}), compose.WithNodeName("prompt")).AppendChatModel(m, compose.WithNodeName("answerer"))
	run, err := chain.Compile(t.Context(), compose.WithGraphName("greeter"))
	if err != nil {
		t.Fatal(err)
	}
	return run
}

const chainTree = "invoke_agent greeter\n  Lambda prompt\n  chat gpt-5-mini\n"

// checkChain checks what one run of the chain left, streamed or not.
func checkChain(t *testing.T, r *rig.Rig, stream bool) {
	t.Helper()
	if got := r.Tree(); got != chainTree {
		t.Fatalf("spans:\n%s\nwant:\n%s", got, chainTree)
	}
	trace := r.OneTrace(t)
	call := r.One(t, "chat gpt-5-mini")
	call.Want(t, map[string]string{
		"kaizen.kind": "model", "gen_ai.provider.name": "openai", "gen_ai.request.model": "gpt-5-mini", "gen_ai.agent.name": "greeter",
		"gen_ai.usage.input_tokens": "140", "gen_ai.usage.output_tokens": "16", "gen_ai.usage.cache_read.input_tokens": "40",
		"gen_ai.usage.reasoning.output_tokens": "6", "kaizen.cost.nano_usd": "58000", "http.response.status_code": "200",
	})
	if stream != (call.Attrs["gen_ai.response.time_to_first_chunk"] != "") {
		t.Errorf("time to first chunk is %q, streaming %v", call.Attrs["gen_ai.response.time_to_first_chunk"], stream)
	}
	for name, want := range map[string]float64{
		"kaizen_model_calls_total": 1, "kaizen_agent_runs_total": 1, "kaizen_agents_active": 0,
		"kaizen_model_cost_usd_total": nanoUSD / 1e9, "kaizen_model_tokens_total": 156,
	} {
		if got := r.Metric(t, name, "agent=greeter"); got != want {
			t.Errorf("%s = %v, want %v", name, got, want)
		}
	}
	for _, action := range [...]string{"agent_run", "model_call"} {
		e := r.Entries(t, action)
		if len(e) != 1 || e[0].TraceID != trace || e[0].Result != audit.Success || e[0].AgentID != "greeter" {
			t.Errorf("entries of %s: %+v", action, e)
		}
	}
	if cost := fmt.Sprint(r.Entries(t, "agent_run")[0].Details["cost_nano_usd"]); cost != "58000" {
		t.Errorf("the run's cost is %s, want 58000", cost)
	}
	if n := r.Open(); n != 0 {
		t.Errorf("%d spans never ended", n)
	}
}

func TestChain(t *testing.T) {
	r := rig.New(t, kaizen.Config{})
	out, err := compile(t, newModel(t, hello)).Invoke(t.Context(), "hi", compose.WithCallbacks(newHandler(t, r)))
	if err != nil || out.Content != "hello to you" {
		t.Fatalf("Invoke = %v, %v", out, err)
	}
	checkChain(t, r, false)
}

// TestStream: the operations end with the stream, whether or not the caller
// reads it to its end.
func TestStream(t *testing.T) {
	for _, whole := range [...]bool{true, false} {
		r := rig.New(t, kaizen.Config{})
		h := newHandler(t, r)
		out, err := compile(t, newModel(t, hello)).Stream(t.Context(), "hi", compose.WithCallbacks(h))
		if err != nil {
			t.Fatal(err)
		}
		var text strings.Builder
		for whole {
			msg, err := out.Recv()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			text.WriteString(msg.Content)
		}
		out.Close()
		if whole && text.String() != "hello to you" {
			t.Errorf("streamed %q", text.String())
		}
		if err := h.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		checkChain(t, r, true)
	}
}

// TestTwoHandlers: a handler that is registered twice counts once.
func TestTwoHandlers(t *testing.T) {
	r := rig.New(t, kaizen.Config{})
	a, b := newHandler(t, r), newHandler(t, r)
	out, err := compile(t, newModel(t, hello)).Stream(t.Context(), "hi", compose.WithCallbacks(a, b))
	if err != nil {
		t.Fatal(err)
	}
	out.Close()
	if err := errors.Join(a.Close(t.Context()), b.Close(t.Context())); err != nil {
		t.Fatal(err)
	}
	checkChain(t, r, true)
}

// TestOffTheWire: a model whose requests nobody sees is told by what eino knows.
func TestOffTheWire(t *testing.T) {
	r := rig.New(t, kaizen.Config{Content: kaizen.ContentFull})
	chain := compose.NewChain[[]*schema.Message, *schema.Message]()
	chain.AppendChatModel(&told{})
	run, err := chain.Compile(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := run.Invoke(t.Context(), []*schema.Message{schema.UserMessage("hi")}, compose.WithCallbacks(newHandler(t, r))); err != nil {
		t.Fatal(err)
	}
	if want := "invoke_agent eino\n  chat gpt-5-mini\n"; r.Tree() != want {
		t.Fatalf("spans:\n%s\nwant:\n%s", r.Tree(), want)
	}
	r.One(t, "chat gpt-5-mini").Want(t, map[string]string{
		"gen_ai.usage.input_tokens": "140", "gen_ai.usage.output_tokens": "16", "gen_ai.usage.cache_read.input_tokens": "40",
		"gen_ai.usage.reasoning.output_tokens": "6", "kaizen.cost.nano_usd": "58000", "gen_ai.response.finish_reasons": `["stop"]`,
		"gen_ai.input.messages":  `[{"role":"user","parts":[{"type":"text","content":"hi"}]}]`,
		"gen_ai.output.messages": `[{"role":"assistant","parts":[{"type":"text","content":"hello"}]}]`,
	})
}

// told is a model that makes its callbacks itself and tells all that eino can hear.
type told struct{}

func (*told) GetType() string          { return "OpenAI" }
func (*told) IsCallbacksEnabled() bool { return true }

func (*told) Generate(ctx context.Context, in []*schema.Message, _ ...model.Option) (*schema.Message, error) {
	config := &model.Config{Model: "gpt-5-mini"}
	ctx = callbacks.OnStart(ctx, &model.CallbackInput{Messages: in, Config: config})
	out := schema.AssistantMessage("hello", nil)
	out.ResponseMeta = &schema.ResponseMeta{FinishReason: "stop"}
	callbacks.OnEnd(ctx, &model.CallbackOutput{Message: out, Config: config, TokenUsage: &model.TokenUsage{
		PromptTokens: 140, PromptTokenDetails: model.PromptTokenDetails{CachedTokens: 40},
		CompletionTokens: 16, CompletionTokensDetails: model.CompletionTokensDetails{ReasoningTokens: 6}, TotalTokens: 156,
	}})
	return out, nil
}

func (m *told) Stream(ctx context.Context, in []*schema.Message, opts ...model.Option) (*schema.StreamReader[*schema.Message], error) {
	msg, err := m.Generate(ctx, in, opts...)
	return schema.StreamReaderFromArray([]*schema.Message{msg}), err
}

// TestErrors: an error of a component fails it and the run, once each.
func TestErrors(t *testing.T) {
	for _, stream := range [...]bool{false, true} {
		r := rig.New(t, kaizen.Config{})
		h := newHandler(t, r)
		run := compile(t, newModel(t, func(kaizentest.Request) kaizentest.Reply {
			if stream {
				return kaizentest.Reply{Text: strings.Repeat("word ", 40), CutAfterChunks: 3}
			}
			return kaizentest.Reply{Status: 400, ErrorMessage: "no"}
		}))
		if stream {
			out, err := run.Stream(t.Context(), "hi", compose.WithCallbacks(h))
			if err != nil {
				t.Fatal(err)
			}
			for err == nil {
				_, err = out.Recv()
			}
			if errors.Is(err, io.EOF) {
				t.Error("the stream was not cut")
			}
			out.Close()
		} else if _, err := run.Invoke(t.Context(), "hi", compose.WithCallbacks(h)); err == nil {
			t.Fatal("no error")
		}
		if err := h.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		if r.Tree() != chainTree {
			t.Errorf("spans:\n%s", r.Tree())
		}
		for _, name := range [...]string{"invoke_agent greeter", "chat gpt-5-mini"} {
			if s := r.One(t, name); s.Status != "Error" {
				t.Errorf("%s has status %s", name, s.Status)
			}
		}
		if n := r.Metric(t, "kaizen_model_calls_total", "status=error"); n != 1 {
			t.Errorf("%v failed calls, want 1", n)
		}
	}
}

type query struct {
	City string `json:"city"`
}

func weather(t *testing.T) tool.InvokableTool {
	t.Helper()
	w, err := utils.InferTool("weather", "Tells the weather.", func(_ context.Context, q query) (string, error) { return "sunny in " + q.City, nil })
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// TestADK: an agent of eino's development kit with a tool, streaming or not.
func TestADK(t *testing.T) {
	for _, stream := range [...]bool{false, true} {
		r := rig.New(t, kaizen.Config{Content: kaizen.ContentFull})
		h := newHandler(t, r)
		m := newModel(t, func(req kaizentest.Request) kaizentest.Reply {
			if req.Turn == 0 {
				return kaizentest.Reply{Usage: usage, ToolCalls: []kaizentest.ToolCall{{ID: "c1", Name: "weather", Arguments: []byte(`{"city":"Lima"}`)}}}
			}
			return kaizentest.Reply{Usage: usage, Text: req.Messages[len(req.Messages)-1].ToolResults[0].Text}
		})
		a, err := adk.NewChatModelAgent(t.Context(), &adk.ChatModelAgentConfig{
			Name: "helper", Description: "helps", Model: m,
			ToolsConfig: adk.ToolsConfig{ToolsNodeConfig: compose.ToolsNodeConfig{Tools: []tool.BaseTool{weather(t)}}},
		})
		if err != nil {
			t.Fatal(err)
		}
		runner := adk.NewRunner(t.Context(), adk.RunnerConfig{Agent: a, EnableStreaming: stream})
		events := runner.Query(h.Context(t.Context()), "weather?")
		var last string
		for {
			e, ok := events.Next()
			if !ok {
				break
			}
			if e.Err != nil {
				t.Fatal(e.Err)
			}
			if msg, err := e.Output.MessageOutput.GetMessage(); err != nil {
				t.Fatal(err)
			} else {
				last = msg.Content
			}
		}
		if last != "sunny in Lima" {
			t.Errorf("the agent said %q", last)
		}
		if err := h.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		r.OneTrace(t)
		run, toolSpan := r.One(t, "invoke_agent helper"), r.One(t, "execute_tool weather")
		if run.Parent != "" || len(r.Named("chat gpt-5-mini")) != 2 {
			t.Errorf("spans:\n%s", r.Tree())
		}
		toolSpan.Want(t, map[string]string{
			"gen_ai.tool.call.id": "c1", "gen_ai.tool.call.arguments": `{"city":"Lima"}`, "gen_ai.tool.call.result": "sunny in Lima", "gen_ai.agent.name": "helper",
		})
		if e := r.Entries(t, "tool_execute"); len(e) != 1 {
			t.Errorf("%d entries of the tool, want 1", len(e))
		}
		if got := r.Metric(t, "kaizen_model_cost_usd_total"); got != 2*nanoUSD/1e9 {
			t.Errorf("cost %v, want %v", got, 2*nanoUSD/1e9)
		}
		if n := r.Open(); n != 0 {
			t.Errorf("%d spans never ended", n)
		}
	}
}

// TestNested: a graph in a graph is part of its run; a retriever is a memory.
func TestNested(t *testing.T) {
	r := rig.New(t, kaizen.Config{})
	inner := compose.NewChain[string, []*schema.Document]()
	inner.AppendRetriever(library{}, compose.WithNodeName("library"))
	outer := compose.NewChain[string, int]()
	outer.AppendGraph(inner, compose.WithNodeName("search")).AppendLambda(compose.InvokableLambda(
		func(_ context.Context, docs []*schema.Document) (int, error) { return len(docs), nil }), compose.WithNodeName("count"))
	run, err := outer.Compile(t.Context(), compose.WithGraphName("reader"))
	if err != nil {
		t.Fatal(err)
	}
	if n, err := run.Invoke(t.Context(), "cats", compose.WithCallbacks(newHandler(t, r))); n != 2 || err != nil {
		t.Fatalf("Invoke = %d, %v", n, err)
	}
	want := "invoke_agent reader\n  Chain search\n    search_memory\n  Lambda count\n"
	if got := r.Tree(); got != want {
		t.Errorf("spans:\n%s\nwant:\n%s", got, want)
	}
	r.One(t, "search_memory").Want(t, map[string]string{"gen_ai.memory.store.id": "library", "gen_ai.memory.record.count": "2"})
	if n := r.Metric(t, "kaizen_agent_runs_total"); n != 1 {
		t.Errorf("%v runs, want 1", n)
	}
}

type library struct{}

func (library) Retrieve(context.Context, string, ...retriever.Option) ([]*schema.Document, error) {
	return []*schema.Document{{ID: "1"}, {ID: "2"}}, nil
}

// TestRefused: a call that a handler refuses is not made.
func TestRefused(t *testing.T) {
	r := rig.New(t, kaizen.Config{})
	if err := r.Obs.Hooks().Register(hook.Registration{
		Name: "guard", Timeout: time.Minute, Kinds: []hook.Kind{hook.KindModelCall}, Phases: []hook.Phase{hook.Start},
		Handler: hook.HandlerFunc(func(context.Context, hook.Event) error { return &hook.DeniedError{Reason: "not today"} }),
	}); err != nil {
		t.Fatal(err)
	}
	asked := 0
	m := newModel(t, func(kaizentest.Request) kaizentest.Reply { asked++; return kaizentest.Reply{} })
	if _, err := compile(t, m).Invoke(t.Context(), "hi", compose.WithCallbacks(newHandler(t, r))); err == nil || asked != 0 {
		t.Errorf("Invoke = %v, and the model was asked %d times", err, asked)
	}
	if n := r.Metric(t, "kaizen_model_calls_total", "status=denied"); n != 1 {
		t.Errorf("%v denied calls, want 1", n)
	}
}

// TestAtOnce: runs at once are traces of their own.
func TestAtOnce(t *testing.T) {
	r := rig.New(t, kaizen.Config{})
	h, run := newHandler(t, r), compile(t, newModel(t, hello))
	var wg sync.WaitGroup
	for range 10 {
		wg.Go(func() {
			if _, err := run.Invoke(t.Context(), "hi", compose.WithCallbacks(h)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if got := r.Tree(); got != strings.Repeat(chainTree, 10) {
		t.Errorf("spans:\n%s", got)
	}
}
