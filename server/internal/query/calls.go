package query

import (
	"time"

	"github.com/kaizen-go/kaizen/genai"
	"github.com/kaizen-go/kaizen/price"
	"github.com/kaizen-go/kaizen/server/internal/record"
)

// Call is one model call that ended: an inference or an embedding, one for all
// its attempts and however many spans describe it.
type Call struct {
	Span     *record.Span // the innermost of the spans, the last attempt
	Start    time.Time
	Failed   bool
	Usage    price.Usage
	HasUsage bool
	Cost     USD
	HasCost  bool
	// Unpriced is true when the call cost something that is not known.
	Unpriced               bool
	Provider, Model        string
	Agent, Session, UserID string
}

// node is a model span with the spans of the same call inside it.
type node struct {
	span  *record.Span
	inner []*node
}

// callsOf finds the model calls of a trace. Two spans, one the ancestor of the
// other and of the same model, describe the same call: a library's own span
// inside a wrapper's. Between them may stand spans of no particular kind; a run
// or a tool in between makes it a call of its own. Package derive goes by the
// same rule.
func callsOf(t *tree) []Call {
	var nodes []*node
	byID := map[record.SpanID]*node{}
	for _, s := range t.spans {
		if isCall(s) && !s.Pending {
			n := &node{span: s}
			nodes = append(nodes, n)
			byID[s.SpanID] = n
		}
	}
	var tops []*node
	for _, n := range nodes {
		if w := wrapper(t, byID, n.span); w != nil {
			w.inner = append(w.inner, n)
		} else {
			tops = append(tops, n)
		}
	}
	var calls []Call
	for _, n := range tops {
		calls = n.calls(t, calls)
	}
	return calls
}

func isCall(s *record.Span) bool {
	return s.Kind == record.KindModel || s.Kind == record.KindEmbedding
}

// wrapper returns the nearest span around s that describes the same call.
func wrapper(t *tree, byID map[record.SpanID]*node, s *record.Span) *node {
	at := s
	for range t.spans { // parents may form a ring
		p := t.byID[at.ParentID]
		if p == nil || p == s {
			return nil
		}
		if n := byID[p.SpanID]; n != nil && sameModel(p, s) {
			return n
		}
		if !isCall(p) && p.Kind != record.KindOther {
			return nil
		}
		at = p
	}
	return nil
}

// sameModel compares what was asked for and what answered. A span that names
// no model is of any.
func sameModel(a, b *record.Span) bool {
	if a.Model == "" && a.ResponseModel == "" || b.Model == "" && b.ResponseModel == "" {
		return true
	}
	for _, m := range []string{a.Model, a.ResponseModel} {
		if m != "" && (m == b.Model || m == b.ResponseModel) {
			return true
		}
	}
	return false
}

// calls appends the calls that n stands for. A wrapper with several answers
// inside is a loop of calls; one with at most one answer is a call, whose
// failed attempts are inside it too.
func (n *node) calls(t *tree, out []Call) []Call {
	answers := 0
	for _, in := range n.inner {
		if in.span.Status == record.StatusOK {
			answers++
		}
	}
	if answers > 1 {
		for _, in := range n.inner {
			out = in.calls(t, out)
		}
		return out
	}
	return append(out, n.call(t))
}

// call makes one call of n and all that is inside. Usage and cost are the
// innermost spans'; where these have none, those of the span around them.
func (n *node) call(t *tree) Call {
	s := n.span
	c := Call{Span: s, Start: s.Start, Failed: s.Status == record.StatusError, Provider: s.Provider, Model: modelOf(s)}
	var unpriced, failed bool
	for _, in := range n.inner {
		k := in.call(t)
		c.Usage, c.HasUsage = c.Usage.Add(k.Usage), c.HasUsage || k.HasUsage
		c.Cost, c.HasCost = c.Cost+k.Cost, c.HasCost || k.HasCost
		unpriced = unpriced || k.Unpriced
		if c.Span == s || failed || !k.Failed { // the answer, else the last attempt
			c.Span, c.Provider, c.Model, failed = k.Span, k.Provider, k.Model, k.Failed
		}
	}
	if !c.HasUsage {
		c.Usage, c.HasUsage = s.Usage, s.HasUsage
	}
	if !c.HasCost && s.HasCost {
		c.Cost, c.HasCost = USD(s.CostNanoUSD), true
	}
	if c.Model == "" {
		c.Model = modelOf(s)
	}
	if c.Provider == "" {
		c.Provider = s.Provider
	}
	c.Unpriced = !c.HasCost && (unpriced || isUnpriced(s))
	id := t.identity(c.Span)
	c.Agent, c.Session, c.UserID = id.agent(), id.session, id.user
	return c
}

func modelOf(s *record.Span) string {
	if s.Model != "" {
		return s.Model
	}
	return s.ResponseModel
}

// isUnpriced reports whether a call without a cost cost something. One that
// failed before an answer began is charged by no provider.
func isUnpriced(s *record.Span) bool {
	if v, ok := s.Attributes[string(genai.CostUnpriced)].(bool); ok {
		return v
	}
	partial, _ := s.Attributes[string(genai.Partial)].(bool)
	return s.Status == record.StatusOK || s.HasUsage || partial
}
