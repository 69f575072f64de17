package server

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/collector/pdata/ptrace/ptraceotlp"
)

const testKey = "kz-0123456789abcdef"

// testConfig takes free ports and a directory of its own.
func testConfig(t *testing.T) Config {
	return Config{
		DataDir:  filepath.Join(t.TempDir(), "data"),
		Listen:   "127.0.0.1:0",
		OTLPHTTP: "127.0.0.1:0",
		OTLPGRPC: "127.0.0.1:0",
		Logger:   slog.New(slog.NewTextHandler(io.Discard, nil)),
	}
}

// start serves cfg until the test ends, and then has to stop without an error.
func start(t *testing.T, cfg Config) *Server {
	t.Helper()
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	ctx, cancel := context.WithCancel(context.Background())
	go func() { done <- s.Serve(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve = %v, want a clean stop", err)
		}
	})
	return s
}

// call sends a request and returns status, header and body.
func call(t *testing.T, method, url string, body []byte, header ...string) (int, http.Header, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(resp.Body)
	if err := errors.Join(err, resp.Body.Close()); err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, resp.Header, string(text)
}

const oneSpan = `{"resourceSpans":[{"scopeSpans":[{"spans":[{"traceId":"4bf92f3577b34da6a3ce929d0e0e4736","spanId":"00f067aa0ba902b7",` +
	`"name":"invoke_agent planner","startTimeUnixNano":"1767225600000000000","endTimeUnixNano":"1767225601000000000","attributes":[` +
	`{"key":"gen_ai.operation.name","value":{"stringValue":"invoke_agent"}},{"key":"gen_ai.agent.name","value":{"stringValue":"planner"}}]}]}]}]}`

