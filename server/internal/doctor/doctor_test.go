package doctor

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kaizen-go/kaizen/audit"
	"github.com/kaizen-go/kaizen/server/internal/certs"
)

// answers serves fixed bodies by path; everything else is 404.
func answers(t *testing.T, bodies map[string]string) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, ok := bodies[r.URL.Path]
		if !ok {
			http.NotFound(w, r)
			return
		}
		if body == "401" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		_, _ = w.Write([]byte(body))
	}))
	t.Cleanup(s.Close)
	return s.URL
}

func find(t *testing.T, findings []Finding, check string) Finding {
	t.Helper()
	for _, f := range findings {
		if f.Check == check {
			return f
		}
	}
	t.Fatalf("no finding of %s", check)
	return Finding{}
}

func dataDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	l, err := audit.Open(filepath.Join(dir, "audit"), audit.Config{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.Append(t.Context(), audit.Entry{AgentID: "a", Action: "x", Result: audit.Success}); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return dir
}

const goodServer = "/readyz\n/healthz\n/api/stats\n/v1/traces"

func healthyServer(t *testing.T) map[string]string {
	t.Helper()
	m := map[string]string{
		"/prometheus/api/v1/status/buildinfo": `{"status":"success","data":{"version":"3.0.0","revision":"v1"}}`,
		"/prometheus/api/v1/query":            `{"status":"success","data":{"resultType":"vector","result":[]}}`,
	}
	for p := range strings.SplitSeq(goodServer, "\n") {
		m[p] = "{}"
	}
	return m
}

func TestHealthy(t *testing.T) {
	url := answers(t, healthyServer(t))
	findings := Examine(t.Context(), Config{DataDir: dataDir(t), Server: url, OTLP: url, Version: "v1", SpoolDir: t.TempDir()})
	for i, f := range findings {
		if f.Check == "disk" { // how full this machine's is says nothing about the code: see TestDisk
			findings[i].State = OK
		} else if f.State != OK && f.State != Skipped {
			t.Errorf("%s: %s: %s", f.Check, f.State, f.Message)
		}
	}
	if Worst(findings) != OK {
		t.Errorf("worst is %s", Worst(findings))
	}
	for _, check := range []string{"server", "version", "clock", "keys", "ledger", "permissions", "exporter", "telemetry", "spool"} {
		if f := find(t, findings, check); f.State != OK {
			t.Errorf("%s was not looked at: %s", check, f.Message)
		}
	}
}

func TestDisk(t *testing.T) {
	const GB = 1_000_000_000
	for _, tc := range []struct {
		name       string
		free, size int64
		want       State
	}{
		{"empty", 99 * GB, 100 * GB, OK},
		{"a twentieth is free", 5 * GB, 100 * GB, OK},
		{"less is free", 5*GB - 1, 100 * GB, Warning},
		{"small, and half of it free", GB, 2 * GB, Failed},
		{"nearly full", minFreeBytes - 1, 100 * GB, Failed},
		{"full", 0, 100 * GB, Failed},
	} {
		state, text, advice := judgeDisk(tc.free, tc.size)
		if state != tc.want || (advice == "") != (tc.want == OK) || !strings.Contains(text, "GB are free") {
			t.Errorf("%s: judgeDisk = %s, %q, %q, want %s", tc.name, state, text, advice, tc.want)
		}
	}
}

func TestFindings(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	open := dataDir(t)
	if err := os.Chmod(open, 0o755); err != nil {
		t.Fatal(err)
	}
	keyless := dataDir(t)
	if err := os.RemoveAll(filepath.Join(keyless, "keys")); err != nil {
		t.Fatal(err)
	}
	tampered := dataDir(t)
	segments, err := filepath.Glob(filepath.Join(tampered, "audit", "seg", "*.jsonl"))
	if err != nil || len(segments) == 0 {
		t.Fatal(segments, err)
	}
	if err := os.Truncate(segments[0], 3); err != nil {
		t.Fatal(err)
	}
	certDir := t.TempDir()
	if _, err := certs.Issue(certs.Config{Dir: certDir, Days: 10}, []certs.Server{{Name: "kaizen"}}); err != nil {
		t.Fatal(err)
	}
	older := healthyServer(t)
	older["/prometheus/api/v1/status/buildinfo"] = `{"data":{"version":"3.0.0","revision":"v0"}}`
	older["/prometheus/api/v1/query"] = `{"status":"success","data":{"result":[{"metric":{"signal":"traces","reason":"queue_full"},"value":[1,"7"]}]}}`
	locked := healthyServer(t)
	locked["/api/stats"] = "401"
	late := func() time.Time { return time.Now().Add(time.Minute) }
	tests := []struct {
		name, check string
		cfg         Config
		state       State
		text        string
	}{
		{"port taken", "ports", Config{Addresses: map[string]string{"KAIZEN_LISTEN": l.Addr().String()}}, Failed, "address already in use"},
		{"others can read", "permissions", Config{DataDir: open}, Failed, "0755"},
		{"key missing", "keys", Config{DataDir: keyless}, Failed, "missing"},
		{"ledger cut", "ledger", Config{DataDir: tampered}, Failed, "audit"},
		{"certificate ends", "certificate", Config{TLSCert: filepath.Join(certDir, "kaizen.pem")}, Warning, "ends on"},
		{"no certificate", "certificate", Config{TLSCert: filepath.Join(certDir, "none.pem")}, Failed, "no such file"},
		{"server away", "server", Config{Server: "http://127.0.0.1:1"}, Failed, "refused"},
		{"wrong key", "server", Config{Server: answers(t, locked)}, Failed, "does not take this key"},
		{"other version", "version", Config{Server: answers(t, older), Version: "v1"}, Warning, "the server is v0"},
		{"drops", "telemetry", Config{Server: answers(t, older)}, Warning, "traces: 7 (queue_full)"},
		{"clocks differ", "clock", Config{Server: answers(t, map[string]string{"/readyz": "{}", "/healthz": "ok"}), Now: late}, Failed, "differ by"},
		{"exporter away", "exporter", Config{OTLP: "http://127.0.0.1:1"}, Failed, "refused"},
		{"a target is down", "prometheus", Config{Prometheus: answers(t, map[string]string{"/api/v1/targets": `{"data":{"activeTargets":[{"scrapePool":"kaizen","scrapeUrl":"http://k/metrics","health":"down","lastError":"401"}]}}`})}, Failed, "cannot scrape http://k/metrics: 401"},
		{"no target of ours", "prometheus", Config{Prometheus: answers(t, map[string]string{"/api/v1/targets": `{"data":{"activeTargets":[]}}`})}, Warning, "scrapes no kaizen"},
		{"wants credentials", "grafana", Config{Grafana: answers(t, map[string]string{"/api/health": "401"})}, Warning, "wants credentials"},
		{"red", "elasticsearch", Config{Elasticsearch: answers(t, map[string]string{"/_cluster/health": `{"status":"red"}`})}, Failed, "red"},
		{"not Jaeger", "jaeger", Config{Jaeger: answers(t, nil)}, Failed, "404"},
		{"not Alertmanager", "alertmanager", Config{Alertmanager: answers(t, nil)}, Failed, "404"},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
			defer cancel()
			f := find(t, Examine(ctx, tc.cfg), tc.check)
			if f.State != tc.state || !strings.Contains(f.Message, tc.text) {
				t.Errorf("%s = %s %q, want %s with %q", tc.check, f.State, f.Message, tc.state, tc.text)
			}
			if f.State == Failed && f.Advice == "" && tc.check != "certificate" && tc.check != "jaeger" && tc.check != "alertmanager" && tc.check != "ledger" {
				t.Errorf("%s failed without advice", tc.check)
			}
		})
	}
}

// TestKeyStaysHome: the server's key is sent to nobody else.
func TestKeyStaysHome(t *testing.T) {
	var leaked string
	other := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { leaked += r.Header.Get("Authorization") }))
	defer other.Close()
	Examine(t.Context(), Config{Server: answers(t, healthyServer(t)), Key: "k-1234567890123456", Grafana: other.URL, Prometheus: other.URL, Elasticsearch: other.URL})
	if leaked != "" {
		t.Errorf("the API key was sent to another program: %q", leaked)
	}
}
