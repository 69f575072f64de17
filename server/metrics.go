package server

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/kaizen-go/kaizen/metrics"
	"github.com/kaizen-go/kaizen/server/internal/derive"
)

// scrapeLabels are the labels that the server's own series have in its store.
var scrapeLabels = map[string]string{"job": "kaizen"}

// registerMetrics fills the registry that /metrics shows, with what is derived
// from spans, what the ledger holds and what the stores take.
func (s *Server) registerMetrics(ctx context.Context) (*metrics.Metrics, error) {
	p := &s.parts
	m, err := metrics.New(metrics.Config{Registry: p.derived})
	if err != nil {
		return nil, fmt.Errorf("server: %w", err)
	}
	watchLedger(m, p.ledger)
	p.anchors.begin(m)
	if p.users, err = newActiveUsers(ctx, p.ledger); err != nil {
		return nil, err
	}
	if err := p.registry.Register(p.users.collector()); err != nil {
		return nil, fmt.Errorf("server: register metrics: %w", err)
	}
	if err := s.registerPlace(); err != nil {
		return nil, err
	}
	p.deriver = derive.New(m, derive.Config{})
	p.store.OnSpans(p.deriver.Spans)
	if err := p.store.Register(p.registry); err != nil {
		return nil, fmt.Errorf("server: %w", err)
	}
	for signal, size := range map[string]func() int64{
		"audit":   func() int64 { return p.ledger.Stats().Bytes },
		"samples": p.metrics.SizeBytes,
	} {
		if err := p.registry.Register(storeBytes(signal, size)); err != nil {
			return nil, fmt.Errorf("server: register metrics: %w", err)
		}
	}
	return m, nil
}

// storeBytes adds a store to the family that the telemetry store begins.
func storeBytes(signal string, size func() int64) prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name:        "kaizen_server_store_bytes",
		Help:        "Size of the telemetry store: estimated in memory, exact on disk.",
		ConstLabels: prometheus.Labels{"signal": signal, "place": "disk"},
	}, func() float64 { return float64(size()) })
}

// watchLedger sets the gauges of the ledger. An empty one has no oldest entry.
func watchLedger(m *metrics.Metrics, l serverLedger) {
	m.GaugeFunc(metrics.AuditLedgerEntries, func() float64 { return float64(l.Size()) })
	m.GaugeFunc(metrics.AuditLedgerBytes, func() float64 { return float64(l.Stats().Bytes) })
	m.GaugeFunc(metrics.AuditOldestEntry, func() float64 {
		oldest := l.Stats().Oldest
		if oldest.IsZero() {
			return math.NaN()
		}
		return float64(oldest.UnixNano()) / 1e9
	})
	// Nothing removes entries by their age: they are kept for ever.
	m.GaugeFunc(metrics.AuditRetention, func() float64 { return math.Inf(1) })
	m.BindCounter(metrics.AuditAppendFailures) // from zero, so that the first one is a rise
}

// gatherer gathers both registries, brought up to date first: runs that nobody
// ended do not stay active for ever just because no span arrives.
func (p *parts) gatherer() prometheus.Gatherer {
	return prometheus.GathererFunc(func() ([]*dto.MetricFamily, error) {
		p.deriver.Expire()
		own, ownErr := p.registry.Gather()
		derived, derivedErr := p.derived.Gather()
		return mergeFamilies(fit(own), derived), errors.Join(ownErr, derivedErr)
	})
}

// failure remembers the first error after which a part no longer works.
type failure struct {
	mu  sync.Mutex
	err error
}

func (f *failure) note(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err == nil {
		f.err = err
	}
}

func (f *failure) check() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.err
}
