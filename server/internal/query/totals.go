package query

import (
	"cmp"
	"context"
	"fmt"
	"iter"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/kaizen-go/kaizen/audit"
	"github.com/kaizen-go/kaizen/server/internal/record"
	"github.com/kaizen-go/kaizen/server/internal/store"
)

// active yields the trees of all traces with something in the window. A trace
// may begin before it.
func (e *Engine) active(ctx context.Context, w Window) iter.Seq2[*tree, error] {
	return func(yield func(*tree, error) bool) {
		stop := canceled{ctx: ctx}
		for tr := range e.store.Traces(time.Time{}, w.Until) {
			if err := stop.err(); err != nil {
				yield(nil, err)
				return
			}
			if len(tr.Spans) == 0 {
				continue
			}
			t := e.tree(tr)
			if !w.Since.IsZero() && t.last.Before(w.Since) {
				continue
			}
			if !yield(t, nil) {
				return
			}
		}
	}
}

// Totals sums up what began in the window. Its limit and cursor do not matter.
func (e *Engine) Totals(ctx context.Context, w Window) (Totals, error) {
	var out Totals
	sessions, agents := map[string]bool{}, map[string]bool{}
	for t, err := range e.active(ctx, w) {
		if err != nil {
			return out, err
		}
		sum := t.sum
		if !w.Since.IsZero() && t.first.Before(w.Since) || !w.Until.IsZero() && !t.last.Before(w.Until) {
			sum = t.sumIn(w) // part of the trace
		}
		out.add(sum.Totals)
		for _, s := range sum.sessions {
			sessions[s] = true
		}
		for _, a := range sum.agents {
			agents[a] = true
		}
	}
	delete(sessions, "")
	delete(agents, "")
	out.Sessions, out.Agents = len(sessions), len(agents)
	if err := e.countRest(ctx, w, &out); err != nil {
		return Totals{}, err
	}
	return out, nil
}

// traceSum is what a trace adds to the totals.
type traceSum struct {
	Totals
	sessions, agents []string
}

// sumIn sums up what began in the window.
func (t *tree) sumIn(w Window) traceSum {
	var sum traceSum
	for _, s := range t.spans {
		if !w.has(s.Start) {
			continue
		}
		sum.countSpan(s)
		id := t.identity(s)
		if !slices.Contains(sum.sessions, id.session) {
			sum.sessions = append(sum.sessions, id.session)
		}
		if agent := id.agent(); !slices.Contains(sum.agents, agent) {
			sum.agents = append(sum.agents, agent)
		}
	}
	for _, c := range t.calls {
		if w.has(c.Start) {
			sum.countCall(c)
		}
	}
	return sum
}

func (o *Totals) add(v Totals) {
	o.Runs += v.Runs
	o.RunsFailed += v.RunsFailed
	o.Spans += v.Spans
	o.ModelCalls += v.ModelCalls
	o.ModelCallsFailed += v.ModelCallsFailed
	o.ModelCallsUnpriced += v.ModelCallsUnpriced
	o.ToolCalls += v.ToolCalls
	o.ToolCallsFailed += v.ToolCallsFailed
	o.Tokens.Input += v.Tokens.Input
	o.Tokens.CacheRead += v.Tokens.CacheRead
	o.Tokens.CacheWrite += v.Tokens.CacheWrite
	o.Tokens.Output += v.Tokens.Output
	o.Tokens.Reasoning += v.Tokens.Reasoning
	o.CostUSD += v.CostUSD
}

func (o *Totals) countSpan(s *record.Span) {
	o.Spans++
	failed := s.Status == record.StatusError
	switch {
	case s.Kind == record.KindRun:
		o.Runs++
		if failed {
			o.RunsFailed++
		}
	case s.Kind == record.KindTool && !s.Pending:
		o.ToolCalls++
		if failed {
			o.ToolCallsFailed++
		}
	}
}

func (o *Totals) countCall(c Call) {
	o.ModelCalls++
	if c.Failed {
		o.ModelCallsFailed++
	}
	if c.Unpriced {
		o.ModelCallsUnpriced++
	}
	o.Tokens.add(c.Usage)
	o.CostUSD += c.Cost
}

