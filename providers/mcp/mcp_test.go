//lint:file-ignore SA1019 servers of protocols before 2026-07-28 still ask for samples

package mcp_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/kaizen-go/kaizen"
	"github.com/kaizen-go/kaizen/agent"
	"github.com/kaizen-go/kaizen/audit"
	"github.com/kaizen-go/kaizen/genai"
	"github.com/kaizen-go/kaizen/hook"
	"github.com/kaizen-go/kaizen/kaizentest"
	"github.com/kaizen-go/kaizen/providers/internal/rig"
	"github.com/kaizen-go/kaizen/providers/mcp"
	"github.com/kaizen-go/kaizen/providers/openai"
)

type query struct {
	City string `json:"city"`
}

// connect returns a client's session with a server, each observed by its own
// observer, as two processes are.
func connect(t *testing.T, client, server *kaizen.Observer, opts *sdk.ClientOptions) *sdk.ClientSession {
	t.Helper()
	return connectWith(t, client, server, opts, nil)
}

func connectWith(t *testing.T, client, server *kaizen.Observer, opts *sdk.ClientOptions, session *sdk.ClientSessionOptions) *sdk.ClientSession {
	t.Helper()
	s := sdk.NewServer(&sdk.Implementation{Name: "weather", Version: "1"}, nil)
	sdk.AddTool(s, &sdk.Tool{Name: "forecast", Description: "Tells the weather."}, func(ctx context.Context, req *sdk.CallToolRequest, q query) (*sdk.CallToolResult, any, error) {
		switch q.City {
		case "Atlantis":
			return nil, nil, errors.New("no such city")
		case "ask":
			r, err := req.Session.CreateMessage(ctx, &sdk.CreateMessageParams{MaxTokens: 5, Messages: []*sdk.SamplingMessage{{Role: "user", Content: &sdk.TextContent{Text: "which?"}}}})
			if err != nil {
				return nil, nil, err
			}
			q.City = r.Content.(*sdk.TextContent).Text
		}
		return &sdk.CallToolResult{Content: []sdk.Content{&sdk.TextContent{Text: "sunny in " + q.City}}}, nil, nil
	})
	s.AddPrompt(&sdk.Prompt{Name: "greet"}, func(context.Context, *sdk.GetPromptRequest) (*sdk.GetPromptResult, error) {
		return &sdk.GetPromptResult{Messages: []*sdk.PromptMessage{{Role: "user", Content: &sdk.TextContent{Text: "hello"}}}}, nil
	})
	c := sdk.NewClient(&sdk.Implementation{Name: "tester", Version: "1"}, opts)
	mcp.ObserveClient(c, mcp.Config{Observer: client})
	mcp.ObserveServer(s, mcp.Config{Observer: server})
	ct, st := sdk.NewInMemoryTransports()
	ss, err := s.Connect(t.Context(), st, nil)
	if err != nil {
		t.Fatal(err)
	}
	cs, err := c.Connect(t.Context(), ct, session)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cs.Close(); err != nil {
			t.Error(err)
		}
		if err := ss.Wait(); err != nil {
			t.Error(err)
		}
	})
	return cs
}

