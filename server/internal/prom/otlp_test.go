package prom

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/collector/pdata/pmetric"
)

const (
	cumulative = pmetric.AggregationTemporalityCumulative
	delta      = pmetric.AggregationTemporalityDelta
)

func TestOTLPNames(t *testing.T) {
	type kind func(pmetric.Metric)
	gauge := func(m pmetric.Metric) { m.SetEmptyGauge().DataPoints().AppendEmpty().SetDoubleValue(1) }
	counter := func(m pmetric.Metric) {
		s := m.SetEmptySum()
		s.SetIsMonotonic(true)
		s.SetAggregationTemporality(cumulative)
		s.DataPoints().AppendEmpty().SetIntValue(1)
	}
	upDown := func(m pmetric.Metric) {
		counter(m)
		m.Sum().SetIsMonotonic(false)
	}
	for _, c := range []struct {
		name, unit string
		kind       kind
		want       string
	}{
		{"kaizen_model_calls_total", "", counter, "kaizen_model_calls_total"},
		{"kaizen_model_cost_usd_total", "", counter, "kaizen_model_cost_usd_total"},
		{"kaizen_telemetry_self_seconds_total", "s", counter, "kaizen_telemetry_self_seconds_total"},
		{"kaizen_agents_active", "", gauge, "kaizen_agents_active"},
		{"kaizen_audit_ledger_bytes", "By", gauge, "kaizen_audit_ledger_bytes"},
		{"gen_ai.client.inference.usage.output_tokens", "{token}", counter, "gen_ai_client_inference_usage_output_tokens_total"},
		{"gen_ai.invoke_agent.inference_calls", "{call}", upDown, "gen_ai_invoke_agent_inference_calls"},
		{"system.memory.usage", "By", upDown, "system_memory_usage_bytes"},
		{"system.cpu.utilization", "1", gauge, "system_cpu_utilization_ratio"},
		{"http.server.duration", "ms", gauge, "http_server_duration_milliseconds"},
		{"temperature", "Cel", gauge, "temperature_celsius"},
		{"requests", "1/s", gauge, "requests_per_second"},
		{"2xx.réponses", "", gauge, "_2xx_r_ponses"},
	} {
		t.Run(c.name, func(t *testing.T) {
			db := open(t, Config{})
			md, ms := one("svc", "i-1")
			m := ms.AppendEmpty()
			m.SetName(c.name)
			m.SetUnit(c.unit)
			c.kind(m) // without a time: taken as of now
			appendOK(t, db, md)
			want := fmt.Sprintf(`[{"metric":{"__name__":%q,"instance":"i-1","job":"svc"},"value":[%d,"1"]}]`, c.want, base.Unix())
			if got := result(t, db, `{job="svc"}`, base); got != want {
				t.Errorf("stored %s, want %s", got, want)
			}
		})
	}
}

func TestOTLPLabels(t *testing.T) {
	db := open(t, Config{})
	md, ms := one("agents", "")
	res := md.ResourceMetrics().At(0).Resource().Attributes()
	res.PutStr("service.namespace", "shop")
	res.PutStr("host.name", "h1")
	addGauge(ms, "g", base, 1, "gen_ai.agent.name", "planner", "a.b", "2", "a_b", "1", "empty", "", "0day", "x", "job", "not mine")
	appendOK(t, db, md)
	want := `[{"metric":{"__name__":"g","a_b":"2;1","gen_ai_agent_name":"planner","job":"shop/agents","key_0day":"x"},"value":[` + unix(base) + `,"1"]}]`
	if got := result(t, db, "g", base); got != want {
		t.Errorf("labels:\n got %s\nwant %s", got, want)
	}
	want = `[{"metric":{"__name__":"target_info","host_name":"h1","job":"shop/agents"},"value":[` + unix(base) + `,"1"]}]`
	if got := result(t, db, "target_info", base); got != want {
		t.Errorf("target_info:\n got %s\nwant %s", got, want)
	}
}

func unix(t time.Time) string { return fmt.Sprint(t.Unix()) }

