// Package api serves the JSON API of the server under /api/.
//
//	h := api.New(api.Config{Store: st, Ledger: ledger, Registerer: reg})
//	mux.Handle("/api/", h)
//
// openapi.json beside this file describes every path and field; it is served
// at /api/openapi.json, and a test keeps it true. What is answered comes from
// package query.
package api

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/kaizen-go/kaizen/audit"
	"github.com/kaizen-go/kaizen/server/internal/query"
)

//go:embed openapi.json
var openAPI []byte

// Ledger is the audit ledger. *audit.Ledger is one.
type Ledger interface {
	AppendBatch(ctx context.Context, entries []audit.Entry) ([]audit.Receipt, error)
	Query(ctx context.Context, q audit.Query) iter.Seq2[audit.Entry, error]
	Count(ctx context.Context, q audit.Query) (int64, error)
	Checkpoint() audit.Checkpoint
	Proof(index int64) (audit.Proof, error)
	Size() int64
	VerifierKey() string
	Origin() string
}

// Config tunes the handler that New makes. Store must be set.
type Config struct {
	// Store holds spans and log records. *store.Store is one.
	Store query.Store
	// Ledger is the audit ledger. If nil, the paths under /api/audit answer
	// 503 and counts of entries are zero.
	Ledger Ledger
	// Archive is where POST /api/audit/archive copies sealed segments. If nil,
	// it answers 409.
	Archive audit.ArchiveTarget
	// Registerer takes kaizen_server_query_duration_seconds. If nil, it is
	// not exposed.
	Registerer prometheus.Registerer
	// Logger is told of faults. If nil, nothing is logged.
	Logger *slog.Logger
	// Now is the clock for times such as "24h" (ago). If nil, time.Now.
	Now func() time.Time
}

// api is the handler's state.
type api struct {
	cfg      Config
	q        *query.Engine
	duration *prometheus.HistogramVec
}

// route is one path. The test of openapi.json goes through all of them.
type route struct {
	method, pattern string
	params          []string // that the query may have
	serve           func(a *api, r *http.Request, p params) (any, error)
	answer          any // zero value of what serve returns; nil for raw
}

var windowParams = []string{"since", "until"}

var pageParams = []string{"since", "until", "limit", "cursor"}

func with(base []string, more ...string) []string {
	return append(base[:len(base):len(base)], more...)
}

func routes() []route {
	return []route{
		{"GET", "/api/traces", with(pageParams, "agent", "status", "session", "user", "q"), (*api).traces, query.TracePage{}},
		{"GET", "/api/traces/{trace_id}", nil, (*api).trace, query.TraceDetail{}},
		{"GET", "/api/spans", with(pageParams, "trace_id", "run_id", "agent", "kind", "status", "tool", "model"), (*api).spans, query.SpanPage{}},
		{"GET", "/api/spans/{trace_id}/{span_id}", nil, (*api).span, query.SpanDetail{}},
		{"GET", "/api/logs", with(pageParams, "trace_id", "span_id", "run_id", "agent", "level", "logger", "q", "order"), (*api).logs, query.LogPage{}},
		{"GET", "/api/sessions", pageParams, (*api).sessions, query.SessionPage{}},
		{"GET", "/api/agents", windowParams, (*api).agents, agentList{}},
		{"GET", "/api/costs", with(windowParams, "by"), (*api).costs, query.Costs{}},
		{"GET", "/api/stats", windowParams, (*api).stats, query.Totals{}},
		{"GET", "/api/audit", with(pageParams, "agent", "user", "action", "result", "trace", "span", "run", "session", "subject", "form", "order", "count", "by", "top"), (*api).entries, entryPage{}},
		{"POST", "/api/audit", nil, (*api).appendEntries, receipts{}},
		{"POST", "/api/audit/erase", nil, (*api).erase, erasure{}},
		{"POST", "/api/audit/hold", nil, (*api).hold, placed{}},
		{"POST", "/api/audit/release", nil, (*api).release, released{}},
		{"GET", "/api/audit/holds", nil, (*api).holds, holdList{}},
		{"GET", "/api/audit/segments", nil, (*api).segments, segmentList{}},
		{"POST", "/api/audit/seal", nil, (*api).seal, segmentList{}},
		{"POST", "/api/audit/retention", nil, (*api).retention, pruned{}},
		{"POST", "/api/audit/rotate-key", nil, (*api).rotateKey, rotated{}},
		{"POST", "/api/audit/archive", nil, (*api).archive, archived{}},
		{"GET", "/api/audit/checkpoint", nil, (*api).checkpoint, checkpoint{}},
		{"GET", "/api/audit/proof/{index}", nil, (*api).proof, nil},
		{"GET", "/api/openapi.json", nil, (*api).openAPI, nil},
	}
}

