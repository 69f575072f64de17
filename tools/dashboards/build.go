package main

import (
	"fmt"
	"strings"
)

// The variables that queries use.
var (
	metricsSource = datasource{"prometheus", "${datasource}"}
	logsSource    = datasource{"loki", "${logs}"}
)

const (
	// agentSel selects by the agent and job variables, jobSel by the job alone:
	// families of processes have no agent.
	agentSel = `job=~"$job",agent=~"$agent"`
	jobSel   = `job=~"$job"`

	runbooks = "https://github.com/kaizen-go/kaizen/blob/main/docs/runbooks/"
)

// board begins a dashboard with the variables and links that all have.
func board(uid, title, description, refresh string) dashboard {
	source := func(name, label, typ, query string) variable {
		return variable{Name: name, Label: label, Type: typ, Query: query, Current: map[string]any{}, Options: []struct{}{}}
	}
	labels := func(name, label, query string) variable {
		return variable{
			Name: name, Label: label, Type: "query", Query: labelQuery{query, "labels"}, Definition: query, Datasource: &metricsSource,
			Refresh: 2, Sort: 1, Multi: true, IncludeAll: true, AllValue: ".*",
			Current: map[string]any{"text": []string{"All"}, "value": []string{"$__all"}}, Options: []struct{}{},
		}
	}
	address := source("kaizen", "Kaizen's page", "textbox", "http://127.0.0.1:7070")
	address.Current = map[string]any{"text": "http://127.0.0.1:7070", "value": "http://127.0.0.1:7070"}
	return dashboard{
		UID: uid, Title: title, Description: description, Tags: []string{"kaizen"}, SchemaVersion: 41, Version: 1, Editable: true, GraphTooltip: 1,
		Refresh: refresh, Timezone: "browser", Time: timeRange{"now-1h", "now"}, Annotations: listOf{List: []struct{}{}},
		Templating: templating{List: []variable{
			source("datasource", "Metrics", "datasource", "prometheus"),
			source("logs", "Entries and logs", "datasource", "loki"),
			labels("job", "Program", "label_values(kaizen_agent_runs_total, job)"),
			labels("agent", "Agent", `label_values(kaizen_agent_runs_total{job=~"$job"}, agent)`),
			address,
		}},
		Links: []link{
			{Title: "Kaizen dashboards", Type: "dashboards", Tags: []string{"kaizen"}, AsDropdown: true, IncludeVars: true, KeepTime: true},
			{Title: "Runs", Type: "link", URL: "$kaizen/runs", TargetBlank: true},
			{Title: "Logs", Type: "link", URL: "$kaizen/logs", TargetBlank: true},
			{Title: "Runbooks", Type: "link", URL: runbooks + "README.md", TargetBlank: true},
		},
	}
}

// add puts a panel behind the others: two graphs, four numbers or two tables a
// row.
func (d *dashboard) add(p panel) {
	p.ID = len(d.Panels) + 1
	w := 12
	switch p.Type {
	case "stat", "gauge", "piechart":
		w = 6
	}
	x, y := 0, 0
	if n := len(d.Panels); n > 0 {
		last := d.Panels[n-1].GridPos
		x, y = last.X+last.W, last.Y
		if x+w > 24 {
			x, y = 0, last.Y+last.H
		}
	}
	p.GridPos = gridPos{H: 8, W: w, X: x, Y: y}
	d.Panels = append(d.Panels, p)
}

// limits are a panel's thresholds: the colour below lo, from lo, and from hi.
type limits struct {
	lo, hi float64
	lowBad bool
}

func (l limits) thresholds() thresholds {
	t := thresholds{Mode: "absolute", Steps: []step{{Color: "green"}}}
	if l == (limits{}) {
		return t
	}
	colors := []string{"green", "orange", "red"}
	if l.lowBad {
		colors = []string{"red", "orange", "green"}
	}
	t.Steps = []step{{Color: colors[0]}, {colors[1], &l.lo}}
	if l.hi != l.lo {
		t.Steps = append(t.Steps, step{colors[2], &l.hi})
	} else {
		t.Steps[1].Color = colors[2]
	}
	return t
}

// over warns above one value, under below it.
func over(v float64) limits { return limits{lo: v, hi: v} }
func under(v float64) limits {
	return limits{lo: v, hi: v, lowBad: true}
}

// rising is bad when high, falling when low.
func rising(lo, hi float64) limits  { return limits{lo: lo, hi: hi} }
func falling(lo, hi float64) limits { return limits{lo: lo, hi: hi, lowBad: true} }

// q is a query with its legend.
type q struct{ expr, legend string }

func targets(instant bool, list []q) []target {
	out := make([]target, len(list))
	for i, one := range list {
		out[i] = target{RefID: string(rune('A' + i)), Datasource: metricsSource, Expr: squeeze(one.expr), LegendFormat: one.legend, Instant: instant, Range: !instant, Exemplar: !instant}
	}
	return out
}

// squeeze writes a query in one line.
func squeeze(s string) string { return strings.Join(strings.Fields(s), " ") }

