package sampling

import (
	"container/list"
	"encoding/binary"
	"math"
	"slices"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// Attributes with a meaning here.
const (
	kindKey = attribute.Key("kaizen.kind") // "run" or "model" matter
	costKey = attribute.Key("kaizen.cost.nano_usd")
)

// SampledOut is true on the run span of a trace that was not kept: the run was
// announced at its start, so its end is passed on too, without the spans below.
const SampledOut = attribute.Key("kaizen.sampled_out")

// held is a trace that has open local roots or waits for them.
type held struct {
	id    trace.TraceID
	since time.Time // first heard of
	roots []root
	keep  Reason // why it is kept, once that is known; its spans wait no longer then
	spans []sdktrace.ReadOnlySpan
	runs  []int // those of the spans that are runs
	bytes int64
	cost  int64

	place   *list.Element // among all that are held
	waiting *list.Element // among those with spans; nil without
}

// root is a local root that has not ended.
type root struct {
	id    trace.SpanID
	start time.Time
}

// isLocalRoot reports whether the spans above s, if any, are another process's.
func isLocalRoot(s sdktrace.ReadOnlySpan) bool {
	p := s.Parent()
	return !p.SpanID().IsValid() || p.IsRemote()
}

// close takes a local root away, if it is one.
func (h *held) close(id trace.SpanID) {
	h.roots = slices.DeleteFunc(h.roots, func(r root) bool { return r.id == id })
}

// facts are what a span that has ended says for the decision on its trace.
type facts struct {
	failed, run bool
	cost, bytes int64
}

func factsOf(s sdktrace.ReadOnlySpan) facts {
	f := facts{failed: s.Status().Code == codes.Error, bytes: 512 + int64(len(s.Name()))}
	var cost int64
	var model bool
	attrs := s.Attributes()
	for i := range attrs {
		switch attrs[i].Key {
		case kindKey:
			if attrs[i].Value.Type() == attribute.STRING {
				kind := attrs[i].Value.AsString()
				f.run, model = kind == "run", kind == "model"
			}
		case costKey:
			if attrs[i].Value.Type() == attribute.INT64 {
				cost = max(attrs[i].Value.AsInt64(), 0)
			}
		}
	}
	if model {
		f.cost = cost
	}
	f.bytes += attributesBytes(attrs)
	for _, e := range s.Events() {
		f.bytes += 96 + int64(len(e.Name)) + attributesBytes(e.Attributes)
	}
	for _, l := range s.Links() {
		f.bytes += 128 + attributesBytes(l.Attributes)
	}
	return f
}

// attributesBytes is an estimate: the keys and values, and what Go puts around them.
func attributesBytes(kvs []attribute.KeyValue) int64 {
	var n int64
	for i := range kvs {
		n += 16 + int64(len(kvs[i].Key)) + valueBytes(kvs[i].Value)
	}
	return n
}

func valueBytes(v attribute.Value) int64 {
	const header = 64
	n := int64(header)
	switch v.Type() {
	case attribute.STRING:
		n += int64(len(v.AsString()))
	case attribute.BYTESLICE:
		n += int64(len(v.AsByteSlice()))
	case attribute.BOOLSLICE:
		n += int64(len(v.AsBoolSlice()))
	case attribute.INT64SLICE:
		n += 8 * int64(len(v.AsInt64Slice()))
	case attribute.FLOAT64SLICE:
		n += 8 * int64(len(v.AsFloat64Slice()))
	case attribute.STRINGSLICE:
		for _, s := range v.AsStringSlice() {
			n += 16 + int64(len(s))
		}
	case attribute.SLICE:
		for _, e := range v.AsSlice() {
			n += valueBytes(e)
		}
	case attribute.MAP:
		n += attributesBytes(v.AsMap())
	}
	return n
}

// addCost adds without running over.
func addCost(a, b int64) int64 {
	if a > math.MaxInt64-b {
		return math.MaxInt64
	}
	return a + b
}

// ratioBound is the share as a bound on the number in a trace id, the same as
// OpenTelemetry's ratio sampler computes.
func ratioBound(ratio float64) uint64 {
	if ratio <= 0 { // Off
		return 0
	}
	if ratio >= 1 {
		return 1 << 63
	}
	return uint64(ratio * (1 << 63))
}

func chosen(id trace.TraceID, bound uint64) bool {
	return binary.BigEndian.Uint64(id[8:16])>>1 < bound
}

// sampledOut is the run span of a trace that was not kept.
type sampledOut struct{ sdktrace.ReadOnlySpan }

// Attributes returns the span's attributes and [SampledOut].
func (s sampledOut) Attributes() []attribute.KeyValue {
	kvs := s.ReadOnlySpan.Attributes()
	return append(kvs[:len(kvs):len(kvs)], SampledOut.Bool(true))
}
