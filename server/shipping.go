package server

import (
	"fmt"
	"path/filepath"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/kaizen-go/kaizen/server/internal/logship"
)

// shipFolder is where copies wait that could not be sent yet.
const shipFolder = "ship"

// openShipping starts to copy logs and audit headers, if that is asked for.
// It comes after the stores are open, and is closed before they are.
func (s *Server) openShipping() error {
	if s.cfg.ShipLogs == "" {
		return nil
	}
	ship, err := logship.Open(logship.Config{
		URL: s.cfg.ShipLogs, User: s.cfg.ShipLogsUser, PasswordFile: s.cfg.ShipLogsPasswordFile,
		APIKeyFile: s.cfg.ShipLogsKeyFile, CAFile: s.cfg.ShipLogsCA,
		SpoolDir: filepath.Join(s.cfg.DataDir, shipFolder), Logger: s.logger,
	})
	if err != nil {
		return fmt.Errorf("server: %w: ship logs: %w", ErrConfig, err)
	}
	s.stops.add("log shipping", ship.Close)
	s.parts.ship = ship
	s.parts.store.OnLogs(ship.Logs)
	if err := s.parts.registry.Register(shipCollector{ship}); err != nil {
		return fmt.Errorf("server: register metrics: %w", err)
	}
	return nil
}

// shipCollector shows the counts of the shipper in the families that all
// queues share.
type shipCollector struct{ ship *logship.Shipper }

var (
	shipQueued = prometheus.NewDesc("kaizen_telemetry_queue_length", "Records waiting to be written or exported.", []string{"signal"}, nil)
	shipSpool  = prometheus.NewDesc("kaizen_telemetry_spool_bytes", "Disk space that records take which wait for the server.", []string{"signal"}, nil)
	shipDrops  = prometheus.NewDesc("kaizen_telemetry_dropped_total", "Telemetry that was dropped or folded into another series.", []string{"signal", "reason"}, nil)
	shipFails  = prometheus.NewDesc("kaizen_telemetry_export_failures_total", "Exports that failed.", []string{"signal", "reason"}, nil)
)

// Describe implements [prometheus.Collector]. It says nothing, which registers
// the collector unchecked: other parts add to the same families.
func (shipCollector) Describe(chan<- *prometheus.Desc) {}

// Collect implements [prometheus.Collector].
func (c shipCollector) Collect(ch chan<- prometheus.Metric) {
	for signal, st := range c.ship.Stats() {
		ch <- prometheus.MustNewConstMetric(shipQueued, prometheus.GaugeValue, float64(st.Queued+st.Spooled), signal)
		ch <- prometheus.MustNewConstMetric(shipSpool, prometheus.GaugeValue, float64(st.SpoolBytes), signal)
		for reason, n := range st.Dropped {
			ch <- prometheus.MustNewConstMetric(shipDrops, prometheus.CounterValue, float64(n), signal, reason)
		}
		for reason, n := range st.Failures {
			ch <- prometheus.MustNewConstMetric(shipFails, prometheus.CounterValue, float64(n), signal, reason)
		}
	}
}
