package dashtest

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// system is one of the two that answer the queries.
type system struct {
	name, prometheus string // URL up to /api/v1
	loki             string
}

// window is the time in which the counted rounds lie, on one system.
type window struct {
	system
	from, to time.Time
}

func (w window) length() string { return fmt.Sprintf("%dms", w.to.Sub(w.from).Milliseconds()) }

// literal are the windows that queries have, all of which become w's.
var literal = []string{"$__rate_interval", "$__range", "1h", "24h"}

// fill puts values in the place of Grafana's variables.
func (w window) fill(expr string) string {
	for _, l := range literal {
		expr = strings.ReplaceAll(expr, "["+l+"]", "["+w.length()+"]")
		expr = strings.ReplaceAll(expr, "offset "+l+" ", "offset "+w.length()+" ")
	}
	return strings.NewReplacer("$job", service, "$agent", ".*").Replace(expr)
}

// factor is by how much rate() differs from increase divided by the window for a
// series of this selector: what lies between the first and the last sample in it
// is stretched to the window's ends, by the rule that Prometheus documents.
func (w window) factor(t *testing.T, selector string) float64 {
	t.Helper()
	list, err := ask(t.Context(), w.prometheus, "/api/v1/query", selector+"["+w.length()+"]", w.to)
	if err != nil || len(list) == 0 || len(list[0].Values) < 2 {
		t.Fatalf("%s: %s[%s] = %v, %v", w.name, selector, w.length(), list, err)
	}
	at := func(i int) float64 {
		v, ok := list[0].Values[i][0].(float64)
		if !ok {
			t.Fatalf("time %v", list[0].Values[i])
		}
		return v
	}
	n := len(list[0].Values)
	first, last := at(0), at(n-1)
	sampled, whole := last-first, w.to.Sub(w.from).Seconds()
	between := sampled / float64(n-1)
	end := float64(w.to.UnixMilli()) / 1e3
	edge := func(d float64) float64 {
		if d >= 1.1*between {
			return between / 2
		}
		return d
	}
	return (sampled + edge(first-(end-whole)) + edge(end-last)) / sampled
}
