package agent_test

import (
	"bytes"
	"context"
	"errors"
	"path/filepath"
	"strings"
	"testing"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/kaizen-go/kaizen"
	"github.com/kaizen-go/kaizen/agent"
	"github.com/kaizen-go/kaizen/audit"
	"github.com/kaizen-go/kaizen/genai"
)

func oneTurn(t *testing.T, name string) *agent.Agent {
	t.Helper()
	return newAgent(t, agent.Config{Name: name, ID: name + "-1", Model: &scripted{turns: []func(agent.Request) (*agent.Response, error){says("hi"), says("hi again")}}})
}

func enable(t *testing.T, a *agent.Agent, cfg kaizen.Config) (*kaizen.Observer, *tracetest.SpanRecorder, *bytes.Buffer) {
	t.Helper()
	t.Setenv("KAIZEN_SERVER", "")
	t.Setenv("OTEL_SERVICE_NAME", "")
	spans, logs := tracetest.NewSpanRecorder(), &bytes.Buffer{}
	cfg.TracerProvider, cfg.LogWriter = sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans)), logs
	if cfg.AuditDir == "" && cfg.Off&kaizen.Audit == 0 {
		cfg.AuditDir = filepath.Join(t.TempDir(), "audit")
	}
	obs, err := a.EnableObservability(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := a.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return obs, spans, logs
}

func actions(t *testing.T, obs *kaizen.Observer) map[string]int {
	t.Helper()
	if err := obs.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	n := make(map[string]int)
	for e, err := range obs.Audit().Ledger().Query(t.Context(), audit.Query{}) {
		if err != nil {
			t.Fatal(err)
		}
		n[e.Action]++
	}
	return n
}

// TestEnableObservability: one call, and spans, metrics, logs and audit are all
// written for everything that the agent does.
func TestEnableObservability(t *testing.T) {
	a := oneTurn(t, "helper")
	obs, spans, logs := enable(t, a, kaizen.Config{})
	if _, err := a.Run(t.Context(), "x"); err != nil {
		t.Fatal(err)
	}
	if n := len(spans.Ended()); n != 3 { // run, iteration, model call
		t.Errorf("%d spans, want 3", n)
	}
	if got := actions(t, obs); got["agent_start"] != 1 || got["agent_run"] != 1 || got["model_call"] != 1 {
		t.Errorf("entries = %v", got)
	}
	if !strings.Contains(logs.String(), `"message":"agent run"`) {
		t.Errorf("log = %s", logs)
	}
	if v, ok := obs.Metrics().Value("kaizen_agent_runs_total", "agent", "helper", "status", "ok"); !ok || v != 1 {
		t.Errorf("kaizen_agent_runs_total = %v, %v, want 1", v, ok)
	}
}

// TestNestedSpans: the model call is below the iteration, which is below the run,
// and all are one trace.
func TestNestedSpans(t *testing.T) {
	a := oneTurn(t, "helper")
	_, spans, _ := enable(t, a, kaizen.Config{})
	if _, err := a.Run(t.Context(), "x"); err != nil {
		t.Fatal(err)
	}
	byName := make(map[string]sdktrace.ReadOnlySpan)
	for _, s := range spans.Ended() {
		byName[s.Name()] = s
	}
	run, turn, call := byName["invoke_agent helper"], byName["iteration"], byName["chat scripted"]
	if run == nil || turn == nil || call == nil {
		t.Fatalf("spans = %v", byName)
	}
	if run.Parent().IsValid() || turn.Parent().SpanID() != run.SpanContext().SpanID() || call.Parent().SpanID() != turn.SpanContext().SpanID() {
		t.Error("the spans are not nested")
	}
	if call.SpanContext().TraceID() != run.SpanContext().TraceID() {
		t.Error("the spans are of two traces")
	}
}

func TestServiceName(t *testing.T) {
	for _, tt := range []struct{ name, set, want string }{
		{"default is the agent's id", "", "helper-1"},
		{"the one that was set wins", "billing", "billing"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			obs, _, _ := enable(t, oneTurn(t, "helper"), kaizen.Config{ServiceName: tt.set})
			// Outside of a run, entries are by the service.
			if _, err := obs.Audit().Record(t.Context(), audit.Entry{Action: "x", Result: audit.Success}); err != nil {
				t.Fatal(err)
			}
			e, err := obs.Audit().Ledger().Get(t.Context(), 0)
			if err != nil || e.AgentID != tt.want {
				t.Errorf("service = %q, %v, want %q", e.AgentID, err, tt.want)
			}
		})
	}
}

func TestSelective(t *testing.T) {
	a := oneTurn(t, "helper")
	_, spans, logs := enable(t, a, kaizen.Config{Off: kaizen.Audit | kaizen.Traces | kaizen.Logs})
	if _, err := a.Run(t.Context(), "x"); err != nil {
		t.Fatal(err)
	}
	if len(spans.Ended()) != 0 || logs.Len() != 0 {
		t.Errorf("%d spans and %q although both are off", len(spans.Ended()), logs)
	}
}

func TestSecondCallAndClose(t *testing.T) {
	a := oneTurn(t, "helper")
	enable(t, a, kaizen.Config{})
	if _, err := a.EnableObservability(t.Context(), kaizen.Config{}); !errors.Is(err, agent.ErrObserved) {
		t.Errorf("second EnableObservability = %v, want ErrObserved", err)
	}
	for range 2 {
		if err := a.Close(t.Context()); err != nil {
			t.Errorf("Close = %v", err)
		}
	}
	if _, err := a.Run(t.Context(), "x"); err != nil {
		t.Errorf("Run after Close = %v: the agent works on, unobserved", err)
	}
}

// TestCloseWithoutObserver does nothing.
func TestCloseWithoutObserver(t *testing.T) {
	if err := oneTurn(t, "helper").Close(t.Context()); err != nil {
		t.Errorf("Close = %v", err)
	}
}

// TestSharedObserver: agents that share an observer do not shut it down.
func TestSharedObserver(t *testing.T) {
	a, b := oneTurn(t, "a"), oneTurn(t, "b")
	obs, spans, _ := enable(t, a, kaizen.Config{})
	if err := b.Observe(obs); err != nil {
		t.Fatal(err)
	}
	if err := b.Observe(obs); !errors.Is(err, agent.ErrObserved) {
		t.Errorf("second Observe = %v", err)
	}
	if _, err := b.Run(t.Context(), "x"); err != nil {
		t.Fatal(err)
	}
	if err := b.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Run(t.Context(), "x"); err != nil {
		t.Fatal(err)
	}
	if n := len(spans.Ended()); n != 6 {
		t.Errorf("%d spans, want three of each agent", n)
	}
}

// TestSessionFromBaggage: a run that another process asked for belongs to the
// session and user that it named.
func TestSessionFromBaggage(t *testing.T) {
	a := oneTurn(t, "helper")
	obs, _, _ := enable(t, a, kaizen.Config{})
	ctx, err := genai.WithSession(t.Context(), genai.Session{ID: "s-7", User: "u-7"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.Run(ctx, "x"); err != nil {
		t.Fatal(err)
	}
	if err := obs.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	n, err := obs.Audit().Ledger().Count(t.Context(), audit.Query{SessionID: "s-7", UserID: "u-7", Action: "agent_run"})
	if err != nil || n != 1 {
		t.Errorf("runs of the session = %d, %v, want 1", n, err)
	}
}
