package otlp

import "github.com/kaizen-go/kaizen/internal/ship"

// Stats are the counts of an [Exporter] since it was made, by signal. Audit is
// the sum over all [Lines].
type Stats struct {
	Traces, Metrics, Logs, Audit SignalStats
}

// SignalStats are the counts of one signal. At any moment
// Offered + Adopted = Sent + sum(Dropped) + Queued + Spooled.
// The records are spans and announcements of runs, metric families (big ones in
// several parts), log records, and lines.
type SignalStats struct {
	Offered int64 // records that were to be sent, dropped ones included
	Adopted int64 // records found in the spool of a dead process
	Sent    int64 // records that the server acknowledged

	Queued      int64 // records in memory
	QueuedBytes int64 // their size in memory, by estimate
	Spooled     int64 // records on disk
	SpoolBytes  int64 // disk space that they take

	// Dropped counts records by reason: queue_full, spool_full, rejected,
	// too_large, shutdown, encode, corrupt (a damaged spool file).
	Dropped map[string]int64
	// Failures counts failed attempts by reason: network, timeout, http_503 and
	// the like; for metrics also gather.
	Failures map[string]int64

	CutValues    int64 // attribute values and bodies that were cut
	SpoolErrors  int64 // operations on the spool that failed
	SpoolCorrupt int64 // damaged spool files that were kept aside
}

// Stats returns the counts; those of one signal belong to one moment.
func (e *Exporter) Stats() Stats {
	s := Stats{
		Traces:  signalStats(e.traces.Stats(), e.traces.cuts.Load()),
		Metrics: signalStats(e.metrics.Stats(), 0),
		Logs:    signalStats(e.logs.Stats(), e.logs.cuts.Load()),
		Audit:   signalStats(ship.Stats{}, 0),
	}
	if n := e.metrics.gatherErr.Load(); n > 0 {
		s.Metrics.Failures["gather"] = n
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, l := range e.lines {
		s.Audit.add(signalStats(l.queue.Stats(), 0))
		if l.noSpool {
			s.Audit.SpoolErrors++
		}
	}
	return s
}

func signalStats(s ship.Stats, cuts int64) SignalStats {
	out := SignalStats{
		Offered: s.Offered, Adopted: s.Adopted, Sent: s.Sent,
		Queued: s.Queued, QueuedBytes: s.QueuedBytes, Spooled: s.Spooled, SpoolBytes: s.SpoolBytes,
		Dropped: map[string]int64{}, Failures: s.Failures,
		CutValues: cuts, SpoolErrors: s.SpoolErrors, SpoolCorrupt: s.SpoolCorrupt,
	}
	for reason, n := range s.Dropped {
		out.Dropped[string(reason)] = n
	}
	if out.Failures == nil {
		out.Failures = map[string]int64{}
	}
	return out
}

func (s *SignalStats) add(o SignalStats) {
	s.Offered += o.Offered
	s.Adopted += o.Adopted
	s.Sent += o.Sent
	s.Queued += o.Queued
	s.QueuedBytes += o.QueuedBytes
	s.Spooled += o.Spooled
	s.SpoolBytes += o.SpoolBytes
	s.CutValues += o.CutValues
	s.SpoolErrors += o.SpoolErrors
	s.SpoolCorrupt += o.SpoolCorrupt
	for k, n := range o.Dropped {
		s.Dropped[k] += n
	}
	for k, n := range o.Failures {
		s.Failures[k] += n
	}
}
