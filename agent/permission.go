package agent

import (
	"context"

	"github.com/kaizen-go/kaizen/hook"
)

// Permission is the answer of [Config.Permit].
type Permission struct {
	// Denied refuses the call. The zero value allows it.
	Denied bool
	// By names the rule or person that decided, Reason says why. The model is
	// told the reason.
	By, Reason string
}

// permit asks whether a tool may be called and records the answer.
func (a *Agent) permit(ctx context.Context, c ToolCall) error {
	if a.cfg.Permit == nil {
		return nil
	}
	p := &hook.Permission{Action: "tool:" + c.Name}
	var answer Permission
	err := hook.From(ctx).Do(ctx, p, func(ctx context.Context, op *hook.Op) error {
		answer = a.cfg.Permit(ctx, c)
		op.Update(func(hook.Payload) {
			p.Decision, p.By, p.Reason = "allow", answer.By, answer.Reason
			if answer.Denied {
				p.Decision = "deny"
			}
		})
		return nil
	})
	if err != nil {
		return err
	}
	if answer.Denied {
		return &hook.DeniedError{Kind: hook.KindTool, Name: c.Name, By: answer.By, Reason: answer.Reason}
	}
	return nil
}
