package agent_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kaizen-go/kaizen/agent"
	"github.com/kaizen-go/kaizen/hook"
)

// interrupter is a tool that interrupts the agent it belongs to.
func interrupter(a **agent.Agent, hits *int, modes ...agent.InterruptMode) agent.Tool {
	return agent.Tool{Name: "stop", Call: func(ctx context.Context, _ json.RawMessage) (string, error) {
		for _, m := range modes {
			*hits += (*a).Interrupt(m, "operator", "enough")
		}
		return "asked to stop", ctx.Err()
	}}
}

func TestInterrupt(t *testing.T) {
	stop := asks(call("1", "stop", `{}`))
	tests := []struct {
		name     string
		modes    []agent.InterruptMode
		want     agent.InterruptMode
		recorded int
		results  int // of tools, in the checkpoint
	}{
		{"graceful", []agent.InterruptMode{agent.Graceful}, agent.Graceful, 1, 1},
		{"graceful twice", []agent.InterruptMode{agent.Graceful, agent.Graceful}, agent.Graceful, 1, 1},
		{"immediate", []agent.InterruptMode{agent.Immediate}, agent.Immediate, 1, 0},
		{"graceful, then immediate", []agent.InterruptMode{agent.Graceful, agent.Immediate}, agent.Immediate, 2, 0},
		{"immediate, then graceful", []agent.InterruptMode{agent.Immediate, agent.Graceful}, agent.Immediate, 1, 0},
		{"an unknown mode", []agent.InterruptMode{"now!"}, agent.Immediate, 1, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			ctx, rec := observed(t)
			// A handler that would deny everything, and one that interrupts again.
			var a *agent.Agent
			if err := hook.From(ctx).Register(hook.Registration{Name: "veto", Timeout: time.Minute, Kinds: []hook.Kind{hook.KindInterrupt}, Handler: hook.HandlerFunc(func(context.Context, hook.Event) error {
				a.Interrupt(agent.Graceful, "veto", "me too")
				return &hook.DeniedError{Reason: "no"}
			})}); err != nil {
				t.Fatal(err)
			}
			store := openCheckpoints(t, t.TempDir(), 0)
			hits := 0
			a = newAgent(t, agent.Config{
				Tools: []agent.Tool{interrupter(&a, &hits, tt.modes...)}, Checkpoints: store,
				Model: &scripted{turns: []func(agent.Request) (*agent.Response, error){stop, says("too far")}},
			})
			res, err := a.Run(ctx, "x")
			var by *agent.InterruptedError
			if !errors.As(err, &by) || !errors.Is(err, context.Canceled) {
				t.Fatalf("Run = %v, want an InterruptedError", err)
			}
			want := agent.InterruptedError{Mode: tt.want, Source: "operator", Reason: "enough", RunID: res.RunID, CheckpointID: res.CheckpointID}
			if *by != want || by.CheckpointID == "" {
				t.Errorf("error = %+v, want %+v", *by, want)
			}
			if hits != tt.recorded || len(rec.of(hook.KindInterrupt)) != tt.recorded {
				t.Errorf("%d interrupts, %d recorded, want %d", hits, len(rec.of(hook.KindInterrupt)), tt.recorded)
			}
			p := rec.of(hook.KindInterrupt)[tt.recorded-1]
			if i := p.Payload.(*hook.Interrupt); i.Mode != string(tt.want) || i.Source != "operator" || i.Reason != "enough" || p.Status != hook.OK || p.Run.RunID != res.RunID {
				t.Errorf("event = %+v of %+v", i, p)
			}
			run := rec.of(hook.KindRun)[0]
			if run.Status != hook.Cancelled || run.Payload.(*hook.RunInfo).StopReason != "interrupted" {
				t.Errorf("run = %s, %+v", run.Status, run.Payload)
			}
			c, _, err := store.Load(t.Context(), by.CheckpointID)
			if err != nil {
				t.Fatal(err)
			}
			n := 0
			for _, m := range c.Messages {
				n += len(m.ToolResults)
			}
			if n != tt.results {
				t.Errorf("%d results in the checkpoint, want %d", n, tt.results)
			}
			if a.Interrupt(agent.Immediate, "late", "") != 0 {
				t.Error("a run that has ended was interrupted")
			}
		})
	}
}

