package kaizen_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"

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
	err = obs.Hooks().Register(hook.Registration{Name: "no-shell", Kinds: []hook.Kind{hook.KindTool}, Handler: hook.HandlerFunc(
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
