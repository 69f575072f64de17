package agent_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kaizen-go/kaizen/agent"
	"github.com/kaizen-go/kaizen/hook"
	"github.com/kaizen-go/kaizen/price"
)

// endless is a model that asks for a tool for ever. Each call takes a second of
// the bubble's time and 100 tokens.
type endless struct{ info agent.ModelInfo }

func (m endless) Info() agent.ModelInfo { return m.info }
func (m endless) Generate(ctx context.Context, _ agent.Request) (*agent.Response, error) {
	time.Sleep(time.Second)
	return &agent.Response{
		Message:  agent.Message{Role: agent.Assistant, ToolCalls: []agent.ToolCall{call("1", "weather", `{"city":"Lima"}`)}},
		HasUsage: true, Usage: price.Usage{Input: 60, CacheRead: 20, Output: 20},
	}, nil
}

var (
	priced   = agent.ModelInfo{Provider: "openai", Name: "gpt-4o"}
	unpriced = agent.ModelInfo{Provider: "test", Name: "nobody-knows"}
)

func TestBudget(t *testing.T) {
	cost, ok := price.Default().Cost("openai", "gpt-4o", time.Now(), price.Usage{Input: 60, CacheRead: 20, Output: 20})
	if !ok || cost.NanoUSD == 0 {
		t.Fatal("the price book does not know the model")
	}
	tests := []struct {
		name   string
		model  agent.ModelInfo
		budget agent.Budget
		want   agent.BudgetError
		calls  int64
	}{
		{"model calls", unpriced, agent.Budget{ModelCalls: 3}, agent.BudgetError{Limit: agent.LimitModelCalls, Used: 3, Max: 3}, 3},
		{"tokens", unpriced, agent.Budget{Tokens: 250}, agent.BudgetError{Limit: agent.LimitTokens, Used: 300, Max: 250}, 3},
		{"tokens to the last", unpriced, agent.Budget{Tokens: 300}, agent.BudgetError{Limit: agent.LimitTokens, Used: 300, Max: 300}, 3},
		{"cost", priced, agent.Budget{NanoUSD: cost.NanoUSD + 1}, agent.BudgetError{Limit: agent.LimitCost, Used: 2 * cost.NanoUSD, Max: cost.NanoUSD + 1}, 2},
		{"cost that is not known", unpriced, agent.Budget{NanoUSD: 1e12}, agent.BudgetError{Limit: agent.LimitUnpriced, Used: 1}, 1},
		{"duration", unpriced, agent.Budget{Duration: 2500 * time.Millisecond}, agent.BudgetError{Limit: agent.LimitDuration, Used: 3e9, Max: 25e8}, 3},
		{"the first limit counts", unpriced, agent.Budget{Tokens: 1e6, ModelCalls: 2, Duration: time.Hour}, agent.BudgetError{Limit: agent.LimitModelCalls, Used: 2, Max: 2}, 2},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, rec := observed(t)
				a := newAgent(t, agent.Config{Model: endless{tt.model}, Budget: tt.budget, Tools: []agent.Tool{weather(t)}})
				res, err := a.Run(ctx, "x")
				var broke *agent.BudgetError
				tt.want.Agent = "helper"
				if !errors.As(err, &broke) || *broke != tt.want {
					t.Fatalf("Run = %v, want %v", err, &tt.want)
				}
				if res.ModelCalls != tt.calls || res.Usage.Total() != 100*tt.calls {
					t.Errorf("%d calls with %d tokens, want %d", res.ModelCalls, res.Usage.Total(), tt.calls)
				}
				guards := rec.of(hook.KindGuard)
				if len(guards) != 1 {
					t.Fatalf("%d guard events, want 1", len(guards))
				}
				g := guards[0].Payload.(*hook.Guard)
				if g.Guard != "budget" || g.Action != "stop" || g.Reason != broke.Error() || guards[0].Status != hook.OK {
					t.Errorf("guard = %+v", g)
				}
				if n := len(rec.of(hook.KindModelCall)); int64(n) != tt.calls {
					t.Errorf("%d calls announced, want %d", n, tt.calls)
				}
				run := rec.of(hook.KindRun)[0]
				if run.Status != hook.Failed || run.Payload.(*hook.RunInfo).StopReason != "budget" {
					t.Errorf("run = %s, %+v", run.Status, run.Payload)
				}
			})
		})
	}
}

