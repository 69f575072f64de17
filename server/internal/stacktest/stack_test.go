package stacktest

import (
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"go.opentelemetry.io/otel/trace"

	"github.com/kaizen-go/kaizen"
	"github.com/kaizen-go/kaizen/agentlog"
)

const deploy = "../../../deploy"

func read(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(deploy, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// ecsLine is a line of agentlog with every field that it can have.
func ecsLine(t *testing.T) map[string]any {
	t.Helper()
	path := filepath.Join(t.TempDir(), "kaizen.log")
	file, err := agentlog.OpenFile(path, agentlog.FileConfig{})
	if err != nil {
		t.Fatal(err)
	}
	logs, err := agentlog.New(agentlog.Config{Format: agentlog.FormatECS, Sinks: []agentlog.Sink{file}})
	if err != nil {
		t.Fatal(err)
	}
	span := trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1}, SpanID: trace.SpanID{1}})
	ctx := kaizen.WithRun(trace.ContextWithSpanContext(t.Context(), span), kaizen.Run{RunID: "r", AgentID: "a", SessionID: "s", UserID: "u"})
	logs.Logger("planner").InfoContext(ctx, "a line", slog.String("key", "value"))
	if err := logs.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var line map[string]any
	if err := json.Unmarshal(b, &line); err != nil {
		t.Fatalf("%s: %v", b, err)
	}
	return line
}

// TestShippersReadOurLines: what agentlog writes to a file has the names that
// the template maps and that the shippers' files use.
func TestShippersReadOurLines(t *testing.T) {
	line := ecsLine(t)
	var template struct {
		IndexPatterns []string `json:"index_patterns"`
		Template      struct {
			Mappings struct{ Properties map[string]any }
		}
	}
	if err := json.Unmarshal([]byte(read(t, "logs/elasticsearch/index-template.json")), &template); err != nil {
		t.Fatal(err)
	}
	for field := range line {
		if _, mapped := template.Template.Mappings.Properties[field]; !mapped {
			t.Errorf("agentlog writes %s, which the index template does not map", field)
		}
	}
	for _, field := range []string{"@timestamp", "trace.id", "gen_ai.agent.id"} {
		if _, there := line[field]; !there {
			t.Errorf("agentlog does not write %s, which the shippers' files name", field)
		}
	}
	if !slices.Contains(template.IndexPatterns, "logs-kaizen-*") {
		t.Errorf("index patterns %v: logs-kaizen-agents is not among them", template.IndexPatterns)
	}
	for name, wants := range map[string][]string{
		"shipping/fluent-bit.yaml": {"logs-kaizen-agents", "write_operation: create", `time_key: "@timestamp"`},
		"shipping/vector.yaml":     {"type: logs, dataset: kaizen, namespace: agents", `."@timestamp"`},
		"shipping/filebeat.yml":    {"logs-kaizen-agents", "overwrite_keys: true"},
	} {
		text := read(t, name)
		for _, want := range append(wants, "kaizen_shipper", "${ELASTIC_PASSWORD}") {
			if !strings.Contains(text, want) {
				t.Errorf("%s lacks %q", name, want)
			}
		}
	}
}

// elastic is a stand-in for Elasticsearch and Kibana that takes requests of the
// superuser only.
type elastic struct {
	password string

	mu     sync.Mutex
	bodies map[string]string
}

func (e *elastic) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	user, password, _ := r.BasicAuth()
	if user != "elastic" || password != e.password {
		http.Error(w, "who?", http.StatusUnauthorized)
		return
	}
	if r.Method == http.MethodGet {
		http.Error(w, "{}", http.StatusNotFound) // no data stream yet
		return
	}
	b, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	e.mu.Lock()
	e.bodies[r.Method+" "+r.URL.Path] = string(b)
	e.mu.Unlock()
	_, _ = io.WriteString(w, `{"acknowledged":true,"success":true}`)
}

// TestElasticSetup runs the set-up of the profile logs: what it installs is what
// is in deploy/logs, every request has the superuser's password, and no command
// line and no message has one.
func TestElasticSetup(t *testing.T) {
	curl, err := exec.LookPath("curl")
	if err != nil {
		t.Skip("no curl here: scripts/test-setup.sh installs it")
	}
	dir := t.TempDir()
	secrets := map[string]string{}
	for _, name := range []string{"elastic_password", "elastic_shipper_password", "elastic_reader_password", "kibana_password"} {
		secrets[name] = "secret-of-" + name
		write(t, filepath.Join(dir, name), secrets[name], 0o600)
	}
	// A curl that notes its command line first.
	args := filepath.Join(dir, "args")
	write(t, filepath.Join(dir, "bin/curl"), "#!/bin/sh\necho \"$@\" >>"+args+"\nexec "+curl+" \"$@\"\n", 0o755)
	server := &elastic{password: secrets["elastic_password"], bodies: map[string]string{}}
	web := httptest.NewServer(server)
	defer web.Close()
	var said string
	for _, part := range []string{"server", "server", "dashboards"} { // twice: it may run again
		cmd := exec.CommandContext(t.Context(), "bash", filepath.Join(deploy, "compose/elastic-setup.sh"), part)
		cmd.Env = append(os.Environ(), "PATH="+filepath.Join(dir, "bin")+":"+os.Getenv("PATH"), "SECRETS_DIR="+dir,
			"SETUP_DIR="+filepath.Join(deploy, "logs"), "ELASTIC_URL="+web.URL, "KIBANA_URL="+web.URL)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v\n%s", part, err, out)
		}
		said += string(out)
	}
	lines, err := os.ReadFile(args)
	if err != nil {
		t.Fatal(err)
	}
	for name, secret := range secrets {
		if strings.Contains(said, secret) || strings.Contains(string(lines), secret) {
			t.Errorf("%s is in a message or on a command line", name)
		}
	}
	for request, file := range map[string]string{
		"PUT /_ilm/policy/kaizen-logs":       "logs/elasticsearch/lifecycle.json",
		"PUT /_ingest/pipeline/kaizen-logs":  "logs/ingest-pipeline.json",
		"PUT /_index_template/kaizen-logs":   "logs/elasticsearch/index-template.json",
		"PUT /_security/role/kaizen_shipper": "logs/elasticsearch/role-shipper.json",
		"PUT /_security/role/kaizen_reader":  "logs/elasticsearch/role-reader.json",
	} {
		if server.bodies[request] != read(t, file) {
			t.Errorf("%s: not %s was sent, but %q", request, file, server.bodies[request])
		}
	}
	for request, want := range map[string]string{
		"PUT /_security/user/kaizen_shipper":           secrets["elastic_shipper_password"],
		"PUT /_security/user/kaizen_reader":            secrets["elastic_reader_password"],
		"POST /_security/user/kibana_system/_password": secrets["kibana_password"],
		"PUT /_data_stream/logs-kaizen-default":        "",
		"POST /api/saved_objects/_import":              "kaizen-overview",
	} {
		body, sent := server.bodies[request]
		if !sent || !strings.Contains(body, want) {
			t.Errorf("%s: sent %v, %q", request, sent, body)
		}
	}
}

func write(t *testing.T, name, text string, perm os.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), perm); err != nil {
		t.Fatal(err)
	}
}
