package agent_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/kaizen-go/kaizen/agent"
	"github.com/kaizen-go/kaizen/hook"
	"github.com/kaizen-go/kaizen/price"
)

// scripted is a model that says what its turns say.
type scripted struct {
	turns []func(agent.Request) (*agent.Response, error)
	mu    sync.Mutex
	n     int
}

func (m *scripted) Info() agent.ModelInfo { return agent.ModelInfo{Provider: "test", Name: "scripted"} }

func (m *scripted) Generate(_ context.Context, req agent.Request) (*agent.Response, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.n >= len(m.turns) {
		return nil, errors.New("no turn left")
	}
	m.n++
	return m.turns[m.n-1](req)
}

func says(text string) func(agent.Request) (*agent.Response, error) {
	return func(agent.Request) (*agent.Response, error) {
		return &agent.Response{
			Message: agent.Message{Role: agent.Assistant, Text: text}, FinishReason: "stop",
			HasUsage: true, Usage: price.Usage{Input: 10, Output: 5},
		}, nil
	}
}

func asks(calls ...agent.ToolCall) func(agent.Request) (*agent.Response, error) {
	return func(agent.Request) (*agent.Response, error) {
		return &agent.Response{Message: agent.Message{Role: agent.Assistant, ToolCalls: calls}, HasUsage: true, Usage: price.Usage{Input: 1}}, nil
	}
}

func call(id, name, arguments string) agent.ToolCall {
	return agent.ToolCall{ID: id, Name: name, Arguments: json.RawMessage(arguments)}
}

// events records what is announced.
type events struct {
	mu  sync.Mutex
	all []hook.Event
}

func (r *events) Start(ctx context.Context, e *hook.Event) context.Context { return ctx }
func (r *events) End(_ context.Context, e *hook.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = append(r.all, *e)
}

func (r *events) of(k hook.Kind) []hook.Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(r.all), func(e hook.Event) bool { return e.Kind() != k })
}

func observed(t *testing.T) (context.Context, *events) {
	rec := &events{}
	return hook.With(t.Context(), hook.New(hook.Config{Recorder: rec})), rec
}

type cityQuery struct {
	City string `json:"city" jsonschema:"the city to look up"`
}

