package otlp

import (
	"math"
	"strings"
	"time"
	"unicode/utf8"

	"go.opentelemetry.io/otel/attribute"
	"google.golang.org/protobuf/encoding/protowire"
)

const (
	// MaxValueBytes bounds the text and bytes of one attribute's value, nested
	// ones included, and of a log record's body. What is longer is cut, counted
	// in [SignalStats], and named in the attribute [CutKey] beside it.
	MaxValueBytes = 1 << 20
	// CutKey is the attribute that lists the keys whose values were cut; the
	// body of a log record is listed as "body".
	CutKey = "kaizen.cut"

	// maxDepth bounds nested maps and slices: each level is up to three nested
	// messages, and readers in C++ and Java give up at 100. What is deeper is
	// sent as its JSON text.
	maxDepth = 24
	// elementBytes is what an element of a slice or map costs of the bound.
	elementBytes = 8
)

// A message is written in place: begin leaves one byte for its length, end fills
// it in and moves the message if the length needs more.
func begin(dst []byte, num protowire.Number) ([]byte, int) {
	dst = protowire.AppendTag(dst, num, protowire.BytesType)
	return append(dst, 0), len(dst)
}

func end(dst []byte, at int) []byte {
	n := len(dst) - at - 1
	size := protowire.SizeVarint(uint64(n))
	if size > 1 {
		dst = append(dst, make([]byte, size-1)...)
		copy(dst[at+size:], dst[at+1:at+1+n])
	}
	protowire.AppendVarint(dst[:at], uint64(n))
	return dst
}

// The append functions below leave out zero values, as proto3 does.

func appendUint(dst []byte, num protowire.Number, v uint64) []byte {
	if v == 0 {
		return dst
	}
	return protowire.AppendVarint(protowire.AppendTag(dst, num, protowire.VarintType), v)
}

func appendFixed64(dst []byte, num protowire.Number, v uint64) []byte {
	if v == 0 {
		return dst
	}
	return protowire.AppendFixed64(protowire.AppendTag(dst, num, protowire.Fixed64Type), v)
}

// appendOptional64 writes zero too: the field has presence, or is in a oneof.
func appendOptional64(dst []byte, num protowire.Number, v uint64) []byte {
	return protowire.AppendFixed64(protowire.AppendTag(dst, num, protowire.Fixed64Type), v)
}

func appendDouble(dst []byte, num protowire.Number, v float64) []byte {
	return appendOptional64(dst, num, math.Float64bits(v))
}

func appendFixed32(dst []byte, num protowire.Number, v uint32) []byte {
	if v == 0 {
		return dst
	}
	return protowire.AppendFixed32(protowire.AppendTag(dst, num, protowire.Fixed32Type), v)
}

func appendBytes(dst []byte, num protowire.Number, v []byte) []byte {
	if len(v) == 0 {
		return dst
	}
	return protowire.AppendBytes(protowire.AppendTag(dst, num, protowire.BytesType), v)
}

func appendString(dst []byte, num protowire.Number, s string) []byte {
	if s == "" {
		return dst
	}
	return appendText(dst, num, s)
}

// appendText writes s even when it is empty. A string that is not UTF-8 would
// make strict receivers refuse the whole batch, so its bad bytes are replaced.
func appendText(dst []byte, num protowire.Number, s string) []byte {
	if !utf8.ValidString(s) {
		s = strings.ToValidUTF8(s, "\uFFFD")
	}
	return protowire.AppendString(protowire.AppendTag(dst, num, protowire.BytesType), s)
}

func appendTime(dst []byte, num protowire.Number, t time.Time) []byte {
	return appendFixed64(dst, num, unixNano(t))
}

// unixNano is zero for the zero time and for times that OTLP cannot say.
func unixNano(t time.Time) uint64 {
	if s := t.Unix(); s < 0 || s >= math.MaxInt64/int64(time.Second) {
		return 0
	}
	return uint64(t.UnixNano())
}

// encoder writes attributes. One goroutine uses it.
type encoder struct {
	cuts   int64    // values cut so far
	budget int      // bytes left for the value under way
	cut    bool     // the value under way was cut
	marks  []string // keys cut in the list under way
	common common   // of log records
}

// attributes writes each pair as field num, and [CutKey] when values were cut.
func (e *encoder) attributes(dst []byte, num protowire.Number, kvs []attribute.KeyValue) []byte {
	for _, kv := range kvs {
		dst = e.keyValue(dst, num, kv)
	}
	return e.flushMarks(dst, num)
}

// flushMarks writes [CutKey] for the values cut since the last call.
func (e *encoder) flushMarks(dst []byte, num protowire.Number) []byte {
	if len(e.marks) == 0 {
		return dst
	}
	mark := attribute.StringSlice(CutKey, e.marks)
	e.marks = e.marks[:0]
	dst, at := begin(dst, num)
	dst = appendString(dst, 1, CutKey)
	e.budget = math.MaxInt // the mark itself is not cut
	dst = e.value(dst, 2, mark.Value, 0)
	return end(dst, at)
}

func (e *encoder) keyValue(dst []byte, num protowire.Number, kv attribute.KeyValue) []byte {
	dst, at := begin(dst, num)
	dst = appendString(dst, 1, string(kv.Key))
	dst = e.bounded(dst, 2, string(kv.Key), kv.Value)
	return end(dst, at)
}

