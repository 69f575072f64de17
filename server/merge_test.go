package server

import (
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	dto "github.com/prometheus/client_model/go"
)

func TestMergeFamilies(t *testing.T) {
	counter := func(help string, values map[[2]string]float64) *prometheus.Registry {
		c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "dropped_total", Help: help}, []string{"signal", "reason"})
		for labels, v := range values {
			c.WithLabelValues(labels[:]...).Add(v)
		}
		reg := prometheus.NewRegistry()
		reg.MustRegister(c)
		return reg
	}
	own := counter("Dropped.", map[[2]string]float64{{"traces", "malformed"}: 1, {"metrics", "series_limit"}: 2})
	own.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "a_gauge", Help: "A."}, func() float64 { return 5 }))
	derived := counter("Dropped, too.", map[[2]string]float64{{"metrics", "series_limit"}: 40, {"metrics", "invalid_name"}: 3})
	derived.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "b_gauge", Help: "B."}, func() float64 { return 6 }))
	merged := prometheus.GathererFunc(func() ([]*dto.MetricFamily, error) {
		a, err := own.Gather()
		if err != nil {
			return nil, err
		}
		b, err := derived.Gather()
		return mergeFamilies(a, b), err
	})
	want := `
# HELP a_gauge A.
# TYPE a_gauge gauge
a_gauge 5
# HELP b_gauge B.
# TYPE b_gauge gauge
b_gauge 6
# HELP dropped_total Dropped.
# TYPE dropped_total counter
dropped_total{reason="invalid_name",signal="metrics"} 3
dropped_total{reason="malformed",signal="traces"} 1
dropped_total{reason="series_limit",signal="metrics"} 42
`
	if err := testutil.GatherAndCompare(merged, strings.NewReader(want)); err != nil {
		t.Error(err)
	}
}
