package prom

import (
	"cmp"
	"context"
	"errors"
	"math"
	"slices"
	"strconv"

	"github.com/prometheus/common/model"
	"github.com/prometheus/otlptranslator"
	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/metadata"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"
)

// AppendMetrics stores OTLP metrics and returns when they are durable. Names
// become Prometheus's: "gen_ai.client.inference.usage.output_tokens" of unit
// {token} is gen_ai_client_inference_usage_output_tokens_total. A resource's
// service.name (behind its service.namespace) is the label job, its
// service.instance.id the label instance; its other attributes stand in
// target_info.
//
// Delta sums and histograms are added up to cumulative ones from the first that
// arrives; the totals start anew with the process, which rate() takes for a
// counter reset.
//
// rejected counts the data points refused for good: they exceed a limit, are
// malformed, too old, ahead of time, or contradict the newest sample of their
// series. A point that repeats it exactly is accepted. After an error nothing is
// known to be stored, and the same request may be sent again.
func (db *DB) AppendMetrics(ctx context.Context, md pmetric.Metrics) (rejected int, err error) {
	leave, err := db.enter()
	if err != nil {
		return 0, err
	}
	defer leave()
	if err := db.wal.err(); err != nil {
		return 0, err
	}
	b := db.newBatch(ctx)
	c := &otlpBatch{batch: b, deltas: db.deltas.begin(b, db.cfg.now())}
	defer c.deltas.end()
	for _, rm := range md.ResourceMetrics().All() {
		if err := c.resource(rm); err != nil {
			return 0, errors.Join(err, b.rollback())
		}
		if err := ctx.Err(); err != nil {
			return 0, errors.Join(err, b.rollback())
		}
	}
	if err := b.commit(); err != nil {
		return 0, err
	}
	c.deltas.commit()
	return c.rejected, nil
}

// otlpBatch turns the points of one request into samples.
type otlpBatch struct {
	*batch
	deltas   *deltaBatch
	rejected int

	target    labels.Labels // job and instance
	known     bool          // the resource has sent before
	newest    int64         // newest time of the resource's points, ms
	labelName map[string]string
}

func (c *otlpBatch) resource(rm pmetric.ResourceMetrics) error {
	c.newest = math.MinInt64
	c.labelName = map[string]string{}
	attrs := rm.Resource().Attributes()
	b := labels.NewBuilder(labels.EmptyLabels())
	if v, ok := attrs.Get("service.name"); ok {
		job := v.AsString()
		if ns, ok := attrs.Get("service.namespace"); ok && ns.AsString() != "" {
			job = ns.AsString() + "/" + job
		}
		b.Set(model.JobLabel, job)
	}
	if v, ok := attrs.Get("service.instance.id"); ok {
		b.Set(model.InstanceLabel, v.AsString())
	}
	c.target = b.Labels()
	c.known = c.knownTarget(attrs)
	for _, sm := range rm.ScopeMetrics().All() {
		for _, m := range sm.Metrics().All() {
			if err := c.metric(m); err != nil {
				return err
			}
		}
	}
	return c.targetInfo(attrs)
}

// done counts a refused point and hands on an error of the storage.
func (c *otlpBatch) done(err error) error {
	if err == nil {
		return nil
	}
	var r *refusal
	if !errors.As(err, &r) {
		return err
	}
	c.rejected++
	c.db.count(err, 1)
	return nil
}