// countRest counts log records and audit entries.
func (e *Engine) countRest(ctx context.Context, w Window, out *Totals) error {
	unbounded := w.Since.IsZero() && w.Until.IsZero()
	if unbounded {
		out.LogRecords = int(e.store.Stats().Logs)
	} else {
		for range e.store.Logs(w.Since, w.Until) {
			out.LogRecords++
		}
	}
	if e.ledger == nil {
		return nil
	}
	if unbounded {
		out.AuditEntries = e.ledger.Size()
		return nil
	}
	q := audit.Query{Since: w.Since}
	if !w.Until.IsZero() {
		q.Until = w.Until.Add(-1) // the ledger includes it
	}
	n, err := e.ledger.Count(ctx, q)
	if err != nil {
		return fmt.Errorf("query: count audit entries: %w", err)
	}
	out.AuditEntries = n
	return nil
}

// SessionPage is one page of a list of sessions.
type SessionPage struct {
	Sessions []Session `json:"sessions"`
	Next     string    `json:"next"`
}

// Sessions lists conversations, the one with the latest activity first.
func (e *Engine) Sessions(ctx context.Context, w Window) (SessionPage, error) {
	page := SessionPage{Sessions: []Session{}}
	pos, err := parsePosition(w.Cursor)
	if err != nil {
		return page, err
	}
	all := map[string]*Session{}
	for t, err := range e.active(ctx, w) {
		if err != nil {
			return page, err
		}
		sessionsOf(all, t, w)
	}
	list := make([]*Session, 0, len(all))
	for _, s := range all {
		if !pos.passed(time.Time(s.Last), s.SessionID) {
			list = append(list, s)
		}
	}
	slices.SortFunc(list, func(a, b *Session) int {
		if c := time.Time(b.Last).Compare(time.Time(a.Last)); c != 0 {
			return c
		}
		return strings.Compare(b.SessionID, a.SessionID)
	})
	for _, s := range list {
		if len(page.Sessions) == w.limit() {
			end := page.Sessions[len(page.Sessions)-1]
			page.Next = position{at: time.Time(end.Last).UnixNano(), key: end.SessionID}.String()
			break
		}
		page.Sessions = append(page.Sessions, *s)
	}
	return page, nil
}

func sessionsOf(all map[string]*Session, t *tree, w Window) {
	for _, s := range t.spans {
		id := t.identity(s)
		if id.session == "" || !w.has(s.Start) {
			continue
		}
		x := all[id.session]
		if x == nil {
			x = &Session{SessionID: id.session, First: Time(s.Start), Last: Time(s.Start), Agents: []string{}}
			all[id.session] = x
		}
		x.see(s, id)
	}
	for _, c := range t.calls {
		if x := all[c.Session]; x != nil && w.has(c.Start) {
			x.ModelCalls++
			x.Tokens.add(c.Usage)
			x.CostUSD += c.Cost
		}
	}
}

func (x *Session) see(s *record.Span, id identity) {
	if s.Start.Before(time.Time(x.First)) {
		x.First = Time(s.Start)
	}
	x.Last = latest(x.Last, s)
	if x.UserID == "" {
		x.UserID = id.user
	}
	if name := id.agent(); name != "" && !slices.Contains(x.Agents, name) {
		x.Agents = append(x.Agents, name)
	}
	switch {
	case s.Kind == record.KindRun:
		x.Runs++
		if s.Status == record.StatusError {
			x.RunsFailed++
		}
	case s.Kind == record.KindTool && !s.Pending:
		x.ToolCalls++
	}
}

func latest(at Time, s *record.Span) Time {
	for _, t := range []time.Time{s.Start, s.End} {
		if t.After(time.Time(at)) {
			at = Time(t)
		}
	}
	return at
}

// agentSum is an Agent in the making.
type agentSum struct {
	Agent
	runs []float64 // durations in milliseconds
}