func TestOTLPHistogram(t *testing.T) {
	db := open(t, Config{})
	md, ms := one("svc", "")
	m := ms.AppendEmpty()
	m.SetName("gen_ai.client.operation.duration")
	m.SetUnit("s")
	h := m.SetEmptyHistogram()
	h.SetAggregationTemporality(cumulative)
	p := h.DataPoints().AppendEmpty()
	p.SetTimestamp(at(base))
	p.ExplicitBounds().FromRaw([]float64{0.5, 1, 2.5})
	p.BucketCounts().FromRaw([]uint64{1, 2, 3, 4})
	p.SetCount(10)
	p.SetSum(42.5)
	for _, v := range []float64{2.25, 0.25, 99} {
		e := p.Exemplars().AppendEmpty()
		e.SetDoubleValue(v)
		e.SetTimestamp(at(base.Add(-time.Second)))
		e.SetTraceID([16]byte{1})
		e.SetSpanID([8]byte{byte(v)})
	}
	appendOK(t, db, md)
	const name = "gen_ai_client_operation_duration_seconds"
	for _, c := range []struct{ query, want string }{
		{name + "_count", "10"},
		{name + "_sum", "42.5"},
		{name + `_bucket{le="0.5"}`, "1"},
		{name + `_bucket{le="1"}`, "3"},
		{name + `_bucket{le="2.5"}`, "6"},
		{name + `_bucket{le="+Inf"}`, "10"},
		{"histogram_quantile(0.5, " + name + "_bucket)", "2"},
		{"count(" + name + "_bucket)", "4"},
	} {
		if got := value1(t, db, c.query, base); got != c.want {
			t.Errorf("%s = %s, want %s", c.query, got, c.want)
		}
	}
	_, body := call(t, db, "GET", "/query_exemplars", map[string][]string{"query": {name + "_bucket"}})
	for _, want := range []string{
		`"le":"0.5"},"exemplars":[{"labels":{"span_id":"0000000000000000","trace_id":"01000000000000000000000000000000"},"value":"0.25"`,
		`"le":"2.5"},"exemplars":[{"labels":{"span_id":"0200000000000000","trace_id":"01000000000000000000000000000000"},"value":"2.25"`,
		`"le":"+Inf"},"exemplars":[{"labels":{"span_id":"6300000000000000","trace_id":"01000000000000000000000000000000"},"value":"99"`,
	} {
		// A span id of zero is no id, so the first one stands without.
		want = strings.Replace(want, `"span_id":"0000000000000000",`, "", 1)
		if !strings.Contains(body, want) {
			t.Errorf("exemplars lack %s:\n%s", want, body)
		}
	}
}

func TestOTLPExponential(t *testing.T) {
	for _, c := range []struct {
		name  string
		scale int32
		set   func(pmetric.ExponentialHistogramDataPoint)
		want  string // of the buckets
	}{
		{"scale 0", 0, func(p pmetric.ExponentialHistogramDataPoint) {
			p.Positive().SetOffset(0)
			p.Positive().BucketCounts().FromRaw([]uint64{1, 0, 2, 0, 0, 0, 3}) // (1,2] (4,8] (64,128]
			p.Negative().SetOffset(-1)
			p.Negative().BucketCounts().FromRaw([]uint64{4}) // [-1,-0.5)
			p.SetZeroCount(5)
			p.SetCount(15)
		}, `[[1,"-1","-0.5","4"],[3,"-1e-128","1e-128","5"],[0,"1","2","1"],[0,"4","8","2"],[0,"64","128","3"]]`},
		{"finer than Prometheus, merged", 10, func(p pmetric.ExponentialHistogramDataPoint) {
			p.Positive().SetOffset(0)
			p.Positive().BucketCounts().FromRaw([]uint64{1, 1, 1, 1, 5}) // four make one at scale 8
			p.SetCount(9)
		}, `[[0,"1","1.0027112750502025","4"],[0,"1.0027112750502025","1.0054299011128027","5"]]`},
		{"zero threshold", 0, func(p pmetric.ExponentialHistogramDataPoint) {
			p.SetZeroThreshold(0.25)
			p.SetZeroCount(2)
			p.SetCount(2)
		}, `[[3,"-0.25","0.25","2"]]`},
	} {
		t.Run(c.name, func(t *testing.T) {
			db := open(t, Config{})
			md, ms := one("svc", "")
			m := ms.AppendEmpty()
			m.SetName("d")
			h := m.SetEmptyExponentialHistogram()
			h.SetAggregationTemporality(cumulative)
			p := h.DataPoints().AppendEmpty()
			p.SetTimestamp(at(base))
			p.SetScale(c.scale)
			p.SetSum(7)
			c.set(p)
			appendOK(t, db, md)
			want := fmt.Sprintf(`"histogram":[%d,{"count":"%d","sum":"7","buckets":%s}]`, base.Unix(), p.Count(), c.want)
			if got := result(t, db, "d", base); !strings.Contains(got, want) {
				t.Errorf("stored %s, want %s", got, want)
			}
		})
	}
}

