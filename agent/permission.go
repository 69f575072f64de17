package agent

import (
	"context"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/kaizen-go/kaizen/hook"
)

// DefaultAskTimeout is how long an agent waits for a person's permission.
const DefaultAskTimeout = 5 * time.Minute

// maxAsking is how many questions of an agent may be unanswered at once. One
// that is never answered, and does not heed its context, holds a goroutine that
// cannot be ended from outside: beyond this nobody is asked and the call denied.
const maxAsking = 64

// Permission is the answer of [Config.Permit].
type Permission struct {
	// Denied refuses the call. The zero value allows it.
	Denied bool
	// Ask lets [Config.Ask] decide, unless the call is denied.
	Ask bool
	// By names the rule or person that decided, Reason says why. The model is
	// told the reason.
	By, Reason string
}

// decision returns the word for p in records.
func (p Permission) decision() string {
	switch {
	case p.Denied:
		return "deny"
	case p.Ask:
		return "ask"
	}
	return "allow"
}

// permit asks whether a tool may be called and records the answer: the rule's,
// and if that is to ask, then the person's too.
func (a *Agent) permit(ctx context.Context, c ToolCall) error {
	if a.cfg.Permit == nil {
		return nil
	}
	answer, err := decide(ctx, c, func(ctx context.Context) (Permission, error) { return a.cfg.Permit(ctx, c), nil })
	if err == nil && answer.decision() == "ask" {
		answer, err = decide(ctx, c, func(ctx context.Context) (Permission, error) { return a.askPerson(ctx, c) })
	}
	if err != nil {
		return err
	}
	if answer.Denied {
		return &hook.DeniedError{Kind: hook.KindTool, Name: c.Name, By: answer.By, Reason: answer.Reason}
	}
	return nil
}

// decide records one decision on c.
func decide(ctx context.Context, c ToolCall, by func(context.Context) (Permission, error)) (answer Permission, err error) {
	p := &hook.Permission{Action: "tool:" + c.Name}
	err = hook.From(ctx).Do(ctx, p, func(ctx context.Context, op *hook.Op) (err error) {
		answer, err = by(ctx)
		op.Update(func(hook.Payload) { p.Decision, p.By, p.Reason = answer.decision(), answer.By, answer.Reason })
		return err
	})
	return answer, err
}

// asked is what came of a question.
type asked struct {
	allow      bool
	by, reason string
	err        error
}

// askPerson waits for the answer of Config.Ask, but not for ever. An answer
// that comes too late is dropped.
func (a *Agent) askPerson(ctx context.Context, c ToolCall) (Permission, error) {
	deny := func(reason string) Permission { return Permission{Denied: true, By: "agent", Reason: reason} }
	if a.cfg.Ask == nil {
		return deny("there is nobody to ask"), nil
	}
	if a.asking.Add(1) > maxAsking {
		a.asking.Add(-1)
		return deny("too many questions are unanswered"), nil
	}
	limited, cancel := context.WithTimeout(ctx, a.cfg.AskTimeout)
	defer cancel()
	answered := make(chan asked, 1)
	go func() { // it ends when Ask returns; its context tells it to
		var got asked
		defer func() {
			if v := recover(); v != nil {
				got = asked{err: &hook.PanicError{Value: v, Stack: debug.Stack()}}
			}
			a.asking.Add(-1)
			answered <- got
		}()
		got.allow, got.by, got.reason = a.cfg.Ask(limited, c)
	}()
	select {
	case got := <-answered:
		if got.err != nil {
			return deny("asking failed"), fmt.Errorf("ask for permission: %w", got.err)
		}
		if limited.Err() == nil { // else the answer may be one to being stopped
			return Permission{Denied: !got.allow, By: got.by, Reason: got.reason}, nil
		}
	case <-limited.Done():
	}
	if ctx.Err() != nil {
		return deny("cancelled"), fmt.Errorf("ask for permission: %w", context.Cause(ctx))
	}
	return deny("timeout"), nil
}
