// Package ingest takes telemetry in over OTLP: HTTP with protobuf or JSON, and
// gRPC. It stores nothing itself. A request is answered with success when the
// store says that its items are durable.
//
//	srv := ingest.New(ingest.Config{Store: st, Registerer: reg})
//	http.Serve(l, srv.Handler())
//	srv.RegisterGRPC(grpcServer)
package ingest

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"net/http"
	"runtime/debug"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"google.golang.org/grpc/codes"

	"github.com/kaizen-go/kaizen/server/internal/store"
)

// Store takes batches. *store.Store is one. What it removes from a batch as
// invalid it counts in its answer.
type Store interface {
	AppendTraces(context.Context, ptrace.Traces) (store.Result, error)
	AppendLogs(context.Context, plog.Logs) (store.Result, error)
	AppendMetrics(context.Context, pmetric.Metrics) (store.Result, error)
}

// Config tunes a [Server]. Store must be set; the zero value of the rest is fit
// for use.
type Config struct {
	// Store takes what arrives.
	Store Store
	// Registerer takes the server's own metrics. If nil, they are not exposed.
	Registerer prometheus.Registerer
	// MaxBodyBytes bounds a request's body, as sent and as unpacked. If zero,
	// 64 MiB.
	MaxBodyBytes int64
	// MaxInFlightBytes bounds the unpacked bodies of all requests being served
	// together; beyond it a request is refused with 503. If zero, four times
	// MaxBodyBytes. Decoded, a body takes several times its length.
	MaxInFlightBytes int64
	// Logger is told of panics and of failures of the store. If nil, nothing
	// is logged.
	Logger *slog.Logger
}

// Server answers OTLP requests. Its methods may be called at once.
type Server struct {
	cfg     Config
	metrics *serverMetrics
	budget  budget
}

// New returns a server of cfg. It panics if cfg.Store is nil.
func New(cfg Config) *Server {
	if cfg.Store == nil {
		panic("ingest: New without a Store")
	}
	if cfg.MaxBodyBytes <= 0 {
		cfg.MaxBodyBytes = 64 << 20
	}
	if cfg.MaxInFlightBytes <= 0 {
		cfg.MaxInFlightBytes = min(4*cfg.MaxBodyBytes, math.MaxInt64/2)
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return &Server{cfg: cfg, metrics: newMetrics(cfg.Registerer), budget: budget{limit: cfg.MaxInFlightBytes}}
}

// Handler serves POST /v1/traces, /v1/metrics, /v1/logs and
// /api/public/otel/v1/traces (the path that Langfuse's clients use).
func (s *Server) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/v1/traces", s.route(traces))
	mux.Handle("/v1/metrics", s.route(metrics))
	mux.Handle("/v1/logs", s.route(logs))
	mux.Handle("/api/public/otel/v1/traces", s.route(traces))
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		writeError(w, r, &failure{http: http.StatusNotFound, code: codes.NotFound, msg: "no OTLP endpoint at " + r.URL.Path})
	})
	return mux
}

// failure is an error as the sender sees it.
type failure struct {
	http       int
	code       codes.Code
	msg        string
	retryAfter time.Duration // zero: a retry would not help
	outcome    string        // label of kaizen_server_ingest_total
}

func (f *failure) Error() string { return f.msg }

func badRequest(msg string) *failure {
	return &failure{http: http.StatusBadRequest, code: codes.InvalidArgument, msg: msg, outcome: outcomeInvalid}
}

// answer is what became of a request.
type answer struct {
	rejected int64
	reason   string
	req      request
}

// caught, deferred, makes a failure of a panic: it ends the request, not the
// server. It is the last line, and counted.
func (s *Server) caught(sig signal, fail **failure) {
	p := recover()
	if p == nil {
		return
	}
	s.cfg.Logger.Error("ingest: panic", "signal", sig, "panic", p, "stack", string(debug.Stack()))
	s.metrics.panics.WithLabelValues(string(sig)).Inc()
	s.metrics.failed(sig, outcomeFailed)
	*fail = &failure{http: http.StatusInternalServerError, code: codes.Internal, msg: "internal error"}
}

// take decodes and stores one body.
func (s *Server) take(ctx context.Context, sig signal, body []byte, isJSON bool) (a answer, fail *failure) {
	defer s.caught(sig, &fail)
	defer func() {
		if fail != nil {
			s.metrics.failed(sig, fail.outcome)
		}
	}()
	s.metrics.bytes.WithLabelValues(string(sig)).Add(float64(len(body)))
	req, cut, err := decode(sig, body, isJSON)
	if err != nil {
		return answer{}, badRequest(err.Error())
	}
	items := req.count()
	res, err := req.append(ctx, s.cfg.Store)
	if err != nil {
		return answer{}, s.storeFailure(sig, items, err)
	}
	s.metrics.taken(sig, res, cut)
	a = answer{rejected: int64(res.Rejected + cut.items), reason: cut.reason, req: req}
	if a.reason == "" {
		a.reason = res.Reason
	}
	return a, nil
}

// storeFailure translates an error of the store. Nothing of the batch is
// stored, or not known to be, and the sender should try again.
func (s *Server) storeFailure(sig signal, items int, err error) *failure {
	f := &failure{http: http.StatusServiceUnavailable, code: codes.Unavailable, retryAfter: 5 * time.Second, outcome: outcomeFailed}
	switch {
	case errors.Is(err, store.ErrFull):
		f.msg, f.retryAfter, f.outcome = "the store is full", 30*time.Second, outcomeRefused
		s.metrics.dropped.WithLabelValues(string(sig), "store_full").Add(float64(items))
	case errors.Is(err, store.ErrClosed):
		f.msg, f.outcome = "the server is shutting down", outcomeRefused
	default:
		f.msg = "the batch could not be stored"
		s.cfg.Logger.Error("ingest: store", "signal", sig, "items", items, "error", err)
	}
	return f
}
