package main

import "fmt"

const (
	runs      = "kaizen_agent_runs_total"
	runTime   = "kaizen_agent_run_duration_seconds"
	tools     = "kaizen_tool_calls_total"
	toolTime  = "kaizen_tool_call_duration_seconds"
	models    = "kaizen_model_calls_total"
	cost      = "kaizen_model_cost_usd_total"
	checks    = "kaizen_permission_checks_total"
	entries   = "kaizen_audit_entries_total"
	appendT   = "kaizen_audit_append_duration_seconds"
	failures  = "kaizen_audit_append_failures_total"
	selfTime  = "kaizen_telemetry_self_seconds_total"
	storage   = "kaizen_process_storage_bytes_total"
	switches  = "kaizen_process_context_switches_total"
	cache     = "kaizen_cache_requests_total"
	recorded  = `action=~"agent_run|model_call|tool_execute"`
	personal  = `action=~"data_access|data_export|data_delete"`
	health14  = `action=~"phi_access|phi_export|phi_modify"`
	retention = "kaizen_audit_retention_seconds"
	verified  = "kaizen_audit_checks_total"
)

// agentMonitoring is the first of the three boards: A1 to A12.
func agentMonitoring() dashboard {
	d := board("kaizen-agents", "Kaizen: Agent Monitoring", "What agents do: runs, tools, model calls, their cost and their failures.", "10s")
	d.add(graph("Agent Loop Duration (p95)", "s", "How long the slowest 5 % of the runs of each agent took at least.", "KaizenAgentLoopSlow", over(5),
		q{quantile(0.95, "agent", runTime, agentSel), "{{agent}}"}))
	success := dial("Agent Loop Success Rate", "percent", "Share of the runs that ended well.", "KaizenHighErrorRate", 0, 100, falling(80, 95),
		q{share("", runs, `status="ok"`, agentSel), "success"})
	d.add(success)
	d.add(graph("Tool Execution Count by Tool", "short", "Calls of each tool in the interval of a point.", "", limits{},
		q{increase("tool", tools, agentSel, "$__rate_interval"), "{{tool}}"}))
	d.add(graph("Tool Execution Latency (p95)", "s", "How long calls of each tool took: the median, and the slowest 5 % at least.", "", limits{},
		q{quantile(0.95, "tool", toolTime, agentSel), "{{tool}} p95"}, q{quantile(0.5, "tool", toolTime, agentSel), "{{tool}} p50"}))
	d.add(graph("API Calls by Provider", "reqps", "Model calls a second; one for all attempts of a call.", "", limits{},
		q{rate("provider", models, agentSel), "{{provider}}"}))
	d.add(dial("API Cost per Hour (USD)", "currencyUSD", "What an hour costs at the present rate: dollars a second times 3,600. Calls without a known price are not in it.", "KaizenBudgetExceeded", 0, 100, rising(50, 80),
		q{rate("", cost, agentSel) + " * 3600", "USD an hour"}))
	d.add(stat("Active Agents", "short", "Runs under way.", "", limits{}, q{"sum(kaizen_agents_active{" + agentSel + "})", "active"}))
	d.add(dial("Memory Usage (MB)", "decmbytes", "Resident memory of each process that runs agents.", "KaizenMemoryGrowth", 0, 2048, rising(1024, 1536),
		q{"process_resident_memory_bytes{" + jobSel + "} / 1e6", "{{job}} {{instance}}"}))
	d.add(stat("Error Rate", "ops", "Operations that failed, a second.", "KaizenHighErrorRate", rising(0.1, 1),
		q{rate("", "kaizen_errors_total", agentSel) + " or vector(0)", "errors"}))
	d.add(stat("Audit Events per Minute", "short", "Entries that the ledger acknowledged.", "", limits{}, q{rate("", entries, "") + " * 60", "a minute"}))
	d.add(graph("Permission Approval Rate", "percent", "Share of the permission checks that allowed.", "", limits{},
		q{share("agent", checks, `decision="allow"`, agentSel), "{{agent}}"}))
	d.add(graph("Tool Execution Success Rate by Tool", "percent", "Share of the calls of each tool that ended well.", "KaizenHighErrorRate", limits{},
		q{share("tool", tools, `status="ok"`, agentSel), "{{tool}}"}))
	return d
}

