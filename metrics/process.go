package metrics

import "github.com/prometheus/client_golang/prometheus"

// processUsage is what the operating system has counted for this process.
type processUsage struct {
	// voluntary and involuntary are context switches: the process gave the
	// processor up, or it was taken away.
	voluntary, involuntary float64
	// read and written are bytes that went to and from storage, not those that
	// the page cache answered. They are valid if hasIO.
	read, written float64
	hasIO         bool
}

// processCollector shows what Prometheus's own collector of process_* leaves
// out. Where the system does not tell, the families are absent, not zero.
type processCollector struct{ switches, io *prometheus.Desc }

func newProcessCollector() processCollector {
	return processCollector{
		switches: prometheus.NewDesc("kaizen_process_context_switches_total", "Context switches of the process.", []string{"kind"}, nil),
		io:       prometheus.NewDesc("kaizen_process_storage_bytes_total", "Bytes that the process read from and wrote to storage.", []string{"direction"}, nil),
	}
}

// Describe implements [prometheus.Collector].
func (c processCollector) Describe(ch chan<- *prometheus.Desc) {
	ch <- c.switches
	ch <- c.io
}

// Collect implements [prometheus.Collector].
func (c processCollector) Collect(ch chan<- prometheus.Metric) {
	u, ok := readProcessUsage()
	if !ok {
		return
	}
	counter := func(d *prometheus.Desc, v float64, label string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, v, label)
	}
	counter(c.switches, u.voluntary, "voluntary")
	counter(c.switches, u.involuntary, "involuntary")
	if u.hasIO {
		counter(c.io, u.read, "read")
		counter(c.io, u.written, "write")
	}
}
