package merkle

import (
	"errors"
	"fmt"
	"slices"
	"testing"
)

// TestNodesLikeStore computes everything both ways.
func TestNodesLikeStore(t *testing.T) {
	var s Store
	var leaves []Hash
	for i := range 130 {
		leaves = append(leaves, HashLeaf(fmt.Appendf(nil, "leaf %d", i)))
		s.Append(leaves[i])
	}
	n := Nodes(func(level int, i int64) (Hash, error) {
		return Perfect(slices.Clone(leaves[i<<level : (i+1)<<level])), nil
	})
	for size := range int64(len(leaves) + 1) {
		root, err := n.Root(size)
		if err != nil || root != s.Root(size) {
			t.Fatalf("Root(%d) = %x, %v; want %x", size, root, err, s.Root(size))
		}
		tree, err := n.Tree(size)
		if err != nil || tree.Root() != root || tree.Size() != size {
			t.Fatalf("Tree(%d) has root %x, %v; want %x", size, tree.Root(), err, root)
		}
		again, err := NewTree(size, tree.Edge())
		if err != nil || again.Root() != root {
			t.Fatalf("NewTree(%d) has root %x, %v", size, again.Root(), err)
		}
		for i := range size {
			got, err := n.Inclusion(i, size)
			want, wantErr := s.Inclusion(i, size)
			if err != nil || wantErr != nil || !slices.Equal(got, want) {
				t.Fatalf("Inclusion(%d, %d) = %x, %v; want %x", i, size, got, err, want)
			}
			got, err = n.Consistency(i, size)
			want, wantErr = s.Consistency(i, size)
			if err != nil || wantErr != nil || !slices.Equal(got, want) {
				t.Fatalf("Consistency(%d, %d) = %x, %v; want %x", i, size, got, err, want)
			}
		}
	}
}

func TestNodesErrors(t *testing.T) {
	broken := errors.New("broken")
	n := Nodes(func(int, int64) (Hash, error) { return Hash{}, broken })
	_, inc := n.Inclusion(3, 9)
	_, con := n.Consistency(3, 9)
	_, root := n.Root(9)
	_, tree := n.Tree(9)
	for name, err := range map[string]error{"Inclusion": inc, "Consistency": con, "Root": root, "Tree": tree} {
		if !errors.Is(err, broken) {
			t.Errorf("%s = %v, want the error of Nodes", name, err)
		}
	}
	if _, err := n.Inclusion(9, 9); err == nil {
		t.Error("Inclusion(9, 9) = nil, want an error")
	}
	if _, err := n.Consistency(10, 9); err == nil {
		t.Error("Consistency(10, 9) = nil, want an error")
	}
	if _, err := NewTree(3, nil); err == nil {
		t.Error("NewTree(3, no hashes) = nil, want an error")
	}
}
