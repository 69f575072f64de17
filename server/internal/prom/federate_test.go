package prom

import (
	"net/http"
	"net/http/httptest"
	"os/exec"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"
)

// pushOne sends a counter, a gauge and a histogram of one process.
func pushOne(t *testing.T, db *DB, instance string, started, at time.Time, n int64) {
	t.Helper()
	md, ms := one("svc", instance)
	md.ResourceMetrics().At(0).Resource().Attributes().PutStr("host.name", "h")
	stamp := func(p interface {
		SetStartTimestamp(pcommon.Timestamp)
		SetTimestamp(pcommon.Timestamp)
	}) {
		p.SetStartTimestamp(pcommon.NewTimestampFromTime(started))
		p.SetTimestamp(pcommon.NewTimestampFromTime(at))
	}
	m := ms.AppendEmpty()
	m.SetName("kaizen_tool_calls_total")
	m.SetDescription("Tool calls that ended.")
	s := m.SetEmptySum()
	s.SetIsMonotonic(true)
	s.SetAggregationTemporality(pmetric.AggregationTemporalityCumulative)
	p := s.DataPoints().AppendEmpty()
	p.SetIntValue(n)
	stamp(p)
	m = ms.AppendEmpty()
	m.SetName("kaizen_agents_active")
	m.SetDescription("Agent runs under way.")
	g := m.SetEmptyGauge().DataPoints().AppendEmpty()
	g.SetIntValue(n)
	stamp(g)
	m = ms.AppendEmpty()
	m.SetName("kaizen_tool_call_duration_seconds")
	m.SetDescription("Duration of tool calls.")
	h := m.SetEmptyHistogram()
	h.SetAggregationTemporality(pmetric.AggregationTemporalityCumulative)
	hp := h.DataPoints().AppendEmpty()
	hp.ExplicitBounds().FromRaw([]float64{0.1, 1})
	hp.BucketCounts().FromRaw([]uint64{uint64(n), 0, 0})
	hp.SetCount(uint64(n))
	hp.SetSum(float64(n) / 100)
	stamp(hp)
	if rejected, err := db.AppendMetrics(t.Context(), md); err != nil || rejected != 0 {
		t.Fatalf("AppendMetrics = %d, %v", rejected, err)
	}
}

func scrapePage(t *testing.T, h http.Handler, agent string) string {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics/agents", nil)
	r.Header.Set("User-Agent", agent)
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	if w.Code != http.StatusOK {
		t.Fatalf("GET = %d: %s", w.Code, w.Body)
	}
	return w.Body.String()
}

// A process that lived for a moment is seen to have counted: in the store from
// zero, and by each scraper of the page too.
func TestFederation(t *testing.T) {
	clk := newClock(base)
	db := open(t, Config{now: clk.now})
	page := db.Federation(map[string]string{"job": "kaizen"})
	scrapePage(t, page, "a")
	scrapePage(t, page, "b")
	clk.set(base.Add(10 * time.Second))
	pushOne(t, db, "i-1", base.Add(2*time.Second), base.Add(9*time.Second), 20)

	rise := result(t, db, `kaizen_tool_calls_total - min_over_time(kaizen_tool_calls_total[1m])`, clk.now())
	if !strings.Contains(rise, `"20"`) {
		t.Errorf("rise in the store = %s, want 20", rise)
	}
	labels := `{instance="i-1",job="svc"}`
	for _, scraper := range []string{"a", "b"} {
		first, second := scrapePage(t, page, scraper), scrapePage(t, page, scraper)
		for _, w := range []struct{ when, text, line string }{
			{"first", first, "kaizen_tool_calls_total" + labels + " 0\n"},
			{"first", first, "kaizen_tool_call_duration_seconds_count" + labels + " 0\n"},
			{"first", first, "kaizen_agents_active" + labels + " 20\n"},
			{"second", second, "kaizen_tool_calls_total" + labels + " 20\n"},
			{"second", second, `kaizen_tool_call_duration_seconds_bucket{instance="i-1",job="svc",le="0.1"} 20` + "\n"},
			{"second", second, "# TYPE kaizen_tool_call_duration_seconds histogram\n"},
			{"second", second, "# HELP kaizen_tool_calls_total Tool calls that ended.\n"},
			{"second", second, `target_info{host_name="h",instance="i-1",job="svc"} 1` + "\n"},
		} {
			if !strings.Contains(w.text, w.line) {
				t.Errorf("%s scrape of %s lacks %q:\n%s", w.when, scraper, w.line, w.text)
			}
		}
	}
	lint(t, scrapePage(t, page, "a"))
	clk.set(base.Add(10 * time.Minute))
	if text := scrapePage(t, page, "a"); text != "" {
		t.Errorf("ten minutes after the last sample the page shows\n%s", text)
	}
}

// lint asks Prometheus's own linter, where there is one.
func lint(t *testing.T, text string) {
	t.Helper()
	if _, err := exec.LookPath("promtool"); err != nil {
		t.Logf("promtool is not here: %v", err)
		return
	}
	cmd := exec.CommandContext(t.Context(), "promtool", "check", "metrics")
	cmd.Stdin = strings.NewReader(text)
	if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("promtool check metrics: %v\n%s", err, out)
	}
}

// What is not known to be new is not given a beginning.
func TestBornOnlyWhenKnown(t *testing.T) {
	for _, c := range []struct {
		name    string
		started time.Time
		before  bool // the process has sent before
		want    string
	}{
		{"young process", base.Add(-30 * time.Second), false, `"20"`},
		{"old process, first heard of", base.Add(-time.Hour), false, `"0"`},
		{"old process that has sent before", base.Add(-time.Hour), true, `"20"`},
		{"starts with its sample", base, false, `"0"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			clk := newClock(base)
			db := open(t, Config{now: clk.now})
			if c.before {
				md, ms := one("svc", "i-1")
				md.ResourceMetrics().At(0).Resource().Attributes().PutStr("host.name", "h")
				m := ms.AppendEmpty()
				m.SetName("other")
				p := m.SetEmptyGauge().DataPoints().AppendEmpty()
				p.SetIntValue(1)
				p.SetTimestamp(pcommon.NewTimestampFromTime(base.Add(-10 * time.Second)))
				if _, err := db.AppendMetrics(t.Context(), md); err != nil {
					t.Fatal(err)
				}
			}
			pushOne(t, db, "i-1", c.started, base, 20)
			got := result(t, db, `kaizen_tool_calls_total - min_over_time(kaizen_tool_calls_total[2m])`, base)
			if !strings.Contains(got, c.want) {
				t.Errorf("rise = %s, want %s", got, c.want)
			}
		})
	}
}
