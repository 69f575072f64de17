package main

import (
	"fmt"
	"testing"

	"golang.org/x/mod/sumdb/tlog"
)

// The tree that grows at its right has the roots of x/mod's.
func TestRightEdge(t *testing.T) {
	var stored []tlog.Hash
	read := tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		out := make([]tlog.Hash, len(indexes))
		for i, x := range indexes {
			out[i] = stored[x]
		}
		return out, nil
	})
	var edge rightEdge
	for n := range int64(300) {
		want, err := tlog.TreeHash(n, read)
		if err != nil {
			t.Fatal(err)
		}
		if got := edge.root(); n > 0 && got != want {
			t.Fatalf("root of %d = %v, want %v", n, got, want)
		}
		line := fmt.Appendf(nil, "line %d", n)
		hashes, err := tlog.StoredHashes(n, line, read)
		if err != nil {
			t.Fatal(err)
		}
		stored = append(stored, hashes...)
		edge.add(tlog.RecordHash(line))
	}
	// RFC 6962, section 2.1: the hash of an empty list is the hash of nothing.
	if got := (&rightEdge{}).root().String(); got != "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=" {
		t.Errorf("root of nothing = %s", got)
	}
}
