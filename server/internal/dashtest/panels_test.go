package dashtest

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/kaizen-go/kaizen/dashboards"
	"github.com/kaizen-go/kaizen/metrics"
)

// labelOf are the labels by which answers are told apart, in this order.
var labelOf = []string{"agent", "tool", "provider", "action", "result", "decision", "direction", "cache", "kind", "user"}

func keyOf(metric map[string]string) string {
	for _, l := range labelOf {
		if v := metric[l]; v != "" {
			return v
		}
	}
	return ""
}

// expected is what a query must answer: by key exact values, or a check.
type expected struct {
	exact map[string]float64
	check func(key string, v float64) error
	keys  []string // that check must see; nil for one without a key
	top   int      // how many keys check must see, whichever
	shown bool     // the answer was looked at already
}

func exactly(v float64) expected { return expected{exact: map[string]float64{"": v}} }

func each(m map[string]float64, f func(float64) float64) expected {
	out := map[string]float64{}
	for k, v := range m {
		out[k] = f(v)
	}
	return expected{exact: out}
}

func within(lo, hi float64, keys ...string) expected {
	return expected{keys: keys, check: func(_ string, v float64) error {
		if !(v >= lo && v <= hi) {
			return fmt.Errorf("not between %v and %v", lo, hi)
		}
		return nil
	}}
}

// TestPanels: every query of the 45 panels answers its title, on both systems.
func TestPanels(t *testing.T) {
	t.Parallel()
	srv := startServer(t)
	debian := startPrometheus(t, srv, "")
	systems := []system{
		{"Debian's Prometheus", debian, srv.UIURL() + "/loki"},
		{"the server's API", srv.UIURL() + "/prometheus", srv.UIURL() + "/loki"},
	}
	w := startWorkload(t, srv)
	for range 4 { // from here on every series is there, and so far from zero that rate() stretches all of them alike
		w.round()
	}
	settle(t, w, systems, 0)
	before := w.now()
	from := time.Now().Truncate(time.Millisecond)
	sampled(t, systems, from) // the first sample in the window is from before the first round
	for range 3 {
		w.round()
	}
	w.hold()
	settle(t, w, systems, 1)
	to := time.Now().Truncate(time.Millisecond)
	done := w.now().since(before)
	if calls := done.number(is("model_call")); calls != float64(done.bill.Calls) || calls == 0 {
		t.Fatalf("the ledger has %v model calls, the bill %d", calls, done.bill.Calls)
	}
	boards, err := dashboards.Load(dashboards.Files)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range systems {
		t.Run(s.name, func(t *testing.T) {
			win := window{s, from, to}
			want := answers(t, win, done, before)
			asked := 0
			for _, b := range boards {
				if b.UID == "kaizen-health" {
					continue
				}
				for _, p := range b.Panels {
					t.Run(p.Title, func(t *testing.T) {
						list, ok := want[p.Title]
						if !ok || len(list) != len(p.Queries) {
							t.Fatalf("%d queries, %d expectations", len(p.Queries), len(list))
						}
						for i, q := range p.Queries {
							compare(t, win, q, list[i])
						}
						asked++
					})
				}
			}
			if asked != 45 {
				t.Errorf("%d panels were asked, want 45", asked)
			}
			health(t, win, boards)
		})
	}
}

func is(action string) func(entry) bool { return func(e entry) bool { return e.Action == action } }

