package metrics

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/trace"
)

func get(t *testing.T, h http.Handler, accept string) string {
	t.Helper()
	r := httptest.NewRequest(http.MethodGet, "/metrics", nil)
	r.Header.Set("Accept", accept)
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	if w.Code != http.StatusOK {
		t.Fatalf("GET /metrics = %d: %s", w.Code, w.Body)
	}
	return w.Body.String()
}

func TestOpenMetricsExemplars(t *testing.T) {
	m := newMetrics(t, Config{})
	sc := trace.NewSpanContext(trace.SpanContextConfig{TraceID: [16]byte{0xab}, SpanID: [8]byte{0xcd}, TraceFlags: trace.FlagsSampled})
	ex := ExemplarFrom(trace.ContextWithSpanContext(t.Context(), sc))
	ex.UnixNano = time.Unix(1700000000, 0).UnixNano()
	m.Add(AgentRuns, 1, ex, "planner", "ok")
	m.Observe(AgentRunIterations, 4, ex, "planner")
	m.Observe(AgentRunIterations, 5000, ex, "planner") // +Inf
	page := get(t, m.Handler(HandlerConfig{}), "application/openmetrics-text;version=1.0.0")
	const ids = ` # {span_id="cd00000000000000",trace_id="ab000000000000000000000000000000"} `
	for _, want := range []string{
		`kaizen_agent_runs_total{agent="planner",status="ok"} 1.0` + ids + `1.0 1.7e+09`,
		`kaizen_agent_run_iterations_bucket{agent="planner",le="5.0"} 1` + ids + `4.0 1.7e+09`,
		`kaizen_agent_run_iterations_bucket{agent="planner",le="+Inf"} 2` + ids + `5000.0 1.7e+09`,
		"# TYPE kaizen_agent_runs counter\n",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %s\n%s", want, page)
		}
	}
	if !strings.HasSuffix(page, "# EOF\n") {
		t.Error("the page does not end in # EOF")
	}
	if text := get(t, m.Handler(HandlerConfig{}), "text/plain"); strings.Contains(text, "trace_id") || !strings.HasSuffix(text, "\n") {
		t.Errorf("text format:\n%s", text)
	}
	all, err := m.Gatherer().Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, mf := range all {
		if mf.GetName() == "kaizen_agent_run_iterations" && len(mf.Metric[0].Histogram.Exemplars) != 2 {
			t.Errorf("native exemplars: %v", mf.Metric[0].Histogram.Exemplars)
		}
	}
}

func TestExemplarFrom(t *testing.T) {
	unsampled := trace.NewSpanContext(trace.SpanContextConfig{TraceID: [16]byte{1}, SpanID: [8]byte{1}})
	for name, ctx := range map[string]context.Context{
		"no span":   t.Context(),
		"unsampled": trace.ContextWithSpanContext(t.Context(), unsampled),
	} {
		if ex := ExemplarFrom(ctx); ex != (Exemplar{}) {
			t.Errorf("%s: %v", name, ex)
		}
	}
}

// TestEscaping reads the page with a strict parser for one line.
func TestEscaping(t *testing.T) {
	m := newMetrics(t, Config{})
	m.Count(Plans, "a\"b\\c\nd", "ok")
	page := get(t, m.Handler(HandlerConfig{}), "text/plain")
	if !strings.Contains(page, `kaizen_plans_total{agent="a\"b\\c\nd",status="ok"} 1`+"\n") {
		t.Errorf("the page is\n%s", page)
	}
	for l := range strings.Lines(page) {
		if !pageLine.MatchString(strings.TrimSuffix(l, "\n")) {
			t.Errorf("line %q", l)
		}
	}
}