func (c *otlpBatch) metric(m pmetric.Metric) error {
	namer := otlptranslator.MetricNamer{WithMetricSuffixes: true}
	name, nameErr := namer.Build(otlptranslator.Metric{Name: m.Name(), Unit: m.Unit(), Type: translatorType(m)})
	if nameErr != nil {
		nameErr = refuse(reasonInvalid, "metric name %.64q: %w", m.Name(), nameErr)
	} else {
		c.db.meta.set(name, metadataOf(m))
	}
	f := family{name: name, nameErr: nameErr}
	switch m.Type() {
	case pmetric.MetricTypeGauge:
		return each(c, f, m.Gauge().DataPoints().All(), c.gauge)
	case pmetric.MetricTypeSum:
		f.temporality, f.counts = m.Sum().AggregationTemporality(), m.Sum().IsMonotonic()
		return each(c, f, m.Sum().DataPoints().All(), c.sum)
	case pmetric.MetricTypeHistogram:
		f.temporality = m.Histogram().AggregationTemporality()
		return each(c, f, m.Histogram().DataPoints().All(), c.histogram)
	case pmetric.MetricTypeExponentialHistogram:
		f.temporality = m.ExponentialHistogram().AggregationTemporality()
		return each(c, f, m.ExponentialHistogram().DataPoints().All(), c.exponential)
	case pmetric.MetricTypeSummary:
		return each(c, f, m.Summary().DataPoints().All(), c.summary)
	}
	return nil // no data: nothing to store, nothing to refuse
}

// family is what the points of one metric share.
type family struct {
	name        string
	nameErr     error
	counts      bool // a sum that only rises
	temporality pmetric.AggregationTemporality
}

func (f family) delta() bool { return f.temporality == pmetric.AggregationTemporalityDelta }

// each converts and stores the points of one metric.
func each[P any](c *otlpBatch, f family, points func(func(int, P) bool), convert func(family, P) error) error {
	for _, p := range points {
		err := f.nameErr
		if err == nil {
			err = convert(f, p)
		}
		if err := c.done(err); err != nil {
			return err
		}
	}
	return nil
}

func (c *otlpBatch) gauge(f family, p pmetric.NumberDataPoint) error {
	return c.number(f, p, false)
}

func (c *otlpBatch) sum(f family, p pmetric.NumberDataPoint) error {
	if f.temporality == pmetric.AggregationTemporalityUnspecified {
		return refuse(reasonInvalid, "%s: sum without temporality", f.name)
	}
	return c.number(f, p, f.delta())
}

func (c *otlpBatch) number(f family, p pmetric.NumberDataPoint, delta bool) error {
	ls, err := c.labels(f.name, p.Attributes())
	if err != nil {
		return err
	}
	var v float64
	switch {
	case p.Flags().NoRecordedValue():
		v = staleNaN()
	case p.ValueType() == pmetric.NumberDataPointValueTypeInt:
		v = float64(p.IntValue())
	case p.ValueType() == pmetric.NumberDataPointValueTypeDouble:
		v = p.DoubleValue()
	default:
		return refuse(reasonInvalid, "%s: point without a value", f.name)
	}
	s := sample{labels: ls, t: c.time(p.Timestamp()), v: v, exemplars: promExemplars(p.Exemplars())}
	if !delta {
		if f.counts {
			if err := c.bear(p.StartTimestamp(), []sample{s}); err != nil {
				return err
			}
		}
		return c.add([]sample{s})
	}
	total, repeated, err := c.deltas.number(ls, s.t, v, p.Flags().NoRecordedValue())
	if err != nil || repeated {
		return err
	}
	s.v = total
	return c.deltas.keep(c.add([]sample{s}))
}

func (c *otlpBatch) histogram(f family, p pmetric.HistogramDataPoint) error {
	h, err := explicitOf(f, p)
	if err != nil {
		return err
	}
	base, err := c.labels(f.name, p.Attributes())
	if err != nil {
		return err
	}
	t := c.time(p.Timestamp())
	stale := p.Flags().NoRecordedValue()
	if f.delta() {
		total, repeated, err := c.deltas.explicit(f.name, base, t, h, stale)
		if err != nil || repeated {
			return err
		}
		h = total
	}
	point := classicSamples(f.name, base, t, h, stale, promExemplars(p.Exemplars()))
	if f.delta() {
		return c.deltas.keep(c.add(point))
	}
	if err := c.bear(p.StartTimestamp(), point); err != nil {
		return err
	}
	return c.add(point)
}