// settle waits until both systems have what the ledger has.
func settle(t *testing.T, w *workload, systems []system, active float64) {
	t.Helper()
	if err := w.obs.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	await(t, "the metrics are there", func() error {
		all := w.now()
		for _, s := range systems {
			for query, want := range map[string]float64{
				`sum(kaizen_audit_entries_total)`:                                       float64(len(all.entries)),
				`sum(kaizen_agent_runs_total{job="dashtest"})`:                          all.number(is("agent_run")),
				`sum(kaizen_model_calls_total{job="dashtest"})`:                         float64(all.bill.Calls),
				`sum(kaizen_agents_active{job="dashtest"})`:                             active,
				`sum(kaizen_audit_active_users) > bool 3`:                               1,
				`sum(kaizen_process_storage_bytes_total{job="dashtest"}) > bool 0`:      1,
				`sum(kaizen_audit_checks_total{result="intact"}) > bool 0`:              1,
				`sum(go_sched_pauses_total_gc_seconds_count{job="dashtest"}) > bool 0`:  1,
				`sum(process_network_receive_bytes_total{job="dashtest"}) >= bool 0`:    1,
				`sum(rate(kaizen_telemetry_self_seconds_total[1m])) > bool 0`:           1,
				`count(kaizen_audit_last_check_timestamp_seconds{result="intact"})`:     1,
				`min(up{job=~"kaizen|kaizen-agents"})`:                                  1,
				`sum(kaizen_audit_ledger_entries)`:                                      float64(len(all.entries)),
				`sum(kaizen_model_call_duration_seconds_count{job="dashtest"})`:         float64(all.bill.Calls),
				`sum(kaizen_cache_requests_total{job="dashtest"}) > bool 0`:             1,
				`sum(kaizen_tool_call_duration_seconds_count{job="dashtest"})`:          all.number(is("tool_execute")),
				`sum(kaizen_permission_checks_total{job="dashtest"}) > bool 0`:          1,
				`sum(kaizen_agent_run_duration_seconds_count{job="dashtest"})`:          all.number(is("agent_run")),
				`sum(kaizen_tool_calls_total{job="dashtest"})`:                          all.number(is("tool_execute")),
				`sum(process_resident_memory_bytes{job="dashtest"}) > bool 0`:           1,
				`count(kaizen_audit_append_failures_total{job="kaizen"})`:               1,
				`sum(kaizen_process_context_switches_total{job="dashtest"}) > bool 100`: 1,
			} {
				got, err := ask(t.Context(), s.prometheus, "/api/v1/query", query, time.Now())
				if err != nil {
					return err
				}
				if len(got) != 1 || got[0].value(t) != want {
					return fmt.Errorf("%s: %s = %v, want %v", s.name, query, got, want)
				}
			}
		}
		return nil
	})
}

// sampled waits until both systems have samples of both jobs from after that time.
func sampled(t *testing.T, systems []system, since time.Time) {
	t.Helper()
	await(t, "a sample is there", func() error {
		for _, s := range systems {
			for _, selector := range []string{lead, entriesOfRuns} {
				now := time.Now()
				w := window{s, since, now}
				got, err := ask(t.Context(), s.prometheus, "/api/v1/query", "count_over_time("+selector+"["+w.length()+"])", now)
				if err != nil {
					return err
				}
				if len(got) != 1 {
					return fmt.Errorf("%s: no sample of %s", s.name, selector)
				}
			}
		}
		return nil
	})
}

// One series of each of the two jobs that are scraped.
const (
	lead          = `kaizen_agent_runs_total{job="dashtest",agent="lead"}`
	entriesOfRuns = `kaizen_audit_entries_total{action="agent_run",result="success"}`
)

// compare asks one query and holds its answer against what is expected.
func compare(t *testing.T, w window, q dashboards.Query, want expected) {
	t.Helper()
	if want.shown {
		return
	}
	base, path := w.prometheus, "/api/v1/query"
	if q.Source == dashboards.Loki {
		base, path = w.loki, "/api/v1/query"
	}
	expr := w.fill(q.Expr)
	got, err := ask(t.Context(), base, path, expr, w.to)
	if err != nil {
		t.Fatal(err)
	}
	if len(got) == 0 {
		t.Fatalf("%s: no data for %s", q.Ref, expr)
	}
	seen := map[string]float64{}
	for _, s := range got {
		seen[keyOf(s.Metric)] += s.value(t)
	}
	if want.check != nil {
		keys := want.keys
		if keys == nil && len(seen) == 1 {
			keys = slices.Collect(maps.Keys(seen))
		}
		if want.top > 0 {
			if len(seen) != want.top {
				t.Errorf("%s: %d series, want %d, for %s", q.Ref, len(seen), want.top, expr)
			}
		} else if have := slices.Sorted(maps.Keys(seen)); !slices.Equal(have, slices.Sorted(slices.Values(keys))) {
			t.Errorf("%s: series %q, want %q, for %s", q.Ref, have, keys, expr)
		}
		for k, v := range seen {
			if err := want.check(k, v); err != nil {
				t.Errorf("%s: %q is %v: %v, for %s", q.Ref, k, v, err, expr)
			}
		}
		return
	}
	for k, v := range want.exact {
		if have, ok := seen[k]; !ok || math.Abs(have-v) > 1e-6*math.Max(1, math.Abs(v)) {
			t.Errorf("%s: %q is %v (there: %v), want %v, for %s", q.Ref, k, have, ok, v, expr)
		}
	}
	for k, v := range seen {
		if _, ok := want.exact[k]; !ok && v != 0 {
			t.Errorf("%s: %q is %v and was not expected, for %s", q.Ref, k, v, expr)
		}
	}
}

