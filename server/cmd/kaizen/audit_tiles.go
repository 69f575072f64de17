package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/kaizen-go/kaizen/audit"
	logtiles "github.com/kaizen-go/kaizen/server/internal/tlog"
)

func newAuditTiles() *cobra.Command {
	var noEntries bool
	cmd := &cobra.Command{
		Use:   "tiles DIR",
		Short: "Write the ledger as a static C2SP log for other programs",
		Long: `tiles writes checkpoint, Merkle tiles and entry bundles to DIR as files, in the
layout of c2sp.org/tlog-tiles, and the keys that have signed. Any web server can
serve it, and any program for such logs can check it. A later run adds what is new;
files that no longer are at the edge stay. The checkpoint is written last.

Entries that retention removed have hashes and no bundles.`,
		Example: `  kaizen audit tiles /srv/log
  kaizen audit tiles /srv/log --no-entries`,
		Args: cobra.ExactArgs(1),
	}
	src := addSource(cmd)
	cmd.Flags().BoolVar(&noEntries, "no-entries", false, "write hashes alone: proofs, and nothing of what agents did")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return withLedger(cmd.Context(), src, func(l ledger) error {
			log, err := openLog(cmd.Context(), l)
			if err != nil {
				return err
			}
			n, err := writeTiles(cmd.Context(), log, args[0], !noEntries, startProgress(cmd.ErrOrStderr(), "wrote"))
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%d entries, %d files, %d bundles removed by retention\n", n.entries, n.files, n.pruned)
			return err
		})
	}
	return cmd
}

type tileCounts struct {
	entries       int64
	files, pruned int
}

// writeTiles writes the log under its newest checkpoint to dir.
func writeTiles(ctx context.Context, log tileLog, dir string, entries bool, show *progress) (n tileCounts, err error) {
	defer show.end()
	c, err := log.checkpoint(ctx)
	if err != nil {
		return n, err
	}
	n.entries = c.Size
	for level, size := 0, c.Size; size > 0; level, size = level+1, size/audit.TileWidth {
		for index := int64(0); index*audit.TileWidth < size; index++ {
			width := int(min(audit.TileWidth, size-index*audit.TileWidth))
			if err := n.copy(ctx, log, dir, logtiles.Path(level, index, width)); err != nil {
				return n, err
			}
			if level == 0 && entries {
				err := n.copy(ctx, log, dir, logtiles.Path(logtiles.EntriesLevel, index, width))
				if api, ok := errors.AsType[*apiError](err); ok && api.Status == http.StatusGone {
					n.pruned++
				} else if err != nil {
					return n, err
				}
				show.show(index*audit.TileWidth+int64(width), c.Size)
			}
		}
	}
	keys, err := log.file(ctx, "keys")
	if api, ok := errors.AsType[*apiError](err); ok && api.Status == http.StatusNotFound {
		err = nil // an older server's log has none
	} else if err == nil {
		err = writeLogFile(dir, "keys", keys)
	}
	if err != nil {
		return n, err
	}
	return n, writeLogFile(dir, "checkpoint", []byte(c.Note))
}

// copy writes one file of the log, unless it is there: what a path names never
// changes.
func (n *tileCounts) copy(ctx context.Context, log tileLog, dir, path string) error {
	if _, err := os.Stat(filepath.Join(dir, filepath.FromSlash(path))); err == nil {
		return nil
	}
	data, err := log.file(ctx, path)
	if err != nil {
		return err
	}
	n.files++
	return writeLogFile(dir, path, data)
}

// writeLogFile puts a file in its place whole: a reader, or a run that was
// interrupted, never leaves half of one.
func writeLogFile(dir, path string, data []byte) error {
	name := filepath.Join(dir, filepath.FromSlash(path))
	err := os.MkdirAll(filepath.Dir(name), 0o755)
	if err == nil {
		err = os.WriteFile(name+".tmp", data, 0o644)
	}
	if err == nil {
		err = os.Rename(name+".tmp", name)
	}
	if err != nil {
		return environment(fmt.Errorf("write log: %w", err), "")
	}
	return nil
}
