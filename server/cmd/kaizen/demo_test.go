package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/kaizen-go/kaizen/server/internal/testport"
)

// What the script of the demo amounts to, counted by hand: lead 3, researcher 2,
// analyst 2, writer 2, voters 3, research 1, code 2, review 1 and the courier's
// refused call; the tools are three workers, search, fetch_page, calculate,
// run_shell, save_note and run_tests.
const (
	demoModelCalls = 17
	demoToolCalls  = 9
	demoTraces     = 4
	demoAgents     = 13 // 11 agents, the jury and the chain
	demoRuns       = 13
)

var demoPorts = []string{"--listen", "127.0.0.1:0", "--otlp-http", "127.0.0.1:0", "--otlp-grpc", "127.0.0.1:0"}

// command runs the command as a process and returns what it printed.
func command(t *testing.T, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	var out, errOut bytes.Buffer
	cmd := exec.CommandContext(t.Context(), "kaizen", args...)
	cmd.Stdout, cmd.Stderr = &out, &errOut
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("kaizen %v: %v", args, err)
	}
	return out.String(), errOut.String(), cmd.ProcessState.ExitCode()
}

// demoRun is a demo that has ended.
func demoRun(t *testing.T, args ...string) demoSummary {
	t.Helper()
	out, errOut, code := command(t, append([]string{"demo", "--exit", "--json"}, args...)...)
	if code != 0 {
		t.Fatalf("kaizen demo %v = exit %d\n%s%s", args, code, out, errOut)
	}
	var s demoSummary
	dec := json.NewDecoder(strings.NewReader(out))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&s); err != nil {
		t.Fatalf("demo printed %q: %v", out, err)
	}
	return s
}

func TestDemo(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	s := demoRun(t, append(demoPorts, "--data", dir)...)
	if s.ModelCalls != demoModelCalls || s.ToolCalls != demoToolCalls || s.Traces != demoTraces || s.Agents != demoAgents {
		t.Errorf("demo = %+v, want %d model calls, %d tool calls, %d traces, %d agents", s, demoModelCalls, demoToolCalls, demoTraces, demoAgents)
	}
	// Worked out by hand from the script's tokens and the providers' list prices.
	if want := demoCost(); math.Abs(s.CostUSD-want) > 5e-10 {
		t.Errorf("cost = %.9f, want %.9f", s.CostUSD, want)
	}
	if !s.AuditVerified || s.AuditEntries == 0 || s.LogRecords == 0 || s.MetricSeries == 0 || s.DataDir != dir {
		t.Errorf("demo = %+v", s)
	}
	t.Run("verify", func(t *testing.T) {
		if out, errOut, code := command(t, "audit", "verify", filepath.Join(dir, "audit")); code != 0 {
			t.Errorf("verify = exit %d\n%s%s", code, out, errOut)
		}
	})
	t.Run("query", func(t *testing.T) {
		out, errOut, code := command(t, "audit", "query", "--data", dir, "--action", "model_call", "--count")
		if code != 0 || strings.TrimSpace(out) != fmt.Sprint(demoModelCalls) {
			t.Errorf("query = exit %d, %q%s, want %d", code, out, errOut, demoModelCalls)
		}
	})
	t.Run("tamper", func(t *testing.T) { testTamper(t, filepath.Join(dir, "audit")) })
}

// demoCost adds up the script: gpt-5-mini at 250, 25 and 2,000 nano-dollars for
// input, cached input and output, claude-haiku-4-5 at 1,000, 100, 1,250 and 5,000
// for input, cache read, cache write and output.
func demoCost() float64 {
	openai := (412+603+701+297+455+88+95+260+330)*250 + (1024+1024+1536+256)*25 +
		(46+128+31+64+58+54+192+27+2+64+2+128+22+320+61)*2000
	anthropic := (380+122+510+588+91+140+210)*1000 + 2048*100 + 2048*1250 + (73+39+66+44+3+18+20)*5000
	return float64(openai+anthropic) / 1e9
}

