package prom

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/s2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/prompb"

	dto "github.com/prometheus/client_model/go"
)

// realPrometheus starts the prometheus command, scraping target, and returns its
// address. Without the command the test is skipped, which CI forbids.
func realPrometheus(t *testing.T, target string) string {
	t.Helper()
	path, err := exec.LookPath("prometheus")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("prometheus is not installed")
		}
		t.Skip("prometheus is not installed: no comparison with the real one")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	conf := filepath.Join(dir, "prometheus.yml")
	text := fmt.Sprintf("scrape_configs: [{job_name: scraped, scrape_interval: 1s, static_configs: [{targets: [%q]}]}]", target)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var log bytes.Buffer
	cmd := exec.CommandContext(ctx, path, "--config.file="+conf, "--storage.tsdb.path="+filepath.Join(dir, "data"),
		"--web.listen-address="+addr, "--web.enable-remote-write-receiver", "--enable-feature=native-histograms,exemplar-storage")
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		_ = cmd.Wait() // it was killed: the error says so
		if t.Failed() {
			t.Logf("prometheus said:\n%s", log.String())
		}
	})
	until(t, func() bool {
		res, err := http.Get("http://" + addr + "/-/ready")
		if err != nil {
			return false
		}
		return res.Body.Close() == nil && res.StatusCode == http.StatusOK
	})
	return addr
}

// until asks another process again and again; it cannot tell by itself.
func until(t *testing.T, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	deadline := time.NewTimer(3 * time.Minute)
	defer deadline.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatal("waited for a minute in vain")
		}
	}
}

// workload is half an hour of samples as a sender would push them: counters that
// reset, gauges with gaps and odd values, classic and native histograms.
func workload(start time.Time) []byte {
	var req prompb.WriteRequest
	series := func(ls ...string) *prompb.TimeSeries {
		var s prompb.TimeSeries
		for i := 0; i < len(ls); i += 2 {
			s.Labels = append(s.Labels, prompb.Label{Name: ls[i], Value: ls[i+1]})
		}
		req.Timeseries = append(req.Timeseries, s)
		return &req.Timeseries[len(req.Timeseries)-1]
	}
	each := func(f func(i int, ms int64)) {
		for i := range 121 { // every 15 s, off the whole seconds that queries ask for
			f(i, start.Add(time.Duration(i)*15*time.Second).UnixMilli()+137)
		}
	}
	for a, agent := range []string{"coder", "planner", "critic"} {
		s := series("__name__", "calls_total", "agent", agent, "job", "svc")
		each(func(i int, ms int64) { // resets at 70
			s.Samples = append(s.Samples, prompb.Sample{Value: float64((i % 70) * (a + 1) * 3), Timestamp: ms})
		})
		s = series("__name__", "load", "agent", agent, "job", "svc")
		each(func(i int, ms int64) {
			if a == 2 && i > 40 && i < 90 {
				return // longer than a query looks back
			}
			s.Samples = append(s.Samples, prompb.Sample{Value: math.Sin(float64(i)/7) * float64(a+1) / 3, Timestamp: ms})
		})
		for b, le := range []string{"0.1", "0.5", "2", "+Inf"} {
			s = series("__name__", "took_bucket", "agent", agent, "job", "svc", "le", le)
			each(func(i int, ms int64) {
				s.Samples = append(s.Samples, prompb.Sample{Value: float64(i * (a + 1) * (b + 1)), Timestamp: ms})
			})
		}
	}
	odd := series("__name__", "odd", "job", "svc")
	for i, v := range []float64{math.NaN(), math.Inf(1), math.Inf(-1), 1e-300, 1e300, 0.1, math.Copysign(0, -1), 123456789.123} {
		odd.Samples = append(odd.Samples, prompb.Sample{Value: v, Timestamp: start.Add(time.Duration(i)*time.Minute).UnixMilli() + 137})
	}
	native := series("__name__", "native", "job", "svc")
	each(func(i int, ms int64) {
		n := int64(i + 1)
		native.Histograms = append(native.Histograms, prompb.FromIntHistogram(ms, &histogram.Histogram{
			Schema: 1, Count: uint64(4 * n), Sum: float64(n) * 5.5, ZeroThreshold: 0.001, ZeroCount: uint64(n),
			PositiveSpans: []histogram.Span{{Offset: 0, Length: 2}, {Offset: 3, Length: 1}}, PositiveBuckets: []int64{n, 0, 0},
		}))
	})
	b, err := req.Marshal()
	if err != nil {
		panic(err)
	}
	return b
}

