package store

import "github.com/kaizen-go/kaizen/server/internal/record"

// Estimates of memory, in bytes. Checked against the heap by TestSizeEstimate:
// they need to be near, not exact.
const (
	spanBytes  = 1100 // the struct, its places in the indexes
	logBytes   = 700
	attrBytes  = 150 // a map's slot with key and interface header
	eventBytes = 120
)

func (b batch) sizeBytes() int64 {
	var n int64
	for _, s := range b.spans {
		n += spanSize(s)
	}
	for _, l := range b.logs {
		n += logSize(l)
	}
	return n
}

func spanSize(s *record.Span) int64 {
	n := int64(spanBytes + len(s.StatusMessage))
	n += valueSize(s.Attributes)
	for _, e := range s.Events {
		n += eventBytes + valueSize(e.Attributes)
	}
	for _, l := range s.Links {
		n += eventBytes + valueSize(l.Attributes)
	}
	return n
}

func logSize(l *record.Log) int64 {
	return int64(logBytes+len(l.Message)+2*len(l.UID)) + valueSize(l.Attributes)
}

func valueSize(v any) int64 {
	switch v := v.(type) {
	case string:
		return int64(len(v)) + 16
	case []byte:
		return int64(len(v)) + 24
	case []any:
		n := int64(24)
		for _, e := range v {
			n += 16 + valueSize(e)
		}
		return n
	case map[string]any:
		n := int64(48)
		for _, e := range v { // keys of attributes are interned
			n += attrBytes + valueSize(e)
		}
		return n
	}
	return 8
}
