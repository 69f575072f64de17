package agent

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/kaizen-go/kaizen"
	"github.com/kaizen-go/kaizen/hook"
)

// ErrObserved says that an agent has an observer already.
var ErrObserved = errors.New("is observed already")

// observed is what an agent and a team have in common: a name and, once
// somebody asks for it, an observer.
type observed struct {
	name, id string

	mu    sync.Mutex
	obs   *kaizen.Observer
	owned bool // started by EnableObservability, so Close stops it
}

// Name returns the name that the runner was made with.
func (o *observed) Name() string { return o.name }

// ID returns the id that the runner was made with.
func (o *observed) ID() string { return o.id }

// EnableObservability starts an observer and lets it record all further runs,
// and those of the agents that take part in them. Until then recording costs
// nothing. The default service name is the agent's id. It fails if a part that
// was asked for cannot start, or with [ErrObserved] on a second call.
func (o *observed) EnableObservability(ctx context.Context, cfg kaizen.Config) (*kaizen.Observer, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.obs != nil {
		return nil, fmt.Errorf("agent: observe %s: %w", o.name, ErrObserved)
	}
	if cfg.ServiceName == "" {
		cfg.ServiceName = o.id
	}
	obs, err := kaizen.Start(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("agent: observe %s: %w", o.name, err)
	}
	o.obs, o.owned = obs, true
	return obs, nil
}

// Observe lets obs, which several agents may share, record all further runs.
// Whoever started it shuts it down. It fails with [ErrObserved] if the agent has
// an observer.
func (o *observed) Observe(obs *kaizen.Observer) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.obs != nil {
		return fmt.Errorf("agent: observe %s: %w", o.name, ErrObserved)
	}
	o.obs = obs
	return nil
}

// Close ends the observation. An observer that EnableObservability started is
// shut down, which sends what it still holds. Further calls do nothing.
func (o *observed) Close(ctx context.Context) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	obs, owned := o.obs, o.owned
	o.obs, o.owned = nil, false
	if !owned {
		return nil
	}
	return obs.Shutdown(ctx)
}

// attach returns a context that is observed by the agent's own observer, or
// else by whoever observes ctx.
func (o *observed) attach(ctx context.Context) context.Context {
	o.mu.Lock()
	obs := o.obs
	o.mu.Unlock()
	if obs == nil || hook.From(ctx) == obs.Hooks() {
		return ctx
	}
	return obs.Context(ctx)
}
