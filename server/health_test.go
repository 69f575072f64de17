package server

import (
	"encoding/json"
	"errors"
	"net/http/httptest"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestReady(t *testing.T) {
	works := func() error { return nil }
	fails := func() error { return errors.New("sync: no space left on device") }
	tests := []struct {
		name  string
		phase phase
		parts map[string]func() error
		code  int
		want  report
	}{
		{"starting", phaseStarting, map[string]func() error{"ledger": works}, 503,
			report{Phase: "starting", Parts: map[string]string{"ledger": "ok"}}},
		{"serving", phaseServing, map[string]func() error{"ledger": works, "telemetry": works}, 200,
			report{Ready: true, Phase: "serving", Parts: map[string]string{"ledger": "ok", "telemetry": "ok"}}},
		{"a failed part", phaseServing, map[string]func() error{"ledger": fails, "telemetry": works}, 503,
			report{Phase: "serving", Parts: map[string]string{"ledger": "sync: no space left on device", "telemetry": "ok"}}},
		{"stopping", phaseStopping, nil, 503, report{Phase: "stopping", Parts: map[string]string{}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := &health{parts: tt.parts}
			h.set(tt.phase)
			w := httptest.NewRecorder()
			h.ready(w, httptest.NewRequest("GET", "/readyz", nil))
			var got report
			if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(tt.want, got); d != "" || w.Code != tt.code {
				t.Errorf("status %d, want %d; report (-want +got):\n%s", w.Code, tt.code, d)
			}
			w = httptest.NewRecorder()
			h.live(w, httptest.NewRequest("GET", "/healthz", nil))
			if w.Code != 200 {
				t.Errorf("live = %d, want 200 in every phase", w.Code)
			}
		})
	}
}
