package hook_test

import (
	"context"
	"testing"

	"github.com/kaizen-go/kaizen/hook"
)

// TestFinder: the first function that knows the operation tells it, until it is
// taken out.
func TestFinder(t *testing.T) {
	r := hook.New(hook.Config{})
	_, op, err := r.Begin(t.Context(), &hook.Tool{Name: "a"})
	if err != nil {
		t.Fatal(err)
	}
	defer op.End(nil)
	check := func(step string, want *hook.Op) {
		t.Helper()
		if got := r.Find(t.Context()); got != want {
			t.Errorf("%s: Find = %v, want %v", step, got, want)
		}
	}
	check("without functions", nil)
	r.AddFinder(func(context.Context) *hook.Op { return nil })
	check("with one that knows nothing", nil)
	remove := r.AddFinder(func(context.Context) *hook.Op { return op })
	check("with one that knows", op)
	remove()
	remove()
	check("without it again", nil)
	var none *hook.Registry
	if none.Find(t.Context()) != nil {
		t.Error("a nil registry found an operation")
	}
}
