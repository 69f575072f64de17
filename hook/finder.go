package hook

import (
	"context"
	"slices"
)

type finder struct{ find func(context.Context) *Op }

// AddFinder adds a function that tells the operation which a piece of work belongs
// to, where the work's context does not: the adapter of a framework whose
// callbacks can hand back no context knows it by other means. It returns nil when
// it does not know, it may be called at once from any number of goroutines, and it
// must be quick. remove takes it out again; further calls of remove do nothing.
func (r *Registry) AddFinder(find func(context.Context) *Op) (remove func()) {
	f := &finder{find}
	r.changeFinders(func(fs []*finder) []*finder { return append(fs, f) })
	return func() {
		r.changeFinders(func(fs []*finder) []*finder {
			return slices.DeleteFunc(fs, func(g *finder) bool { return g == f })
		})
	}
}

func (r *Registry) changeFinders(change func([]*finder) []*finder) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var fs []*finder
	if old := r.finders.Load(); old != nil {
		fs = slices.Clone(*old)
	}
	if fs = change(fs); len(fs) == 0 {
		r.finders.Store(nil)
		return
	}
	r.finders.Store(&fs)
}

// Find returns the first operation that a function of [Registry.AddFinder] tells
// for ctx, or nil. It does not look at what [Current] tells.
func (r *Registry) Find(ctx context.Context) *Op {
	if r == nil {
		return nil
	}
	fs := r.finders.Load()
	if fs == nil {
		return nil
	}
	for _, f := range *fs {
		if op := f.find(ctx); op != nil {
			return op
		}
	}
	return nil
}
