package server

import (
	"fmt"

	"github.com/kaizen-go/kaizen/audit"
)

func (c AuditFilesConfig) zero() bool {
	return c == AuditFilesConfig{}
}

// check refuses what cannot be meant.
func (c AuditFilesConfig) check() error {
	switch {
	case c.Retention.MaxAge < 0 || c.Retention.MaxBytes < 0:
		return fmt.Errorf("server: %w: retention of the audit ledger is below zero", ErrConfig)
	case c.SegmentBytes < 0 || c.SegmentBytes > 1<<30:
		return fmt.Errorf("server: %w: audit segments of %d bytes, want at most 1 GiB", ErrConfig, c.SegmentBytes)
	}
	return nil
}

// ledger is c as the ledger wants it.
func (c AuditFilesConfig) ledger() audit.Config {
	out := audit.Config{Retention: c.Retention, SegmentBytes: c.SegmentBytes, SealAfter: c.SealAfter, Archive: c.Archive}
	if c.SealAfter < 0 {
		out.SealAfter = audit.NoAge
	}
	return out
}

// archive is where the API may copy sealed segments: where the operator said.
func (c AuditConfig) archive() audit.ArchiveTarget {
	if c.Files.Archive == "" {
		return nil
	}
	return audit.ArchiveDir(c.Files.Archive)
}
