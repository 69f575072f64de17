package prom

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/timestamp"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/util/stats"
)

// errTruncated is the warning Prometheus gives when a limit cut the result.
var errTruncated = errors.New("results truncated due to limit")

func (db *DB) query(r *http.Request) (answer, error) {
	t, err := timeParam(r, "time", db.cfg.now())
	if err != nil {
		return answer{}, err
	}
	return db.run(r, func(ctx context.Context, opts promql.QueryOpts) (promql.Query, error) {
		return db.engine.NewInstantQuery(ctx, db.tsdb, opts, r.FormValue("query"), t)
	})
}

func (db *DB) queryRange(r *http.Request) (answer, error) {
	start, err := parseTime(r.FormValue("start"))
	if err != nil {
		return answer{}, badParam("start", err)
	}
	end, err := parseTime(r.FormValue("end"))
	if err != nil {
		return answer{}, badParam("end", err)
	}
	if end.Before(start) {
		return answer{}, badParam("end", errors.New("end timestamp must not be before start time"))
	}
	step, err := parseDuration(r.FormValue("step"))
	if err != nil {
		return answer{}, badParam("step", err)
	}
	if step <= 0 {
		return answer{}, badParam("step", errors.New("zero or negative query resolution step widths are not accepted. Try a positive integer"))
	}
	// Prometheus's own bound: a week at a minute, a year at an hour.
	if end.Sub(start)/step > 11000 {
		return answer{}, &apiError{errBadData, errors.New("exceeded maximum resolution of 11,000 points per timeseries. Try decreasing the query resolution (?step=XX)")}
	}
	return db.run(r, func(ctx context.Context, opts promql.QueryOpts) (promql.Query, error) {
		return db.engine.NewRangeQuery(ctx, db.tsdb, opts, r.FormValue("query"), start, end, step)
	})
}

// run evaluates a query; it has a slot and a timeout from the engine.
func (db *DB) run(r *http.Request, build func(context.Context, promql.QueryOpts) (promql.Query, error)) (answer, error) {
	limit, err := limitParam(r, "limit")
	if err != nil {
		return answer{}, err
	}
	// The engine's own timeout leaves out the time that a query waits for a slot.
	timeout := db.cfg.QueryTimeout
	if s := r.FormValue("timeout"); s != "" {
		d, err := parseDuration(s)
		if err == nil && d <= 0 {
			err = fmt.Errorf("timeout must be positive, got %s", d)
		}
		if err != nil {
			return answer{}, badParam("timeout", err)
		}
		timeout = min(timeout, d)
	}
	ctx, cancel := context.WithTimeout(r.Context(), timeout)
	defer cancel()
	var lookbackDelta time.Duration
	if s := r.FormValue("lookback_delta"); s != "" {
		if lookbackDelta, err = parseDuration(s); err != nil {
			return answer{}, &apiError{errBadData, fmt.Errorf("error parsing lookback delta duration: %w", err)}
		}
	}
	want := r.FormValue("stats")
	q, err := build(ctx, promql.NewPrometheusQueryOpts(want == "all", lookbackDelta, nil))
	if err != nil {
		var api *apiError
		if e := queryError(err); errors.As(e, &api) && (api.typ == errTimeout || api.typ == errCanceled) {
			return answer{}, e // while it waited for a slot
		}
		return answer{}, badParam("query", err)
	}
	res := q.Exec(ctx)
	a := answer{warnings: res.Warnings, done: q.Close}
	if res.Err != nil {
		return a, queryError(res.Err)
	}
	if limit > 0 && truncate(res, limit) {
		a.warnings = a.warnings.Add(errTruncated)
	}
	a.appendTo = func(b []byte) []byte {
		b = append(b, `{"resultType":"`...)
		b = append(b, res.Value.Type()...)
		b = append(b, `","result":`...)
		b = appendValue(b, res.Value)
		if want != "" {
			if s, err := json.Marshal(stats.NewQueryStats(q.Stats())); err == nil {
				b = append(append(b, `,"stats":`...), s...)
			}
		}
		return append(b, '}')
	}
	return a, nil
}

// truncate cuts a result to limit series.
func truncate(res *promql.Result, limit int) bool {
	switch v := res.Value.(type) {
	case promql.Matrix:
		if len(v) > limit {
			res.Value = v[:limit]
			return true
		}
	case promql.Vector:
		if len(v) > limit {
			res.Value = v[:limit]
			return true
		}
	}
	return false
}

