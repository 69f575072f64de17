package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/kaizen-go/kaizen/audit"
)

func newAuditConsistency() *cobra.Command {
	var out, keyFile string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "consistency OLD [NEW]",
		Short: "Prove that the ledger only grew since an earlier checkpoint",
		Long: `consistency proves that the entries under the checkpoint in file OLD are the first
ones under the one in file NEW, or under the ledger's newest. With -o it writes
the proof, which kaizen audit check verifies with nothing but the public key.

It exits with 1 and names the reason when no such proof exists: the ledger was
set back to an earlier state (rollback), or its history is another one (fork).`,
		Example: `  kaizen audit consistency yesterday.note
  kaizen audit consistency monday.note friday.note -o week.proof
  kaizen audit check week.proof --key ledger.vkey`,
		Args: cobra.RangeArgs(1, 2),
	}
	src := addSource(cmd)
	cmd.Flags().StringVarP(&out, "out", "o", "", "file to write the proof to")
	cmd.Flags().StringVar(&keyFile, "key", "", "file with the ledger's public key, or all that it has had, one a line (default: what the ledger names)")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the verdict as one JSON object")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		keys, err := readKeys(cmd.InOrStdin(), keyFile)
		if err != nil {
			return err
		}
		return withLedger(cmd.Context(), src, func(l ledger) error {
			p, err := proveBetween(cmd, l, keys, args)
			if err != nil {
				return err
			}
			return p.print(cmd, out, asJSON)
		})
	}
	return cmd
}

// growth is a proof and what it shows.
type growth struct {
	proof    audit.ConsistencyProof
	from, to audit.Checkpoint
}

// proveBetween makes and checks the proof for the checkpoints in the files args.
func proveBetween(cmd *cobra.Command, l ledger, keys []string, args []string) (g growth, err error) {
	log, err := openLog(cmd.Context(), l)
	if err != nil {
		return g, err
	}
	log.trust(keys)
	if g.to, err = log.checkpoint(cmd.Context()); err != nil {
		return g, err
	}
	notes := make([]audit.Checkpoint, len(args))
	for i, name := range args {
		text, err := readSmall(cmd.InOrStdin(), "checkpoint", name)
		if err != nil {
			return g, err
		}
		if notes[i], _, err = log.signed(string(text), parseUnder); err != nil {
			return g, failed(fmt.Errorf("%s: %w", name, err))
		}
	}
	g.from = notes[0]
	if len(notes) == 2 {
		if notes[1].Size > g.to.Size {
			return g, failed(fmt.Errorf("rollback: %s covers %d entries, and the ledger has %d", args[1], notes[1].Size, g.to.Size))
		}
		g.to = notes[1]
	}
	if g.from.Size > g.to.Size {
		return g, failed(fmt.Errorf("rollback: %s covers %d entries, and the newer checkpoint %d", args[0], g.from.Size, g.to.Size))
	}
	if g.proof, err = log.prove(cmd.Context(), g.from, g.to); err != nil {
		return g, err
	}
	if _, _, err := g.proof.Check(log.keys...); errors.Is(err, audit.ErrProof) {
		return g, failed(fmt.Errorf("fork: %s is signed, and not of this history: %w", args[0], err))
	} else if err != nil {
		return g, failed(err)
	}
	return g, nil
}

func (g growth) print(cmd *cobra.Command, out string, asJSON bool) error {
	if out != "" {
		if err := writeWhole(out, g.proof.Marshal()); err != nil {
			return environment(fmt.Errorf("write proof: %w", err), "")
		}
	}
	return printGrowth(cmd, g.from, g.to, true, asJSON)
}

func printGrowth(cmd *cobra.Command, from, to audit.Checkpoint, signed, asJSON bool) error {
	if asJSON {
		return encodeJSON(cmd.OutOrStdout(), map[string]any{
			"consistent": true, "signature_checked": signed, "from": from.Size, "to": to.Size,
			"from_root": fmt.Sprintf("%x", from.Root), "to_root": fmt.Sprintf("%x", to.Root),
		})
	}
	_, err := fmt.Fprintf(cmd.OutOrStdout(), "consistent: the first %d entries are unchanged among the %d of the newer checkpoint\n", from.Size, to.Size)
	return err
}
