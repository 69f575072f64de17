package main

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/kaizen-go/kaizen/audit"
)

// readKept reads the checkpoints in files and directories that the user named.
func readKept(paths []string) ([]audit.Remembered, error) {
	var all []audit.Remembered
	for _, path := range paths {
		found, err := audit.ReadAnchors(path)
		if err != nil {
			return nil, environment(err, "name files or directories of checkpoints, anchors or proofs")
		}
		all = append(all, found...)
	}
	return all, nil
}

// checkKept compares a server's ledger with checkpoints that were kept, by
// consistency proofs from its tiles.
func checkKept(ctx context.Context, l ledger, keys []string, kept []audit.Remembered) error {
	if len(kept) == 0 {
		return nil
	}
	log, err := openLog(ctx, l)
	if err != nil {
		return err
	}
	log.trust(keys)
	now, err := log.checkpoint(ctx)
	if err != nil {
		return err
	}
	for _, k := range kept {
		c, _, err := log.signed(k.Note, parseUnder)
		if err != nil {
			return &audit.TamperError{Path: k.Source, Index: -1, Reason: err.Error()}
		}
		if err := log.extends(ctx, c, now, k.Source); err != nil {
			return err
		}
	}
	return nil
}

// extends reports whether checkpoint to continues from: a *audit.TamperError
// says how not.
func (l tileLog) extends(ctx context.Context, from, to audit.Checkpoint, source string) error {
	if from.Size > to.Size {
		return &audit.TamperError{Path: source, Index: -1, Reason: "rollback: the ledger is older than this checkpoint",
			Want: fmt.Sprintf("%d entries", from.Size), Got: fmt.Sprint(to.Size)}
	}
	p, err := l.prove(ctx, from, to)
	if err != nil {
		return err
	}
	if _, _, err := p.Check(l.keys...); errors.Is(err, audit.ErrProof) {
		return &audit.TamperError{Path: source, Index: -1, Reason: fmt.Sprintf("fork: the first %d entries are not those of this checkpoint", from.Size)}
	} else if err != nil {
		return failed(err)
	}
	return nil
}

func newAuditCompare() *cobra.Command {
	var keyFile string
	cmd := &cobra.Command{
		Use:   "compare A B",
		Short: "Compare two copies of a ledger: one of them a beginning of the other, or a split view",
		Long: `compare asks whether two places show one history: each of A and B is a data
directory, a ledger's own, or the URL of a server. One of them may be older.

It exits with 1 and says "split view" when both are signed and neither extends
the other: whoever has the key has shown two histories.`,
		Example: "  kaizen audit compare /backup/kaizen-data http://127.0.0.1:7070",
		Args:    cobra.ExactArgs(2),
	}
	cmd.Flags().StringVar(&keyFile, "key", "", "file with the ledger's public key, or all that it has had, one a line (default: what A and B name)")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		keys, err := readKeys(cmd.InOrStdin(), keyFile)
		if err != nil {
			return err
		}
		return compare(cmd, args[0], args[1], keys)
	}
	return cmd
}

// placed is one copy of a ledger.
type placed struct {
	name string
	log  tileLog
	head audit.Checkpoint
}

func compare(cmd *cobra.Command, nameA, nameB string, keys []string) (err error) {
	var copies [2]placed
	for i, name := range []string{nameA, nameB} {
		src := &source{data: name, chosen: true}
		if isURL(name) {
			src = &source{server: name}
		}
		l, err := openLedger(cmd.Context(), src)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, l.close()) }()
		log, err := openLog(cmd.Context(), l)
		if err != nil {
			return err
		}
		log.trust(keys)
		head, err := log.checkpoint(cmd.Context())
		if err != nil {
			return failed(fmt.Errorf("%s: %w", name, err))
		}
		copies[i] = placed{name, log, head}
	}
	for i, c := range copies {
		if err := copies[1-i].wantPresent(c); err != nil {
			return err
		}
	}
	older, newer := copies[0], copies[1]
	if older.head.Size > newer.head.Size {
		older, newer = newer, older
	}
	key := older.log.keys[0]
	if !slices.Contains(newer.log.keys, key) {
		// Of two that changed their key apart the one before is the last that both had.
		at := slices.IndexFunc(older.log.keys, func(k string) bool { return slices.Contains(newer.log.keys, k) })
		if at < 0 {
			return failed(fmt.Errorf("%s is signed by %s, %s by %s: these are two ledgers", older.name, clean(key), newer.name, clean(newer.log.keys[0])))
		}
		key = older.log.keys[at]
	}
	for _, k := range older.log.keys { // which the newer one's files do not know after a split
		if !slices.Contains(newer.log.keys, k) {
			newer.log.keys = append(newer.log.keys, k)
		}
	}
	err = newer.log.extends(cmd.Context(), older.head, newer.head, older.name)
	if _, ok := errors.AsType[*audit.TamperError](err); ok {
		return failed(fmt.Errorf("split view: %s (%d entries) and %s (%d entries) are both signed by %s, and neither extends the other",
			older.name, older.head.Size, newer.name, newer.head.Size, clean(key)))
	}
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(cmd.OutOrStdout(), "consistent: the %d entries of %s are the first of the %d of %s\n", older.head.Size, older.name, newer.head.Size, newer.name)
	return err
}

// wantPresent refuses other if it is signed with a key that p had replaced by
// then: somebody who has the old key made it, or it went on without the change.
func (p placed) wantPresent(other placed) error {
	_, key, err := other.log.signed(other.head.Note, parseUnder)
	if err == nil && p.log.replaced(key, other.head.Size) {
		err = fmt.Errorf("%w, as %s says: %s", errReplaced, p.name, clean(key))
	}
	if err != nil {
		return failed(fmt.Errorf("%s (%d entries): %w", other.name, other.head.Size, err))
	}
	return nil
}

func newAuditAcceptRestore() *cobra.Command {
	var data string
	cmd := &cobra.Command{
		Use:   "accept-restore",
		Short: "Go on with a ledger that was restored from a backup",
		Long: `accept-restore opens a ledger that is older, or other, than what its key signed
last, which is otherwise refused as a rollback, or whose history of checkpoints
(checkpoints.jsonl) is gone, such as an archive that was put in the place of a
lost ledger. The entry ledger.restored records it with what was lost. Receipts and
checkpoints of what was lost will not hold any more, and say so to whoever checks
them.`,
		Example: "  kaizen audit accept-restore --data ./kaizen-data",
		Args:    cobra.NoArgs,
	}
	cmd.Flags().StringVar(&data, "data", "", "data directory with the restored ledger (or KAIZEN_DATA)")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		src := &source{data: data}
		src.settle()
		dir, err := ledgerDir(src.data)
		if err != nil {
			return err
		}
		l, err := audit.Open(dir, audit.Config{AcceptRestored: true})
		if err != nil {
			return environment(err, "")
		}
		size := l.Size()
		if err := l.Close(); err != nil {
			return failed(err)
		}
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "the ledger goes on with %d entries\n", size)
		return err
	}
	return cmd
}
