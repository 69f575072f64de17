package main

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kaizen-go/kaizen"
	"github.com/kaizen-go/kaizen/server/internal/demo"
	"github.com/kaizen-go/kaizen/server/internal/testport"
)

// TestObserverOutlivesItsServer lets the demo's teams work while no server is
// there at all. They finish as always; the observer leaves what it could not
// send in its spool; and the next observer on that spool delivers all of it once
// there is a server.
func TestObserverOutlivesItsServer(t *testing.T) {
	p := &serveProcess{dir: filepath.Join(t.TempDir(), "data")}
	ui := testport.Addr(t)
	p.ports = []string{"--listen", ui, "--otlp-http", testport.Addr(t), "--otlp-grpc", testport.Addr(t)}
	p.url = "http://" + ui
	spool := filepath.Join(t.TempDir(), "spool")

	models := demo.NewScripted()
	defer models.Close()
	cfg := kaizen.Config{ServiceName: "no-server", Server: p.url, SpoolDir: spool, LogWriter: io.Discard, FlushDelay: 20 * time.Millisecond}
	obs, err := kaizen.Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := demo.Run(t.Context(), obs, models); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := obs.Shutdown(ctx); err != nil {
		t.Errorf("Shutdown without a server = %v; what waits in the spool is not lost", err)
	}
	h := obs.Health()
	for name, s := range map[string]struct {
		offered, spooled int64
		dropped          map[string]int64
	}{
		"traces": {h.Export.Traces.Offered, h.Export.Traces.Spooled, h.Export.Traces.Dropped},
		"logs":   {h.Export.Logs.Offered, h.Export.Logs.Spooled, h.Export.Logs.Dropped},
		"audit":  {h.Export.Audit.Offered, h.Export.Audit.Spooled, h.Export.Audit.Dropped},
	} {
		if s.offered == 0 || s.spooled != s.offered || sum(s.dropped) != 0 {
			t.Errorf("%s: %d offered, %d in the spool, dropped %v", name, s.offered, s.spooled, s.dropped)
		}
	}

	startServe(t, p)
	cfg.ServiceName = "the-next-one"
	next, err := kaizen.Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := next.Flush(ctx); err != nil {
		t.Errorf("Flush = %v", err)
	}
	if err := next.Shutdown(ctx); err != nil {
		t.Errorf("Shutdown = %v", err)
	}
	c, err := newClient(p.url)
	if err != nil {
		t.Fatal(err)
	}
	var stats struct {
		ModelCalls   int64 `json:"model_calls"`
		ToolCalls    int64 `json:"tool_calls"`
		Runs         int64 `json:"runs"`
		AuditEntries int64 `json:"audit_entries"`
		LogRecords   int64 `json:"log_records"`
	}
	if err := c.get(t.Context(), "/api/stats", nil, &stats); err != nil {
		t.Fatal(err)
	}
	if stats.ModelCalls != demoModelCalls || stats.ToolCalls != demoToolCalls || stats.Runs != demoRuns ||
		stats.AuditEntries != h.Export.Audit.Offered || stats.LogRecords != h.Export.Logs.Offered {
		t.Errorf("the server has %+v, want all of the demo, %d entries and %d lines", stats, h.Export.Audit.Offered, h.Export.Logs.Offered)
	}
	checkNothingTwice(t, p.url)
	left := 0
	err = filepath.WalkDir(spool, func(path string, d os.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() && strings.HasSuffix(path, ".batch") {
			left++
		}
		return err
	})
	if err != nil || left > 0 {
		t.Errorf("%d batches left in the spool (%v)", left, err)
	}
}

func sum(m map[string]int64) (n int64) {
	for _, v := range m {
		n += v
	}
	return n
}

// TestLiveKeyIsNeverWritten runs the demo as with a real provider, whose place
// the scripted server takes, and looks for the key in everything that was kept
// or printed.
func TestLiveKeyIsNeverWritten(t *testing.T) {
	for _, provider := range []string{"OPENAI", "ANTHROPIC"} {
		t.Run(strings.ToLower(provider), func(t *testing.T) {
			const key = "sk-live-9f8e7d6c5b4a39281706f5e4d3c2b1a0ffeeddccbbaa9988"
			models := demo.NewScripted()
			defer models.Close()
			t.Setenv("OPENAI_API_KEY", "")
			t.Setenv("ANTHROPIC_API_KEY", "")
			t.Setenv(provider+"_API_KEY", key)
			base := models.URL
			if provider == "OPENAI" {
				base += "/v1"
			}
			t.Setenv(provider+"_BASE_URL", base)
			t.Setenv("TMPDIR", t.TempDir())
			dir := filepath.Join(t.TempDir(), "data")
			out, errOut, code := command(t, append([]string{"demo", "--live", "--exit", "--data", dir}, demoPorts...)...)
			if code != 0 {
				t.Fatalf("demo --live = exit %d\n%s%s", code, out, errOut)
			}
			if len(models.Ledger()) == 0 {
				t.Fatal("no call reached the provider")
			}
			if strings.Contains(out+errOut, key) {
				t.Error("the key was printed")
			}
			for _, root := range []string{dir, os.Getenv("TMPDIR")} {
				err := filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
					if err != nil || !d.Type().IsRegular() {
						return err
					}
					b, err := os.ReadFile(path)
					if strings.Contains(string(b), key) {
						t.Errorf("the key stands in %s", path)
					}
					return err
				})
				if err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}
