// Package api serves the JSON API of the server under /api/.
//
//	h := api.New(api.Config{Store: st, Ledger: ledger, Registerer: reg})
//	mux.Handle("/api/", h)
package api

import (
	"context"
	"iter"
	"log/slog"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/kaizen-go/kaizen/audit"
	"github.com/kaizen-go/kaizen/server/internal/query"
)

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
	// Registerer takes kaizen_server_query_duration_seconds. If nil, it is
	// not exposed.
	Registerer prometheus.Registerer
	// Logger is told of faults. If nil, nothing is logged.
	Logger *slog.Logger
}

// New returns the handler for all paths under /api/.
func New(cfg Config) http.Handler { return http.NotFoundHandler() }
