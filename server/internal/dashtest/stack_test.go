package dashtest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/kaizen-go/kaizen/server"
	"github.com/kaizen-go/kaizen/server/internal/testport"
)

const scrapeEvery = time.Second

// prometheusEvery is as long as a scrape may take, too: a busy machine needs a
// second and more for a page of metrics.
const prometheusEvery = 3 * time.Second

// startServer serves in this process until the test ends.
func startServer(t *testing.T) *server.Server {
	t.Helper()
	srv, err := server.New(server.Config{
		DataDir: filepath.Join(t.TempDir(), "data"), Listen: "127.0.0.1:0", OTLPHTTP: "127.0.0.1:0", OTLPGRPC: "127.0.0.1:0",
		ScrapeInterval: scrapeEvery, AuditCheckInterval: scrapeEvery, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- srv.Serve(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve = %v", err)
		}
	})
	return srv
}

// program returns the path of a program that a test needs.
func program(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if plain, debian := strings.CutPrefix(name, "prometheus-"); err != nil && debian {
		path, err = exec.LookPath(plain) // as others than Debian call it
	}
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("%s is not here: scripts/test-setup.sh installs it", name)
		}
		t.Skipf("%s is not here", name)
	}
	return path
}

// run starts a program that answers ready with 200 once it works, and ends it
// with the test.
func run(t *testing.T, ready, name string, args ...string) {
	t.Helper()
	log, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = time.Minute
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() {
		cancel()
		<-ended
		if t.Failed() {
			if b, err := os.ReadFile(log.Name()); err == nil {
				t.Logf("%s said:\n%.4000s", filepath.Base(name), b)
			}
		}
		if err := log.Close(); err != nil {
			t.Error(err)
		}
	})
	await(t, name+" is ready", func() error {
		_, err := get(t.Context(), ready)
		return err
	})
}

// await asks until f has no error.
func await(t *testing.T, what string, f func() error) {
	t.Helper()
	limit := time.NewTimer(3 * time.Minute)
	defer limit.Stop()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		err := f()
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-limit.C:
			t.Fatalf("wait until %s: %v", what, err)
		case <-t.Context().Done():
			t.Fatal(t.Context().Err())
		}
	}
}

func get(ctx context.Context, u string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u, nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(resp.Body)
	err = errors.Join(err, resp.Body.Close())
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s: %.300s", u, resp.Status, b)
	}
	return b, err
}

// startPrometheus runs Debian's Prometheus on the server, with the jobs of the
// configuration that ships, and returns the address of its API.
func startPrometheus(t *testing.T, srv *server.Server, more string) string {
	t.Helper()
	prometheus := program(t, "prometheus")
	dir := t.TempDir()
	config := filepath.Join(dir, "prometheus.yml")
	text := fmt.Sprintf(`global: {scrape_interval: %[1]s, scrape_timeout: %[1]s, evaluation_interval: 1s}
scrape_configs:
- job_name: kaizen
  static_configs: [{targets: [%[2]q]}]
- job_name: kaizen-agents
  metrics_path: /metrics/agents
  honor_labels: true
  static_configs: [{targets: [%[2]q]}]
%[3]s`, prometheusEvery, srv.UIAddr(), more)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	addr := testport.Addr(t)
	run(t, "http://"+addr+"/-/ready", prometheus, "--config.file="+config, "--storage.tsdb.path="+filepath.Join(dir, "data"),
		"--web.listen-address="+addr, "--enable-feature=exemplar-storage", "--rules.alert.resend-delay=1s")
	return "http://" + addr
}

// series is one series of an answer.
type series struct {
	Metric map[string]string `json:"metric"`
	Value  [2]any            `json:"value"`
	Values [][2]any          `json:"values"`
}

func (s series) value(t *testing.T) float64 { return number(t, s.Value[1]) }

func number(t *testing.T, v any) float64 {
	t.Helper()
	text, ok := v.(string)
	if !ok {
		t.Fatalf("value %v is no string", v)
	}
	f, err := strconv.ParseFloat(text, 64)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// ask evaluates a query at one time.
func ask(ctx context.Context, base, path, query string, at time.Time) ([]series, error) {
	v := url.Values{"query": {query}, "time": {strconv.FormatFloat(float64(at.UnixMilli())/1e3, 'f', 3, 64)}}
	b, err := get(ctx, base+path+"?"+v.Encode())
	if err != nil {
		return nil, err
	}
	var answer struct {
		Data struct {
			Result []series `json:"result"`
		} `json:"data"`
	}
	if err := json.Unmarshal(b, &answer); err != nil {
		return nil, fmt.Errorf("%w: %.300s", err, b)
	}
	return answer.Data.Result, nil
}
