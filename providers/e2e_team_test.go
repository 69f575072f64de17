package providers_test

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/kaizen-go/kaizen"
	"github.com/kaizen-go/kaizen/agent"
	"github.com/kaizen-go/kaizen/audit"
	"github.com/kaizen-go/kaizen/kaizentest"
	"github.com/kaizen-go/kaizen/providers/anthropic"
	"github.com/kaizen-go/kaizen/providers/internal/rig"
	"github.com/kaizen-go/kaizen/providers/openai"
)

// memberRun is the spans of a run of name that answers at once.
func (e *e2e) memberRun(name, indent string) string {
	return indent + "invoke_agent " + name + "\n" + indent + "  iteration\n" + indent + "    chat " + e.p.model + "\n"
}

// TestE2ESupervisor: a supervisor gives each of three workers a part of the task,
// at once, and puts their answers together: one trace.
func TestE2ESupervisor(t *testing.T) {
	script := func(e *e2e) reply {
		workers := newBarrier(3)
		return func(r kaizentest.Request) kaizentest.Reply {
			out := kaizentest.Reply{Usage: e.p.usage}
			switch {
			case r.System != "supervisor":
				workers.pass()
				out.Text = r.System + " did " + asked(r)
			case r.Turn == 0:
				for i := 1; i <= 3; i++ {
					task, _ := json.Marshal(map[string]string{"task": fmt.Sprint("sum ", i)}) // of strings
					out.ToolCalls = append(out.ToolCalls, kaizentest.ToolCall{ID: fmt.Sprint("c", i), Name: fmt.Sprint("ask_worker", i), Arguments: task})
				}
			default:
				var parts []string
				for _, m := range r.Messages {
					for _, res := range m.ToolResults {
						parts = append(parts, res.Text)
					}
				}
				out.Text = strings.Join(parts, ", ")
			}
			return out
		}
	}
	everyProvider(t, script, func(e *e2e) {
		want := expected{traces: 1, runs: counts{"supervisor": 1}, calls: counts{"supervisor": 2}, tools: counts{}}
		tree := "invoke_agent supervisor\n  iteration\n    chat " + e.p.model + "\n"
		var tools []agent.Tool
		for i := 1; i <= 3; i++ {
			name := fmt.Sprint("worker", i)
			tools = append(tools, agent.AsTool(e.agent(agent.Config{Name: name, System: name}), "does sums"))
			want.runs[name], want.calls[name], want.tools["ask_"+name] = 1, 1, 1
			tree += "    execute_tool ask_" + name + "\n      specialist " + name + "\n" + e.memberRun(name, "        ")
		}
		want.tree = tree + "  iteration\n    chat " + e.p.model + "\n"
		s := e.agent(agent.Config{Name: "supervisor", System: "supervisor", Tools: tools})
		res := e.run(e.t.Context(), s, "sums", "worker1 did sum 1, worker2 did sum 2, worker3 did sum 3")
		if res.ModelCalls != 5 || res.CostNanoUSD != 5*e.p.nanoUSD {
			e.t.Errorf("the whole took %d calls for %d nano-dollars", res.ModelCalls, res.CostNanoUSD)
		}
		e.checkDelegation("specialist_invoke", 3)
		e.checkParentRuns("supervisor")
		e.check(want)
	})
}

// checkDelegation checks that there are n entries of action, in the one trace.
func (e *e2e) checkDelegation(action string, n int) {
	e.t.Helper()
	trace := e.OneTrace(e.t)
	entries := e.Entries(e.t, action)
	if len(entries) != n {
		e.t.Errorf("%d entries of %s, want %d", len(entries), action, n)
	}
	for _, entry := range entries {
		if entry.TraceID != trace || entry.Result != audit.Success {
			e.t.Errorf("entry %+v", entry)
		}
	}
}

// checkParentRuns checks that the runs of all other agents name top's as theirs.
func (e *e2e) checkParentRuns(top string) {
	e.t.Helper()
	id := e.One(e.t, "invoke_agent "+top).Attrs["kaizen.run.id"]
	if id == "" {
		e.t.Fatalf("the run of %s has no id", top)
	}
	for _, s := range e.Spans() {
		if s.Attrs["kaizen.kind"] == "run" && s.Name != "invoke_agent "+top && s.Attrs["kaizen.run.parent_id"] != id {
			e.t.Errorf("%s: parent run %q, want %q", s.Name, s.Attrs["kaizen.run.parent_id"], id)
		}
	}
}

