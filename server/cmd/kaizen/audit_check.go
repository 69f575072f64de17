package main

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/kaizen-go/kaizen/audit"
	"github.com/kaizen-go/kaizen/server"
)

func newAuditCheck() *cobra.Command {
	var keyFile string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "check PROOF",
		Short: "Check a proof that an entry is in a ledger",
		Long: `check reads a proof that kaizen audit prove wrote ("-" is standard input), shows
the entry and says whether the signed checkpoint covers it. It needs no ledger
when --key names the ledger's public key; without it, the key is taken from the
ledger in ` + server.DefaultDataDir + `.`,
		Example: "  kaizen audit check entry7.proof --key ledger.vkey",
		Args:    cobra.ExactArgs(1),
	}
	cmd.Flags().StringVar(&keyFile, "key", "", "file with the ledger's public key")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the verdict as one JSON object")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		p, err := parseProof(cmd.InOrStdin(), args[0])
		if err != nil {
			return err
		}
		key, err := readKey(cmd.InOrStdin(), keyFile)
		if err != nil {
			return err
		}
		if key == "" {
			if key, err = keyNearby(); err != nil {
				return err
			}
		}
		if err := p.Check(key); err != nil {
			return failed(fmt.Errorf("%s: %w", args[0], err))
		}
		return printProof(cmd, p, key, asJSON)
	}
	return cmd
}

// keyNearby returns the key of the ledger in the default data directory.
func keyNearby() (string, error) {
	const advice = "name the ledger's public key with --key FILE"
	dir, err := ledgerDir(server.DefaultDataDir)
	if err != nil {
		return "", environment(errors.New("no key to check the signature with"), advice)
	}
	r, err := audit.OpenReader(dir)
	if err != nil {
		return "", environment(fmt.Errorf("no key to check the signature with: %w", err), advice)
	}
	return r.VerifierKey(), r.Close()
}

func printProof(cmd *cobra.Command, p audit.Proof, key string, asJSON bool) error {
	e, err := audit.DecodeLine(p.Line)
	if err != nil {
		return failed(fmt.Errorf("the proven line: %w", err))
	}
	e.Index = p.Index
	text, err := json.Marshal(e)
	if err != nil {
		return failed(fmt.Errorf("the proven line: %w", err))
	}
	if asJSON {
		return json.NewEncoder(cmd.OutOrStdout()).Encode(map[string]any{"intact": true, "index": p.Index, "key": key, "entry": json.RawMessage(text)})
	}
	_, err = fmt.Fprintf(cmd.OutOrStdout(), "intact: entry %d is in the ledger signed by %s\n%s\n", p.Index, clean(key), text)
	return err
}
