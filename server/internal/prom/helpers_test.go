package prom

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kaizen-go/kaizen/metrics"
	dto "github.com/prometheus/client_model/go"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"
)

// base is the present of most tests: a whole minute, so that steps align.
var base = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)

// clock is a present that a test moves.
type clock struct{ nanos atomic.Int64 }

func newClock(t time.Time) *clock { c := &clock{}; c.set(t); return c }

func (c *clock) set(t time.Time) { c.nanos.Store(t.UnixNano()) }
func (c *clock) now() time.Time  { return time.Unix(0, c.nanos.Load()).UTC() }

// open opens a store in a fresh directory, at base unless cfg has a clock.
func open(t testing.TB, cfg Config) *DB {
	t.Helper()
	return openIn(t, t.TempDir(), cfg)
}

func openIn(t testing.TB, dir string, cfg Config) *DB {
	t.Helper()
	if cfg.now == nil {
		cfg.now = newClock(base).now
	}
	if cfg.Metrics == nil {
		m, err := metrics.New(metrics.Config{NoRuntime: true})
		if err != nil {
			t.Fatal(err)
		}
		cfg.Metrics = m
	}
	db, err := Open(dir, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Errorf("Close() = %v", err)
		}
	})
	return db
}

// droppedCount returns how many points were counted as refused for a reason.
func droppedCount(t testing.TB, db *DB, why reason) float64 {
	t.Helper()
	families, err := db.cfg.Metrics.Gatherer().Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != "kaizen_telemetry_dropped_total" {
			continue
		}
		for _, m := range f.Metric {
			if hasLabel(m, "signal", "metrics") && hasLabel(m, "reason", string(why)) {
				return m.Counter.GetValue()
			}
		}
	}
	return 0
}

func hasLabel(m *dto.Metric, name, value string) bool {
	for _, p := range m.Label {
		if p.GetName() == name {
			return p.GetValue() == value
		}
	}
	return false
}

// one returns metrics of one resource and scope, and the scope's list to fill.
func one(service, instance string) (pmetric.Metrics, pmetric.MetricSlice) {
	md := pmetric.NewMetrics()
	rm := md.ResourceMetrics().AppendEmpty()
	if service != "" {
		rm.Resource().Attributes().PutStr("service.name", service)
	}
	if instance != "" {
		rm.Resource().Attributes().PutStr("service.instance.id", instance)
	}
	return md, rm.ScopeMetrics().AppendEmpty().Metrics()
}

func at(t time.Time) pcommon.Timestamp { return pcommon.NewTimestampFromTime(t) }

// addGauge adds a gauge with one point; labels are pairs of key and value.
func addGauge(ms pmetric.MetricSlice, name string, t time.Time, v float64, labels ...string) {
	m := ms.AppendEmpty()
	m.SetName(name)
	p := m.SetEmptyGauge().DataPoints().AppendEmpty()
	p.SetTimestamp(at(t))
	p.SetDoubleValue(v)
	putLabels(p.Attributes(), labels)
}

// addSum adds a monotonic sum with one point.
func addSum(ms pmetric.MetricSlice, name string, temporality pmetric.AggregationTemporality, t time.Time, v float64, labels ...string) {
	m := ms.AppendEmpty()
	m.SetName(name)
	s := m.SetEmptySum()
	s.SetIsMonotonic(true)
	s.SetAggregationTemporality(temporality)
	p := s.DataPoints().AppendEmpty()
	p.SetTimestamp(at(t))
	p.SetDoubleValue(v)
	putLabels(p.Attributes(), labels)
}

func putLabels(attrs pcommon.Map, labels []string) {
	for i := 0; i < len(labels); i += 2 {
		attrs.PutStr(labels[i], labels[i+1])
	}
}

// appendOK stores md and fails the test unless every point was taken.
func appendOK(t testing.TB, db *DB, md pmetric.Metrics) {
	t.Helper()
	if n, err := db.AppendMetrics(t.Context(), md); n != 0 || err != nil {
		t.Fatalf("AppendMetrics() = %d, %v, want 0, nil", n, err)
	}
}

// call serves one request and returns status and body.
func call(t testing.TB, db *DB, method, path string, form url.Values) (int, string) {
	t.Helper()
	return callCtx(t.Context(), db, method, path, form)
}

func callCtx(ctx context.Context, db *DB, method, path string, form url.Values) (int, string) {
	var body io.Reader
	target := "/prometheus/api/v1" + path
	if method == http.MethodPost {
		body = strings.NewReader(form.Encode())
	} else if len(form) > 0 {
		target += "?" + form.Encode()
	}
	r := httptest.NewRequestWithContext(ctx, method, target, body)
	if body != nil {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	w := httptest.NewRecorder()
	db.Handler().ServeHTTP(w, r)
	return w.Code, w.Body.String()
}

// result returns the result part of an instant query at t as JSON.
func result(t testing.TB, db *DB, query string, when time.Time) string {
	t.Helper()
	code, body := call(t, db, http.MethodGet, "/query", url.Values{"query": {query}, "time": {when.Format(time.RFC3339Nano)}})
	var a struct {
		Data struct {
			Result json.RawMessage `json:"result"`
		} `json:"data"`
	}
	if err := json.Unmarshal([]byte(body), &a); code != http.StatusOK || err != nil {
		t.Fatalf("query %s: %d %s (%v)", query, code, body, err)
	}
	return string(a.Data.Result)
}

// value returns the single value that an instant query yields, "" if none.
func value1(t testing.TB, db *DB, query string, when time.Time) string {
	t.Helper()
	var v []struct {
		Value [2]any `json:"value"`
	}
	r := result(t, db, query, when)
	if err := json.Unmarshal([]byte(r), &v); err != nil {
		t.Fatalf("query %s: %s: %v", query, r, err)
	}
	if len(v) == 0 {
		return ""
	}
	if len(v) > 1 {
		t.Fatalf("query %s: %d series: %s", query, len(v), r)
	}
	s, _ := v[0].Value[1].(string)
	return s
}
