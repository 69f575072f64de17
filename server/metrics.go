package server

import (
	"github.com/prometheus/client_golang/prometheus"
)

// stockTaker reports what ledger and stores hold, asked when it is collected.
type stockTaker struct {
	parts *parts

	entries, ledgerBytes, oldest, storeBytes, storeItems *prometheus.Desc
}

func newStockTaker(p *parts) *stockTaker {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(name, help, labels, nil)
	}
	return &stockTaker{
		parts:       p,
		entries:     desc("kaizen_audit_ledger_entries", "Entries in the audit ledger."),
		ledgerBytes: desc("kaizen_audit_ledger_bytes", "Bytes that the audit ledger takes on disk."),
		oldest:      desc("kaizen_audit_oldest_entry_timestamp_seconds", "Time of the oldest entry in the audit ledger, in Unix seconds."),
		storeBytes:  desc("kaizen_server_store_bytes", "Bytes that a store takes on disk.", "store"),
		storeItems:  desc("kaizen_server_store_items", "Items that the telemetry store holds.", "kind"),
	}
}

// Describe implements [prometheus.Collector].
func (t *stockTaker) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{t.entries, t.ledgerBytes, t.oldest, t.storeBytes, t.storeItems} {
		ch <- d
	}
}

// Collect implements [prometheus.Collector]. An empty ledger has no oldest
// entry, and reports none.
func (t *stockTaker) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	ledger := t.parts.ledger.Stats()
	gauge(t.entries, float64(ledger.Entries))
	gauge(t.ledgerBytes, float64(ledger.Bytes))
	if !ledger.Oldest.IsZero() {
		gauge(t.oldest, float64(ledger.Oldest.UnixNano())/1e9)
	}
	held := t.parts.store.Stats()
	gauge(t.storeBytes, float64(ledger.Bytes), "audit")
	gauge(t.storeBytes, float64(held.DiskBytes), "telemetry")
	gauge(t.storeBytes, float64(t.parts.metrics.SizeBytes()), "metrics")
	gauge(t.storeItems, float64(held.Spans), "spans")
	gauge(t.storeItems, float64(held.Traces), "traces")
	gauge(t.storeItems, float64(held.Logs), "logs")
}
