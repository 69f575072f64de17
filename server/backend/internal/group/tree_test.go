package group

import (
	"fmt"
	"testing"

	"golang.org/x/mod/sumdb/tlog"
)

type stored []tlog.Hash

func (s stored) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	out := make([]tlog.Hash, len(indexes))
	for i, x := range indexes {
		out[i] = s[x]
	}
	return out, nil
}

// TestTree compares roots, and the subtrees that tiles are made of, with tlog's.
func TestTree(t *testing.T) {
	const n = 66_000 // past a tile of the second level
	var tree Tree
	var ref stored
	var nodes []Node
	for i := range int64(n) {
		data := fmt.Appendf(nil, "leaf %d", i)
		hs, err := tlog.StoredHashes(i, data, ref)
		if err != nil {
			t.Fatal(err)
		}
		ref = append(ref, hs...)
		nodes = tree.Append(tlog.RecordHash(data), nodes)
		if i > 600 && i%997 != 0 {
			continue
		}
		want, err := tlog.TreeHash(i+1, ref)
		if err != nil {
			t.Fatal(err)
		}
		if got := tree.Root(); got != want {
			t.Fatalf("root at %d is %s, want %s", i+1, got, want)
		}
		again, err := ParseTree(tree.Size, tree.Marshal())
		if err != nil || again.Root() != want {
			t.Fatalf("the tree of %d does not survive as bytes: %v", i+1, err)
		}
	}
	if want := n/256 + n/65536; len(nodes) != want {
		t.Fatalf("%d nodes, want %d", len(nodes), want)
	}
	for _, node := range nodes {
		if want := ref[tlog.StoredHashIndex(8*node.Level, node.N)]; node.Hash != want {
			t.Fatalf("node %d/%d is %s, want %s", node.Level, node.N, node.Hash, want)
		}
	}
	if _, err := ParseTree(3, make([]byte, 32)); err == nil {
		t.Error("ParseTree took an edge that is too short")
	}
}
