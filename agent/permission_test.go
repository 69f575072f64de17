package agent_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kaizen-go/kaizen/agent"
	"github.com/kaizen-go/kaizen/hook"
)

func mustAsk(context.Context, agent.ToolCall) agent.Permission {
	return agent.Permission{Ask: true, By: "rule", Reason: "shell is dangerous"}
}

func shell(called *bool) agent.Tool {
	return agent.Tool{Name: "shell", Call: func(context.Context, json.RawMessage) (string, error) { *called = true; return "ran", nil }}
}

func TestAsk(t *testing.T) {
	type answerer = func(context.Context, agent.ToolCall) (bool, string, string)
	says := func(allow bool) answerer {
		return func(_ context.Context, c agent.ToolCall) (bool, string, string) {
			return allow, "ada", "because of " + c.Name
		}
	}
	tests := []struct {
		name     string
		permit   func(context.Context, agent.ToolCall) agent.Permission
		ask      answerer
		decision []string // as recorded
		by, told string
		allowed  bool
	}{
		{"allowed", mustAsk, says(true), []string{"ask", "allow"}, "ada", "ran", true},
		{"denied", mustAsk, says(false), []string{"ask", "deny"}, "ada", "because of shell", false},
		{"nobody to ask", mustAsk, nil, []string{"ask", "deny"}, "agent", "nobody to ask", false},
		{"no answer, heeds its context", mustAsk, func(ctx context.Context, _ agent.ToolCall) (bool, string, string) {
			<-ctx.Done()
			return true, "ada", "too late"
		}, []string{"ask", "deny"}, "agent", "timeout", false},
		{"no answer for long", mustAsk, func(context.Context, agent.ToolCall) (bool, string, string) {
			time.Sleep(time.Hour) // of the bubble's time
			return true, "ada", "too late"
		}, []string{"ask", "deny"}, "agent", "timeout", false},
		{"panics", mustAsk, func(context.Context, agent.ToolCall) (bool, string, string) { panic("boom") }, []string{"ask", "deny"}, "agent", "boom", false},
		{"denied and to be asked", func(context.Context, agent.ToolCall) agent.Permission {
			return agent.Permission{Denied: true, Ask: true, By: "rule", Reason: "never"}
		}, says(true), []string{"deny"}, "rule", "never", false},
		{"not to be asked", func(context.Context, agent.ToolCall) agent.Permission { return agent.Permission{By: "rule"} }, says(false), []string{"allow"}, "rule", "ran", true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { // it fails if a goroutine is left
				if tt.name == "no answer for long" {
					defer time.Sleep(2 * time.Hour) // of the bubble's time: Ask returns at last
				}
				ctx, rec := observed(t)
				called, told := false, ""
				a := newAgent(t, agent.Config{
					Tools: []agent.Tool{shell(&called)}, Permit: tt.permit, Ask: tt.ask, AskTimeout: time.Minute,
					Model: &scripted{turns: []func(agent.Request) (*agent.Response, error){asks(call("1", "shell", `{}`)), func(r agent.Request) (*agent.Response, error) {
						told = r.Messages[2].ToolResults[0].Text
						return &agent.Response{Message: answer("ok")}, nil
					}}},
				})
				if _, err := a.Run(ctx, "x"); err != nil {
					t.Fatal(err)
				}
				if called != tt.allowed || !strings.Contains(told, tt.told) {
					t.Errorf("called = %t, model was told %q", called, told)
				}
				var got []string
				var p *hook.Permission
				for _, e := range rec.of(hook.KindPermission) {
					p = e.Payload.(*hook.Permission)
					got = append(got, p.Decision)
				}
				if fmt.Sprint(got) != fmt.Sprint(tt.decision) || p.By != tt.by || p.Action != "tool:shell" {
					t.Errorf("decisions = %v, the last %+v, want %v by %s", got, p, tt.decision, tt.by)
				}
			})
		})
	}
}

// TestAskCancelled: a run that is stopped does not wait for the person.
func TestAskCancelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, rec := observed(t)
		ctx, cancel := context.WithCancel(ctx)
		called := false
		a := newAgent(t, agent.Config{
			Tools: []agent.Tool{shell(&called)}, Permit: mustAsk,
			Ask: func(ctx context.Context, _ agent.ToolCall) (bool, string, string) {
				cancel()
				<-ctx.Done()
				return true, "ada", "too late"
			},
			Model: &scripted{turns: []func(agent.Request) (*agent.Response, error){asks(call("1", "shell", `{}`))}},
		})
		start := time.Now()
		if _, err := a.Run(ctx, "x"); !errors.Is(err, context.Canceled) || called {
			t.Errorf("Run = %v, called = %t", err, called)
		}
		if waited := time.Since(start); waited != 0 {
			t.Errorf("it waited for %v", waited)
		}
		es := rec.of(hook.KindPermission)
		if e := es[len(es)-1]; e.Status != hook.Cancelled || e.Payload.(*hook.Permission).Decision != "deny" {
			t.Errorf("permission = %s, %+v", e.Status, e.Payload)
		}
	})
}

// TestAskFlood: questions that are never answered cannot pile up for ever.
func TestAskFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		defer time.Sleep(2 * time.Hour) // of the bubble's time: each Ask returns at last
		const calls = 70                // 64 may be unanswered at once
		var wishes []agent.ToolCall
		for i := range calls {
			wishes = append(wishes, call(fmt.Sprint(i), "shell", `{}`))
		}
		refused := 0
		called := false
		a := newAgent(t, agent.Config{
			Tools: []agent.Tool{shell(&called)}, Permit: mustAsk, AskTimeout: time.Second,
			Ask: func(context.Context, agent.ToolCall) (bool, string, string) {
				time.Sleep(time.Hour)
				return true, "", ""
			},
			Model: &scripted{turns: []func(agent.Request) (*agent.Response, error){asks(wishes...), func(r agent.Request) (*agent.Response, error) {
				for _, res := range r.Messages[2].ToolResults {
					if strings.Contains(res.Text, "too many questions") {
						refused++
					}
				}
				return says("ok")(r)
			}}},
		})
		if _, err := a.Run(t.Context(), "x"); err != nil || called || refused != calls-64 {
			t.Errorf("Run = %v, called = %t, %d refused, want %d", err, called, refused, calls-64)
		}
	})
}

func ExampleConfig_ask() {
	shell := agent.Tool{Name: "shell", Call: func(context.Context, json.RawMessage) (string, error) { return "done", nil }}
	model := &scripted{turns: []func(agent.Request) (*agent.Response, error){
		asks(call("1", "shell", `{"command":"rm -r /"}`)),
		func(r agent.Request) (*agent.Response, error) { return says(r.Messages[2].ToolResults[0].Text)(r) },
	}}
	a, err := agent.New(agent.Config{
		Name: "helper", Model: model, Tools: []agent.Tool{shell},
		Permit: func(_ context.Context, c agent.ToolCall) agent.Permission {
			return agent.Permission{Ask: c.Name == "shell", By: "policy"}
		},
		Ask: func(_ context.Context, c agent.ToolCall) (allow bool, by, reason string) {
			return !strings.Contains(string(c.Arguments), "rm"), "operator", "nothing is removed here"
		},
		AskTimeout: time.Minute,
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	res, err := a.Run(context.Background(), "Clean up.")
	fmt.Println(res.Output, err)
	// Output: tool shell denied by operator: nothing is removed here <nil>
}
