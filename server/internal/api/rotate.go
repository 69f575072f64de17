package api

import (
	"context"
	"fmt"
	"net/http"
)

// rotator is a ledger whose signing key can be changed while it is open.
// *audit.Ledger is one.
type rotator interface {
	RotateKey(ctx context.Context) (previous, vkey string, err error)
}

// rotated is the answer of POST /api/audit/rotate-key: the public keys before
// and after the change.
type rotated struct {
	Previous string `json:"previous"`
	Key      string `json:"vkey"`
}

func (a *api) rotateKey(r *http.Request, _ params) (any, error) {
	if a.cfg.Ledger == nil {
		return nil, errNoLedger
	}
	l, ok := a.cfg.Ledger.(rotator)
	if !ok {
		return nil, &apiError{http.StatusServiceUnavailable, codeUnavailable, "the key of this audit ledger cannot be changed while it is open"}
	}
	previous, vkey, err := l.RotateKey(r.Context())
	if err != nil {
		return nil, fmt.Errorf("api: rotate key: %w", err)
	}
	return rotated{previous, vkey}, nil
}
