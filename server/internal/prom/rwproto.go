package prom

import (
	"errors"
	"fmt"
	"math"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/metadata"
	"google.golang.org/protobuf/encoding/protowire"
)

// The remote-write messages, read by hand: Prometheus's own types need
// gogo/protobuf, which nothing else here links.
//
//	v1 WriteRequest  { 1 timeseries*, 3 metadata* }
//	   TimeSeries    { 1 label{1 name, 2 value}*, 2 sample{1 double, 2 ms}*, 3 exemplar{1 label*, 2 double, 3 ms}*, 4 histogram* }
//	   Metadata      { 1 type, 2 family, 4 help, 5 unit }
//	v2 Request       { 4 symbol*, 5 timeseries* }
//	   TimeSeries    { 1 label refs, 2 sample{1 double, 2 ms}*, 3 histogram*, 4 exemplar{1 label refs, 2 double, 3 ms}*, 5 metadata{1 type, 3 help, 4 unit} }
//	   Histogram     { 1 count, 2 count float, 3 sum, 4 schema, 5 zero threshold, 6 zero count, 7 zero count float,
//	                   8 negative spans, 9 negative deltas, 10 negative counts, 11 positive spans, 12 deltas, 13 counts,
//	                   14 reset hint, 15 ms, 16 custom bounds }    the same in both

// writeRequest is what both versions carry.
type writeRequest struct {
	series   []writeSeries
	metadata map[string]metadata.Metadata
}

// writeSeries is one series of a request.
type writeSeries struct {
	labels    labels.Labels
	err       error // why the labels are unusable
	samples   []sample
	exemplars []exemplar.Exemplar
}

var errMalformed = errors.New("malformed message")

// fields calls f for every field of a message. v holds a varint or fixed
// number, b the bytes of a length-delimited field.
func fields(msg []byte, f func(num protowire.Number, typ protowire.Type, v uint64, b []byte) error) error {
	for len(msg) > 0 {
		num, typ, n := protowire.ConsumeTag(msg)
		if n < 0 {
			return errMalformed
		}
		msg = msg[n:]
		var (
			v uint64
			b []byte
		)
		switch typ {
		case protowire.VarintType:
			v, n = protowire.ConsumeVarint(msg)
		case protowire.Fixed64Type:
			v, n = protowire.ConsumeFixed64(msg)
		case protowire.BytesType:
			b, n = protowire.ConsumeBytes(msg)
		default:
			n = protowire.ConsumeFieldValue(num, typ, msg)
		}
		if n < 0 {
			return errMalformed
		}
		msg = msg[n:]
		if err := f(num, typ, v, b); err != nil {
			return err
		}
	}
	return nil
}

// want returns an error unless a known field came in its type.
func want(num protowire.Number, got, typ protowire.Type) error {
	if got != typ {
		return fmt.Errorf("%w: field %d has wire type %d", errMalformed, num, got)
	}
	return nil
}

func parseWriteV1(msg []byte) (writeRequest, error) {
	req := writeRequest{metadata: map[string]metadata.Metadata{}}
	err := fields(msg, func(num protowire.Number, typ protowire.Type, _ uint64, b []byte) error {
		if num != 1 && num != 3 {
			return nil
		}
		if err := want(num, typ, protowire.BytesType); err != nil {
			return err
		}
		if num == 3 {
			family, m, err := parseMetadata(b, 2, 4, 5, nil)
			req.metadata[family] = m
			return err
		}
		s, err := parseSeriesV1(b)
		req.series = append(req.series, s)
		return err
	})
	return req, err
}

func parseSeriesV1(msg []byte) (writeSeries, error) {
	var s writeSeries
	var b labels.ScratchBuilder
	err := fields(msg, func(num protowire.Number, typ protowire.Type, _ uint64, f []byte) error {
		if num < 1 || num > 4 {
			return nil
		}
		if err := want(num, typ, protowire.BytesType); err != nil {
			return err
		}
		switch num {
		case 1:
			return parseLabel(f, &b)
		case 2:
			return s.sample(f)
		case 3:
			return s.exemplar(f, nil)
		}
		return s.histogram(f)
	})
	s.setLabels(&b)
	return s, err
}