// testTamper changes the ledger in each way that the project promises to find.
func testTamper(t *testing.T, ledger string) {
	verify := func(t *testing.T, dir string) (string, int) {
		t.Helper()
		_, errOut, code := command(t, "audit", "verify", dir)
		return errOut, code
	}
	var files []string
	err := filepath.WalkDir(ledger, func(path string, d fs.DirEntry, err error) error {
		if info, e := d.Info(); err == nil && e == nil && d.Type().IsRegular() && info.Size() > 0 {
			files = append(files, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(1, 2))
	for _, path := range files {
		rel, err := filepath.Rel(ledger, path)
		if err != nil {
			t.Fatal(err)
		}
		t.Run("flip "+rel, func(t *testing.T) {
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			// The exhaustive form of this is a test of package audit.
			for range 12 {
				changed := bytes.Clone(b)
				at := rng.IntN(len(b))
				changed[at] ^= 1 << rng.IntN(8)
				errOut, code := verify(t, copyWith(t, ledger, rel, changed))
				if code != 1 || !strings.Contains(errOut, filepath.Base(rel)) {
					t.Errorf("byte %d of %s flipped: exit %d, %q; want 1 and the file's name", at, rel, code, errOut)
				}
			}
		})
	}
	segments, err := filepath.Glob(filepath.Join(ledger, "seg", "*.jsonl"))
	if err != nil || len(segments) == 0 {
		t.Fatalf("segments = %v, %v", segments, err)
	}
	rel, err := filepath.Rel(ledger, segments[0])
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(segments[0])
	if err != nil {
		t.Fatal(err)
	}
	lines := bytes.SplitAfter(b, []byte("\n"))
	lines = lines[:len(lines)-1]
	swapped := append([][]byte{}, lines...)
	swapped[3], swapped[4] = swapped[4], swapped[3]
	for name, text := range map[string][]byte{
		"last line deleted": bytes.Join(lines[:len(lines)-1], nil),
		"two lines swapped": bytes.Join(swapped, nil),
		"line inserted":     bytes.Join(append(lines[:5:5], lines[4:]...), nil),
		"line appended":     append(bytes.Clone(b), lines[0]...),
		"torn":              b[:len(b)-7],
	} {
		t.Run(name, func(t *testing.T) {
			errOut, code := verify(t, copyWith(t, ledger, rel, text))
			if code != 1 || !strings.Contains(errOut, filepath.Base(rel)) && !strings.Contains(errOut, "entry") {
				t.Errorf("verify = exit %d, %q; want 1 and the place", code, errOut)
			}
		})
	}
}

// copyWith copies dir with the contents of one file replaced.
func copyWith(t *testing.T, dir, rel string, b []byte) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "audit")
	if err := os.CopyFS(to, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(to, rel), b, 0o600); err != nil {
		t.Fatal(err)
	}
	return to
}

// serveProcess is a server in a process of its own, on ports that stay the same
// when it is started again.
type serveProcess struct {
	dir   string
	ports []string
	url   string
	cmd   *exec.Cmd
}

func startServe(t *testing.T, p *serveProcess) {
	t.Helper()
	if p.ports == nil {
		ui, http, grpc := testport.Addr(t), testport.Addr(t), testport.Addr(t)
		p.ports = []string{"--listen", ui, "--otlp-http", http, "--otlp-grpc", grpc}
		p.url = "http://" + ui
	}
	p.cmd = exec.Command("kaizen", append([]string{"serve", "--data", p.dir}, p.ports...)...)
	p.cmd.Stderr = os.Stderr
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	cmd := p.cmd
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		if status, _, err := ask(ctx, "GET", p.url+"/readyz", nil, nil); err == nil && status == 200 {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("no server became ready on %s", p.url)
		}
	}
}

