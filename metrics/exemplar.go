package metrics

import (
	"context"

	"go.opentelemetry.io/otel/trace"
)

// Exemplar leads from a measurement to the span that it was made in. The zero
// value is no exemplar.
type Exemplar struct {
	TraceID trace.TraceID
	SpanID  trace.SpanID
	// UnixNano is the time of the measurement in nanoseconds. If zero, the
	// time of recording; who has the time at hand saves reading the clock.
	UnixNano int64
}

// ExemplarFrom returns the exemplar of the span that ctx carries, and none if
// there is no span or it is not sampled: its id would lead nowhere.
func ExemplarFrom(ctx context.Context) Exemplar {
	sc := trace.SpanContextFromContext(ctx)
	if !sc.IsValid() || !sc.IsSampled() {
		return Exemplar{}
	}
	return Exemplar{TraceID: sc.TraceID(), SpanID: sc.SpanID()}
}

func (e Exemplar) valid() bool { return e.TraceID.IsValid() }