func parseWriteV2(msg []byte) (writeRequest, error) {
	req := writeRequest{metadata: map[string]metadata.Metadata{}}
	var symbols []string
	var series [][]byte // the symbols may come after them
	err := fields(msg, func(num protowire.Number, typ protowire.Type, _ uint64, b []byte) error {
		if num != 4 && num != 5 {
			return nil
		}
		if err := want(num, typ, protowire.BytesType); err != nil {
			return err
		}
		if num == 4 {
			symbols = append(symbols, string(b))
		} else {
			series = append(series, b)
		}
		return nil
	})
	if err != nil {
		return req, err
	}
	if len(symbols) == 0 {
		symbols = []string{""}
	}
	for _, msg := range series {
		s, m, err := parseSeriesV2(msg, symbols)
		if err != nil {
			return req, err
		}
		req.series = append(req.series, s)
		if m.Type != "" && m.Type != model.MetricTypeUnknown || m.Help != "" {
			req.metadata[familyOf(s.labels.Get(model.MetricNameLabel), m.Type)] = m
		}
	}
	return req, nil
}

func parseSeriesV2(msg []byte, symbols []string) (writeSeries, metadata.Metadata, error) {
	var (
		s    writeSeries
		m    metadata.Metadata
		refs []uint64
	)
	err := fields(msg, func(num protowire.Number, typ protowire.Type, v uint64, f []byte) (err error) {
		if num == 1 {
			refs, err = appendVarints(refs, typ, v, f)
			return err
		}
		if num < 2 || num > 5 {
			return nil
		}
		if err := want(num, typ, protowire.BytesType); err != nil {
			return err
		}
		switch num {
		case 2:
			return s.sample(f)
		case 3:
			return s.histogram(f)
		case 4:
			return s.exemplar(f, symbols)
		}
		_, m, err = parseMetadata(f, 0, 3, 4, symbols)
		return err
	})
	if err != nil {
		return s, m, err
	}
	var b labels.ScratchBuilder
	if err := addRefs(&b, refs, symbols); err != nil {
		return s, m, err
	}
	s.setLabels(&b)
	return s, m, nil
}

// addRefs adds the labels that pairs of references into symbols stand for.
func addRefs(b *labels.ScratchBuilder, refs []uint64, symbols []string) error {
	if len(refs)%2 != 0 {
		return fmt.Errorf("%w: odd number of label references", errMalformed)
	}
	for i := 0; i < len(refs); i += 2 {
		if max(refs[i], refs[i+1]) >= uint64(len(symbols)) {
			return fmt.Errorf("%w: label reference beyond %d symbols", errMalformed, len(symbols))
		}
		b.Add(symbols[refs[i]], symbols[refs[i+1]])
	}
	return nil
}

// appendVarints reads a repeated number, packed or not.
func appendVarints(list []uint64, typ protowire.Type, v uint64, packed []byte) ([]uint64, error) {
	switch typ {
	case protowire.VarintType:
		return append(list, v), nil
	case protowire.BytesType:
		for len(packed) > 0 {
			v, n := protowire.ConsumeVarint(packed)
			if n < 0 {
				return list, errMalformed
			}
			list, packed = append(list, v), packed[n:]
		}
		return list, nil
	}
	return list, errMalformed
}

// appendDoubles reads a repeated double, packed or not.
func appendDoubles(list []float64, typ protowire.Type, v uint64, packed []byte) ([]float64, error) {
	switch typ {
	case protowire.Fixed64Type:
		return append(list, math.Float64frombits(v)), nil
	case protowire.BytesType:
		for len(packed) > 0 {
			v, n := protowire.ConsumeFixed64(packed)
			if n < 0 {
				return list, errMalformed
			}
			list, packed = append(list, math.Float64frombits(v)), packed[n:]
		}
		return list, nil
	}
	return list, errMalformed
}

