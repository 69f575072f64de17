package main

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/kaizen-go/kaizen/audit"
	"github.com/kaizen-go/kaizen/server"
)

func newAuditVerify() *cobra.Command {
	var checkpoint, keyFile string
	var kept, anchors []string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "verify [DIR|URL|PACK]",
		Short: "Check that the ledger is what was signed",
		Long: `verify checks every entry, proof and checkpoint of a ledger, and changes nothing.
It needs no server: DIR is a data directory or a ledger's own (default
` + server.DefaultDataDir + `). It exits with 0 when the ledger is intact, and with 1 when it was
tampered with, naming file, entry and what differs.

Without --key it takes the key that the ledger itself names: that finds damage
and clumsy changes, but not somebody who signed anew with another key. Without
--checkpoint it cannot tell whether the ledger was set back to an earlier state.
Keep both elsewhere. --checkpoints and --anchors name files and directories of
many: receipts, proofs, what anchors wrote. Each has to be of this history; the
verdict is "rollback" when the ledger has fewer entries, "fork" when it has
others, "split view" when two that were kept contradict each other.

PACK is a zip file or directory that kaizen audit export wrote: every entry, proof
and file in it is checked with nothing else at hand.

With a URL it reads the whole ledger over the API, page by page, builds the
Merkle tree from the entries and compares its root with the signed checkpoint,
and with an earlier one when it is given. Of entries that retention removed, as
an entry of the ledger has to say, it takes the hashes. What lies on the server's
disk beside the entries (segments, indexes, stored checkpoints) cannot be seen from
there.`,
		Example: `  kaizen audit verify ./kaizen-data
  kaizen audit verify ./kaizen-data --checkpoint yesterday.note --key ledger.vkey
  kaizen audit verify http://127.0.0.1:7070 --json`,
		Args: cobra.MaximumNArgs(1),
	}
	cmd.Flags().StringVar(&checkpoint, "checkpoint", "", "file with an earlier signed checkpoint that the ledger has to extend")
	cmd.Flags().StringSliceVar(&kept, "checkpoints", nil, "file or directory with more checkpoints, receipts or proofs; may be repeated")
	cmd.Flags().StringSliceVar(&anchors, "anchors", nil, "file that a ledger anchored its checkpoints in; may be repeated")
	cmd.Flags().StringVar(&keyFile, "key", "", "file with the ledger's public key (verifier key of a signed note), or all that it has had, one a line")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the verdict as one JSON object")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		target := server.DefaultDataDir
		if len(args) == 1 {
			target = args[0]
		}
		cfg, keys, err := verifyConfig(cmd, checkpoint, keyFile)
		if err != nil {
			return err
		}
		if cfg.Checkpoints, err = readKept(append(kept, anchors...)); err != nil {
			return err
		}
		pack, closePack, isPack, err := openPack(target)
		if err != nil {
			return err
		}
		if isPack {
			return errors.Join(verifyPack(cmd, pack, cfg, asJSON), closePack())
		}
		progress := startProgress(cmd.ErrOrStderr(), "checked")
		cfg.Progress = progress.show
		v, err := verify(cmd.Context(), target, cfg, keys)
		progress.end()
		if err != nil && v.Tampered == nil {
			return err
		}
		if printErr := v.print(cmd.OutOrStdout(), asJSON); printErr != nil {
			return failed(errors.Join(err, printErr))
		}
		return err
	}
	return cmd
}

func verifyConfig(cmd *cobra.Command, checkpoint, keyFile string) (cfg audit.VerifyConfig, keys []string, err error) {
	if keys, err = readKeys(cmd.InOrStdin(), keyFile); err != nil {
		return cfg, nil, err
	}
	if len(keys) > 0 {
		cfg.Key = keys[0] // files say how the others follow
	}
	if checkpoint == "" {
		return cfg, keys, nil
	}
	if cfg.Checkpoint, err = readSmall(cmd.InOrStdin(), "checkpoint", checkpoint); err != nil {
		return cfg, nil, err
	}
	// What is no checkpoint at all says nothing about the ledger.
	text, _, signed := strings.Cut(string(cfg.Checkpoint), "\n\n")
	if _, err := parseCheckpointText(text + "\n"); err != nil || !signed {
		return cfg, nil, usage(fmt.Errorf("%s is no signed checkpoint", checkpoint), "--checkpoints takes receipts, proofs and anchors too")
	}
	return cfg, keys, nil
}

// verify checks a directory or a server's ledger.
func verify(ctx context.Context, target string, cfg audit.VerifyConfig, keys []string) (verdict, error) {
	if isURL(target) {
		c, err := newClient(target)
		if err != nil {
			return verdict{}, err
		}
		r, err := verifyRemote(ctx, apiLedger{c}, cfg, keys)
		if err == nil {
			err = checkKept(ctx, apiLedger{c}, keys, cfg.Checkpoints)
		}
		return judge(r, err)
	}
	dir, err := ledgerDir(target)
	if err != nil {
		return verdict{}, err
	}
	return judge(audit.Verify(ctx, dir, cfg))
}

// judge tells a ledger that was tampered with (1) from one that could not be
// read (3).
func judge(r audit.Report, err error) (verdict, error) {
	if err == nil {
		return verdict{Intact: true, Report: r}, nil
	}
	if t, ok := errors.AsType[*audit.TamperError](err); ok {
		return verdict{Tampered: t}, failed(err)
	}
	if _, ok := errors.AsType[*exitError](err); ok {
		return verdict{}, err
	}
	if errors.Is(err, os.ErrNotExist) {
		return verdict{}, environment(err, "there is no ledger there: name a data directory, or a ledger's own")
	}
	if errors.Is(err, os.ErrPermission) {
		return verdict{}, environment(err, "run it as the user that owns the ledger")
	}
	return verdict{}, failed(err)
}

// verdict is the outcome of a check.
type verdict struct {
	Intact   bool
	Report   audit.Report
	Tampered *audit.TamperError
}

func (v verdict) print(w io.Writer, asJSON bool) error {
	if asJSON {
		return json.NewEncoder(w).Encode(v.object())
	}
	if !v.Intact {
		return nil // the error says it
	}
	r := v.Report
	_, err := fmt.Fprintf(w, "intact: %d entries of %s, signed by %s\nroot %s\n", r.Entries, clean(r.Origin), clean(r.Key), hex.EncodeToString(r.Checkpoint.Root[:]))
	if err == nil && r.Pruned > 0 {
		_, err = fmt.Fprintf(w, "%d entries were removed by retention, as the ledger says; their hashes were checked\n", r.Pruned)
	}
	if err == nil && r.Unsigned > 0 {
		_, err = fmt.Fprintf(w, "%d newer entries are not covered by a checkpoint yet\n", r.Unsigned)
	}
	return err
}

// object is the verdict for a program.
func (v verdict) object() map[string]any {
	if !v.Intact {
		t := v.Tampered
		return map[string]any{"intact": false, "path": t.Path, "index": t.Index, "reason": t.Reason, "want": t.Want, "got": t.Got}
	}
	r := v.Report
	return map[string]any{
		"intact": true, "origin": r.Origin, "key": r.Key, "entries": r.Entries, "unsigned": r.Unsigned,
		"pruned": r.Pruned, "segments": r.Segments, "sealed": r.Sealed, "clean": r.Clean,
		"size": r.Checkpoint.Size, "root": hex.EncodeToString(r.Checkpoint.Root[:]),
	}
}
