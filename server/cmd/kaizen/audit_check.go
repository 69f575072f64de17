package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/kaizen-go/kaizen/audit"
	"github.com/kaizen-go/kaizen/server"
)

func newAuditCheck() *cobra.Command {
	var keyFile string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "check PROOF",
		Short: "Check a proof that an entry is in a ledger, or that a ledger only grew",
		Long: `check reads a proof that kaizen audit prove wrote ("-" is standard input), shows
the entry and says whether the signed checkpoint covers it; or one that kaizen
audit consistency wrote, and says whether one checkpoint extends the other. It
needs no ledger.

The key that the checkpoint has to be signed with comes from --key, or from the
ledger in ` + server.DefaultDataDir + ` when there is one. Without a key only the entry's path to
the checkpoint is checked, and that is said: anybody can make such a proof.`,
		Example: "  kaizen audit check entry7.proof --key ledger.vkey",
		Args:    cobra.ExactArgs(1),
	}
	cmd.Flags().StringVar(&keyFile, "key", "", "file with the ledger's public key, or all that it has had, one a line")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the verdict as one JSON object")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		text, err := readSmall(cmd.InOrStdin(), "proof", args[0])
		if err != nil {
			return err
		}
		keys, err := readKeys(cmd.InOrStdin(), keyFile)
		if err != nil {
			return err
		}
		if len(keys) == 0 {
			keys = keysNearby()
		}
		if isConsistencyProof(text) {
			return checkGrowth(cmd, args[0], text, keys, asJSON)
		}
		p, err := audit.ParseProof(text)
		if err != nil {
			return failed(fmt.Errorf("%s: %w", args[0], err))
		}
		key, err := checkProof(p, keys)
		if err != nil {
			return failed(fmt.Errorf("%s: %w", args[0], err))
		}
		return printProof(cmd, p, key, asJSON)
	}
	return cmd
}

// checkGrowth checks a consistency proof, whose signatures are all that ties it
// to a ledger: without a key there is nothing to check.
func checkGrowth(cmd *cobra.Command, name string, text []byte, keys []string, asJSON bool) error {
	if len(keys) == 0 {
		return usage(fmt.Errorf("%s cannot be checked without the ledger's public key", name), "name it with --key FILE")
	}
	from, to, err := checkConsistency(text, keys)
	if err != nil {
		return failed(fmt.Errorf("%s: %w", name, err))
	}
	return printGrowth(cmd, from, to, true, asJSON)
}

// keysNearby returns the keys of the ledger in the default data directory, or
// nil when there is none that can be read.
func keysNearby() []string {
	dir, err := ledgerDir(server.DefaultDataDir)
	if err != nil {
		return nil
	}
	r, err := audit.OpenReader(dir)
	if err != nil {
		return nil
	}
	keys, err := r.VerifierKeys()
	if errors.Join(err, r.Close()) != nil {
		return nil
	}
	return keys
}

// checkProof checks the proof under each of keys, and returns the one that it
// holds under; without keys it checks the path alone.
func checkProof(p audit.Proof, keys []string) (key string, err error) {
	if len(keys) == 0 {
		return "", checkPath(p)
	}
	for _, key = range keys {
		if err = p.Check(key); err == nil {
			return key, nil
		}
	}
	return "", err
}

// checkPath checks that the proof's hashes lead from the entry to the root that
// the checkpoint names, whoever signed it.
func checkPath(p audit.Proof) error {
	if _, err := p.Entry(); err != nil {
		return err
	}
	text, _, _ := strings.Cut(p.Note, "\n\n")
	c, err := parseCheckpointText(text + "\n")
	if err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	path := make(tlog.RecordProof, len(p.Hashes))
	for i, h := range p.Hashes {
		path[i] = tlog.Hash(h)
	}
	if p.Index >= c.Size {
		return fmt.Errorf("entry %d is not among the %d that the checkpoint covers", p.Index, c.Size)
	}
	if err := tlog.CheckRecord(path, c.Size, tlog.Hash(c.Root), p.Index, tlog.RecordHash(p.Line)); err != nil {
		return fmt.Errorf("entry %d is not in the tree of %d entries: %w", p.Index, c.Size, err)
	}
	return nil
}

func printProof(cmd *cobra.Command, p audit.Proof, key string, asJSON bool) error {
	e, err := p.Entry()
	if err != nil {
		return failed(fmt.Errorf("the proven line: %w", err))
	}
	text, err := json.Marshal(e)
	if err != nil {
		return failed(fmt.Errorf("the proven line: %w", err))
	}
	if asJSON {
		return json.NewEncoder(cmd.OutOrStdout()).Encode(map[string]any{
			"intact": true, "index": p.Index, "signature_checked": key != "", "key": key, "entry": json.RawMessage(text),
		})
	}
	verdict := "signed by " + clean(key)
	if key == "" {
		verdict = "that the checkpoint describes"
		if _, err := fmt.Fprintln(cmd.ErrOrStderr(), "the signature was not checked: name the ledger's public key with --key FILE"); err != nil {
			return failed(err)
		}
	}
	_, err = fmt.Fprintf(cmd.OutOrStdout(), "intact: entry %d is in the ledger %s\n%s\n", p.Index, verdict, text)
	return err
}