func parseLabel(msg []byte, b *labels.ScratchBuilder) error {
	var name, value string
	err := fields(msg, func(num protowire.Number, typ protowire.Type, _ uint64, f []byte) error {
		switch num {
		case 1:
			name = string(f)
		case 2:
			value = string(f)
		default:
			return nil
		}
		return want(num, typ, protowire.BytesType)
	})
	b.Add(name, value)
	return err
}

// setLabels takes the labels over and says what is wrong with them.
func (s *writeSeries) setLabels(b *labels.ScratchBuilder) {
	b.Sort()
	ls := b.Labels()
	s.labels = ls.WithoutEmpty()
	switch dup, has := ls.HasDuplicateLabelNames(); {
	case has:
		s.err = refuse(reasonInvalid, "label %.64q is given twice", dup)
	case ls.Get(model.MetricNameLabel) == "":
		s.err = refuse(reasonInvalid, "series without a name")
	case !ls.IsValid(model.UTF8Validation):
		s.err = refuse(reasonInvalid, "invalid metric name or labels")
	}
}

// sample reads { 1 value, 2 ms }.
func (s *writeSeries) sample(msg []byte) error {
	var x sample
	err := fields(msg, func(num protowire.Number, typ protowire.Type, v uint64, _ []byte) error {
		switch num {
		case 1:
			x.v = math.Float64frombits(v)
			return want(num, typ, protowire.Fixed64Type)
		case 2:
			x.t = int64(v)
			return want(num, typ, protowire.VarintType)
		}
		return nil
	})
	s.samples = append(s.samples, x)
	return err
}

// exemplar reads { 1 labels, 2 value, 3 ms }, the labels by reference if there
// are symbols.
func (s *writeSeries) exemplar(msg []byte, symbols []string) error {
	x := exemplar.Exemplar{HasTs: true}
	var b labels.ScratchBuilder
	var refs []uint64
	err := fields(msg, func(num protowire.Number, typ protowire.Type, v uint64, f []byte) (err error) {
		switch {
		case num == 1 && symbols != nil:
			refs, err = appendVarints(refs, typ, v, f)
			return err
		case num == 1:
			if err := want(num, typ, protowire.BytesType); err != nil {
				return err
			}
			return parseLabel(f, &b)
		case num == 2:
			x.Value = math.Float64frombits(v)
			return want(num, typ, protowire.Fixed64Type)
		case num == 3:
			x.Ts = int64(v)
			return want(num, typ, protowire.VarintType)
		}
		return nil
	})
	if err == nil && symbols != nil {
		err = addRefs(&b, refs, symbols)
	}
	b.Sort()
	x.Labels = b.Labels()
	s.exemplars = append(s.exemplars, x)
	return err
}

// metricTypes are the types of metadata by their number in both versions; the
// names are Prometheus's.
var metricTypes = []model.MetricType{
	model.MetricTypeUnknown, model.MetricTypeCounter, model.MetricTypeGauge, model.MetricTypeHistogram,
	model.MetricTypeGaugeHistogram, model.MetricTypeSummary, model.MetricTypeInfo, model.MetricTypeStateset,
}

// parseMetadata reads metadata whose fields have the given numbers; in the
// second version there is no family, the name comes from the series, and text is by reference.
func parseMetadata(msg []byte, familyField, helpField, unitField protowire.Number, symbols []string) (family string, m metadata.Metadata, err error) {
	m.Type = model.MetricTypeUnknown
	text := func(num protowire.Number, typ protowire.Type, v uint64, f []byte) (string, error) {
		if symbols == nil {
			return string(f), want(num, typ, protowire.BytesType)
		}
		if v >= uint64(len(symbols)) {
			return "", fmt.Errorf("%w: reference beyond %d symbols", errMalformed, len(symbols))
		}
		return symbols[v], want(num, typ, protowire.VarintType)
	}
	err = fields(msg, func(num protowire.Number, typ protowire.Type, v uint64, f []byte) (err error) {
		switch num {
		case 1:
			if v < uint64(len(metricTypes)) {
				m.Type = metricTypes[v]
			}
			return want(num, typ, protowire.VarintType)
		case helpField:
			m.Help, err = text(num, typ, v, f)
		case unitField:
			m.Unit, err = text(num, typ, v, f)
		default:
			if familyField != 0 && num == familyField {
				family, err = text(num, typ, v, f)
			}
		}
		return err
	})
	return family, m, err
}