// overhead is the time that recording a signal took from its callers, in percent
// of the time that runs took.
func overhead(signal, by string) string {
	return fmt.Sprintf("100 * %s / (%s > 0)", rate(by, selfTime, join(`signal="`+signal+`"`, jobSel)), rate(by, runTime+"_sum", jobSel))
}

// performance is the second board: P1 to P15.
func performance() dashboard {
	d := board("kaizen-performance", "Kaizen: Performance Metrics", "What recording costs, and what the processes that run agents use.", "5s")
	for _, o := range []struct {
		title, signal, alert string
		limit                float64
	}{
		{"Observability Metrics Overhead (%)", "metrics", "KaizenMetricsOverhead", 2},
		{"Observability Logging Overhead (%)", "logs", "KaizenLoggingOverhead", 5},
		{"Observability Tracing Overhead (%)", "traces", "KaizenTracingOverhead", 1},
	} {
		d.add(graph(o.title, "percent", "Time that recording took on the caller, of the time that runs took.", o.alert, over(o.limit), q{overhead(o.signal, "job"), "{{job}}"}))
	}
	ms := func(p float64) string { return "1000 * " + quantile(p, "", appendT, "") }
	d.add(graph("Audit Append Latency (ms)", "ms", "From giving an entry to the ledger to its being durable on disk.", "KaizenAuditAppendSlow", over(10), q{ms(0.95), "p95"}, q{ms(0.5), "p50"}))
	d.add(graph("CPU Usage (%)", "percent", "Processor time of each process that runs agents; 100 % is one core.", "", over(80),
		q{"100 * " + rate("job, instance", "process_cpu_seconds_total", jobSel), "{{job}} {{instance}}"}))
	d.add(graph("Memory Usage (MB)", "decmbytes", "Resident memory of each process that runs agents.", "KaizenMemoryGrowth", over(1536),
		q{"sum by (job, instance) (process_resident_memory_bytes{" + jobSel + "}) / 1e6", "{{job}} {{instance}}"}))
	d.add(graph("Operation Latency Percentile Distribution", "s", "Runs and tool calls of all agents that are selected.", "KaizenAgentLoopSlow", limits{},
		q{quantile(0.99, "", runTime, agentSel), "runs p99"}, q{quantile(0.95, "", runTime, agentSel), "runs p95"}, q{quantile(0.5, "", runTime, agentSel), "runs p50"},
		q{quantile(0.99, "", toolTime, agentSel), "tools p99"}, q{quantile(0.95, "", toolTime, agentSel), "tools p95"}, q{quantile(0.5, "", toolTime, agentSel), "tools p50"}))
	d.add(graph("Throughput (ops/sec)", "ops", "Runs, tool calls and model calls that ended, a second.", "KaizenNoTraffic", limits{},
		q{rate("", runs, agentSel), "runs"}, q{rate("", tools, agentSel), "tool calls"}, q{rate("", models, agentSel), "model calls"}))
	d.add(graph("Request Rate by Agent", "ops", "Runs that ended, a second.", "", limits{}, q{rate("agent", runs, agentSel), "{{agent}}"}))
	d.add(graph("Disk I/O (MB/s)", "MBs", "What the processes read from and wrote to storage.", "", limits{}, q{rate("direction", storage, jobSel) + " / 1e6", "{{direction}}"}))
	d.add(graph("Network I/O (MB/s)", "MBs", "What went over the network of the processes' hosts or containers.", "", limits{},
		q{rate("", "process_network_receive_bytes_total", jobSel) + " / 1e6", "received"}, q{rate("", "process_network_transmit_bytes_total", jobSel) + " / 1e6", "sent"}))
	d.add(dial("Performance Target Compliance", "percent", "Share of the four targets that are met: metrics under 2 %, logging under 5 %, tracing under 1 % of the runs' time, appending to the ledger under 10 ms (p95).",
		"KaizenTracingOverhead", 0, 100, falling(50, 90),
		q{fmt.Sprintf("25 * ((%s < bool 2) + (%s < bool 5) + (%s < bool 1) + (%s < bool 0.01))",
			overhead("metrics", ""), overhead("logs", ""), overhead("traces", ""), quantile(0.95, "", appendT, "")), "targets met"}))
	gc := func(p float64) string { return "1000 * " + quantile(p, "", "go_sched_pauses_total_gc_seconds", jobSel) }
	d.add(graph("GC Pause Time (ms)", "ms", "Pauses of Go's garbage collector.", "", limits{}, q{gc(0.95), "p95"}, q{gc(0.5), "p50"}))
	d.add(graph("Cache Hit Rate", "percent", "Share of the look-ups that hit. The cache \"prompt\" is the model provider's: a call that read tokens from it is a hit.", "", under(80),
		q{share("cache", cache, `outcome="hit"`, jobSel), "{{cache}}"}))
	d.add(graph("Context Switch Rate", "ops", "How often the processes gave the processor up, or lost it.", "", limits{}, q{rate("kind", switches, jobSel), "{{kind}}"}))
	return d
}

