package prom

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/util/annotations"
)

// maxFormBytes bounds the body of a POSTed query.
const maxFormBytes = 1 << 20

// errorType is the errorType of Prometheus's answers.
type errorType string

const (
	errTimeout     errorType = "timeout"
	errCanceled    errorType = "canceled"
	errExec        errorType = "execution"
	errBadData     errorType = "bad_data"
	errInternal    errorType = "internal"
	errUnavailable errorType = "unavailable"
)

// status returns the HTTP status of the error type, as Prometheus has them.
// 499 is for a client that went away while its query ran.
func (t errorType) status() int {
	switch t {
	case errBadData:
		return http.StatusBadRequest
	case errExec:
		return http.StatusUnprocessableEntity
	case errCanceled:
		return 499
	case errTimeout, errUnavailable:
		return http.StatusServiceUnavailable
	}
	return http.StatusInternalServerError
}

type apiError struct {
	typ errorType
	err error
}

func (e *apiError) Error() string { return string(e.typ) + ": " + e.err.Error() }
func (e *apiError) Unwrap() error { return e.err }

func badParam(name string, err error) error {
	return &apiError{errBadData, fmt.Errorf("invalid parameter %q: %w", name, err)}
}

// queryError gives an error of the engine or the storage its type.
func queryError(err error) error {
	var (
		api      *apiError
		canceled promql.ErrQueryCanceled
		timeout  promql.ErrQueryTimeout
		storage  promql.ErrStorage
	)
	switch {
	case errors.As(err, &api):
		return err
	case errors.As(err, &canceled), errors.Is(err, context.Canceled):
		return &apiError{errCanceled, err}
	case errors.As(err, &timeout), errors.Is(err, context.DeadlineExceeded):
		return &apiError{errTimeout, err}
	case errors.As(err, &storage):
		return &apiError{errInternal, err}
	}
	return &apiError{errExec, err}
}

// answer is the successful result of one call.
type answer struct {
	// data is marshalled as JSON unless appendTo is set.
	data     any
	appendTo func([]byte) []byte
	warnings annotations.Annotations
	// done releases what the answer refers to, once it is written; may be nil.
	done func()
}

// Handler serves the Prometheus HTTP API under /prometheus/api/v1. A Grafana
// data source of type Prometheus works against the address with /prometheus.
func (db *DB) Handler() http.Handler {
	mux := http.NewServeMux()
	const v1 = "/prometheus/api/v1"
	form := func(path string, call func(*http.Request) (answer, error)) {
		mux.HandleFunc("GET "+v1+path, db.serve(call))
		mux.HandleFunc("POST "+v1+path, db.serve(call))
	}
	get := func(path string, call func(*http.Request) (answer, error)) {
		mux.HandleFunc("GET "+v1+path, db.serve(call))
	}
	form("/query", db.query)
	form("/query_range", db.queryRange)
	form("/query_exemplars", db.queryExemplars)
	form("/format_query", db.formatQuery)
	form("/series", db.limited(db.series))
	form("/labels", db.limited(db.labelNames))
	get("/label/{name}/values", db.limited(db.labelValues))
	get("/metadata", db.metadata)
	get("/targets", fixed(`{"activeTargets":[],"droppedTargets":[],"droppedTargetCounts":{}}`))
	get("/targets/metadata", fixed(`[]`))
	get("/rules", fixed(`{"groups":[]}`))
	get("/alerts", fixed(`{"alerts":[]}`))
	get("/alertmanagers", fixed(`{"activeAlertmanagers":[],"droppedAlertmanagers":[]}`))
	get("/status/buildinfo", db.buildInfo)
	mux.HandleFunc("POST "+v1+"/write", db.remoteWrite)
	return mux
}

// fixed answers what this server never has any of: it does not scrape, and
// evaluates no rules.
func fixed(data string) func(*http.Request) (answer, error) {
	return func(*http.Request) (answer, error) { return answer{data: json.RawMessage(data)}, nil }
}

// limited gives a call that reads the index a query slot and the timeout of a query.
func (db *DB) limited(call func(*http.Request) (answer, error)) func(*http.Request) (answer, error) {
	return func(r *http.Request) (answer, error) {
		ctx, cancel := context.WithTimeout(r.Context(), db.cfg.QueryTimeout)
		defer cancel()
		slot, err := db.slots.Insert(ctx, "")
		if err != nil {
			return answer{}, queryError(err)
		}
		defer db.slots.Delete(slot)
		a, err := call(r.WithContext(ctx))
		if err != nil {
			return a, queryError(err)
		}
		return a, nil
	}
}

// serve turns a call into a handler: form, store open, answer or error.
func (db *DB) serve(call func(*http.Request) (answer, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		leave, err := db.enter()
		if err != nil {
			db.fail(w, &apiError{errUnavailable, err})
			return
		}
		defer leave()
		r.Body = http.MaxBytesReader(w, r.Body, maxFormBytes)
		if err := r.ParseForm(); err != nil {
			db.fail(w, &apiError{errBadData, fmt.Errorf("error parsing form values: %w", err)})
			return
		}
		a, err := call(r)
		if a.done != nil {
			defer a.done()
		}
		if err != nil {
			db.fail(w, err)
			return
		}
		db.respond(w, r, a)
	}
}

