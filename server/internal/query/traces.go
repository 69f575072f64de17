package query

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/kaizen-go/kaizen/audit"
	"github.com/kaizen-go/kaizen/server/internal/record"
	"github.com/kaizen-go/kaizen/server/internal/store"
)

// TraceFilter selects traces. Empty fields select all.
type TraceFilter struct {
	Window
	// Agent is a name or id of an agent that has a span in the trace.
	Agent string
	// Status is that of the trace's run.
	Status record.Status
	// Session and User are on some span of the trace.
	Session, User string
	// Q is text to be found in a name, id, message or attribute of a span, in
	// any case of letters.
	Q string
}

// TracePage is one page of a list of traces.
type TracePage struct {
	Traces []TraceSummary `json:"traces"`
	Next   string         `json:"next"`
}

// Traces lists traces, newest first.
func (e *Engine) Traces(ctx context.Context, f TraceFilter) (TracePage, error) {
	page := TracePage{Traces: []TraceSummary{}}
	pos, err := parsePosition(f.Cursor)
	if err != nil {
		return page, err
	}
	stop := canceled{ctx: ctx}
	var last position
	for tr := range e.store.Traces(f.Since, pos.until(f.Window)) {
		if err := stop.err(); err != nil {
			return page, err
		}
		key := tr.ID.String()
		if pos.passed(tr.Start, key) || len(tr.Spans) == 0 {
			continue
		}
		t := e.tree(tr)
		if !f.matches(t, tr) {
			continue
		}
		if len(page.Traces) == f.limit() {
			page.Next = last.String()
			return page, nil
		}
		sum, err := e.summary(ctx, t, tr)
		if err != nil {
			return page, err
		}
		page.Traces = append(page.Traces, sum)
		last = position{at: tr.Start.UnixNano(), key: key}
	}
	return page, nil
}

func (e *Engine) summary(ctx context.Context, t *tree, tr store.Trace) (TraceSummary, error) {
	sum := t.summary(tr)
	if e.ledger == nil {
		return sum, nil
	}
	n, err := e.ledger.Count(ctx, audit.Query{TraceID: sum.TraceID})
	if err != nil {
		return sum, fmt.Errorf("query: count audit entries of trace %s: %w", sum.TraceID, err)
	}
	sum.AuditEntries = n
	return sum, nil
}

func (f TraceFilter) matches(t *tree, tr store.Trace) bool {
	if f.Status != "" && t.run.Status != f.Status {
		return false
	}
	if f.Agent != "" || f.Session != "" || f.User != "" {
		if !f.matchesIdentity(t) {
			return false
		}
	}
	return f.Q == "" || matchesTrace(t, tr.ID, strings.ToLower(f.Q))
}

func (f TraceFilter) matchesIdentity(t *tree) bool {
	agent, session, user := f.Agent == "", f.Session == "", f.User == ""
	for _, id := range t.ids {
		agent = agent || id.agentName == f.Agent || id.agentID == f.Agent
		session = session || id.session == f.Session
		user = user || id.user == f.User
	}
	return agent && session && user
}

func matchesTrace(t *tree, id record.TraceID, q string) bool {
	if strings.Contains(id.String(), q) {
		return true
	}
	return slices.ContainsFunc(t.spans, func(s *record.Span) bool { return matchesSpan(s, q) })
}

// matchesSpan looks for q, in lower case, in what a span says.
func matchesSpan(s *record.Span, q string) bool {
	for _, v := range []string{
		s.Name, s.StatusMessage, s.ErrorType, s.Service, s.AgentName, s.AgentID, s.RunID, s.SessionID, s.UserID,
		s.Model, s.ToolName, s.SpanID.String(),
	} {
		if contains(v, q) {
			return true
		}
	}
	return anyContains(s.Attributes, q)
}

func contains(s, q string) bool {
	return len(s) >= len(q) && strings.Contains(strings.ToLower(s), q)
}

// anyContains looks into texts, however deep in v.
func anyContains(v any, q string) bool {
	switch v := v.(type) {
	case string:
		return contains(v, q)
	case []any:
		return slices.ContainsFunc(v, func(e any) bool { return anyContains(e, q) })
	case map[string]any:
		for _, e := range v {
			if anyContains(e, q) {
				return true
			}
		}
	}
	return false
}

// TraceDetail is one trace with all its spans.
type TraceDetail struct {
	Trace TraceSummary `json:"trace"`
	Spans []Span       `json:"spans"`
}

// Trace returns one trace, its spans in the order of their start, parents
// before children where that ties. The error is ErrNotFound for one that has
// no spans here.
func (e *Engine) Trace(ctx context.Context, id record.TraceID) (TraceDetail, error) {
	tr, ok := e.store.Trace(id)
	if !ok {
		return TraceDetail{}, fmt.Errorf("trace %s: %w", id, ErrNotFound)
	}
	t := e.tree(tr)
	sum, err := e.summary(ctx, t, tr)
	if err != nil {
		return TraceDetail{}, err
	}
	d := TraceDetail{Trace: sum, Spans: make([]Span, len(t.spans))}
	for i, s := range t.spans {
		d.Spans[i] = spanOf(s, t.identity(s))
	}
	return d, nil
}
