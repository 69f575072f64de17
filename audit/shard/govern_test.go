package shard_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/kaizen-go/kaizen/audit"
)

// A person whom several agents, and so several shards, know is forgotten in all
// of them, or, if one may not, in none.
func TestSetForgets(t *testing.T) {
	s, _, shards := set(t)
	for _, agent := range []string{"a", "b", "c", "d", "e", "f"} {
		_, err := s.Append(t.Context(), audit.Entry{AgentID: agent, Action: "x", Result: audit.Success, Subject: "ada", Details: map[string]any{"said": "ada was here"}})
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, l := range shards {
		for line, err := range l.Lines(t.Context(), 0) {
			if err != nil || bytes.Contains(line, []byte("ada")) {
				t.Fatalf("a shard has %s, %v", line, err)
			}
		}
	}
	count := func(want int64) {
		t.Helper()
		if n, err := s.Count(t.Context(), audit.Query{Subject: "ada"}); err != nil || n != want {
			t.Errorf("Count = %d, %v, want %d", n, err, want)
		}
	}
	count(6)
	// One shard's own hold keeps the person in all.
	only, _, err := shards[1].Hold(t.Context(), audit.Hold{Subject: "ada"})
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.Erase(t.Context(), audit.Erasure{Subject: "ada"})
	if e, ok := errors.AsType[*audit.HeldError](err); !ok || e.Hold != only.ID {
		t.Errorf("Erase = %v, want a *HeldError of %s", err, only.ID)
	}
	count(6)
	if _, err := shards[1].Release(t.Context(), audit.Release{ID: only.ID}); err != nil {
		t.Fatal(err)
	}
	h, err := s.Hold(t.Context(), audit.Hold{Subject: "ada"})
	if err != nil {
		t.Fatal(err)
	}
	for i, l := range shards {
		if hs := l.Holds(); len(hs) != 1 || hs[0].ID != h.ID {
			t.Errorf("shard %d holds %+v, want %s", i, hs, h.ID)
		}
	}
	if _, err := s.Hold(t.Context(), audit.Hold{ID: h.ID, AgentID: "a"}); err == nil {
		t.Error("a hold was placed under an id that is active")
	}
	if err := s.Release(t.Context(), audit.Release{ID: h.ID}); err != nil {
		t.Fatal(err)
	}
	if err := s.Release(t.Context(), audit.Release{ID: h.ID}); !errors.Is(err, audit.ErrNoHold) {
		t.Errorf("Release again = %v, want ErrNoHold", err)
	}
	rs, err := s.Erase(t.Context(), audit.Erasure{Subject: "ada"})
	if err != nil || len(rs) != len(shards) {
		t.Fatalf("Erase = %+v, %v", rs, err)
	}
	var sum int64
	for _, r := range rs {
		sum += r.Entries
	}
	if sum != 6 {
		t.Errorf("erased are %d entries, want 6", sum)
	}
	count(0)
}
