package shard

import (
	"context"
	"errors"
	"fmt"

	"github.com/kaizen-go/kaizen/audit"
)

// Erase forgets a subject in every shard, each of which has its own keys: see
// [audit.Ledger.Erase]. If a hold forbids it in one of them, nothing is erased
// in any, with that shard's [*audit.HeldError]. Receipts are by shard; after any
// other error those that are not empty tell where it was done, and the call can
// be repeated. It needs shards that are opened for writing by this process.
func (s *Set) Erase(ctx context.Context, x audit.Erasure) ([]audit.ErasureReceipt, error) {
	trial := x
	trial.DryRun = true
	out, err := s.erase(ctx, trial, true)
	if err != nil || x.DryRun {
		return out, err
	}
	return s.erase(ctx, x, false)
}

func (s *Set) erase(ctx context.Context, x audit.Erasure, stop bool) ([]audit.ErasureReceipt, error) {
	out := make([]audit.ErasureReceipt, len(s.cfg.Shards))
	var errs []error
	for i, l := range s.cfg.Shards {
		r, err := l.Erase(ctx, x)
		if out[i] = r; err == nil {
			continue
		}
		errs = append(errs, fmt.Errorf("shard: %s: %w", l.Origin(), err))
		if stop {
			break
		}
	}
	return out, errors.Join(errs...)
}

// Hold places a hold in every shard, all under one id: see [audit.Ledger.Hold].
// If one refuses, those that were placed before it are released.
func (s *Set) Hold(ctx context.Context, h audit.Hold) (audit.Hold, error) {
	for i, l := range s.cfg.Shards {
		placed, _, err := l.Hold(ctx, h)
		if err == nil {
			h.ID = placed.ID // made up by the first, if it was empty
			continue
		}
		err = fmt.Errorf("shard: %s: %w", l.Origin(), err)
		for _, before := range s.cfg.Shards[:i] {
			_, undo := before.Release(context.WithoutCancel(ctx), audit.Release{ID: h.ID, Reason: "another shard refused the hold"})
			err = errors.Join(err, undo)
		}
		return audit.Hold{}, err
	}
	return h, nil
}

// Release ends a hold in every shard that has it. It is [audit.ErrNoHold] if
// none has.
func (s *Set) Release(ctx context.Context, x audit.Release) error {
	released := false
	var errs []error
	for _, l := range s.cfg.Shards {
		switch _, err := l.Release(ctx, x); {
		case err == nil:
			released = true
		case !errors.Is(err, audit.ErrNoHold):
			errs = append(errs, fmt.Errorf("shard: %s: %w", l.Origin(), err))
		}
	}
	if !released && len(errs) == 0 {
		return fmt.Errorf("shard: release %s: %w", x.ID, audit.ErrNoHold)
	}
	return errors.Join(errs...)
}
