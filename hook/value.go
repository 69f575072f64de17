package hook

import "context"

// pointerTo is a pointer to T that is a [Payload].
type pointerTo[T any] interface {
	*T
	Payload
}

// valueOp is an operation with its payload: one allocation for both.
type valueOp[T any] struct {
	Op
	value T
}

// Begin is [Registry.Begin] for a payload that is given by its value. It costs one
// allocation less than a pointer to a payload of its own, and the payload is
// nobody else's: [Op.Update] reaches it. Where it has slices, such as those of a
// [ModelCall], their elements stay the caller's too, and must not change until the end.
//
//	ctx, op, err := hook.Begin(ctx, reg, hook.Tool{Name: "search"})
func Begin[T any, P pointerTo[T]](ctx context.Context, r *Registry, payload T) (context.Context, *Op, error) {
	o := &valueOp[T]{value: payload}
	return r.begin(ctx, &o.Op, P(&o.value))
}

// Do is [Registry.Do] for a payload that is given by its value, as [Begin] takes it.
func Do[T any, P pointerTo[T]](ctx context.Context, r *Registry, payload T, f func(context.Context, *Op) error) error {
	ctx, op, err := Begin[T, P](ctx, r, payload)
	if err != nil {
		return err
	}
	return op.run(ctx, f)
}
