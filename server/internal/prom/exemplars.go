package prom

import (
	"context"
	"time"

	"github.com/prometheus/prometheus/model/labels"
)

// Matcher is one condition on a label, as in {agent="planner"}.
type Matcher = labels.Matcher

// ExemplarSource finds exemplars elsewhere than among the stored samples: in
// spans, say.
type ExemplarSource interface {
	// Exemplars returns exemplars of series that satisfy all of matchers, the
	// metric's name (__name__) among them, with times from start to end. What a
	// series is called must match what the store calls it, labels job and
	// instance included.
	Exemplars(ctx context.Context, matchers []*Matcher, start, end time.Time) ([]ExemplarSeries, error)
}

// ExemplarSeries is one series with exemplars.
type ExemplarSeries struct {
	// Labels are the series' labels, __name__ among them.
	Labels map[string]string
	// Exemplars are in order of time.
	Exemplars []Exemplar
}

// Exemplar is one event behind a metric's value.
type Exemplar struct {
	// Labels lead to the event: trace_id and span_id.
	Labels map[string]string
	Value  float64
	Time   time.Time
}
