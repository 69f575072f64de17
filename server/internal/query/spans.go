package query

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/kaizen-go/kaizen/audit"
	"github.com/kaizen-go/kaizen/server/internal/derive"
	"github.com/kaizen-go/kaizen/server/internal/normalise"
	"github.com/kaizen-go/kaizen/server/internal/record"
)

// SpanFilter selects spans. Empty fields select all.
type SpanFilter struct {
	Window
	TraceID record.TraceID
	RunID   string
	// Agent is the name or id of the agent that the span belongs to.
	Agent  string
	Kind   record.Kind
	Status record.Status
	Tool   string
	// Model was asked for or answered.
	Model string
}

// SpanPage is one page of a list of spans.
type SpanPage struct {
	Spans []Span `json:"spans"`
	Next  string `json:"next"`
}

// Spans lists spans, newest first.
func (e *Engine) Spans(ctx context.Context, f SpanFilter) (SpanPage, error) {
	page := SpanPage{Spans: []Span{}}
	pos, err := parsePosition(f.Cursor)
	if err != nil {
		return page, err
	}
	stop := canceled{ctx: ctx}
	var last position
	for s := range e.spans(f, pos) {
		if err := stop.err(); err != nil {
			return page, err
		}
		key := s.TraceID.String() + s.SpanID.String()
		if pos.passed(s.Start, key) || !f.matches(s) {
			continue
		}
		id := e.treeOf(s.TraceID).identityOf(s)
		if f.RunID != "" && id.run != f.RunID || f.Agent != "" && id.agentName != f.Agent && id.agentID != f.Agent {
			continue
		}
		if len(page.Spans) == f.limit() {
			page.Next = last.String()
			return page, nil
		}
		page.Spans = append(page.Spans, spanOf(s, id))
		last = position{at: s.Start.UnixNano(), key: key}
	}
	return page, nil
}

// spans yields the spans to look at, newest first, from one trace if the filter
// names it.
func (e *Engine) spans(f SpanFilter, pos position) iter.Seq[*record.Span] {
	if f.TraceID.IsZero() {
		return e.store.Spans(f.Since, pos.until(f.Window))
	}
	return func(yield func(*record.Span) bool) {
		tr, _ := e.store.Trace(f.TraceID)
		spans := slices.Clone(tr.Spans)
		slices.SortFunc(spans, func(a, b *record.Span) int {
			if c := b.Start.Compare(a.Start); c != 0 {
				return c
			}
			return slices.Compare(b.SpanID[:], a.SpanID[:])
		})
		for _, s := range spans {
			if f.has(s.Start) && !yield(s) {
				return
			}
		}
	}
}

func (f SpanFilter) matches(s *record.Span) bool {
	return (f.Kind == "" || s.Kind == f.Kind) &&
		(f.Status == "" || s.Status == f.Status) &&
		(f.Tool == "" || s.ToolName == f.Tool) &&
		(f.Model == "" || s.Model == f.Model || s.ResponseModel == f.Model)
}

// identityOf is identity for a span whose trace may have changed meanwhile.
func (t *tree) identityOf(s *record.Span) identity {
	if t != nil {
		if id, ok := t.ids[s.SpanID]; ok {
			return *id
		}
	}
	return identity{}.within(s)
}

// spanOf is s as the API shows it.
func spanOf(s *record.Span, id identity) Span {
	c := normalise.ContentOf(s)
	out := Span{
		TraceID: s.TraceID.String(), SpanID: s.SpanID.String(), ParentSpanID: s.ParentID.String(),
		Name: s.Name, Kind: string(s.Kind), Start: Time(s.Start), End: timePtr(s.End),
		Status: string(s.Status), StatusMessage: s.StatusMessage, ErrorType: s.ErrorType, Pending: s.Pending,
		Service: s.Service, Scope: s.Scope,
		RunID: id.run, AgentID: id.agentID, AgentName: id.agentName, SessionID: id.session, UserID: id.user,
		Operation: s.Operation, Provider: s.Provider, Model: s.Model, ResponseModel: s.ResponseModel, ToolName: s.ToolName,
		Attributes: s.Attributes, Resource: s.Resource, Events: make([]Event, len(s.Events)), Links: make([]Link, len(s.Links)),
		InputMessages: c.Input, OutputMessages: c.Output, SystemInstructions: c.System,
		ToolArguments: c.ToolArguments, ToolResult: c.ToolResult,
	}
	if !s.Pending {
		out.DurationMS = new(ms(s.End.Sub(s.Start)))
	}
	if s.HasUsage {
		out.Tokens = new(tokensOf(s.Usage))
	}
	if s.HasCost {
		out.CostUSD = new(USD(s.CostNanoUSD))
	}
	if s.FirstChunk > 0 {
		out.FirstChunkMS = new(ms(s.FirstChunk))
	}
	for i, e := range s.Events {
		out.Events[i] = Event{Name: e.Name, Time: Time(e.Time), Attributes: e.Attributes}
	}
	for i, l := range s.Links {
		out.Links[i] = Link{TraceID: l.TraceID.String(), SpanID: l.SpanID.String(), Attributes: l.Attributes}
	}
	return out
}

// SpanDetail is one span with what was recorded beside it.
type SpanDetail struct {
	Span      Span          `json:"span"`
	Logs      []Log         `json:"logs"`
	Audit     []audit.Entry `json:"audit"`
	Exemplars []Exemplar    `json:"exemplars"`
}

// Exemplar is one observation of a metric that a span stands for.
type Exemplar struct {
	Metric    string            `json:"metric"`
	Labels    map[string]string `json:"labels"`
	Value     float64           `json:"value"`
	Timestamp Time              `json:"timestamp"`
}

// maxBeside bounds the log records and the audit entries of one span in an
// answer; the lists of their own have pages.
const maxBeside = 1_000

// Span returns one span, its log records and audit entries, oldest first, and
// its metric observations.
func (e *Engine) Span(ctx context.Context, trace record.TraceID, span record.SpanID) (SpanDetail, error) {
	s, ok := e.store.Span(trace, span)
	if !ok {
		return SpanDetail{}, fmt.Errorf("span %s of trace %s: %w", span, trace, ErrNotFound)
	}
	t := e.treeOf(trace)
	d := SpanDetail{Span: spanOf(s, t.identityOf(s)), Logs: []Log{}, Audit: []audit.Entry{}, Exemplars: exemplars(s)}
	for _, l := range e.store.TraceLogs(trace) {
		if l.SpanID == span && len(d.Logs) < maxBeside {
			d.Logs = append(d.Logs, logOf(l))
		}
	}
	slices.SortStableFunc(d.Logs, func(a, b Log) int { return time.Time(a.Timestamp).Compare(time.Time(b.Timestamp)) })
	if e.ledger == nil {
		return d, nil
	}
	q := audit.Query{TraceID: trace.String(), SpanID: span.String(), Limit: maxBeside}
	for entry, err := range e.ledger.Query(ctx, q) {
		if err != nil {
			return d, fmt.Errorf("query: audit entries of span %s: %w", span, err)
		}
		d.Audit = append(d.Audit, entry)
	}
	return d, nil
}

// exemplars works the observations of s out anew, by the rules that derive
// metrics from spans.
func exemplars(s *record.Span) []Exemplar {
	obs := derive.Observations(s)
	out := make([]Exemplar, 0, len(obs))
	for _, o := range obs {
		out = append(out, Exemplar{Metric: o.Metric, Labels: o.Labels, Value: o.Value, Timestamp: Time(s.End)})
	}
	return out
}
