package otlp

import (
	"context"
	"sync/atomic"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/kaizen-go/kaizen/internal/ship"
)

// Span attributes with a meaning here.
const (
	kindKey    = attribute.Key("kaizen.kind")
	kindRun    = "run"
	pendingKey = attribute.Key("kaizen.pending")
)

// Flags of spans and links, beside the W3C trace flags in the lowest byte.
const (
	flagHasIsRemote = 0x100
	flagIsRemote    = 0x200
)

// spanItem is a span on its way. A span that has ended never changes, so it is
// encoded by the queue's goroutine; one that has just started is encoded at once.
type spanItem struct {
	span    sdktrace.ReadOnlySpan
	encoded []byte // of an announcement
}

// spanQueue is the way out of spans.
type spanQueue struct {
	*ship.Shipper[spanItem]
	enc  encoder      // the shipper's goroutine
	cuts atomic.Int64 // values cut, in both encoders
}

func (q *spanQueue) config(c ship.Config[spanItem]) ship.Config[spanItem] {
	c.Cost = spanCost
	c.Encode = func(dst []byte, it spanItem) ([]byte, error) {
		if it.encoded != nil {
			return append(dst, it.encoded...), nil
		}
		dst = q.enc.span(dst, it.span)
		q.cuts.Add(q.enc.takeCuts())
		return dst, nil
	}
	c.Frame = func(dst []byte, parts []ship.Part[spanItem]) []byte {
		return q.enc.envelope(dst, len(parts), func(i int) ([]byte, origin) {
			s := parts[i].Item.span
			return parts[i].Data, origin{s.Resource(), s.InstrumentationScope()}
		})
	}
	return c
}

// takeCuts returns the cuts since the last call.
func (e *encoder) takeCuts() int64 {
	n := e.cuts
	e.cuts = 0
	return n
}

func spanCost(it spanItem) int {
	s := it.span
	if it.encoded != nil {
		return 512 + len(it.encoded) // the span itself is alive anyway
	}
	n := 512 + len(s.Name()) + attributesCost(s.Attributes())
	for _, e := range s.Events() {
		n += 96 + len(e.Name) + attributesCost(e.Attributes)
	}
	for _, l := range s.Links() {
		n += 128 + attributesCost(l.Attributes)
	}
	return n
}

// spanProcessor hands spans to the queue.
type spanProcessor struct{ queue *spanQueue }

// SpanProcessor returns the processor that takes sampled spans as they end. It
// only puts them into the queue: encoding and sending are done by a goroutine.
//
// A span that starts with the attribute kaizen.kind "run" is announced at once,
// as a copy with kaizen.pending true and no end time, so that a server can show
// runs that are under way or were killed.
//
// Its ForceFlush flushes the exporter's spans. Its Shutdown, which the tracer
// provider calls, shuts down their way out: no span is taken after it.
func (e *Exporter) SpanProcessor() sdktrace.SpanProcessor {
	return &spanProcessor{e.traces}
}

// OnStart announces a run.
func (p *spanProcessor) OnStart(_ context.Context, s sdktrace.ReadWriteSpan) {
	if !s.SpanContext().IsSampled() || !isRun(s.Attributes()) {
		return
	}
	var enc encoder
	encoded := enc.spanWith(nil, s, pendingKey.Bool(true))
	p.queue.cuts.Add(enc.takeCuts())
	p.queue.Offer(spanItem{span: s, encoded: encoded})
}

func isRun(kvs []attribute.KeyValue) bool {
	for i := range kvs {
		if kvs[i].Key == kindKey {
			return kvs[i].Value.AsString() == kindRun
		}
	}
	return false
}

// OnEnd queues a sampled span.
func (p *spanProcessor) OnEnd(s sdktrace.ReadOnlySpan) {
	if s.SpanContext().IsSampled() {
		p.queue.Offer(spanItem{span: s})
	}
}

// ForceFlush waits until every span taken so far is acknowledged.
func (p *spanProcessor) ForceFlush(ctx context.Context) error { return p.queue.Flush(ctx) }

