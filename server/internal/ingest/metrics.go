package ingest

import (
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/kaizen-go/kaizen/server/internal/store"
)

// Values of the label outcome. The first three count items, the others
// requests, of which the items are not known or not kept.
const (
	outcomeAccepted  = "accepted"
	outcomeDuplicate = "duplicate"
	outcomeRejected  = "rejected"
	outcomeInvalid   = "invalid_request"
	outcomeRefused   = "refused_request"
	outcomeFailed    = "failed_request"
)

type serverMetrics struct {
	total, bytes, dropped, panics *prometheus.CounterVec
	lag                           *prometheus.HistogramVec
}

func newMetrics(reg prometheus.Registerer) *serverMetrics {
	m := &serverMetrics{
		total: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "kaizen_server_ingest_total",
			Help: "Items taken in by outcome (accepted, duplicate, rejected), and requests that came to nothing (invalid_request, refused_request, failed_request).",
		}, []string{"signal", "outcome"}),
		bytes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "kaizen_server_ingest_bytes_total",
			Help: "Bytes of request bodies, unpacked.",
		}, []string{"signal"}),
		dropped: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "kaizen_telemetry_dropped_total",
			Help: "Items that were not kept, by reason.",
		}, []string{"signal", "reason"}),
		panics: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "kaizen_server_ingest_panics_total",
			Help: "Requests that ended in a fault of the server.",
		}, []string{"signal"}),
		lag: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:                            "kaizen_server_ingest_lag_seconds",
			Help:                            "Time from the newest item of a request to the moment it was stored.",
			Buckets:                         []float64{.01, .05, .1, .5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 7200},
			NativeHistogramBucketFactor:     1.1,
			NativeHistogramMaxBucketNumber:  160,
			NativeHistogramMinResetDuration: time.Hour,
		}, []string{"signal"}),
	}
	if reg != nil {
		m.total, m.bytes, m.dropped = register(reg, m.total), register(reg, m.bytes), register(reg, m.dropped)
		m.panics, m.lag = register(reg, m.panics), register(reg, m.lag)
	}
	return m
}

// register adds c to reg. A part of the same program may count into the same
// family (kaizen_telemetry_dropped_total): then its collector is used.
func register[C prometheus.Collector](reg prometheus.Registerer, c C) C {
	err := reg.Register(c)
	var already prometheus.AlreadyRegisteredError
	if errors.As(err, &already) {
		if old, ok := already.ExistingCollector.(C); ok {
			return old
		}
	}
	if err != nil && !errors.As(err, &already) {
		panic("ingest: register: " + err.Error()) // a clash of names is a fault of ours
	}
	return c
}

func (m *serverMetrics) failed(sig signal, outcome string) {
	m.total.WithLabelValues(string(sig), outcome).Inc()
}

func (m *serverMetrics) taken(sig signal, res store.Result, cut repaired) {
	s := string(sig)
	m.total.WithLabelValues(s, outcomeAccepted).Add(float64(res.Accepted - res.Duplicates))
	m.total.WithLabelValues(s, outcomeDuplicate).Add(float64(res.Duplicates))
	m.total.WithLabelValues(s, outcomeRejected).Add(float64(res.Rejected + cut.items))
	for reason, n := range res.RejectedBy {
		m.dropped.WithLabelValues(s, reason).Add(float64(n))
	}
	if cut.items > 0 {
		m.dropped.WithLabelValues(s, "malformed").Add(float64(cut.items))
	}
	if !res.Newest.IsZero() {
		m.lag.WithLabelValues(s).Observe(max(0, time.Since(res.Newest).Seconds()))
	}
}
