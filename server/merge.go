package server

import (
	"slices"
	"strings"

	dto "github.com/prometheus/client_model/go"
)

// mergeFamilies joins what two registries gathered, by name. Where both have a
// family, its help is a's, and counters with the same labels are added: both
// count, each in its own place, what becomes of the same things. b's families
// and metrics are not changed, but may become part of the result.
func mergeFamilies(a, b []*dto.MetricFamily) []*dto.MetricFamily {
	byName := make(map[string]*dto.MetricFamily, len(a))
	for _, f := range a {
		byName[f.GetName()] = f
	}
	out := slices.Clone(a)
	for _, f := range b {
		first, shared := byName[f.GetName()]
		switch {
		case !shared:
			out = append(out, f)
		case first.GetType() == f.GetType():
			first.Metric = mergeMetrics(first.Metric, f.Metric)
		}
	}
	slices.SortFunc(out, func(x, y *dto.MetricFamily) int { return strings.Compare(x.GetName(), y.GetName()) })
	return out
}

func mergeMetrics(a, b []*dto.Metric) []*dto.Metric {
	byLabels := make(map[string]*dto.Metric, len(a))
	for _, m := range a {
		byLabels[labelKey(m)] = m
	}
	for _, m := range b {
		first, shared := byLabels[labelKey(m)]
		switch {
		case !shared:
			a = append(a, m)
		case first.Counter != nil && m.Counter != nil:
			sum := first.Counter.GetValue() + m.Counter.GetValue()
			first.Counter.Value = &sum
		}
	}
	slices.SortFunc(a, func(x, y *dto.Metric) int { return strings.Compare(labelKey(x), labelKey(y)) })
	return a
}

// labelKey tells label sets apart. A registry gives labels sorted by name.
func labelKey(m *dto.Metric) string {
	var b strings.Builder
	for _, l := range m.Label {
		b.WriteString(l.GetName())
		b.WriteByte(0xff) // in no UTF-8 text
		b.WriteString(l.GetValue())
		b.WriteByte(0xff)
	}
	return b.String()
}
