package server

import (
	"context"
	"errors"
	"fmt"
)

// stopStep undoes one step of the start.
type stopStep struct {
	name string
	run  func(context.Context) error
}

// stopList is what has to be undone, in the order in which it was done.
type stopList []stopStep

// add notes a step as soon as what it undoes exists.
func (l *stopList) add(name string, run func(context.Context) error) {
	*l = append(*l, stopStep{name, run})
}

// addClose is add for a Close method, which takes no context.
func (l *stopList) addClose(name string, closeIt func() error) {
	l.add(name, func(context.Context) error { return closeIt() })
}

// run takes the steps in reverse, so that what was opened first, the lock and
// the ledger, is closed last. Every step is taken, whatever became of the ones
// before it and of ctx; the errors are joined.
func (l stopList) run(ctx context.Context) error {
	var errs []error
	for i := len(l) - 1; i >= 0; i-- {
		if err := l[i].run(ctx); err != nil {
			errs = append(errs, fmt.Errorf("server: stop %s: %w", l[i].name, err))
		}
	}
	return errors.Join(errs...)
}