// complete is the share of what agents did that the ledger has an entry for.
func complete(window string) string {
	one := func(name string) string { return "(" + increase("", name, "", window) + " or vector(0))" }
	return fmt.Sprintf("%s / (%s + %s + %s > 0)", increase("", entries, recorded, window), one(runs), one(models), one(tools))
}

// auditCompliance is the third board: C1 to C18.
func auditCompliance() dashboard {
	d := board("kaizen-audit", "Kaizen: Audit & Compliance", "What the ledger holds, and whether it can be trusted.", "10s")
	d.add(graph("Audit Events Volume", "short", "Entries a minute.", "", limits{}, q{rate("", entries, "") + " * 60", "a minute"}))
	d.add(graph("Audit Events by Action Type", "ops", "Entries a second by what was done.", "", limits{}, q{rate("action", entries, ""), "{{action}}"}))
	d.add(pie("Audit Events by Result", "short", "Entries in the time shown.", "", q{increase("result", entries, "", "$__range"), "{{result}}"}))
	d.add(graph("Failed/Denied Actions Rate", "ops", "Entries a second about what failed, and about what was denied.", "KaizenAuditFailuresHigh", over(0.1),
		q{rate("", entries, `result="failure"`) + " or vector(0)", "failed"}, q{rate("", entries, `result="denied"`) + " or vector(0)", "denied"}))
	d.add(stat("Active Users (Last Hour)", "short", "For how many users something was recorded in the last hour. Who they are stays in the ledger.", "", limits{},
		q{"max(kaizen_audit_active_users)", "users"}))
	d.add(dial("Audit Trail Completeness", "percent", "Entries about runs, model calls and tool calls, of those that metrics counted in the last hour.", "KaizenAuditIncomplete", 0, 100, falling(80, 95),
		q{"100 * " + complete("1h"), "recorded"}))
	d.add(stat("Critical Actions (Last 24h)", "short", "Entries of severity critical.", "", rising(10, 50), q{rises(entries, `severity="critical"`, "24h"), "critical"}))
	d.add(stat("Audit Append Failures", "short", "Entries that the ledger could not make durable in the last hour.", "KaizenAuditAppendFailing", rising(1, 10),
		q{rises(failures, "", "1h"), "failures"}))
	users := table("Top Users by Activity", "short", "Entries of the last hour by user, from the ledger: no metric has users.", "")
	users.Datasource = logsSource
	users.Targets = []target{{RefID: "A", Datasource: logsSource, Expr: `topk(10, sum by (user) (count_over_time({source="audit",user!=""}[1h])))`, QueryType: "instant", Instant: true}}
	d.add(users)
	kind := func(name, what string) string {
		return fmt.Sprintf(`label_replace(increase(%s[1h]), "what", "%s", "", "")`, name, what)
	}
	d.add(table("Top Agents by Activity", "short", "Runs, model calls and tool calls that ended in the last hour, by agent.", "",
		q{fmt.Sprintf("topk(10, sum by (agent) (%s or %s or %s))", kind(runs, "run"), kind(models, "model call"), kind(tools, "tool call")), "{{agent}}"}))
	d.add(graph("Permission Requests Over Time", "ops", "Checks a second, and what they decided.", "", limits{},
		q{rate("", checks, agentSel), "requested"}, q{rate("decision", checks, agentSel), "{{decision}}"}))
	d.add(graph("Tool Execution Audit Trail", "ops", "Entries a second about tool calls by result, beside the calls of each tool that metrics counted.", "KaizenAuditIncomplete", limits{},
		q{rate("result", entries, `action="tool_execute"`), "recorded: {{result}}"}, q{rate("tool", tools, agentSel), "counted: {{tool}}"}))
	d.add(dial("Compliance Score (SOC2)", "percent",
		"The mean of three controls: entries that were made durable (of all in 24 h), completeness (of the last hour, at most 100 %), checks of the ledger that found it intact.", "KaizenComplianceLow", 0, 100, falling(95, 99),
		q{fmt.Sprintf("100 / 3 * (%[1]s / (%[1]s + %[2]s) + clamp_max(%[3]s, 1) + (sum(%[4]s{result=\"intact\"}) / (sum(%[4]s) > 0)))",
			increase("", entries, "", "24h"), increase("", failures, "", "24h"), complete("1h"), verified), "controls met"}))
	d.add(dial("Data Access Compliance (GDPR)", "percent",
		"Of the requests to see, export or delete personal data in 24 h, those that were carried out or refused on purpose; the others failed and are still owed.", "KaizenComplianceLow", 0, 100, falling(95, 99),
		q{fmt.Sprintf("100 * (1 - (%s or vector(0)) / (%s > 0))", increase("", entries, personal+`,result="failure"`, "24h"), increase("", entries, personal, "24h")), "answered"}))
	d.add(stat("Security Events (HIPAA)", "short", "Entries about protected health information in 24 h.", "", limits{}, q{rises(entries, health14, "24h"), "events"}))
	d.add(timeline())
	d.add(graph("Retention Policy Compliance", "percent", "100 where entries are kept for 90 days or more (for ever, unless a policy says otherwise), and the days since the oldest one.", "KaizenComplianceLow", under(100),
		q{"100 * (min(" + retention + ") >= bool 90 * 86400)", "policy met"}, q{"(time() - min(kaizen_audit_oldest_entry_timestamp_seconds)) / 86400", "days kept"}))
	d.add(dial("Immutability Verification", "percent", "Share of the checks of the ledger that found it as it was signed.", "KaizenAuditVerificationFailed", 0, 100, falling(99, 99.9),
		q{fmt.Sprintf(`100 * sum(%[1]s{result="intact"}) / (sum(%[1]s) > 0)`, verified), "intact"}))
	return d
}

