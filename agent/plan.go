package agent

import (
	"context"
	"fmt"
	"regexp"
	"strings"

	"github.com/kaizen-go/kaizen/hook"
)

// maxPlanSteps bounds a plan: a model that goes on for ever is not followed.
const maxPlanSteps = 50

// planSystem stands below the agent's own instructions when it makes its plan.
const planSystem = "Before you begin, make a plan for the task. Answer with the plan alone: " +
	"a numbered list of the steps to take, one step a line, in their order. Do not carry anything out yet."

// plan asks the model for a plan, which the turns then have before them. An
// answer without numbered steps is no plan: it is recorded with none, and the
// run goes on without.
func (a *Agent) plan(ctx context.Context, t *task) error {
	p := &hook.Plan{Task: t.res.Messages[len(t.res.Messages)-1].Text}
	return hook.From(ctx).Do(ctx, p, func(ctx context.Context, op *hook.Op) error {
		req := a.request(t)
		req.System, req.Tools = paragraphs(a.cfg.System, planSystem, a.abilities()), nil
		resp, err := a.ask(ctx, t, req, false)
		if err != nil {
			return err
		}
		t.res.Plan = parsePlan(resp.Message.Text)
		op.Update(func(hook.Payload) { p.Steps = len(t.res.Plan) })
		return nil
	})
}

// abilities tells the planner of the tools, which it cannot call.
func (a *Agent) abilities() string {
	if len(a.specs) == 0 {
		return ""
	}
	var b strings.Builder
	b.WriteString("You will have these tools:")
	for _, s := range a.specs {
		fmt.Fprintf(&b, "\n- %s: %s", s.Name, s.Description)
	}
	return b.String()
}

// system returns the agent's instructions, with the plan if there is one.
func (a *Agent) system(t *task) string {
	if len(t.res.Plan) == 0 {
		return a.cfg.System
	}
	var b strings.Builder
	b.WriteString("Your plan:")
	for i, step := range t.res.Plan {
		fmt.Fprintf(&b, "\n%d. %s", i+1, step)
	}
	return paragraphs(a.cfg.System, b.String())
}

// paragraphs joins those of ps that are not empty.
func paragraphs(ps ...string) string {
	var b strings.Builder
	for _, p := range ps {
		if b.Len() > 0 && p != "" {
			b.WriteString("\n\n")
		}
		b.WriteString(p)
	}
	return b.String()
}

// A step is "1. text" or "1) text", also indented, in bold or as a heading.
var planStep = regexp.MustCompile(`^[\s*_#>-]*(?:[Ss]tep )?[0-9]{1,3}[.):][*_]*\s+(\S.*)$`)

// parsePlan returns the numbered steps of a model's answer, without their numbers.
func parsePlan(text string) []string {
	var steps []string
	for line := range strings.Lines(text) {
		m := planStep.FindStringSubmatch(strings.TrimSpace(line))
		if m != nil && len(steps) < maxPlanSteps {
			steps = append(steps, m[1])
		}
	}
	return steps
}
