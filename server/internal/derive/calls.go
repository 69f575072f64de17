package derive

import "github.com/kaizen-go/kaizen/server/internal/record"

// verdict says what a span is to be counted as.
type verdict int

const (
	first     verdict = iota // a span that nothing else has described
	again                    // a model call that was counted
	moreUsage                // a model call that was counted without its usage
)

// calls finds spans that describe the same model call: a library's own span
// inside a wrapper's, of the same model. Inner spans end and usually arrive
// first, but not always, so it looks both ways: each counted call marks its
// ancestors as far as they are known, and each new call looks for a counted one
// among its own.
//
// A mark goes up through spans of no particular kind (an HTTP client's, say); a
// run or a tool in between means a call of its own.
type calls struct {
	limit     int
	now, past map[spanKey]*seen // two generations bound the memory
}

// seen is what is remembered of one span.
type seen struct {
	parent  record.SpanID
	agent   string
	through bool  // of a kind that marks pass through
	call    *call // the call that it is
	inner   *call // a call that was counted below it
}

// call is one counted model call.
type call struct {
	model, response string
	usage           bool
}

// maxClimb bounds the ancestors that are looked at.
const maxClimb = 16

func newCalls(limit int) *calls {
	return &calls{limit: max(limit/2, 1), now: map[spanKey]*seen{}}
}

// note takes down where a span stands, before any of its batch is counted.
func (c *calls) note(s *record.Span) {
	e := c.at(spanKey{s.TraceID, s.SpanID})
	e.parent, e.agent = s.ParentID, s.AgentName
	e.through = isModel(s) || s.Kind == record.KindOther || s.Kind == ""
}

func isModel(s *record.Span) bool {
	return s.Kind == record.KindModel || s.Kind == record.KindEmbedding
}

// agentOf returns the agent that s names, or the nearest known span around it.
func (c *calls) agentOf(s *record.Span) string {
	agent := s.AgentName
	for id, n := s.ParentID, 0; agent == "" && !id.IsZero() && n < maxClimb; n++ {
		e := c.find(spanKey{s.TraceID, id})
		if e == nil {
			break
		}
		agent, id = e.agent, e.parent
	}
	return agent
}

// see says how to count a span.
func (c *calls) see(s *record.Span) verdict {
	c.note(s) // again: the memory may have turned over since the batch began
	e := c.at(spanKey{s.TraceID, s.SpanID})
	if !isModel(s) {
		if e.through && e.inner != nil {
			c.mark(s.TraceID, e, e.inner)
		}
		return first
	}
	counted := e.inner
	if counted == nil || !counted.matches(s) {
		counted = c.above(s)
	}
	if counted == nil {
		e.call = &call{model: s.Model, response: s.ResponseModel, usage: s.HasUsage}
		c.mark(s.TraceID, e, e.call)
		return first
	}
	e.call = counted
	c.mark(s.TraceID, e, counted)
	if s.HasUsage && !counted.usage {
		counted.usage = true
		return moreUsage
	}
	return again
}

// above returns the call that a known ancestor of s was counted as.
func (c *calls) above(s *record.Span) *call {
	for id, n := s.ParentID, 0; !id.IsZero() && n < maxClimb; n++ {
		e := c.find(spanKey{s.TraceID, id})
		if e == nil {
			return nil
		}
		if e.call != nil && e.call.matches(s) {
			return e.call
		}
		if !e.through {
			return nil
		}
		id = e.parent
	}
	return nil
}

// mark tells the ancestors of e that one was counted below them. An ancestor
// that has not arrived keeps the mark and passes it on when it does.
func (c *calls) mark(trace record.TraceID, e *seen, counted *call) {
	for id, n := e.parent, 0; !id.IsZero() && n < maxClimb; n++ {
		up := c.at(spanKey{trace, id})
		up.inner = counted
		if !up.through {
			return
		}
		id = up.parent
	}
}

// matches reports whether s is of the same model: asked for or answered by.
func (k *call) matches(s *record.Span) bool {
	known := func(a, b string) bool { return a != "" && a == b }
	switch {
	case known(k.model, s.Model), known(k.response, s.ResponseModel), known(k.model, s.ResponseModel), known(k.response, s.Model):
		return true
	}
	return k.model == "" && k.response == "" || s.Model == "" && s.ResponseModel == ""
}

func (c *calls) find(k spanKey) *seen {
	if e, ok := c.now[k]; ok {
		return e
	}
	return c.past[k]
}

// at returns the entry of a span, making it if needed.
func (c *calls) at(k spanKey) *seen {
	if e, ok := c.now[k]; ok {
		return e
	}
	e := c.past[k]
	if e == nil {
		e = &seen{}
	}
	if len(c.now) >= c.limit {
		c.past, c.now = c.now, make(map[spanKey]*seen, c.limit)
	}
	c.now[k] = e
	return e
}
