package dashtest

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/kaizen-go/kaizen"
	"github.com/kaizen-go/kaizen/audit"
	"github.com/kaizen-go/kaizen/hook"
	"github.com/kaizen-go/kaizen/kaizentest"
	"github.com/kaizen-go/kaizen/server"
	"github.com/kaizen-go/kaizen/server/internal/demo"
)

// service is the job label of what the workload's process pushes.
const service = "dashtest"

// storageBytes is what a round writes to disk and syncs.
const storageBytes = 4 << 20

// workload is the demo, round after round, with what the demo does not do:
// actions that compliance asks about, and a run that is under way at the end.
type workload struct {
	t      *testing.T
	srv    *server.Server
	obs    *kaizen.Observer
	models demo.Scripted
	dir    string
	rounds int
}

func startWorkload(t *testing.T, srv *server.Server) *workload {
	t.Helper()
	dir := t.TempDir()
	obs, err := kaizen.Start(t.Context(), kaizen.Config{
		ServiceName: service, Server: srv.UIURL(), SpoolDir: filepath.Join(dir, "spool"), LogWriter: io.Discard,
		FlushDelay: 20 * time.Millisecond, MetricsEvery: scrapeEvery,
	})
	if err != nil {
		t.Fatal(err)
	}
	w := &workload{t: t, srv: srv, obs: obs, models: demo.NewScripted(), dir: dir}
	t.Cleanup(func() {
		w.models.Close()
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 3*time.Minute)
		defer cancel()
		if err := obs.Shutdown(ctx); err != nil {
			t.Errorf("Shutdown = %v", err)
		}
	})
	return w
}

// extra are the entries that a round adds to the demo's.
var extra = []audit.Entry{
	{Action: "config_change", Result: audit.Success, Severity: "critical"},
	{Action: "data_access", Result: audit.Success, Severity: "info"},
	{Action: "data_export", Result: audit.Denied, Severity: "warning"},
	{Action: "data_delete", Result: audit.Success, Severity: "info"},
	{Action: "data_access", Result: audit.Failure, Severity: "warning"},
	{Action: "phi_access", Result: audit.Success, Severity: "info"},
	{Action: "phi_modify", Result: audit.Denied, Severity: "warning"},
}

func (w *workload) round() {
	w.t.Helper()
	ctx := w.t.Context()
	if err := demo.Run(ctx, w.obs, w.models); err != nil {
		w.t.Fatal(err)
	}
	noted := kaizen.WithRun(w.obs.Context(ctx), kaizen.Run{UserID: "user-9"})
	for _, e := range extra {
		e.AgentID = "auditor"
		w.obs.Audit().Note(noted, e)
	}
	runtime.GC() // a pause for the panel of pauses
	f, err := os.Create(filepath.Join(w.dir, fmt.Sprint("round-", w.rounds)))
	if err != nil {
		w.t.Fatal(err)
	}
	if _, err := f.Write(make([]byte, storageBytes)); err != nil {
		w.t.Fatal(err)
	}
	if err := f.Sync(); err != nil {
		w.t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		w.t.Fatal(err)
	}
	w.rounds++
}

// hold leaves a run under way until the test ends.
func (w *workload) hold() {
	w.t.Helper()
	release, begun, done := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	ctx := kaizen.WithRun(w.obs.Context(context.WithoutCancel(w.t.Context())), kaizen.Run{AgentID: "waiter", AgentName: "waiter"})
	go func() {
		done <- w.obs.Hooks().Do(ctx, &hook.RunInfo{}, func(context.Context, *hook.Op) error {
			close(begun)
			<-release
			return nil
		})
	}()
	<-begun
	w.t.Cleanup(func() {
		close(release)
		if err := <-done; err != nil {
			w.t.Error(err)
		}
	})
}

// account is what was done between two moments: by the model server's bill and,
// for what it does not see, by the entries of the ledger.
type account struct {
	bill    kaizentest.Bill
	entries []entry
}

// entry is an entry of the ledger, as the API has it.
type entry struct {
	Agent    string `json:"agent_id"`
	Action   string `json:"action"`
	Result   string `json:"result"`
	Severity string `json:"severity"`
	User     string `json:"user_id"`
	Details  struct {
		Tool     string  `json:"tool"`
		Provider string  `json:"provider"`
		MS       float64 `json:"duration_ms"`
		Cached   float64 `json:"cache_read_tokens"`
		Input    *int64  `json:"input_tokens"`
	} `json:"details"`
}

// now returns the account of everything so far.
func (w *workload) now() account {
	w.t.Helper()
	a := account{bill: w.models.Bill()}
	q := url.Values{"limit": {"1000"}, "order": {"asc"}}
	for {
		b, err := get(w.t.Context(), w.srv.UIURL()+"/api/audit?"+q.Encode())
		if err != nil {
			w.t.Fatal(err)
		}
		var page struct {
			Entries []entry
			Next    string
		}
		if err := json.Unmarshal(b, &page); err != nil {
			w.t.Fatal(err)
		}
		a.entries = append(a.entries, page.Entries...)
		if page.Next == "" {
			return a
		}
		q.Set("cursor", page.Next)
	}
}

// count adds up entries by a key; those with the key "" are left out.
func (a account) count(key func(entry) string) map[string]float64 {
	n := map[string]float64{}
	for _, e := range a.entries {
		if k := key(e); k != "" {
			n[k]++
		}
	}
	return n
}

func (a account) number(is func(entry) bool) float64 {
	return a.count(func(e entry) string {
		if is(e) {
			return "x"
		}
		return ""
	})["x"]
}

// since is the account of what happened after before.
func (a account) since(before account) account {
	return account{
		bill: kaizentest.Bill{
			Calls: a.bill.Calls - before.bill.Calls, ToolCalls: a.bill.ToolCalls - before.bill.ToolCalls, NanoUSD: a.bill.NanoUSD - before.bill.NanoUSD,
		},
		entries: a.entries[len(before.entries):],
	}
}