func weather(t *testing.T) agent.Tool {
	t.Helper()
	tool, err := agent.Func("weather", "Tells the weather.", func(_ context.Context, q cityQuery) (string, error) {
		if q.City == "nowhere" {
			return "", errors.New("no such city")
		}
		return "sunny in " + q.City, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return tool
}

func newAgent(t *testing.T, cfg agent.Config) *agent.Agent {
	t.Helper()
	if cfg.Name == "" {
		cfg.Name = "helper"
	}
	a, err := agent.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestRunWithTools(t *testing.T) {
	ctx, rec := observed(t)
	model := &scripted{turns: []func(agent.Request) (*agent.Response, error){
		asks(call("1", "weather", `{"city":"Lima"}`), call("2", "weather", `{"city":"nowhere"}`), call("3", "weather", `{"town":7}`), call("4", "none", `{}`)),
		func(req agent.Request) (*agent.Response, error) {
			results := req.Messages[len(req.Messages)-1].ToolResults
			if len(results) != 4 || results[0].Text != "sunny in Lima" || results[0].IsError {
				return nil, fmt.Errorf("results = %+v", results)
			}
			for i, want := range []string{"", "no such city", "arguments", "no tool is named none"} {
				if i > 0 && (!results[i].IsError || !strings.Contains(results[i].Text, want)) {
					return nil, fmt.Errorf("result %d = %+v, want an error with %q", i, results[i], want)
				}
			}
			return says("Sunny.")(req)
		},
	}}
	a := newAgent(t, agent.Config{Model: model, System: "be brief", Tools: []agent.Tool{weather(t)}})
	res, err := a.Run(ctx, "How is the weather?")
	if err != nil {
		t.Fatal(err)
	}
	if res.Output != "Sunny." || res.Iterations != 2 || res.Usage.Total() != 16 {
		t.Errorf("result = %q after %d turns with %d tokens", res.Output, res.Iterations, res.Usage.Total())
	}
	if n := len(rec.of(hook.KindModelCall)); n != 2 {
		t.Errorf("model calls = %d, want 2", n)
	}
	statuses := make(map[hook.Status]int)
	for _, e := range rec.of(hook.KindTool) {
		statuses[e.Status]++
		if e.Run.RunID != res.RunID || e.Run.AgentName != "helper" {
			t.Errorf("tool event of run %+v, want %s", e.Run, res.RunID)
		}
	}
	if statuses[hook.OK] != 1 || statuses[hook.Failed] != 3 {
		t.Errorf("tool statuses = %v, want 1 ok and 3 errors", statuses)
	}
	run := rec.of(hook.KindRun)[0].Payload.(*hook.RunInfo)
	if run.StopReason != "answer" || run.Iterations != 2 || run.Usage.Total() != 16 {
		t.Errorf("run = %+v", run)
	}
}

func TestPermissionDenies(t *testing.T) {
	ctx, rec := observed(t)
	called := false
	tool := agent.Tool{Name: "shell", Call: func(context.Context, json.RawMessage) (string, error) { called = true; return "", nil }}
	a := newAgent(t, agent.Config{
		Model: &scripted{turns: []func(agent.Request) (*agent.Response, error){
			asks(call("1", "shell", `{}`)),
			func(req agent.Request) (*agent.Response, error) {
				if r := req.Messages[len(req.Messages)-1].ToolResults[0]; !r.IsError || !strings.Contains(r.Text, "not here") {
					return nil, fmt.Errorf("result = %+v", r)
				}
				return says("ok")(req)
			},
		}},
		Tools: []agent.Tool{tool},
		Permit: func(context.Context, agent.ToolCall) agent.Permission {
			return agent.Permission{Denied: true, By: "rule", Reason: "not here"}
		},
	})
	if _, err := a.Run(ctx, "x"); err != nil {
		t.Fatal(err)
	}
	if called {
		t.Error("the tool was called")
	}
	p := rec.of(hook.KindPermission)[0].Payload.(*hook.Permission)
	if p.Decision != "deny" || p.By != "rule" || p.Action != "tool:shell" {
		t.Errorf("permission = %+v", p)
	}
	if e := rec.of(hook.KindTool)[0]; e.Status != hook.Denied {
		t.Errorf("tool status = %s, want denied", e.Status)
	}
}

func TestToolPanicIsContained(t *testing.T) {
	ctx, rec := observed(t)
	tool := agent.Tool{Name: "bomb", Call: func(context.Context, json.RawMessage) (string, error) { panic("boom") }}
	a := newAgent(t, agent.Config{
		Model: &scripted{turns: []func(agent.Request) (*agent.Response, error){asks(call("1", "bomb", `{}`)), says("still here")}},
		Tools: []agent.Tool{tool},
	})
	res, err := a.Run(ctx, "x")
	if err != nil || res.Output != "still here" {
		t.Fatalf("Run = %v, %v", res, err)
	}
	var p *hook.PanicError
	if e := rec.of(hook.KindTool)[0]; !errors.As(e.Err, &p) {
		t.Errorf("tool error = %v, want a panic", e.Err)
	}
}

func TestRunEnds(t *testing.T) {
	loop := func(agent.Request) (*agent.Response, error) {
		return asks(call("1", "weather", `{"city":"Lima"}`))(agent.Request{})
	}
	broken := errors.New("model is down")
	tests := []struct {
		name   string
		turns  []func(agent.Request) (*agent.Response, error)
		want   error
		status hook.Status
	}{
		{"too many turns", []func(agent.Request) (*agent.Response, error){loop, loop, loop, loop}, agent.ErrMaxIterations, hook.Failed},
		{"model fails", []func(agent.Request) (*agent.Response, error){func(agent.Request) (*agent.Response, error) { return nil, broken }}, broken, hook.Failed},
		{"cancelled", []func(agent.Request) (*agent.Response, error){func(agent.Request) (*agent.Response, error) { return nil, context.Canceled }}, context.Canceled, hook.Cancelled},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			ctx, rec := observed(t)
			a := newAgent(t, agent.Config{Model: &scripted{turns: tt.turns}, MaxIterations: 3, Tools: []agent.Tool{weather(t)}})
			res, err := a.Run(ctx, "x")
			if !errors.Is(err, tt.want) || res == nil {
				t.Errorf("Run = %v, %v, want %v beside a result", res, err, tt.want)
			}
			if got := rec.of(hook.KindRun)[0].Status; got != tt.status {
				t.Errorf("run status = %s, want %s", got, tt.status)
			}
		})
	}
}

func TestSupervisor(t *testing.T) {
	ctx, rec := observed(t)
	worker := newAgent(t, agent.Config{Name: "worker", Model: &scripted{turns: []func(agent.Request) (*agent.Response, error){says("done")}}})
	lead := newAgent(t, agent.Config{
		Name: "lead", Tools: []agent.Tool{agent.AsTool(worker, "Works.")},
		Model: &scripted{turns: []func(agent.Request) (*agent.Response, error){asks(call("1", "ask_worker", `{"task":"do it"}`)), says("all done")}},
	})
	res, err := lead.Run(ctx, "go")
	if err != nil {
		t.Fatal(err)
	}
	runs := rec.of(hook.KindRun)
	if len(runs) != 2 || runs[0].Run.AgentName != "worker" || runs[0].Run.ParentRunID != res.RunID {
		t.Errorf("runs = %+v, want the worker's below %s", runs, res.RunID)
	}
	if res.Usage.Total() != 1+15+15 {
		t.Errorf("tokens = %d, want those of both", res.Usage.Total())
	}
	if s := rec.of(hook.KindSpecialist)[0].Payload.(*hook.Specialist); s.Agent != "worker" || s.Pattern != "supervisor" {
		t.Errorf("specialist = %+v", s)
	}
}

func TestConsensus(t *testing.T) {
	voter := func(name, answer string) agent.Runner {
		turn := says(answer)
		if answer == "" {
			turn = func(agent.Request) (*agent.Response, error) { return nil, errors.New("abstains") }
		}
		return newAgent(t, agent.Config{Name: name, Model: &scripted{turns: []func(agent.Request) (*agent.Response, error){turn}}})
	}
	tests := []struct {
		name    string
		answers []string
		quorum  int
		want    string
		err     error
	}{
		{"majority", []string{"yes", " Yes", "no"}, 0, "yes", nil},
		{"one fails", []string{"yes", "", "yes"}, 2, "yes", nil},
		{"no quorum", []string{"a", "b", "c"}, 0, "", agent.ErrNoQuorum},
		{"unanimous asked", []string{"a", "a", "b"}, 3, "", agent.ErrNoQuorum},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			ctx, rec := observed(t)
			var voters []agent.Runner
			for i, a := range tt.answers {
				voters = append(voters, voter(fmt.Sprintf("v%d", i), a))
			}
			c, err := agent.NewConsensus("jury", tt.quorum, voters...)
			if err != nil {
				t.Fatal(err)
			}
			res, err := c.Run(ctx, "?")
			if !errors.Is(err, tt.err) || !strings.EqualFold(strings.TrimSpace(res.Output), tt.want) {
				t.Errorf("Run = %q, %v, want %q, %v", res.Output, err, tt.want, tt.err)
			}
			if n := len(rec.of(hook.KindRun)); n != len(tt.answers)+1 {
				t.Errorf("runs = %d, want one for each voter and the jury's", n)
			}
		})
	}
	if _, err := agent.NewConsensus("jury", 4, voter("a", "x")); err == nil {
		t.Error("a quorum above the number of voters was taken")
	}
}