// answers works out what each panel must show from what was done.
func answers(t *testing.T, w window, done, before account) map[string][]expected {
	t.Helper()
	seconds := w.to.Sub(w.from).Seconds()
	agents := w.factor(t, lead)
	ledger := w.factor(t, entriesOfRuns)
	perSecond := func(f float64) func(float64) float64 { return func(n float64) float64 { return n * f / seconds } }
	increase := func(f float64) func(float64) float64 { return func(n float64) float64 { return n * f } }
	one := func(n float64) map[string]float64 { return map[string]float64{"": n} }

	byAction := func(action string, key func(entry) string) map[string]float64 {
		return done.count(func(e entry) string {
			if e.Action == action {
				return key(e)
			}
			return ""
		})
	}
	agent := func(e entry) string { return e.Agent }
	tool := func(e entry) string { return e.Details.Tool }
	result := func(e entry) string { return e.Result }
	provider := func(e entry) string { return e.Details.Provider }
	share := func(part, whole map[string]float64) expected {
		out := map[string]float64{}
		for k, n := range whole {
			out[k] = 100 * part[k] / n
		}
		return expected{exact: out}
	}
	good := func(key func(entry) string) func(entry) string {
		return func(e entry) string {
			if e.Result == "success" {
				return key(e)
			}
			return ""
		}
	}
	runs, calls, tools := done.number(is("agent_run")), float64(done.bill.Calls), done.number(is("tool_execute"))
	failed := done.number(func(e entry) bool {
		return e.Result == "failure" && (e.Action == "agent_run" || e.Action == "model_call" || e.Action == "tool_execute")
	})
	// A run that fails takes the iteration of its loop with it, an operation too.
	failed += done.number(func(e entry) bool { return e.Result == "failure" && e.Action == "agent_run" })
	decided := done.count(func(e entry) string {
		return map[string]string{"permission_grant": "allow", "permission_deny": "deny"}[e.Action]
	})
	granted := byAction("permission_grant", agent)
	asked := done.count(func(e entry) string {
		if e.Action == "permission_grant" || e.Action == "permission_deny" {
			return e.Agent
		}
		return ""
	})
	usd := float64(done.bill.NanoUSD) / 1e9
	busy := map[string]float64{}
	for _, action := range []string{"agent_run", "model_call", "tool_execute"} {
		for k, n := range byAction(action, agent) {
			busy[k] += n
		}
	}
	rest := 0.0
	for i, k := range slices.SortedFunc(maps.Keys(busy), func(a, b string) int { return int(busy[b] - busy[a]) }) {
		if i >= 10 {
			rest = max(rest, busy[k])
		}
	}
	top := expected{top: 10, check: func(k string, v float64) error {
		if math.Abs(v-busy[k]*agents) > 1e-6*v || busy[k] < rest {
			return fmt.Errorf("want %v", busy[k]*agents)
		}
		return nil
	}}
	hits := done.number(func(e entry) bool { return e.Action == "model_call" && e.Details.Input != nil && e.Details.Cached > 0 })
	looked := done.number(func(e entry) bool { return e.Action == "model_call" && e.Details.Input != nil })
	personal := func(e entry) bool { return strings.HasPrefix(e.Action, "data_") }
	all := func(is func(entry) bool) map[string]float64 { return one(done.number(is)) }
	users := done.count(func(e entry) string { return e.User })
	everybody := map[string]bool{}
	for _, e := range append(slices.Clone(before.entries), done.entries...) {
		if e.User != "" {
			everybody[e.User] = true
		}
	}
	runTimes, toolTimes := durations(done, "agent_run", agent), durations(done, "tool_execute", tool)
	any := func(m map[string][]float64) map[string][]float64 {
		var list []float64
		for _, l := range m {
			list = append(list, l...)
		}
		return map[string][]float64{"": list}
	}
	bounds := func(id metrics.HistogramID) []float64 { return id.Family().Buckets }
	runBounds, toolBounds := bounds(metrics.AgentRunDuration), bounds(metrics.ToolCallDuration)
	quantile := func(p float64, of map[string][]float64, buckets []float64) expected { return quantiles(p, of, buckets) }
	positive := func(hi float64, keys ...string) expected { return within(math.SmallestNonzeroFloat64, hi, keys...) }

	return map[string][]expected{
		"Agent Loop Duration (p95)":           {quantile(0.95, runTimes, runBounds)},
		"Agent Loop Success Rate":             {exactly(100 * done.number(func(e entry) bool { return e.Action == "agent_run" && e.Result == "success" }) / runs)},
		"Tool Execution Count by Tool":        {each(byAction("tool_execute", tool), increase(agents))},
		"Tool Execution Latency (p95)":        {quantile(0.95, toolTimes, toolBounds), quantile(0.5, toolTimes, toolBounds)},
		"API Calls by Provider":               {each(byAction("model_call", provider), perSecond(agents))},
		"API Cost per Hour (USD)":             {exactly(usd * 3600 / seconds * agents)},
		"Active Agents":                       {exactly(1)},
		"Memory Usage (MB)":                   {within(10, 4000)},
		"Error Rate":                          {exactly(failed * agents / seconds)},
		"Audit Events per Minute":             {exactly(float64(len(done.entries)) * 60 / seconds * ledger)},
		"Permission Approval Rate":            {share(granted, asked)},
		"Tool Execution Success Rate by Tool": {share(byAction("tool_execute", good(tool)), byAction("tool_execute", tool))},
		"Observability Metrics Overhead (%)":  {positive(100)},
		"Observability Logging Overhead (%)":  {positive(100)},
		"Observability Tracing Overhead (%)":  {positive(100)},
		"Audit Append Latency (ms)":           {positive(1e6), positive(1e6)},
		"CPU Usage (%)":                       {positive(6400)},
		"Operation Latency Percentile Distribution": {
			quantile(0.99, any(runTimes), runBounds), quantile(0.95, any(runTimes), runBounds), quantile(0.5, any(runTimes), runBounds),
			quantile(0.99, any(toolTimes), toolBounds), quantile(0.95, any(toolTimes), toolBounds), quantile(0.5, any(toolTimes), toolBounds),
		},
		"Throughput (ops/sec)":            {exactly(runs * agents / seconds), exactly(tools * agents / seconds), exactly(calls * agents / seconds)},
		"Request Rate by Agent":           {each(byAction("agent_run", agent), perSecond(agents))},
		"Disk I/O (MB/s)":                 {storage(done, before, seconds)},
		"Network I/O (MB/s)":              {within(0, 1e4), within(0, 1e4)},
		"Performance Target Compliance":   {compliance()},
		"GC Pause Time (ms)":              {positive(1e6), positive(1e6)},
		"Cache Hit Rate":                  {expected{exact: map[string]float64{"prompt": 100 * hits / looked}}},
		"Context Switch Rate":             {within(0, 1e7, "involuntary", "voluntary")},
		"Audit Events Volume":             {exactly(float64(len(done.entries)) * 60 / seconds * ledger)},
		"Audit Events by Action Type":     {each(done.count(func(e entry) string { return e.Action }), perSecond(ledger))},
		"Audit Events by Result":          {each(done.count(result), increase(ledger))},
		"Failed/Denied Actions Rate":      {each(all(func(e entry) bool { return e.Result == "failure" }), perSecond(ledger)), each(all(func(e entry) bool { return e.Result == "denied" }), perSecond(ledger))},
		"Active Users (Last Hour)":        {exactly(float64(len(everybody)))},
		"Audit Trail Completeness":        {exactly(100 * ledger / agents)},
		"Critical Actions (Last 24h)":     {each(all(func(e entry) bool { return e.Severity == "critical" }), increase(ledger))},
		"Audit Append Failures":           {exactly(0)},
		"Top Users by Activity":           {expected{exact: users}},
		"Top Agents by Activity":          {top},
		"Permission Requests Over Time":   {exactly((decided["allow"] + decided["deny"]) * agents / seconds), each(decided, perSecond(agents))},
		"Tool Execution Audit Trail":      {each(byAction("tool_execute", result), perSecond(ledger)), each(byAction("tool_execute", tool), perSecond(agents))},
		"Compliance Score (SOC2)":         {exactly(100.0 / 3 * (1 + min(1, ledger/agents) + 1))},
		"Data Access Compliance (GDPR)":   {exactly(100 * (1 - done.number(func(e entry) bool { return personal(e) && e.Result == "failure" })/done.number(personal)))},
		"Security Events (HIPAA)":         {each(all(func(e entry) bool { return strings.HasPrefix(e.Action, "phi_") }), increase(ledger))},
		"Audit Event Timeline (Last 100)": {timeline(t, w, done)},
		"Retention Policy Compliance":     {exactly(100), within(0, 1)},
		"Immutability Verification":       {exactly(100)},
	}
}

