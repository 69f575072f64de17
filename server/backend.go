package server

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/kaizen-go/kaizen/audit"
	"github.com/kaizen-go/kaizen/audit/shard"
	"github.com/kaizen-go/kaizen/server/backend/postgres"
	"github.com/kaizen-go/kaizen/server/backend/s3"
)

// The places where a server can keep its audit ledger.
const (
	AuditFiles    = "files"    // the data directory
	AuditPostgres = "postgres" // a PostgreSQL database
	AuditS3       = "s3"       // an S3-compatible object store
)

// AuditConfig says where the server keeps its audit ledger. The zero value keeps
// it in the data directory. The signing key is there in any case:
// keys/audit.key.
type AuditConfig struct {
	// Backend is [AuditFiles], [AuditPostgres] or [AuditS3]. If empty,
	// [AuditFiles].
	Backend string
	// DSN is how to connect to PostgreSQL; DSNFile names a file that holds it,
	// readable by its owner only. Schema is that of the tables, "kaizen" if
	// empty.
	DSN, DSNFile, Schema string
	// S3 is the object store. Its KeyFile, Origin and Logger are the server's.
	S3 s3.Config

	// Files tunes a ledger in files.
	Files AuditFilesConfig
	// Outward says who gets its signed checkpoints, wherever it is.
	Outward AuditOutwardConfig
}

// AuditFilesConfig tunes a ledger that is kept in files. The fields are those of
// [audit.Config]; the zero value keeps everything.
type AuditFilesConfig struct {
	// Retention removes old segments. If zero, nothing is removed.
	Retention audit.Retention
	// SegmentBytes is the size from which on a segment is sealed, SealAfter the
	// age. If zero, 64 MiB and 24 hours; a negative age is never.
	SegmentBytes int64
	SealAfter    time.Duration
	// Archive is a directory to which sealed segments are copied before
	// retention may remove them. If empty, none.
	Archive string
}

// serverLedger is what the server needs of its ledger, wherever it is.
type serverLedger interface {
	audit.Backend
	shard.Super
}

// openLedger opens the ledger where the configuration wants it.
func (s *Server) openLedger() (serverLedger, error) {
	dir, cfg := s.cfg.DataDir, s.cfg.Audit
	keyFile := filepath.Join(dir, keysFolder, ledgerFolder+".key")
	// Opening reads the ledger; a database that does not answer fails the start.
	ctx, cancel := context.WithTimeout(context.Background(), auditOpenTimeout)
	defer cancel()
	outward, err := s.outward(ctx)
	if err != nil {
		return nil, err
	}
	switch cfg.Backend {
	case AuditPostgres:
		dsn, err := cfg.dsn()
		if err != nil {
			return nil, err
		}
		return postgres.Open(ctx, postgres.Config{
			DSN: dsn, Schema: cfg.Schema, KeyFile: keyFile, Logger: s.logger,
			UsersAreSubjects: true, ClearDetails: audit.TechnicalDetails(), Outward: outward,
		})
	case AuditS3:
		cfg.S3.KeyFile, cfg.S3.Origin, cfg.S3.Logger = keyFile, "", s.logger
		cfg.S3.UsersAreSubjects, cfg.S3.ClearDetails = true, audit.TechnicalDetails()
		cfg.S3.Outward = outward
		return s3.Open(ctx, cfg.S3)
	}
	ledgerConfig := cfg.Files.ledger()
	ledgerConfig.Witness, ledgerConfig.WitnessEvery = outward.Witness, outward.WitnessEvery
	ledgerConfig.Anchors, ledgerConfig.AnchorEvery = outward.Anchors, outward.AnchorEvery
	ledgerConfig.KeyDir = filepath.Join(dir, keysFolder)
	ledgerConfig.Logger = s.logger
	// Whoever an agent works for can be forgotten.
	ledgerConfig.UsersAreSubjects = true
	ledgerConfig.ClearDetails = audit.TechnicalDetails()
	return audit.Open(filepath.Join(dir, ledgerFolder), ledgerConfig)
}

// auditOpenTimeout bounds the opening of a ledger that is not on this machine.
const auditOpenTimeout = 5 * time.Minute

// check refuses what cannot be meant.
func (c AuditConfig) check() error {
	if err := c.Outward.check(); err != nil {
		return err
	}
	if c.Outward.AnchorS3 && c.Backend == AuditS3 {
		return fmt.Errorf("server: %w: an anchor in S3 would be in the bucket of the ledger itself", ErrConfig)
	}
	if c.Outward.AnchorS3 && (c.S3.Endpoint == "" || c.S3.Bucket == "") {
		return fmt.Errorf("server: %w: an anchor in S3 needs endpoint and bucket", ErrConfig)
	}
	switch c.Backend {
	case "", AuditFiles:
		if c.DSN != "" || c.DSNFile != "" || c.S3.Bucket != "" && !c.Outward.AnchorS3 {
			return fmt.Errorf("server: %w: a database or a bucket is given, and the audit ledger is kept in files", ErrConfig)
		}
		return c.Files.check()
	case AuditPostgres:
		if (c.DSN == "") == (c.DSNFile == "") {
			return fmt.Errorf("server: %w: PostgreSQL needs either DSN or DSNFile", ErrConfig)
		}
	case AuditS3:
		if c.S3.Endpoint == "" || c.S3.Bucket == "" {
			return fmt.Errorf("server: %w: S3 needs endpoint and bucket", ErrConfig)
		}
	default:
		return fmt.Errorf("server: %w: audit backend %q is none of %s, %s, %s", ErrConfig, c.Backend, AuditFiles, AuditPostgres, AuditS3)
	}
	if !c.Files.zero() {
		return fmt.Errorf("server: %w: retention, sealing and archive are settings of a ledger in files, not of %s", ErrConfig, c.Backend)
	}
	return nil
}

// dsn reads DSNFile if that is set.
func (c AuditConfig) dsn() (string, error) {
	if c.DSNFile == "" {
		return c.DSN, nil
	}
	info, err := os.Stat(c.DSNFile)
	if err != nil {
		return "", err
	}
	if info.Mode().Perm()&0o077 != 0 {
		return "", fmt.Errorf("DSN file %s is readable by others (mode %o, want 600)", c.DSNFile, info.Mode().Perm())
	}
	b, err := os.ReadFile(c.DSNFile)
	return strings.TrimSpace(string(b)), err
}
