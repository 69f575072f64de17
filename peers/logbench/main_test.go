package main

import (
	"bytes"
	"encoding/json"
	"io"
	"log/slog"
	"testing"
)

// TestBench runs one short round and computes every target.
func TestBench(t *testing.T) {
	missed, err := bench(io.Discard, 1, 10)
	if err != nil {
		t.Fatal(err)
	}
	if all := len(targets()) + 1; missed > all {
		t.Errorf("%d targets missed of %d", missed, all)
	}
}

// TestLines: every contender writes one line of JSON with all fields, and with
// the ids where it says so, so that none is quick by leaving something out.
func TestLines(t *testing.T) {
	for _, c := range contenders() {
		if c.name == "nothing" {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			var out bytes.Buffer
			h, err := c.handler(&out, slog.LevelInfo)
			if err != nil {
				t.Fatal(err)
			}
			logLine(runContext(), slog.New(h))
			var line map[string]any
			if err := json.Unmarshal(out.Bytes(), &line); err != nil {
				t.Fatalf("%s: %v", out.Bytes(), err)
			}
			fields := line
			if inner, ok := line["context"].(map[string]any); ok {
				fields = inner
			}
			for _, name := range []string{"tool", "provider", "model", "iteration", "input_tokens", "output_tokens", "cost_usd", "took", "cached", "status"} {
				if _, ok := fields[name]; !ok {
					t.Errorf("no %s in %s", name, out.Bytes())
				}
			}
			if bytes.HasSuffix([]byte(c.name), []byte("bare")) {
				return
			}
			for _, name := range []string{"trace_id", "span_id", "agent_id", "session_id", "run_id", "user_id"} {
				if _, ok := line[name]; !ok {
					t.Errorf("no %s in %s", name, out.Bytes())
				}
			}
		})
	}
}