func TestOTLPSummaryAndStale(t *testing.T) {
	db := open(t, Config{})
	md, ms := one("svc", "")
	m := ms.AppendEmpty()
	m.SetName("rpc")
	p := m.SetEmptySummary().DataPoints().AppendEmpty()
	p.SetTimestamp(at(base))
	p.SetCount(3)
	p.SetSum(9)
	q := p.QuantileValues().AppendEmpty()
	q.SetQuantile(0.99)
	q.SetValue(math.Inf(1))
	addGauge(ms, "odd", base, math.NaN())
	addGauge(ms, "gone", base, 1)
	appendOK(t, db, md)
	for _, c := range []struct{ query, want string }{
		{"rpc_count", "3"}, {"rpc_sum", "9"}, {`rpc{quantile="0.99"}`, "+Inf"}, {"odd", "NaN"}, {"gone", "1"},
	} {
		if got := value1(t, db, c.query, base); got != c.want {
			t.Errorf("%s = %q, want %q", c.query, got, c.want)
		}
	}
	md, ms = one("svc", "")
	addGauge(ms, "gone", base.Add(time.Second), 0)
	ms.At(0).Gauge().DataPoints().At(0).SetFlags(pmetric.DefaultDataPointFlags.WithNoRecordedValue(true))
	appendOK(t, db, md)
	if got := value1(t, db, "gone", base.Add(2*time.Second)); got != "" {
		t.Errorf("after the end of the series: %s, want nothing", got)
	}
}

