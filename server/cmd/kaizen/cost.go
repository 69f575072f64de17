package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// costBy are the ways to group costs.
var costBy = []string{"model", "provider", "agent", "session", "user"}

func newCost() *cobra.Command {
	var asJSON bool
	var by string
	cmd := &cobra.Command{
		Use:   "cost",
		Short: "What model calls cost",
		Long: `cost adds up what model calls cost, in US dollars at the providers' list prices.
Calls whose price is unknown are counted, not guessed.`,
		Example: `  kaizen cost --since 24h --by agent
  kaizen cost --json`,
		Args: cobra.NoArgs,
	}
	src, filter := addSource(cmd), addFilter(cmd)
	cmd.Flags().StringVar(&by, "by", "model", "group by "+strings.Join(costBy, ", "))
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if !slices.Contains(costBy, by) {
			return usage(fmt.Errorf("--by %q is not one of %s", by, strings.Join(costBy, ", ")), "")
		}
		q, err := filter.query(time.Now())
		if err != nil {
			return err
		}
		q.Set("by", by)
		return withClient(cmd, src, func(c *client) error {
			if asJSON {
				body, err := c.raw(cmd.Context(), "/api/costs", q)
				if err != nil {
					return err
				}
				_, err = fmt.Fprintln(cmd.OutOrStdout(), strings.TrimSpace(string(body)))
				return err
			}
			var costs costs
			if err := c.get(cmd.Context(), "/api/costs", q, &costs); err != nil {
				return err
			}
			return costs.print(cmd)
		})
	}
	return cmd
}

// costs is the answer of /api/costs.
type costs struct {
	By            string    `json:"by"`
	TotalUSD      float64   `json:"total_usd"`
	UnpricedCalls int64     `json:"unpriced_calls"`
	ModelCalls    int64     `json:"model_calls"`
	Rows          []costRow `json:"rows"`
}

type costRow struct {
	Key           string  `json:"key"`
	ModelCalls    int64   `json:"model_calls"`
	Tokens        tokens  `json:"tokens"`
	CostUSD       float64 `json:"cost_usd"`
	UnpricedCalls int64   `json:"unpriced_calls"`
}

func (c costs) print(cmd *cobra.Command) error {
	t := newTable(cmd.OutOrStdout(), strings.ToUpper(c.By), "CALLS", "INPUT", "CACHE READ", "CACHE WRITE", "OUTPUT", "REASONING", "COST", "UNPRICED")
	var sum tokens
	for _, r := range c.Rows {
		t.row(r.cells()...)
		sum = sum.add(r.Tokens)
	}
	t.row(costRow{"total", c.ModelCalls, sum, c.TotalUSD, c.UnpricedCalls}.cells()...)
	return t.flush()
}

func (r costRow) cells() []string {
	return []string{orDash(r.Key), count(r.ModelCalls), count(r.Tokens.Input), count(r.Tokens.CacheRead), count(r.Tokens.CacheWrite),
		count(r.Tokens.Output), count(r.Tokens.Reasoning), usd(r.CostUSD), count(r.UnpricedCalls)}
}

func (t tokens) add(u tokens) tokens {
	return tokens{t.Input + u.Input, t.CacheRead + u.CacheRead, t.CacheWrite + u.CacheWrite, t.Output + u.Output, t.Reasoning + u.Reasoning}
}
