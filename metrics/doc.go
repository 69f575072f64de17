// Package metrics holds Kaizen's Prometheus collectors: the families that
// describe agents, model calls, tools, permissions, the audit ledger and
// Kaizen itself, and a get-or-create API for the metrics of its users.
//
// The shortest use:
//
//	m, err := metrics.New(metrics.Config{})
//	if err != nil { … }
//	m.Count(metrics.AgentRuns, "planner", metrics.StatusOK)
//	m.Counter("orders_total", "shop", "north").Inc()
//	http.Handle("/metrics", m.Handler(metrics.HandlerConfig{}))
//
// Recording never fails, panics or blocks its caller. What cannot be recorded
// as asked (a negative counter step, a NaN, a bad name) is refused and counted
// in kaizen_telemetry_dropped_total{signal="metrics"}; the reason says why.
//
// Every family has a limit on its series. Label sets beyond it share an
// overflow series, in which open-ended labels read "other", and each record
// that lands there is counted under the reason "series_limit".
//
// Histograms have classic buckets and native ones at once. Percentiles that
// this process asks itself for are exact over a recent window
// ([Metrics.Percentile]); those over all time, or over many processes, come
// from the native buckets, which add up.
package metrics
