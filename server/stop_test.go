package server

import (
	"context"
	"errors"
	"strings"
	"testing"
)

func TestStopsRunInReverse(t *testing.T) {
	var order []string
	bad := errors.New("disk on fire")
	var l stopList
	l.addClose("lock", func() error { order = append(order, "lock"); return nil })
	l.addClose("ledger", func() error { order = append(order, "ledger"); return bad })
	l.add("port", func(ctx context.Context) error { order = append(order, "port"); return ctx.Err() })
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := l.run(ctx)
	if got := strings.Join(order, " "); got != "port ledger lock" {
		t.Errorf("order = %s, want port ledger lock", got)
	}
	if !errors.Is(err, bad) || !errors.Is(err, context.Canceled) {
		t.Errorf("run = %v, want both errors", err)
	}
	if !strings.Contains(err.Error(), "stop ledger: disk on fire") {
		t.Errorf("run = %v, want the step named", err)
	}
	if err := (stopList{}).run(t.Context()); err != nil {
		t.Errorf("nothing to stop = %v", err)
	}
}
