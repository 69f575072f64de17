package normalise

import (
	"bytes"
	"encoding/json"
	"math"
	"strconv"
	"strings"

	"go.opentelemetry.io/collector/pdata/pcommon"
)

// toMap copies m. what names it in the error.
func toMap(m pcommon.Map, what string) (map[string]any, error) {
	if m.Len() > maxParts {
		return nil, reject(ReasonCount, "%s has %d attributes (limit %d)", what, m.Len(), maxParts)
	}
	out := make(map[string]any, m.Len())
	for k, v := range m.All() {
		x, ok := toValue(v, 1)
		if !ok {
			return nil, reject(ReasonDepth, "%s attribute %.64q is nested deeper than %d", what, k, MaxDepth)
		}
		out[intern(strings.ToValidUTF8(k, "\uFFFD"))] = x
	}
	return out, nil
}

// toValue copies v into what encoding/json can write; ok is false when it is
// nested too deep.
func toValue(v pcommon.Value, depth int) (x any, ok bool) {
	if depth > MaxDepth {
		return nil, false
	}
	switch v.Type() {
	case pcommon.ValueTypeStr:
		return strings.ToValidUTF8(v.Str(), "\uFFFD"), true
	case pcommon.ValueTypeBool:
		return v.Bool(), true
	case pcommon.ValueTypeInt:
		return v.Int(), true
	case pcommon.ValueTypeDouble:
		return number(v.Double()), true
	case pcommon.ValueTypeBytes:
		return bytes.Clone(v.Bytes().AsRaw()), true
	case pcommon.ValueTypeSlice:
		list := make([]any, 0, v.Slice().Len())
		for _, e := range v.Slice().All() {
			x, ok := toValue(e, depth+1)
			if !ok {
				return nil, false
			}
			list = append(list, x)
		}
		return list, true
	case pcommon.ValueTypeMap:
		m := make(map[string]any, v.Map().Len())
		for k, e := range v.Map().All() {
			x, ok := toValue(e, depth+1)
			if !ok {
				return nil, false
			}
			m[strings.ToValidUTF8(k, "\uFFFD")] = x
		}
		return m, true
	}
	return nil, true
}

// number returns f, or its OTLP/JSON spelling where JSON has no number for it.
func number(f float64) any {
	switch {
	case math.IsNaN(f):
		return "NaN"
	case math.IsInf(f, 1):
		return "Infinity"
	case math.IsInf(f, -1):
		return "-Infinity"
	}
	return f
}

// attrs reads attributes under the names that different senders give them.
type attrs map[string]any

// str returns the first of keys that holds a string that is not empty.
func (a attrs) str(keys ...string) string {
	for _, k := range keys {
		if s, ok := a[k].(string); ok && s != "" {
			return s
		}
	}
	return ""
}

func (a attrs) has(key string) bool { _, ok := a[key]; return ok }

func (a attrs) bool(key string) bool {
	switch v := a[key].(type) {
	case bool:
		return v
	case string:
		return v == "true"
	}
	return false
}

// float returns the first of keys that holds a finite number, also one that
// was sent as text.
func (a attrs) float(keys ...string) (float64, bool) {
	for _, k := range keys {
		if f, ok := toFloat(a[k]); ok {
			return f, true
		}
	}
	return 0, false
}

func toFloat(v any) (float64, bool) {
	var f float64
	switch v := v.(type) {
	case int64:
		f = float64(v)
	case float64:
		f = v
	case json.Number:
		f, _ = v.Float64()
	case string:
		p, err := strconv.ParseFloat(v, 64)
		if err != nil {
			return 0, false
		}
		f = p
	default:
		return 0, false
	}
	return f, !math.IsNaN(f) && !math.IsInf(f, 0)
}

// maxTokens bounds a count, far above any context window: sums of it and
// prices stay within int64.
const maxTokens = 1 << 40

// count returns the first of keys that holds a number of tokens. Negative
// numbers and what is no number count as not sent.
func (a attrs) count(keys ...string) (int64, bool) {
	for _, k := range keys {
		if f, ok := toFloat(a[k]); ok && f >= 0 {
			return int64(min(f, maxTokens)), true
		}
	}
	return 0, false
}

// object returns the first of keys that holds an object, also as JSON text.
func (a attrs) object(keys ...string) attrs {
	for _, k := range keys {
		switch v := a[k].(type) {
		case map[string]any:
			return v
		case string:
			var m map[string]any
			if strings.HasPrefix(v, "{") && json.Unmarshal([]byte(v), &m) == nil {
				return m
			}
		}
	}
	return nil
}
