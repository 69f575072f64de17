package hook_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/kaizen-go/kaizen/hook"
)

// A library announces what it does to the registry of the context, if there is
// one; a nil registry is valid, so it need not ask.
func ExampleWith() {
	search := func(ctx context.Context) error {
		return hook.From(ctx).Do(ctx, &hook.Tool{Name: "search"}, func(ctx context.Context, op *hook.Op) error {
			fmt.Println("inside its own operation:", hook.Current(ctx) == op)
			return errors.New("no network")
		})
	}
	reg := hook.New(hook.Config{})
	err := reg.Register(hook.Registration{Name: "watch", Phases: []hook.Phase{hook.End}, Handler: hook.HandlerFunc(
		func(_ context.Context, e hook.Event) error {
			fmt.Println(e.Kind(), e.Payload.Label(), hook.StatusOf(e.Err))
			return nil
		})})
	fmt.Println(err)
	fmt.Println(search(hook.With(context.Background(), reg)))
	// Output:
	// <nil>
	// inside its own operation: true
	// tool search error
	// no network
}

func ExampleKinds() {
	fmt.Println(hook.Kinds())
	fmt.Println(hook.StatusOf(context.Canceled), hook.StatusOf(&hook.DeniedError{Reason: "not today"}))
	// Output:
	// [run iteration plan model tool memory_load memory_save checkpoint_save checkpoint_load permission interrupt specialist handoff error guard]
	// cancelled denied
}
