package store

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

// Register adds the store's size to reg as kaizen_server_store_bytes: labels
// signal (traces and logs share a log on disk) and place.
func (s *Store) Register(reg prometheus.Registerer) error {
	for _, g := range []struct {
		signal, place string
		value         func(Stats) int64
	}{
		{"traces", "memory", func(st Stats) int64 { return st.ResidentBytes - st.LogBytes }},
		{"logs", "memory", func(st Stats) int64 { return st.LogBytes }},
		{"traces_logs", "disk", func(st Stats) int64 { return st.DiskBytes - st.MetricDiskBytes }},
		{"metrics", "disk", func(st Stats) int64 { return st.MetricDiskBytes }},
	} {
		err := reg.Register(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name:        "kaizen_server_store_bytes",
			Help:        "Size of the telemetry store: estimated in memory, exact on disk.",
			ConstLabels: prometheus.Labels{"signal": g.signal, "place": g.place},
		}, func() float64 { return float64(g.value(s.Stats())) }))
		if err != nil {
			return fmt.Errorf("store: register metrics: %w", err)
		}
	}
	return nil
}
