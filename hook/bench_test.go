package hook_test

import (
	"context"
	"testing"

	"github.com/kaizen-go/kaizen/hook"
)

// BenchmarkDo measures what announcing an operation costs its caller, beside
// the same operation as a bare function call.
func BenchmarkDo(b *testing.B) {
	work := func(context.Context, *hook.Op) error { return nil }
	watch := hook.HandlerFunc(func(context.Context, hook.Event) error { return nil })
	registry := func(n int, rec hook.Recorder) *hook.Registry {
		reg := hook.New(hook.Config{Recorder: rec})
		for i := range n {
			if err := reg.Register(hook.Registration{Name: string(rune('a' + i)), Handler: watch}); err != nil {
				b.Fatal(err)
			}
		}
		return reg
	}
	other := registry(0, nil)
	if err := other.Register(hook.Registration{Name: "other", Handler: watch, Kinds: []hook.Kind{hook.KindPlan}}); err != nil {
		b.Fatal(err)
	}
	ctx := b.Context()
	b.Run("bare call", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_ = &hook.Tool{Name: "t"}
			_ = work(ctx, nil)
		}
	})
	for _, bm := range []struct {
		name string
		reg  *hook.Registry
	}{
		{"nil registry", nil},
		{"no handlers", registry(0, nil)},
		{"a recorder", registry(0, idle{})},
		{"a handler of another kind", other},
		{"one handler", registry(1, nil)},
		{"four handlers", registry(4, nil)},
	} {
		b.Run(bm.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := bm.reg.Do(ctx, &hook.Tool{Name: "t"}, work); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// idle is a recorder that records nothing.
type idle struct{}

func (idle) Start(ctx context.Context, _ *hook.Event) context.Context { return ctx }
func (idle) End(context.Context, *hook.Event)                         {}