func (c *otlpBatch) exponential(f family, p pmetric.ExponentialHistogramDataPoint) error {
	if f.temporality == pmetric.AggregationTemporalityUnspecified {
		return refuse(reasonInvalid, "%s: histogram without temporality", f.name)
	}
	ls, err := c.labels(f.name, p.Attributes())
	if err != nil {
		return err
	}
	s := sample{labels: ls, t: c.time(p.Timestamp()), exemplars: promExemplars(p.Exemplars())}
	stale := p.Flags().NoRecordedValue()
	if stale {
		s.h = &histogram.Histogram{Sum: staleNaN()}
	} else if s.h, err = nativeOf(f, p); err != nil {
		return err
	}
	if !f.delta() {
		return c.add([]sample{s})
	}
	total, repeated, err := c.deltas.native(ls, s.t, s.h, stale)
	if err != nil || repeated {
		return err
	}
	if !stale {
		s.h, s.fh = nil, total
	}
	return c.deltas.keep(c.add([]sample{s}))
}

func (c *otlpBatch) summary(f family, p pmetric.SummaryDataPoint) error {
	base, err := c.labels(f.name, p.Attributes())
	if err != nil {
		return err
	}
	t := c.time(p.Timestamp())
	value := func(v float64) float64 {
		if p.Flags().NoRecordedValue() {
			return staleNaN()
		}
		return v
	}
	b := labels.NewBuilder(base)
	b.Del(model.QuantileLabel)
	series := func(name string) labels.Labels { return b.Set(model.MetricNameLabel, name).Labels() }
	point := []sample{
		{labels: series(f.name + "_sum"), t: t, v: value(p.Sum())},
		{labels: series(f.name + "_count"), t: t, v: value(float64(p.Count()))},
	}
	for _, q := range p.QuantileValues().All() {
		if !(q.Quantile() >= 0 && q.Quantile() <= 1) {
			return refuse(reasonInvalid, "%s: quantile %v", f.name, q.Quantile())
		}
		b.Set(model.QuantileLabel, formatBound(q.Quantile()))
		point = append(point, sample{labels: series(f.name), t: t, v: value(q.Value())})
	}
	return c.add(point)
}

// time returns ts in ms; a point without a time is taken as of now.
func (c *otlpBatch) time(ts pcommon.Timestamp) int64 {
	t := int64(ts / 1e6) // fits: 2^64 ns are less than 2^63 ms
	if ts == 0 {
		t = c.db.cfg.now().UnixMilli()
	}
	c.newest = max(c.newest, t)
	return t
}

// labels returns a point's labels with the name of its metric. Attributes that
// become the same label are joined with ";", in the order of their names.
func (c *otlpBatch) labels(name string, attrs pcommon.Map) (labels.Labels, error) {
	b := labels.NewBuilder(labels.EmptyLabels())
	if err := c.setAttributes(b, attrs, nil); err != nil {
		return labels.EmptyLabels(), err
	}
	c.target.Range(func(l labels.Label) { b.Set(l.Name, l.Value) })
	return b.Set(model.MetricNameLabel, name).Labels(), nil
}

func (c *otlpBatch) setAttributes(b *labels.Builder, attrs pcommon.Map, skip func(string) bool) error {
	type pair struct{ key, value string }
	pairs := make([]pair, 0, attrs.Len())
	for k, v := range attrs.All() {
		if skip == nil || !skip(k) {
			pairs = append(pairs, pair{k, v.AsString()})
		}
	}
	slices.SortStableFunc(pairs, func(a, b pair) int { return cmp.Compare(a.key, b.key) })
	for _, p := range pairs {
		name, ok := c.labelName[p.key]
		if !ok {
			namer := otlptranslator.LabelNamer{}
			var err error
			if name, err = namer.Build(p.key); err != nil {
				return refuse(reasonInvalid, "attribute name %.64q: %w", p.key, err)
			}
			c.labelName[p.key] = name
		}
		if !model.LabelValue(p.value).IsValid() {
			return refuse(reasonInvalid, "attribute %.64q is not UTF-8", p.key)
		}
		if before := b.Get(name); before != "" {
			p.value = before + ";" + p.value
		}
		b.Set(name, p.value)
	}
	return nil
}

