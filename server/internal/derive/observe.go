// Package derive makes the metric families of agents from spans, whoever sent
// them, so that one set of dashboards serves programs that count for themselves
// and programs that only trace.
//
//	d := derive.New(m, derive.Config{}) // m is the server's *metrics.Metrics
//	st.OnSpans(d.Spans)
//
// Names, labels, buckets, series limits and overflow are those of the metrics
// package of the SDK. Spans of a process that pushes its own metrics are left
// out; it says so with the resource attribute kaizen.metrics.pushed.
package derive

import (
	"encoding/json"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/kaizen-go/kaizen/genai"
	"github.com/kaizen-go/kaizen/metrics"
	"github.com/kaizen-go/kaizen/server/internal/record"
)

// Observation is one value that a span adds to a metric: to a counter, or as
// one observation of a histogram.
type Observation struct {
	// Metric is the family's name.
	Metric string
	// Type is metrics.TypeCounter or metrics.TypeHistogram.
	Type metrics.Type
	// Labels are the series' labels.
	Labels map[string]string
	// Value is in the family's unit.
	Value float64
}

// maxLabels is the most labels that a family has.
const maxLabels = 5

// point is an Observation as it is recorded: without maps.
type point struct {
	counter   metrics.CounterID
	histogram metrics.HistogramID
	isHist    bool
	value     float64
	labels    [maxLabels]string
	n         int
}

// Observations returns what one ended span stands for; a span that has not
// ended stands for nothing yet. It looks at the span alone: whether another
// span describes the same model call is for [Deriver] to know.
func Observations(s *record.Span) []Observation {
	points := observe(nil, s, s.AgentName)
	if len(points) == 0 {
		return nil
	}
	out := make([]Observation, len(points))
	for i, p := range points {
		f := p.family()
		o := Observation{Metric: f.Name, Type: f.Type, Value: p.value, Labels: make(map[string]string, p.n)}
		for j, name := range f.Labels {
			o.Labels[name] = p.labels[j]
		}
		out[i] = o
	}
	return out
}

func (p point) family() metrics.Family {
	if p.isHist {
		return p.histogram.Family()
	}
	return p.counter.Family()
}

// observer collects the points of one span.
type observer struct {
	span   *record.Span
	agent  string
	status string
	points []point
}

// observe appends the points of an ended span of an agent to list. The rules are
// those by which the SDK counts its events.
func observe(list []point, s *record.Span, agent string) []point {
	if s.Pending || s.End.IsZero() {
		return list
	}
	o := &observer{span: s, agent: agent, status: status(s), points: list}
	switch s.Kind {
	case record.KindRun:
		o.run()
	case record.KindModel, record.KindEmbedding:
		o.model()
	case record.KindTool:
		o.count(metrics.ToolCalls, 1, o.agent, s.ToolName, o.status)
		o.duration(metrics.ToolCallDuration, o.agent, s.ToolName, o.status)
	case record.KindPermission:
		o.permission()
	case record.KindCheckpoint:
		o.checkpoint()
	case record.KindMemory:
		o.count(metrics.MemoryOperations, 1, o.agent, o.memoryOperation(), o.status)
	case record.KindInterrupt:
		o.count(metrics.Interrupts, 1, o.agent, text(s, genai.Mode))
	case record.KindPlan:
		o.count(metrics.Plans, 1, o.agent, o.status)
	case record.KindHandoff:
		o.count(metrics.Handoffs, 1, o.agent, text(s, genai.To), o.status)
	}
	o.other()
	return o.points
}

// status returns how a span ended, as a label value.
func status(s *record.Span) string {
	switch s.Status {
	case record.StatusError, record.StatusDenied, record.StatusCancelled:
		return string(s.Status)
	}
	return metrics.StatusOK
}

func (o *observer) count(id metrics.CounterID, v float64, labels ...string) {
	p := point{counter: id, value: v, n: len(labels)}
	copy(p.labels[:], labels)
	o.points = append(o.points, p)
}

func (o *observer) histogram(id metrics.HistogramID, v float64, labels ...string) {
	p := point{histogram: id, isHist: true, value: v, n: len(labels)}
	copy(p.labels[:], labels)
	o.points = append(o.points, p)
}

// duration observes the span's duration. Clocks that went backwards give zero.
func (o *observer) duration(id metrics.HistogramID, labels ...string) {
	o.histogram(id, max(0, o.span.End.Sub(o.span.Start)).Seconds(), labels...)
}

func (o *observer) run() {
	s := o.span
	o.count(metrics.AgentRuns, 1, o.agent, o.status)
	o.duration(metrics.AgentRunDuration, o.agent, o.status)
	if n, ok := number(s, genai.Iterations); ok {
		o.histogram(metrics.AgentRunIterations, n, o.agent)
	}
}

// model counts a model call under the model that was asked for, as the SDK
// does, or under the one that answered where only that is known.
func (o *observer) model() {
	s := o.span
	agent, provider, model, operation := o.agent, s.Provider, modelOf(s), s.Operation
	o.count(metrics.ModelCalls, 1, agent, provider, model, operation, o.status)
	o.duration(metrics.ModelCallDuration, agent, provider, model, operation, o.status)
	if s.FirstChunk > 0 {
		o.histogram(metrics.ModelFirstChunk, s.FirstChunk.Seconds(), agent, provider, model, operation, o.status)
	}
	o.usage()
}

