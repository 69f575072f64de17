package server

import (
	"compress/gzip"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
)

// bulkServer takes documents as Elasticsearch's bulk API does. The real thing
// is tested against in package logship.
type bulkServer struct {
	mu   sync.Mutex
	docs map[string][]string // by index
	auth string
}

func (b *bulkServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body := io.Reader(r.Body)
	if r.Header.Get("Content-Encoding") == "gzip" {
		z, err := gzip.NewReader(r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		body = z
	}
	raw, err := io.ReadAll(body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	lines := strings.Split(strings.TrimSuffix(string(raw), "\n"), "\n")
	index := strings.Split(strings.TrimPrefix(r.URL.Path, "/"), "/")[0]
	var items []any
	b.mu.Lock()
	b.auth = r.Header.Get("Authorization")
	for i := 1; i < len(lines); i += 2 {
		b.docs[index] = append(b.docs[index], lines[i])
		items = append(items, map[string]any{"create": map[string]any{"status": 201}})
	}
	b.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{"errors": false, "items": items})
}

// TestShipping: what comes in over OTLP and over the audit API goes on to the
// log store that the configuration names.
func TestShipping(t *testing.T) {
	bulk := &bulkServer{docs: map[string][]string{}}
	target := httptest.NewServer(bulk)
	defer target.Close()
	cfg := testConfig(t)
	cfg.ShipLogs = target.URL
	s := start(t, cfg)
	const otlp = `{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"timeUnixNano":"1767225600000000000","severityNumber":9,` +
		`"body":{"stringValue":"over OTLP"},"traceId":"4bf92f3577b34da6a3ce929d0e0e4736"}]}]}]}`
	if status, _, body := call(t, http.MethodPost, s.OTLPHTTPURL()+"/v1/logs", []byte(otlp), "Content-Type", "application/json"); status != http.StatusOK {
		t.Fatalf("POST /v1/logs = %d %s", status, body)
	}
	const entry = `{"agent_id":"a","action":"tool_execute","result":"success","details":{"x":"private"},"trace_id":"4bf92f3577b34da6a3ce929d0e0e4736"}`
	if status, _, body := call(t, http.MethodPost, s.UIURL()+"/api/audit", []byte(entry), "Content-Type", "application/json"); status != http.StatusOK {
		t.Fatalf("POST /api/audit = %d %s", status, body)
	}
	if err := s.parts.ship.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	_, _, page := call(t, http.MethodGet, s.UIURL()+"/metrics", nil)
	if !strings.Contains(page, `kaizen_telemetry_queue_length{signal="shipped_logs"} 0`) {
		t.Error("/metrics does not show the queue of shipped logs")
	}
	bulk.mu.Lock()
	defer bulk.mu.Unlock()
	for index, want := range map[string]string{"logs-kaizen-default": "over OTLP", "logs-kaizen.audit-default": "tool_execute"} {
		docs := bulk.docs[index]
		if len(docs) != 1 || !strings.Contains(docs[0], want) || !strings.Contains(docs[0], `"trace.id":"4bf92f3577b34da6a3ce929d0e0e4736"`) {
			t.Errorf("%s holds %q, want one document with %q and its trace", index, docs, want)
		}
		if strings.Contains(strings.Join(docs, ""), "private") {
			t.Errorf("%s holds details of an audit entry", index)
		}
	}
}