// histogram reads a native histogram of whole or of fractional counts; which of
// the two is said by the field that the count stands in.
func (s *writeSeries) histogram(msg []byte) error {
	var (
		h      histogram.Histogram
		fh     histogram.FloatHistogram
		floats bool
		hint   uint64
		t      int64
	)
	err := fields(msg, func(num protowire.Number, typ protowire.Type, v uint64, f []byte) (err error) {
		d := math.Float64frombits(v)
		switch num {
		case 1:
			h.Count, fh.Count, floats = v, 0, false
			return want(num, typ, protowire.VarintType)
		case 2:
			h.Count, fh.Count, floats = 0, d, true
			return want(num, typ, protowire.Fixed64Type)
		case 3:
			h.Sum = d
			return want(num, typ, protowire.Fixed64Type)
		case 4:
			h.Schema = int32(protowire.DecodeZigZag(v & math.MaxUint32))
			return want(num, typ, protowire.VarintType)
		case 5:
			h.ZeroThreshold = d
			return want(num, typ, protowire.Fixed64Type)
		case 6:
			h.ZeroCount, fh.ZeroCount = v, 0
			return want(num, typ, protowire.VarintType)
		case 7:
			h.ZeroCount, fh.ZeroCount = 0, d
			return want(num, typ, protowire.Fixed64Type)
		case 8:
			h.NegativeSpans, err = appendSpan(h.NegativeSpans, num, typ, f)
		case 9:
			h.NegativeBuckets, err = appendDeltas(h.NegativeBuckets, typ, v, f)
		case 10:
			fh.NegativeBuckets, err = appendDoubles(fh.NegativeBuckets, typ, v, f)
		case 11:
			h.PositiveSpans, err = appendSpan(h.PositiveSpans, num, typ, f)
		case 12:
			h.PositiveBuckets, err = appendDeltas(h.PositiveBuckets, typ, v, f)
		case 13:
			fh.PositiveBuckets, err = appendDoubles(fh.PositiveBuckets, typ, v, f)
		case 14:
			hint = v
			return want(num, typ, protowire.VarintType)
		case 15:
			t = int64(v)
			return want(num, typ, protowire.VarintType)
		case 16:
			h.CustomValues, err = appendDoubles(h.CustomValues, typ, v, f)
		}
		return err
	})
	// Only "gauge" is taken from the sender: a wrong "no reset" would corrupt a chunk.
	if hint == 3 {
		h.CounterResetHint = histogram.GaugeType
	}
	x := sample{t: t, h: &h}
	if floats {
		fh.CounterResetHint, fh.Schema, fh.ZeroThreshold, fh.Sum = h.CounterResetHint, h.Schema, h.ZeroThreshold, h.Sum
		fh.PositiveSpans, fh.NegativeSpans, fh.CustomValues = h.PositiveSpans, h.NegativeSpans, h.CustomValues
		x.h, x.fh = nil, &fh
	}
	s.samples = append(s.samples, x)
	return err
}

// appendSpan reads { 1 offset (zigzag), 2 length }.
func appendSpan(list []histogram.Span, num protowire.Number, typ protowire.Type, msg []byte) ([]histogram.Span, error) {
	if err := want(num, typ, protowire.BytesType); err != nil {
		return list, err
	}
	var s histogram.Span
	err := fields(msg, func(num protowire.Number, typ protowire.Type, v uint64, _ []byte) error {
		switch num {
		case 1:
			s.Offset = int32(protowire.DecodeZigZag(v & math.MaxUint32))
		case 2:
			s.Length = uint32(v)
		default:
			return nil
		}
		return want(num, typ, protowire.VarintType)
	})
	return append(list, s), err
}

func appendDeltas(list []int64, typ protowire.Type, v uint64, packed []byte) ([]int64, error) {
	raw, err := appendVarints(nil, typ, v, packed)
	for _, r := range raw {
		list = append(list, protowire.DecodeZigZag(r))
	}
	return list, err
}