// TestDemoSurvivesKilledServer kills the server with SIGKILL while the agents
// work and starts it again. Nothing is lost and nothing is there twice: every
// system still agrees with what the model server billed, which the demo checks
// itself, and the numbers are those of an undisturbed run.
func TestDemoSurvivesKilledServer(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	all := 0
	for round := range 3 {
		t.Run(fmt.Sprint(round), func(t *testing.T) {
			p := &serveProcess{dir: filepath.Join(t.TempDir(), "data")}
			startServe(t, p)
			done := make(chan demoSummary, 1)
			go func() {
				defer close(done)
				done <- demoRun(t, "--server", p.url)
			}()
			waitForWork(t, p.url)
			kills := 0
			wait := time.Duration(0) // until the next one
			for alive := true; alive; {
				select {
				case s, ok := <-done:
					alive = false
					if ok && (s.ModelCalls != demoModelCalls || s.ToolCalls != demoToolCalls || s.Traces != demoTraces || math.Abs(s.CostUSD-demoCost()) > 5e-10) {
						t.Errorf("after %d kills: %+v", kills, s)
					}
				case <-time.After(wait):
					wait = time.Duration(50+rng.IntN(250)) * time.Millisecond
					if kills == 3 {
						continue
					}
					kills++
					if err := p.cmd.Process.Signal(syscall.SIGKILL); err != nil {
						t.Fatal(err)
					}
					_ = p.cmd.Wait()
					startServe(t, p)
				}
			}
			t.Logf("%d kills", kills)
			all += kills
			checkNothingTwice(t, p.url)
			if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
			if err := p.cmd.Wait(); err != nil {
				t.Errorf("stop after SIGTERM: %v", err)
			}
			if out, errOut, code := command(t, "audit", "verify", filepath.Join(p.dir, "audit")); code != 0 {
				t.Errorf("verify = exit %d\n%s%s", code, out, errOut)
			}
		})
	}
	if all == 0 { // each run of the demo could have ended just before
		t.Error("the demo ended before the server was killed once")
	}
}

// waitForWork returns when the server has the first spans of the demo, which
// asks whether there is a server before it begins.
func waitForWork(t *testing.T, url string) {
	t.Helper()
	c, err := newClient(url)
	if err != nil {
		t.Fatal(err)
	}
	for {
		var stats struct{ Spans int64 }
		if err := c.get(t.Context(), "/api/stats", nil, &stats); err != nil {
			t.Fatal(err)
		}
		if stats.Spans > 0 {
			return
		}
		<-time.After(5 * time.Millisecond)
	}
}

// checkNothingTwice fails when a span, a log line or an entry is there twice.
func checkNothingTwice(t *testing.T, url string) {
	t.Helper()
	c, err := newClient(url)
	if err != nil {
		t.Fatal(err)
	}
	seen := make(map[string]bool)
	for _, s := range allSpans(t, c) {
		if key := s.TraceID + s.SpanID; seen[key] {
			t.Errorf("span %s is there twice", key)
		} else {
			seen[key] = true
		}
		if s.Pending {
			t.Errorf("span %s %q has not ended", s.SpanID, s.Name)
		}
	}
	var logs struct {
		Logs []json.RawMessage `json:"logs"`
	}
	if err := c.get(t.Context(), "/api/logs", map[string][]string{"limit": {"1000"}}, &logs); err != nil {
		t.Fatal(err)
	}
	for _, l := range logs.Logs {
		if seen[string(l)] {
			t.Errorf("log line is there twice: %s", l)
		}
		seen[string(l)] = true
	}
	var entries struct {
		Entries []struct{ ID, Action string } `json:"entries"`
	}
	if err := c.get(t.Context(), "/api/audit", map[string][]string{"limit": {"1000"}}, &entries); err != nil {
		t.Fatal(err)
	}
	for _, e := range entries.Entries {
		if seen[e.ID] {
			t.Errorf("entry %s %s is there twice", e.ID, e.Action)
		}
		seen[e.ID] = true
	}
}

type spanRef struct {
	TraceID string `json:"trace_id"`
	SpanID  string `json:"span_id"`
	Name    string `json:"name"`
	Kind    string `json:"kind"`
	Status  string `json:"status"`
	Pending bool   `json:"pending"`
}

func allSpans(t *testing.T, c *client) []spanRef {
	t.Helper()
	var page struct {
		Spans []spanRef `json:"spans"`
		Next  string    `json:"next"`
	}
	if err := c.get(t.Context(), "/api/spans", map[string][]string{"limit": {"1000"}}, &page); err != nil {
		t.Fatal(err)
	}
	if page.Next != "" || len(page.Spans) == 0 {
		t.Fatalf("%d spans, next %q", len(page.Spans), page.Next)
	}
	return page.Spans
}

