package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/mod/sumdb/note"
)

func newAuditProve() *cobra.Command {
	var out string
	cmd := &cobra.Command{
		Use:   "prove INDEX",
		Short: "Write the proof that an entry is in the ledger",
		Long: `prove writes a file that holds the entry, its path in the Merkle tree and the
signed checkpoint. kaizen audit check needs nothing but that file and the
ledger's public key.`,
		Example: `  kaizen audit prove 7 -o entry7.proof
  kaizen audit check entry7.proof --key ledger.vkey`,
		Args: cobra.ExactArgs(1),
	}
	src := addSource(cmd)
	cmd.Flags().StringVarP(&out, "out", "o", "", "file to write (default standard output)")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		index, err := strconv.ParseInt(args[0], 10, 64)
		if err != nil || index < 0 {
			return usage(fmt.Errorf("index %q is not a number from 0", args[0]), "kaizen audit query shows the index of each entry")
		}
		return withLedger(cmd.Context(), src, func(l ledger) error {
			text, err := l.proof(cmd.Context(), index)
			if err != nil {
				return err
			}
			if out == "" {
				_, err = cmd.OutOrStdout().Write(text)
				return err
			}
			if err := writeWhole(out, text); err != nil {
				return environment(fmt.Errorf("write proof: %w", err), "")
			}
			return nil
		})
	}
	return cmd
}

// maxSmallFile bounds proofs, keys and checkpoints: an entry has 64 KiB at
// most, and base64 adds a third.
const maxSmallFile = 1 << 20

// readSmall reads a file of that sort; "-" is standard input.
func readSmall(stdin io.Reader, what, path string) (text []byte, err error) {
	in := stdin
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return nil, environment(fmt.Errorf("%s: %w", what, err), "")
		}
		defer func() { err = errors.Join(err, f.Close()) }()
		in = f
	}
	text, err = io.ReadAll(io.LimitReader(in, maxSmallFile+1))
	if err != nil {
		return nil, environment(fmt.Errorf("%s %s: %w", what, path, err), "")
	}
	if len(text) > maxSmallFile {
		return nil, usage(fmt.Errorf("%s %s is larger than %d bytes", what, path, maxSmallFile), "is it the right file?")
	}
	return text, nil
}

// readKey returns the public key in the file at path, "" when none is named.
func readKey(stdin io.Reader, path string) (string, error) {
	if path == "" {
		return "", nil
	}
	text, err := readSmall(stdin, "key", path)
	if err != nil {
		return "", err
	}
	key := strings.TrimSpace(string(text))
	if key == "" {
		return "", usage(fmt.Errorf("key file %s is empty", path), "")
	}
	return key, nil
}

// readKeys returns the public keys in the file at path, nil when none is named:
// that of a ledger, or, when it was changed, those before too, one a line.
func readKeys(stdin io.Reader, path string) ([]string, error) {
	text, err := readKey(stdin, path)
	if err != nil || text == "" {
		return nil, err
	}
	var keys []string
	for line := range strings.Lines(text) {
		key := strings.TrimSpace(line)
		if key == "" {
			continue
		}
		if _, err := note.NewVerifier(key); err != nil {
			return nil, usage(fmt.Errorf("%s has no public key of a ledger in line %d: %w", path, len(keys)+1, err),
				"it is one line, as in vkey of the ledger's ledger.json: <name>+<id>+<base64>")
		}
		keys = append(keys, key)
	}
	return keys, nil
}