// exposition is what the scraped target serves; its times are explicit, so that
// both sides store the same.
func exposition(ms int64) string {
	return strings.NewReplacer("@", strconv.FormatInt(ms, 10)).Replace(`# HELP scraped_seconds Time taken.
# TYPE scraped_seconds histogram
scraped_seconds_bucket{path="/a",le="0.25"} 3 @
scraped_seconds_bucket{path="/a",le="1"} 5 @
scraped_seconds_bucket{path="/a",le="+Inf"} 6 @
scraped_seconds_sum{path="/a"} 4.75 @
scraped_seconds_count{path="/a"} 6 @
# HELP scraped_total Things.
# TYPE scraped_total counter
scraped_total{job="inner",quote="a\"b\\c\nd"} 1.5e+06 @
# TYPE scraped_summary summary
scraped_summary{quantile="0.5"} NaN @
scraped_summary_sum 0 @
scraped_summary_count 0 @
# TYPE scraped_untyped untyped
scraped_untyped -Inf @
`)
}

// TestAgainstRealPrometheus gives the same samples to the prometheus command and
// to us, and compares the answers. Queries avoid what 3.x defines differently
// from 2.x: windows that begin exactly at a sample, quantiles within a native
// bucket (linear then, exponential now), and warnings.
func TestAgainstRealPrometheus(t *testing.T) {
	end := time.Now().Truncate(time.Minute)
	start := end.Add(-30 * time.Minute)
	text := exposition(end.Add(-90 * time.Second).UnixMilli())
	target := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; version=0.0.4")
		if _, err := io.WriteString(w, text); err != nil {
			t.Errorf("serve target: %v", err)
		}
	}))
	t.Cleanup(target.Close)
	instance := strings.TrimPrefix(target.URL, "http://")
	real := "http://" + realPrometheus(t, instance)

	db := open(t, Config{now: time.Now})
	ours := httptest.NewServer(db.Handler())
	t.Cleanup(ours.Close)
	msg := workload(start)
	for _, base := range []string{real, ours.URL + "/prometheus"} {
		res, err := http.Post(base+"/api/v1/write", "application/x-protobuf", bytes.NewReader(s2.EncodeSnappy(nil, msg)))
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(res.Body)
		if err := res.Body.Close(); err != nil || res.StatusCode != http.StatusNoContent {
			t.Fatalf("write to %s: %s %s (%v)", base, res.Status, body, err)
		}
	}
	g := prometheus.GathererFunc(func() ([]*dto.MetricFamily, error) {
		p := expfmt.NewTextParser(model.UTF8Validation)
		families, err := p.TextToMetricFamilies(strings.NewReader(text))
		var list []*dto.MetricFamily
		for _, f := range families {
			list = append(list, f)
		}
		return list, err
	})
	if err := newScrape(db, g, map[string]string{"job": "scraped", "instance": instance}).scrape(t.Context(), time.Now()); err != nil {
		t.Fatal(err)
	}
	until(t, func() bool {
		_, a := fetch(t, real, "/query", url.Values{"query": {"scraped_untyped"}, "time": {unix(end)}})
		return strings.Contains(a, "-Inf")
	})
	for _, c := range comparisons(start, end) {
		t.Run(c.path+"?"+c.form.Get("query")+c.form.Get("match[]"), func(t *testing.T) {
			wantCode, want := fetch(t, real, c.path, c.form)
			gotCode, got := fetch(t, ours.URL+"/prometheus", c.path, c.form)
			if gotCode != wantCode {
				t.Fatalf("status %d, Prometheus %d:\n%s\n%s", gotCode, wantCode, got, want)
			}
			if diff := differ("", canonical(t, got), canonical(t, want)); diff != "" {
				t.Errorf("differs at %s\n    ours %s\nPrometheus %s", diff, got, want)
			}
		})
	}
}

