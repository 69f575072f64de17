package kaizen

import (
	"hash/maphash"
	"strings"
	"sync/atomic"

	"github.com/kaizen-go/kaizen/genai"
)

// Bounds of the names that are kept.
const (
	numSpanNames     = 256
	maxSpanNameBytes = 128
)

// spanNames remembers names of spans, which come again and again: making one is
// an allocation. It keeps the latest of each slot.
type spanNames struct {
	seed  maphash.Seed
	slots [numSpanNames]atomic.Pointer[spanName]
}

type spanName struct{ operation, target, name string }

// of is [genai.SpanName].
func (s *spanNames) of(operation, target string) string {
	if len(operation)+len(target) > maxSpanNameBytes {
		return genai.SpanName(operation, target)
	}
	slot := &s.slots[maphash.String(s.seed, target)%numSpanNames]
	if n := slot.Load(); n != nil && n.operation == operation && n.target == target {
		return n.name
	}
	n := &spanName{operation: strings.Clone(operation), target: strings.Clone(target)}
	n.name = genai.SpanName(n.operation, n.target)
	slot.Store(n)
	return n.name
}