func (db *DB) formatQuery(r *http.Request) (answer, error) {
	expr, err := db.parser.ParseExpr(r.FormValue("query"))
	if err != nil {
		return answer{}, badParam("query", err)
	}
	return answer{data: expr.Pretty(0)}, nil
}

func (db *DB) queryExemplars(r *http.Request) (answer, error) {
	start, end, err := rangeParams(r)
	if err != nil {
		return answer{}, err
	}
	if end.Before(start) {
		return answer{}, &apiError{errBadData, errors.New("end timestamp must not be before start timestamp")}
	}
	expr, err := db.parser.ParseExpr(r.FormValue("query"))
	if err != nil {
		return answer{}, &apiError{errBadData, err}
	}
	selectors := parser.ExtractSelectors(expr)
	if len(selectors) == 0 {
		return answer{data: json.RawMessage("[]")}, nil
	}
	ctx, cancel := context.WithTimeout(r.Context(), db.cfg.QueryTimeout)
	defer cancel()
	q, err := db.tsdb.ExemplarQuerier(ctx)
	if err != nil {
		return answer{}, queryError(err)
	}
	found, err := q.Select(timestamp.FromTime(start), timestamp.FromTime(end), selectors...)
	if err != nil {
		return answer{}, queryError(err)
	}
	if db.cfg.Exemplars != nil {
		for _, ms := range selectors {
			more, err := db.cfg.Exemplars.Exemplars(ctx, ms, start, end)
			if err != nil {
				return answer{}, queryError(err)
			}
			found = mergeExemplars(found, more)
		}
	}
	return answer{appendTo: func(b []byte) []byte { return appendList(b, found, appendExemplars) }}, nil
}

// mergeExemplars adds the exemplars of a source to those of the store. One span
// is named once per series.
func mergeExemplars(stored []exemplar.QueryResult, more []ExemplarSeries) []exemplar.QueryResult {
	index := map[string]int{}
	for i, s := range stored {
		index[s.SeriesLabels.String()] = i
	}
	for _, m := range more {
		ls := labels.FromMap(m.Labels)
		i, ok := index[ls.String()]
		if !ok {
			i = len(stored)
			index[ls.String()] = i
			stored = append(stored, exemplar.QueryResult{SeriesLabels: ls})
		}
		s := &stored[i]
		s.Exemplars = slices.Clone(s.Exemplars) // what was selected belongs to the store
		for _, e := range m.Exemplars {
			x := exemplar.Exemplar{Labels: labels.FromMap(e.Labels), Value: e.Value, Ts: e.Time.UnixMilli(), HasTs: true}
			if !slices.ContainsFunc(s.Exemplars, func(o exemplar.Exemplar) bool { return sameSpan(o, x) }) {
				s.Exemplars = append(s.Exemplars, x)
			}
		}
		slices.SortStableFunc(s.Exemplars, exemplar.Compare)
	}
	stored = slices.DeleteFunc(stored, func(s exemplar.QueryResult) bool { return len(s.Exemplars) == 0 })
	slices.SortFunc(stored, func(a, b exemplar.QueryResult) int { return labels.Compare(a.SeriesLabels, b.SeriesLabels) })
	return stored
}

func sameSpan(a, b exemplar.Exemplar) bool {
	span := a.Labels.Get("span_id")
	return span != "" && span == b.Labels.Get("span_id") && a.Labels.Get("trace_id") == b.Labels.Get("trace_id")
}

func appendExemplars(b []byte, s exemplar.QueryResult) []byte {
	b = appendLabels(append(b, `{"seriesLabels":`...), s.SeriesLabels)
	b = append(b, `,"exemplars":`...)
	b = appendList(b, s.Exemplars, func(b []byte, e exemplar.Exemplar) []byte {
		b = appendLabels(append(b, `{"labels":`...), e.Labels)
		b = appendFloat(append(b, `,"value":`...), e.Value)
		b = appendTime(append(b, `,"timestamp":`...), e.Ts)
		return append(b, '}')
	})
	return append(b, '}')
}

// sortedKeys returns the keys of a set in order.
func sortedKeys[K cmp.Ordered](set map[K]struct{}) []K {
	keys := make([]K, 0, len(set))
	for k := range set {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
