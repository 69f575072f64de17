package ship

import "maps"

// Stats are the counts of a [Shipper] since it was started. A record is in
// exactly one place: Offered + Adopted = Sent + sum(Dropped) + Queued + Spooled.
type Stats struct {
	Offered int64 // records given to Offer, refused ones included
	Adopted int64 // records found in the spool of a dead process
	Sent    int64 // records that the server acknowledged

	Queued      int64 // records in memory, the batch under way included
	QueuedBytes int64 // their cost, in bytes
	Spooled     int64 // records on disk
	SpoolBytes  int64 // disk space of the spool, in bytes
	SpoolFiles  int64 // batches on disk

	Dropped  map[Reason]int64 // records given up, by reason
	Failures map[string]int64 // attempts that failed: network, timeout, http_503, …

	SpoolErrors  int64 // operations on the spool that failed
	SpoolCorrupt int64 // spool files that were damaged and kept aside
}

// TotalDropped is the sum over all reasons.
func (s Stats) TotalDropped() int64 {
	var n int64
	for _, v := range s.Dropped {
		n += v
	}
	return n
}

// Stats returns the counts at one moment.
func (s *Shipper[T]) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.count.Stats
	st.Dropped, st.Failures = maps.Clone(st.Dropped), maps.Clone(st.Failures)
	return st
}

// update changes the counts in one step, so that nobody sees a record in two
// places or in none, and wakes those who wait for them.
func (s *Shipper[T]) update(change func(*counts)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(&s.count)
	close(s.changed)
	s.changed = make(chan struct{})
}

// resolve books n records that are neither queued nor spooled any more: lost of
// them were dropped for the reason, the others acknowledged.
func (c *counts) resolve(n, lost int64, reason Reason, own bool) {
	c.Sent += n - lost
	if lost > 0 {
		c.Dropped[reason] += lost
	}
	if own {
		c.resolved += n
		c.lost += lost
	}
}
