package api

import (
	"net/http"

	"github.com/kaizen-go/kaizen/server/internal/query"
	"github.com/kaizen-go/kaizen/server/internal/record"
)

func (a *api) traces(r *http.Request, p params) (any, error) {
	w, err := p.window()
	if err != nil {
		return nil, err
	}
	status, err := p.status()
	if err != nil {
		return nil, err
	}
	return a.q.Traces(r.Context(), query.TraceFilter{
		Window: w, Agent: p.get("agent"), Status: status, Session: p.get("session"), User: p.get("user"), Q: p.get("q"),
	})
}

func (a *api) trace(r *http.Request, _ params) (any, error) {
	id, err := query.ParseTraceID(r.PathValue("trace_id"))
	if err != nil {
		return nil, err
	}
	return a.q.Trace(r.Context(), id)
}

var kinds = []string{
	"run", "iteration", "plan", "model", "embedding", "tool", "memory", "retrieval", "checkpoint",
	"permission", "interrupt", "specialist", "handoff", "other",
}

func (a *api) spans(r *http.Request, p params) (any, error) {
	w, err := p.window()
	if err != nil {
		return nil, err
	}
	f := query.SpanFilter{Window: w, RunID: p.get("run_id"), Agent: p.get("agent"), Tool: p.get("tool"), Model: p.get("model")}
	if f.Status, err = p.status(); err != nil {
		return nil, err
	}
	kind, err := p.oneOf("kind", kinds...)
	if err != nil {
		return nil, err
	}
	f.Kind = record.Kind(kind)
	if f.TraceID, err = p.traceID("trace_id"); err != nil {
		return nil, err
	}
	return a.q.Spans(r.Context(), f)
}

func (a *api) span(r *http.Request, _ params) (any, error) {
	trace, err := query.ParseTraceID(r.PathValue("trace_id"))
	if err != nil {
		return nil, err
	}
	span, err := query.ParseSpanID(r.PathValue("span_id"))
	if err != nil {
		return nil, err
	}
	return a.q.Span(r.Context(), trace, span)
}

func (a *api) logs(r *http.Request, p params) (any, error) {
	w, err := p.window()
	if err != nil {
		return nil, err
	}
	f := query.LogFilter{
		Window: w, RunID: p.get("run_id"), Agent: p.get("agent"), Level: p.get("level"), Logger: p.get("logger"), Q: p.get("q"),
	}
	if f.TraceID, err = p.traceID("trace_id"); err != nil {
		return nil, err
	}
	if f.SpanID, err = p.spanID("span_id"); err != nil {
		return nil, err
	}
	order, err := p.oneOf("order", "asc", "desc")
	if err != nil {
		return nil, err
	}
	f.Ascending = order == "asc"
	return a.q.Logs(r.Context(), f)
}

func (a *api) sessions(r *http.Request, p params) (any, error) {
	w, err := p.window()
	if err != nil {
		return nil, err
	}
	return a.q.Sessions(r.Context(), w)
}

// agentList is the answer of /api/agents.
type agentList struct {
	Agents []query.Agent `json:"agents"`
}

func (a *api) agents(r *http.Request, p params) (any, error) {
	w, err := p.window()
	if err != nil {
		return nil, err
	}
	agents, err := a.q.Agents(r.Context(), w)
	return agentList{agents}, err
}

func (a *api) costs(r *http.Request, p params) (any, error) {
	w, err := p.window()
	if err != nil {
		return nil, err
	}
	by := p.get("by")
	if by == "" {
		by = "model"
	}
	return a.q.Costs(r.Context(), w, by)
}

func (a *api) stats(r *http.Request, p params) (any, error) {
	w, err := p.window()
	if err != nil {
		return nil, err
	}
	return a.q.Totals(r.Context(), w)
}
