package hook_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/kaizen-go/kaizen/hook"
)

// TestPayloadByValue: an operation whose payload is given by its value is told
// like any other, with what Update sets; the value itself stays the caller's.
func TestPayloadByValue(t *testing.T) {
	var last lastEnd
	reg := hook.New(hook.Config{Recorder: &last})
	tool := hook.Tool{Name: "search"}
	err := hook.Do(t.Context(), reg, tool, func(ctx context.Context, op *hook.Op) error {
		if hook.Current(ctx) != op || op.Kind() != hook.KindTool || op.ID() == 0 {
			t.Errorf("the context runs in %v, a %v, want %v", hook.Current(ctx), op.Kind(), op)
		}
		op.Update(func(p hook.Payload) { p.(*hook.Tool).Result = "found" })
		return errors.New("too much")
	})
	got, ok := last.event.Payload.(*hook.Tool)
	if err == nil || last.event.Status != hook.Failed || !ok || *got != (hook.Tool{Name: "search", Result: "found"}) {
		t.Errorf("Do = %v; told %+v of %+v", err, last.event.Status, got)
	}
	if tool.Result != "" {
		t.Errorf("the caller's own value says %q", tool.Result)
	}
	var none *hook.Registry
	ctx, op, err := hook.Begin(t.Context(), none, tool)
	if ctx != t.Context() || op == nil || err != nil {
		t.Errorf("Begin(nil registry) = %v, %v, %v", ctx, op, err)
	}
	op.End(nil)
	if err := hook.Do(t.Context(), none, tool, nothing); err != nil {
		t.Errorf("Do(nil registry) = %v", err)
	}
}

// TestPayloadByValueDenied: a handler refuses such an operation before it begins.
func TestPayloadByValueDenied(t *testing.T) {
	reg := hook.New(hook.Config{})
	register(t, reg, hook.Registration{Name: "guard", Handler: hook.HandlerFunc(func(context.Context, hook.Event) error {
		return &hook.DeniedError{Reason: "not today"}
	})})
	err := hook.Do(t.Context(), reg, hook.Tool{Name: "shell"}, func(context.Context, *hook.Op) error {
		t.Error("a refused operation was carried out")
		return nil
	})
	if denied, ok := errors.AsType[*hook.DeniedError](err); !ok || denied.Name != "shell" {
		t.Errorf("Do = %v, want a refusal of shell", err)
	}
}

// A payload by value is no allocation of its own.
func ExampleBegin() {
	var prof hook.Profiler
	reg := hook.New(hook.Config{})
	if err := reg.Register(prof.Registration()); err != nil {
		fmt.Println(err)
		return
	}
	_, op, err := hook.Begin(context.Background(), reg, hook.Tool{Name: "search"})
	if err != nil { // a handler refused
		fmt.Println(err)
		return
	}
	op.End(nil)
	fmt.Println(op.Kind(), prof.Snapshot()[0].Label)
	// Output: tool search
}

func ExampleDo() {
	reg := hook.New(hook.Config{})
	err := hook.Do(context.Background(), reg, hook.Tool{Name: "search"}, func(_ context.Context, op *hook.Op) error {
		op.Update(func(p hook.Payload) { p.(*hook.Tool).Result = "nothing" })
		return errors.New("no network")
	})
	fmt.Println(err)
	// Output: no network
}