type comparison struct {
	path string
	form url.Values
}

func comparisons(start, end time.Time) []comparison {
	var list []comparison
	for _, q := range []string{
		"calls_total", `calls_total{agent!="coder"}`, `{agent=~"c.*",__name__="load"}`, "calls_total offset 10m", "load @ " + unix(start.Add(5*time.Minute)),
		"rate(calls_total[5m])", "increase(calls_total[7m])", "irate(calls_total[1m])", "delta(load[3m])", "idelta(load[3m])", "deriv(load[4m])", "predict_linear(load[4m], 600)",
		"resets(calls_total[20m])", "changes(load[5m])", "sum by (agent) (rate(calls_total[5m]))", "sum without (agent, le) (took_bucket)", "avg(load)", "stddev(load)", "stdvar(load)",
		"min(load)", "max by (job) (load)", "count(load)", "count_values(\"v\", calls_total)", "topk(2, load)", "bottomk(1, load)", "quantile(0.3, load)", "group(load)",
		"histogram_quantile(0.9, rate(took_bucket[5m]))", "histogram_quantile(0.5, sum by (le) (took_bucket))", "histogram_quantile(2, took_bucket)",
		"avg_over_time(load[5m])", "sum_over_time(load[5m])", "min_over_time(load[5m])", "max_over_time(load[5m])", "count_over_time(load[5m])", "quantile_over_time(0.9, load[5m])",
		"stddev_over_time(load[5m])", "last_over_time(load[5m])", "present_over_time(load[5m])", "absent(load)", "absent(none{a=\"b\"})", "absent_over_time(none[5m])",
		"load[1m]", "max_over_time(rate(calls_total[2m])[10m:1m])", "calls_total / on (agent) group_left load", "calls_total and on (agent) (load > 0)", "calls_total or load", "calls_total unless load",
		"load > 0", "load > bool 0", "-load", "load ^ 2 % 3", "abs(load)", "ceil(load)", "floor(load)", "round(load, 0.1)", "clamp(load, -0.1, 0.1)", "exp(load)", "ln(load)", "sqrt(load)", "sgn(load)",
		"sort_desc(load)", "label_replace(load, \"x\", \"$1\", \"agent\", \"(.).*\")", "label_join(load, \"y\", \"-\", \"agent\", \"job\")", "time()", "vector(1)", "scalar(vector(2))", `"text"`,
		"hour(vector(" + unix(end) + "))", "timestamp(load)", "odd", "odd[30m]", "native", "rate(native[5m])", "histogram_count(native)", "histogram_sum(native)",
		"native[1m]", "sum(native)", `{job="scraped"}`, "scraped_seconds_bucket", "histogram_quantile(0.5, scraped_seconds_bucket)", "scraped_total", "scraped_summary", `{exported_job="inner"}`,
		"sum(", "rate(load)", "load[5m]offset", "none(load)", "calls_total * load", "load * on (job) calls_total", "1 +", "", "histogram_quantile(load)",
	} {
		for _, when := range []time.Time{end.Add(-10 * time.Minute), end.Add(-time.Minute), start.Add(time.Minute)} {
			list = append(list, comparison{"/query", url.Values{"query": {q}, "time": {unix(when)}}})
		}
		list = append(list, comparison{"/query_range", url.Values{"query": {q}, "start": {unix(start)}, "end": {unix(end)}, "step": {"47"}}})
	}
	window := url.Values{"start": {unix(start)}, "end": {unix(end)}}
	with := func(k string, v ...string) url.Values {
		f := url.Values{"start": window["start"], "end": window["end"]}
		f[k] = v
		return f
	}
	return append(list,
		comparison{"/series", with("match[]", "calls_total", `{agent="coder"}`)}, comparison{"/series", with("match[]", "none")}, comparison{"/series", window},
		comparison{"/series", with("match[]", "{}")}, comparison{"/labels", with("match[]", "calls_total")}, comparison{"/labels", with("match[]", "sum(")},
		comparison{"/label/agent/values", window}, comparison{"/label/le/values", with("match[]", "took_bucket")}, comparison{"/label/none/values", window},
		comparison{"/query", url.Values{"query": {"1"}, "time": {"x"}}}, comparison{"/query_range", url.Values{"query": {"1"}, "start": {"1"}, "end": {"0"}, "step": {"1"}}},
		comparison{"/query_range", url.Values{"query": {"1"}, "start": {"0"}, "end": {"99999"}, "step": {"1"}}}, comparison{"/query_range", url.Values{"query": {"1"}, "start": {"0"}, "end": {"9"}, "step": {"-1"}}},
		comparison{"/metadata", url.Values{"metric": {"scraped_seconds"}}}, comparison{"/format_query", url.Values{"query": {"sum by(a)(rate(x[5m]))"}}},
		comparison{"/rules", nil}, comparison{"/alerts", nil}, comparison{"/query_exemplars", with("query", "none")},
	)
}