// TestInterruptAnswer: a turn that brings the answer is not taken back.
func TestInterruptAnswer(t *testing.T) {
	var a *agent.Agent
	a = newAgent(t, agent.Config{Model: &scripted{turns: []func(agent.Request) (*agent.Response, error){
		func(r agent.Request) (*agent.Response, error) {
			a.Interrupt(agent.Graceful, "x", "y")
			return says("hi")(r)
		},
	}}})
	if res, err := a.Run(t.Context(), "x"); err != nil || res.Output != "hi" {
		t.Errorf("Run = %+v, %v", res, err)
	}
}

// waiting is a model that waits for its context.
type waiting struct{ begun chan<- struct{} }

func (waiting) Info() agent.ModelInfo { return agent.ModelInfo{Provider: "test", Name: "waiting"} }
func (m waiting) Generate(ctx context.Context, _ agent.Request) (*agent.Response, error) {
	m.begun <- struct{}{}
	<-ctx.Done()
	return nil, fmt.Errorf("waiting: %w", context.Cause(ctx))
}

// TestInterruptMany: all runs of the agent, and the workers below them, end; no
// goroutine is left behind.
func TestInterruptMany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, rec := observed(t)
		begun := make(chan struct{})
		worker := newAgent(t, agent.Config{Name: "worker", Model: waiting{begun}})
		lead := newAgent(t, agent.Config{Name: "lead", Tools: []agent.Tool{agent.AsTool(worker, "Works.")}, Model: model(func(agent.Request) (*agent.Response, error) {
			return asks(call("1", "ask_worker", `{"task":"x"}`))(agent.Request{})
		})})
		const runs = 3
		errs := make([]error, runs)
		var wg sync.WaitGroup
		for i := range runs {
			wg.Go(func() { _, errs[i] = lead.Run(ctx, "x") })
		}
		for range runs {
			<-begun
		}
		if n := lead.Interrupt(agent.Immediate, "operator", "fire"); n != runs {
			t.Errorf("Interrupt = %d runs, want %d", n, runs)
		}
		wg.Wait()
		for _, err := range errs {
			var by *agent.InterruptedError
			if !errors.As(err, &by) || by.Source != "operator" || by.CheckpointID != "" {
				t.Errorf("Run = %v, want an InterruptedError", err)
			}
		}
		for _, e := range rec.of(hook.KindRun) {
			var by *agent.InterruptedError
			if e.Status != hook.Cancelled || !errors.As(e.Err, &by) || by.RunID != e.Run.RunID {
				t.Errorf("run of %s = %s, %v", e.Run.AgentName, e.Status, e.Err)
			}
		}
		if n := len(rec.of(hook.KindRun)); n != 2*runs {
			t.Errorf("%d runs, want %d", n, 2*runs)
		}
	})
}

// model is a model that is a function.
type model func(agent.Request) (*agent.Response, error)

func (model) Info() agent.ModelInfo { return agent.ModelInfo{Provider: "test", Name: "function"} }
func (m model) Generate(_ context.Context, r agent.Request) (*agent.Response, error) {
	return m(r)
}

func ExampleAgent_Interrupt() {
	var a *agent.Agent
	look := agent.Tool{Name: "look", Call: func(ctx context.Context, _ json.RawMessage) (string, error) {
		fmt.Println(a.Interrupt(agent.Immediate, "operator", "wrong house"), "run interrupted")
		<-ctx.Done()
		return "", context.Cause(ctx)
	}}
	m := &scripted{turns: []func(agent.Request) (*agent.Response, error){asks(call("1", "look", `{}`))}}
	a, err := agent.New(agent.Config{Name: "scout", Model: m, Tools: []agent.Tool{look}})
	if err != nil {
		fmt.Println(err)
		return
	}
	_, err = a.Run(context.Background(), "Look around.")
	fmt.Println(err)
	// Output:
	// 1 run interrupted
	// agent: run scout: interrupted by operator (immediate): wrong house
}