// TestBudgetOfWorkers: a supervisor's budget holds for what its workers use,
// also for those at work at the same moment.
func TestBudgetOfWorkers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, rec := observed(t)
		var tools []agent.Tool
		var wishes []agent.ToolCall
		for _, name := range []string{"a", "b", "c"} {
			worker := newAgent(t, agent.Config{Name: name, Model: endless{unpriced}, Tools: []agent.Tool{weather(t)}, Budget: agent.Budget{ModelCalls: 50}, MaxIterations: 60})
			tools = append(tools, agent.AsTool(worker, "Works."))
			wishes = append(wishes, call(name, "ask_"+name, `{"task":"x"}`))
		}
		lead := newAgent(t, agent.Config{Name: "lead", Tools: tools, Budget: agent.Budget{ModelCalls: 10}, Model: &scripted{turns: []func(agent.Request) (*agent.Response, error){asks(wishes...), says("never")}}})
		res, err := lead.Run(ctx, "x")
		var broke *agent.BudgetError
		if !errors.As(err, &broke) || broke.Agent != "lead" || broke.Limit != agent.LimitModelCalls {
			t.Errorf("Run = %v", err)
		}
		if n := len(rec.of(hook.KindModelCall)); n != 10 || res.ModelCalls != 10 {
			t.Errorf("%d calls announced, %d counted, want 10", n, res.ModelCalls)
		}
		if n := len(rec.of(hook.KindGuard)); n != 4 {
			t.Errorf("%d guard events, want one for each run", n)
		}
	})
}

// TestBudgetGoesOn: a run that is resumed has what is left, not all anew.
func TestBudgetGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := openCheckpoints(t, t.TempDir(), 0)
		with := func(b agent.Budget) *agent.Agent {
			return newAgent(t, agent.Config{Model: endless{unpriced}, Budget: b, Checkpoints: store, Tools: []agent.Tool{weather(t)}})
		}
		small := with(agent.Budget{Tokens: 250})
		old, err := small.Run(t.Context(), "x")
		var broke *agent.BudgetError
		if !errors.As(err, &broke) || old.CheckpointID == "" {
			t.Fatal(err)
		}
		if res, err := small.Resume(t.Context(), old.CheckpointID); !errors.As(err, &broke) || res.ModelCalls != 0 {
			t.Errorf("Resume = %+v, %v, want no call", res, err)
		}
		res, err := with(agent.Budget{Tokens: 450}).Resume(t.Context(), old.CheckpointID)
		if !errors.As(err, &broke) || broke.Used != 500 || res.ModelCalls != 2 || res.Iterations != 3 {
			t.Errorf("Resume with more = %+v, %v", res, err)
		}
		if res, err := with(agent.Budget{Duration: 3 * time.Second}).Resume(t.Context(), old.CheckpointID); !errors.As(err, &broke) || broke.Limit != agent.LimitDuration || res.ModelCalls != 0 {
			t.Errorf("Resume after the time = %+v, %v", res, err)
		}
	})
}

func ExampleBudget() {
	model := &scripted{turns: []func(agent.Request) (*agent.Response, error){
		asks(call("1", "none", `{}`)), asks(call("2", "none", `{}`)), says("at last"),
	}}
	a, err := agent.New(agent.Config{Name: "helper", Model: model, Budget: agent.Budget{ModelCalls: 2, Tokens: 100_000}})
	if err != nil {
		fmt.Println(err)
		return
	}
	_, err = a.Run(context.Background(), "Find it.")
	var broke *agent.BudgetError
	fmt.Println(errors.As(err, &broke), err)
	// Output: true agent: run helper: budget of helper: model_calls: used 2 of 2
}
