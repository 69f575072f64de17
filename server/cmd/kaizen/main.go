// Command kaizen is the flight recorder for AI agents: the server, and the
// same answers as its web page for a terminal.
//
//	kaizen serve                          # the server, on this machine alone
//	kaizen trace list                     # what ran
//	kaizen audit verify ./kaizen-data     # is the ledger what was signed?
//
// Each subcommand is in a file of its own.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

func main() {
	os.Exit(run(untilSignal(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// untilSignal returns a context that the first signal ends, which asks for a
// clean stop. By the time that it has ended nobody hears of signals any more, so
// that the next one ends the process at once.
func untilSignal() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		<-signals
		signal.Stop(signals)
		cancel()
	}()
	return ctx
}

// run is the command as a function; it returns the exit code.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	root, began := newRoot()
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitGood
	}
	if !*began {
		err = usage(err, "see kaizen --help")
	}
	code, advice := classify(err)
	fmt.Fprintf(stderr, "kaizen: %s\n", clean(err.Error()))
	if advice != "" {
		fmt.Fprintln(stderr, advice)
	}
	return code
}

// newRoot returns the command tree. began turns true once a subcommand runs:
// errors before that are of usage.
func newRoot() (root *cobra.Command, began *bool) {
	began = new(bool)
	root = &cobra.Command{
		Use:   "kaizen",
		Short: "The flight recorder for AI agents",
		Long: `kaizen records what AI agents do: traces, metrics, logs and a tamper-evident
audit ledger, in one data directory, with a web page to look at it.

Exit codes: 0 good; 1 the check or the work failed; 2 wrong usage; 3 the
environment (cannot open, locked, port taken). Times are RFC 3339 or a duration
ago, such as 24h or 7d.`,
		Example: `  kaizen serve
  kaizen trace list --since 1h
  kaizen audit verify ./kaizen-data`,
		SilenceErrors: true,
		SilenceUsage:  true,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			// cobra would check this a moment later, and look like the work.
			if err := cmd.ValidateFlagGroups(); err != nil {
				return err
			}
			*began = true
			return nil
		},
		Args: cobra.NoArgs,
		RunE: needSubcommand,
	}
	root.CompletionOptions.HiddenDefaultCmd = false
	root.AddCommand(
		newServe(),
		newDemo(),
		newAudit(),
		newWitness(),
		newTrace(),
		newCost(),
		newLogs(),
		newDashboards(),
		newHealth(),
		newDoctor(),
		newCerts(),
		newSecrets(),
		newBackup(),
		newRestore(),
		newVersion(),
	)
	return root, began
}

// group returns a command that only holds others.
func group(use, short, long string, children ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{Use: use, Short: short, Long: long, Args: cobra.NoArgs, RunE: needSubcommand}
	cmd.AddCommand(children...)
	return cmd
}

// needSubcommand shows the help of a command that does nothing by itself.
func needSubcommand(cmd *cobra.Command, _ []string) error {
	cmd.SetOut(cmd.ErrOrStderr())
	if err := cmd.Help(); err != nil {
		return failed(err)
	}
	return usage(fmt.Errorf("%s: a subcommand is missing", cmd.CommandPath()), "")
}
