package agent_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/google/go-cmp/cmp"
	"github.com/kaizen-go/kaizen"
	"github.com/kaizen-go/kaizen/agent"
)

// TestRecords: memory, checkpoints, permissions, interrupts, plans and budgets
// become spans with the right parents, metrics and audit entries by themselves.
func TestRecords(t *testing.T) {
	var a *agent.Agent
	shell := agent.Tool{Name: "shell", Call: func(context.Context, json.RawMessage) (string, error) {
		a.Interrupt(agent.Graceful, "operator", "enough")
		return "ran", nil
	}}
	a = newAgent(t, agent.Config{
		Tools: []agent.Tool{shell}, Plan: true, Permit: mustAsk,
		Ask:    func(context.Context, agent.ToolCall) (bool, string, string) { return true, "ada", "fine" },
		Memory: agent.NewWindowMemory(agent.WindowConfig{}), Checkpoints: openCheckpoints(t, t.TempDir(), 0),
		Model: &scripted{turns: []func(agent.Request) (*agent.Response, error){says("1. Do it."), asks(call("1", "shell", `{}`)), says("done")}},
	})
	obs, spans, logs := enable(t, a, kaizen.Config{})
	old, err := a.Run(inSession(t.Context(), "s"), "x")
	var by *agent.InterruptedError
	if !errors.As(err, &by) {
		t.Fatalf("Run = %v", err)
	}
	if _, err := a.Resume(t.Context(), old.CheckpointID); err != nil {
		t.Fatal(err)
	}
	poor := newAgent(t, agent.Config{
		Name: "poor", Tools: []agent.Tool{weather(t)}, Budget: agent.Budget{ModelCalls: 1},
		Model: &scripted{turns: []func(agent.Request) (*agent.Response, error){asks(call("1", "weather", `{"city":"Lima"}`))}},
	})
	if err := poor.Observe(obs); err != nil {
		t.Fatal(err)
	}
	var broke *agent.BudgetError
	if _, err := poor.Run(t.Context(), "x"); !errors.As(err, &broke) {
		t.Fatalf("Run = %v", err)
	}

	want := map[string]int{
		"agent_start": 3, "agent_run": 3, "plan_generate": 1, "model_call": 4, "tool_execute": 2,
		"permission_check": 1, "permission_grant": 1, "interrupt_triggered": 1, "guard_action": 1,
		"checkpoint_save": 2, "checkpoint_load": 1, "memory_load": 1, "memory_save": 1,
	}
	if diff := cmp.Diff(want, actions(t, obs)); diff != "" {
		t.Errorf("audit entries (-want +got)\n%s", diff)
	}
	checkParents(t, spans.Started(), spans.Ended())
	for _, m := range []struct {
		name   string
		labels string
		want   float64
	}{
		{"kaizen_permission_checks_total", "agent helper decision ask", 1},
		{"kaizen_permission_checks_total", "agent helper decision allow", 1},
		{"kaizen_checkpoints_total", "agent helper operation save status ok", 2},
		{"kaizen_checkpoints_total", "agent helper operation load status ok", 1},
		{"kaizen_memory_operations_total", "agent helper operation load status ok", 1},
		{"kaizen_memory_operations_total", "agent helper operation save status ok", 1},
		{"kaizen_interrupts_total", "agent helper kind graceful", 1},
		{"kaizen_plans_total", "agent helper status ok", 1},
		{"kaizen_guard_events_total", "agent poor kind budget action stop", 1},
		{"kaizen_agent_runs_total", "agent helper status cancelled", 1},
		{"kaizen_agent_runs_total", "agent helper status ok", 1},
		{"kaizen_agent_runs_total", "agent poor status error", 1},
	} {
		if v, ok := obs.Metrics().Value(m.name, strings.Fields(m.labels)...); !ok || v != m.want {
			t.Errorf("%s{%s} = %v, %t, want %v", m.name, m.labels, v, ok, m.want)
		}
	}
	for _, line := range []string{`"error_type":"interrupted"`, `"error_type":"budget"`, `"stop_reason":"budget"`, `"checkpoint_id":"` + old.CheckpointID} {
		if !strings.Contains(logs.String(), line) {
			t.Errorf("no log line has %s", line)
		}
	}
}

// checkParents checks that every span ended once, below a span of the right kind.
func checkParents(t *testing.T, started []sdktrace.ReadWriteSpan, ended []sdktrace.ReadOnlySpan) {
	t.Helper()
	if len(started) != len(ended) {
		t.Errorf("%d spans started, %d ended", len(started), len(ended))
	}
	kinds := map[trace.SpanID]string{{}: ""}
	for _, s := range ended {
		kinds[s.SpanContext().SpanID()] = spanAttribute(s, "kaizen.kind")
	}
	parents := map[string]string{
		"run": "", "plan": "run", "iteration": "run", "memory": "run", "checkpoint": "run", "interrupt": "run",
		"tool": "iteration", "guard": "iteration", "permission": "tool", "model": "iteration plan",
	}
	traces := make(map[trace.TraceID]bool)
	for _, s := range ended {
		kind, parent := kinds[s.SpanContext().SpanID()], kinds[s.Parent().SpanID()]
		if want, known := parents[kind]; !known || !strings.Contains(want, parent) || (parent == "") != (want == "") {
			t.Errorf("span %s of kind %q is below one of kind %q, want %q", s.Name(), kind, parent, want)
		}
		traces[s.SpanContext().TraceID()] = true
	}
	if len(traces) != 3 {
		t.Errorf("%d traces, want one for each run", len(traces))
	}
}

func spanAttribute(s sdktrace.ReadOnlySpan, key string) string {
	for _, kv := range s.Attributes() {
		if string(kv.Key) == key {
			return kv.Value.String()
		}
	}
	return ""
}
