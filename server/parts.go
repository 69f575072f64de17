package server

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"path/filepath"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/kaizen-go/kaizen/audit/shard"
	"github.com/kaizen-go/kaizen/price"
	"github.com/kaizen-go/kaizen/server/internal/api"
	"github.com/kaizen-go/kaizen/server/internal/derive"
	"github.com/kaizen-go/kaizen/server/internal/ingest"
	"github.com/kaizen-go/kaizen/server/internal/jaeger"
	"github.com/kaizen-go/kaizen/server/internal/logship"
	"github.com/kaizen-go/kaizen/server/internal/loki"
	"github.com/kaizen-go/kaizen/server/internal/prom"
	"github.com/kaizen-go/kaizen/server/internal/query"
	"github.com/kaizen-go/kaizen/server/internal/store"
	"github.com/kaizen-go/kaizen/server/internal/tlog"
	"github.com/kaizen-go/kaizen/server/internal/ui"
)

// The folders of a data directory.
const (
	ledgerFolder    = "audit"
	telemetryFolder = "telemetry"
	metricsFolder   = "metrics"
	keysFolder      = "keys"
)

// parts are what the server is put together from.
type parts struct {
	// registry holds what the server says of itself, derived what it derives
	// from spans. They share families (what was dropped), which one registry
	// cannot hold twice.
	registry, derived *prometheus.Registry

	ledger  serverLedger
	shards  http.Handler // records the checkpoints of other ledgers
	metrics *prom.DB
	store   *store.Store
	deriver *derive.Deriver
	users   *activeUsers
	ingest  *ingest.Server
	ship    *logship.Shipper // nil if nothing is shipped

	api, jaeger, log, loki, ui http.Handler

	// anchors counts what anchors and witnesses of the ledger answer.
	anchors anchorCounts

	// These are set by the first append that found ledger or log broken.
	ledgerFailed, telemetryFailed failure
}

// openParts opens the stores and joins them: what ingest takes goes to the
// store, whose new spans become metrics.
func (s *Server) openParts(ctx context.Context) error {
	p := &s.parts
	p.registry, p.derived = prometheus.NewRegistry(), prometheus.NewRegistry()
	if err := s.openStores(); err != nil {
		return err
	}
	m, err := s.registerMetrics(ctx)
	if err != nil {
		return err
	}
	if err := s.openShipping(); err != nil {
		return err
	}
	p.ingest = ingest.New(ingest.Config{
		Store:        watchedStore{p.store, &p.telemetryFailed},
		Registerer:   p.registry,
		MaxBodyBytes: s.cfg.MaxRequestBytes,
		Logger:       s.logger,
	})
	p.jaeger = jaeger.New(jaegerSource{p.store}, jaeger.Config{Logger: s.logger})
	p.log = tlog.New(tlog.Config{Ledger: p.ledger, Witnessed: witnessed(p.ledger), Private: s.guard.Keyed(), Logger: s.logger})
	p.loki = loki.New(loki.Config{Ledger: p.ledger, Logs: query.New(p.store, p.ledger), Logger: s.logger})
	recorder, err := shard.NewRecorder(ctx, p.ledger)
	if err != nil {
		return fmt.Errorf("server: %w", err)
	}
	p.shards = shard.Handler(recorder, p.ledger)
	p.ui = ui.Handler()
	p.api = api.New(api.Config{
		Store:      p.store,
		Ledger:     apiLedger(watchedLedger{p.ledger, m, p.users, &p.ledgerFailed, p.ship}),
		Archive:    s.cfg.Audit.archive(),
		Registerer: p.registry,
		Logger:     s.logger,
	})
	s.health.parts = map[string]func() error{
		"ledger":    p.ledgerFailed.check,
		"telemetry": p.telemetryFailed.check,
	}
	s.startAuditChecks(m)
	stop := p.metrics.SelfScrape(p.gatherer(), s.cfg.ScrapeInterval, scrapeLabels)
	s.stops.addClose("self-scrape", func() error { stop(); return nil })
	return nil
}

// openStores opens the ledger first, so that it is closed last.
func (s *Server) openStores() (err error) {
	p, dir := &s.parts, s.cfg.DataDir
	if p.ledger, err = s.openLedger(); err != nil {
		return fmt.Errorf("server: open ledger: %w", err)
	}
	s.stops.addClose("ledger", p.ledger.Close)
	exemplars := &lateExemplars{}
	p.metrics, err = prom.Open(filepath.Join(dir, metricsFolder), prom.Config{
		Retention:  s.cfg.MetricsRetention,
		Version:    s.cfg.Version,
		Exemplars:  exemplars,
		Logger:     slog.New(quiet{s.logger.Handler()}),
		Registerer: p.registry,
	})
	if err != nil {
		return fmt.Errorf("server: open metrics: %w", err)
	}
	s.stops.addClose("metrics", p.metrics.Close)
	p.store, err = store.Open(filepath.Join(dir, telemetryFolder), store.Config{
		MaxResidentBytes: s.cfg.MaxStoreBytes,
		Pricer:           price.Default(),
		Metrics:          p.metrics,
		Logger:           s.logger,
	})
	if err != nil {
		return fmt.Errorf("server: open telemetry: %w", err)
	}
	s.stops.addClose("telemetry", p.store.Close)
	exemplars.source = derive.Exemplars(p.store, scrapeLabels)
	return nil
}

// quiet turns the messages of the metric storage down by one level: it tells
// at info what only its authors want to know.
type quiet struct{ slog.Handler }

const oneLevel = slog.LevelInfo - slog.LevelDebug

func (q quiet) Enabled(ctx context.Context, l slog.Level) bool {
	return q.Handler.Enabled(ctx, turnDown(l))
}

func (q quiet) Handle(ctx context.Context, r slog.Record) error {
	r.Level = turnDown(r.Level)
	return q.Handler.Handle(ctx, r)
}

func (q quiet) WithAttrs(as []slog.Attr) slog.Handler { return quiet{q.Handler.WithAttrs(as)} }
func (q quiet) WithGroup(name string) slog.Handler    { return quiet{q.Handler.WithGroup(name)} }

// turnDown leaves warnings and errors as they are.
func turnDown(l slog.Level) slog.Level {
	if l >= slog.LevelWarn {
		return l
	}
	return l - oneLevel
}
