package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/kaizen-go/kaizen/audit"
	"github.com/kaizen-go/kaizen/server/internal/backup"
)

// handleBackup answers GET /api/backup with an archive of the data directory,
// while everything goes on: the ledger at a checkpoint of all that was
// acknowledged before, the log of spans and lines as far as it is written, and
// a snapshot of the metrics. Keys are never in it. One is made at a time.
func (s *Server) handleBackup(w http.ResponseWriter, r *http.Request) {
	if !s.backingUp.TryLock() {
		http.Error(w, `{"error":{"code":"busy","message":"another backup is being made"}}`, http.StatusConflict)
		return
	}
	defer s.backingUp.Unlock()
	m, parts, done, err := s.collect(r.Context())
	if err != nil {
		s.logger.Error("backup", "error", err)
		http.Error(w, `{"error":{"code":"internal","message":"the backup cannot be made: see the server's log"}}`, http.StatusInternalServerError)
		return
	}
	defer done()
	// It takes as long as it takes; who asked may go away at any time.
	if err := http.NewResponseController(w).SetWriteDeadline(time.Time{}); err != nil && !errors.Is(err, http.ErrNotSupported) {
		s.logger.Warn("backup: write deadline", "error", err)
	}
	w.Header().Set("Content-Type", "application/zstd")
	w.Header().Set("Content-Disposition", `attachment; filename="kaizen-`+m.Created.Format("20060102T150405Z")+`.tar.zst"`)
	begun := time.Now()
	if err := backup.Write(r.Context(), w, m, parts, nil); err != nil {
		// Without its manifest the archive is refused by whoever reads it.
		s.logger.Error("backup was cut off", "error", err)
		panic(http.ErrAbortHandler)
	}
	size := int64(0)
	if m.Ledger != nil {
		size = m.Ledger.Size
	}
	s.logger.Info("backup made", "files", len(parts), "ledger_entries", size, "took", time.Since(begun))
}

// collect opens what a backup consists of. The caller calls done in the end.
func (s *Server) collect(ctx context.Context) (m backup.Manifest, parts []backup.Part, done func(), err error) {
	m = backup.Manifest{Created: time.Now().UTC().Truncate(time.Second), Program: s.cfg.Version}
	snapshot, err := os.MkdirTemp(s.cfg.DataDir, "backup-")
	if err != nil {
		return m, nil, nil, fmt.Errorf("server: backup: %w", err)
	}
	done = func() {
		if err := os.RemoveAll(snapshot); err != nil {
			s.logger.Warn("backup: remove the snapshot of metrics", "error", err)
		}
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, backup.Close(parts))
			done()
		}
	}()
	if l, inFiles := s.parts.ledger.(*audit.Ledger); inFiles {
		parts, m.Ledger, err = backup.Ledger(filepath.Join(s.cfg.DataDir, ledgerFolder), func() error { return l.Flush(ctx) })
		if err != nil {
			return m, nil, nil, err
		}
	}
	log, err := backup.Tree(filepath.Join(s.cfg.DataDir, telemetryFolder), telemetryFolder)
	if err != nil {
		return m, parts, nil, err
	}
	parts = append(parts, log...)
	if err := s.parts.metrics.Snapshot(snapshot); err != nil {
		return m, parts, nil, err
	}
	metrics, err := backup.Tree(snapshot, metricsFolder)
	if err != nil {
		return m, parts, nil, err
	}
	return m, append(parts, metrics...), done, nil
}

// BackupDir writes an archive of the data directory dir, which no server holds,
// to w; with keys if withKeys is set. Progress, which may be nil, hears how many
// bytes of how many are done. A directory that another process holds is
// [ErrLocked].
func BackupDir(ctx context.Context, dir, version string, w io.Writer, withKeys bool, progress func(done, total int64)) (err error) {
	if _, err := os.Stat(filepath.Join(dir, telemetryFolder)); errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("server: %s: %w", dir, ErrNoData)
	}
	l, err := takeLock(ctx, dir, "backup")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.release()) }()
	m := backup.Manifest{Created: time.Now().UTC().Truncate(time.Second), Program: version, Keys: withKeys}
	var parts []backup.Part
	ledger := filepath.Join(dir, ledgerFolder)
	if _, err := os.Stat(filepath.Join(ledger, "checkpoint")); err == nil {
		if parts, m.Ledger, err = backup.Ledger(ledger, nil); err != nil {
			return err
		}
	}
	folders := []string{telemetryFolder, metricsFolder}
	if withKeys {
		folders = append(folders, keysFolder)
	}
	for _, folder := range folders {
		more, err := backup.Tree(filepath.Join(dir, folder), folder)
		if err != nil {
			return errors.Join(err, backup.Close(parts))
		}
		parts = append(parts, more...)
	}
	return backup.Write(ctx, w, m, parts, progress)
}
