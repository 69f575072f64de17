package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"strconv"
	"time"

	"github.com/spf13/cobra"
)

func newTrace() *cobra.Command {
	return group("trace", "Look at traces", "trace shows what agents did, run by run.",
		newTraceList(), newTraceShow(), newTraceTail())
}

// traceSummary is a trace as /api/traces describes it.
type traceSummary struct {
	TraceID       string     `json:"trace_id"`
	Name          string     `json:"name"`
	AgentName     string     `json:"agent_name"`
	Start         time.Time  `json:"start"`
	End           *time.Time `json:"end"`
	DurationMS    *float64   `json:"duration_ms"`
	Status        string     `json:"status"`
	Spans         int64      `json:"spans"`
	Errors        int64      `json:"errors"`
	ModelCalls    int64      `json:"model_calls"`
	ToolCalls     int64      `json:"tool_calls"`
	LogRecords    int64      `json:"log_records"`
	AuditEntries  int64      `json:"audit_entries"`
	Tokens        tokens     `json:"tokens"`
	CostUSD       float64    `json:"cost_usd"`
	UnpricedCalls int64      `json:"unpriced_calls"`
}

// tokens are disjoint counts.
type tokens struct {
	Input      int64 `json:"input"`
	CacheRead  int64 `json:"cache_read"`
	CacheWrite int64 `json:"cache_write"`
	Output     int64 `json:"output"`
	Reasoning  int64 `json:"reasoning"`
}

func (t tokens) total() int64 {
	return t.Input + t.CacheRead + t.CacheWrite + t.Output + t.Reasoning
}

// maxPage is the largest page that the API gives.
const maxPage = 1000

// list reads field of the pages at path until limit items were given to each;
// limit 0 means all.
func (c *client) list(ctx context.Context, path, field string, query url.Values, limit int, each func(json.RawMessage) error) error {
	for left := limit; limit == 0 || left > 0; {
		size := maxPage
		if limit > 0 {
			size = min(left, maxPage)
		}
		query.Set("limit", strconv.Itoa(size))
		var page map[string]json.RawMessage
		if err := c.get(ctx, path, query, &page); err != nil {
			return err
		}
		var items []json.RawMessage
		var next string
		if err := decodePage(page, field, &items, &next); err != nil {
			return failed(fmt.Errorf("answer of %s%s: %w", c.base, path, err))
		}
		for _, item := range items {
			if err := each(item); err != nil {
				return err
			}
		}
		if next == "" {
			return nil
		}
		left -= len(items)
		query.Set("cursor", next)
	}
	return nil
}

func decodePage(page map[string]json.RawMessage, field string, items *[]json.RawMessage, next *string) error {
	raw, ok := page[field]
	if !ok {
		return fmt.Errorf("has no %q", field)
	}
	if err := json.Unmarshal(raw, items); err != nil {
		return fmt.Errorf("%q: %w", field, err)
	}
	if raw, ok := page["next"]; ok {
		if err := json.Unmarshal(raw, next); err != nil {
			return fmt.Errorf("%q: %w", "next", err)
		}
	}
	return nil
}

// filter is a set of flags that become parameters of the API.
type filter struct {
	values map[string]*string
	period period
}

// addFilter gives cmd a flag for each name, and --since and --until.
func addFilter(cmd *cobra.Command, flags ...[3]string) *filter {
	f := &filter{values: map[string]*string{}}
	for _, def := range flags {
		f.values[def[1]] = cmd.Flags().String(def[0], "", def[2])
	}
	cmd.Flags().StringVar(&f.period.since, "since", "", "not before this time (RFC 3339, or a duration ago such as 24h)")
	cmd.Flags().StringVar(&f.period.until, "until", "", "not after this time")
	return f
}

func (f *filter) query(now time.Time) (url.Values, error) {
	q := url.Values{}
	for name, v := range f.values {
		if *v != "" {
			q.Set(name, *v)
		}
	}
	return q, f.period.into(q, now)
}

// traceFlags are {flag, parameter, help}.
var traceFlags = [][3]string{
	{"agent", "agent", "of this agent"},
	{"status", "status", "with this status: running, ok, error, denied or cancelled"},
	{"session", "session", "of this session"},
	{"user", "user", "of this user"},
	{"match", "q", "that contain this text"},
}

func checkLimit(limit int) error {
	if limit < 0 {
		return usage(fmt.Errorf("--limit %d is below zero", limit), "0 means all")
	}
	return nil
}

func newTraceList() *cobra.Command {
	var asJSON bool
	var limit int
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List traces, newest first",
		Example: `  kaizen trace list --since 1h --status error
  kaizen trace list --json | jq -r .trace_id`,
		Args: cobra.NoArgs,
	}
	src, filter := addSource(cmd), addFilter(cmd, traceFlags...)
	cmd.Flags().IntVar(&limit, "limit", 50, "at most this many; 0 means all")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object a line")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		q, err := filter.query(time.Now())
		if err != nil {
			return err
		}
		if err := checkLimit(limit); err != nil {
			return err
		}
		return withClient(cmd, src, func(c *client) error {
			return listTraces(cmd.Context(), cmd.OutOrStdout(), c, q, limit, asJSON)
		})
	}
	return cmd
}

// withClient opens src, runs do and closes it.
func withClient(cmd *cobra.Command, src *source, do func(*client) error) error {
	c, err := src.open(cmd.Context(), cmd.CommandPath())
	if err != nil {
		return err
	}
	err = do(c)
	if closeErr := c.close(); err == nil && closeErr != nil {
		return environment(closeErr, "")
	}
	return err
}

func listTraces(ctx context.Context, w io.Writer, c *client, q url.Values, limit int, asJSON bool) error {
	if asJSON {
		return printLines(w, func(line func(json.RawMessage) error) error {
			return c.list(ctx, "/api/traces", "traces", q, limit, line)
		})
	}
	t := newTable(w, traceHeader...)
	err := c.list(ctx, "/api/traces", "traces", q, limit, func(raw json.RawMessage) error {
		var s traceSummary
		if err := json.Unmarshal(raw, &s); err != nil {
			return failed(fmt.Errorf("a trace of the answer: %w", err))
		}
		t.row(s.cells()...)
		return nil
	})
	if err != nil {
		return err
	}
	return t.flush()
}

var traceHeader = []string{"START", "TRACE", "NAME", "AGENT", "STATUS", "DURATION", "SPANS", "MODEL", "TOOLS", "TOKENS", "COST"}

func (s traceSummary) cells() []string {
	cost := usd(s.CostUSD)
	if s.UnpricedCalls > 0 {
		cost += fmt.Sprintf(" + %d unpriced", s.UnpricedCalls)
	}
	return []string{stamp(s.Start), s.TraceID, orDash(s.Name), orDash(s.AgentName), s.Status, ms(s.DurationMS),
		count(s.Spans), count(s.ModelCalls), count(s.ToolCalls), count(s.Tokens.total()), cost}
}

// printLines writes what feed gives as JSON lines.
func printLines(w io.Writer, feed func(line func(json.RawMessage) error) error) error {
	buf := bufio.NewWriter(w)
	err := feed(func(raw json.RawMessage) error {
		if _, err := buf.Write(raw); err != nil {
			return err
		}
		return buf.WriteByte('\n')
	})
	if flushErr := buf.Flush(); err == nil && flushErr != nil {
		return failed(fmt.Errorf("write the answer: %w", flushErr))
	}
	return err
}
