package kaizen_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/kaizen-go/kaizen"
	"github.com/kaizen-go/kaizen/audit"
	"github.com/kaizen-go/kaizen/hook"
	"github.com/kaizen-go/kaizen/kaizentest"
	"github.com/kaizen-go/kaizen/price"
)

// A program announces what its agent does; what was recorded is in the ledger.
func ExampleStart() {
	dir, err := os.MkdirTemp("", "kaizen-example-")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	ctx := context.Background()
	obs, err := kaizen.Start(ctx, kaizen.Config{AuditDir: filepath.Join(dir, "audit"), LogWriter: io.Discard})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer obs.Shutdown(ctx)

	ctx = kaizen.WithRun(ctx, kaizen.Run{RunID: "run-1", AgentID: "helper", AgentName: "helper"})
	err = obs.Hooks().Do(ctx, &hook.Tool{Name: "search"}, func(context.Context, *hook.Op) error { return nil })
	if err != nil {
		fmt.Println(err)
	}
	if err := obs.Flush(ctx); err != nil {
		fmt.Println(err)
	}
	for e, err := range obs.Audit().Ledger().Query(ctx, audit.Query{}) {
		fmt.Println(e.AgentID, e.Action, e.Result, e.Details["tool"], err)
	}
	// Output: helper tool_execute success search <nil>
}

// The client of any provider's library is observed through its transport.
func ExampleObserver_HTTPClient() {
	server := kaizentest.NewModelServer(kaizentest.Script{Reply: func(kaizentest.Request) kaizentest.Reply {
		return kaizentest.Reply{Text: "hello", Usage: price.Usage{Input: 100, Output: 20}}
	}})
	defer server.Close()
	ctx := context.Background()
	obs, err := kaizen.Start(ctx, kaizen.Config{LogWriter: io.Discard, SpoolDir: kaizen.NoSpool})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer obs.Shutdown(ctx)

	body := strings.NewReader(`{"model":"gpt-5-mini","messages":[{"role":"user","content":"hi"}]}`)
	resp, err := obs.HTTPClient(nil).Post(server.URL+"/v1/chat/completions", "application/json", body)
	if err != nil {
		fmt.Println(err)
		return
	}
	if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode != http.StatusOK {
		fmt.Println(resp.Status, err)
	}
	if err := resp.Body.Close(); err != nil {
		fmt.Println(err)
	}
	tokens, _ := obs.Metrics().Value("kaizen_model_tokens_total", "agent", "", "provider", "openai", "model", "gpt-5-mini", "kind", "input")
	usd, _ := obs.Metrics().Value("kaizen_model_cost_usd_total", "agent", "", "provider", "openai", "model", "gpt-5-mini")
	fmt.Printf("%v input tokens, %.6f USD\n", tokens, usd)
	// Output: 100 input tokens, 0.000065 USD
}

// A handler refuses what must not happen; the agent gets the reason.
func ExampleObserver_Hooks() {
	ctx := context.Background()
	obs, err := kaizen.Start(ctx, kaizen.Config{LogWriter: io.Discard, SpoolDir: kaizen.NoSpool})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer obs.Shutdown(ctx)
	err = obs.Hooks().Register(hook.Registration{Name: "no-shell", Timeout: time.Minute, Kinds: []hook.Kind{hook.KindTool}, Handler: hook.HandlerFunc(
		func(_ context.Context, e hook.Event) error {
			if e.Payload.Label() == "shell" {
				return &hook.DeniedError{Reason: "shells are not allowed"}
			}
			return nil
		})})
	if err != nil {
		fmt.Println(err)
	}
	fmt.Println(obs.Hooks().Do(ctx, &hook.Tool{Name: "shell"}, func(context.Context, *hook.Op) error { return nil }))
	// Output: tool shell denied by no-shell: shells are not allowed
}