// usage counts tokens and cost: what one span of a call may know and another not.
func (o *observer) usage() {
	s := o.span
	agent, provider, model := o.agent, s.Provider, modelOf(s)
	if s.HasUsage {
		for _, t := range [...]struct {
			kind string
			n    int64
		}{
			{metrics.KindInput, s.Usage.Input}, {metrics.KindCacheRead, s.Usage.CacheRead}, {metrics.KindCacheWrite, s.Usage.CacheWrite},
			{metrics.KindOutput, s.Usage.Output}, {metrics.KindReasoning, s.Usage.Reasoning},
		} {
			if t.n > 0 {
				o.count(metrics.ModelTokens, float64(t.n), agent, provider, model, t.kind)
			}
		}
		if s.Kind != record.KindEmbedding {
			outcome := metrics.OutcomeMiss
			if s.Usage.CacheRead > 0 {
				outcome = metrics.OutcomeHit
			}
			o.count(metrics.CacheRequests, 1, metrics.CachePrompt, outcome)
		}
	}
	switch {
	case s.HasCost && s.CostNanoUSD >= 0:
		o.count(metrics.ModelCost, float64(s.CostNanoUSD)/1e9, agent, provider, model)
	case o.unpriced():
		o.count(metrics.ModelCallsUnpriced, 1, agent, provider, model)
	}
}

// unpriced reports whether a call cost something that is not known. A call that
// failed before an answer began is charged by no provider.
func (o *observer) unpriced() bool {
	if v, ok := o.span.Attributes[string(genai.CostUnpriced)].(bool); ok {
		return v
	}
	partial, _ := o.span.Attributes[string(genai.Partial)].(bool)
	return o.status == metrics.StatusOK || o.span.HasUsage || partial
}

func (o *observer) permission() {
	decision := text(o.span, genai.Decision)
	switch {
	case o.status == metrics.StatusDenied:
		decision = metrics.DecisionDeny
	case decision == "" && o.status == metrics.StatusOK:
		decision = metrics.DecisionAllow
	}
	o.count(metrics.PermissionChecks, 1, o.agent, decision)
	o.duration(metrics.PermissionCheckDuration, o.agent, decision)
}

func (o *observer) checkpoint() {
	s := o.span
	op := text(s, genai.Action)
	if op == "" {
		op = s.Operation
	}
	o.count(metrics.Checkpoints, 1, o.agent, op, o.status)
	o.duration(metrics.CheckpointDuration, o.agent, op, o.status)
	if n, ok := number(s, genai.SizeBytes); ok {
		o.histogram(metrics.CheckpointSize, n, o.agent, op, o.status)
	}
}

// memoryOperation is load or save for our own spans, the convention's operation
// (search_memory, upsert_memory, …) for others.
func (o *observer) memoryOperation() string {
	if op := text(o.span, genai.Action); op != "" {
		return op
	}
	return o.span.Operation
}

// other counts what is no kind of its own in the server's model: guards that
// acted and errors that no operation carries; then, for all kinds, failures.
func (o *observer) other() {
	s := o.span
	own := text(s, genai.Kind)
	if own == "guard" {
		o.count(metrics.GuardEvents, 1, o.agent, text(s, genai.GuardName), text(s, genai.Action))
	}
	switch {
	case own == "error":
		o.count(metrics.Errors, 1, o.agent, "error")
	case s.Status == record.StatusError && s.Kind != record.KindOther && s.Kind != "":
		o.count(metrics.Errors, 1, o.agent, string(s.Kind))
	}
}

func modelOf(s *record.Span) string {
	if s.Model != "" {
		return s.Model
	}
	return s.ResponseModel
}

// text returns a string attribute, "" when it is absent or no string.
func text[K ~string](s *record.Span, key K) string {
	v, _ := s.Attributes[string(key)].(string)
	return v
}

// number returns a numeric attribute that is not negative, in whichever type it
// was sent.
func number[K ~string](s *record.Span, key K) (v float64, ok bool) {
	switch x := s.Attributes[string(key)].(type) {
	case int64:
		v, ok = float64(x), true
	case int:
		v, ok = float64(x), true
	case float64:
		v, ok = x, true
	case json.Number:
		f, err := x.Float64()
		v, ok = f, err == nil
	case string:
		f, err := strconv.ParseFloat(x, 64)
		v, ok = f, err == nil
	}
	return v, ok && v >= 0 && !math.IsInf(v, 0)
}

// exemplarTime is when an observation counts as made: at the span's end.
func exemplarTime(s *record.Span) time.Time { return s.End }

// bucketOf returns the upper bound of the classic bucket that v falls into.
func bucketOf(buckets []float64, v float64) float64 {
	at, _ := slices.BinarySearch(buckets, v)
	if at == len(buckets) {
		return math.Inf(1)
	}
	return buckets[at]
}
