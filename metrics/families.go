package metrics

import "slices"

// Type is the Prometheus type of a family.
type Type uint8

// The types a family can have.
const (
	TypeCounter Type = iota
	TypeGauge
	TypeHistogram
)

// String returns the type as the exposition format spells it.
func (t Type) String() string {
	switch t {
	case TypeCounter:
		return "counter"
	case TypeGauge:
		return "gauge"
	case TypeHistogram:
		return "histogram"
	}
	return "unknown"
}

// Family describes one metric family: everything that a producer needs to
// write it and a reader needs to understand it. The SDK and the server use the
// same table ([Families]), so that one set of dashboards serves both.
type Family struct {
	// Name is the full metric name, in base units, with _total on counters.
	Name string
	// Help is one sentence; it ends with a full stop.
	Help string
	// Type is the Prometheus type.
	Type Type
	// Labels are the label names, in the order in which values are given.
	Labels []string
	// Buckets are the upper bounds of a histogram's classic buckets, rising,
	// without +Inf. Native buckets (factor [NativeFactor]) stand beside them.
	Buckets []float64
}

// NativeFactor is the growth from one native histogram bucket to the next: a
// quantile read from them is off by at most 5 %.
const NativeFactor = 1.1

// Other is the value that a label takes in the series that absorbs what is
// beyond a family's series limit.
const Other = "other"

// CachePrompt is the label cache of the provider's prompt cache: a model call
// that read tokens from it is a hit, one that did not a miss.
const CachePrompt = "prompt"

// Values of the labels status, kind (of tokens), decision and outcome.
const (
	StatusOK        = "ok"
	StatusError     = "error"
	StatusDenied    = "denied"
	StatusCancelled = "cancelled"

	KindInput      = "input"
	KindCacheRead  = "cache_read"
	KindCacheWrite = "cache_write"
	KindOutput     = "output"
	KindReasoning  = "reasoning"

	DecisionAllow = "allow"
	DecisionDeny  = "deny"
	DecisionAsk   = "ask"

	OutcomeHit  = "hit"
	OutcomeMiss = "miss"
)

// CounterID names one of Kaizen's counters, GaugeID one of its gauges and
// HistogramID one of its histograms; a wrong pairing does not compile.
type (
	CounterID   uint8
	GaugeID     uint8
	HistogramID uint8
)

// Kaizen's counters.
const (
	AgentRuns CounterID = iota
	ModelCalls
	ModelTokens
	ModelCost
	ModelCallsUnpriced
	ToolCalls
	PermissionChecks
	Checkpoints
	MemoryOperations
	Interrupts
	Plans
	Handoffs
	HookCalls
	Errors
	CacheRequests
	AuditEntries
	AuditAppendFailures
	AuditChecks
	AuditAnchors
	AuditWitnessings
	TelemetrySelf
	TelemetryDropped
	TelemetryExportFailures
	GuardEvents
	numCounters
)

// Kaizen's gauges.
const (
	AgentsActive GaugeID = iota
	AuditLedgerEntries
	AuditLedgerBytes
	AuditOldestEntry
	AuditRetention
	AuditLastCheck
	TelemetryQueueLength
	TelemetrySpoolBytes
	TelemetrySpoolLimit
	numGauges
)

// Kaizen's histograms.
const (
	AgentRunDuration HistogramID = iota
	AgentRunIterations
	ModelCallDuration
	ModelFirstChunk
	ToolCallDuration
	PermissionCheckDuration
	CheckpointDuration
	CheckpointSize
	HookDuration
	AuditAppendDuration
	numHistograms
)

// Classic buckets. Bounds are where people ask "how many were slower than …":
// a run takes seconds to minutes, a model call 0.1 s to 2 min, a check or a
// hook microseconds to milliseconds.
var (
	runBuckets       = []float64{0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800}
	modelBuckets     = []float64{0.05, 0.1, 0.25, 0.5, 1, 2, 4, 8, 15, 30, 60, 120}
	chunkBuckets     = []float64{0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 4, 8, 15, 30}
	toolBuckets      = []float64{0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60}
	shortBuckets     = []float64{0.00001, 0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5}
	appendBuckets    = []float64{0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1}
	sizeBuckets      = []float64{1 << 10, 4 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20, 4 << 20, 16 << 20, 64 << 20}
	iterationBuckets = []float64{1, 2, 3, 5, 8, 13, 21, 34, 55, 100}
)

