package ingest

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
)

// repaired says what was left out of a body to make the rest readable.
type repaired struct {
	items  int
	reason string
}

func (r *repaired) drop(err error) {
	if r.items++; r.reason == "" {
		r.reason = err.Error()
	}
}

// repair returns the readable items of a body that cannot be read as a whole,
// as a protobuf request. Ids of a wrong length are what it is for: the decoder
// gives the whole request up for one.
func repair(sig signal, body []byte, isJSON bool) ([]byte, repaired, error) {
	if isJSON {
		return repairJSON(sig, body)
	}
	var cut repaired
	out, err := repairProto(sig, nil, body, nil, 0, &cut)
	return out, cut, err
}

// Levels of an export request: it holds resources (field 1), these hold scopes
// (field 2), and these items (field 2). Field 1 of the inner two is the
// resource and the scope themselves.
const itemLevel = 2

// repairProto copies the message b to out without the items that cannot be
// read. wrap makes a request of one item of this message.
func repairProto(sig signal, out, b []byte, wrap []uint64, level int, cut *repaired) ([]byte, error) {
	child := uint64(2)
	if level == 0 {
		child = 1
	}
	for len(b) > 0 {
		f, rest, err := nextField(b)
		if err != nil {
			return nil, err
		}
		b = rest
		switch {
		case f.number != child || f.wire != wireBytes:
			out = append(out, f.raw...)
		case level < itemLevel:
			inner, err := repairProto(sig, nil, f.value, append(wrap, child), level+1, cut)
			if err != nil {
				return nil, err
			}
			out = appendBytesField(out, child, inner)
		default:
			if err := readable(sig, f.value); err != nil {
				cut.drop(err)
				continue
			}
			out = append(out, f.raw...)
		}
	}
	return out, nil
}

// readable reports why one item cannot be read, or nil.
func readable(sig signal, item []byte) error {
	b := appendBytesField(nil, 2, item)
	b = appendBytesField(nil, 2, b)
	b = appendBytesField(nil, 1, b)
	if err := guard(sig, b, false); err != nil {
		return err
	}
	_, err := unmarshal(sig, b, false)
	return err
}

func appendBytesField(out []byte, number uint64, value []byte) []byte {
	out = binary.AppendUvarint(out, number<<3|wireBytes)
	out = binary.AppendUvarint(out, uint64(len(value)))
	return append(out, value...)
}

// Names of the three levels in JSON. The decoder takes both spellings.
var jsonNames = map[signal][3][2]string{
	traces:  {{"resourceSpans", "resource_spans"}, {"scopeSpans", "scope_spans"}, {"spans", "spans"}},
	logs:    {{"resourceLogs", "resource_logs"}, {"scopeLogs", "scope_logs"}, {"logRecords", "log_records"}},
	metrics: {{"resourceMetrics", "resource_metrics"}, {"scopeMetrics", "scope_metrics"}, {"metrics", "metrics"}},
}

func repairJSON(sig signal, body []byte) ([]byte, repaired, error) {
	if err := guardJSON(body); err != nil {
		return nil, repaired{}, err
	}
	var cut repaired
	clean, err := repairJSONLevel(sig, body, 0, &cut)
	if err != nil {
		return nil, repaired{}, err
	}
	req, err := unmarshal(sig, clean, true)
	if err != nil {
		return nil, repaired{}, err
	}
	out, err := req.(interface{ proto() ([]byte, error) }).proto()
	return out, cut, err
}

func repairJSONLevel(sig signal, b []byte, level int, cut *repaired) (json.RawMessage, error) {
	var obj map[string]json.RawMessage
	if err := json.Unmarshal(b, &obj); err != nil {
		return nil, err
	}
	for _, name := range jsonNames[sig][level] {
		if _, ok := obj[name]; !ok {
			continue
		}
		var list, kept []json.RawMessage
		if err := json.Unmarshal(obj[name], &list); err != nil {
			return nil, err
		}
		for _, e := range list {
			if level < itemLevel {
				inner, err := repairJSONLevel(sig, e, level+1, cut)
				if err != nil {
					return nil, err
				}
				kept = append(kept, inner)
				continue
			}
			if err := readableJSON(sig, e); err != nil {
				cut.drop(err)
				continue
			}
			kept = append(kept, e)
		}
		again, err := json.Marshal(kept)
		if err != nil {
			return nil, err
		}
		obj[name] = again
	}
	return json.Marshal(obj)
}

func readableJSON(sig signal, item json.RawMessage) error {
	n := jsonNames[sig]
	b := fmt.Appendf(nil, `{%q:[{%q:[{%q:[%s]}]}]}`, n[0][0], n[1][0], n[2][0], item)
	req, err := unmarshal(sig, b, true)
	if err == nil && sig != metrics && req.count() != 1 {
		err = errors.New("not an object")
	}
	return err
}

func (t tracesRequest) proto() ([]byte, error)  { return t.r.MarshalProto() }
func (l logsRequest) proto() ([]byte, error)    { return l.r.MarshalProto() }
func (m metricsRequest) proto() ([]byte, error) { return m.r.MarshalProto() }
