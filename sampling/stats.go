package sampling

import "maps"

// Reason says why a trace was kept or spans were dropped.
type Reason string

// Reasons to keep a trace, in the order in which they are named when several hold.
const (
	KeptError Reason = "error"
	KeptSlow  Reason = "slow"
	KeptCost  Reason = "cost"
	KeptRatio Reason = "ratio"
)

// Reasons to drop.
const (
	DroppedRatio     Reason = "ratio"      // an ordinary trace that the ratio did not choose
	DroppedMaxTraces Reason = "max_traces" // the same, decided early for a bound
	DroppedMaxSpans  Reason = "max_spans"
	DroppedMaxBytes  Reason = "max_bytes"
	DroppedMaxAge    Reason = "max_age"
	DroppedFlush     Reason = "flush"    // the same, decided early by ForceFlush or Shutdown
	DroppedLate      Reason = "late"     // spans that ended after their trace was dropped
	DroppedDeadline  Reason = "deadline" // of spans for which Shutdown had no time
	DroppedStopped   Reason = "stopped"  // spans that ended after Shutdown
)

// DropReasons returns the reasons under which [Stats.DroppedSpans] counts.
func DropReasons() []Reason {
	return []Reason{
		DroppedRatio, DroppedMaxTraces, DroppedMaxSpans, DroppedMaxBytes, DroppedMaxAge,
		DroppedFlush, DroppedLate, DroppedDeadline, DroppedStopped,
	}
}

// Stats says what a [TailProcessor] holds and what it has decided.
type Stats struct {
	HeldTraces, HeldSpans int
	HeldBytes             int64
	// Kept and Dropped count decisions on traces. A trace of which another
	// local root starts after it was dropped is decided once more.
	Kept, Dropped map[Reason]int64
	// DroppedSpans counts the spans that were not passed on.
	DroppedSpans map[Reason]int64
	// SampledOut counts the run spans that were passed on alone; see [SampledOut].
	SampledOut int64
}

// Stats returns a copy of the present state.
func (p *TailProcessor) Stats() Stats {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.stats
	s.HeldTraces, s.HeldSpans, s.HeldBytes = len(p.traces), p.spans, p.bytes
	s.Kept, s.Dropped, s.DroppedSpans = maps.Clone(s.Kept), maps.Clone(s.Dropped), maps.Clone(s.DroppedSpans)
	return s
}
