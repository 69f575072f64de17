package query

import (
	"bytes"
	"cmp"
	"slices"
	"time"

	"github.com/kaizen-go/kaizen/server/internal/record"
	"github.com/kaizen-go/kaizen/server/internal/store"
)

// tree is what is worked out from the spans of one trace. It is not changed
// once made.
type tree struct {
	version uint64
	spans   []*record.Span              // by start
	ids     map[record.SpanID]*identity // many spans share one
	calls   []Call
	sum     traceSum // of the whole trace
	// root is the earliest span without a parent here; the earliest of all
	// when parents form a ring. run is the run that the trace is about: the
	// root, or else the earliest run, or else the root all the same.
	root, run *record.Span
	// first and last are the earliest start and the latest moment of a span.
	first, last time.Time

	byID map[record.SpanID]*record.Span // nil once the tree is made
}

// identity is whom a span belongs to.
type identity struct {
	run, agentID, agentName, session, user string
}

// agent returns the name, or the id of an agent without one.
func (i identity) agent() string {
	if i.agentName != "" {
		return i.agentName
	}
	return i.agentID
}

func newTree(tr store.Trace) *tree {
	t := &tree{
		version: tr.Version,
		spans:   slices.Clone(tr.Spans),
		byID:    make(map[record.SpanID]*record.Span, len(tr.Spans)),
		ids:     make(map[record.SpanID]*identity, len(tr.Spans)),
	}
	for _, s := range t.spans {
		t.byID[s.SpanID] = s
		if t.first.IsZero() || s.Start.Before(t.first) {
			t.first = s.Start
		}
		for _, at := range []time.Time{s.Start, s.End} {
			if at.After(t.last) {
				t.last = at
			}
		}
	}
	for _, s := range t.spans {
		t.identify(s)
	}
	t.sort()
	t.root = t.findRoot()
	t.run = t.findRun()
	t.calls = callsOf(t)
	t.sum = t.sumIn(Window{})
	t.byID = nil // cached trees are many
	return t
}

// sort puts spans in the order of their start, parents before children where
// that ties.
func (t *tree) sort() {
	depth := make(map[record.SpanID]int, len(t.spans))
	for _, s := range t.spans {
		depth[s.SpanID] = t.depth(s)
	}
	slices.SortFunc(t.spans, func(a, b *record.Span) int {
		if c := a.Start.Compare(b.Start); c != 0 {
			return c
		}
		if c := cmp.Compare(depth[a.SpanID], depth[b.SpanID]); c != 0 {
			return c
		}
		return bytes.Compare(a.SpanID[:], b.SpanID[:])
	})
}

// maxDepth bounds how far up a tree is looked, which also ends rings.
const maxDepth = 1_000

func (t *tree) depth(s *record.Span) int {
	n := 0
	for p := t.byID[s.ParentID]; p != nil && n < maxDepth; p = t.byID[p.ParentID] {
		// A parent that starts at another time needs no rule to stand apart.
		if !p.Start.Equal(s.Start) {
			break
		}
		n++
	}
	return n
}

// identify fills the ids of s, from the spans around it where it has none of
// its own: a client library's span does not know the agent that called it.
func (t *tree) identify(s *record.Span) {
	var chain []*record.Span
	id := &identity{}
	for at := s; at != nil && len(chain) < maxDepth; at = t.byID[at.ParentID] {
		if known, ok := t.ids[at.SpanID]; ok {
			id = known
			break
		}
		t.ids[at.SpanID] = &identity{} // seen: ends a ring
		chain = append(chain, at)
	}
	for i := len(chain) - 1; i >= 0; i-- {
		if inner := id.within(chain[i]); inner != *id {
			id = &inner
		}
		t.ids[chain[i].SpanID] = id
	}
}

// within returns the identity of s inside a span of identity i.
func (i identity) within(s *record.Span) identity {
	switch {
	case s.AgentName == "" && (s.AgentID == "" || s.AgentID == i.agentID):
	case s.AgentID == "" && s.AgentName == i.agentName:
	default: // another agent: never one's name with another's id
		i.agentName, i.agentID = s.AgentName, s.AgentID
	}
	if s.RunID != "" {
		i.run = s.RunID
	}
	if s.SessionID != "" {
		i.session = s.SessionID
	}
	if s.UserID != "" {
		i.user = s.UserID
	}
	return i
}

func (t *tree) identity(s *record.Span) identity { return *t.ids[s.SpanID] }

func (t *tree) findRoot() *record.Span {
	for _, s := range t.spans {
		if t.byID[s.ParentID] == nil {
			return s
		}
	}
	return t.spans[0]
}

func (t *tree) findRun() *record.Span {
	if t.root.Kind == record.KindRun {
		return t.root
	}
	for _, s := range t.spans {
		if s.Kind == record.KindRun {
			return s
		}
	}
	return t.root
}

// summary describes the trace. It does not know of audit entries.
func (t *tree) summary(tr store.Trace) TraceSummary {
	root, run := t.root, t.run
	id := t.identity(run)
	sum := TraceSummary{
		TraceID: tr.ID.String(), Name: root.Name, RunID: id.run, AgentName: id.agentName, AgentID: id.agentID,
		SessionID: id.session, UserID: id.user, Service: root.Service,
		Start: Time(t.first), DurationMS: ms(t.last.Sub(t.first)), Status: string(run.Status),
		Spans: len(t.spans), LogRecords: tr.Logs, Agents: []string{},
	}
	if !run.Pending {
		sum.End = timePtr(t.last)
	}
	for _, s := range t.spans {
		t.count(&sum, s)
	}
	sum.ModelCalls = len(t.calls)
	for _, c := range t.calls {
		sum.Tokens.add(c.Usage)
		sum.CostUSD += c.Cost
		if c.Unpriced {
			sum.UnpricedCalls++
		}
	}
	return sum
}

func (t *tree) count(sum *TraceSummary, s *record.Span) {
	if s.Status == record.StatusError {
		sum.Errors++
	}
	switch {
	case s.Kind == record.KindRun:
		sum.Runs++
	case s.Kind == record.KindTool && !s.Pending:
		sum.ToolCalls++
	}
	id := t.identity(s)
	if name := id.agent(); name != "" && !slices.Contains(sum.Agents, name) {
		sum.Agents = append(sum.Agents, name)
	}
	if sum.SessionID == "" {
		sum.SessionID = id.session
	}
	if sum.UserID == "" {
		sum.UserID = id.user
	}
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
