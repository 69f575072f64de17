package prom

import (
	"errors"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"go.opentelemetry.io/collector/pdata/pcommon"
)

// bornWithin is how old a process may be for its first counters to be taken for
// new, and how far before its first sample a series begins at zero.
const bornWithin = time.Minute

// bear writes zeros for the series of a cumulative point that are new, shortly
// before their first samples: a counter that appears at 20 has counted 20 things
// since its process began, and rate() sees them only if it was at 0 before.
//
// It does so where that is known: the process has begun within the last minute,
// or has sent before, without these series.
func (c *otlpBatch) bear(start pcommon.Timestamp, point []sample) error {
	if start == 0 || len(point) == 0 {
		return nil
	}
	begun, t := int64(start/1e6), point[0].t
	if begun >= t || !c.known && t-begun > bornWithin.Milliseconds() {
		return nil
	}
	zeros := make([]sample, 0, len(point))
	for _, s := range point {
		if s.ends() || s.v == 0 && len(point) == 1 || c.ref(s.labels) != 0 {
			return nil // a histogram's series are born together
		}
		zeros = append(zeros, sample{labels: s.labels, t: max(begun, t-bornWithin.Milliseconds())})
	}
	err := c.add(zeros)
	var r *refusal
	if errors.As(err, &r) {
		return nil // the sample itself will be refused and counted, or is not harmed
	}
	return err
}

// knownTarget reports whether the resource has sent before.
func (c *otlpBatch) knownTarget(attrs pcommon.Map) bool {
	ls, ok := c.targetLabels(attrs)
	if !ok {
		return false
	}
	_, found, err := c.db.newestSample(c.ctx, ls)
	return err == nil && found
}

// targetLabels returns the labels of a resource's target_info; ok is false when
// it has none.
func (c *otlpBatch) targetLabels(attrs pcommon.Map) (labels.Labels, bool) {
	if c.target.IsEmpty() {
		return labels.EmptyLabels(), false
	}
	b := labels.NewBuilder(labels.EmptyLabels())
	err := c.setAttributes(b, attrs, func(key string) bool {
		return key == "service.name" || key == "service.namespace" || key == "service.instance.id"
	})
	if err != nil || b.Labels().IsEmpty() {
		return labels.EmptyLabels(), false
	}
	c.target.Range(func(l labels.Label) { b.Set(l.Name, l.Value) })
	return b.Set(model.MetricNameLabel, "target_info").Labels(), true
}