// TestCallTool: one trace over both processes, a tool's operation with its audit
// entry on each side, the session and user of the caller on the server's.
func TestCallTool(t *testing.T) {
	client, server := rig.New(t, kaizen.Config{Content: kaizen.ContentFull}), rig.New(t, kaizen.Config{})
	cs := connect(t, client.Obs, server.Obs, nil)
	ctx, err := genai.WithSession(t.Context(), genai.Session{ID: "s1", User: "u1"})
	if err != nil {
		t.Fatal(err)
	}
	params := &sdk.CallToolParams{Name: "forecast", Arguments: query{"Lima"}, Meta: sdk.Meta{"mine": "kept"}}
	res, err := cs.CallTool(ctx, params)
	if err != nil || res.IsError {
		t.Fatalf("CallTool = %+v, %v", res, err)
	}
	if _, there := params.Meta["traceparent"]; there || params.Meta["mine"] != "kept" { // the SDK adds keys of its own
		t.Errorf("the caller's _meta is %v now", params.Meta)
	}

	tool, sent := client.One(t, "execute_tool forecast"), client.One(t, "tools/call forecast")
	got, ran := server.One(t, "tools/call forecast"), server.One(t, "execute_tool forecast")
	for i, pair := range [...][2]rig.Span{{tool, sent}, {sent, got}, {got, ran}} {
		if pair[1].Parent != pair[0].ID || pair[1].Trace != pair[0].Trace {
			t.Errorf("%d: %q is not below %q", i, pair[1].Name, pair[0].Name)
		}
	}
	version := cs.InitializeResult().ProtocolVersion
	for _, s := range [...]rig.Span{sent, got} {
		s.Want(t, map[string]string{
			"mcp.method.name": "tools/call", "gen_ai.tool.name": "forecast", "mcp.protocol.version": version,
			"kaizen.kind": "other", "kaizen.status": "ok",
		})
	}
	if sent.Kind != "client" || got.Kind != "server" {
		t.Errorf("kinds %s and %s, want client and server", sent.Kind, got.Kind)
	}
	tool.Want(t, map[string]string{"gen_ai.tool.call.arguments": `{"city":"Lima"}`, "gen_ai.tool.call.result": "sunny in Lima", "kaizen.kind": "tool"})
	ran.Want(t, map[string]string{"gen_ai.tool.call.arguments": "", "gen_ai.conversation.id": "s1"}) // content is off there

	for name, r := range map[string]*rig.Rig{"client": client, "server": server} {
		entries := r.Entries(t, "tool_execute")
		if len(entries) != 1 || entries[0].Result != audit.Success || entries[0].TraceID != tool.Trace {
			t.Errorf("%s: entries %+v", name, entries)
		}
		if n := r.Metric(t, "kaizen_tool_calls_total", "tool=forecast", "status=ok"); n != 1 {
			t.Errorf("%s: %v calls of the tool counted, want 1", name, n)
		}
		if n := r.Open(); n != 0 {
			t.Errorf("%s: %d spans never ended", name, n)
		}
	}
	if e := server.Entries(t, "tool_execute")[0]; e.SessionID != "s1" || e.UserID != "u1" || e.SpanID != ran.ID {
		t.Errorf("the server's entry is of session %q, user %q, span %s", e.SessionID, e.UserID, e.SpanID)
	}
}

// TestFailures: what a tool answers, what the protocol answers, what a handler
// refuses.
func TestFailures(t *testing.T) {
	client, server := rig.New(t, kaizen.Config{}), rig.New(t, kaizen.Config{})
	cs := connect(t, client.Obs, server.Obs, nil)
	call := func(name, city string) (*sdk.CallToolResult, error) {
		return cs.CallTool(t.Context(), &sdk.CallToolParams{Name: name, Arguments: query{city}})
	}
	if res, err := call("forecast", "Atlantis"); err != nil || !res.IsError {
		t.Fatalf("CallTool(Atlantis) = %+v, %v", res, err)
	}
	for name, r := range map[string]*rig.Rig{"client": client, "server": server} {
		for _, span := range [...]string{"execute_tool forecast", "tools/call forecast"} {
			s := r.One(t, span)
			s.Want(t, map[string]string{"error.type": "tool_error", "kaizen.status": "error"})
			if s.Status != "Error" || s.Description != "the tool failed: no such city" {
				t.Errorf("%s: %s: status %s %q", name, span, s.Status, s.Description)
			}
		}
		if e := r.Entries(t, "tool_execute"); len(e) != 1 || e[0].Result != audit.Failure {
			t.Errorf("%s: entries %+v", name, e)
		}
	}

	if _, err := call("nothing", ""); err == nil {
		t.Fatal("a tool that does not exist was called")
	}
	client.One(t, "tools/call nothing").Want(t, map[string]string{"error.type": "-32602", "rpc.response.status_code": "-32602"})

	if err := client.Obs.Hooks().Register(hook.Registration{
		Name: "guard", Timeout: time.Minute, Kinds: []hook.Kind{hook.KindTool}, Phases: []hook.Phase{hook.Start},
		Handler: hook.HandlerFunc(func(context.Context, hook.Event) error { return &hook.DeniedError{Reason: "not today"} }),
	}); err != nil {
		t.Fatal(err)
	}
	var denied *hook.DeniedError
	if _, err := call("forecast", "Lima"); !errors.As(err, &denied) || denied.Reason != "not today" {
		t.Errorf("CallTool, refused = %v", err)
	}
	if n := len(server.Named("tools/call forecast")); n != 1 {
		t.Errorf("the refused request was sent")
	}
}

