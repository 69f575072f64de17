package prom

import (
	"encoding/json"
	"math"
	"strconv"
	"unicode/utf8"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
)

// What follows writes values as Prometheus's API does: times as seconds with at
// most three decimals, numbers as strings so that NaN and Inf survive, empty
// lists as []. It appends to a byte slice because an answer can be large.

func appendValue(b []byte, v parser.Value) []byte {
	switch v := v.(type) {
	case promql.Vector:
		return appendList(b, v, appendVectorSample)
	case promql.Matrix:
		return appendList(b, v, appendSeries)
	case promql.Scalar:
		return appendPair(b, v.T, func(b []byte) []byte { return appendFloat(b, v.V) })
	case promql.String:
		return appendPair(b, v.T, func(b []byte) []byte { return appendString(b, v.V) })
	}
	return append(b, "null"...)
}

func appendList[T any](b []byte, list []T, one func([]byte, T) []byte) []byte {
	b = append(b, '[')
	for i, v := range list {
		if i > 0 {
			b = append(b, ',')
		}
		b = one(b, v)
	}
	return append(b, ']')
}

func appendVectorSample(b []byte, s promql.Sample) []byte {
	b = append(b, `{"metric":`...)
	b = appendLabels(b, s.Metric)
	if s.H != nil {
		b = append(b, `,"histogram":`...)
		b = appendPair(b, s.T, func(b []byte) []byte { return appendHistogram(b, s.H) })
	} else {
		b = append(b, `,"value":`...)
		b = appendPair(b, s.T, func(b []byte) []byte { return appendFloat(b, s.F) })
	}
	return append(b, '}')
}

func appendSeries(b []byte, s promql.Series) []byte {
	b = append(b, `{"metric":`...)
	b = appendLabels(b, s.Metric)
	if len(s.Floats) > 0 {
		b = append(b, `,"values":`...)
		b = appendList(b, s.Floats, func(b []byte, p promql.FPoint) []byte {
			return appendPair(b, p.T, func(b []byte) []byte { return appendFloat(b, p.F) })
		})
	}
	if len(s.Histograms) > 0 {
		b = append(b, `,"histograms":`...)
		b = appendList(b, s.Histograms, func(b []byte, p promql.HPoint) []byte {
			return appendPair(b, p.T, func(b []byte) []byte { return appendHistogram(b, p.H) })
		})
	}
	return append(b, '}')
}

func appendPair(b []byte, t int64, value func([]byte) []byte) []byte {
	b = append(b, '[')
	b = appendTime(b, t)
	b = append(b, ',')
	b = value(b)
	return append(b, ']')
}

// appendTime writes t, in ms, as seconds.
func appendTime(b []byte, t int64) []byte {
	if t < 0 {
		b = append(b, '-')
		t = -t
	}
	b = strconv.AppendInt(b, t/1000, 10)
	ms := t % 1000
	if ms == 0 {
		return b
	}
	return append(b, '.', byte('0'+ms/100), byte('0'+ms/10%10), byte('0'+ms%10))
}

func appendFloat(b []byte, f float64) []byte {
	format := byte('f')
	if a := math.Abs(f); a != 0 && (a < 1e-6 || a >= 1e21) {
		format = 'e'
	}
	b = append(b, '"')
	b = strconv.AppendFloat(b, f, format, -1, 64)
	return append(b, '"')
}

// appendHistogram writes a native histogram. The first element of a bucket says
// which of its bounds belong to it: 0 the upper, 1 the lower, 2 none, 3 both.
func appendHistogram(b []byte, h *histogram.FloatHistogram) []byte {
	b = append(b, `{"count":`...)
	b = appendFloat(b, h.Count)
	b = append(b, `,"sum":`...)
	b = appendFloat(b, h.Sum)
	open := false
	for it := h.AllBucketIterator(); it.Next(); {
		bucket := it.At()
		if bucket.Count == 0 {
			continue
		}
		if open {
			b = append(b, ',')
		} else {
			b = append(b, `,"buckets":[`...)
			open = true
		}
		bounds := int64(2)
		switch {
		case bucket.LowerInclusive && bucket.UpperInclusive:
			bounds = 3
		case bucket.LowerInclusive:
			bounds = 1
		case bucket.UpperInclusive:
			bounds = 0
		}
		b = append(b, '[')
		b = strconv.AppendInt(b, bounds, 10)
		for _, v := range []float64{bucket.Lower, bucket.Upper, bucket.Count} {
			b = append(b, ',')
			b = appendFloat(b, v)
		}
		b = append(b, ']')
	}
	if open {
		b = append(b, ']')
	}
	return append(b, '}')
}

func appendLabels(b []byte, ls labels.Labels) []byte {
	b = append(b, '{')
	first := true
	ls.Range(func(l labels.Label) {
		if !first {
			b = append(b, ',')
		}
		first = false
		b = appendString(b, l.Name)
		b = append(b, ':')
		b = appendString(b, l.Value)
	})
	return append(b, '}')
}

// appendString writes s as a JSON string; most need no escaping.
func appendString(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c == '"' || c == '\\' || c >= utf8.RuneSelf {
			quoted, err := json.Marshal(s)
			if err != nil { // a string always marshals
				panic(err)
			}
			return append(b, quoted...)
		}
	}
	b = append(b, '"')
	b = append(b, s...)
	return append(b, '"')
}
