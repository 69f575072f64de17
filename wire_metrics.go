package kaizen

import (
	"sync/atomic"
	"time"

	"github.com/kaizen-go/kaizen/genai"
	"github.com/kaizen-go/kaizen/hook"
	"github.com/kaizen-go/kaizen/metrics"
)

// This file says which metric families each kind of event counts in. The
// server derives the same families from spans of other senders.

func countRun(w *wire, e *hook.Event, ex metrics.Exemplar) {
	agent, status := e.Run.AgentName, string(e.Status)
	w.metrics.Shift(metrics.AgentsActive, -1, agent)
	w.metrics.Add(metrics.AgentRuns, 1, ex, agent, status)
	w.metrics.ObserveDuration(metrics.AgentRunDuration, e.Duration(), ex, agent, status)
	w.metrics.Observe(metrics.AgentRunIterations, float64(e.Payload.(*hook.RunInfo).Iterations), ex, agent)
}

func countModel(w *wire, e *hook.Event, ex metrics.Exemplar) {
	p := e.Payload.(*hook.ModelCall)
	agent, status := e.Run.AgentName, string(e.Status)
	w.metrics.Add(metrics.ModelCalls, 1, ex, agent, p.Provider, p.Model, p.Operation, status)
	w.metrics.ObserveDuration(metrics.ModelCallDuration, e.Duration(), ex, agent, p.Provider, p.Model, p.Operation, status)
	if p.FirstChunk > 0 {
		w.metrics.ObserveDuration(metrics.ModelFirstChunk, p.FirstChunk, ex, agent, p.Provider, p.Model, p.Operation, status)
	}
	if p.HasUsage {
		u := p.Usage
		for _, t := range [...]struct {
			kind string
			n    int64
		}{
			{metrics.KindInput, u.Input}, {metrics.KindCacheRead, u.CacheRead}, {metrics.KindCacheWrite, u.CacheWrite},
			{metrics.KindOutput, u.Output}, {metrics.KindReasoning, u.Reasoning},
		} {
			if t.n > 0 {
				w.metrics.Add(metrics.ModelTokens, float64(t.n), ex, agent, p.Provider, p.Model, t.kind)
			}
		}
		if p.Operation != genai.Embeddings { // providers cache prompts, not what is embedded
			outcome := metrics.OutcomeMiss
			if u.CacheRead > 0 {
				outcome = metrics.OutcomeHit
			}
			w.metrics.Add(metrics.CacheRequests, 1, ex, metrics.CachePrompt, outcome)
		}
	}
	if p.Priced {
		w.metrics.Add(metrics.ModelCost, float64(p.CostNanoUSD)/1e9, ex, agent, p.Provider, p.Model)
	} else if unpriced(p, e.Status) {
		w.metrics.Add(metrics.ModelCallsUnpriced, 1, ex, agent, p.Provider, p.Model)
	}
}

func countTool(w *wire, e *hook.Event, ex metrics.Exemplar) {
	agent, tool, status := e.Run.AgentName, e.Payload.(*hook.Tool).Name, string(e.Status)
	w.metrics.Add(metrics.ToolCalls, 1, ex, agent, tool, status)
	w.metrics.ObserveDuration(metrics.ToolCallDuration, e.Duration(), ex, agent, tool, status)
}

func countPermission(w *wire, e *hook.Event, ex metrics.Exemplar) {
	decision := e.Payload.(*hook.Permission).Decision
	if e.Status == hook.Denied { // by a handler, before anybody was asked
		decision = metrics.DecisionDeny
	}
	w.metrics.Add(metrics.PermissionChecks, 1, ex, e.Run.AgentName, decision)
	w.metrics.ObserveDuration(metrics.PermissionCheckDuration, e.Duration(), ex, e.Run.AgentName, decision)
}

func countMemory(w *wire, e *hook.Event, ex metrics.Exemplar) {
	op := "load"
	if e.Kind() == hook.KindMemorySave {
		op = "save"
	}
	w.metrics.Add(metrics.MemoryOperations, 1, ex, e.Run.AgentName, op, string(e.Status))
}

func countCheckpoint(w *wire, e *hook.Event, ex metrics.Exemplar) {
	op := "load"
	if e.Kind() == hook.KindCheckpointSave {
		op = "save"
	}
	agent, status := e.Run.AgentName, string(e.Status)
	_, _, size := checkpoint(e)
	w.metrics.Add(metrics.Checkpoints, 1, ex, agent, op, status)
	w.metrics.ObserveDuration(metrics.CheckpointDuration, e.Duration(), ex, agent, op, status)
	w.metrics.Observe(metrics.CheckpointSize, float64(size), ex, agent, op, status)
}

func countPlan(w *wire, e *hook.Event, ex metrics.Exemplar) {
	w.metrics.Add(metrics.Plans, 1, ex, e.Run.AgentName, string(e.Status))
}

func countInterrupt(w *wire, e *hook.Event, ex metrics.Exemplar) {
	w.metrics.Add(metrics.Interrupts, 1, ex, e.Run.AgentName, e.Payload.(*hook.Interrupt).Mode)
}

func countHandoff(w *wire, e *hook.Event, ex metrics.Exemplar) {
	w.metrics.Add(metrics.Handoffs, 1, ex, e.Run.AgentName, e.Payload.(*hook.Handoff).To, string(e.Status))
}

func countGuard(w *wire, e *hook.Event, ex metrics.Exemplar) {
	p := e.Payload.(*hook.Guard)
	w.metrics.Add(metrics.GuardEvents, 1, ex, e.Run.AgentName, p.Guard, p.Action)
}

// countEnd counts what every kind of operation has: its errors.
func (w *wire) countEnd(e *hook.Event) {
	if e.Status == hook.Failed || e.Kind() == hook.KindError {
		w.metrics.Count(metrics.Errors, e.Run.AgentName, spanKind(e.Kind()))
	}
}

// countHandler counts one run of a user's handler.
func countHandler(m *metrics.Metrics, c hook.Call) {
	event := c.Kind.String() + "_" + c.Phase.String()
	m.Count(metrics.HookCalls, c.Handler, event, string(c.Outcome))
	m.ObserveDuration(metrics.HookDuration, c.Duration, metrics.Exemplar{}, c.Handler, event, string(c.Outcome))
}

// signal numbers the four records that an event becomes.
type signal int

const (
	signalTraces signal = iota
	signalMetrics
	signalLogs
	signalAudit
	numSignals
)

var signalNames = [numSignals]string{"traces", "metrics", "logs", "audit"}

// selfTime adds up the time that recording takes from its callers.
type selfTime struct {
	began time.Time // time.Since of it is half as dear as time.Now
	nanos [numSignals]atomic.Int64
}

// now is a time to measure from.
func (st *selfTime) now() time.Duration { return time.Since(st.began) }

// at is the time to measure from where the clock was read just now.
func (st *selfTime) at(now time.Time) time.Duration { return now.Sub(st.began) }

// add charges the time since t to s and returns the present.
func (st *selfTime) add(s signal, t time.Duration) time.Duration {
	now := st.now()
	st.nanos[s].Add(int64(now - t))
	return now
}

func (st *selfTime) seconds(s signal) float64 { return float64(st.nanos[s].Load()) / 1e9 }
