package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/kaizen-go/kaizen/dashboards"
)

func newDashboards() *cobra.Command {
	return group("dashboards", "Grafana dashboards and Prometheus rules",
		"dashboards looks after the dashboards and rules that come with this version.", newDashboardsCheck(), newDashboardsExport())
}

// dashOptions are the flags of dashboards check.
type dashOptions struct {
	prometheus, dir, window string
	asJSON                  bool
}

func newDashboardsCheck() *cobra.Command {
	var opt dashOptions
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Ask every query of every dashboard and rule, and say what has no data and why",
		Long: `check asks each query of each dashboard and rule of a live server, or of the
Prometheus that scrapes it, and names those without data and the reason: the
metric is unknown there, no series has these labels, the window is too short, or
nothing of that kind has happened yet.

It fails (exit code 1) when a query is wrong or asks for a metric that nothing
produces. What merely has not happened yet is no failure.`,
		Example: `  kaizen dashboards check --server http://127.0.0.1:7070
  kaizen dashboards check --prometheus http://127.0.0.1:9090 --json
  kaizen dashboards check --dir ./my-dashboards`,
		Args: cobra.NoArgs,
	}
	src := addSource(cmd)
	f := cmd.Flags()
	f.StringVar(&opt.prometheus, "prometheus", "", "URL of a Prometheus to ask instead of the server's own metrics API")
	f.StringVar(&opt.dir, "dir", "", "directory with grafana/*.json and rules/*.yml (default: those of this version)")
	f.StringVar(&opt.window, "window", "5m", "what the dashboards' variable windows become")
	f.BoolVar(&opt.asJSON, "json", false, "print one JSON object")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return runDashboardsCheck(cmd, src, opt) }
	return cmd
}

func newDashboardsExport() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "export DIR",
		Short:   "Write the dashboards and rules of this version to a directory",
		Example: "  kaizen dashboards export /etc/kaizen/dashboards",
		Args:    cobra.ExactArgs(1),
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := os.MkdirAll(args[0], 0o755); err != nil {
			return environment(err, "")
		}
		n := 0
		err := fs.WalkDir(dashboards.Files, ".", func(path string, d fs.DirEntry, err error) error {
			to := filepath.Join(args[0], filepath.FromSlash(path))
			switch {
			case err != nil:
				return err
			case d.IsDir():
				return os.MkdirAll(to, 0o755)
			}
			b, err := fs.ReadFile(dashboards.Files, path)
			if err != nil {
				return err
			}
			n++
			return os.WriteFile(to, b, 0o644)
		})
		if err != nil {
			return environment(fmt.Errorf("export: %w", err), "")
		}
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "%d files in %s\n", n, args[0])
		return err
	}
	return cmd
}

// asked is one query and where it stands.
type asked struct {
	Where  string `json:"where"` // dashboard or rule file
	Title  string `json:"title"` // panel or rule
	Ref    string `json:"ref,omitempty"`
	Source string `json:"source"`
	Expr   string `json:"query"`
	OK     bool   `json:"ok"`
	// Why says what is missing, Fault that it is a mistake rather than
	// something that has not happened.
	Why   string `json:"why,omitempty"`
	Fault bool   `json:"fault,omitempty"`

	alert bool // an alert without a result is silent, as it should be
}

func runDashboardsCheck(cmd *cobra.Command, src *source, opt dashOptions) error {
	if d, err := time.ParseDuration(opt.window); err != nil || d <= 0 {
		return usage(fmt.Errorf("--window %q is no duration such as 5m", opt.window), "")
	}
	var files fs.FS = dashboards.Files
	if opt.dir != "" {
		if _, err := os.Stat(opt.dir); err != nil {
			return environment(err, "name a directory with grafana/*.json and rules/*.yml")
		}
		files = os.DirFS(opt.dir)
	}
	list, err := collect(files)
	if err != nil {
		return failed(err)
	}
	if len(list) == 0 {
		return failed(fmt.Errorf("no dashboards or rules in %s", opt.dir))
	}
	check := &dashCheck{window: opt.window, ctx: cmd.Context()}
	if opt.prometheus != "" {
		if check.metrics, err = newClient(opt.prometheus); err != nil {
			return err
		}
		check.metricsPath = "/api/v1"
	}
	src.settle()
	if opt.prometheus == "" || src.server != "" {
		if src.server == "" {
			if err := src.checkDir(); err != nil {
				return err
			}
		}
		c, err := src.open(cmd.Context(), "dashboards check")
		if err != nil {
			return err
		}
		if c.local {
			return errors.Join(environment(errors.New("dashboards check asks a server that runs"), "start it with kaizen serve, or name one with --server URL"), c.close())
		}
		check.logs = c
		if opt.prometheus == "" {
			check.metrics, check.metricsPath = c, "/prometheus/api/v1"
		}
	}
	for i := range list {
		if err := check.one(&list[i]); err != nil {
			return err
		}
	}
	return printAsked(cmd, list, opt.asJSON)
}