// Agents lists the agents by name. An agent without a name goes by its id.
func (e *Engine) Agents(ctx context.Context, w Window) ([]Agent, error) {
	all := map[string]*agentSum{}
	for t, err := range e.active(ctx, w) {
		if err != nil {
			return nil, err
		}
		agentsOf(all, t, w)
	}
	list := make([]Agent, 0, len(all))
	for _, a := range all {
		if len(a.runs) > 0 {
			slices.Sort(a.runs)
			a.RunP50MS, a.RunP95MS = new(quantile(a.runs, 0.5)), new(quantile(a.runs, 0.95))
		}
		slices.Sort(a.AgentIDs)
		list = append(list, a.Agent)
	}
	slices.SortFunc(list, func(a, b Agent) int { return strings.Compare(a.Agent, b.Agent) })
	return list, nil
}

func agentsOf(all map[string]*agentSum, t *tree, w Window) {
	for _, s := range t.spans {
		id := t.identity(s)
		if id.agent() == "" || !w.has(s.Start) {
			continue
		}
		a := all[id.agent()]
		if a == nil {
			a = &agentSum{Agent: Agent{Agent: id.agent(), AgentIDs: []string{}, Last: Time(s.Start)}}
			all[id.agent()] = a
		}
		a.see(s, id)
	}
	for _, c := range t.calls {
		if a := all[c.Agent]; a != nil && w.has(c.Start) {
			a.ModelCalls++
			a.Tokens.add(c.Usage)
			a.CostUSD += c.Cost
		}
	}
}

func (a *agentSum) see(s *record.Span, id identity) {
	a.Last = latest(a.Last, s)
	if id.agentID != "" && !slices.Contains(a.AgentIDs, id.agentID) {
		a.AgentIDs = append(a.AgentIDs, id.agentID)
	}
	failed := s.Status == record.StatusError
	switch {
	case s.Kind == record.KindRun:
		a.Runs++
		if failed {
			a.RunsFailed++
		}
		if s.Pending {
			a.Active++
		} else {
			a.runs = append(a.runs, ms(s.End.Sub(s.Start)))
		}
	case s.Kind == record.KindTool && !s.Pending:
		a.ToolCalls++
		if failed {
			a.ToolCallsFailed++
		}
	}
}

// quantile interpolates between the two values around rank (n−1)·q of a sorted
// list that is not empty.
func quantile(sorted []float64, q float64) float64 {
	rank := float64(len(sorted)-1) * q
	low := math.Floor(rank)
	a, b := sorted[int(low)], sorted[int(math.Ceil(rank))]
	return a + (b-a)*(rank-low)
}

// CostKeys are what costs can be summed by.
var CostKeys = []string{"model", "provider", "agent", "session", "user"}

// Costs sums up model calls by one of CostKeys, the dearest first.
func (e *Engine) Costs(ctx context.Context, w Window, by string) (Costs, error) {
	key, ok := map[string]func(Call) string{
		"model":    func(c Call) string { return c.Model },
		"provider": func(c Call) string { return c.Provider },
		"agent":    func(c Call) string { return c.Agent },
		"session":  func(c Call) string { return c.Session },
		"user":     func(c Call) string { return c.UserID },
	}[by]
	out := Costs{By: by, Rows: []CostRow{}}
	if !ok {
		return out, &FilterError{Field: "by", Reason: fmt.Sprintf("%.40q is not one of %s", by, strings.Join(CostKeys, ", "))}
	}
	rows := map[string]*CostRow{}
	for t, err := range e.active(ctx, w) {
		if err != nil {
			return out, err
		}
		for _, c := range t.calls {
			if w.has(c.Start) {
				out.add(rows, key(c), c)
			}
		}
	}
	for _, r := range rows {
		out.Rows = append(out.Rows, *r)
	}
	slices.SortFunc(out.Rows, func(a, b CostRow) int {
		return cmp.Or(cmp.Compare(b.CostUSD, a.CostUSD), strings.Compare(a.Key, b.Key))
	})
	return out, nil
}

func (o *Costs) add(rows map[string]*CostRow, key string, c Call) {
	r := rows[key]
	if r == nil {
		r = &CostRow{Key: key}
		rows[key] = r
	}
	r.ModelCalls++
	o.ModelCalls++
	r.Tokens.add(c.Usage)
	r.CostUSD += c.Cost
	o.TotalUSD += c.Cost
	if c.Unpriced {
		r.UnpricedCalls++
		o.UnpricedCalls++
	}
}

var _ Store = (*store.Store)(nil)
