package otlp

import (
	"errors"
	"fmt"
	"slices"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/instrumentation"
	"go.opentelemetry.io/otel/sdk/resource"
	"google.golang.org/protobuf/encoding/protowire"
)

// The envelope of the three signals has one shape, with the same field numbers:
// request{1: resource{1: attributes …, 2: scope{1: scope, 2: record, 3: schema}, 3: schema}}.

// origin is what records have in common.
type origin struct {
	resource *resource.Resource
	scope    instrumentation.Scope
}

// group holds the records of one resource, scoped those of one scope in it.
type (
	group struct {
		resource *resource.Resource
		scopes   []*scoped
		byScope  map[instrumentation.Scope]*scoped
	}
	scoped struct {
		scope   instrumentation.Scope
		records [][]byte
	}
)

// resourceKey says which resources are the same.
type resourceKey struct {
	content attribute.Distinct
	schema  string
}

// grouped sorts n records by resource and scope, in the order in which those
// first appear.
func grouped(n int, record func(int) ([]byte, origin)) []*group {
	var groups []*group
	byResource := map[resourceKey]*group{}
	var g *group
	var s *scoped
	for i := range n {
		data, o := record(i)
		// Most records come from where the one before came from.
		if s != nil && o.resource == g.resource && o.scope == s.scope {
			s.records = append(s.records, data)
			continue
		}
		key := resourceKey{o.resource.Equivalent(), o.resource.SchemaURL()}
		g = byResource[key]
		if g == nil {
			g = &group{resource: o.resource, byScope: map[instrumentation.Scope]*scoped{}}
			byResource[key] = g
			groups = append(groups, g)
		}
		s = g.byScope[o.scope]
		if s == nil {
			s = &scoped{scope: o.scope}
			if i == 0 {
				s.records = make([][]byte, 0, n) // as a rule it has them all
			}
			g.byScope[o.scope] = s
			g.scopes = append(g.scopes, s)
		}
		s.records = append(s.records, data)
	}
	return groups
}

// envelope appends a request with n encoded records.
func (e *encoder) envelope(dst []byte, n int, record func(int) ([]byte, origin)) []byte {
	for _, g := range grouped(n, record) {
		var at int
		dst, at = begin(dst, 1)
		dst = e.resource(dst, g.resource)
		for _, s := range g.scopes {
			dst = e.scopeRecords(dst, s.scope, s.records)
		}
		dst = appendString(dst, 3, g.resource.SchemaURL())
		dst = end(dst, at)
	}
	return dst
}

func (e *encoder) resource(dst []byte, r *resource.Resource) []byte {
	dst, at := begin(dst, 1)
	for it := r.Iter(); it.Next(); {
		dst = e.keyValue(dst, 1, it.Attribute())
	}
	dst = e.flushMarks(dst, 1)
	return end(dst, at)
}

func (e *encoder) scopeRecords(dst []byte, scope instrumentation.Scope, records [][]byte) []byte {
	dst, at := begin(dst, 2)
	dst, inner := begin(dst, 1)
	dst = appendString(dst, 1, scope.Name)
	dst = appendString(dst, 2, scope.Version)
	for it := scope.Attributes.Iter(); it.Next(); {
		dst = e.keyValue(dst, 3, it.Attribute())
	}
	dst = e.flushMarks(dst, 3)
	dst = end(dst, inner)
	size := 0
	for _, r := range records {
		size += len(r) + 6 // its tag and length
	}
	dst = slices.Grow(dst, size) // at once: to grow by and by is to copy again and again
	for _, r := range records {
		dst = protowire.AppendBytes(protowire.AppendTag(dst, 2, protowire.BytesType), r)
	}
	dst = appendString(dst, 3, scope.SchemaURL)
	return end(dst, at)
}

var errResponse = errors.New("otlp: answer is not an export response")

// partialSuccess reads an Export…ServiceResponse{1: partial_success{1: rejected,
// 2: message}}; the three signals have the same shape. An answer in another
// format says nothing about refusals, so none are counted.
func partialSuccess(body []byte) (rejected int64, message string) {
	rejected, message, err := decodePartialSuccess(body)
	if err != nil {
		return 0, ""
	}
	return rejected, message
}

func decodePartialSuccess(body []byte) (rejected int64, message string, err error) {
	err = fields(body, func(num protowire.Number, _ uint64, b []byte) error {
		if num != 1 || b == nil {
			return nil
		}
		return fields(b, func(num protowire.Number, v uint64, b []byte) error {
			switch {
			case num == 1 && b == nil:
				rejected = int64(v)
			case num == 2 && b != nil:
				message = string(b)
			}
			return nil
		})
	})
	return rejected, message, err
}

// fields calls f for each varint field, with its value, and each length-delimited
// one, with its bytes (never nil); others are skipped.
func fields(b []byte, f func(num protowire.Number, v uint64, b []byte) error) error {
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return fmt.Errorf("%w: %w", errResponse, protowire.ParseError(n))
		}
		b = b[n:]
		var err error
		switch typ {
		case protowire.VarintType:
			var v uint64
			if v, n = protowire.ConsumeVarint(b); n >= 0 {
				err = f(num, v, nil)
			}
		case protowire.BytesType:
			var inner []byte
			if inner, n = protowire.ConsumeBytes(b); n >= 0 {
				err = f(num, 0, inner)
			}
		default:
			n = protowire.ConsumeFieldValue(num, typ, b)
		}
		if n < 0 {
			return fmt.Errorf("%w: %w", errResponse, protowire.ParseError(n))
		}
		if err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}
