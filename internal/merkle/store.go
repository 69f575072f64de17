package merkle

import (
	"fmt"
	"math/bits"
)

const (
	// step is the distance between the levels that a Store keeps: with every
	// fourth level a proof recomputes at most 15 nodes per kept level, and the
	// levels above the leaves cost 32/15 bytes per leaf.
	step  = 4
	fanIn = 1 << step
	// chunkLen is how many hashes are allocated at once (32 KiB).
	chunkLen = 1024
)

// Store keeps the leaf hashes of a growing tree, and every fourth level above
// them: 34.2 bytes per leaf. The zero value is the empty tree. Append must not
// run beside any other method; the others may run beside each other.
type Store struct {
	levels []column
}

// column is one level: hashes in chunks, so that growth copies nothing.
type column struct {
	n      int64
	chunks []*[chunkLen]Hash
}

func (c *column) add(h Hash) {
	if c.n%chunkLen == 0 {
		c.chunks = append(c.chunks, new([chunkLen]Hash))
	}
	c.chunks[c.n/chunkLen][c.n%chunkLen] = h
	c.n++
}

func (c *column) at(i int64) Hash { return c.chunks[i/chunkLen][i%chunkLen] }

// Append adds a leaf hash.
func (s *Store) Append(leaf Hash) {
	h := leaf
	for k := 0; ; k++ {
		if k == len(s.levels) {
			s.levels = append(s.levels, column{})
		}
		c := &s.levels[k]
		c.add(h)
		if c.n%fanIn != 0 {
			return
		}
		h = s.node(k*step+step, c.n/fanIn-1)
	}
}

// Size is the number of leaves.
func (s *Store) Size() int64 {
	if len(s.levels) == 0 {
		return 0
	}
	return s.levels[0].n
}

// Leaf is the hash of the leaf at index i, which must be below Size.
func (s *Store) Leaf(i int64) Hash { return s.levels[0].at(i) }

// Root is the root of the first size leaves; size must not exceed Size.
func (s *Store) Root(size int64) Hash {
	if size == 0 {
		return EmptyRoot()
	}
	return s.span(0, size)
}

// Tree returns the compact range of all leaves, to go on appending to.
func (s *Store) Tree() Tree {
	t := Tree{size: s.Size()}
	for level, lo := bits.Len64(uint64(t.size))-1, int64(0); level >= 0; level-- {
		if t.size>>level&1 == 1 {
			t.edge = append(t.edge, s.node(level, lo>>level))
			lo += 1 << level
		}
	}
	return t
}

// Inclusion proves that the leaf at index is in the tree of the first size
// leaves: its siblings, from the leaf up (RFC 6962, section 2.1.1).
func (s *Store) Inclusion(index, size int64) ([]Hash, error) {
	if index < 0 || index >= size || size > s.Size() {
		return nil, fmt.Errorf("merkle: prove leaf %d in tree of %d: have %d leaves", index, size, s.Size())
	}
	return s.path(index, 0, size), nil
}

func (s *Store) path(index, lo, hi int64) []Hash {
	if hi-lo == 1 {
		return nil
	}
	mid := lo + split(hi-lo)
	if index < mid {
		return append(s.path(index, lo, mid), s.span(mid, hi))
	}
	return append(s.path(index, mid, hi), s.span(lo, mid))
}

// Consistency proves that the tree of the first old leaves is a prefix of the
// tree of the first size leaves (RFC 6962, section 2.1.2). The proof is empty
// if old is 0 or size.
func (s *Store) Consistency(old, size int64) ([]Hash, error) {
	if old < 0 || old > size || size > s.Size() {
		return nil, fmt.Errorf("merkle: prove tree of %d consistent with tree of %d: have %d leaves", old, size, s.Size())
	}
	if old == 0 || old == size {
		return nil, nil
	}
	return s.subproof(old, 0, size, true), nil
}

// subproof is SUBPROOF of the RFC: whole says that the old tree's root for
// this span is known to the verifier.
func (s *Store) subproof(old, lo, hi int64, whole bool) []Hash {
	if old == hi {
		if whole {
			return nil
		}
		return []Hash{s.span(lo, hi)}
	}
	mid := lo + split(hi-lo)
	if old <= mid {
		return append(s.subproof(old, lo, mid, whole), s.span(mid, hi))
	}
	return append(s.subproof(old, mid, hi, false), s.span(lo, mid))
}

// Tile returns width hashes of a C2SP tile (c2sp.org/tlog-tiles): those of the
// perfect subtrees of 256^level leaves from the one at index*256 on. A tile has
// [TileWidth] hashes, a partial one, at the right edge, fewer, but at least one.
func (s *Store) Tile(level int, index int64, width int) ([]Hash, error) {
	if err := CheckTile(level, index, width, s.Size()); err != nil {
		return nil, err
	}
	hashes := make([]Hash, width)
	for i := range hashes {
		hashes[i] = s.node(level*TileHeight, index*TileWidth+int64(i))
	}
	return hashes, nil
}

// span is the hash over leaves [lo, hi), where lo is a multiple of the largest
// power of two that fits: it always is within the RFC's recursion.
func (s *Store) span(lo, hi int64) Hash {
	n := hi - lo
	if n&(n-1) == 0 {
		level := bits.TrailingZeros64(uint64(n))
		return s.node(level, lo>>level)
	}
	mid := lo + split(n)
	return HashNode(s.span(lo, mid), s.span(mid, hi))
}

// node is the hash of the i-th perfect subtree of 2^level leaves.
func (s *Store) node(level int, i int64) Hash {
	k := level / step
	if level%step == 0 && k < len(s.levels) && i < s.levels[k].n {
		return s.levels[k].at(i)
	}
	return HashNode(s.node(level-1, 2*i), s.node(level-1, 2*i+1))
}

// split is the largest power of two smaller than n, for n > 1.
func split(n int64) int64 { return 1 << (bits.Len64(uint64(n-1)) - 1) }