// timeline is a table of the newest entries themselves.
func timeline() panel {
	p := table("Audit Event Timeline (Last 100)", "", "The newest entries of the ledger, from the server.", "")
	p.Datasource = logsSource
	p.Targets = []target{{RefID: "A", Datasource: logsSource, Expr: `{source="audit"}`, QueryType: "range", Range: true, MaxLines: 100}}
	p.Options["sortBy"] = []any{map[string]any{"displayName": "time", "desc": true}}
	p.Transformations = []transformation{
		{"extractFields", map[string]any{"source": "Line", "format": "json", "replace": true}},
		{"filterFieldsByName", map[string]any{"include": map[string]any{"names": []string{"time", "agent_id", "action", "result", "user_id", "severity", "trace_id"}}}},
	}
	p.FieldConfig.Defaults.Links = []link{{Title: "Trace", URL: "${kaizen}/runs/${__data.fields.trace_id}", TargetBlank: true}}
	return p
}

// health is what watches the watcher.
func health() dashboard {
	d := board("kaizen-health", "Kaizen: its own health", "Whether Kaizen takes, keeps and answers what it should.", "10s")
	d.add(stat("Scrapes that succeed", "short", "1 for each target of the server that Prometheus reaches.", "KaizenScrapeDown", under(1), q{`min by (job) (up{job=~"kaizen.*"})`, "{{job}}"}))
	d.add(stat("Certificate expires in", "s", "Time until the server's TLS certificate expires; nothing without TLS.", "KaizenCertificateExpiring", falling(7*86400, 30*86400),
		q{"kaizen_server_certificate_expiry_timestamp_seconds - time()", "left"}))
	d.add(dial("Disk free", "percent", "Space left on the data directory's disk.", "KaizenDiskFilling", 0, 100, falling(10, 20),
		q{"100 * min(kaizen_server_disk_free_bytes) / min(kaizen_server_disk_size_bytes)", "free"}))
	d.add(dial("Telemetry memory", "percent", "Memory that spans and log records take, of what they may.", "KaizenMemoryGrowth", 0, 100, rising(75, 90),
		q{`100 * sum(kaizen_server_store_bytes{place="memory"}) / min(kaizen_server_store_limit_bytes)`, "used"}))
	d.add(graph("Requests taken", "reqps", "Requests with telemetry by signal and outcome.", "KaizenNoTraffic", limits{}, q{rate("signal, outcome", "kaizen_server_ingest_total", ""), "{{signal}} {{outcome}}"}))
	d.add(graph("Ingest lag (p95)", "s", "From the end of a span or log record to its being stored.", "KaizenIngestLag", over(30), q{quantile(0.95, "signal", "kaizen_server_ingest_lag_seconds", ""), "{{signal}}"}))
	d.add(graph("Dropped", "ops", "What was given up anywhere on the way, by reason.", "KaizenTelemetryDropped", limits{}, q{rate("signal, reason", "kaizen_telemetry_dropped_total", "") + " > 0", "{{signal}} {{reason}}"}))
	d.add(graph("Waiting to be sent", "short", "Records in queues and spools of the agents' processes.", "KaizenSpoolFilling", limits{}, q{"sum by (job, signal) (kaizen_telemetry_queue_length)", "{{job}} {{signal}}"}))
	d.add(graph("Spool used", "percent", "Of the disk space that records may take while the server is away.", "KaizenSpoolFilling", over(50),
		q{"100 * max by (job, signal) (kaizen_telemetry_spool_bytes / kaizen_telemetry_spool_limit_bytes)", "{{job}} {{signal}}"}))
	d.add(graph("Failed exports", "ops", "Attempts to send that failed.", "KaizenExportFailing", limits{}, q{rate("job, signal, reason", "kaizen_telemetry_export_failures_total", "") + " > 0", "{{job}} {{signal}} {{reason}}"}))
	d.add(graph("Answer time of the API (p95)", "s", "By path.", "", over(1), q{quantile(0.95, "endpoint", "kaizen_server_query_duration_seconds", ""), "{{endpoint}}"}))
	d.add(graph("Size of the stores", "bytes", "Estimated in memory, exact on disk.", "KaizenDiskFilling", limits{}, q{"sum by (signal, place) (kaizen_server_store_bytes)", "{{signal}} {{place}}"}))
	d.add(graph("Since the ledger was last found intact", "s", "The server checks it every five minutes, and all of it once a day.", "KaizenAuditVerificationOverdue", over(900),
		q{`time() - max(kaizen_audit_last_check_timestamp_seconds{result="intact"})`, "since"}))
	d.add(graph("Series in the metric store", "short", "Those written to in the last hours.", "", limits{}, q{"max(prometheus_tsdb_head_series{job=~\"kaizen.*\"})", "series"}))
	return d
}