// bounded writes one value within [MaxValueBytes].
func (e *encoder) bounded(dst []byte, num protowire.Number, key string, v attribute.Value) []byte {
	e.budget, e.cut = MaxValueBytes, false
	dst = e.value(dst, num, v, 0)
	if e.cut {
		e.cuts++
		e.marks = append(e.marks, key)
	}
	return dst
}

// value writes an AnyValue as field num.
func (e *encoder) value(dst []byte, num protowire.Number, v attribute.Value, depth int) []byte {
	dst, at := begin(dst, num)
	switch v.Type() {
	case attribute.BOOL:
		dst = appendBool(dst, v.AsBool())
	case attribute.INT64:
		dst = appendInt(dst, v.AsInt64())
	case attribute.FLOAT64:
		dst = appendDouble(dst, 4, v.AsFloat64())
	case attribute.STRING:
		dst = appendText(dst, 1, e.fit(v.AsString()))
	case attribute.BYTESLICE:
		b := v.AsByteSlice()
		dst = protowire.AppendBytes(protowire.AppendTag(dst, 7, protowire.BytesType), b[:e.take(len(b))])
	case attribute.EMPTY: // an AnyValue without content
	case attribute.BOOLSLICE, attribute.INT64SLICE, attribute.FLOAT64SLICE, attribute.STRINGSLICE, attribute.SLICE, attribute.MAP:
		dst = e.list(dst, v, depth)
	default:
		// A type that a later OpenTelemetry added: its text is better than nothing.
		dst = appendText(dst, 1, e.fit(v.String()))
	}
	return end(dst, at)
}

func appendBool(dst []byte, v bool) []byte {
	return protowire.AppendVarint(protowire.AppendTag(dst, 2, protowire.VarintType), protowire.EncodeBool(v))
}

func appendInt(dst []byte, v int64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(dst, 3, protowire.VarintType), uint64(v))
}

// list writes the content of an AnyValue that holds several values.
func (e *encoder) list(dst []byte, v attribute.Value, depth int) []byte {
	if depth >= maxDepth {
		return appendText(dst, 1, e.fit(v.String()))
	}
	if v.Type() == attribute.MAP {
		return e.pairs(dst, v.AsMap(), depth)
	}
	dst, at := begin(dst, 5)
	switch v.Type() {
	case attribute.BOOLSLICE:
		dst = elements(e, dst, v.AsBoolSlice(), attribute.BoolValue, depth)
	case attribute.INT64SLICE:
		dst = elements(e, dst, v.AsInt64Slice(), attribute.Int64Value, depth)
	case attribute.FLOAT64SLICE:
		dst = elements(e, dst, v.AsFloat64Slice(), attribute.Float64Value, depth)
	case attribute.STRINGSLICE:
		dst = elements(e, dst, v.AsStringSlice(), attribute.StringValue, depth)
	case attribute.SLICE:
		dst = elements(e, dst, v.AsSlice(), func(v attribute.Value) attribute.Value { return v }, depth)
	}
	return end(dst, at)
}

func elements[T any](e *encoder, dst []byte, list []T, value func(T) attribute.Value, depth int) []byte {
	for _, x := range list {
		if e.take(elementBytes) < elementBytes {
			break
		}
		dst = e.value(dst, 1, value(x), depth+1)
	}
	return dst
}

func (e *encoder) pairs(dst []byte, kvs []attribute.KeyValue, depth int) []byte {
	dst, at := begin(dst, 6)
	for _, kv := range kvs {
		n := elementBytes + len(kv.Key)
		if e.take(n) < n {
			break
		}
		var pair int
		dst, pair = begin(dst, 1)
		dst = appendString(dst, 1, string(kv.Key))
		dst = e.value(dst, 2, kv.Value, depth+1)
		dst = end(dst, pair)
	}
	return end(dst, at)
}

// take takes up to n bytes of the budget and says how many it got.
func (e *encoder) take(n int) int {
	if n > e.budget {
		n, e.cut = e.budget, true
	}
	e.budget -= n
	return n
}

// fit returns the part of s that the budget allows, cut between characters.
func (e *encoder) fit(s string) string {
	n := e.take(len(s))
	for n > 0 && n < len(s) && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

// valueCost estimates the memory of a value in bytes. It is called on the
// caller's path, so the usual types cost no allocation.
func valueCost(v attribute.Value) int {
	n := 0
	switch v.Type() {
	case attribute.STRING:
		return len(v.AsString())
	case attribute.BYTESLICE:
		return len(v.AsByteSlice())
	case attribute.BOOLSLICE:
		return len(v.AsBoolSlice())
	case attribute.INT64SLICE:
		return 8 * len(v.AsInt64Slice())
	case attribute.FLOAT64SLICE:
		return 8 * len(v.AsFloat64Slice())
	case attribute.STRINGSLICE:
		for _, s := range v.AsStringSlice() {
			n += 16 + len(s)
		}
	case attribute.SLICE:
		for _, x := range v.AsSlice() {
			n += 56 + valueCost(x)
		}
	case attribute.MAP:
		n += attributesCost(v.AsMap())
	}
	return n
}

func attributesCost(kvs []attribute.KeyValue) int {
	n := 0
	for i := range kvs {
		n += 72 + len(kvs[i].Key)
		if t := kvs[i].Value.Type(); t == attribute.STRING {
			n += len(kvs[i].Value.AsString())
		} else if t > attribute.STRING {
			n += valueCost(kvs[i].Value)
		}
	}
	return n
}
