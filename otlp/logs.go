package otlp

import (
	"crypto/rand"
	"slices"
	"sync/atomic"
	"time"

	"github.com/oklog/ulid/v2"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/instrumentation"
	"go.opentelemetry.io/otel/sdk/resource"
	"go.opentelemetry.io/otel/trace"

	"github.com/kaizen-go/kaizen/internal/ship"
)

// UIDKey is the attribute with the record's own id, by which a receiver knows a
// record that it was sent before.
const UIDKey = "log.record.uid"

// LogRecord is one log record.
type LogRecord struct {
	// Time is when it happened. If zero, only Observed is sent.
	Time time.Time
	// Observed is when it was taken up. If zero, the time of EmitLog.
	Observed time.Time
	// Severity is OTLP's number, 1 (trace) to 24 (fatal4); 0 is unknown.
	Severity     int
	SeverityText string
	Body         string
	// Logger is sent as the name of the instrumentation scope.
	Logger string
	// TraceID and SpanID are left out when zero.
	TraceID trace.TraceID
	SpanID  trace.SpanID
	Flags   trace.TraceFlags
	// Common are attributes that the record has in common with others, such as the
	// ids of their run. They are sent before Attributes and are never copied: many
	// records may share one slice, which must not change.
	Common []attribute.KeyValue
	// Attributes may be reused by the caller once EmitLog has returned. A
	// [UIDKey], a ULID, is added when there is none.
	Attributes []attribute.KeyValue
}

// logQueue is the way out of log records.
type logQueue struct {
	*ship.Shipper[*LogRecord]
	enc     encoder // the shipper's goroutine
	cuts    atomic.Int64
	entropy *ulid.MonotonicEntropy // the shipper's goroutine
	last    ulid.ULID              // likewise: the id made last
}

func (q *logQueue) config(c ship.Config[*LogRecord], res *resource.Resource) ship.Config[*LogRecord] {
	q.entropy = ulid.Monotonic(rand.Reader, 0)
	c.Cost = func(r *LogRecord) int {
		return 256 + len(r.Body) + len(r.Logger) + len(r.SeverityText) + attributesCost(r.Attributes) + attributesCost(r.Common)
	}
	c.Encode = func(dst []byte, r *LogRecord) ([]byte, error) {
		dst = q.enc.logRecord(dst, r, q.uid)
		q.cuts.Add(q.enc.takeCuts())
		return dst, nil
	}
	c.Frame = func(dst []byte, parts []ship.Part[*LogRecord]) []byte {
		return q.enc.envelope(dst, len(parts), func(i int) ([]byte, origin) {
			return parts[i].Data, origin{res, instrumentation.Scope{Name: parts[i].Item.Logger}}
		})
	}
	return c
}

// uid makes an id for a record of that time.
func (q *logQueue) uid(at time.Time) ulid.ULID {
	if q.last.SetTime(ulid.Timestamp(at)) != nil || q.entropy.MonotonicRead(q.last.Time(), q.last[6:]) != nil {
		// The counter of this millisecond is used up, or the time is beyond
		// what a ULID can say: a random id of now serves as well.
		q.last = ulid.Make()
	}
	return q.last
}

// EmitLog takes a record, or drops and counts it when the queue is full. It
// never waits.
func (e *Exporter) EmitLog(r LogRecord) {
	r.Attributes = slices.Clone(r.Attributes)
	e.TakeLog(&r)
}

// TakeLog is [Exporter.EmitLog] for a record that was made for the exporter: it
// and its attributes belong to the exporter from now on, and are not copied.
func (e *Exporter) TakeLog(r *LogRecord) {
	if r.Observed.IsZero() {
		r.Observed = time.Now()
	}
	e.logs.Offer(r)
}

// logRecord appends the fields of a LogRecord message.
func (e *encoder) logRecord(dst []byte, r *LogRecord, uid func(time.Time) ulid.ULID) []byte {
	dst = appendTime(dst, 1, r.Time)
	dst = appendUint(dst, 2, uint64(min(max(r.Severity, 0), 24)))
	dst = appendString(dst, 3, r.SeverityText)
	if r.Body != "" {
		dst = e.bounded(dst, 5, "body", attribute.StringValue(r.Body))
	}
	if !hasUID(r.Attributes) && !hasUID(r.Common) {
		at := r.Time
		if at.IsZero() {
			at = r.Observed
		}
		dst = appendUID(dst, uid(at))
	}
	dst = e.commonAttributes(dst, r.Common)
	dst = e.attributes(dst, 6, r.Attributes)
	dst = appendFixed32(dst, 8, uint32(r.Flags))
	if r.TraceID.IsValid() {
		dst = appendBytes(dst, 9, r.TraceID[:])
	}
	if r.SpanID.IsValid() {
		dst = appendBytes(dst, 10, r.SpanID[:])
	}
	return appendTime(dst, 11, r.Observed)
}

func hasUID(kvs []attribute.KeyValue) bool {
	for i := range kvs {
		if kvs[i].Key == UIDKey {
			return true
		}
	}
	return false
}

// common is what attributes that the latest record had in common with others look
// like on the wire.
type common struct {
	kvs     []attribute.KeyValue
	encoded []byte
}

// commonAttributes writes the attributes that records have in common: encoded once
// for records that follow each other. What is cut is marked by who writes the rest:
// a mark may be due for a part of this record alone, such as its body.
func (e *encoder) commonAttributes(dst []byte, kvs []attribute.KeyValue) []byte {
	if len(kvs) == 0 {
		return dst
	}
	if c := &e.common; len(c.kvs) == len(kvs) && &c.kvs[0] == &kvs[0] {
		return append(dst, c.encoded...)
	}
	start, cuts := len(dst), e.cuts
	for _, kv := range kvs {
		dst = e.keyValue(dst, 6, kv)
	}
	if e.cuts == cuts { // a cut is counted for each record
		e.common = common{kvs, append(e.common.encoded[:0], dst[start:]...)}
	}
	return dst
}

// appendUID appends the attribute with a record's own id.
func appendUID(dst []byte, id ulid.ULID) []byte {
	var text [ulid.EncodedSize]byte
	_ = id.MarshalTextTo(text[:]) // errs on a slice of another length only
	dst, at := begin(dst, 6)
	dst = appendString(dst, 1, UIDKey)
	dst, value := begin(dst, 2)
	dst = appendBytes(dst, 1, text[:])
	return end(end(dst, value), at)
}