func TestChain(t *testing.T) {
	ctx, rec := observed(t)
	echo := func(name string) agent.Runner {
		return newAgent(t, agent.Config{Name: name, Model: &scripted{turns: []func(agent.Request) (*agent.Response, error){
			func(req agent.Request) (*agent.Response, error) { return says(req.Messages[0].Text + ">" + name)(req) },
		}}})
	}
	c, err := agent.NewChain("line", echo("a"), echo("b"), echo("c"))
	if err != nil {
		t.Fatal(err)
	}
	res, err := c.Run(ctx, "x")
	if err != nil || res.Output != "x>a>b>c" {
		t.Fatalf("Run = %q, %v", res.Output, err)
	}
	hs := rec.of(hook.KindHandoff)
	if len(hs) != 2 || hs[1].Payload.(*hook.Handoff).From != "b" || hs[1].Payload.(*hook.Handoff).To != "c" {
		t.Errorf("handoffs = %+v", hs)
	}
}

func TestNewRefuses(t *testing.T) {
	model := &scripted{}
	tests := []struct {
		name string
		cfg  agent.Config
	}{
		{"no name", agent.Config{Model: model}},
		{"no model", agent.Config{Name: "a"}},
		{"two tools of one name", agent.Config{Name: "a", Model: model, Tools: []agent.Tool{weather(t), weather(t)}}},
		{"tool without a function", agent.Config{Name: "a", Model: model, Tools: []agent.Tool{{Name: "x"}}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := agent.New(tt.cfg); err == nil {
				t.Error("New took it")
			}
		})
	}
	if _, err := agent.Func("f", "", func(context.Context, string) (string, error) { return "", nil }); err == nil {
		t.Error("Func took arguments that are no object")
	}
}

// TestUnobserved: nothing is needed to run an agent without an observer.
func TestUnobserved(t *testing.T) {
	a := newAgent(t, agent.Config{Model: &scripted{turns: []func(agent.Request) (*agent.Response, error){says("hi")}}})
	if res, err := a.Run(t.Context(), "x"); err != nil || res.Output != "hi" || res.RunID == "" {
		t.Errorf("Run = %+v, %v", res, err)
	}
}

func ExampleFunc() {
	type query struct {
		City string `json:"city" jsonschema:"the city to look up"`
	}
	tool, err := agent.Func("weather", "Tells the weather.", func(_ context.Context, q query) (string, error) {
		return "sunny in " + q.City, nil
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	out, err := tool.Call(context.Background(), json.RawMessage(`{"city":"Lima"}`))
	fmt.Println(out, err)
	// Output: sunny in Lima <nil>
}
