package merkle

import (
	"fmt"
	"math/bits"
)

// Nodes computes roots and proofs over hashes that are kept elsewhere, for
// example in files. It returns the hash of the i-th perfect subtree of 2^level
// leaves; level 0 are the leaves. It is asked for whole subtrees below the
// size in question only.
type Nodes func(level int, i int64) (Hash, error)

// Root is the root of the first size leaves.
func (n Nodes) Root(size int64) (Hash, error) {
	if size == 0 {
		return EmptyRoot(), nil
	}
	return n.span(0, size)
}

// Tree returns the compact range of the first size leaves, to go on appending to.
func (n Nodes) Tree(size int64) (Tree, error) {
	t := Tree{size: size}
	for level, lo := bits.Len64(uint64(size))-1, int64(0); level >= 0; level-- {
		if size>>level&1 == 1 {
			h, err := n(level, lo>>level)
			if err != nil {
				return Tree{}, err
			}
			t.edge = append(t.edge, h)
			lo += 1 << level
		}
	}
	return t, nil
}

// Inclusion is [Store.Inclusion].
func (n Nodes) Inclusion(index, size int64) ([]Hash, error) {
	if index < 0 || index >= size {
		return nil, fmt.Errorf("merkle: prove leaf %d in tree of %d", index, size)
	}
	var p []Hash
	err := n.path(&p, index, 0, size)
	return p, err
}

func (n Nodes) path(p *[]Hash, index, lo, hi int64) error {
	if hi-lo == 1 {
		return nil
	}
	mid := lo + split(hi-lo)
	if index < mid {
		if err := n.path(p, index, lo, mid); err != nil {
			return err
		}
		return n.add(p, mid, hi)
	}
	if err := n.path(p, index, mid, hi); err != nil {
		return err
	}
	return n.add(p, lo, mid)
}

func (n Nodes) add(p *[]Hash, lo, hi int64) error {
	h, err := n.span(lo, hi)
	*p = append(*p, h)
	return err
}

// Consistency is [Store.Consistency].
func (n Nodes) Consistency(old, size int64) ([]Hash, error) {
	if old < 0 || old > size {
		return nil, fmt.Errorf("merkle: prove tree of %d consistent with tree of %d", old, size)
	}
	if old == 0 || old == size {
		return nil, nil
	}
	var p []Hash
	err := n.subproof(&p, old, 0, size, true)
	return p, err
}

func (n Nodes) subproof(p *[]Hash, old, lo, hi int64, whole bool) error {
	if old == hi {
		if whole {
			return nil
		}
		return n.add(p, lo, hi)
	}
	mid := lo + split(hi-lo)
	if old <= mid {
		if err := n.subproof(p, old, lo, mid, whole); err != nil {
			return err
		}
		return n.add(p, mid, hi)
	}
	if err := n.subproof(p, old, mid, hi, false); err != nil {
		return err
	}
	return n.add(p, lo, mid)
}

func (n Nodes) span(lo, hi int64) (Hash, error) {
	c := hi - lo
	if c&(c-1) == 0 {
		level := bits.TrailingZeros64(uint64(c))
		return n(level, lo>>level)
	}
	mid := lo + split(c)
	left, err := n.span(lo, mid)
	if err != nil {
		return Hash{}, err
	}
	right, err := n.span(mid, hi)
	return HashNode(left, right), err
}

// Edge returns the compact range: the roots of the perfect subtrees along the
// right edge, from the largest to the smallest, one for each bit set in Size.
func (t *Tree) Edge() []Hash { return append([]Hash(nil), t.edge...) }

// NewTree is the tree of size leaves with that compact range. An error says
// that the number of hashes is not that of the bits in size.
func NewTree(size int64, edge []Hash) (Tree, error) {
	if size < 0 || len(edge) != bits.OnesCount64(uint64(size)) {
		return Tree{}, fmt.Errorf("merkle: tree of %d with %d hashes at its edge", size, len(edge))
	}
	return Tree{size: size, edge: append([]Hash(nil), edge...)}, nil
}

// Perfect is the root of leaves whose number is a power of two. It works in
// place: leaves are overwritten.
func Perfect(leaves []Hash) Hash {
	for n := len(leaves); n > 1; n /= 2 {
		hashPairs(leaves[:n/2], leaves[:n])
	}
	return leaves[0]
}
