package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/kaizen-go/kaizen/audit"
)

func newAuditRotateKey() *cobra.Command {
	var data, server string
	cmd := &cobra.Command{
		Use:   "rotate-key",
		Short: "Give the ledger a new signing key",
		Long: `rotate-key changes the key of a ledger that nobody has open, or with --server that
of a running server, which goes on under the new key at once. The change is an entry
under the old key and a checkpoint that both keys sign, so whoever trusts the old key
can follow, and receipts from before go on to hold. It prints the new public key: give it to auditors and witnesses.

When the old key may be in the wrong hands, change it at once, tell those who
hold it, and compare the ledger with checkpoints that were kept elsewhere before
the theft (kaizen audit verify --checkpoints): up to the change, whoever has the
old key can sign whatever they want. Then delete <name>.key.old.`,
		Example: "  kaizen audit rotate-key --data ./kaizen-data > ledger.vkey",
		Args:    cobra.NoArgs,
	}
	cmd.Flags().StringVar(&data, "data", "", "data directory with the ledger (or KAIZEN_DATA)")
	cmd.Flags().StringVar(&server, "server", "", "URL of a running server, whose ledger's key is changed")
	cmd.MarkFlagsMutuallyExclusive("data", "server")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if server != "" {
			c, err := newClient(server)
			if err != nil {
				return err
			}
			var changed struct {
				Key string `json:"vkey"`
			}
			if err := c.post(cmd.Context(), "/api/audit/rotate-key", struct{}{}, &changed); err != nil {
				return err
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), changed.Key)
			return err
		}
		src := &source{data: data}
		src.settle()
		dir, err := ledgerDir(src.data)
		if err != nil {
			return err
		}
		_, vkey, err := audit.RotateKey(cmd.Context(), dir, audit.Config{})
		if errors.Is(err, audit.ErrLocked) {
			return environment(err, "stop the server or agent that has the ledger open, or name the server with --server")
		}
		if err != nil {
			return failed(err)
		}
		_, err = fmt.Fprintln(cmd.OutOrStdout(), vkey)
		return err
	}
	return cmd
}