// An entry of one's own is durable when Record returns, and the receipt proves it.
func ExampleAuditor_Record() {
	dir, err := os.MkdirTemp("", "kaizen-example-")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	ctx := context.Background()
	obs, err := kaizen.Start(ctx, kaizen.Config{AuditDir: filepath.Join(dir, "audit"), LogWriter: io.Discard})
	if err != nil {
		fmt.Println(err)
		return
	}
	receipt, err := obs.Audit().Record(ctx, audit.Entry{AgentID: "helper", Action: "data_export", Result: audit.Success, Details: map[string]any{"rows": 7}})
	fmt.Println(receipt.Index, receipt.Checkpoint.Size, err)
	fmt.Println(obs.Shutdown(ctx))
	report, err := audit.Verify(ctx, filepath.Join(dir, "audit"), audit.VerifyConfig{})
	fmt.Println(report.Entries, report.Clean, err)
	// Output:
	// 0 1 <nil>
	// <nil>
	// 1 true <nil>
}

// Logs, spans and metrics of one's own stand beside those of the agent.
func ExampleObserver_Logger() {
	ctx := context.Background()
	var lines strings.Builder
	obs, err := kaizen.Start(ctx, kaizen.Config{LogWriter: &lines, SpoolDir: kaizen.NoSpool})
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx = kaizen.WithRun(ctx, kaizen.Run{RunID: "run-1", AgentID: "helper", AgentName: "helper", SessionID: "s-1"})
	run, ok := kaizen.RunFrom(ctx)
	fmt.Println(run.SessionID, ok)

	ctx, span := obs.Tracer().Start(ctx, "look up")
	obs.Logger("shop").InfoContext(ctx, "found", "items", 3)
	span.End()

	recorder := httptest.NewRecorder()
	obs.MetricsHandler().ServeHTTP(recorder, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	fmt.Println(recorder.Code, obs.Health().AuditDropped, obs.Shutdown(context.Background()))
	fmt.Println(strings.Contains(lines.String(), `"agent_id":"helper","session_id":"s-1","run_id":"run-1"`))
	// Output:
	// s-1 true
	// 200 0 <nil>
	// true
}

// A library that makes its own clients takes the observer from the context.
func ExampleTransport() {
	server := kaizentest.NewModelServer(kaizentest.Script{Reply: func(kaizentest.Request) kaizentest.Reply {
		return kaizentest.Reply{Text: "hello", Usage: price.Usage{Input: 100, Output: 20}}
	}})
	defer server.Close()
	obs, err := kaizen.Start(context.Background(), kaizen.Config{LogWriter: io.Discard, SpoolDir: kaizen.NoSpool})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer obs.Shutdown(context.Background())

	client := &http.Client{Transport: kaizen.Transport(nil)} // observes nothing by itself
	ctx := obs.Context(context.Background())
	fmt.Println(kaizen.FromContext(ctx) == obs)
	body := strings.NewReader(`{"model":"gpt-5-mini","messages":[{"role":"user","content":"hi"}]}`)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, server.URL+"/v1/chat/completions", body)
	if err != nil {
		fmt.Println(err)
		return
	}
	resp, err := client.Do(req)
	if err != nil {
		fmt.Println(err)
		return
	}
	_, err = io.Copy(io.Discard, resp.Body)
	fmt.Println(err, resp.Body.Close())
	calls, _ := obs.Metrics().Value("kaizen_model_calls_total", "agent", "", "provider", "openai", "model", "gpt-5-mini", "operation", "chat", "status", "ok")
	fmt.Println(calls, "call")
	// Output:
	// true
	// <nil> <nil>
	// 1 call
}

// A program with a stack of its own gives the transport to its clients.
func ExampleObserver_Transport() {
	obs, err := kaizen.Start(context.Background(), kaizen.Config{LogWriter: io.Discard, SpoolDir: kaizen.NoSpool})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer obs.Shutdown(context.Background())
	base := &http.Transport{MaxIdleConnsPerHost: 16}
	client := &http.Client{Transport: obs.Transport(base)}
	fmt.Println(client.Transport != http.RoundTripper(base))
	// Output: true
}
