package agent

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/kaizen-go/kaizen/hook"
	"github.com/kaizen-go/kaizen/price"
)

// Budget is what a run may use, with the runs below it. Zero means no limit. It
// is checked before each model call, so a call that is under way when the limit
// is reached is paid for, and so are those that workers make at that moment.
type Budget struct {
	// NanoUSD is in billionths of a US dollar. A call whose price is not known
	// cannot be held to it: the next one is refused.
	NanoUSD int64
	// Tokens counts all tokens, cached ones too.
	Tokens int64
	// ModelCalls counts calls, retries within one not.
	ModelCalls int64
	// Duration is how long calls may be begun; use the context to cut them off.
	Duration time.Duration
}

// The limits of a [Budget], as [BudgetError.Limit] names them.
const (
	LimitCost       = "cost"         // NanoUSD, in billionths of a dollar
	LimitUnpriced   = "unknown_cost" // NanoUSD, in calls whose price is not known, of which none may be
	LimitTokens     = "tokens"
	LimitModelCalls = "model_calls"
	LimitDuration   = "duration" // in nanoseconds
)

// BudgetError says that a run may make no further model call.
type BudgetError struct {
	// Limit is the limit that was reached: see [LimitCost] and so on.
	Limit string
	// Used is what was used, Max what might be, in the limit's unit.
	Used, Max int64
	// Agent is the name of the agent whose budget it is: the run's own, or one
	// around it.
	Agent string
}

// Error says what was used of which limit.
func (e *BudgetError) Error() string {
	return fmt.Sprintf("budget of %s: %s: used %d of %d", e.Agent, e.Limit, e.Used, e.Max)
}

// ErrorType is the name of the error in records.
func (e *BudgetError) ErrorType() string { return "budget" }

// meter counts what a run and those below it use.
type meter struct {
	agent string
	limit Budget
	outer *meter // of a run around this one; may be nil
	start time.Time

	mu       sync.Mutex
	spent    Spent // Duration is what was carried over
	unpriced int64
}

type meterKey struct{}

// metered returns a context whose model calls count against the agent's budget
// and those around it.
func (a *Agent) metered(ctx context.Context, t *task) context.Context {
	t.meter, _ = ctx.Value(meterKey{}).(*meter)
	if a.cfg.Budget == (Budget{}) {
		return ctx
	}
	t.meter = &meter{agent: a.name, limit: a.cfg.Budget, outer: t.meter, start: t.start, spent: t.carried}
	return context.WithValue(ctx, meterKey{}, t.meter)
}

// afford takes one model call off the budgets, or records that the guard stops
// the run.
func (t *task) afford(ctx context.Context) error {
	broke := t.meter.take()
	if broke == nil {
		return nil
	}
	guard := &hook.Guard{Guard: "budget", Action: "stop", Reason: broke.Error()}
	return join(broke, hook.From(ctx).Do(ctx, guard, func(context.Context, *hook.Op) error { return nil }))
}

// take takes one call off m and those around it, or off none. A nil meter
// limits nothing.
func (m *meter) take() *BudgetError {
	for l := m; l != nil; l = l.outer {
		err := l.takeOwn()
		if err == nil {
			continue
		}
		for paid := m; paid != l; paid = paid.outer {
			paid.mu.Lock()
			paid.spent.ModelCalls--
			paid.mu.Unlock()
		}
		return err
	}
	return nil
}

func (m *meter) takeOwn() *BudgetError {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.limit.NanoUSD > 0 && m.unpriced > 0 {
		return &BudgetError{Limit: LimitUnpriced, Used: m.unpriced, Agent: m.agent}
	}
	for _, l := range [...]struct {
		name      string
		used, max int64
	}{
		{LimitCost, m.spent.CostNanoUSD, m.limit.NanoUSD},
		{LimitTokens, m.spent.Usage.Total(), m.limit.Tokens},
		{LimitModelCalls, m.spent.ModelCalls, m.limit.ModelCalls},
		{LimitDuration, int64(m.spent.Duration + time.Since(m.start)), int64(m.limit.Duration)},
	} {
		if l.max > 0 && l.used >= l.max {
			return &BudgetError{Limit: l.name, Used: l.used, Max: l.max, Agent: m.agent}
		}
	}
	m.spent.ModelCalls++
	return nil
}

// charge adds what a call used, once it has ended with err.
func (m *meter) charge(call *hook.ModelCall, at time.Time, err error) {
	if m == nil {
		return
	}
	cost, priced := call.CostNanoUSD, call.Priced
	if !priced && call.HasUsage { // nobody observes: the agent has to look it up
		for _, model := range [...]string{call.ResponseModel, call.Model} {
			if c, ok := price.Default().Cost(call.Provider, model, at, call.Usage); ok && !priced {
				cost, priced = c.NanoUSD, true
			}
		}
	}
	for l := m; l != nil; l = l.outer {
		l.mu.Lock()
		l.spent.Usage = l.spent.Usage.Add(call.Usage)
		l.spent.CostNanoUSD += cost
		if !priced && (err == nil || call.Partial) { // a call that failed before an answer began costs nothing
			l.unpriced++
		}
		l.mu.Unlock()
	}
}
