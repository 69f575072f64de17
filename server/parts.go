package server

import (
	"context"
	"fmt"
	"net/http"
	"path/filepath"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/kaizen-go/kaizen/audit"
	"github.com/kaizen-go/kaizen/price"
	"github.com/kaizen-go/kaizen/server/internal/ingest"
	"github.com/kaizen-go/kaizen/server/internal/prom"
	"github.com/kaizen-go/kaizen/server/internal/store"
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
	registry *prometheus.Registry
	ledger   *audit.Ledger
	metrics  *prom.DB
	store    *store.Store
	ingest   *ingest.Server

	api, jaeger, ui http.Handler
}

// openParts opens the stores and joins them: what ingest takes goes to the
// store, whose new spans become metrics.
func (s *Server) openParts(context.Context) error {
	p := &s.parts
	p.registry = prometheus.NewRegistry()
	if err := s.openStores(); err != nil {
		return err
	}
	if err := s.registerMetrics(); err != nil {
		return err
	}
	p.ingest = ingest.New(ingest.Config{
		Store:        p.store,
		Registerer:   p.registry,
		MaxBodyBytes: s.cfg.MaxRequestBytes,
		Logger:       s.logger,
	})
	p.ui = ui.Handler()
	p.api, p.jaeger = http.NotFoundHandler(), http.NotFoundHandler()
	s.health.parts = map[string]func() error{}
	return nil
}

// openStores opens the ledger first, so that it is closed last.
func (s *Server) openStores() (err error) {
	p, dir := &s.parts, s.cfg.DataDir
	p.ledger, err = audit.Open(filepath.Join(dir, ledgerFolder), audit.Config{
		KeyDir: filepath.Join(dir, keysFolder),
		Logger: s.logger,
	})
	if err != nil {
		return fmt.Errorf("server: open ledger: %w", err)
	}
	s.stops.addClose("ledger", p.ledger.Close)
	p.metrics, err = prom.Open(filepath.Join(dir, metricsFolder), prom.Config{
		Retention:  s.cfg.Retention,
		Version:    s.cfg.Version,
		Logger:     s.logger,
		Registerer: p.registry,
	})
	if err != nil {
		return fmt.Errorf("server: open metrics: %w", err)
	}
	s.stops.addClose("metrics", p.metrics.Close)
	p.store, err = store.Open(filepath.Join(dir, telemetryFolder), store.Config{
		Pricer:  price.Default(),
		Metrics: p.metrics,
		Logger:  s.logger,
	})
	if err != nil {
		return fmt.Errorf("server: open telemetry: %w", err)
	}
	s.stops.addClose("telemetry", p.store.Close)
	return nil
}

// registerMetrics fills the registry that /metrics shows.
func (s *Server) registerMetrics() error {
	for _, c := range []prometheus.Collector{
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		newStockTaker(&s.parts),
	} {
		if err := s.parts.registry.Register(c); err != nil {
			return fmt.Errorf("server: register metrics: %w", err)
		}
	}
	scrape := s.parts.metrics.SelfScrape(s.parts.registry, s.cfg.ScrapeInterval, map[string]string{"job": "kaizen"})
	s.stops.addClose("self-scrape", func() error { scrape(); return nil })
	return nil
}