func fetch(t *testing.T, base, path string, form url.Values) (int, string) {
	t.Helper()
	res, err := http.Get(base + "/api/v1" + path + "?" + form.Encode())
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(res.Body)
	if cerr := res.Body.Close(); err != nil || cerr != nil {
		t.Fatal(err, cerr)
	}
	return res.StatusCode, string(body)
}

// canonical parses an answer and leaves out what may differ: the text of errors,
// warnings and infos. The order of a vector is not defined.
func canonical(t *testing.T, body string) any {
	t.Helper()
	var a map[string]any
	d := json.NewDecoder(strings.NewReader(body))
	d.UseNumber()
	if err := d.Decode(&a); err != nil {
		t.Fatalf("%v: %s", err, body)
	}
	delete(a, "error")
	delete(a, "warnings")
	delete(a, "infos")
	if data, ok := a["data"].(map[string]any); ok {
		if list, ok := data["result"].([]any); ok && data["resultType"] != "scalar" && data["resultType"] != "string" {
			key := func(v any) string {
				m, _ := json.Marshal(v.(map[string]any)["metric"])
				return string(m)
			}
			slices.SortStableFunc(list, func(a, b any) int { return strings.Compare(key(a), key(b)) })
		}
	}
	return a
}

// differ returns where two answers differ, "" if they do not. Numbers may
// differ in the last digits: the releases sum with and without compensation.
func differ(at string, a, b any) string {
	switch x := a.(type) {
	case map[string]any:
		y, ok := b.(map[string]any)
		if !ok || len(x) != len(y) {
			return at + " (keys)"
		}
		for k := range x {
			if d := differ(at+"."+k, x[k], y[k]); d != "" {
				return d
			}
		}
		return ""
	case []any:
		y, ok := b.([]any)
		if !ok || len(x) != len(y) {
			return at + " (length)"
		}
		for i := range x {
			if d := differ(fmt.Sprintf("%s[%d]", at, i), x[i], y[i]); d != "" {
				return d
			}
		}
		return ""
	}
	s, t := fmt.Sprint(a), fmt.Sprint(b)
	if s == t {
		return ""
	}
	f, err1 := strconv.ParseFloat(s, 64)
	g, err2 := strconv.ParseFloat(t, 64)
	if err1 == nil && err2 == nil && math.Abs(f-g) <= 1e-9*max(math.Abs(f), math.Abs(g), 1e-6) {
		return ""
	}
	return fmt.Sprintf("%s: %s, Prometheus %s", at, s, t)
}
