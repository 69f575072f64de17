package dashtest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kaizen-go/kaizen/dashboards"
	"github.com/kaizen-go/kaizen/server/internal/demo"
	"github.com/kaizen-go/kaizen/server/internal/testport"
)

var root = filepath.Join("..", "..", "..")

// must runs a program that must succeed and warn of nothing.
func must(t *testing.T, stdin []byte, name string, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), program(t, name), args...)
	cmd.Stdin = bytes.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	if err != nil || bytes.Contains(bytes.ToLower(out), []byte("warn")) || stdin != nil && len(out) > 0 {
		t.Errorf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
}

// configs are Prometheus's configurations in deploy/prometheus.
var configs = []string{"prometheus.yml", "local.yml"}

// rulesDir is a Prometheus configuration as it ships, with the rules beside it.
func rulesDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	key := filepath.Join(dir, "key") // promtool looks for it
	if err := os.WriteFile(key, []byte("a key of a test"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range configs {
		copyFile(t, filepath.Join(root, "deploy", "prometheus", name), filepath.Join(dir, name), "/run/secrets/api_key", key)
	}
	names, err := fs.Glob(dashboards.Files, "rules/*.yml")
	if err != nil || len(names) == 0 {
		t.Fatalf("rules: %v, %v", names, err)
	}
	if err := os.Mkdir(filepath.Join(dir, "rules"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, n := range names {
		copyFile(t, filepath.Join(root, "dashboards", filepath.FromSlash(n)), filepath.Join(dir, filepath.FromSlash(n)))
	}
	return dir
}

func copyFile(t *testing.T, from, to string, replace ...string) {
	t.Helper()
	b, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	b = []byte(strings.NewReplacer(replace...).Replace(string(b)))
	if err := os.WriteFile(to, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestTools: Prometheus's and Alertmanager's own checks pass without a warning.
func TestTools(t *testing.T) {
	t.Parallel()
	dir := rulesDir(t)
	t.Run("rules", func(t *testing.T) {
		must(t, nil, "promtool", "check", "rules", filepath.Join(dir, "rules", "kaizen.yml"))
	})
	t.Run("unit tests", func(t *testing.T) {
		must(t, nil, "promtool", "test", "rules", filepath.Join(root, "dashboards", "rules", "tests", "kaizen_test.yml"))
	})
	for _, name := range configs {
		t.Run("config "+name, func(t *testing.T) { must(t, nil, "promtool", "check", "config", filepath.Join(dir, name)) })
	}
	t.Run("alertmanager", func(t *testing.T) {
		must(t, nil, "amtool", "check-config", filepath.Join(root, "deploy", "prometheus", "alertmanager.yml"))
	})
	t.Run("metrics", func(t *testing.T) {
		srv := startServer(t)
		w := startWorkload(t, srv)
		w.round()
		if err := w.obs.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		for _, page := range []string{"/metrics", "/metrics/agents"} {
			b, err := get(t.Context(), srv.UIURL()+page)
			if err != nil || len(b) == 0 {
				t.Fatalf("%s: %d bytes, %v", page, len(b), err)
			}
			must(t, b, "promtool", "check", "metrics")
		}
	})
}

// TestAlerts: each has a severity, a runbook that is there, and a unit test.
func TestAlerts(t *testing.T) {
	rules, err := dashboards.LoadRules(dashboards.Files)
	if err != nil {
		t.Fatal(err)
	}
	tests, err := os.ReadFile(filepath.Join(root, "dashboards", "rules", "tests", "kaizen_test.yml"))
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, r := range rules {
		if !r.Alert {
			continue
		}
		n++
		if r.Severity == "" || !strings.HasSuffix(r.Runbook, "/docs/runbooks/"+r.Name+".md") {
			t.Errorf("%s: severity %q, runbook %q", r.Name, r.Severity, r.Runbook)
		}
		if got := bytes.Count(tests, []byte("alertname: "+r.Name+"\n")); got < 3 {
			t.Errorf("%s is tested at %d times, want before, while and after", r.Name, got)
		}
		if _, err := os.Stat(filepath.Join(root, "docs", "runbooks", r.Name+".md")); err != nil {
			t.Errorf("%s: %v", r.Name, err)
		}
	}
	if n < 25 {
		t.Errorf("%d alerts", n)
	}
}

// told is what Alertmanager tells a webhook.
type told struct {
	path   string
	Status string `json:"status"`
	Alerts []struct {
		Status      string            `json:"status"`
		Labels      map[string]string `json:"labels"`
		Annotations map[string]string `json:"annotations"`
	} `json:"alerts"`
}

// quickly makes the intervals of a file short enough for a test.
var quickly = strings.NewReplacer("group_wait: 30s", "group_wait: 0s", "group_interval: 5m", "group_interval: 1s", "group_interval: 1m", "group_interval: 1s",
	"[5m]", "[12s]", "[10m]", "[12s]", "[15m]", "[12s]", "for: 5m", "for: 1s", "for: 2m", "for: 1s", "interval: 30s", "interval: 1s",
	"offset 10m", "offset 12s")

// TestAlertsEndToEnd: agents fail; Prometheus notices, Alertmanager tells a
// webhook of ours; they stop failing, and it tells that too.
func TestAlertsEndToEnd(t *testing.T) {
	t.Parallel()
	alertmanager := program(t, "prometheus-alertmanager")
	srv := startServer(t)
	hears := make(chan told, 1000)
	hook := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		n := told{path: r.URL.Path}
		if err := json.NewDecoder(r.Body).Decode(&n); err != nil {
			t.Errorf("webhook: %v", err)
			return
		}
		hears <- n
	}))
	t.Cleanup(hook.Close)

	dir := t.TempDir()
	edit := func(from, to string, also ...string) {
		b, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(from)))
		if err != nil {
			t.Fatal(err)
		}
		text := quickly.Replace(strings.NewReplacer(also...).Replace(string(b)))
		if err := os.WriteFile(filepath.Join(dir, to), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	edit("deploy/prometheus/alertmanager.yml", "alertmanager.yml", "http://127.0.0.1:9095", hook.URL)
	edit("dashboards/rules/kaizen.yml", "rules.yml")
	am := testport.Addr(t)
	run(t, "http://"+am+"/-/ready", alertmanager, "--config.file="+filepath.Join(dir, "alertmanager.yml"), "--storage.path="+filepath.Join(dir, "am"),
		"--web.listen-address="+am, "--cluster.listen-address=")
	startPrometheus(t, srv, fmt.Sprintf("rule_files: [%q]\nalerting: {alertmanagers: [{static_configs: [{targets: [%q]}]}]}\n", filepath.Join(dir, "rules.yml"), am))

	w := startWorkload(t, srv)
	w.round()           // so that the series are there
	courier := func() { // fails by the script
		if err := demo.Run(t.Context(), w.obs, w.models); err != nil {
			t.Error(err)
		}
	}
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	limit := time.NewTimer(5 * time.Minute)
	defer limit.Stop()
	var fired, page, switched, resolved bool
	for !fired || !page || !switched || !resolved {
		select {
		case n := <-hears:
			for _, a := range n.Alerts {
				// The courier's runs all fail: over 5 % and over 20 %. The worse one
				// goes to the page, and keeps the other from being told.
				switch name := a.Labels["alertname"]; {
				case name == "KaizenWatchdog" && n.path == "/deadman":
					switched = true
				case name == "KaizenCriticalErrorRate" && a.Labels["agent"] == "courier" && a.Status == "firing":
					fired, page = true, n.path == "/page"
					if !strings.HasSuffix(a.Annotations["runbook_url"], "/KaizenCriticalErrorRate.md") {
						t.Errorf("annotations = %v", a.Annotations)
					}
				case name == "KaizenCriticalErrorRate" && a.Labels["agent"] == "courier" && a.Status == "resolved":
					resolved = fired
				}
			}
		case <-tick.C:
			if !fired {
				courier()
			}
		case <-limit.C:
			b, err := get(t.Context(), "http://"+am+"/api/v2/alerts?filter=alertname=KaizenWatchdog")
			t.Fatalf("fired %v, to the page %v, dead man's switch %v, resolved %v; Alertmanager has %.2000s (%v)", fired, page, switched, resolved, b, err)
		}
	}
}