func TestRoutes(t *testing.T) {
	s := start(t, testConfig(t))
	entry := `{"agent_id":"planner","action":"tool.execute","result":"success"}`
	tests := []struct {
		name, method, url, body string
		want                    int
		contains                string
	}{
		{"live", "GET", s.UIURL() + "/healthz", "", 200, "ok"},
		{"ready", "GET", s.UIURL() + "/readyz", "", 200, `"ledger":"ok"`},
		{"page", "GET", s.UIURL() + "/", "", 200, "<html"},
		{"page of a run", "GET", s.UIURL() + "/runs/4bf92f3577b34da6a3ce929d0e0e4736", "", 200, "<html"},
		{"no such page", "GET", s.UIURL() + "/nowhere", "", 404, ""},
		{"no such API", "GET", s.UIURL() + "/api/nowhere", "", 404, ""},
		{"traces in on the OTLP port", "POST", s.OTLPHTTPURL() + "/v1/traces", oneSpan, 200, ""},
		{"and once more on the page's port", "POST", s.UIURL() + "/v1/traces", oneSpan, 200, ""},
		{"and by the other path", "POST", s.UIURL() + "/api/public/otel/v1/traces", oneSpan, 200, ""},
		{"stored once", "GET", s.UIURL() + "/api/stats", "", 200, `"spans":1`},
		{"audit in on the OTLP port", "POST", s.OTLPHTTPURL() + "/api/audit", entry, 200, `"receipts"`},
		{"the rest of the API is not there", "GET", s.OTLPHTTPURL() + "/api/audit", "", 405, ""},
		{"nor the page", "GET", s.OTLPHTTPURL() + "/", "", 404, ""},
		{"Prometheus", "GET", s.UIURL() + "/prometheus/api/v1/status/buildinfo", "", 200, "success"},
		{"Jaeger", "GET", s.UIURL() + "/jaeger/api/services", "", 200, "data"},
		{"own metrics", "GET", s.UIURL() + "/metrics", "", 200, `kaizen_agent_runs_total{agent="planner",status="ok"} 1`},
		{"ledger gauge", "GET", s.UIURL() + "/metrics", "", 200, "kaizen_audit_ledger_entries 1"},
		{"audit counter", "GET", s.UIURL() + "/metrics", "", 200, `kaizen_audit_entries_total{action="tool.execute",result="success"`},
		{"runtime", "GET", s.UIURL() + "/metrics", "", 200, "go_goroutines"},
		{"process", "GET", s.UIURL() + "/metrics", "", 200, "process_resident_memory_bytes"},
		{"ledger size", "GET", s.UIURL() + "/metrics", "", 200, `kaizen_server_store_bytes{place="disk",signal="audit"}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			code, header, text := call(t, tt.method, tt.url, []byte(tt.body), "Content-Type", "application/json")
			if code != tt.want || !strings.Contains(text, tt.contains) {
				t.Fatalf("status %d, want %d with %q:\n%.2000s", code, tt.want, tt.contains, text)
			}
			if got := header.Get("X-Content-Type-Options"); got != "nosniff" {
				t.Errorf("X-Content-Type-Options = %q", got)
			}
		})
	}
}

// The page that Prometheus scrapes is OpenMetrics when it asks for that.
func TestMetricsPage(t *testing.T) {
	s := start(t, testConfig(t))
	code, header, text := call(t, "GET", s.UIURL()+"/metrics", nil, "Accept", "application/openmetrics-text; version=1.0.0")
	if code != 200 || !strings.HasPrefix(header.Get("Content-Type"), "application/openmetrics-text") || !strings.HasSuffix(text, "# EOF\n") {
		t.Errorf("status %d, type %s, end %q, want OpenMetrics", code, header.Get("Content-Type"), text[max(0, len(text)-20):])
	}
	_, _, text = call(t, "GET", s.UIURL()+"/metrics", nil)
	parser := expfmt.NewTextParser(model.UTF8Validation)
	if _, err := parser.TextToMetricFamilies(strings.NewReader(text)); err != nil {
		t.Errorf("text page: %v", err)
	}
}

func TestKeys(t *testing.T) {
	cfg := testConfig(t)
	cfg.APIKeys = []string{testKey}
	s := start(t, cfg)
	for _, tt := range []struct {
		method, path string
		open         bool
	}{
		{"GET", "/healthz", true}, {"GET", "/", true}, {"GET", "/logs", true},
		{"GET", "/readyz", false}, {"GET", "/metrics", false}, {"GET", "/api/traces", false}, {"GET", "/api/nowhere", false},
		{"POST", "/v1/traces", false}, {"POST", "/api/audit", false}, {"POST", "/api/public/otel/v1/traces", false},
		{"GET", "/prometheus/api/v1/labels", false}, {"GET", "/jaeger/api/services", false},
	} {
		code, _, text := call(t, tt.method, s.UIURL()+tt.path, nil)
		if (code == 401) == tt.open {
			t.Errorf("%s %s without key = %d, want open = %v", tt.method, tt.path, code, tt.open)
		}
		if code == 401 && !strings.Contains(text, `"code":"unauthorized"`) {
			t.Errorf("%s %s = %s, want a JSON error", tt.method, tt.path, text)
		}
		if code, _, _ := call(t, tt.method, s.UIURL()+tt.path, nil, "Authorization", "Bearer "+testKey); code == 401 || code == 403 {
			t.Errorf("%s %s with key = %d", tt.method, tt.path, code)
		}
	}
	if code, _, _ := call(t, "POST", s.OTLPHTTPURL()+"/v1/traces", []byte(oneSpan), "Content-Type", "application/json"); code != 401 {
		t.Errorf("OTLP over HTTP without key = %d, want 401", code)
	}
}

func TestKeysOverGRPC(t *testing.T) {
	cfg := testConfig(t)
	cfg.APIKeys = []string{testKey}
	s := start(t, cfg)
	conn, err := grpc.NewClient(s.OTLPGRPCAddr(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	}()
	td, err := (&ptrace.JSONUnmarshaler{}).UnmarshalTraces([]byte(oneSpan))
	if err != nil {
		t.Fatal(err)
	}
	client := ptraceotlp.NewGRPCClient(conn)
	if _, err := client.Export(t.Context(), ptraceotlp.NewExportRequestFromTraces(td)); status.Code(err) != codes.Unauthenticated {
		t.Errorf("export without key = %v, want Unauthenticated", err)
	}
	ctx := metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+testKey)
	if _, err := client.Export(ctx, ptraceotlp.NewExportRequestFromTraces(td)); err != nil {
		t.Errorf("export with key = %v", err)
	}
	_, _, text := call(t, "GET", s.UIURL()+"/api/stats", nil, "X-Api-Key", testKey)
	if !strings.Contains(text, `"spans":1`) {
		t.Errorf("stats = %s, want one span", text)
	}
}

func TestDataDirectory(t *testing.T) {
	cfg := testConfig(t)
	if err := os.MkdirAll(cfg.DataDir, 0o755); err != nil { // older, and open to all
		t.Fatal(err)
	}
	start(t, cfg)
	err := filepath.WalkDir(cfg.DataDir, func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.IsDir() || filepath.Dir(path) == filepath.Join(cfg.DataDir, metricsFolder) {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if info.Mode().Perm()&0o077 != 0 && (path == cfg.DataDir || filepath.Dir(path) == cfg.DataDir) {
			t.Errorf("%s has mode %v, want owner-only", path, info.Mode())
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"audit", "telemetry", "metrics", "keys", "kaizen.lock"} {
		if _, err := os.Stat(filepath.Join(cfg.DataDir, name)); err != nil {
			t.Error(err)
		}
	}
	if _, err := New(cfg); !errors.Is(err, ErrLocked) {
		t.Errorf("second server = %v, want ErrLocked", err)
	}
}

// A start that fails leaves nothing behind that would stop the next one.
func TestFailedStart(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := taken.Close(); err != nil {
			t.Error(err)
		}
	}()
	cfg := testConfig(t)
	cfg.OTLPGRPC = taken.Addr().String()
	if _, err := New(cfg); !errors.Is(err, syscall.EADDRINUSE) || !strings.Contains(err.Error(), "bind OTLP over gRPC") {
		t.Fatalf("New = %v, want address in use, naming the port", err)
	}
	broken := filepath.Join(cfg.DataDir, telemetryFolder)
	if err := os.WriteFile(broken, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	cfg.OTLPGRPC = "127.0.0.1:0"
	if _, err := New(cfg); err == nil || !strings.Contains(err.Error(), "open telemetry") {
		t.Fatalf("New = %v, want the telemetry named", err)
	}
	if err := os.Remove(broken); err != nil {
		t.Fatal(err)
	}
	start(t, cfg)
}

// Shutdown stops the ports first, then the stores against the flow, and the
// ledger and the lock last.
func TestShutdownOrder(t *testing.T) {
	s, err := New(testConfig(t))
	if err != nil {
		t.Fatal(err)
	}
	var order []string
	for i, step := range s.stops {
		s.stops[i].run = func(ctx context.Context) error {
			order = append(order, step.name)
			return step.run(ctx)
		}
	}
	if err := s.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	want := []string{"OTLP over gRPC", "OTLP over HTTP", "page and API", "self-scrape", "checks of the ledger", "telemetry", "metrics", "ledger",
		"listener of OTLP over gRPC", "listener of OTLP over HTTP", "listener of page and API", "lock"}
	if strings.Join(order, ", ") != strings.Join(want, ", ") {
		t.Errorf("order = %q, want %q", order, want)
	}
	if err := s.Shutdown(t.Context()); err != nil || len(order) != len(want) {
		t.Errorf("second Shutdown = %v after %d steps, want nothing more", err, len(order))
	}
	if s.health.report().Phase != "stopping" {
		t.Errorf("phase = %s, want stopping", s.health.report().Phase)
	}
}

// Shutdown ends Serve, and requests that do not end are cut off in time.
func TestShutdownCutsOff(t *testing.T) {
	s, err := New(testConfig(t))
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(context.Background()) }()
	body, slow := io.Pipe() // a request whose body never ends
	arrived := make(chan struct{})
	go func() {
		resp, err := http.Post(s.UIURL()+"/v1/traces", "application/json", body)
		if err == nil {
			_ = resp.Body.Close()
		}
		_ = body.CloseWithError(io.ErrUnexpectedEOF)
	}()
	go func() {
		_, _ = slow.Write([]byte(`{"resourceSpans":`)) // returns when the transport reads it
		close(arrived)
	}()
	<-arrived
	if code, _, _ := call(t, "GET", s.UIURL()+"/healthz", nil); code != 200 {
		t.Fatalf("healthz = %d", code)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Shutdown(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Shutdown = %v, want the end of its context", err)
	}
	if err := <-served; !errors.Is(err, context.Canceled) {
		t.Errorf("Serve = %v, want what Shutdown returned", err)
	}
	if err := slow.Close(); err != nil {
		t.Error(err)
	}
	if _, held, err := FindHolder(s.DataDir()); err != nil || held {
		t.Errorf("the lock is held = %v, %v, want given up", held, err)
	}
}

// What was stored is there after a restart, and for a reader without a server.
func TestReader(t *testing.T) {
	cfg := testConfig(t)
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(context.Background()) }()
	if code, _, text := call(t, "POST", s.OTLPHTTPURL()+"/v1/traces", []byte(oneSpan), "Content-Type", "application/json"); code != 200 {
		t.Fatalf("traces = %d: %s", code, text)
	}
	if _, err := OpenReader(t.Context(), cfg.DataDir, "kaizen trace list"); !errors.Is(err, ErrLocked) {
		t.Errorf("OpenReader beside a server = %v, want ErrLocked", err)
	}
	if err := errors.Join(s.Shutdown(t.Context()), <-served); err != nil {
		t.Fatal(err)
	}
	r, err := OpenReader(t.Context(), cfg.DataDir, "kaizen trace list")
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}()
	w := &recorder{header: http.Header{}}
	req, err := http.NewRequestWithContext(t.Context(), "GET", "http://localhost/api/stats", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Handler().ServeHTTP(w, req)
	var stats struct{ Spans, Runs int }
	if err := json.Unmarshal(w.body.Bytes(), &stats); err != nil || stats.Spans != 1 || stats.Runs != 1 {
		t.Errorf("stats = %s, %v, want one span, one run", w.body.String(), err)
	}
	if _, err := OpenReader(t.Context(), t.TempDir(), "x"); !errors.Is(err, ErrNoData) {
		t.Errorf("OpenReader(empty) = %v, want ErrNoData", err)
	}
}

type recorder struct {
	header http.Header
	body   bytes.Buffer
}

func (r *recorder) Header() http.Header         { return r.header }
func (r *recorder) WriteHeader(int)             {}
func (r *recorder) Write(p []byte) (int, error) { return r.body.Write(p) }