var counterFamilies = [numCounters]Family{
	AgentRuns:               {"kaizen_agent_runs_total", "Agent runs that ended.", TypeCounter, []string{"agent", "status"}, nil},
	ModelCalls:              {"kaizen_model_calls_total", "Model calls that ended; one for all attempts of a call.", TypeCounter, []string{"agent", "provider", "model", "operation", "status"}, nil},
	ModelTokens:             {"kaizen_model_tokens_total", "Tokens of model calls by kind; the kinds are disjoint.", TypeCounter, []string{"agent", "provider", "model", "kind"}, nil},
	ModelCost:               {"kaizen_model_cost_usd_total", "Cost of priced model calls in US dollars.", TypeCounter, []string{"agent", "provider", "model"}, nil},
	ModelCallsUnpriced:      {"kaizen_model_calls_unpriced_total", "Model calls whose cost is unknown.", TypeCounter, []string{"agent", "provider", "model"}, nil},
	ToolCalls:               {"kaizen_tool_calls_total", "Tool calls that ended.", TypeCounter, []string{"agent", "tool", "status"}, nil},
	PermissionChecks:        {"kaizen_permission_checks_total", "Permission checks by decision.", TypeCounter, []string{"agent", "decision"}, nil},
	Checkpoints:             {"kaizen_checkpoints_total", "Checkpoint operations that ended.", TypeCounter, []string{"agent", "operation", "status"}, nil},
	MemoryOperations:        {"kaizen_memory_operations_total", "Memory operations that ended.", TypeCounter, []string{"agent", "operation", "status"}, nil},
	Interrupts:              {"kaizen_interrupts_total", "Interrupts by kind.", TypeCounter, []string{"agent", "kind"}, nil},
	Plans:                   {"kaizen_plans_total", "Planning steps that ended.", TypeCounter, []string{"agent", "status"}, nil},
	Handoffs:                {"kaizen_handoffs_total", "Handoffs from agent to target.", TypeCounter, []string{"agent", "target", "status"}, nil},
	HookCalls:               {"kaizen_hook_calls_total", "Hook handler calls by outcome.", TypeCounter, []string{"hook", "event", "outcome"}, nil},
	Errors:                  {"kaizen_errors_total", "Errors by kind.", TypeCounter, []string{"agent", "kind"}, nil},
	CacheRequests:           {"kaizen_cache_requests_total", "Cache look-ups by outcome.", TypeCounter, []string{"cache", "outcome"}, nil},
	AuditEntries:            {"kaizen_audit_entries_total", "Audit entries that were acknowledged.", TypeCounter, []string{"action", "result", "severity"}, nil},
	AuditAppendFailures:     {"kaizen_audit_append_failures_total", "Audit entries that could not be made durable.", TypeCounter, nil, nil},
	AuditChecks:             {"kaizen_audit_checks_total", "Verifications of the ledger by result.", TypeCounter, []string{"result"}, nil},
	AuditAnchors:            {"kaizen_audit_anchors_total", "Attempts to keep a checkpoint of the ledger elsewhere, by kind of place and result.", TypeCounter, []string{"target", "result"}, nil},
	AuditWitnessings:        {"kaizen_audit_witnessings_total", "Attempts to have a checkpoint of the ledger cosigned by witnesses, by result.", TypeCounter, []string{"result"}, nil},
	TelemetrySelf:           {"kaizen_telemetry_self_seconds_total", "Time that recording took on the caller.", TypeCounter, []string{"signal"}, nil},
	TelemetryDropped:        {"kaizen_telemetry_dropped_total", "Telemetry that was dropped or folded into another series.", TypeCounter, []string{"signal", "reason"}, nil},
	TelemetryExportFailures: {"kaizen_telemetry_export_failures_total", "Exports that failed.", TypeCounter, []string{"signal", "reason"}, nil},
	GuardEvents:             {"kaizen_guard_events_total", "Interventions of the guards against loops, budgets and anomalies.", TypeCounter, []string{"agent", "kind", "action"}, nil},
}

