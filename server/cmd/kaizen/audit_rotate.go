package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/kaizen-go/kaizen/audit"
)

func newAuditRotateKey() *cobra.Command {
	var data string
	cmd := &cobra.Command{
		Use:   "rotate-key",
		Short: "Give the ledger a new signing key",
		Long: `rotate-key changes the key of a ledger that nobody has open: stop the server first.
The change is an entry under the old key and a checkpoint that both keys sign, so
whoever trusts the old key can follow, and receipts from before go on to hold.
It prints the new public key: give it to auditors and witnesses.

When the old key may be in the wrong hands, change it at once, tell those who
hold it, and compare the ledger with checkpoints that were kept elsewhere before
the theft (kaizen audit verify --checkpoints): up to the change, whoever has the
old key can sign whatever they want. Then delete <name>.key.old.`,
		Example: "  kaizen audit rotate-key --data ./kaizen-data > ledger.vkey",
		Args:    cobra.NoArgs,
	}
	cmd.Flags().StringVar(&data, "data", "", "data directory with the ledger (or KAIZEN_DATA)")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		src := &source{data: data}
		src.settle()
		dir, err := ledgerDir(src.data)
		if err != nil {
			return err
		}
		_, vkey, err := audit.RotateKey(cmd.Context(), dir, audit.Config{})
		if errors.Is(err, audit.ErrLocked) {
			return environment(err, "stop the server or agent that has the ledger open")
		}
		if err != nil {
			return failed(err)
		}
		_, err = fmt.Fprintln(cmd.OutOrStdout(), vkey)
		return err
	}
	return cmd
}
