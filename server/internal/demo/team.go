// Package demo is the workload of the command "kaizen demo": teams of agents
// whose model calls go over real HTTP through the official provider SDKs, to a
// scripted model server on this machine or to a real provider.
//
// The teams are a supervisor with three workers, a jury of three voters, a
// chain of three that hand their work on, and one agent that fails. Their tools
// succeed, fail and are denied, one model call is retried after a 429, and some
// answers are streamed.
package demo

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/kaizen-go/kaizen"
	"github.com/kaizen-go/kaizen/agent"
	"github.com/kaizen-go/kaizen/audit"
)

// Models makes the models of the team's agents.
type Models interface {
	// Model returns the model of one agent. Provider is the one that the
	// script would like: "openai" or "anthropic".
	Model(agentName, provider string) agent.Model
}

// team is all agents of the demo.
type team struct {
	lead    *agent.Agent
	jury    *agent.Consensus
	chain   *agent.Chain
	courier *agent.Agent
}

// builder makes agents and keeps the first error.
type builder struct {
	models Models
	err    error
}

func (b *builder) agent(provider string, cfg agent.Config) *agent.Agent {
	if b.err != nil {
		return nil
	}
	cfg.Model = b.models.Model(cfg.Name, provider)
	if cfg.Permit == nil {
		cfg.Permit = policy
	}
	var a *agent.Agent
	a, b.err = agent.New(cfg)
	return a
}

func tool[In, Out any](b *builder, name, description string, f func(context.Context, In) (Out, error)) agent.Tool {
	t, err := agent.Func(name, description, f)
	b.err = errors.Join(b.err, err)
	return t
}

// policy lets every tool be called but the shell.
func policy(_ context.Context, call agent.ToolCall) agent.Permission {
	if call.Name == "run_shell" {
		return agent.Permission{Denied: true, By: "policy:no-shell", Reason: "agents of this team may not run shell commands"}
	}
	return agent.Permission{By: "policy:default"}
}

func newTeam(models Models) (*team, error) {
	b := &builder{models: models}
	t := &team{lead: b.supervisor()}
	jury, chain := b.voters(), b.chainLinks()
	t.courier = b.agent("openai", agent.Config{Name: "courier", System: systems["courier"]})
	if b.err != nil {
		return nil, fmt.Errorf("demo: team: %w", b.err)
	}
	var err error
	if t.jury, err = agent.NewConsensus("jury", 2, jury...); err != nil {
		return nil, fmt.Errorf("demo: team: %w", err)
	}
	if t.chain, err = agent.NewChain("delivery", chain...); err != nil {
		return nil, fmt.Errorf("demo: team: %w", err)
	}
	return t, nil
}

// supervisor is an agent that asks three workers.
func (b *builder) supervisor() *agent.Agent {
	researcher := b.agent("anthropic", agent.Config{Name: "researcher", System: systems["researcher"], Tools: []agent.Tool{
		tool(b, "search", "Searches the archive.", search),
		tool(b, "fetch_page", "Fetches a page of the archive.", fetchPage),
	}})
	analyst := b.agent("openai", agent.Config{Name: "analyst", System: systems["analyst"], Tools: []agent.Tool{
		tool(b, "calculate", "Adds up a list of numbers.", calculate),
		tool(b, "run_shell", "Runs a shell command.", runShell),
	}})
	writer := b.agent("anthropic", agent.Config{Name: "writer", System: systems["writer"], Stream: true, Tools: []agent.Tool{
		tool(b, "save_note", "Saves a note.", saveNote),
	}})
	if b.err != nil {
		return nil
	}
	return b.agent("openai", agent.Config{Name: "lead", System: systems["lead"], Tools: []agent.Tool{
		agent.AsTool(researcher, "Finds facts in the archive."),
		agent.AsTool(analyst, "Works with numbers."),
		agent.AsTool(writer, "Writes the report."),
	}})
}

// voters are three agents with an opinion each.
func (b *builder) voters() []agent.Runner {
	var rs []agent.Runner
	for i, provider := range []string{"openai", "anthropic", "openai"} {
		name := fmt.Sprintf("voter-%d", i+1)
		rs = append(rs, b.agent(provider, agent.Config{Name: name, System: systems[name]}))
	}
	return rs
}

// chainLinks are three agents that hand their work on.
func (b *builder) chainLinks() []agent.Runner {
	research := b.agent("anthropic", agent.Config{Name: "research", System: systems["research"]})
	code := b.agent("openai", agent.Config{Name: "code", System: systems["code"], Stream: true, Tools: []agent.Tool{
		tool(b, "run_tests", "Runs the tests of a package.", runTests),
	}})
	review := b.agent("anthropic", agent.Config{Name: "review", System: systems["review"]})
	return []agent.Runner{research, code, review}
}

// Run lets all teams work, three of them at once, observed by obs. The failure
// of the agent that is meant to fail is no error.
func Run(ctx context.Context, obs *kaizen.Observer, models Models) error {
	t, err := newTeam(models)
	if err != nil {
		return err
	}
	ctx = obs.Context(ctx)
	log := obs.Logger("demo")
	jobs := []struct {
		runner        agent.Runner
		session, user string
		task          string
		fails         bool
	}{
		{t.lead, "session-report", "user-1", "Write a short report on the water level of the last week.", false},
		{t.jury, "session-release", "user-2", "Shall the release go out today? Answer approve or reject.", false},
		{t.chain, "session-feature", "user-1", "Add a function that reverses a list.", false},
		{t.courier, "session-letter", "user-3", "Deliver this letter.", true},
	}
	errs := make([]error, len(jobs))
	var wg sync.WaitGroup
	for i, j := range jobs {
		wg.Go(func() {
			ctx := kaizen.WithRun(ctx, kaizen.Run{SessionID: j.session, UserID: j.user})
			log.InfoContext(ctx, "task taken", "agent", j.runner.Name(), "session", j.session)
			res, err := j.runner.Run(ctx, j.task)
			switch {
			case err == nil && j.fails:
				errs[i] = fmt.Errorf("demo: %s: the run succeeded and was meant to fail", j.runner.Name())
			case err != nil && !j.fails:
				errs[i] = fmt.Errorf("demo: %w", err)
			}
			result := audit.Success
			if err != nil {
				result = audit.Failure
			}
			obs.Audit().Note(ctx, audit.Entry{
				AgentID: j.runner.Name(), RunID: res.RunID, Action: "task_close", Result: result, Severity: "info",
				Details: map[string]any{"iterations": res.Iterations, "tokens": res.Usage.Total()},
			})
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}
