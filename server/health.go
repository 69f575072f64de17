package server

import (
	"encoding/json"
	"net/http"
	"sync/atomic"
)

// phase is where the server stands in its life.
type phase int32

const (
	phaseStarting phase = iota
	phaseServing
	phaseStopping
)

func (p phase) String() string {
	return [...]string{"starting", "serving", "stopping"}[p]
}

// health answers /healthz and /readyz.
type health struct {
	phase atomic.Int32
	// parts are asked each time; nil means that the part works. The map is not
	// written after New.
	parts map[string]func() error
}

func (h *health) set(p phase) { h.phase.Store(int32(p)) }

// live answers as long as the process can answer at all.
func (h *health) live(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	_, _ = w.Write([]byte("ok\n")) // the peer has gone: nobody to tell
}

// report is the answer of /readyz.
type report struct {
	Ready bool   `json:"ready"`
	Phase string `json:"phase"`
	// Parts maps each part to "ok" or to what is wrong with it.
	Parts map[string]string `json:"parts"`
}

func (h *health) report() report {
	p := phase(h.phase.Load())
	r := report{Ready: p == phaseServing, Phase: p.String(), Parts: make(map[string]string, len(h.parts))}
	for name, check := range h.parts {
		r.Parts[name] = "ok"
		if err := check(); err != nil {
			r.Ready = false
			r.Parts[name] = err.Error()
		}
	}
	return r
}

// ready answers 200 when every part works and the server takes requests, and
// 503 otherwise, in both cases with the parts.
func (h *health) ready(w http.ResponseWriter, _ *http.Request) {
	r := h.report()
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	if !r.Ready {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	_ = json.NewEncoder(w).Encode(r) // the peer has gone: nobody to tell
}