// TestOtherMethods: each request is a span on both sides, named by the conventions.
func TestOtherMethods(t *testing.T) {
	client, server := rig.New(t, kaizen.Config{}), rig.New(t, kaizen.Config{})
	cs := connect(t, client.Obs, server.Obs, nil)
	if _, err := cs.ListTools(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if _, err := cs.GetPrompt(t.Context(), &sdk.GetPromptParams{Name: "greet"}); err != nil {
		t.Fatal(err)
	}
	if err := cs.Ping(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	for _, name := range [...]string{"tools/list", "prompts/get greet"} {
		a, b := client.One(t, name), server.One(t, name)
		if b.Parent != a.ID || b.Trace != a.Trace {
			t.Errorf("%s: the server's span is not below the client's", name)
		}
	}
	client.One(t, "prompts/get greet").Want(t, map[string]string{"gen_ai.prompt.name": "greet"})
	if n := len(client.Named("ping")) + len(server.Named("ping")); n != 0 {
		t.Errorf("%d spans of pings, want none", n)
	}
	if n := client.Metric(t, "kaizen_tool_calls_total"); n != 0 {
		t.Errorf("%v calls of tools counted, want none", n)
	}
}

// TestSampling: the server asks the client's model while its tool runs. That
// request goes the other way and stays in the trace. Protocols since 2026-07-28
// have no such requests any more.
func TestSampling(t *testing.T) {
	client, server := rig.New(t, kaizen.Config{}), rig.New(t, kaizen.Config{})
	cs := connectWith(t, client.Obs, server.Obs, &sdk.ClientOptions{
		CreateMessageHandler: func(context.Context, *sdk.CreateMessageRequest) (*sdk.CreateMessageResult, error) {
			return &sdk.CreateMessageResult{Model: "m", Role: "assistant", Content: &sdk.TextContent{Text: "Quito"}}, nil
		},
	}, &sdk.ClientSessionOptions{ProtocolVersion: "2025-11-25"})
	res, err := cs.CallTool(t.Context(), &sdk.CallToolParams{Name: "forecast", Arguments: query{"ask"}})
	if err != nil || res.IsError {
		t.Fatalf("CallTool = %+v, %v", res, err)
	}
	ran, sent, got := server.One(t, "execute_tool forecast"), server.One(t, "sampling/createMessage"), client.One(t, "sampling/createMessage")
	if sent.Parent != ran.ID || got.Parent != sent.ID || got.Trace != ran.Trace {
		t.Errorf("the tool asked for sampling outside its own span:\n%s%s", server.Tree(), client.Tree())
	}
	if sent.Kind != "client" || got.Kind != "server" {
		t.Errorf("kinds %s and %s, want client and server", sent.Kind, got.Kind)
	}
	sent.Want(t, map[string]string{"mcp.protocol.version": "2025-11-25"})
}

// TestSession: over HTTP a session has an id, which stands on both sides' spans.
func TestSession(t *testing.T) {
	client, server := rig.New(t, kaizen.Config{}), rig.New(t, kaizen.Config{})
	s := sdk.NewServer(&sdk.Implementation{Name: "empty", Version: "1"}, nil)
	sdk.AddTool(s, &sdk.Tool{Name: "nop"}, func(context.Context, *sdk.CallToolRequest, struct{}) (*sdk.CallToolResult, any, error) {
		return &sdk.CallToolResult{}, nil, nil
	})
	mcp.ObserveServer(s, mcp.Config{Observer: server.Obs})
	web := httptest.NewServer(sdk.NewStreamableHTTPHandler(func(*http.Request) *sdk.Server { return s }, nil))
	defer web.Close()
	c := sdk.NewClient(&sdk.Implementation{Name: "tester", Version: "1"}, nil)
	mcp.ObserveClient(c, mcp.Config{Observer: client.Obs})
	cs, err := c.Connect(t.Context(), &sdk.StreamableClientTransport{Endpoint: web.URL}, &sdk.ClientSessionOptions{ProtocolVersion: "2025-11-25"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := cs.CallTool(t.Context(), &sdk.CallToolParams{Name: "nop"}); err != nil {
		t.Fatal(err)
	}
	id := cs.ID()
	if err := cs.Close(); err != nil {
		t.Fatal(err)
	}
	if id == "" {
		t.Fatal("the session has no id")
	}
	sent, got := client.One(t, "tools/call nop"), server.One(t, "tools/call nop")
	for _, s := range [...]rig.Span{sent, got} {
		s.Want(t, map[string]string{"mcp.session.id": id, "mcp.protocol.version": "2025-11-25"})
	}
	if got.Parent != sent.ID {
		t.Error("the trace does not go on over HTTP")
	}
}

// TestAgentsTool: the tool of an agent is one of an MCP server. The agent has
// announced it, so that it is counted once.
func TestAgentsTool(t *testing.T) {
	client, server := rig.New(t, kaizen.Config{}), rig.New(t, kaizen.Config{})
	cs := connect(t, nil, server.Obs, nil) // the agent's observer is in the context
	tool, err := agent.Func("forecast", "Tells the weather.", func(ctx context.Context, q query) (string, error) {
		res, err := cs.CallTool(ctx, &sdk.CallToolParams{Name: "forecast", Arguments: q})
		if err != nil {
			return "", err
		}
		return res.Content[0].(*sdk.TextContent).Text, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	models := kaizentest.NewModelServer(kaizentest.Script{Reply: func(r kaizentest.Request) kaizentest.Reply {
		if r.Turn == 0 {
			return kaizentest.Reply{ToolCalls: []kaizentest.ToolCall{{Name: "forecast", Arguments: []byte(`{"city":"Lima"}`)}}}
		}
		return kaizentest.Reply{Text: r.Messages[len(r.Messages)-1].ToolResults[0].Text}
	}})
	defer models.Close()
	a, err := agent.New(agent.Config{Name: "helper", Model: openai.New(openai.Config{Model: "gpt-5-mini", APIKey: "k", BaseURL: models.URL + "/v1"}), Tools: []agent.Tool{tool}})
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Observe(client.Obs); err != nil {
		t.Fatal(err)
	}
	out, err := a.Run(t.Context(), "weather?")
	if err != nil || out.Output != "sunny in Lima" {
		t.Fatalf("Run = %+v, %v", out, err)
	}
	want := "invoke_agent helper\n  iteration\n    chat gpt-5-mini\n    execute_tool forecast\n      tools/call forecast\n  iteration\n    chat gpt-5-mini\n"
	if got := client.Tree(); got != want {
		t.Errorf("spans:\n%s\nwant:\n%s", got, want)
	}
	if e := client.Entries(t, "tool_execute"); len(e) != 1 {
		t.Errorf("%d entries of the tool, want 1", len(e))
	}
	if client.OneTrace(t) != server.One(t, "execute_tool forecast").Trace {
		t.Error("the server's part is of another trace")
	}
}

// TestSameParametersAtOnce: parameters that many requests share are not written to
// (from protocol 2026-07-28 on the SDK writes to them before we do).
func TestSameParametersAtOnce(t *testing.T) {
	client, server := rig.New(t, kaizen.Config{}), rig.New(t, kaizen.Config{})
	cs := connectWith(t, client.Obs, server.Obs, nil, &sdk.ClientSessionOptions{ProtocolVersion: "2025-11-25"})
	params := &sdk.CallToolParams{Name: "forecast", Arguments: query{"Lima"}}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if res, err := cs.CallTool(t.Context(), params); err != nil || res.IsError {
				t.Errorf("CallTool = %+v, %v", res, err)
			}
		})
	}
	wg.Wait()
	parents := map[string]bool{}
	for _, s := range server.Named("tools/call forecast") {
		parents[s.Parent] = true
	}
	if len(parents) != 8 {
		t.Errorf("8 requests have %d parents", len(parents))
	}
}

// TestUnobserved: without an observer nothing is added to a request.
func TestUnobserved(t *testing.T) {
	cs := connect(t, nil, nil, nil)
	if res, err := cs.CallTool(t.Context(), &sdk.CallToolParams{Name: "forecast", Arguments: query{"Lima"}}); err != nil || res.IsError {
		t.Fatalf("CallTool = %+v, %v", res, err)
	}
}