// New returns the handler for all paths under /api/. It panics if cfg.Store is
// nil.
func New(cfg Config) http.Handler {
	if cfg.Store == nil {
		panic("api: New without a Store")
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	a := &api{cfg: cfg, duration: newDuration(cfg.Registerer)}
	if cfg.Ledger != nil {
		a.q = query.New(cfg.Store, cfg.Ledger)
	} else {
		a.q = query.New(cfg.Store, nil)
	}
	byPattern := map[string]map[string]route{}
	for _, rt := range routes() {
		if byPattern[rt.pattern] == nil {
			byPattern[rt.pattern] = map[string]route{}
		}
		byPattern[rt.pattern][rt.method] = rt
	}
	mux := http.NewServeMux()
	for pattern, methods := range byPattern {
		mux.Handle(pattern, a.handler(methods))
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		a.fail(w, r, &apiError{http.StatusNotFound, codeNotFound, "no such path: " + r.URL.Path})
	})
	return mux
}

func newDuration(reg prometheus.Registerer) *prometheus.HistogramVec {
	h := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name:                            "kaizen_server_query_duration_seconds",
		Help:                            "Time to answer a request of the JSON API.",
		Buckets:                         []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
		NativeHistogramBucketFactor:     1.1,
		NativeHistogramMaxBucketNumber:  160,
		NativeHistogramMinResetDuration: time.Hour,
	}, []string{"endpoint"})
	if reg == nil {
		return h
	}
	err := reg.Register(h)
	var already prometheus.AlreadyRegisteredError
	if errors.As(err, &already) {
		if old, ok := already.ExistingCollector.(*prometheus.HistogramVec); ok {
			return old
		}
	}
	if err != nil {
		panic("api: register: " + err.Error()) // a clash of names is a fault of ours
	}
	return h
}

// handler serves the methods of one path.
func (a *api) handler(methods map[string]route) http.Handler {
	var allow []string
	for _, m := range []string{"GET", "POST"} {
		if _, ok := methods[m]; ok {
			allow = append(allow, m)
		}
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		method := r.Method
		if method == http.MethodHead {
			method = http.MethodGet
		}
		rt, ok := methods[method]
		if !ok {
			w.Header().Set("Allow", strings.Join(allow, ", "))
			a.fail(w, r, &apiError{http.StatusMethodNotAllowed, "method_not_allowed", "use " + strings.Join(allow, " or ")})
			return
		}
		begin := time.Now()
		a.answer(w, r, rt)
		a.duration.WithLabelValues(rt.pattern).Observe(time.Since(begin).Seconds())
	})
}

func (a *api) answer(w http.ResponseWriter, r *http.Request, rt route) {
	v, err := a.call(r, rt)
	if err != nil {
		a.fail(w, r, err)
		return
	}
	if raw, ok := v.(rawAnswer); ok {
		a.write(w, http.StatusOK, raw.contentType, raw.body)
		return
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false) // no browser takes application/json for HTML
	if err := enc.Encode(v); err != nil {
		a.fail(w, r, fmt.Errorf("api: encode the answer: %w", err))
		return
	}
	a.write(w, http.StatusOK, "application/json", b.Bytes())
}

// call runs a route. A panic ends the request, not the server.
func (a *api) call(r *http.Request, rt route) (v any, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("api: panic: %v\n%s", p, debug.Stack())
		}
	}()
	p, err := parseParams(r, rt.params, a.cfg.Now())
	if err != nil {
		return nil, err
	}
	return rt.serve(a, r, p)
}

// rawAnswer is an answer that is no JSON of ours.
type rawAnswer struct {
	contentType string
	body        []byte
}

func (a *api) write(w http.ResponseWriter, code int, contentType string, b []byte) {
	h := w.Header()
	h.Set("Content-Type", contentType)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-store") // live, and maybe personal
	w.WriteHeader(code)
	if _, err := w.Write(b); err != nil {
		a.cfg.Logger.Debug("api: answer not sent", "error", err)
	}
}

func (a *api) openAPI(*http.Request, params) (any, error) {
	return rawAnswer{"application/json", openAPI}, nil
}