// TestE2EConsensus: three voters are asked at once, two agree: one trace.
func TestE2EConsensus(t *testing.T) {
	script := func(e *e2e) reply {
		voters := newBarrier(3) // one after another they would never come through
		return func(r kaizentest.Request) kaizentest.Reply {
			voters.pass()
			if r.System == "voter3" {
				return kaizentest.Reply{Text: "no", Usage: e.p.usage}
			}
			return kaizentest.Reply{Text: "yes", Usage: e.p.usage}
		}
	}
	everyProvider(t, script, func(e *e2e) {
		want := expected{traces: 1, runs: counts{"panel": 1}, calls: counts{}, tree: "invoke_agent panel\n"}
		var voters []agent.Runner
		for i := 1; i <= 3; i++ {
			name := fmt.Sprint("voter", i)
			voters = append(voters, e.agent(agent.Config{Name: name, System: name}))
			want.runs[name], want.calls[name] = 1, 1
			want.tree += "  specialist " + name + "\n" + e.memberRun(name, "    ")
		}
		panel, err := agent.NewConsensus("panel", 2, voters...)
		if err != nil {
			e.t.Fatal(err)
		}
		if err := panel.Observe(e.Obs); err != nil {
			e.t.Fatal(err)
		}
		e.run(e.t.Context(), panel, "Is it so?", "yes")
		calls := e.Named("chat " + e.p.model)
		for _, a := range calls {
			for _, b := range calls {
				if a.End < b.Start {
					e.t.Error("one vote was over before another began")
				}
			}
		}
		e.checkDelegation("specialist_invoke", 3)
		e.checkParentRuns("panel")
		e.check(want)
	})
}

// TestE2EHandoff: three agents in a row, each with what the one before said.
func TestE2EHandoff(t *testing.T) {
	script := func(e *e2e) reply {
		return func(r kaizentest.Request) kaizentest.Reply {
			return kaizentest.Reply{Text: r.System + "(" + asked(r) + ")", Usage: e.p.usage}
		}
	}
	everyProvider(t, script, func(e *e2e) {
		names := []string{"research", "code", "review"}
		temperatures := []float64{0.7, 0.5, 0.3}
		want := expected{traces: 1, runs: counts{"pipeline": 1}, calls: counts{}, tree: "invoke_agent pipeline\n  handoff code\n  handoff review\n"}
		var links []agent.Runner
		for i, name := range names {
			links = append(links, e.agent(agent.Config{Name: name, System: name, Temperature: &temperatures[i]}))
			want.runs[name], want.calls[name] = 1, 1
		}
		for _, name := range []string{"code", "research", "review"} {
			want.tree += e.memberRun(name, "  ")
		}
		chain, err := agent.NewChain("pipeline", links...)
		if err != nil {
			e.t.Fatal(err)
		}
		if err := chain.Observe(e.Obs); err != nil {
			e.t.Fatal(err)
		}
		e.run(e.t.Context(), chain, "task", "review(code(research(task)))")
		calls := e.Named("chat " + e.p.model)
		for i, c := range calls {
			c.Want(e.t, map[string]string{"gen_ai.request.temperature": fmt.Sprint(temperatures[i]), "gen_ai.agent.name": names[i]})
			if i > 0 && c.Start < calls[i-1].End {
				e.t.Errorf("%s began before %s had answered", names[i], names[i-1])
			}
		}
		e.metric(1, "kaizen_handoffs_total", "target=code", "status=ok")
		e.metric(1, "kaizen_handoffs_total", "target=review", "status=ok")
		e.checkDelegation("handoff", 2)
		e.checkParentRuns("pipeline")
		e.check(want)
	})
}

// real are the providers whose keys are in the environment; there may be none.
func real() map[string]agent.Model {
	models := map[string]agent.Model{}
	if os.Getenv("OPENAI_API_KEY") != "" {
		models["openai"] = openai.New(openai.Config{Model: "gpt-5-mini"})
		models["responses"] = openai.NewResponses(openai.Config{Model: "gpt-5-mini"})
	}
	if os.Getenv("ANTHROPIC_API_KEY") != "" {
		models["anthropic"] = anthropic.New(anthropic.Config{Model: "claude-haiku-4-5"})
	}
	return models
}

// TestE2EReal: an agent with a tool on each provider whose key is there: what it
// says is not known, that everything is recorded is.
func TestE2EReal(t *testing.T) {
	for name, model := range real() {
		t.Run(name, func(t *testing.T) {
			r := rig.New(t, kaizen.Config{})
			a, err := agent.New(agent.Config{Name: "helper", Model: model, System: "Answer in one word.", MaxTokens: 2000})
			if err != nil {
				t.Fatal(err)
			}
			if err := a.Observe(r.Obs); err != nil {
				t.Fatal(err)
			}
			res, err := a.Run(t.Context(), "What is the capital of Peru?")
			if err != nil || !strings.Contains(res.Output, "Lima") {
				t.Fatalf("Run = %+v, %v", res, err)
			}
			trace := r.OneTrace(t)
			call := r.One(t, "chat "+model.Info().Name)
			for _, key := range [...]string{"gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens", "gen_ai.response.id", "kaizen.cost.nano_usd"} {
				if v := call.Attrs[key]; v == "" || v == "0" {
					t.Errorf("%s = %q", key, v)
				}
			}
			if call.Parent != r.One(t, "iteration").ID || res.Usage.Total() == 0 || res.CostNanoUSD == 0 {
				t.Errorf("usage %+v for %d nano-dollars; spans:\n%s", res.Usage, res.CostNanoUSD, r.Tree())
			}
			if e := r.Entries(t, "model_call"); len(e) != 1 || e[0].TraceID != trace || e[0].SpanID != call.ID {
				t.Errorf("entries %+v", e)
			}
			if n := r.Metric(t, "kaizen_model_calls_total", "status=ok"); n != 1 {
				t.Errorf("%v calls counted, want 1", n)
			}
		})
	}
}
