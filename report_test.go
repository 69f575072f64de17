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
	tool(t, obs, nil)
	for _, way := range []struct {
		name  string
		flush func(context.Context) error
		label []string
	}{
		{"the server", obs.Flush, []string{"signal", "traces", "reason", "http"}},
		{"Elasticsearch", elastic.Flush, []string{"signal", "logs", "reason", "elastic"}},
	} {
		for tried := false; !tried; { // until an attempt has failed, however long that takes here
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			if err := way.flush(ctx); err == nil {
				t.Errorf("%s took it", way.name)
			}
			cancel()
			v, _ := obs.Metrics().Value("kaizen_telemetry_export_failures_total", way.label...)
			tried = v > 0 || t.Failed()
		}
	}
	_ = obs.Shutdown(endsSoon{t.Context(), time.Now().Add(time.Second)}) // what is away goes to the spool
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

// endsSoon says when it ends, but does not: sending is over in time, and what
// comes then may take as long as the disk does.
type endsSoon struct {
	context.Context
	at time.Time
}

func (c endsSoon) Deadline() (time.Time, bool) { return c.at, true }
