package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/kaizen-go/kaizen/audit/witness"
)

func newWitness() *cobra.Command {
	return group("witness", "Watch the ledgers of others",
		`witness cosigns the checkpoints of ledgers that it watches, by the protocol of
c2sp.org/tlog-witness: each only when it extends the last one that it saw. A
ledger that has a witness cannot be set back, or shown to two people in two
forms, without that being found out. Two deployments can watch each other.`,
		newWitnessServe(), newWitnessKey())
}

func newWitnessKey() *cobra.Command {
	var out string
	cmd := &cobra.Command{
		Use:     "key NAME",
		Short:   "Make the key of a witness",
		Long:    "key writes a private key to a file that only its owner can read, and prints the\npublic key, which the ledgers that are watched are given.",
		Example: "  kaizen witness key witness.example.org/w1 -o witness.key",
		Args:    cobra.ExactArgs(1),
	}
	cmd.Flags().StringVarP(&out, "out", "o", "witness.key", "file to write, which must not exist")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		private, public, err := witness.GenerateKey(args[0])
		if err != nil {
			return usage(err, "a name is like a URL without its scheme")
		}
		f, err := os.OpenFile(out, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if err == nil {
			_, err = fmt.Fprintln(f, private)
			err = errors.Join(err, f.Sync(), f.Close())
		}
		if err != nil {
			return environment(fmt.Errorf("write key: %w", err), "")
		}
		_, err = fmt.Fprintln(cmd.OutOrStdout(), public)
		return err
	}
	return cmd
}

func newWitnessServe() *cobra.Command {
	var dir, keyFile, listen string
	var logs []string
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Answer the ledgers that ask for cosignatures",
		Long: `serve answers POST /add-checkpoint and GET /<origin hash>/checkpoint. What it has
seen is in --dir, on the disk before a signature leaves. Put a server with TLS in
front of it for others than this machine.`,
		Example: "  kaizen witness serve --key witness.key --log ledger.vkey --listen 127.0.0.1:7071",
		Args:    cobra.NoArgs,
	}
	cmd.Flags().StringVar(&dir, "dir", "kaizen-witness", "directory for what the witness has seen")
	cmd.Flags().StringVar(&keyFile, "key", "witness.key", "file with the witness's private key")
	cmd.Flags().StringSliceVar(&logs, "log", nil, "file with the public key of a ledger to watch; may be repeated")
	cmd.Flags().StringVar(&listen, "listen", "127.0.0.1:7071", "address to listen on")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		private, err := readKey(cmd.InOrStdin(), keyFile)
		if err != nil {
			return err
		}
		signer, err := witness.NewSigner(private)
		if err != nil {
			return usage(fmt.Errorf("%s: %w", keyFile, err), "kaizen witness key makes one")
		}
		cfg := witness.Config{Signer: signer, Logger: slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), nil))}
		for _, name := range logs {
			vkey, err := readKey(cmd.InOrStdin(), name)
			if err != nil {
				return err
			}
			cfg.Logs = append(cfg.Logs, vkey)
		}
		if len(cfg.Logs) == 0 {
			return usage(errors.New("no ledger to watch"), "name its public key with --log FILE")
		}
		w, err := witness.Open(dir, cfg)
		if err != nil {
			return environment(err, "")
		}
		return errors.Join(serveWitness(cmd, w, signer, listen), w.Close())
	}
	return cmd
}

// witnessTimeout bounds a request and its answer: both are small.
const witnessTimeout = 30 * time.Second

// serveWitness answers until a signal comes.
func serveWitness(cmd *cobra.Command, w *witness.Server, signer *witness.Signer, listen string) error {
	ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	l, err := net.Listen("tcp", listen)
	if err != nil {
		return environment(err, "")
	}
	srv := &http.Server{Handler: w, ReadTimeout: witnessTimeout, WriteTimeout: witnessTimeout, IdleTimeout: 2 * time.Minute}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(l) }()
	if _, err := fmt.Fprintf(cmd.OutOrStdout(), "witness %s on http://%s\n", signer.VerifierKey(), l.Addr()); err != nil {
		return errors.Join(failed(err), srv.Close(), <-served)
	}
	select {
	case err := <-served:
		return environment(err, "")
	case <-ctx.Done():
	}
	bound, cancel := context.WithTimeout(context.WithoutCancel(ctx), witnessTimeout)
	defer cancel()
	err = srv.Shutdown(bound)
	if serveErr := <-served; !errors.Is(serveErr, http.ErrServerClosed) {
		err = errors.Join(err, serveErr)
	}
	return err
}