// Shutdown sends or spools what was taken, and takes no more.
func (p *spanProcessor) Shutdown(ctx context.Context) error { return p.queue.Shutdown(ctx) }

// span appends the fields of a Span message.
func (e *encoder) span(dst []byte, s sdktrace.ReadOnlySpan) []byte {
	return e.spanWith(dst, s, attribute.KeyValue{})
}

// spanWith adds one attribute, unless it has no key.
func (e *encoder) spanWith(dst []byte, s sdktrace.ReadOnlySpan, extra attribute.KeyValue) []byte {
	sc, parent := s.SpanContext(), s.Parent()
	tid, sid := sc.TraceID(), sc.SpanID()
	dst = appendBytes(dst, 1, tid[:])
	dst = appendBytes(dst, 2, sid[:])
	dst = appendString(dst, 3, sc.TraceState().String())
	if psid := parent.SpanID(); psid.IsValid() {
		dst = appendBytes(dst, 4, psid[:])
	}
	dst = appendFixed32(dst, 16, spanFlags(sc.TraceFlags(), parent.IsRemote()))
	dst = appendString(dst, 5, s.Name())
	dst = appendUint(dst, 6, uint64(max(s.SpanKind(), 0))) // the numbers are those of OTLP
	dst = appendTime(dst, 7, s.StartTime())
	dst = appendTime(dst, 8, s.EndTime())
	if extra.Key != "" {
		dst = e.keyValue(dst, 9, extra)
	}
	dst = e.attributes(dst, 9, s.Attributes())
	dst = appendUint(dst, 10, count32(s.DroppedAttributes()))
	for _, ev := range s.Events() {
		dst = e.event(dst, ev)
	}
	dst = appendUint(dst, 12, count32(s.DroppedEvents()))
	for _, l := range s.Links() {
		dst = e.link(dst, l)
	}
	dst = appendUint(dst, 14, count32(s.DroppedLinks()))
	return appendStatus(dst, s.Status())
}

func spanFlags(f trace.TraceFlags, remote bool) uint32 {
	flags := uint32(f) | flagHasIsRemote
	if remote {
		flags |= flagIsRemote
	}
	return flags
}

func count32(n int) uint64 { return uint64(min(max(n, 0), 1<<32-1)) }

func (e *encoder) event(dst []byte, ev sdktrace.Event) []byte {
	dst, at := begin(dst, 11)
	dst = appendTime(dst, 1, ev.Time)
	dst = appendString(dst, 2, ev.Name)
	dst = e.attributes(dst, 3, ev.Attributes)
	dst = appendUint(dst, 4, count32(ev.DroppedAttributeCount))
	return end(dst, at)
}

func (e *encoder) link(dst []byte, l sdktrace.Link) []byte {
	dst, at := begin(dst, 13)
	tid, sid := l.SpanContext.TraceID(), l.SpanContext.SpanID()
	dst = appendBytes(dst, 1, tid[:])
	dst = appendBytes(dst, 2, sid[:])
	dst = appendString(dst, 3, l.SpanContext.TraceState().String())
	dst = e.attributes(dst, 4, l.Attributes)
	dst = appendUint(dst, 5, count32(l.DroppedAttributeCount))
	dst = appendFixed32(dst, 6, spanFlags(l.SpanContext.TraceFlags(), l.SpanContext.IsRemote()))
	return end(dst, at)
}

// appendStatus writes nothing for a status that was not set. OpenTelemetry's
// codes are unset 0, error 1, ok 2; those of OTLP unset 0, ok 1, error 2.
func appendStatus(dst []byte, st sdktrace.Status) []byte {
	var code uint64
	switch st.Code {
	case codes.Ok:
		code = 1
	case codes.Error:
		code = 2
	default:
		return dst
	}
	dst, at := begin(dst, 15)
	dst = appendString(dst, 2, st.Description)
	dst = appendUint(dst, 3, code)
	return end(dst, at)
}
