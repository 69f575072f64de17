package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/google/jsonschema-go/jsonschema"
	"github.com/kaizen-go/kaizen/hook"
)

// tally adds what nested runs used to the run that caused them.
type tally struct {
	mu  sync.Mutex
	res *Result
}

type tallyKey struct{}

func (t *tally) add(nested *Result) {
	if t == nil || nested == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.res.Usage = t.res.Usage.Add(nested.Usage)
	t.res.CostNanoUSD += nested.CostNanoUSD
	t.res.ModelCalls += nested.ModelCalls
}

// consult lets r work on input as a specialist of the run in ctx.
func consult(ctx context.Context, r Runner, pattern, input string) (res *Result, err error) {
	err = hook.From(ctx).Do(ctx, &hook.Specialist{Agent: r.Name(), Pattern: pattern}, func(ctx context.Context, _ *hook.Op) error {
		res, err = r.Run(ctx, input)
		return err
	})
	return res, err
}

// AsTool makes a worker of r: a tool named ask_NAME with which a supervisor
// gives it a task and gets its answer. The worker's run is part of the
// supervisor's trace.
func AsTool(r Runner, description string) Tool {
	return Tool{
		Name:        "ask_" + r.Name(),
		Description: description,
		Schema: &jsonschema.Schema{
			Type:       "object",
			Properties: map[string]*jsonschema.Schema{"task": {Type: "string", Description: "the task, with all that is needed to do it"}},
			Required:   []string{"task"},
		},
		Call: func(ctx context.Context, arguments json.RawMessage) (string, error) {
			var in struct {
				Task string `json:"task"`
			}
			if err := json.Unmarshal(arguments, &in); err != nil {
				return "", fmt.Errorf("arguments: %w", err)
			}
			res, err := consult(ctx, r, "supervisor", in.Task)
			t, _ := ctx.Value(tallyKey{}).(*tally)
			t.add(res)
			if err != nil {
				return "", err
			}
			return res.Output, nil
		},
	}
}

// ErrNoQuorum says that too few voters agreed.
var ErrNoQuorum = errors.New("no quorum")

// Consensus asks voters the same question at once and takes the answer that
// enough of them agree on. It is a [Runner] whose run is one trace.
type Consensus struct {
	observed
	voters []Runner
	quorum int
}

// NewConsensus returns a team that answers when quorum of the voters give the
// same answer, but for case and space around it. Quorum 0 means more than half.
func NewConsensus(name string, quorum int, voters ...Runner) (*Consensus, error) {
	if name == "" || len(voters) == 0 {
		return nil, errors.New("agent: consensus: a name and voters are needed")
	}
	if quorum == 0 {
		quorum = len(voters)/2 + 1
	}
	if quorum < 0 || quorum > len(voters) {
		return nil, fmt.Errorf("agent: consensus %s: quorum of %d among %d voters", name, quorum, len(voters))
	}
	return &Consensus{observed{name: name, id: name}, voters, quorum}, nil
}

// Run asks all voters and waits for all. The error is [ErrNoQuorum] when they
// do not agree, joined with the errors of voters that failed.
func (c *Consensus) Run(ctx context.Context, input string) (*Result, error) {
	return c.run(ctx, input, func(ctx context.Context, res *Result) (string, error) {
		res.Iterations = 1
		answers, errs := make([]*Result, len(c.voters)), make([]error, len(c.voters))
		var wg sync.WaitGroup
		for i, v := range c.voters {
			wg.Go(func() { answers[i], errs[i] = consult(ctx, v, "consensus", input) })
		}
		wg.Wait()
		votes := make(map[string]int)
		total := &tally{res: res}
		for i, a := range answers {
			total.add(a)
			if errs[i] != nil {
				continue
			}
			key := strings.ToLower(strings.TrimSpace(a.Output))
			if votes[key]++; votes[key] == c.quorum && res.Output == "" {
				res.Output = a.Output
			}
		}
		if res.Output == "" {
			return "no_quorum", errors.Join(append(errs, ErrNoQuorum)...)
		}
		return "quorum", nil
	})
}

// Chain hands a task from one runner to the next: each gets the answer of the
// one before it. It is a [Runner] whose run is one trace.
type Chain struct {
	observed
	links []Runner
}

// NewChain returns a chain of at least one runner.
func NewChain(name string, links ...Runner) (*Chain, error) {
	if name == "" || len(links) == 0 {
		return nil, errors.New("agent: chain: a name and links are needed")
	}
	return &Chain{observed{name: name, id: name}, links}, nil
}

// Run works through the chain and returns the last answer. It stops at the
// first error.
func (c *Chain) Run(ctx context.Context, input string) (*Result, error) {
	return c.run(ctx, input, func(ctx context.Context, res *Result) (string, error) {
		total := &tally{res: res}
		task := input
		for i, link := range c.links {
			if i > 0 {
				h := &hook.Handoff{From: c.links[i-1].Name(), To: link.Name(), Reason: "next in chain " + c.name}
				if err := hook.From(ctx).Do(ctx, h, func(context.Context, *hook.Op) error { return nil }); err != nil {
					return "denied", err
				}
			}
			res.Iterations++
			out, err := link.Run(ctx, task)
			total.add(out)
			if err != nil {
				return "error", err
			}
			task = out.Output
		}
		res.Output = task
		return "answer", nil
	})
}