func (db *DB) respond(w http.ResponseWriter, r *http.Request, a answer) {
	body := []byte(`{"status":"success","data":`)
	if a.appendTo != nil {
		body = a.appendTo(body)
	} else {
		data, err := json.Marshal(a.data)
		if err != nil {
			db.fail(w, &apiError{errInternal, err})
			return
		}
		body = append(body, data...)
	}
	warnings, infos := a.warnings.AsStrings(r.FormValue("query"), 10, 10)
	if len(warnings) > 0 {
		body = appendList(append(body, `,"warnings":`...), warnings, appendString)
	}
	if len(infos) > 0 {
		body = appendList(append(body, `,"infos":`...), infos, appendString)
	}
	w.Header().Set("Content-Type", "application/json")
	if _, err := w.Write(append(body, '}')); err != nil {
		db.cfg.Logger.Debug("prom: answer not delivered", "path", r.URL.Path, "err", err)
	}
}

func (db *DB) fail(w http.ResponseWriter, err error) {
	e := &apiError{errInternal, err}
	errors.As(err, &e)
	body := append([]byte(`{"status":"error","errorType":`), strconv.Quote(string(e.typ))...)
	body = appendString(append(body, `,"error":`...), e.err.Error())
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(e.typ.status())
	if _, err := w.Write(append(body, '}')); err != nil {
		db.cfg.Logger.Debug("prom: error not delivered", "err", err)
	}
}

// The default bounds of a time range, as Prometheus has them; clients send them back.
var (
	minTime = time.Unix(math.MinInt64/1000+62135596801, 0).UTC()
	maxTime = time.Unix(math.MaxInt64/1000-62135596801, 999999999).UTC()
)

// parseTime reads seconds with decimals, or RFC 3339.
func parseTime(s string) (time.Time, error) {
	if f, err := strconv.ParseFloat(s, 64); err == nil {
		if math.IsNaN(f) || math.Abs(f) > math.MaxInt64/1000 {
			return time.Time{}, fmt.Errorf("cannot parse %q to a valid timestamp", s)
		}
		sec, frac := math.Modf(f)
		frac = math.Round(frac*1000) / 1000
		return time.Unix(int64(sec), int64(frac*float64(time.Second))).UTC(), nil
	}
	if t, err := time.Parse(time.RFC3339Nano, s); err == nil {
		return t, nil
	}
	// Years of five digits, which time.Parse does not take.
	switch s {
	case minTime.Format(time.RFC3339Nano):
		return minTime, nil
	case maxTime.Format(time.RFC3339Nano):
		return maxTime, nil
	}
	return time.Time{}, fmt.Errorf("cannot parse %q to a valid timestamp", s)
}

func timeParam(r *http.Request, name string, def time.Time) (time.Time, error) {
	s := r.FormValue(name)
	if s == "" {
		return def, nil
	}
	t, err := parseTime(s)
	if err != nil {
		return t, badParam(name, fmt.Errorf("invalid time value for '%s': %w", name, err))
	}
	return t, nil
}

// rangeParams reads start and end, which may be left out.
func rangeParams(r *http.Request) (start, end time.Time, err error) {
	if start, err = timeParam(r, "start", minTime); err != nil {
		return
	}
	end, err = timeParam(r, "end", maxTime)
	return
}

// parseDuration reads seconds with decimals, or a duration such as 5m.
func parseDuration(s string) (time.Duration, error) {
	if f, err := strconv.ParseFloat(s, 64); err == nil {
		ns := f * float64(time.Second)
		if math.IsNaN(ns) || ns >= math.MaxInt64 || ns < math.MinInt64 {
			return 0, fmt.Errorf("cannot parse %q to a valid duration. It overflows int64", s)
		}
		return time.Duration(ns), nil
	}
	if d, err := model.ParseDuration(s); err == nil {
		return time.Duration(d), nil
	}
	return 0, fmt.Errorf("cannot parse %q to a valid duration", s)
}

// limitParam reads limit; 0 is none.
func limitParam(r *http.Request, name string) (int, error) {
	s := r.FormValue(name)
	if s == "" {
		return 0, nil
	}
	n, err := strconv.Atoi(s)
	if err == nil && n < 0 {
		err = errors.New("limit must be non-negative")
	}
	if err != nil {
		return 0, badParam(name, err)
	}
	return n, nil
}

// matchers reads the match[] selectors; each must exclude something.
func (db *DB) matchers(r *http.Request) ([][]*labels.Matcher, error) {
	sets, err := db.parser.ParseMetricSelectors(r.Form["match[]"])
	if err != nil {
		return nil, err
	}
	for _, set := range sets {
		useful := false
		for _, m := range set {
			useful = useful || m != nil && !m.Matches("")
		}
		if !useful {
			return nil, errors.New("match[] must contain at least one non-empty matcher")
		}
	}
	return sets, nil
}
