package hook

import (
	"context"
	"maps"
	"sync"

	"github.com/kaizen-go/kaizen/price"
)

// maxSeries bounds the names that [Cost] and [Profiler] keep apart; what comes
// after is summed under [OtherSeries], so that names made up by a model cannot
// fill the memory.
const maxSeries = 1000

// OtherSeries stands for all names beyond the first thousand.
const OtherSeries = "_other"

// Cost sums what model calls cost: in total, by agent, by model and by the tool
// that they were made in. The zero value is ready. Its methods may be called at
// once from any number of goroutines.
//
//	var cost hook.Cost
//	err := reg.Register(cost.Registration())
//	…
//	fmt.Println(cost.Snapshot().Total.NanoUSD)
type Cost struct {
	mu  sync.Mutex
	sum CostSnapshot
}

// CostSum is what some model calls took together.
type CostSum struct {
	// Calls counts the calls, failed ones included.
	Calls int64
	// Unpriced counts those whose price is not known, Unmetered those whose
	// tokens are not. They are missing from the sums below, not free.
	Unpriced, Unmetered int64
	Usage               price.Usage
	// NanoUSD is in billionths of a US dollar.
	NanoUSD int64
}

// CostSnapshot is the state of a [Cost].
type CostSnapshot struct {
	Total CostSum
	// ByAgent is by the name of the agent, or its id where it has no name.
	ByAgent map[string]CostSum
	// ByModel is by the model that answered, or that was asked for where no
	// answer names one.
	ByModel map[string]CostSum
	// ByTool is by the innermost tool around the call: what agents and models
	// cost that run inside a tool. Calls outside of tools are not in it.
	ByTool map[string]CostSum
}

// Registration returns the handler to register. It is named "cost".
func (c *Cost) Registration() Registration {
	return Registration{
		Name: "cost", Kinds: []Kind{KindModelCall}, Phases: []Phase{End}, Timeout: builtinTimeout,
		Handler: HandlerFunc(func(ctx context.Context, e Event) error {
			if call, ok := e.Payload.(*ModelCall); ok {
				c.add(e.Run, call, toolAround(Current(ctx)))
			}
			return nil
		}),
	}
}

// toolAround returns the name of the innermost tool that op runs in, or "".
func toolAround(op *Op) string {
	for ; op != nil; op = op.outer {
		if op.Kind() == KindTool {
			op.mu.Lock()
			defer op.mu.Unlock()
			return op.payload.Label()
		}
	}
	return ""
}

func (c *Cost) add(run Run, call *ModelCall, tool string) {
	agent := run.AgentName
	if agent == "" {
		agent = run.AgentID
	}
	model := call.ResponseModel
	if model == "" {
		model = call.Model
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sum.Total.add(call)
	addTo(&c.sum.ByAgent, agent, call)
	addTo(&c.sum.ByModel, model, call)
	addTo(&c.sum.ByTool, tool, call)
}

func addTo(sums *map[string]CostSum, name string, call *ModelCall) {
	if name == "" {
		return
	}
	if *sums == nil {
		*sums = make(map[string]CostSum)
	}
	s, known := (*sums)[name]
	if !known && len(*sums) >= maxSeries {
		name = OtherSeries
		s = (*sums)[name]
	}
	s.add(call)
	(*sums)[name] = s
}

func (s *CostSum) add(call *ModelCall) {
	s.Calls++
	if call.Priced {
		s.NanoUSD += call.CostNanoUSD
	} else {
		s.Unpriced++
	}
	if call.HasUsage {
		s.Usage = s.Usage.Add(call.Usage)
	} else {
		s.Unmetered++
	}
}

// Snapshot returns the sums since the start or the last Reset, as a copy.
func (c *Cost) Snapshot() CostSnapshot {
	c.mu.Lock()
	defer c.mu.Unlock()
	return CostSnapshot{
		Total:   c.sum.Total,
		ByAgent: maps.Clone(c.sum.ByAgent), ByModel: maps.Clone(c.sum.ByModel), ByTool: maps.Clone(c.sum.ByTool),
	}
}

// Reset sets all sums to zero and returns what they were: a call is in what one
// Reset returns or in the next, never in both or in none.
func (c *Cost) Reset() CostSnapshot {
	c.mu.Lock()
	defer c.mu.Unlock()
	old := c.sum
	c.sum = CostSnapshot{}
	return old
}
