package server

import (
	"context"
	"fmt"
	"sync/atomic"

	"github.com/kaizen-go/kaizen/audit"
	"github.com/kaizen-go/kaizen/audit/anchor"
	"github.com/kaizen-go/kaizen/metrics"
	"github.com/kaizen-go/kaizen/server/backend/s3"
)

// anchorCounts counts what anchors and witnesses of the ledger answer. The
// ledger is open before there are metrics; whatever comes before is not counted,
// and nothing does: the first round is a minute later.
type anchorCounts struct {
	metrics atomic.Pointer[metrics.Metrics]
	targets []string
	witness bool
}

// begin shows the counters, from zero, so that the first failure is a rise.
func (a *anchorCounts) begin(m *metrics.Metrics) {
	for _, target := range a.targets {
		m.BindCounter(metrics.AuditAnchors, target, anchor.Kept)
		m.BindCounter(metrics.AuditAnchors, target, anchor.Refused)
	}
	if a.witness {
		m.BindCounter(metrics.AuditWitnessings, anchor.Kept)
		m.BindCounter(metrics.AuditWitnessings, anchor.Refused)
	}
	a.metrics.Store(m)
}

func (a *anchorCounts) count(f metrics.CounterID, labels ...string) {
	if m := a.metrics.Load(); m != nil {
		m.Count(f, labels...)
	}
}

// outward is who gets the ledger's checkpoints, with the answers of all of them
// counted.
func (s *Server) outward(ctx context.Context) (out audit.OutwardConfig, err error) {
	cfg, counts := s.cfg.Audit, &s.parts.anchors
	if out, err = cfg.Outward.ledger(); err != nil {
		return out, err
	}
	if cfg.Outward.AnchorOTLP != "" {
		out.Anchors = append(out.Anchors, &anchor.OTLP{URL: cfg.Outward.AnchorOTLP})
	}
	if cfg.Outward.AnchorS3 {
		cfg.S3.Logger = s.logger
		a, err := s3.OpenAnchor(ctx, cfg.S3)
		if err != nil {
			return out, fmt.Errorf("server: %w", err)
		}
		out.Anchors = append(out.Anchors, a)
	}
	for _, a := range out.Anchors {
		counts.targets = append(counts.targets, anchor.Target(a))
	}
	counts.witness = out.Witness != nil
	out.Anchors = anchor.Count(out.Anchors, func(target, result string) { counts.count(metrics.AuditAnchors, target, result) })
	out.Witness = anchor.CountWitness(out.Witness, func(result string) { counts.count(metrics.AuditWitnessings, result) })
	return out, nil
}
