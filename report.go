package kaizen

import (
	"github.com/kaizen-go/kaizen/agentlog"
	"github.com/kaizen-go/kaizen/internal/ship"
	"github.com/kaizen-go/kaizen/metrics"
)

// This file lets the metrics tell what happens to records on this machine: in
// the loggers and their sinks, and in the queue of the local ledger. What
// happens on the way to the server is told by reportSelf.

func (o *Observer) reportLocal() {
	m := o.metrics
	m.CounterFunc(metrics.TelemetryDropped, func() float64 { return float64(o.logs.Stats().Sampled) }, "logs", "sampled")
	m.CounterFunc(metrics.TelemetryExportFailures, func() float64 { return float64(o.logs.Stats().Errors) }, "logs", "sink")
	for _, sink := range o.cfg.LogSinks {
		switch s := sink.(type) {
		case interface{ Stats() agentlog.FileStats }:
			m.CounterFunc(metrics.TelemetryDropped, func() float64 { return float64(s.Stats().Dropped) }, "logs", "file_"+string(ship.QueueFull))
			m.CounterFunc(metrics.TelemetryExportFailures, func() float64 { return float64(s.Stats().Errors) }, "logs", "file")
		case interface{ Stats() agentlog.ElasticStats }:
			o.reportElastic(s.Stats)
		}
	}
	if o.audit.queue != nil {
		m.GaugeFunc(metrics.TelemetryQueueLength, func() float64 { return float64(len(o.audit.queue)) }, "audit")
	}
}

func (o *Observer) reportElastic(stats func() agentlog.ElasticStats) {
	m := o.metrics
	for _, reason := range dropReasons {
		m.CounterFunc(metrics.TelemetryDropped, func() float64 { return float64(stats().Dropped[string(reason)]) }, "logs", "elastic_"+string(reason))
	}
	m.CounterFunc(metrics.TelemetryExportFailures, func() (n float64) {
		for _, count := range stats().Failures {
			n += float64(count)
		}
		return n
	}, "logs", "elastic")
	m.GaugeFunc(metrics.TelemetryQueueLength, func() float64 {
		s := stats()
		return float64(s.Queued + s.Spooled)
	}, "logs")
	m.GaugeFunc(metrics.TelemetrySpoolBytes, func() float64 { return float64(stats().SpoolBytes) }, "logs")
}