var gaugeFamilies = [numGauges]Family{
	AgentsActive:         {"kaizen_agents_active", "Agent runs under way.", TypeGauge, []string{"agent"}, nil},
	AuditLedgerEntries:   {"kaizen_audit_ledger_entries", "Entries in the ledger.", TypeGauge, nil, nil},
	AuditLedgerBytes:     {"kaizen_audit_ledger_bytes", "Size of the ledger on disk.", TypeGauge, nil, nil},
	AuditOldestEntry:     {"kaizen_audit_oldest_entry_timestamp_seconds", "Time of the oldest entry that is kept, Unix seconds.", TypeGauge, nil, nil},
	AuditRetention:       {"kaizen_audit_retention_seconds", "How long entries are kept.", TypeGauge, nil, nil},
	AuditLastCheck:       {"kaizen_audit_last_check_timestamp_seconds", "Time of the last verification with this result, Unix seconds.", TypeGauge, []string{"result"}, nil},
	TelemetryQueueLength: {"kaizen_telemetry_queue_length", "Records waiting to be written or exported.", TypeGauge, []string{"signal"}, nil},
	TelemetrySpoolBytes:  {"kaizen_telemetry_spool_bytes", "Disk space that records take which wait for the server.", TypeGauge, []string{"signal"}, nil},
	TelemetrySpoolLimit:  {"kaizen_telemetry_spool_limit_bytes", "Disk space that records which wait for the server may take.", TypeGauge, []string{"signal"}, nil},
}

var histogramFamilies = [numHistograms]Family{
	AgentRunDuration:        {"kaizen_agent_run_duration_seconds", "Duration of agent runs.", TypeHistogram, []string{"agent", "status"}, runBuckets},
	AgentRunIterations:      {"kaizen_agent_run_iterations", "Iterations of the loop that a run took.", TypeHistogram, []string{"agent"}, iterationBuckets},
	ModelCallDuration:       {"kaizen_model_call_duration_seconds", "Duration of model calls, attempts and streaming included.", TypeHistogram, []string{"agent", "provider", "model", "operation", "status"}, modelBuckets},
	ModelFirstChunk:         {"kaizen_model_first_chunk_seconds", "Time to the first chunk of a streamed answer.", TypeHistogram, []string{"agent", "provider", "model", "operation", "status"}, chunkBuckets},
	ToolCallDuration:        {"kaizen_tool_call_duration_seconds", "Duration of tool calls.", TypeHistogram, []string{"agent", "tool", "status"}, toolBuckets},
	PermissionCheckDuration: {"kaizen_permission_check_duration_seconds", "Duration of permission checks, waiting for a person included.", TypeHistogram, []string{"agent", "decision"}, shortBuckets},
	CheckpointDuration:      {"kaizen_checkpoint_duration_seconds", "Duration of checkpoint operations.", TypeHistogram, []string{"agent", "operation", "status"}, toolBuckets},
	CheckpointSize:          {"kaizen_checkpoint_size_bytes", "Size of checkpoints.", TypeHistogram, []string{"agent", "operation", "status"}, sizeBuckets},
	HookDuration:            {"kaizen_hook_duration_seconds", "Duration of hook handler calls.", TypeHistogram, []string{"hook", "event", "outcome"}, shortBuckets},
	AuditAppendDuration:     {"kaizen_audit_append_duration_seconds", "Time from giving an entry to the ledger to its being durable.", TypeHistogram, nil, appendBuckets},
}

// Families returns Kaizen's own families: counters, gauges, then histograms.
// The caller owns what it gets.
func Families() []Family {
	all := slices.Concat(counterFamilies[:], gaugeFamilies[:], histogramFamilies[:])
	for i := range all {
		all[i] = all[i].clone()
	}
	return all
}

func (f Family) clone() Family {
	f.Labels, f.Buckets = slices.Clone(f.Labels), slices.Clone(f.Buckets)
	return f
}

// Family returns the description of the counter.
func (id CounterID) Family() Family { return counterFamilies[id].clone() }

// Family returns the description of the gauge.
func (id GaugeID) Family() Family { return gaugeFamilies[id].clone() }

// Family returns the description of the histogram.
func (id HistogramID) Family() Family { return histogramFamilies[id].clone() }

// keptOnOverflow reports whether a label keeps its value in an overflow
// series. Its values are a short list that Kaizen fixes, so that the share of
// errors stays right when agents, tools or models are too many to count apart.
func keptOnOverflow(label string) bool {
	switch label {
	case "status", "operation", "kind", "decision", "outcome", "result", "severity", "signal", "reason":
		return true
	}
	return false
}
