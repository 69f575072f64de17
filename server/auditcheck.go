package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"time"

	"github.com/kaizen-go/kaizen/audit"
	"github.com/kaizen-go/kaizen/metrics"
)

// Results of a check of the ledger, as kaizen_audit_checks_total has them.
const (
	checkIntact   = "intact"
	checkTampered = "tampered"
	checkError    = "error" // the check could not be done
)

const (
	// fullCheckEvery is how often every entry is read and hashed again.
	fullCheckEvery = 24 * time.Hour
	// Of what a quick check reads: entries since the last one, and older ones.
	checkNewEntries = 256
	checkOldEntries = 64
)

// auditChecker verifies the server's own ledger: at the start and once a day
// all of it, in between the proofs of the newest entries and of older ones taken
// at random. It belongs to one goroutine.
type auditChecker struct {
	ledger  audit.Backend
	dir     string
	metrics *metrics.Metrics
	logger  *slog.Logger

	held    []byte // the checkpoint of the last full check
	fullAt  time.Time
	checked int64 // entries that were there at the last check
}

// startAuditChecks checks the ledger now and then until the server stops.
func (s *Server) startAuditChecks(m *metrics.Metrics) {
	for _, r := range []string{checkIntact, checkTampered, checkError} {
		m.BindCounter(metrics.AuditChecks, r) // from zero, so that the first one is a rise
	}
	c := &auditChecker{ledger: s.parts.ledger, dir: filepath.Join(s.cfg.DataDir, ledgerFolder), metrics: m, logger: s.logger}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		c.run(ctx, s.cfg.AuditCheckInterval)
	}()
	s.stops.addClose("checks of the ledger", func() error {
		cancel()
		<-done
		return nil
	})
}

func (c *auditChecker) run(ctx context.Context, every time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		c.check(ctx, time.Now())
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// check does what is due and counts the result.
func (c *auditChecker) check(ctx context.Context, now time.Time) {
	var err error
	full := c.fullAt.IsZero() || now.Sub(c.fullAt) >= fullCheckEvery
	if full {
		err = c.checkAll(ctx)
	} else {
		err = c.checkSome(ctx)
	}
	if ctx.Err() != nil {
		return // the server stops: nothing was found
	}
	result := checkIntact
	switch {
	case err == nil:
		if full {
			c.fullAt = now
		}
	case tampered(err):
		result = checkTampered
		c.logger.Error("the ledger is not what was signed", "error", err)
	default:
		result = checkError
		c.logger.Warn("the ledger could not be checked", "error", err)
	}
	c.metrics.Count(metrics.AuditChecks, result)
	c.metrics.Set(metrics.AuditLastCheck, float64(now.UnixNano())/1e9, result)
}

func tampered(err error) bool {
	_, damaged := errors.AsType[*audit.TamperError](err)
	return damaged || errors.Is(err, audit.ErrProof)
}

// checkAll verifies every entry, and that the ledger goes on from where the last
// full check left it.
func (c *auditChecker) checkAll(ctx context.Context) error {
	report, err := c.verify(ctx, audit.VerifyConfig{Key: c.ledger.VerifierKey(), Checkpoint: c.held})
	if err != nil {
		return err
	}
	c.held = []byte(report.Checkpoint.Note)
	c.checked = report.Checkpoint.Size
	return nil
}

// verify has a ledger in files checked by its directory, and any other check
// itself.
func (c *auditChecker) verify(ctx context.Context, cfg audit.VerifyConfig) (audit.Report, error) {
	if v, ok := c.ledger.(interface {
		Verify(ctx context.Context, cfg audit.VerifyConfig) (audit.Report, error)
	}); ok {
		return v.Verify(ctx, cfg)
	}
	return audit.Verify(ctx, c.dir, cfg)
}

// checkSome verifies the proofs of the newest entries and of some older ones.
func (c *auditChecker) checkSome(ctx context.Context) error {
	size := c.ledger.Size()
	key := c.ledger.VerifierKey()
	prove := func(index int64) error {
		p, err := c.ledger.Proof(index)
		if err != nil {
			return err
		}
		if err := p.Check(key); err != nil {
			return fmt.Errorf("server: check entry %d: %w", index, err)
		}
		return nil
	}
	for i := max(c.checked, size-checkNewEntries); i < size && ctx.Err() == nil; i++ {
		if err := prove(i); err != nil {
			return err
		}
	}
	for range min(c.checked, checkOldEntries) {
		if ctx.Err() != nil {
			break
		}
		if err := prove(rand.Int64N(c.checked)); err != nil {
			return err
		}
	}
	c.checked = size
	return nil
}
