package sampling

import (
	"container/list"

	"go.opentelemetry.io/otel/trace"
)

// decisions remembers what was decided of the most recently used traces.
type decisions struct {
	limit int
	byID  map[trace.TraceID]*list.Element
	order list.List // of decision; the most recently used is at the front
}

type decision struct {
	id   trace.TraceID
	kept bool
}

func newDecisions(limit int) *decisions {
	return &decisions{limit: limit, byID: make(map[trace.TraceID]*list.Element)}
}

// put remembers a decision in place of an earlier one, and forgets the one that
// was not used for longest when there are too many.
func (d *decisions) put(id trace.TraceID, kept bool) {
	if e, known := d.byID[id]; known {
		e.Value = decision{id, kept}
		d.order.MoveToFront(e)
		return
	}
	d.byID[id] = d.order.PushFront(decision{id, kept})
	if len(d.byID) > d.limit {
		oldest := d.order.Back()
		delete(d.byID, oldest.Value.(decision).id)
		d.order.Remove(oldest)
	}
}

// get returns the decision of a trace, if it is still known.
func (d *decisions) get(id trace.TraceID) (kept, known bool) {
	e, known := d.byID[id]
	if !known {
		return false, false
	}
	d.order.MoveToFront(e)
	return e.Value.(decision).kept, true
}
