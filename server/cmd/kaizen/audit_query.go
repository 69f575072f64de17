package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/kaizen-go/kaizen/audit"
)

func newAuditQuery() *cobra.Command {
	var onlyCount, asJSON bool
	var limit int
	cmd := &cobra.Command{
		Use:   "query",
		Short: "Print entries of the ledger as JSON lines",
		Long: `query prints the entries that match all filters, oldest first, one JSON object a
line. With --count it prints their number alone.`,
		Example: `  kaizen audit query --agent planner --since 24h
  kaizen audit query --result denied --count
  kaizen audit query --trace 4bf92f3577b34da6a3ce929d0e0e4736 --server http://127.0.0.1:7070`,
		Args: cobra.NoArgs,
	}
	src, filter := addSource(cmd), addEntryFilter(cmd)
	cmd.Flags().IntVar(&limit, "limit", 0, "at most this many; 0 means all")
	cmd.Flags().BoolVar(&onlyCount, "count", false, "print the number of entries alone")
	cmd.Flags().BoolVar(&asJSON, "json", false, `print the count as {"count":N}; entries are JSON in any case`)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		q, err := filter.query(time.Now())
		if err != nil {
			return err
		}
		if err := checkLimit(limit); err != nil {
			return err
		}
		q.Limit = limit
		return withLedger(cmd.Context(), src, func(l ledger) error {
			if onlyCount {
				return printCount(cmd.Context(), cmd.OutOrStdout(), l, q, asJSON)
			}
			return printLines(cmd.OutOrStdout(), func(line func(json.RawMessage) error) error {
				for e, err := range l.query(cmd.Context(), q) {
					if err != nil {
						return err
					}
					if err := line(e.json); err != nil {
						return err
					}
				}
				return nil
			})
		})
	}
	return cmd
}

// printCount prints how many entries q selects; --limit caps it.
func printCount(ctx context.Context, w io.Writer, l ledger, q audit.Query, asJSON bool) error {
	limit := int64(q.Limit)
	q.Limit = 0
	n, err := l.count(ctx, q)
	if err != nil {
		return err
	}
	if limit > 0 {
		n = min(n, limit)
	}
	if asJSON {
		return json.NewEncoder(w).Encode(map[string]int64{"count": n})
	}
	_, err = fmt.Fprintln(w, n)
	return err
}
