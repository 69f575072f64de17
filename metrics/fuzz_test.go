package metrics

import (
	"regexp"
	"strings"
	"testing"
)

var pageLine = regexp.MustCompile(`^(#.*|[a-zA-Z_:][a-zA-Z0-9_:]*(\{([a-zA-Z_][a-zA-Z0-9_]*="([^"\\\n]|\\["\\n])*",?)*\})? [-+0-9.eEInfNa]+)$`)

// FuzzScrape records under any name and label: the page must stay readable
// line by line, and what was recorded is either shown or counted as dropped.
func FuzzScrape(f *testing.F) {
	f.Add("orders_total", "shop", "north", 1.5)
	f.Add("bad name", "le", "a\"b\\c\nd", -1.0)
	f.Add("kaizen_plans", "__name__", "\xff", 1e300)
	f.Add("h_bucket", "h", strings.Repeat("é", 300), 0.0)
	f.Fuzz(func(t *testing.T, name, label, val string, v float64) {
		m := newMetrics(t, Config{})
		m.Histogram("h").Observe(1)
		m.Counter(name, label, val).Add(v)
		m.Gauge(name+"_now", label, val).Set(v)
		m.Timer(name+"_seconds", label, val).Observe(v)
		m.Count(Errors, label, val)
		all, err := m.Gatherer().Gather()
		if err != nil {
			t.Fatalf("the scrape is broken: %v", err)
		}
		for l := range strings.Lines(get(t, m.Handler(HandlerConfig{}), "text/plain")) {
			if !pageLine.MatchString(strings.TrimSuffix(l, "\n")) {
				t.Errorf("line %q", l)
			}
		}
		shown := 0.0
		for _, mf := range all {
			if n := mf.GetName(); n == name || n == name+"_now" || n == name+"_seconds" {
				shown++
			}
		}
		if total := shown + m.dropped[reasonName].present() + m.dropped[reasonLabels].present() + m.dropped[reasonValue].present(); total < 3 {
			t.Errorf("%v of 3 records are shown or counted", total)
		}
	})
}
