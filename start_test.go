package kaizen_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kaizen-go/kaizen"
	"github.com/kaizen-go/kaizen/agentlog"
	"github.com/kaizen-go/kaizen/hook"
	"github.com/kaizen-go/kaizen/sampling"
)

// collector counts what is posted to it, by path.
type collector struct {
	*httptest.Server
	mu    sync.Mutex
	bytes map[string]int
}

func newCollector(t *testing.T) *collector {
	t.Helper()
	c := &collector{bytes: make(map[string]int)}
	c.Server = httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		c.bytes[r.URL.Path] += len(b)
	}))
	t.Cleanup(c.Close)
	return c
}

func start(t *testing.T, cfg kaizen.Config) *kaizen.Observer {
	t.Helper()
	cfg.SpoolDir, cfg.LogWriter, cfg.FlushDelay = kaizen.NoSpool, io.Discard, 10*time.Millisecond
	obs, err := kaizen.Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := obs.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return obs
}

func tool(t *testing.T, obs *kaizen.Observer, err error) {
	t.Helper()
	if got := obs.Hooks().Do(kaizen.WithRun(t.Context(), testRun), &hook.Tool{Name: "x"}, func(context.Context, *hook.Op) error { return err }); !errors.Is(got, err) {
		t.Fatal(got)
	}
}

// TestTail: an ordinary trace is dropped, counted and told; one with an error is
// kept whole.
func TestTail(t *testing.T) {
	c := newCollector(t)
	obs := start(t, kaizen.Config{Server: c.URL, Tail: &sampling.TailConfig{Ratio: sampling.Off}})
	tool(t, obs, nil)
	if err := obs.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if h := obs.Health(); h.Export.Traces.Sent != 0 {
		t.Errorf("%d spans of an ordinary trace were sent", h.Export.Traces.Sent)
	}
	tool(t, obs, errors.New("broken"))
	if err := obs.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if h := obs.Health(); h.Export.Traces.Sent != 1 {
		t.Errorf("%d spans of a failed trace were sent, want 1", h.Export.Traces.Sent)
	}
	if v, _ := obs.Metrics().Value("kaizen_telemetry_dropped_total", "signal", "traces", "reason", "tail_ratio"); v != 1 {
		t.Errorf("dropped by the tail = %v, want 1", v)
	}
	if v, _ := obs.Metrics().Value("kaizen_tool_calls_total", "agent", "helper", "tool", "x", "status", "ok"); v != 1 {
		t.Errorf("tool calls counted = %v: metrics are not sampled", v)
	}
}

func TestSamplerOfTheEnvironment(t *testing.T) {
	c := newCollector(t)
	t.Setenv("OTEL_TRACES_SAMPLER", "always_off")
	obs := start(t, kaizen.Config{Server: c.URL})
	tool(t, obs, nil)
	if err := obs.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := obs.Health().Export.Traces.Sent; n != 0 {
		t.Errorf("%d spans were sent although the sampler is off", n)
	}
	t.Setenv("OTEL_TRACES_SAMPLER", "sometimes")
	if _, err := kaizen.Start(t.Context(), kaizen.Config{LogWriter: io.Discard, SpoolDir: kaizen.NoSpool}); err == nil || !strings.Contains(err.Error(), "sometimes") {
		t.Errorf("Start = %v, want an error that names the sampler", err)
	}
}

// TestPrograms: an executable that a file names watches and refuses.
func TestPrograms(t *testing.T) {
	dir := t.TempDir()
	script := []byte("#!/bin/sh\ncat >/dev/null\nprintf '{\"decision\":\"deny\",\"reason\":\"not on a Sunday\"}'\n")
	path := filepath.Join(dir, "guard")
	if err := os.WriteFile(path, script, 0o700); err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(script)
	list, err := json.Marshal([]map[string]any{{
		"name": "guard", "path": path, "sha256": hex.EncodeToString(sum[:]), "kinds": []string{"tool"}, "phases": []string{"start"}, "timeout": "20s",
	}})
	if err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(dir, "programs.json")
	if err := os.WriteFile(config, list, 0o600); err != nil {
		t.Fatal(err)
	}
	o := observe(t, kaizen.Config{Programs: config})
	err = o.obs.Hooks().Do(t.Context(), &hook.Tool{Name: "x"}, func(context.Context, *hook.Op) error { return nil })
	var denied *hook.DeniedError
	if !errors.As(err, &denied) || denied.By != "guard" || denied.Reason != "not on a Sunday" {
		t.Errorf("Do = %v, want the program's refusal", err)
	}
	if v, ok := o.obs.Metrics().Value("kaizen_hook_calls_total", "hook", "guard", "event", "tool_start", "outcome", "denied"); !ok || v != 1 {
		t.Errorf("kaizen_hook_calls_total = %v, %v, want 1", v, ok)
	}
	if err := os.WriteFile(path, append(script, '\n'), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := kaizen.Start(t.Context(), kaizen.Config{Programs: config, LogWriter: io.Discard}); !errors.Is(err, hook.ErrProgram) {
		t.Errorf("Start with a changed program = %v, want ErrProgram", err)
	}
}

// countingSink counts what it gets and how often it is closed.
type countingSink struct{ lines, closed int }

func (s *countingSink) Write(*agentlog.Record) error { s.lines++; return nil }
func (s *countingSink) Close(context.Context) error  { s.closed++; return nil }

// TestLogSinks: a sink of the user's gets every line and is closed once, also
// when logs are off.
func TestLogSinks(t *testing.T) {
	for _, tt := range []struct {
		name  string
		off   kaizen.Parts
		lines int
	}{{"on", kaizen.Audit, 1}, {"off", kaizen.Audit | kaizen.Logs, 0}} {
		t.Run(tt.name, func(t *testing.T) {
			sink := &countingSink{}
			obs, err := kaizen.Start(t.Context(), kaizen.Config{Off: tt.off, LogSinks: []agentlog.Sink{sink}, LogWriter: io.Discard, SpoolDir: kaizen.NoSpool})
			if err != nil {
				t.Fatal(err)
			}
			obs.Logger("x").Info("hello")
			if err := obs.Shutdown(t.Context()); err != nil {
				t.Fatal(err)
			}
			if sink.lines != tt.lines || sink.closed != 1 {
				t.Errorf("%d lines, closed %d times, want %d and once", sink.lines, sink.closed, tt.lines)
			}
		})
	}
}

// TestMetricsHandler: the page is what a scraper takes, with the observer's own
// families.
func TestMetricsHandler(t *testing.T) {
	o := observe(t, kaizen.Config{})
	tool(t, o.obs, nil)
	rec := httptest.NewRecorder()
	o.obs.MetricsHandler().ServeHTTP(rec, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	for _, want := range []string{"kaizen_tool_calls_total{", "kaizen_telemetry_self_seconds_total{"} {
		if !strings.Contains(rec.Body.String(), want) {
			t.Errorf("the page has no %s", want)
		}
	}
}
