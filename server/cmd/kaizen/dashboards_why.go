package main

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/kaizen-go/kaizen/metrics"
)

// selector finds the series that a query names: a metric's name with its labels,
// if it has any, and its window.
var selector = regexp.MustCompile(`([a-zA-Z_:][a-zA-Z0-9_:]*)(\{[^}]*\})?(\[[^\]]*\])?`)

// named is one series that a query asks for.
type named struct{ metric, labels, window string }

// ours are the prefixes of metrics that this project's dashboards ask for.
var ours = []string{"kaizen", "gen_ai_", "mcp_", "go_", "process_", "prometheus_", "target_info", "up"}

// selectorsOf lists the series that a query names. Functions and labels are told
// from metrics by their names: the dashboards ask for nothing else.
func selectorsOf(expr string) []named {
	expr = quoted.ReplaceAllStringFunc(expr, func(s string) string {
		return `"` + strings.NewReplacer("{", "", "}", "", "[", "", "]", "").Replace(s[1:len(s)-1]) + `"`
	})
	expr = grouping.ReplaceAllString(expr, "")
	var out []named
	seen := map[named]bool{}
	for _, m := range selector.FindAllStringSubmatch(expr, -1) {
		n := named{m[1], m[2], m[3]}
		for _, p := range ours {
			if (n.metric == p || strings.HasSuffix(p, "_") && strings.HasPrefix(n.metric, p) || p == "kaizen" && strings.HasPrefix(n.metric, p) && strings.ContainsAny(n.metric[len(p):], "_:")) && !seen[n] {
				seen[n] = true
				out = append(out, n)
				break
			}
		}
	}
	return out
}

var (
	quoted   = regexp.MustCompile(`"(?:[^"\\]|\\.)*"`)
	grouping = regexp.MustCompile(`\b(?:by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)`)
)

// promised are the metrics of this version that appear with the first thing that
// they count.
func promised() map[string]bool {
	out := map[string]bool{}
	for _, f := range metrics.Families() {
		out[f.Name] = true
		if f.Type == metrics.TypeHistogram {
			for _, part := range []string{"_bucket", "_sum", "_count"} {
				out[f.Name+part] = true
			}
		}
	}
	for _, name := range []string{
		"kaizen_server_certificate_expiry_timestamp_seconds", "kaizen_server_ingest_total", "kaizen_server_ingest_bytes_total",
		"kaizen_server_ingest_lag_seconds_bucket", "kaizen_server_query_duration_seconds_bucket", "kaizen_process_storage_bytes_total",
		"kaizen_process_context_switches_total", "kaizen_server_disk_free_bytes", "kaizen_server_disk_size_bytes",
		"go_sched_pauses_total_gc_seconds_bucket", "process_network_receive_bytes_total", "process_network_transmit_bytes_total",
		"process_cpu_seconds_total", "process_resident_memory_bytes", "up", "prometheus_tsdb_head_series",
	} {
		out[name] = true
	}
	return out
}

// nothingHappened is said when all series are there.
const nothingHappened = "the series are there and the result is empty: nothing happened in the window, or no value passes the query's own condition"

// why finds the first selector of a query that has no series, and the reason.
// fault means that it never will.
func (c *dashCheck) why(expr string) (why string, fault bool, err error) {
	known := promised()
	for _, s := range selectorsOf(expr) {
		n, _, err := c.ask(c.metrics, c.metricsPath+"/query", "count("+s.metric+s.labels+")")
		if err != nil {
			return "", false, err
		}
		if n > 0 {
			continue
		}
		all, _, err := c.ask(c.metrics, c.metricsPath+"/query", "count("+s.metric+")")
		switch {
		case err != nil:
			return "", false, err
		case all > 0:
			return fmt.Sprintf("no series of %s has the labels %s yet", s.metric, s.labels), false, nil
		case strings.HasPrefix(s.metric, "kaizen:"):
			return fmt.Sprintf("%s is recorded by a rule, and no rules are evaluated here yet", s.metric), false, nil
		case known[s.metric]:
			return fmt.Sprintf("%s has no series yet: nothing of that kind has happened, or its producer does not run or is not scraped", s.metric), false, nil
		}
		return fmt.Sprintf("the metric %s is unknown: nothing produces it", s.metric), true, nil
	}
	for _, s := range selectorsOf(expr) {
		if s.window == "" {
			continue
		}
		n, _, err := c.ask(c.metrics, c.metricsPath+"/query", fmt.Sprintf("count(count_over_time(%s%s%s) > 1)", s.metric, s.labels, s.window))
		if err != nil {
			return "", false, err
		}
		if n == 0 {
			return fmt.Sprintf("the window %s is too short: no series of %s has two samples in it", s.window, s.metric), false, nil
		}
	}
	return nothingHappened, false, nil
}
