package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/kaizen-go/kaizen/audit"
)

func newAuditQuery() *cobra.Command {
	var onlyCount, asJSON, descending, stored bool
	var limit, top int
	var by string
	cmd := &cobra.Command{
		Use:   "query",
		Short: "Print entries of the ledger as JSON lines",
		Long: `query prints the entries that match all filters, oldest first, one JSON object a
line. With --count it prints their number alone, and with --by a number for each
agent, user, subject, action or result, the largest first, of which --limit says how
many. Both are read from the index, without the entries.`,
		Example: `  kaizen audit query --agent planner --since 24h
  kaizen audit query --result denied --count
  kaizen audit query --by user --limit 5 --since 7d
  kaizen audit query --trace 4bf92f3577b34da6a3ce929d0e0e4736 --server http://127.0.0.1:7070`,
		Args: cobra.NoArgs,
	}
	src, filter := addSource(cmd), addEntryFilter(cmd)
	cmd.Flags().IntVar(&limit, "limit", 0, "at most this many; 0 means all, with --by 10")
	cmd.Flags().BoolVar(&onlyCount, "count", false, "print the number of entries alone")
	cmd.Flags().BoolVar(&descending, "descending", false, "the newest entry first")
	cmd.Flags().BoolVar(&stored, "stored", false, "as the lines have them: what is encrypted stays so, people are tokens")
	cmd.Flags().StringVar(&by, "by", "", "count by agent, user, subject, action or result")
	cmd.Flags().IntVar(&top, "top", defaultTop, "with --by: the same as --limit")
	cmd.Flags().BoolVar(&asJSON, "json", false, `print a count as {"count":N}, counts as {"value":V,"count":N}; entries are JSON in any case`)
	cmd.MarkFlagsMutuallyExclusive("count", "by")
	cmd.MarkFlagsMutuallyExclusive("limit", "top")
	cmd.MarkFlagsMutuallyExclusive("by", "descending") // the largest number is first
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		q, err := filter.query(time.Now())
		if err != nil {
			return err
		}
		if err := checkLimit(limit); err != nil {
			return err
		}
		q.Limit, q.Descending, q.Stored = limit, descending, stored
		if by == "" && cmd.Flags().Changed("top") {
			return usage(errors.New("--top is for --by"), "--limit says how many entries")
		}
		if cmd.Flags().Changed("by") {
			if limit > 0 {
				top = limit
			}
			if _, ok := groupFields[by]; !ok || top < 1 || top > maxTop {
				return usage(fmt.Errorf("--by %q, %d lines: want agent, user, subject, action or result, and 1 to %d", by, top, maxTop), "")
			}
			return withLedger(cmd.Context(), src, func(l ledger) error {
				return printGroups(cmd.Context(), cmd.OutOrStdout(), l, q, by, top, asJSON)
			})
		}
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

const (
	defaultTop = 10
	// maxTop is the most that a server answers.
	maxTop = 10_000
)

// printGroups prints how many entries there are for each value of a field.
func printGroups(ctx context.Context, w io.Writer, l ledger, q audit.Query, by string, top int, asJSON bool) error {
	counts, err := l.group(ctx, q, by, top)
	if err != nil {
		return err
	}
	if asJSON {
		enc := json.NewEncoder(w)
		for _, c := range counts {
			if err := enc.Encode(c); err != nil {
				return err
			}
		}
		return nil
	}
	t := newTable(w, strings.ToUpper(by), "ENTRIES")
	for _, c := range counts {
		value := c.Value
		if value == "" {
			value = "(none)"
		}
		t.row(value, strconv.FormatInt(c.Count, 10))
	}
	return t.flush()
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
