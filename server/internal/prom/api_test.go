package prom

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/api"
	v1 "github.com/prometheus/client_golang/api/prometheus/v1"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
)

// withSamples returns a store with a few series: a counter per agent over ten
// minutes, a gauge, and odd values.
func withSamples(t testing.TB, cfg Config) *DB {
	db := open(t, cfg)
	md, ms := one("svc", "i-1")
	for i := range 11 {
		when := base.Add(time.Duration(i-10) * time.Minute)
		addSum(ms, "calls", cumulative, when, float64(60*i), "agent", "planner")
		addSum(ms, "calls", cumulative, when, float64(120*i), "agent", "coder")
	}
	ms.At(0).SetDescription("Calls made.")
	addGauge(ms, "temp", base.Add(-time.Minute), 36.5, "quote", "a\"b\\c\n<é>")
	addGauge(ms, "temp", base, 36.6, "quote", "a\"b\\c\n<é>")
	addGauge(ms, "odd", base, math.Inf(-1))
	addGauge(ms, "tiny", base, 1e-7)
	addGauge(ms, "huge", base, 1e21)
	appendOK(t, db, md)
	return db
}

// TestHTTPAPI has requests and the answers that Prometheus gives to them.
func TestHTTPAPI(t *testing.T) {
	db := withSamples(t, Config{Version: "1.2.3"})
	now := unix(base)
	for _, c := range []struct {
		name, path string
		form       url.Values
		code       int
		want       string // exact, or a part when it begins with "…"
	}{
		{"scalar", "/query", url.Values{"query": {"1.5"}, "time": {now}}, 200, `{"status":"success","data":{"resultType":"scalar","result":[` + now + `,"1.5"]}}`},
		{"string", "/query", url.Values{"query": {`"a<b"`}, "time": {now}}, 200, `{"status":"success","data":{"resultType":"string","result":[` + now + `,"a<b"]}}`},
		{"time with decimals", "/query", url.Values{"query": {"1"}, "time": {now + ".007"}}, 200, `…"result":[` + now + `.007,"1"]`},
		{"time before 1970", "/query", url.Values{"query": {"1"}, "time": {"-1.5"}}, 200, `…"result":[-1.500,"1"]`},
		{"empty vector", "/query", url.Values{"query": {"none"}, "time": {now}}, 200, `{"status":"success","data":{"resultType":"vector","result":[]}}`},
		{"escapes", "/query", url.Values{"query": {"temp"}, "time": {now}}, 200, `{"status":"success","data":{"resultType":"vector","result":[{"metric":{"__name__":"temp","instance":"i-1","job":"svc","quote":"a\"b\\c\n\u003cé\u003e"},"value":[` + now + `,"36.6"]}]}}`},
		{"minus infinity", "/query", url.Values{"query": {"odd"}, "time": {now}}, 200, `…"value":[` + now + `,"-Inf"]`},
		{"small", "/query", url.Values{"query": {"tiny"}, "time": {now}}, 200, `…"1e-07"`},
		{"large", "/query", url.Values{"query": {"huge"}, "time": {now}}, 200, `…"1e+21"`},
		{"rate", "/query", url.Values{"query": {"sum(rate(calls_total[5m]))"}, "time": {now}}, 200, `…"result":[{"metric":{},"value":[` + now + `,"3"]}]`},
		{"limit", "/query", url.Values{"query": {"calls_total"}, "time": {now}, "limit": {"1"}}, 200, `…"warnings":["results truncated due to limit"]`},
		{"info", "/query", url.Values{"query": {"rate(temp[5m])"}, "time": {now}}, 200, `…"infos":["PromQL info: metric might not be a counter`},
		{"stats", "/query", url.Values{"query": {"temp"}, "time": {now}, "stats": {"all"}}, 200, `…"totalQueryableSamples":1`},
		{"range", "/query_range", url.Values{"query": {`calls_total{agent="coder"}`}, "start": {unix(base.Add(-time.Minute))}, "end": {now}, "step": {"30s"}}, 200,
			`{"status":"success","data":{"resultType":"matrix","result":[{"metric":{"__name__":"calls_total","agent":"coder","instance":"i-1","job":"svc"},"values":[[` + unix(base.Add(-time.Minute)) + `,"1080"],[` + unix(base.Add(-30*time.Second)) + `,"1080"],[` + now + `,"1200"]]}]}}`},
		{"empty matrix", "/query_range", url.Values{"query": {"none"}, "start": {"0"}, "end": {"1"}, "step": {"1"}}, 200, `{"status":"success","data":{"resultType":"matrix","result":[]}}`},
		{"labels", "/labels", nil, 200, `{"status":"success","data":["__name__","agent","instance","job","quote"]}`},
		{"labels of a selector", "/labels", url.Values{"match[]": {"odd", "tiny"}}, 200, `{"status":"success","data":["__name__","instance","job"]}`},
		{"labels cut", "/labels", url.Values{"limit": {"2"}}, 200, `{"status":"success","data":["__name__","agent"],"warnings":["results truncated due to limit"]}`},
		{"values", "/label/agent/values", nil, 200, `{"status":"success","data":["coder","planner"]}`},
		{"values of two selectors", "/label/__name__/values", url.Values{"match[]": {"odd", `{agent="coder"}`}}, 200, `{"status":"success","data":["calls_total","odd"]}`},
		{"values of nothing", "/label/none/values", nil, 200, `{"status":"success","data":[]}`},
		{"series", "/series", url.Values{"match[]": {`calls_total{agent="coder"}`, "odd"}}, 200, `{"status":"success","data":[{"__name__":"calls_total","agent":"coder","instance":"i-1","job":"svc"},{"__name__":"odd","instance":"i-1","job":"svc"}]}`},
		{"series at another time", "/series", url.Values{"match[]": {"odd"}, "end": {"1000"}}, 200, `{"status":"success","data":[]}`},
		{"metadata", "/metadata", url.Values{"metric": {"calls_total"}}, 200, `{"status":"success","data":{"calls_total":[{"type":"counter","unit":"","help":"Calls made."}]}}`},
		{"metadata of nothing", "/metadata", url.Values{"metric": {"none"}}, 200, `{"status":"success","data":{}}`},
		{"rules", "/rules", nil, 200, `{"status":"success","data":{"groups":[]}}`},
		{"alerts", "/alerts", nil, 200, `{"status":"success","data":{"alerts":[]}}`},
		{"targets", "/targets", nil, 200, `…"activeTargets":[]`},
		{"build", "/status/buildinfo", nil, 200, `…"version":"3.16.0"`},
		{"format", "/format_query", url.Values{"query": {"foo/bar"}}, 200, `{"status":"success","data":"foo / bar"}`},
		{"exemplars of nothing", "/query_exemplars", url.Values{"query": {"none"}}, 200, `{"status":"success","data":[]}`},

		{"bad query", "/query", url.Values{"query": {"sum("}}, 400, `…"errorType":"bad_data","error":"invalid parameter \"query\": 1:5: parse error`},
		{"no query", "/query", nil, 400, `…"error":"invalid parameter \"query\": unknown position: parse error: no expression found in input"`},
		{"bad time", "/query", url.Values{"query": {"1"}, "time": {"soon"}}, 400, `…"error":"invalid parameter \"time\": invalid time value for 'time': cannot parse \"soon\" to a valid timestamp"`},
		{"time is NaN", "/query", url.Values{"query": {"1"}, "time": {"NaN"}}, 400, `…"bad_data"`},
		{"bad timeout", "/query", url.Values{"query": {"1"}, "timeout": {"-1s"}}, 400, `…"bad_data"`},
		{"bad limit", "/query", url.Values{"query": {"1"}, "limit": {"-1"}}, 400, `…"error":"invalid parameter \"limit\": limit must be non-negative"`},
		{"no start", "/query_range", url.Values{"query": {"1"}, "end": {"1"}, "step": {"1"}}, 400, `…"error":"invalid parameter \"start\": cannot parse \"\" to a valid timestamp"`},
		{"end before start", "/query_range", url.Values{"query": {"1"}, "start": {"2"}, "end": {"1"}, "step": {"1"}}, 400, `…end timestamp must not be before start time"`},
		{"step zero", "/query_range", url.Values{"query": {"1"}, "start": {"1"}, "end": {"2"}, "step": {"0"}}, 400, `…"error":"invalid parameter \"step\": zero or negative query resolution step widths are not accepted. Try a positive integer"`},
		{"step overflows", "/query_range", url.Values{"query": {"1"}, "start": {"1"}, "end": {"2"}, "step": {"1e30"}}, 400, `…It overflows int64"`},
		{"too many points", "/query_range", url.Values{"query": {"1"}, "start": {"0"}, "end": {"20000"}, "step": {"1"}}, 400, `…exceeded maximum resolution of 11,000 points`},
		{"range of a matrix", "/query_range", url.Values{"query": {"odd[1m]"}, "start": {"0"}, "end": {"1"}, "step": {"1"}}, 400, `…"bad_data"`},
		{"execution", "/query", url.Values{"query": {"temp * on(job) group_left calls_total"}, "time": {now}}, 422, `…"errorType":"execution"`},
		{"series without selector", "/series", nil, 400, `{"status":"error","errorType":"bad_data","error":"no match[] parameter provided"}`},
		{"selector of everything", "/series", url.Values{"match[]": {`{job=~".*"}`}}, 400, `…"bad_data"`},
		{"bad label name", "/label/%FF/values", nil, 400, `…"error":"invalid label name: \"\\xff\""`},
		{"exemplars end before start", "/query_exemplars", url.Values{"query": {"odd"}, "start": {"2"}, "end": {"1"}}, 400, `…"bad_data"`},
		{"bad format", "/format_query", url.Values{"query": {"+"}}, 400, `…"bad_data"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			methods := []string{http.MethodGet}
			switch c.path {
			case "/query", "/query_range", "/query_exemplars", "/format_query", "/series", "/labels":
				methods = append(methods, http.MethodPost)
			}
			for _, m := range methods {
				code, body := call(t, db, m, c.path, c.form)
				part, isPart := strings.CutPrefix(c.want, "…")
				if code != c.code || !isPart && body != c.want || !strings.Contains(body, part) {
					t.Errorf("%s %s:\n got %d %s\nwant %d %s", m, c.path, code, body, c.code, c.want)
				}
				if !json.Valid([]byte(body)) {
					t.Errorf("%s %s: no JSON: %s", m, c.path, body)
				}
			}
		})
	}
	if code, _ := call(t, db, http.MethodDelete, "/query", nil); code != http.StatusMethodNotAllowed {
		t.Errorf("DELETE: %d, want 405", code)
	}
	if code, _ := call(t, db, http.MethodGet, "/none", nil); code != http.StatusNotFound {
		t.Errorf("unknown path: %d, want 404", code)
	}
	big := url.Values{"query": {strings.Repeat("1+", maxFormBytes)}}
	if code, _ := call(t, db, http.MethodPost, "/query", big); code != http.StatusBadRequest {
		t.Errorf("large body: %d, want 400", code)
	}
}

func TestQueryLimits(t *testing.T) {
	t.Run("samples", func(t *testing.T) {
		db := withSamples(t, Config{MaxSamples: 10})
		code, body := call(t, db, "GET", "/query", url.Values{"query": {"calls_total[1h]"}, "time": {unix(base)}})
		if code != 422 || !contains(body, "query processing would load too many samples into memory") {
			t.Errorf("%d %s, want 422", code, body)
		}
	})
	t.Run("time", func(t *testing.T) {
		db := withSamples(t, Config{})
		code, body := call(t, db, "GET", "/query", url.Values{"query": {"sum(calls_total)"}, "timeout": {"2e-9"}})
		if code != 503 || !contains(body, `"errorType":"timeout"`) {
			t.Errorf("%d %s, want 503 timeout", code, body)
		}
	})
	t.Run("client gone", func(t *testing.T) {
		db := withSamples(t, Config{})
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		code, body := callCtx(ctx, db, "GET", "/query", url.Values{"query": {"sum(calls_total)"}})
		if code != 499 || !contains(body, `"errorType":"canceled"`) {
			t.Errorf("%d %s, want 499 canceled", code, body)
		}
	})
	t.Run("slots", func(t *testing.T) {
		db := withSamples(t, Config{MaxConcurrent: 1, QueryTimeout: 20 * time.Millisecond})
		slot, err := db.slots.Insert(t.Context(), "")
		if err != nil {
			t.Fatal(err)
		}
		for path, form := range map[string]url.Values{"/query": {"query": {"1"}}, "/labels": nil, "/series": {"match[]": {"odd"}}} {
			if code, body := call(t, db, "GET", path, form); code != 503 || !contains(body, `"errorType":"timeout"`) {
				t.Errorf("%s with every slot taken: %d %s, want 503 timeout", path, code, body)
			}
		}
		db.slots.Delete(slot)
		db.cfg.QueryTimeout = time.Minute // a busy machine has time to answer
		if code, body := call(t, db, "GET", "/labels", nil); code != 200 {
			t.Errorf("with a free slot: %d %s, want 200", code, body)
		}
	})
}

// TestOfficialClient asks with Prometheus's own client, over a socket.
func TestOfficialClient(t *testing.T) {
	db := withSamples(t, Config{Version: "1.2.3"})
	srv := httptest.NewServer(db.Handler())
	t.Cleanup(srv.Close)
	client, err := api.NewClient(api.Config{Address: srv.URL + "/prometheus"})
	if err != nil {
		t.Fatal(err)
	}
	p := v1.NewAPI(client)
	ctx := t.Context()

	got, warnings, _, err := p.Query(ctx, `calls_total{agent="coder"}`, base)
	want := model.Vector{{
		Metric: model.Metric{"__name__": "calls_total", "agent": "coder", "instance": "i-1", "job": "svc"},
		Value:  1200, Timestamp: model.TimeFromUnix(base.Unix()),
	}}
	if err != nil || warnings != nil || !reflect.DeepEqual(got, model.Value(want)) {
		t.Errorf("Query() = %v, %v, %v, want %v", got, warnings, err, want)
	}
	matrix, _, _, err := p.QueryRange(ctx, "sum(rate(calls_total[2m]))", v1.Range{Start: base.Add(-5 * time.Minute), End: base, Step: time.Minute})
	if m, ok := matrix.(model.Matrix); err != nil || !ok || len(m) != 1 || len(m[0].Values) != 6 || m[0].Values[5].Value != 3 {
		t.Errorf("QueryRange() = %v, %v", matrix, err)
	}
	names, _, _, err := p.LabelNames(ctx, nil, base.Add(-time.Hour), base)
	if err != nil || !reflect.DeepEqual(names, model.LabelNames{"__name__", "agent", "instance", "job", "quote"}) {
		t.Errorf("LabelNames() = %v, %v", names, err)
	}
	values, _, _, err := p.LabelValues(ctx, "agent", nil, base.Add(-time.Hour), base)
	if err != nil || !reflect.DeepEqual(values, model.LabelValues{"coder", "planner"}) {
		t.Errorf("LabelValues() = %v, %v", values, err)
	}
	series, _, _, err := p.Series(ctx, []string{"calls_total"}, base.Add(-time.Hour), base)
	if err != nil || len(series) != 2 {
		t.Errorf("Series() = %v, %v", series, err)
	}
	meta, err := p.Metadata(ctx, "", "")
	if err != nil || meta["calls_total"][0].Type != v1.MetricTypeCounter {
		t.Errorf("Metadata() = %v, %v", meta, err)
	}
	if info, err := p.Buildinfo(ctx); err != nil || info.Version != engineVersion || info.Revision != "1.2.3" {
		t.Errorf("Buildinfo() = %+v, %v", info, err)
	}
	if r, err := p.Rules(ctx, nil); err != nil || len(r.Groups) != 0 {
		t.Errorf("Rules() = %v, %v", r, err)
	}
	if a, err := p.Alerts(ctx); err != nil || len(a.Alerts) != 0 {
		t.Errorf("Alerts() = %v, %v", a, err)
	}
	if tg, err := p.Targets(ctx); err != nil || len(tg.Active) != 0 {
		t.Errorf("Targets() = %v, %v", tg, err)
	}
	var bad *v1.Error
	if _, _, _, err := p.Query(ctx, "sum(", base); !errors.As(err, &bad) || bad.Type != v1.ErrBadData {
		t.Errorf("bad query: %v, want bad_data", err)
	}
}

// spans is an ExemplarSource of one span for the planner's calls.
type spans struct{ err error }

func (s spans) Exemplars(_ context.Context, ms []*Matcher, _, _ time.Time) ([]ExemplarSeries, error) {
	ls := map[string]string{"__name__": "calls_total", "agent": "planner", "instance": "i-1", "job": "svc"}
	for _, m := range ms {
		if !m.Matches(ls[m.Name]) {
			return nil, s.err
		}
	}
	e := func(span string, v float64) Exemplar {
		return Exemplar{Labels: map[string]string{"trace_id": "t1", "span_id": span}, Value: v, Time: base}
	}
	return []ExemplarSeries{{Labels: ls, Exemplars: []Exemplar{e("s1", 1), e("s2", 2)}}}, s.err
}

func TestExemplarSource(t *testing.T) {
	db := open(t, Config{Exemplars: spans{}})
	md, ms := one("svc", "i-1")
	addSum(ms, "calls", cumulative, base, 1, "agent", "planner")
	x := ms.At(0).Sum().DataPoints().At(0).Exemplars().AppendEmpty()
	x.SetTimestamp(at(base))
	x.SetDoubleValue(1)
	x.FilteredAttributes().PutStr("trace_id", "t1")
	x.FilteredAttributes().PutStr("span_id", "s1")
	addSum(ms, "calls", cumulative, base, 1, "agent", "coder")
	appendOK(t, db, md)
	for range 2 { // the second time shows that nothing was added to the store's own
		_, body := call(t, db, "GET", "/query_exemplars", url.Values{"query": {"sum(rate(calls_total[1m]))"}})
		want := `{"status":"success","data":[{"seriesLabels":{"__name__":"calls_total","agent":"planner","instance":"i-1","job":"svc"},"exemplars":[` +
			fmt.Sprintf(`{"labels":{"span_id":"s1","trace_id":"t1"},"value":"1","timestamp":%d},{"labels":{"span_id":"s2","trace_id":"t1"},"value":"2","timestamp":%d}]}]}`, base.Unix(), base.Unix())
		if body != want {
			t.Errorf("exemplars:\n got %s\nwant %s", body, want)
		}
	}
	if _, body := call(t, db, "GET", "/query_exemplars", url.Values{"query": {`calls_total{agent="coder"}`}}); body != `{"status":"success","data":[]}` {
		t.Errorf("exemplars of another series: %s", body)
	}
	failing := open(t, Config{Exemplars: spans{err: errors.New("store closed")}})
	if code, body := call(t, failing, "GET", "/query_exemplars", url.Values{"query": {"x"}}); code != 422 || !contains(body, "store closed") {
		t.Errorf("failing source: %d %s", code, body)
	}
}

func TestAppendValue(t *testing.T) {
	h := &histogram.FloatHistogram{Count: 3, Sum: math.NaN(), ZeroThreshold: 0.1, ZeroCount: 1, PositiveSpans: []histogram.Span{{Offset: 1, Length: 2}}, PositiveBuckets: []float64{2, 0}}
	ls := labels.FromStrings("__name__", "h")
	for _, c := range []struct {
		name string
		v    parser.Value
		want string
	}{
		{"histogram sample", promql.Vector{{Metric: ls, T: 1500, H: h}}, `[{"metric":{"__name__":"h"},"histogram":[1.500,{"count":"3","sum":"NaN","buckets":[[3,"-0.1","0.1","1"],[0,"1","2","2"]]}]}]`},
		{"floats and histograms", promql.Matrix{{Metric: ls, Floats: []promql.FPoint{{T: 1, F: -0.5}}, Histograms: []promql.HPoint{{T: 20, H: &histogram.FloatHistogram{}}}}}, `[{"metric":{"__name__":"h"},"values":[[0.001,"-0.5"]],"histograms":[[0.020,{"count":"0","sum":"0"}]]}]`},
		{"no labels", promql.Matrix{{}}, `[{"metric":{}}]`},
	} {
		if got := string(appendValue(nil, c.v)); got != c.want {
			t.Errorf("%s:\n got %s\nwant %s", c.name, got, c.want)
		}
	}
}