// targetInfo writes the attributes of a resource that are not labels of its
// series as Prometheus does: as one series that queries can join by job and instance.
// It is no data point, so a refusal is not counted.
func (c *otlpBatch) targetInfo(attrs pcommon.Map) error {
	if c.newest == math.MinInt64 {
		return nil
	}
	ls, ok := c.targetLabels(attrs)
	if !ok {
		return nil
	}
	err := c.add([]sample{{labels: ls, t: c.newest, v: 1}})
	var r *refusal
	if errors.As(err, &r) {
		return nil
	}
	if err == nil {
		c.db.meta.set("target_info", metadata.Metadata{Type: model.MetricTypeGauge, Help: "Target metadata"})
	}
	return err
}

func translatorType(m pmetric.Metric) otlptranslator.MetricType {
	switch m.Type() {
	case pmetric.MetricTypeGauge:
		return otlptranslator.MetricTypeGauge
	case pmetric.MetricTypeSum:
		if m.Sum().IsMonotonic() {
			return otlptranslator.MetricTypeMonotonicCounter
		}
		return otlptranslator.MetricTypeNonMonotonicCounter
	case pmetric.MetricTypeHistogram:
		return otlptranslator.MetricTypeHistogram
	case pmetric.MetricTypeExponentialHistogram:
		return otlptranslator.MetricTypeExponentialHistogram
	case pmetric.MetricTypeSummary:
		return otlptranslator.MetricTypeSummary
	}
	return otlptranslator.MetricTypeUnknown
}

func metadataOf(m pmetric.Metric) metadata.Metadata {
	units := otlptranslator.UnitNamer{}
	md := metadata.Metadata{Type: model.MetricTypeUnknown, Unit: units.Build(m.Unit()), Help: m.Description()}
	switch m.Type() {
	case pmetric.MetricTypeGauge:
		md.Type = model.MetricTypeGauge
	case pmetric.MetricTypeSum:
		md.Type = model.MetricTypeGauge
		if m.Sum().IsMonotonic() {
			md.Type = model.MetricTypeCounter
		}
	case pmetric.MetricTypeHistogram, pmetric.MetricTypeExponentialHistogram:
		md.Type = model.MetricTypeHistogram
	case pmetric.MetricTypeSummary:
		md.Type = model.MetricTypeSummary
	}
	return md
}

// promExemplars converts exemplars, sorted by time. Those without a value, or
// with more than OpenMetrics's 128 runes of labels even without their filtered
// attributes, are left out.
func promExemplars(in pmetric.ExemplarSlice) []exemplar.Exemplar {
	if in.Len() == 0 {
		return nil
	}
	out := make([]exemplar.Exemplar, 0, in.Len())
	for _, e := range in.All() {
		x := exemplar.Exemplar{Ts: int64(e.Timestamp() / 1e6), HasTs: e.Timestamp() != 0}
		switch e.ValueType() {
		case pmetric.ExemplarValueTypeInt:
			x.Value = float64(e.IntValue())
		case pmetric.ExemplarValueTypeDouble:
			x.Value = e.DoubleValue()
		default:
			continue
		}
		x.Labels = exemplarLabels(e)
		out = append(out, x)
	}
	slices.SortFunc(out, exemplar.Compare)
	return out
}

func exemplarLabels(e pmetric.Exemplar) labels.Labels {
	b := labels.NewBuilder(labels.EmptyLabels())
	runes := 0
	set := func(k, v string) {
		if n := len([]rune(k)) + len([]rune(v)); runes+n <= exemplar.ExemplarMaxLabelSetLength && b.Get(k) == "" {
			b.Set(k, v)
			runes += n
		}
	}
	if id := e.TraceID(); !id.IsEmpty() {
		set("trace_id", id.String())
	}
	if id := e.SpanID(); !id.IsEmpty() {
		set("span_id", id.String())
	}
	for k, v := range e.FilteredAttributes().All() {
		if s := v.AsString(); model.LabelValue(k).IsValid() && model.LabelValue(s).IsValid() {
			set(k, s)
		}
	}
	return b.Labels()
}

// formatBound writes a bucket's bound or a quantile as Prometheus's OTLP
// receiver does: 1 rather than 1.0.
func formatBound(v float64) string { return strconv.FormatFloat(v, 'f', -1, 64) }