func TestHandlerGuards(t *testing.T) {
	prefixes := func(p ...string) (out []netip.Prefix) {
		for _, s := range p {
			out = append(out, netip.MustParsePrefix(s))
		}
		return out
	}
	const key = "correct horse battery staple"
	tests := []struct {
		name   string
		cfg    HandlerConfig
		method string
		from   string
		header map[string]string
		want   int
	}{
		{name: "open", from: "192.0.2.1:1", want: 200},
		{name: "POST", method: http.MethodPost, from: "192.0.2.1:1", want: 405},
		{name: "no key", cfg: HandlerConfig{BearerKey: key}, from: "192.0.2.1:1", want: 401},
		{name: "wrong key", cfg: HandlerConfig{BearerKey: key}, from: "192.0.2.1:1", header: map[string]string{"Authorization": "Bearer correct"}, want: 401},
		{name: "other scheme", cfg: HandlerConfig{BearerKey: key}, from: "192.0.2.1:1", header: map[string]string{"Authorization": "Basic " + key}, want: 401},
		{name: "key", cfg: HandlerConfig{BearerKey: key}, from: "192.0.2.1:1", header: map[string]string{"Authorization": "bearer " + key}, want: 200},
		{name: "inside", cfg: HandlerConfig{AllowCIDRs: prefixes("192.0.2.0/24")}, from: "192.0.2.77:1", want: 200},
		{name: "inside, mapped", cfg: HandlerConfig{AllowCIDRs: prefixes("192.0.2.0/24")}, from: "[::ffff:192.0.2.77]:1", want: 200},
		{name: "outside", cfg: HandlerConfig{AllowCIDRs: prefixes("192.0.2.0/24")}, from: "192.0.3.1:1", want: 403},
		{name: "unreadable peer", cfg: HandlerConfig{AllowCIDRs: prefixes("0.0.0.0/0")}, from: "@", want: 403},
		{name: "header of a stranger", cfg: HandlerConfig{AllowCIDRs: prefixes("192.0.2.0/24")}, from: "198.51.100.1:1", header: map[string]string{"X-Forwarded-For": "192.0.2.1"}, want: 403},
		{name: "header of a proxy", cfg: HandlerConfig{AllowCIDRs: prefixes("192.0.2.0/24"), TrustedProxies: prefixes("198.51.100.0/24")}, from: "198.51.100.1:1", header: map[string]string{"X-Forwarded-For": "203.0.113.9, 192.0.2.1, 198.51.100.2"}, want: 200},
		{name: "forged behind a proxy", cfg: HandlerConfig{AllowCIDRs: prefixes("192.0.2.0/24"), TrustedProxies: prefixes("198.51.100.0/24")}, from: "198.51.100.1:1", header: map[string]string{"X-Forwarded-For": "192.0.2.1, 203.0.113.9"}, want: 403},
	}
	m := newMetrics(t, Config{})
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if tt.method == "" {
				tt.method = http.MethodGet
			}
			r := httptest.NewRequest(tt.method, "/metrics", nil)
			r.RemoteAddr = tt.from
			for k, v := range tt.header {
				r.Header.Set(k, v)
			}
			w := httptest.NewRecorder()
			m.Handler(tt.cfg).ServeHTTP(w, r)
			if w.Code != tt.want {
				t.Errorf("status = %d, want %d", w.Code, tt.want)
			}
		})
	}
}

func TestHandlerRateLimit(t *testing.T) {
	m := newMetrics(t, Config{})
	h := m.Handler(HandlerConfig{BearerKey: "key", RateLimit: 20})
	now := time.Unix(0, 0)
	h.(*guard).now = func() time.Time { return now }
	ask := func(from, key string) int {
		r := httptest.NewRequest(http.MethodGet, "/metrics", nil)
		r.RemoteAddr = from
		r.Header.Set("Authorization", "Bearer "+key)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w.Code
	}
	for _, want := range []int{401, 401, 429} { // a tenth for guessing
		if got := ask("192.0.2.1:1", "guess"); got != want {
			t.Errorf("guess = %d, want %d", got, want)
		}
	}
	for i := range 21 {
		want := http.StatusOK
		if i == 20 {
			want = http.StatusTooManyRequests
		}
		if got := ask("192.0.2.1:1", "key"); got != want {
			t.Errorf("request %d = %d, want %d", i, got, want)
		}
	}
	if got := ask("192.0.2.2:1", "key"); got != http.StatusOK {
		t.Errorf("another address = %d", got)
	}
	now = now.Add(3 * time.Second) // one more
	if got := ask("192.0.2.1:1", "key"); got != http.StatusOK {
		t.Errorf("after 3 s = %d", got)
	}
}

func TestLimiterIsBounded(t *testing.T) {
	l := newLimiter(10)
	addr := netip.MustParseAddr("10.0.0.0")
	for range maxClients + 500 {
		addr = addr.Next()
		l.allow(addr, time.Unix(0, 0))
	}
	if len(l.buckets) > maxClients {
		t.Errorf("%d buckets", len(l.buckets))
	}
	l.allow(netip.MustParseAddr("10.99.0.1"), time.Unix(100, 0))
	if len(l.buckets) > 1 {
		t.Errorf("%d buckets are left a minute later", len(l.buckets))
	}
	for i := range byte(12) {
		a := netip.AddrFrom16([16]byte{0x20, 1, 15: i})
		if allowed := l.allow(a, time.Unix(100, 0)); allowed != (i < 10) {
			t.Errorf("address %d of one /64: %v", i, allowed)
		}
	}
}
