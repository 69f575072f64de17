package kaizen

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/kaizen-go/kaizen/hook"
)

// TestLateAttributes: with a provider of our own, where a tool's span learns at
// its end what it is, it ends up as with any other provider, however it ends.
func TestLateAttributes(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) }))
	defer server.Close()
	own, others := tracetest.NewSpanRecorder(), tracetest.NewSpanRecorder()
	run := func(cfg Config, register func(*Observer)) {
		cfg.LogWriter, cfg.SpoolDir, cfg.Content = io.Discard, NoSpool, ContentRedacted
		obs, err := Start(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		register(obs)
		everyToolEnd(t, obs)
		if err := obs.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
	}
	run(Config{Server: server.URL}, func(o *Observer) {
		if !o.wire.late {
			t.Error("attributes do not come late with our own provider")
		}
		o.provider.RegisterSpanProcessor(own)
	})
	run(Config{TracerProvider: sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(others))}, func(o *Observer) {
		if o.wire.late {
			t.Error("attributes come late with a provider that is not our own")
		}
	})
	got, want := own.Ended(), others.Ended()
	if len(got) != len(want) || len(got) == 0 {
		t.Fatalf("%d spans with our own provider, %d with another", len(got), len(want))
	}
	for i := range got {
		if diff := cmp.Diff(told(want[i]), told(got[i])); diff != "" {
			t.Errorf("span %d (-another provider +our own):\n%s", i, diff)
		}
	}
}

// everyToolEnd calls tools that end in every way there is.
func everyToolEnd(t *testing.T, obs *Observer) {
	t.Helper()
	err := obs.Hooks().Register(hook.Registration{Name: "guard", Timeout: time.Minute, Phases: []hook.Phase{hook.Start}, Handler: hook.HandlerFunc(func(_ context.Context, e hook.Event) error {
		if e.Payload.Label() == "forbidden" {
			return &hook.DeniedError{Reason: "not today"}
		}
		return nil
	})})
	if err != nil {
		t.Fatal(err)
	}
	ctx := WithRun(t.Context(), Run{RunID: "r", ParentRunID: "p", AgentID: "a", AgentName: "helper", SessionID: "s", UserID: "u"})
	full := func() *hook.Tool {
		return &hook.Tool{Name: "search", CallID: "c", Description: "Searches.", Type: "function", Arguments: `{"q":"ada@example.com"}`}
	}
	_ = obs.Hooks().Do(ctx, full(), func(_ context.Context, op *hook.Op) error {
		op.Update(func(p hook.Payload) { p.(*hook.Tool).Result = "found by bob@example.com" })
		return nil
	})
	_ = obs.Hooks().Do(ctx, full(), func(context.Context, *hook.Op) error { return errors.New("broken: password=hunter2") })
	_ = obs.Hooks().Do(ctx, full(), func(context.Context, *hook.Op) error { return context.Canceled })
	_ = obs.Hooks().Do(t.Context(), &hook.Tool{Name: "plain"}, func(context.Context, *hook.Op) error { return nil })
	_ = obs.Hooks().Do(ctx, &hook.Tool{Name: "forbidden"}, func(context.Context, *hook.Op) error { return nil })
	func() {
		defer func() { _ = recover() }()
		_ = obs.Hooks().Do(ctx, full(), func(context.Context, *hook.Op) error { panic("boom") })
	}()
}

// told is what a span tells, but for its ids and times.
func told(s sdktrace.ReadOnlySpan) map[string]any {
	out := map[string]any{"name": s.Name(), "kind": s.SpanKind().String(), "status": s.Status().Code.String(), "why": s.Status().Description}
	for _, kv := range s.Attributes() {
		out["attribute "+string(kv.Key)] = kv.Value.String()
	}
	for _, e := range s.Events() {
		out["event "+e.Name] = len(e.Attributes)
	}
	return out
}
