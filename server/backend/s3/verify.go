package s3

import (
	"context"
	"errors"
	"fmt"

	"github.com/kaizen-go/kaizen/audit"
	"github.com/kaizen-go/kaizen/server/backend/internal/group"
)

// Verify reads every object anew and checks it: lines, chain of batches, signed
// checkpoints, tiles, and that no object has an older version or a marker of a
// removal. It returns a report, a [*audit.TamperError] whose Path is the object,
// or the error that kept it from reading.
func (l *Ledger) Verify(ctx context.Context, cfg audit.VerifyConfig) (audit.Report, error) {
	report, err := l.verify(ctx, cfg)
	if err != nil {
		return audit.Report{}, wrap("verify", err)
	}
	return report, nil
}

func (l *Ledger) verify(ctx context.Context, cfg audit.VerifyConfig) (audit.Report, error) {
	var none audit.Report
	if err := l.usable(ctx); err != nil {
		return none, err
	}
	if cfg.Key != "" && cfg.Key != l.VerifierKey() {
		return none, &audit.TamperError{Path: ledgerName, Index: -1, Reason: "signed with another key than the trusted one", Want: cfg.Key, Got: l.VerifierKey()}
	}
	again := &Ledger{cfg: l.cfg, bucket: l.bucket, signer: l.signer, ctx: ctx}
	again.state.init()
	if err := again.identify(ctx); err != nil {
		return none, err
	}
	// From the batches, not from the packs: they are what was signed first.
	again.step.Lock()
	defer again.step.Unlock()
	for n := int64(0); ; n = again.state.next {
		body, err := l.bucket.get(ctx, numbered(batchPrefix, n))
		if err != nil {
			if again.state.next == n && errors.Is(err, errAbsent) {
				break
			}
			return none, err
		}
		rest, err := again.absorb(n, body)
		if err == nil && len(rest) > 0 {
			err = &audit.TamperError{Path: numbered(batchPrefix, n), Index: -1, Reason: "something after the last line"}
		}
		if err != nil {
			return none, err
		}
		if cfg.Progress != nil {
			cfg.Progress(again.Size(), max(again.Size(), l.Size()))
		}
	}
	for _, check := range []func(context.Context) error{again.complete, again.checkDerived, again.checkVersions} {
		if err := check(ctx); err != nil {
			return none, err
		}
	}
	for _, held := range []string{string(cfg.Checkpoint), l.Checkpoint().Note} {
		if held != "" {
			if err := again.consistent(held, again.Checkpoint()); err != nil {
				return none, err
			}
		}
	}
	head := again.Checkpoint()
	report := audit.Report{Origin: l.Origin(), Key: l.VerifierKey(), Checkpoint: head, Entries: head.Size, Segments: int(again.state.next), Clean: true}
	for _, p := range again.state.places {
		report.Bytes += int64(p.end-p.start) + 1
	}
	return report, nil
}

// checkDerived compares every checkpoint, tile and pack with the batches.
func (l *Ledger) checkDerived(ctx context.Context) error {
	checkpoints, err := l.bucket.list(ctx, checkpointPrefix, "")
	if err != nil {
		return err
	}
	for _, o := range checkpoints {
		body, err := l.bucket.get(ctx, o.name)
		if err != nil {
			return err
		}
		if size, ok := number(checkpointPrefix, o.name); !ok {
			return &audit.TamperError{Path: o.name, Index: -1, Reason: "does not belong in a ledger"}
		} else if c, err := group.OpenCheckpoint(string(body), l.VerifierKey()); err != nil || c.Size != size {
			return &audit.TamperError{Path: o.name, Index: -1, Reason: "checkpoint is not as it was signed"}
		}
		if err := l.consistent(string(body), l.Checkpoint()); err != nil {
			return err
		}
	}
	if err := l.checkTiles(ctx); err != nil {
		return err
	}
	return l.checkPacks(ctx)
}

func (l *Ledger) checkTiles(ctx context.Context) error {
	tiles, err := l.bucket.list(ctx, tilePrefix, "")
	if err != nil {
		return err
	}
	for _, o := range tiles {
		var level int
		var n int64
		if _, err := fmt.Sscanf(o.name, tilePrefix+"%d/%d", &level, &n); err != nil {
			return &audit.TamperError{Path: o.name, Index: -1, Reason: "does not belong in a ledger"}
		}
		body, err := l.bucket.get(ctx, o.name)
		if err != nil {
			return err
		}
		want, err := l.memoryTile(level, n, audit.TileWidth)
		if err != nil || string(want) != string(body) {
			return &audit.TamperError{Path: o.name, Index: -1, Reason: "tile is not that of the entries"}
		}
	}
	return nil
}

func (l *Ledger) checkPacks(ctx context.Context) error {
	packs, err := l.bucket.list(ctx, packPrefix, "")
	if err != nil {
		return err
	}
	for _, o := range packs {
		k, ok := number(packPrefix, o.name)
		if !ok {
			return &audit.TamperError{Path: o.name, Index: -1, Reason: "does not belong in a ledger"}
		}
		body, err := l.bucket.get(ctx, o.name)
		if err != nil {
			return err
		}
		for n := k * l.cfg.packLen; n < (k+1)*l.cfg.packLen; n++ {
			batch, err := l.bucket.get(ctx, numbered(batchPrefix, n))
			if err != nil {
				return err
			}
			if len(body) < len(batch) || string(body[:len(batch)]) != string(batch) {
				return &audit.TamperError{Path: o.name, Index: -1, Reason: fmt.Sprintf("pack does not hold batch %d as it is", n)}
			}
			body = body[len(batch):]
		}
		if len(body) > 0 {
			return &audit.TamperError{Path: o.name, Index: -1, Reason: "something after the last batch"}
		}
	}
	return nil
}

// checkVersions looks for objects that were removed or replaced: in a bucket
// with versions they leave traces.
func (l *Ledger) checkVersions(ctx context.Context) error {
	all, err := l.bucket.versions(ctx, "")
	if err != nil {
		return err
	}
	seen := map[string]bool{}
	for _, o := range all {
		if o.name == latestName {
			continue // it is replaced
		}
		switch {
		case o.deleted:
			return &audit.TamperError{Path: o.name, Index: -1, Reason: "object was removed: there is a delete marker"}
		case seen[o.name]:
			return &audit.TamperError{Path: o.name, Index: -1, Reason: "object was replaced: it has several versions"}
		}
		seen[o.name] = true
	}
	return nil
}
