package prom

import (
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/metadata"
)

// Bounds of what is remembered about families: beyond it families go without
// type, unit and help, which queries do not need.
const (
	maxMetadata  = 20_000
	maxHelpBytes = 1024
)

// metadataStore remembers type, unit and help of each family. It lives in
// memory; senders repeat it with every request.
type metadataStore struct {
	mu   sync.RWMutex
	byID map[string]metadata.Metadata
}

func newMetadataStore() *metadataStore {
	return &metadataStore{byID: map[string]metadata.Metadata{}}
}

func (s *metadataStore) set(family string, m metadata.Metadata) {
	if len(m.Help) > maxHelpBytes {
		m.Help = strings.ToValidUTF8(m.Help[:maxHelpBytes], "")
	}
	s.mu.RLock()
	old, known := s.byID[family]
	full := len(s.byID) >= maxMetadata
	s.mu.RUnlock()
	if known && m.Help == "" {
		m.Help = old.Help // one of several senders that describes it is enough
	}
	if known && old == m || !known && full || len(family) > maxLabelValueBytes {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.byID[family] = m
}

// get returns what is known of a family.
func (s *metadataStore) get(family string) metadata.Metadata {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.byID[family]
}

func (s *metadataStore) typeOf(family string) model.MetricType { return s.get(family).Type }

// all returns the families in order of name, or the one that is asked for.
func (s *metadataStore) all(family string) (names []string, byName map[string]metadata.Metadata) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if family != "" {
		m, ok := s.byID[family]
		if !ok {
			return nil, nil
		}
		return []string{family}, map[string]metadata.Metadata{family: m}
	}
	return slices.Sorted(maps.Keys(s.byID)), maps.Clone(s.byID)
}