// compliance is a number of targets out of four.
func compliance() expected {
	return expected{check: func(_ string, v float64) error {
		if v < 0 || v > 100 || math.Mod(v, 25) != 0 {
			return fmt.Errorf("not 0, 25, 50, 75 or 100")
		}
		return nil
	}}
}

// storage expects at least the bytes that the rounds wrote; the same process
// serves, so there are more.
func storage(done, _ account, seconds float64) expected {
	rounds := done.number(func(e entry) bool { return e.Severity == "critical" })
	least := rounds * storageBytes / 1e6 / seconds
	return expected{keys: []string{"read", "write"}, check: func(k string, v float64) error {
		if k == "write" && v < 0.8*least {
			return fmt.Errorf("want at least %v", least)
		}
		return nil
	}}
}

// durations are the seconds that things took, by the entries' own account.
func durations(a account, action string, key func(entry) string) map[string][]float64 {
	out := map[string][]float64{}
	for _, e := range a.entries {
		if e.Action == action {
			out[key(e)] = append(out[key(e)], e.Details.MS/1000)
		}
	}
	return out
}

// quantiles expects each value in the bucket where the quantile's observation
// lies, more a histogram does not know, or in the next to it: rate() does not
// stretch buckets that begin at zero as far as the others, so that a value near
// a bucket's end may leave it.
func quantiles(p float64, of map[string][]float64, bounds []float64) expected {
	return expected{keys: slices.Collect(maps.Keys(of)), check: func(k string, v float64) error {
		list := slices.Sorted(slices.Values(of[k]))
		x := list[min(len(list)-1, max(0, int(math.Ceil(p*float64(len(list))-1e-9))-1))]
		i, _ := slices.BinarySearch(bounds, x)
		lo, hi := 0.0, bounds[len(bounds)-1]
		if i > 1 {
			lo = bounds[i-2]
		}
		if i+1 < len(bounds) {
			hi = bounds[i+1]
		}
		if v < lo-1e-9 || v > hi+1e-9 {
			return fmt.Errorf("the quantile's observation took %v, in (%v, %v]", x, lo, hi)
		}
		return nil
	}}
}

