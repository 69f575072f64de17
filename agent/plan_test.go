package agent_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/kaizen-go/kaizen/agent"
	"github.com/kaizen-go/kaizen/hook"
)

func TestPlan(t *testing.T) {
	tests := []struct {
		name, answer string
		want         []string
	}{
		{"numbered", "Here it is:\n1. Look.\n2) Think.\n\n 3. Answer.\nGood luck!", []string{"Look.", "Think.", "Answer."}},
		{"marked up", "## Plan\n**1.** Look.\n- Step 2: Think.\r\n", []string{"Look.", "Think."}},
		{"none", "I just do it, in 2026. 100 times", nil},
		{"without end", strings.Repeat("1. again\n", 1000), strings.Split(strings.Repeat("again,", 49)+"again", ",")},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			ctx, rec := observed(t)
			var planned, worked agent.Request
			a := newAgent(t, agent.Config{System: "be brief", Plan: true, Tools: []agent.Tool{weather(t)}, Model: &scripted{turns: []func(agent.Request) (*agent.Response, error){
				func(r agent.Request) (*agent.Response, error) { planned = r; return says(tt.answer)(r) },
				func(r agent.Request) (*agent.Response, error) { worked = r; return says("done")(r) },
			}}})
			res, err := a.Run(ctx, "do it")
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, res.Plan); diff != "" {
				t.Errorf("plan (-want +got)\n%s", diff)
			}
			if len(planned.Tools) != 0 || !strings.HasPrefix(planned.System, "be brief\n\n") || !strings.Contains(planned.System, "- weather: ") {
				t.Errorf("planning request = %+v", planned)
			}
			if planned, ok := strings.CutPrefix(worked.System, "be brief\n\nYour plan:\n1. "); ok != (tt.want != nil) || ok && !strings.HasPrefix(planned, tt.want[0]+"\n2. ") {
				t.Errorf("system of the turn = %q", worked.System)
			}
			if len(worked.Messages) != 1 || len(worked.Tools) != 1 {
				t.Errorf("request of the turn = %+v", worked)
			}
			e := rec.of(hook.KindPlan)[0]
			if p := e.Payload.(*hook.Plan); p.Steps != len(tt.want) || p.Task != "do it" {
				t.Errorf("plan event = %+v", p)
			}
			if m := rec.of(hook.KindModelCall)[0]; m.Parent != e.Op {
				t.Error("the planning call is not part of the plan")
			}
			if res.Iterations != 1 || res.ModelCalls != 2 || res.Usage.Total() != 30 {
				t.Errorf("result = %+v", res)
			}
		})
	}
}

func TestPlanFails(t *testing.T) {
	down := errors.New("down")
	ctx, rec := observed(t)
	a := newAgent(t, agent.Config{Plan: true, Model: model(func(agent.Request) (*agent.Response, error) { return nil, down })})
	if _, err := a.Run(ctx, "x"); !errors.Is(err, down) {
		t.Errorf("Run = %v", err)
	}
	if e := rec.of(hook.KindPlan)[0]; e.Status != hook.Failed {
		t.Errorf("plan = %s", e.Status)
	}
}

// TestPlanIsResumed: the plan is part of the checkpoint, and not made twice.
func TestPlanIsResumed(t *testing.T) {
	store := openCheckpoints(t, t.TempDir(), 0)
	var a *agent.Agent
	hits := 0
	a = newAgent(t, agent.Config{Plan: true, Checkpoints: store, Tools: []agent.Tool{interrupter(&a, &hits, agent.Graceful)}, Model: &scripted{turns: []func(agent.Request) (*agent.Response, error){
		says("1. Look."), asks(call("1", "stop", `{}`)), func(r agent.Request) (*agent.Response, error) { return says(r.System)(r) },
	}}})
	old, err := a.Run(t.Context(), "x")
	var by *agent.InterruptedError
	if !errors.As(err, &by) {
		t.Fatal(err)
	}
	res, err := a.Resume(t.Context(), old.CheckpointID)
	if err != nil || !strings.Contains(res.Output, "1. Look.") || res.ModelCalls != 1 {
		t.Errorf("Resume = %+v, %v", res, err)
	}
}

func ExampleConfig_plan() {
	model := &scripted{turns: []func(agent.Request) (*agent.Response, error){
		says("1. Look at the map.\n2. Name the river."),
		says("The Amazon."),
	}}
	a, err := agent.New(agent.Config{Name: "guide", Model: model, Plan: true})
	if err != nil {
		fmt.Println(err)
		return
	}
	res, err := a.Run(context.Background(), "Which river is the longest in Peru?")
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("%q\n%s\n", res.Plan, res.Output)
	// Output:
	// ["Look at the map." "Name the river."]
	// The Amazon.
}