// TestEverySpanLeadsToItsRecords asks, for each span of the demo, for its log
// lines, audit entries and metric exemplars in one step, and goes back from an
// exemplar of the Prometheus API to its span.
func TestEverySpanLeadsToItsRecords(t *testing.T) {
	p := &serveProcess{dir: filepath.Join(t.TempDir(), "data")}
	startServe(t, p)
	demoRun(t, "--server", p.url)
	c, err := newClient(p.url)
	if err != nil {
		t.Fatal(err)
	}
	// What each kind of span has, by the rules of the recorder.
	type records struct{ logs, audit, exemplars bool }
	want := map[string]records{
		"run": {true, true, true}, "model": {true, true, true}, "tool": {true, true, true},
		"permission": {true, true, true}, "handoff": {true, true, true}, "specialist": {false, true, false}, "iteration": {false, false, false},
	}
	spans := make(map[string]bool)
	for _, s := range allSpans(t, c) {
		spans[s.SpanID] = true
		w, known := want[s.Kind]
		if !known {
			t.Errorf("span %q of kind %q: what has it?", s.Name, s.Kind)
			continue
		}
		if s.Status == "error" { // whatever fails is logged and counted
			w.logs, w.exemplars = true, true
		}
		var answer struct {
			Logs      []struct{ TraceID, SpanID string } `json:"logs"`
			Audit     []json.RawMessage                  `json:"audit"`
			Exemplars []struct {
				Metric string
				Labels map[string]string
			} `json:"exemplars"`
		}
		if err := c.get(t.Context(), "/api/spans/"+s.TraceID+"/"+s.SpanID, nil, &answer); err != nil {
			t.Fatal(err)
		}
		if got := (records{len(answer.Logs) > 0, len(answer.Audit) > 0, len(answer.Exemplars) > 0}); got != w {
			t.Errorf("span %q (%s) leads to %+v, want %+v", s.Name, s.Kind, got, w)
		}
		for _, e := range answer.Audit {
			if !bytes.Contains(e, []byte(s.SpanID)) {
				t.Errorf("span %q leads to an entry of another: %s", s.Name, e)
			}
		}
		for _, x := range answer.Exemplars {
			query := seriesSelector(x.Metric, x.Labels)
			if v, err := instant(t.Context(), c, "count("+query+")"); err != nil || v < 1 {
				t.Errorf("exemplar of span %q names the series %s, which the metrics have not (%v, %v)", s.Name, query, v, err)
			}
		}
	}
	var exemplars struct {
		Data []struct {
			Exemplars []struct {
				Labels map[string]string `json:"labels"`
			} `json:"exemplars"`
		} `json:"data"`
	}
	q := map[string][]string{"query": {"kaizen_tool_calls_total"}, "start": {fmt.Sprint(time.Now().Add(-time.Hour).Unix())}, "end": {fmt.Sprint(time.Now().Add(time.Hour).Unix())}}
	if err := c.get(t.Context(), "/prometheus/api/v1/query_exemplars", q, &exemplars); err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, series := range exemplars.Data {
		for _, x := range series.Exemplars {
			n++
			if !spans[x.Labels["span_id"]] {
				t.Errorf("exemplar %v leads to no span", x.Labels)
			}
		}
	}
	if n < demoToolCalls {
		t.Errorf("%d exemplars of tool calls, want one for each of the %d calls", n, demoToolCalls)
	}
}

// seriesSelector selects the series of an exemplar: a histogram's has a suffix.
func seriesSelector(metric string, labels map[string]string) string {
	if strings.HasSuffix(metric, "_seconds") || strings.HasSuffix(metric, "_iterations") || strings.HasSuffix(metric, "_bytes") {
		metric += "_count"
	}
	var pairs []string
	for k, v := range labels {
		if k != "le" {
			pairs = append(pairs, fmt.Sprintf("%s=%q", k, v))
		}
	}
	return metric + "{" + strings.Join(pairs, ",") + "}"
}