// timeline asks for the newest entries themselves, which are no numbers.
func timeline(t *testing.T, w window, done account) expected {
	t.Helper()
	q := url.Values{"query": {`{source="audit"}`}, "limit": {"100"}, "start": {strconv.FormatInt(w.from.UnixNano(), 10)}, "end": {strconv.FormatInt(w.to.UnixNano(), 10)}}
	b, err := get(t.Context(), w.loki+"/api/v1/query_range?"+q.Encode())
	if err != nil {
		t.Fatal(err)
	}
	var answer struct {
		Data struct {
			Result []struct{ Values [][2]string }
		}
	}
	if err := json.Unmarshal(b, &answer); err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, s := range answer.Data.Result {
		for _, v := range s.Values {
			var e entry
			if err := json.Unmarshal([]byte(v[1]), &e); err != nil || e.Action == "" {
				t.Fatalf("line %s: %v", v[1], err)
			}
			n++
		}
	}
	if want := min(100, len(done.entries)); n != want {
		t.Errorf("the timeline has %d entries, want %d", n, want)
	}
	return expected{shown: true}
}

// health asks the queries of the fourth board, whose values the workload does
// not tell: they must work, and those that always have data must have some.
func health(t *testing.T, w window, boards []dashboards.Dashboard) {
	t.Helper()
	quiet := map[string]bool{"Certificate expires in": true, "Dropped": true, "Failed exports": true}
	for _, b := range boards {
		if b.UID != "kaizen-health" {
			continue
		}
		for _, p := range b.Panels {
			t.Run(p.Title, func(t *testing.T) {
				for _, q := range p.Queries {
					got, err := ask(t.Context(), w.prometheus, "/api/v1/query", w.fill(q.Expr), w.to)
					if err != nil || len(got) == 0 && !quiet[p.Title] {
						t.Errorf("%s = %v, %v", w.fill(q.Expr), got, err)
					}
				}
			})
		}
	}
}
