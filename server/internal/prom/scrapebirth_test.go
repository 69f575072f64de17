package prom

import (
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// A counter of the server itself that appears between two scrapes was at zero at
// the first of them.
func TestSelfScrapeBirth(t *testing.T) {
	clk := newClock(base)
	db := open(t, Config{now: clk.now})
	reg := prometheus.NewRegistry()
	v := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "kaizen_things_total", Help: "Things."}, []string{"kind"})
	reg.MustRegister(v)
	v.WithLabelValues("old").Add(7)
	s := newScrape(db, reg, map[string]string{"job": "kaizen"})
	for i, kind := range []string{"old", "new", "new"} {
		v.WithLabelValues(kind).Add(5)
		if err := s.scrape(t.Context(), base.Add(time.Duration(i)*15*time.Second)); err != nil {
			t.Fatal(err)
		}
	}
	for kind, want := range map[string]string{"old": `"0"`, "new": `"10"`} {
		got := result(t, db, `max_over_time(kaizen_things_total{kind="`+kind+`"}[5m]) - min_over_time(kaizen_things_total{kind="`+kind+`"}[5m])`, base.Add(30*time.Second))
		if !strings.Contains(got, want) {
			t.Errorf("%s rose by %s, want %s", kind, got, want)
		}
	}
}
