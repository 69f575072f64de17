package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/url"
	"slices"
	"time"

	"github.com/spf13/cobra"
)

// Following asks again once a second, for the traces of the last hour: a run
// that takes longer is printed as soon as it has been seen to end.
const (
	tailPause  = time.Second
	tailWindow = time.Hour
)

func newTraceTail() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "tail",
		Short: "Print traces as they end",
		Long: `tail prints a line for each trace that ends from now on, until Ctrl-C. It asks
a running server; --data finds the one that holds the directory.`,
		Example: "  kaizen trace tail --agent planner",
		Args:    cobra.NoArgs,
	}
	src, filter := addSource(cmd), addFilter(cmd, traceFlags...)
	for _, name := range []string{"since", "until"} {
		if err := cmd.Flags().MarkHidden(name); err != nil {
			panic(err) // the flag was added two lines above
		}
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object a line")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if filter.period != (period{}) {
			return usage(fmt.Errorf("tail follows from now on: it takes no --since and no --until"), "kaizen trace list takes them")
		}
		q, err := filter.query(time.Now())
		if err != nil {
			return err
		}
		return withClient(cmd, src, func(c *client) error {
			if err := c.needServer(src); err != nil {
				return err
			}
			return tailTraces(cmd.Context(), cmd.OutOrStdout(), c, q, asJSON)
		})
	}
	return cmd
}

// needServer refuses to follow a directory that nobody writes to.
func (c *client) needServer(src *source) error {
	if !c.local {
		return nil
	}
	return environment(fmt.Errorf("no server runs on %s, so there is nothing to follow", src.data),
		"start kaizen serve, or name a server with --server")
}

// tailTraces prints each trace once it has ended, until ctx ends.
func tailTraces(ctx context.Context, w io.Writer, c *client, q url.Values, asJSON bool) error {
	seen, err := endedTraces(ctx, c, q)
	if err != nil {
		return ended(ctx, err)
	}
	for sleep(ctx, tailPause) {
		now, err := endedTraces(ctx, c, q)
		if err != nil {
			return ended(ctx, err)
		}
		var fresh []endedTrace
		for id, t := range now {
			if _, old := seen[id]; !old {
				fresh = append(fresh, t)
			}
		}
		slices.SortFunc(fresh, func(a, b endedTrace) int { return a.End.Compare(*b.End) })
		for _, t := range fresh {
			if err := t.print(w, asJSON); err != nil {
				return failed(fmt.Errorf("write the answer: %w", err))
			}
		}
		seen = now
	}
	return nil
}

// ended makes the end of ctx, which is how following ends, no error.
func ended(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// sleep waits and reports whether to go on.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

type endedTrace struct {
	traceSummary
	raw json.RawMessage
}

// endedTraces returns the newest traces of the window that have ended, by id.
func endedTraces(ctx context.Context, c *client, q url.Values) (map[string]endedTrace, error) {
	query := maps.Clone(q)
	query.Set("since", time.Now().Add(-tailWindow).UTC().Format(time.RFC3339Nano))
	found := map[string]endedTrace{}
	err := c.list(ctx, "/api/traces", "traces", query, maxPage, func(raw json.RawMessage) error {
		var s traceSummary
		if err := json.Unmarshal(raw, &s); err != nil {
			return failed(fmt.Errorf("a trace of the answer: %w", err))
		}
		if s.End != nil {
			found[s.TraceID] = endedTrace{s, raw}
		}
		return nil
	})
	return found, err
}

func (t endedTrace) print(w io.Writer, asJSON bool) error {
	if asJSON {
		_, err := fmt.Fprintf(w, "%s\n", t.raw)
		return err
	}
	cells := t.cells()
	_, err := fmt.Fprintf(w, "%s  %s  %-9s  %8s  %s  %d spans  %s\n", stamp(t.Start), t.TraceID, clean(t.Status),
		ms(t.DurationMS), clean(orDash(t.Name)), t.Spans, cells[len(cells)-1])
	return err
}
