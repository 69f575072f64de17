package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/kaizen-go/kaizen/audit"
)

func newAuditTail() *cobra.Command {
	var asJSON bool
	var last int
	cmd := &cobra.Command{
		Use:   "tail",
		Short: "Follow the ledger",
		Long: `tail prints the last entries, then each new one, until Ctrl-C. On a directory it
needs no server.`,
		Example: "  kaizen audit tail --agent planner\n  kaizen audit tail --lines 0 --json",
		Args:    cobra.NoArgs,
	}
	src, filter := addSource(cmd), addEntryFilter(cmd)
	cmd.Flags().IntVarP(&last, "lines", "n", 10, "start with this many of the last entries")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object a line")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if last < 0 {
			return usage(fmt.Errorf("--lines %d is below zero", last), "")
		}
		q, err := filter.query(time.Now())
		if err != nil {
			return err
		}
		return withLedger(cmd.Context(), src, func(l ledger) error {
			return ended(cmd.Context(), tailEntries(cmd.Context(), cmd.OutOrStdout(), l, q, last, asJSON))
		})
	}
	return cmd
}

// tailEntries prints what q selects of the last entries, then of new ones.
func tailEntries(ctx context.Context, w io.Writer, l ledger, q audit.Query, last int, asJSON bool) error {
	size, err := l.size(ctx)
	if err != nil {
		return err
	}
	q.Descending = true
	if last > 0 {
		q.Limit = last
		next, err := printNewer(ctx, w, l, q, 0, asJSON)
		if err != nil {
			return err
		}
		size = max(size, next) // more may have come meanwhile
	}
	q.Limit = 0
	for sleep(ctx, tailPause) {
		now, err := l.size(ctx)
		if err != nil {
			return err
		}
		if now <= size {
			continue
		}
		next, err := printNewer(ctx, w, l, q, size, asJSON)
		if err != nil {
			return err
		}
		size = max(now, next)
	}
	return nil
}

// printNewer prints the entries from index from on that q selects, oldest
// first, and returns the index after the newest of them. It reads backwards, so
// what it reads does not grow with the ledger.
func printNewer(ctx context.Context, w io.Writer, l ledger, q audit.Query, from int64, asJSON bool) (next int64, err error) {
	var fresh []entry
	for e, err := range l.query(ctx, q) {
		if err != nil {
			return from, err
		}
		if e.Index < from {
			break
		}
		fresh = append(fresh, e)
	}
	next = from
	for _, e := range slices.Backward(fresh) {
		text := string(e.json)
		if !asJSON {
			if text, err = e.line(); err != nil {
				return next, failed(err)
			}
		}
		if _, err := fmt.Fprintln(w, text); err != nil {
			return next, failed(fmt.Errorf("write the answer: %w", err))
		}
		next = e.Index + 1
	}
	return next, nil
}

// line is the entry for a reader.
func (e entry) line() (string, error) {
	text := fmt.Sprintf("%6d  %s  %-7s  %s  %s", e.Index, stamp(e.Time), e.Result, e.AgentID, e.Action)
	for _, f := range []struct{ name, value string }{{"user", e.UserID}, {"trace", e.TraceID}} {
		if f.value != "" {
			text += "  " + f.name + "=" + f.value
		}
	}
	if len(e.Details) > 0 {
		b, err := json.Marshal(e.Details)
		if err != nil {
			return "", fmt.Errorf("entry %d: details: %w", e.Index, err)
		}
		text += "  " + string(b)
	}
	return clean(text), nil
}
