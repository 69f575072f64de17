package server

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// gauge is a number that the server reads when it is asked for its metrics.
func gauge(name, help string, f func() float64) prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, f)
}

// registerPlace adds the gauges of what the server stands on: its disk and its
// certificate. Those that this system does not tell are absent.
func (s *Server) registerPlace() error {
	dir := s.cfg.DataDir
	var list []prometheus.Collector
	if _, _, ok := diskSpace(dir); ok {
		list = append(list,
			gauge("kaizen_server_disk_free_bytes", "Space on the data directory's disk that the server may still use.", func() float64 {
				free, _, _ := diskSpace(dir)
				return free
			}),
			gauge("kaizen_server_disk_size_bytes", "Size of the data directory's disk.", func() float64 {
				_, size, _ := diskSpace(dir)
				return size
			}))
	}
	if s.cfg.tls != nil && len(s.cfg.tls.Certificates) > 0 && s.cfg.tls.Certificates[0].Leaf != nil {
		end := float64(s.cfg.tls.Certificates[0].Leaf.NotAfter.Unix())
		list = append(list, gauge("kaizen_server_certificate_expiry_timestamp_seconds", "When the server's TLS certificate expires, Unix seconds.",
			func() float64 { return end }))
	}
	limit := float64(s.cfg.MaxStoreBytes)
	list = append(list, gauge("kaizen_server_store_limit_bytes", "Memory that spans and log records may take.", func() float64 { return limit }))
	for _, c := range list {
		if err := s.parts.registry.Register(c); err != nil {
			return fmt.Errorf("server: register metrics: %w", err)
		}
	}
	return nil
}

// unfit are families of the metric storage whose names Prometheus's own linter
// refuses; what they tell is in others too.
var unfit = map[string]bool{
	"prometheus_engine_query_duration_histogram_seconds": true,
	"prometheus_tsdb_head_native_histogram_buckets":      true,
	"prometheus_tsdb_head_native_histogram_series":       true,
}

// fit leaves out the unfit families.
func fit(families []*dto.MetricFamily) []*dto.MetricFamily {
	out := families[:0]
	for _, f := range families {
		if !unfit[f.GetName()] {
			out = append(out, f)
		}
	}
	return out
}