// graph is a time series.
func graph(title, unit, about, runbook string, l limits, list ...q) panel {
	custom := map[string]any{"drawStyle": "line", "lineWidth": 1, "fillOpacity": 10, "showPoints": "auto", "spanNulls": false}
	if l != (limits{}) {
		custom["thresholdsStyle"] = map[string]any{"mode": "line"}
	}
	p := base("timeseries", title, unit, about, runbook, l)
	p.Targets = targets(false, list)
	p.FieldConfig.Defaults.Custom = custom
	p.FieldConfig.Defaults.Color = map[string]any{"mode": "palette-classic"}
	p.Options = map[string]any{"legend": map[string]any{"displayMode": "list", "placement": "bottom", "showLegend": true}, "tooltip": map[string]any{"mode": "multi", "sort": "desc"}}
	p.FieldConfig.Defaults.Links = []link{
		{Title: "Runs of ${__field.labels.agent}", URL: "${kaizen}/runs?agent=${__field.labels.agent}", TargetBlank: true},
		{Title: "Logs of ${__field.labels.agent}", URL: "${kaizen}/logs?agent=${__field.labels.agent}", TargetBlank: true},
	}
	return p
}

// stat is one number, with its recent course.
func stat(title, unit, about, runbook string, l limits, list ...q) panel {
	p := base("stat", title, unit, about, runbook, l)
	p.Targets = targets(false, list)
	p.Options = map[string]any{"colorMode": "background", "graphMode": "area", "justifyMode": "auto", "textMode": "auto", "reduceOptions": lastValue()}
	return p
}

// dial is a number between two ends.
func dial(title, unit, about, runbook string, low, high float64, l limits, list ...q) panel {
	p := base("gauge", title, unit, about, runbook, l)
	p.Targets = targets(false, list)
	p.FieldConfig.Defaults.Min, p.FieldConfig.Defaults.Max = &low, &high
	p.Options = map[string]any{"showThresholdMarkers": true, "showThresholdLabels": false, "reduceOptions": lastValue()}
	return p
}

func lastValue() map[string]any {
	return map[string]any{"calcs": []string{"lastNotNull"}, "fields": "", "values": false}
}

func pie(title, unit, about, runbook string, list ...q) panel {
	p := base("piechart", title, unit, about, runbook, limits{})
	p.Targets = targets(true, list)
	p.FieldConfig.Defaults.Color = map[string]any{"mode": "palette-classic"}
	p.Options = map[string]any{"pieType": "donut", "displayLabels": []string{"name", "percent"}, "legend": map[string]any{"displayMode": "table", "placement": "right", "showLegend": true, "values": []string{"value", "percent"}}, "reduceOptions": lastValue()}
	return p
}

// table shows the result of one instant query.
func table(title, unit, about, runbook string, list ...q) panel {
	p := base("table", title, unit, about, runbook, limits{})
	p.Targets = targets(true, list)
	for i := range p.Targets {
		p.Targets[i].Format = "table"
	}
	p.Options = map[string]any{"showHeader": true, "cellHeight": "sm", "sortBy": []any{map[string]any{"displayName": "Value", "desc": true}}}
	p.Transformations = []transformation{{"organize", map[string]any{"excludeByName": map[string]any{"Time": true}}}}
	return p
}

func base(typ, title, unit, about, runbook string, l limits) panel {
	p := panel{
		Type: typ, Title: title, Description: about, Datasource: metricsSource,
		FieldConfig: fieldConfig{Defaults: fieldDefaults{Unit: unit, NoValue: "nothing yet", Thresholds: l.thresholds(), Color: map[string]any{"mode": "thresholds"}}, Overrides: []struct{}{}},
	}
	if runbook != "" {
		p.Links = []link{{Title: "Runbook", URL: runbooks + runbook + ".md", TargetBlank: true}}
	}
	return p
}

// The ways in which queries are put together. Selectors are without braces.

// rate is the sum of the rates of a counter by labels.
func rate(by, name, sel string) string { return sumOf("rate", by, name, sel, "$__rate_interval") }

// increase is how much a counter has risen in a window.
func increase(by, name, sel, window string) string { return sumOf("increase", by, name, sel, window) }

func sumOf(f, by, name, sel, window string) string {
	if by != "" {
		by = " by (" + by + ") "
	}
	return fmt.Sprintf("sum%s(%s(%s{%s}[%s]))", by, f, name, sel, window)
}

// rises is increase for counters whose series may be born with the event that
// they count: what a series was born with inside the window is added, since
// increase() does not see it.
func rises(name, sel, window string) string {
	series := fmt.Sprintf("%s{%s}", name, sel)
	least := fmt.Sprintf("min_over_time(%s[%s])", series, window)
	return fmt.Sprintf("sum((increase(%[1]s[%[2]s]) or 0 * %[3]s) + (%[3]s unless %[1]s offset %[2]s or 0 * %[3]s)) or vector(0)", series, window, least)
}

// share is 100 times part of whole, without a value while nothing happens.
func share(by, name, part, whole string) string {
	all := rate(by, name, whole)
	return fmt.Sprintf("100 * (%s or 0 * %s) / (%s > 0)", rate(by, name, join(part, whole)), all, all)
}

func join(a, b string) string {
	if a == "" || b == "" {
		return a + b
	}
	return a + "," + b
}

// quantile is a quantile of a histogram of seconds by labels.
func quantile(p float64, by, name, sel string) string {
	return fmt.Sprintf("histogram_quantile(%g, %s)", p, rate(strings.TrimPrefix(by+",le", ","), name+"_bucket", sel))
}