// TestOTLPRefusals has one bad point beside a good one, so that it also shows
// that a bad point takes none with it.
func TestOTLPRefusals(t *testing.T) {
	hist := func(f func(pmetric.HistogramDataPoint)) func(pmetric.Metric) {
		return func(m pmetric.Metric) {
			h := m.SetEmptyHistogram()
			h.SetAggregationTemporality(cumulative)
			p := h.DataPoints().AppendEmpty()
			p.SetTimestamp(at(base))
			f(p)
		}
	}
	exp := func(f func(pmetric.ExponentialHistogramDataPoint)) func(pmetric.Metric) {
		return func(m pmetric.Metric) {
			h := m.SetEmptyExponentialHistogram()
			h.SetAggregationTemporality(cumulative)
			p := h.DataPoints().AppendEmpty()
			p.SetTimestamp(at(base))
			f(p)
		}
	}
	gauge := func(f func(pmetric.NumberDataPoint)) func(pmetric.Metric) {
		return func(m pmetric.Metric) {
			p := m.SetEmptyGauge().DataPoints().AppendEmpty()
			p.SetTimestamp(at(base))
			p.SetDoubleValue(1)
			f(p)
		}
	}
	for _, c := range []struct {
		name string
		set  func(pmetric.Metric)
		why  reason
	}{
		{"no value", func(m pmetric.Metric) { m.SetEmptyGauge().DataPoints().AppendEmpty() }, reasonInvalid},
		{"no temporality", func(m pmetric.Metric) { m.SetEmptySum().DataPoints().AppendEmpty().SetIntValue(1) }, reasonInvalid},
		{"name of underscores", gauge(func(pmetric.NumberDataPoint) {}), reasonInvalid},
		{"counts do not fit bounds", hist(func(p pmetric.HistogramDataPoint) {
			p.ExplicitBounds().FromRaw([]float64{1})
			p.BucketCounts().FromRaw([]uint64{1})
		}), reasonInvalid},
		{"bounds fall", hist(func(p pmetric.HistogramDataPoint) {
			p.ExplicitBounds().FromRaw([]float64{2, 1})
			p.BucketCounts().FromRaw([]uint64{1, 1, 1})
		}), reasonInvalid},
		{"bound is NaN", hist(func(p pmetric.HistogramDataPoint) {
			p.ExplicitBounds().FromRaw([]float64{math.NaN()})
			p.BucketCounts().FromRaw([]uint64{1, 1})
		}), reasonInvalid},
		{"too many buckets", hist(func(p pmetric.HistogramDataPoint) {
			p.ExplicitBounds().FromRaw(make([]float64, maxClassicBuckets+1))
			p.BucketCounts().FromRaw(make([]uint64, maxClassicBuckets+2))
		}), reasonInvalid},
		{"scale too coarse", exp(func(p pmetric.ExponentialHistogramDataPoint) { p.SetScale(-5) }), reasonInvalid},
		{"count is not the buckets' sum", exp(func(p pmetric.ExponentialHistogramDataPoint) { p.SetCount(3) }), reasonInvalid},
		{"index beyond reach", exp(func(p pmetric.ExponentialHistogramDataPoint) {
			p.Positive().SetOffset(math.MaxInt32)
			p.Positive().BucketCounts().FromRaw([]uint64{1, 1})
			p.SetCount(2)
		}), reasonInvalid},
		{"counts overflow", exp(func(p pmetric.ExponentialHistogramDataPoint) {
			p.Positive().BucketCounts().FromRaw([]uint64{math.MaxUint64, 1})
		}), reasonInvalid},
		{"quantile is no fraction", func(m pmetric.Metric) {
			p := m.SetEmptySummary().DataPoints().AppendEmpty()
			p.SetTimestamp(at(base))
			p.QuantileValues().AppendEmpty().SetQuantile(1.5)
		}, reasonInvalid},
		{"future", gauge(func(p pmetric.NumberDataPoint) { p.SetTimestamp(at(base.Add(time.Hour))) }), reasonFuture},
		{"year 2554", gauge(func(p pmetric.NumberDataPoint) { p.SetTimestamp(math.MaxUint64) }), reasonFuture},
		{"before the retention", gauge(func(p pmetric.NumberDataPoint) { p.SetTimestamp(at(base.AddDate(0, 0, -31))) }), reasonTooOld},
		{"label value too long", gauge(func(p pmetric.NumberDataPoint) {
			p.Attributes().PutStr("prompt", strings.Repeat("x", maxLabelValueBytes+1))
		}), reasonLabelLimit},
		{"too many labels", gauge(func(p pmetric.NumberDataPoint) {
			for i := range maxLabels {
				p.Attributes().PutInt(fmt.Sprint("l", i), 1)
			}
		}), reasonLabelLimit},
		{"not UTF-8", gauge(func(p pmetric.NumberDataPoint) { p.Attributes().PutStr("a", "\xff") }), reasonInvalid},
	} {
		t.Run(c.name, func(t *testing.T) {
			db := open(t, Config{})
			md, ms := one("svc", "")
			bad := ms.AppendEmpty()
			bad.SetName("bad")
			if c.name == "name of underscores" {
				bad.SetName("___")
			}
			c.set(bad)
			addGauge(ms, "good", base, 1)
			n, err := db.AppendMetrics(t.Context(), md)
			if n != 1 || err != nil {
				t.Fatalf("AppendMetrics() = %d, %v, want 1, nil", n, err)
			}
			if got := droppedCount(t, db, c.why); got != 1 {
				t.Errorf("dropped for %s: %v, want 1", c.why, got)
			}
			if got := value1(t, db, "good", base); got != "1" {
				t.Errorf("good = %q, want 1", got)
			}
			if got := result(t, db, `{__name__=~"bad.*"}`, base); got != "[]" {
				t.Errorf("bad was stored: %s", got)
			}
		})
	}
}

