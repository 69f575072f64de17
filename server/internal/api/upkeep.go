package api

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/kaizen-go/kaizen/audit"
)

// keeper is a ledger that seals, archives and removes segments. *audit.Ledger
// is one; ledgers in a database or an object store are kept by their own means.
type keeper interface {
	Segments() []audit.SegmentInfo
	Seal(ctx context.Context) error
	Prune(ctx context.Context, o audit.PruneOptions) (audit.PruneReport, error)
	Archive(ctx context.Context, target audit.ArchiveTarget) (audit.ArchiveReport, error)
}

func (a *api) keeper() (keeper, error) {
	if a.cfg.Ledger == nil {
		return nil, errNoLedger
	}
	k, ok := a.cfg.Ledger.(keeper)
	if !ok {
		return nil, &apiError{http.StatusServiceUnavailable, codeUnavailable, "this audit ledger has no segments, or is open for reading only"}
	}
	return k, nil
}

// segment is a sealed segment.
type segment struct {
	Base    int64     `json:"base"`
	Entries int64     `json:"entries"`
	Bytes   int64     `json:"bytes"`
	Stored  int64     `json:"stored"`
	Oldest  time.Time `json:"oldest"`
	Newest  time.Time `json:"newest"`
	Pruned  bool      `json:"pruned"`
	// Reason is why retention removes it, Held why it does not.
	Reason string `json:"reason,omitempty"`
	Held   string `json:"held,omitempty"`
}

func segmentsOf(list []audit.SegmentInfo) []segment {
	out := make([]segment, len(list))
	for i, s := range list {
		out[i] = segment{
			Base: s.Base, Entries: s.Entries, Bytes: s.Bytes, Stored: s.Stored, Oldest: s.Oldest, Newest: s.Newest,
			Pruned: s.Pruned, Reason: s.Reason, Held: s.Held,
		}
	}
	return out
}

// segmentList is the answer of GET /api/audit/segments and of POST
// /api/audit/seal.
type segmentList struct {
	Segments []segment `json:"segments"`
}

func (a *api) segments(*http.Request, params) (any, error) {
	if a.cfg.Ledger == nil {
		return nil, errNoLedger
	}
	l, ok := a.cfg.Ledger.(interface{ Segments() []audit.SegmentInfo })
	if !ok {
		return nil, &apiError{http.StatusServiceUnavailable, codeUnavailable, "this audit ledger has no segments"}
	}
	return segmentList{segmentsOf(l.Segments())}, nil
}

func (a *api) seal(r *http.Request, _ params) (any, error) {
	k, err := a.keeper()
	if err != nil {
		return nil, err
	}
	if err := readOrder(r, &struct{}{}); err != nil {
		return nil, err
	}
	if err := k.Seal(r.Context()); err != nil {
		return nil, fmt.Errorf("api: seal: %w", err)
	}
	return segmentList{segmentsOf(k.Segments())}, nil
}

// pruned is the answer of POST /api/audit/retention.
type pruned struct {
	DryRun  bool      `json:"dry_run"`
	Removed []segment `json:"removed"`
	Held    []segment `json:"held"`
	Entries int64     `json:"entries"`
	Stored  int64     `json:"stored"`
}

func (a *api) retention(r *http.Request, _ params) (any, error) {
	k, err := a.keeper()
	if err != nil {
		return nil, err
	}
	var order struct {
		DryRun   bool   `json:"dry_run"`
		MaxAge   string `json:"max_age"`
		MaxBytes int64  `json:"max_bytes"`
	}
	if err := readOrder(r, &order); err != nil {
		return nil, err
	}
	o := audit.PruneOptions{DryRun: order.DryRun, Retention: audit.Retention{MaxBytes: order.MaxBytes}}
	if order.MaxAge != "" {
		if o.Retention.MaxAge, err = time.ParseDuration(order.MaxAge); err != nil {
			return nil, badRequest("max_age %q is no duration", order.MaxAge)
		}
	}
	if o.Retention.MaxAge < 0 || o.Retention.MaxBytes < 0 {
		return nil, badRequest("max_age and max_bytes are not below zero")
	}
	p, err := k.Prune(r.Context(), o)
	if err != nil {
		return nil, fmt.Errorf("api: retention: %w", err)
	}
	return pruned{order.DryRun, segmentsOf(p.Removed), segmentsOf(p.Held), p.Entries, p.Stored}, nil
}

// archived is the answer of POST /api/audit/archive.
type archived struct {
	Segments int   `json:"segments"`
	Bytes    int64 `json:"bytes"`
	Entries  int64 `json:"entries"`
}

func (a *api) archive(r *http.Request, _ params) (any, error) {
	k, err := a.keeper()
	if err != nil {
		return nil, err
	}
	if err := readOrder(r, &struct{}{}); err != nil {
		return nil, err
	}
	if a.cfg.Archive == nil {
		return nil, badRequest("the server was not told of an archive: it is the operator who names one, with --audit-archive")
	}
	x, err := k.Archive(r.Context(), a.cfg.Archive)
	if err != nil {
		return nil, fmt.Errorf("api: archive: %w", err)
	}
	return archived{x.Segments, x.Bytes, x.Entries}, nil
}
