package prom

import (
	"cmp"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/labels"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// familyBuilder puts series together to families again: the buckets, sum and
// count of a histogram are one metric of one family.
type familyBuilder struct {
	meta      *metadataStore
	exemplars map[string]exemplar.Exemplar // by series
	byName    map[string]*building
}

// building is a family on its way.
type building struct {
	family   *dto.MetricFamily
	typ      model.MetricType
	byLabels map[string]*dto.Metric
}

// add takes one series with its first and newest sample in sight.
func (b *familyBuilder) add(ls labels.Labels, first, newest sample, appeared bool) {
	name := ls.Get(model.MetricNameLabel)
	base, part := b.familyOf(name)
	f := b.at(base)
	s := newest
	if appeared && (f.typ == model.MetricTypeCounter || f.typ == model.MetricTypeHistogram) {
		s = first
	}
	drop := []string{model.MetricNameLabel}
	switch {
	case f.typ == model.MetricTypeHistogram && part == "_bucket":
		drop = append(drop, model.BucketLabel)
	case f.typ == model.MetricTypeSummary && part == "":
		drop = append(drop, model.QuantileLabel)
	}
	m := f.metric(labels.NewBuilder(ls).Del(drop...).Labels())
	switch f.typ {
	case model.MetricTypeHistogram:
		b.histogram(m, ls, part, s)
	case model.MetricTypeSummary:
		summary(m, ls, part, s)
	case model.MetricTypeCounter:
		m.Counter = &dto.Counter{Value: &s.v, Exemplar: b.exemplar(ls)}
	case model.MetricTypeGauge:
		m.Gauge = &dto.Gauge{Value: &s.v}
	default:
		m.Untyped = &dto.Untyped{Value: &s.v}
	}
}

// familyOf returns the family that a series belongs to and the part of it that
// the series is.
func (b *familyBuilder) familyOf(name string) (base, part string) {
	for _, part := range []string{"_bucket", "_sum", "_count"} {
		base, ok := strings.CutSuffix(name, part)
		if !ok {
			continue
		}
		switch typ := b.meta.typeOf(base); {
		case typ == model.MetricTypeHistogram, typ == model.MetricTypeSummary && part != "_bucket":
			return base, part
		}
	}
	return name, ""
}

func (b *familyBuilder) at(name string) *building {
	if f, ok := b.byName[name]; ok {
		return f
	}
	md := b.meta.get(name)
	f := &building{
		family:   &dto.MetricFamily{Name: &name, Help: new(cmp.Or(md.Help, "Sent without a description.")), Type: dtoOf(md.Type).Enum()},
		typ:      md.Type,
		byLabels: map[string]*dto.Metric{},
	}
	b.byName[name] = f
	return f
}

func (f *building) metric(ls labels.Labels) *dto.Metric {
	key := string(ls.Bytes(nil))
	if m, ok := f.byLabels[key]; ok {
		return m
	}
	m := &dto.Metric{}
	ls.Range(func(l labels.Label) { m.Label = append(m.Label, &dto.LabelPair{Name: &l.Name, Value: &l.Value}) })
	f.byLabels[key] = m
	f.family.Metric = append(f.family.Metric, m)
	return m
}

func (b *familyBuilder) histogram(m *dto.Metric, ls labels.Labels, part string, s sample) {
	if s.h != nil || s.fh != nil {
		native := nativeToDTO(s)
		if m.Histogram != nil {
			native.Bucket = m.Histogram.Bucket
		}
		m.Histogram = native
		return
	}
	if m.Histogram == nil {
		m.Histogram = &dto.Histogram{}
	}
	h := m.Histogram
	switch part {
	case "_sum":
		h.SampleSum = &s.v
	case "_count":
		h.SampleCount = new(count(s.v))
	case "_bucket":
		bound, err := strconv.ParseFloat(ls.Get(model.BucketLabel), 64)
		if err != nil {
			return // no bucket of ours
		}
		h.Bucket = append(h.Bucket, &dto.Bucket{UpperBound: &bound, CumulativeCount: new(count(s.v)), Exemplar: b.exemplar(ls)})
	}
}

// count takes a count as the text formats have it: whole, at least zero.
func count(v float64) uint64 {
	if !(v > 0) {
		return 0
	}
	return uint64(math.Round(v))
}

func summary(m *dto.Metric, ls labels.Labels, part string, s sample) {
	if m.Summary == nil {
		m.Summary = &dto.Summary{}
	}
	switch part {
	case "_sum":
		m.Summary.SampleSum = &s.v
	case "_count":
		m.Summary.SampleCount = new(count(s.v))
	default:
		if q, err := strconv.ParseFloat(ls.Get(model.QuantileLabel), 64); err == nil {
			m.Summary.Quantile = append(m.Summary.Quantile, &dto.Quantile{Quantile: &q, Value: &s.v})
		}
	}
}

func (b *familyBuilder) exemplar(ls labels.Labels) *dto.Exemplar {
	e, ok := b.exemplars[string(ls.Bytes(nil))]
	if !ok {
		return nil
	}
	x := &dto.Exemplar{Value: &e.Value, Timestamp: timestamppb.New(time.UnixMilli(e.Ts))}
	e.Labels.Range(func(l labels.Label) { x.Label = append(x.Label, &dto.LabelPair{Name: &l.Name, Value: &l.Value}) })
	return x
}

// families returns what was built, by name, buckets by bound.
func (b *familyBuilder) families() []*dto.MetricFamily {
	out := make([]*dto.MetricFamily, 0, len(b.byName))
	for _, f := range b.byName {
		for _, m := range f.family.Metric {
			if h := m.Histogram; h != nil {
				slices.SortFunc(h.Bucket, func(x, y *dto.Bucket) int { return cmp.Compare(x.GetUpperBound(), y.GetUpperBound()) })
			}
			if s := m.Summary; s != nil {
				slices.SortFunc(s.Quantile, func(x, y *dto.Quantile) int { return cmp.Compare(x.GetQuantile(), y.GetQuantile()) })
			}
		}
		out = append(out, f.family)
	}
	slices.SortFunc(out, func(x, y *dto.MetricFamily) int { return cmp.Compare(x.GetName(), y.GetName()) })
	return out
}

// dtoOf is the inverse of dtoType.
func dtoOf(t model.MetricType) dto.MetricType {
	switch t {
	case model.MetricTypeCounter:
		return dto.MetricType_COUNTER
	case model.MetricTypeGauge:
		return dto.MetricType_GAUGE
	case model.MetricTypeSummary:
		return dto.MetricType_SUMMARY
	case model.MetricTypeHistogram:
		return dto.MetricType_HISTOGRAM
	}
	return dto.MetricType_UNTYPED
}