func TestDuplicatesAndOrder(t *testing.T) {
	db := open(t, Config{})
	send := func(v float64, times ...time.Time) int {
		t.Helper()
		md, ms := one("svc", "")
		for _, when := range times {
			addGauge(ms, "g", when, v)
		}
		n, err := db.AppendMetrics(t.Context(), md)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	for _, c := range []struct {
		name  string
		v     float64
		times []time.Time
		want  int
	}{
		{"first", 1, []time.Time{base}, 0},
		{"exact duplicate of the newest", 1, []time.Time{base}, 0},
		{"conflict with the newest", 2, []time.Time{base}, 1},
		{"older, within the window", 3, []time.Time{base.Add(-30 * time.Minute)}, 0},
		{"exact duplicate of an older one", 3, []time.Time{base.Add(-30 * time.Minute)}, 0},
		{"conflict with an older one", 4, []time.Time{base.Add(-30 * time.Minute)}, 1},
		{"older than the window", 5, []time.Time{base.Add(-2 * time.Hour)}, 1},
		{"twice in one request", 6, []time.Time{base.Add(time.Second), base.Add(time.Second)}, 0},
		{"falling times in one request", 7, []time.Time{base.Add(3 * time.Second), base.Add(2 * time.Second)}, 0},
	} {
		if got := send(c.v, c.times...); got != c.want {
			t.Errorf("%s: rejected %d, want %d", c.name, got, c.want)
		}
	}
	md, ms := one("svc", "")
	addGauge(ms, "g", base.Add(4*time.Second), 8)
	addGauge(ms, "g", base.Add(4*time.Second), 9)
	if n, err := db.AppendMetrics(t.Context(), md); n != 1 || err != nil {
		t.Errorf("two values at one time in one request: rejected %d, %v, want 1", n, err)
	}
	want := `[{"metric":{"__name__":"g","job":"svc"},"values":[` + strings.Join([]string{
		`[` + unix(base.Add(-30*time.Minute)) + `,"3"]`, `[` + unix(base) + `,"1"]`,
		`[` + unix(base.Add(1*time.Second)) + `,"6"]`, `[` + unix(base.Add(2*time.Second)) + `,"7"]`,
		`[` + unix(base.Add(3*time.Second)) + `,"7"]`, `[` + unix(base.Add(4*time.Second)) + `,"8"]`,
	}, ",") + `]}]`
	if got := result(t, db, "g[2h]", base.Add(time.Minute)); got != want {
		t.Errorf("stored:\n got %s\nwant %s", got, want)
	}
	if d := droppedCount(t, db, reasonDuplicate); d != 3 {
		t.Errorf("duplicates counted: %v, want 3", d)
	}
}

func TestSeriesLimit(t *testing.T) {
	db := open(t, Config{MaxSeries: 5})
	md, ms := one("svc", "")
	for i := range 8 {
		addGauge(ms, "g", base, 1, "i", fmt.Sprint(i))
	}
	n, err := db.AppendMetrics(t.Context(), md)
	if n != 3 || err != nil || db.SeriesCount() != 5 {
		t.Fatalf("rejected %d, %v, %d series, want 3, nil, 5", n, err, db.SeriesCount())
	}
	// Those that exist go on; a histogram is taken whole or not at all.
	md, ms = one("svc", "")
	addGauge(ms, "g", base.Add(time.Second), 2, "i", "0")
	h := ms.AppendEmpty()
	h.SetName("h")
	h.SetEmptyHistogram().SetAggregationTemporality(cumulative)
	p := h.Histogram().DataPoints().AppendEmpty()
	p.SetTimestamp(at(base))
	p.SetCount(1)
	if n, err := db.AppendMetrics(t.Context(), md); n != 1 || err != nil || db.SeriesCount() != 5 {
		t.Errorf("rejected %d, %v, %d series, want 1, nil, 5", n, err, db.SeriesCount())
	}
	if d := droppedCount(t, db, reasonSeriesLimit); d != 4 {
		t.Errorf("counted %v, want 4", d)
	}
}

func TestOTLPEmpty(t *testing.T) {
	db := open(t, Config{})
	md, ms := one("svc", "")
	ms.AppendEmpty().SetName("nothing")
	md.ResourceMetrics().AppendEmpty()
	appendOK(t, db, md)
	appendOK(t, db, pmetric.NewMetrics())
	if n := db.SeriesCount(); n != 0 {
		t.Errorf("%d series, want 0", n)
	}
}
