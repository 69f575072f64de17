package kaizen_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"testing"
	"time"

	"github.com/kaizen-go/kaizen"
	"github.com/kaizen-go/kaizen/agentlog"
)

// failingSink refuses every line.
type failingSink struct{}

func (failingSink) Write(*agentlog.Record) error { return errors.New("full") }
func (failingSink) Close(context.Context) error  { return nil }

// TestSelfMetrics: each family that tells of recording itself has a producer,
// under a server and an Elasticsearch that are away.
func TestSelfMetrics(t *testing.T) {
	t.Setenv("KAIZEN_SERVER", "")
	away := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "away", http.StatusServiceUnavailable) }))
	defer away.Close()
	elastic, err := agentlog.NewElastic(agentlog.ElasticConfig{URL: away.URL, Index: "logs"})
	if err != nil {
		t.Fatal(err)
	}
	file, err := agentlog.OpenFile(filepath.Join(t.TempDir(), "log"), agentlog.FileConfig{})
	if err != nil {
		t.Fatal(err)
	}
	obs, err := kaizen.Start(t.Context(), kaizen.Config{
		Server: away.URL, SpoolDir: t.TempDir(), AuditDir: filepath.Join(t.TempDir(), "audit"), LogWriter: io.Discard, FlushDelay: time.Millisecond,
		LogSinks: []agentlog.Sink{elastic, file, failingSink{}},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	tool(t, obs, nil)
	if err := obs.Flush(ctx); err == nil {
		t.Error("Flush succeeds without a server")
	}
	if err := elastic.Flush(ctx); err == nil {
		t.Error("Elasticsearch took it")
	}
	down, stop := context.WithTimeout(t.Context(), time.Second)
	defer stop()
	_ = obs.Shutdown(down) // what is away goes to the spool
	for _, tt := range []struct {
		name   string
		labels []string
		zero   bool // nothing happened, but it is told
	}{
		{"kaizen_telemetry_self_seconds_total", []string{"signal", "traces"}, false},
		{"kaizen_telemetry_self_seconds_total", []string{"signal", "metrics"}, false},
		{"kaizen_telemetry_self_seconds_total", []string{"signal", "logs"}, false},
		{"kaizen_telemetry_self_seconds_total", []string{"signal", "audit"}, false},
		{"kaizen_telemetry_queue_length", []string{"signal", "traces"}, false},
		{"kaizen_telemetry_queue_length", []string{"signal", "logs"}, false},
		{"kaizen_telemetry_queue_length", []string{"signal", "audit"}, true},
		{"kaizen_telemetry_spool_bytes", []string{"signal", "traces"}, false},
		{"kaizen_telemetry_spool_bytes", []string{"signal", "logs"}, false},
		{"kaizen_telemetry_export_failures_total", []string{"signal", "traces", "reason", "http"}, false},
		{"kaizen_telemetry_export_failures_total", []string{"signal", "logs", "reason", "sink"}, false},
		{"kaizen_telemetry_export_failures_total", []string{"signal", "logs", "reason", "elastic"}, false},
		{"kaizen_telemetry_export_failures_total", []string{"signal", "logs", "reason", "file"}, true},
		{"kaizen_telemetry_dropped_total", []string{"signal", "traces", "reason", "queue_full"}, true},
		{"kaizen_telemetry_dropped_total", []string{"signal", "logs", "reason", "file_queue_full"}, true},
		{"kaizen_telemetry_dropped_total", []string{"signal", "logs", "reason", "elastic_queue_full"}, true},
		{"kaizen_telemetry_dropped_total", []string{"signal", "logs", "reason", "sampled"}, true},
	} {
		v, ok := obs.Metrics().Value(tt.name, tt.labels...)
		if !ok || (v == 0) != tt.zero {
			t.Errorf("%s%v = %v, %t", tt.name, tt.labels, v, ok)
		}
	}
}