// collect lists all queries.
func collect(files fs.FS) ([]asked, error) {
	boards, err := dashboards.Load(files)
	if err != nil {
		return nil, err
	}
	var list []asked
	for _, b := range boards {
		for _, p := range b.Panels {
			for _, q := range p.Queries {
				list = append(list, asked{Where: b.Title, Title: p.Title, Ref: q.Ref, Source: q.Source, Expr: q.Expr})
			}
		}
	}
	rules, err := dashboards.LoadRules(files)
	if err != nil {
		return nil, err
	}
	for _, r := range rules {
		list = append(list, asked{Where: r.File, Title: r.Name, Source: dashboards.Prometheus, Expr: r.Expr, alert: r.Alert})
	}
	return list, nil
}

func printAsked(cmd *cobra.Command, list []asked, asJSON bool) error {
	var good, quiet, faults int
	for _, a := range list {
		switch {
		case a.OK:
			good++
		case a.Fault:
			faults++
		default:
			quiet++
		}
	}
	if asJSON {
		err := json.NewEncoder(cmd.OutOrStdout()).Encode(map[string]any{"queries": list, "with_data": good, "without_data": quiet, "faults": faults})
		if err != nil {
			return failed(err)
		}
	} else {
		t := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
		for _, a := range list {
			if a.OK {
				continue
			}
			mark := "no data"
			if a.Fault {
				mark = "FAULT"
			}
			fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", mark, a.Where, strings.TrimSpace(a.Title+" "+a.Ref), clean(a.Why))
		}
		if err := t.Flush(); err != nil {
			return failed(err)
		}
		fmt.Fprintf(cmd.OutOrStdout(), "%d queries: %d with data, %d without, %d faults\n", len(list), good, quiet, faults)
	}
	if faults > 0 {
		return failed(fmt.Errorf("dashboards: %d of %d queries cannot have data", faults, len(list)))
	}
	return nil
}

// dashCheck asks queries and finds out why they have no data.
type dashCheck struct {
	ctx         context.Context
	window      string
	metrics     *client
	metricsPath string
	logs        *client // nil when only a Prometheus is asked
}

// fill puts values in the place of Grafana's variables.
func (c *dashCheck) fill(expr string) string {
	return strings.NewReplacer("$__rate_interval", c.window, "$__range", c.window, "$__interval", c.window, "$job", ".*", "$agent", ".*").Replace(expr)
}

func (c *dashCheck) one(a *asked) error {
	expr := c.fill(a.Expr)
	switch {
	case a.Source == dashboards.Loki && c.logs == nil:
		a.Why = "reads the ledger: name the server with --server"
		return nil
	case a.Source == dashboards.Loki:
		path := "/loki/api/v1/query"
		if strings.HasPrefix(expr, "{") {
			path += "_range"
		}
		n, _, err := c.ask(c.logs, path, expr)
		return c.judge(a, n, err, func() (string, bool, error) { return "the ledger has no such entry in the window", false, nil })
	}
	n, finite, err := c.ask(c.metrics, c.metricsPath+"/query", expr)
	if err == nil && n > 0 && !finite {
		n = 0
	}
	return c.judge(a, n, err, func() (string, bool, error) { return c.why(expr) })
}

// judge notes the outcome. An error about the query is the query's fault; any
// other ends the check.
func (c *dashCheck) judge(a *asked, n int, err error, why func() (string, bool, error)) error {
	if refused, ok := errors.AsType[*apiError](err); ok && (refused.Status == 400 || refused.Status == 422) {
		a.Why, a.Fault = "the query is refused: "+refused.Message, true
		return nil
	}
	if err != nil {
		return err
	}
	if n > 0 {
		a.OK = true
		return nil
	}
	a.Why, a.Fault, err = why()
	if a.alert && a.Why == nothingHappened {
		a.OK, a.Why = true, "silent"
	}
	return err
}

// ask returns how many series or streams a query has, and whether one of them
// is a number.
func (c *dashCheck) ask(to *client, path, expr string) (n int, finite bool, err error) {
	var answer struct {
		Data struct {
			Result json.RawMessage `json:"result"`
			Type   string          `json:"resultType"`
		} `json:"data"`
	}
	if err := to.get(c.ctx, path, url.Values{"query": {expr}}, &answer); err != nil {
		return 0, false, err
	}
	if answer.Data.Type == "scalar" {
		return 1, true, nil
	}
	var list []struct {
		Value []any `json:"value"`
	}
	if err := json.Unmarshal(answer.Data.Result, &list); err != nil {
		return 0, false, failed(fmt.Errorf("answer to %s: %w", expr, err))
	}
	for _, s := range list {
		if len(s.Value) == 2 && s.Value[1] != "NaN" {
			finite = true
		}
	}
	return len(list), finite, nil
}
