// Package merkle is the Merkle tree of RFC 6962: hashes, roots of growing
// trees, and proofs that an entry is in a tree and that one tree extends
// another.
//
//	var tree merkle.Tree
//	tree.Append(merkle.HashLeaf(line))
//	root := tree.Root()
//
// [Tree] keeps the right edge alone and yields roots; [Store] keeps all hashes
// and yields proofs, which [CheckInclusion] and [CheckConsistency] verify.
package merkle

import (
	"crypto/sha256"
	"math/bits"
)

// Hash is a SHA-256 hash of a leaf or of a node.
type Hash = [sha256.Size]byte

// Leaves and nodes are told apart by their first byte, so that nobody can pass
// off two hashes as an entry (RFC 6962, section 2.1).
const (
	leafPrefix = 0
	nodePrefix = 1
)

// EmptyRoot is the root of the tree without leaves: the hash of nothing.
func EmptyRoot() Hash { return sha256.Sum256(nil) }

// HashLeaf is SHA-256(0x00 || data).
func HashLeaf(data []byte) Hash {
	// Most entries fit the stack buffer, which spares a streaming hash.
	var stack [1024]byte
	buf := append(stack[:0], leafPrefix)
	buf = append(buf, data...)
	return sha256.Sum256(buf)
}

// HashPrefixed is [HashLeaf] of all but the first byte of buf, which it sets to
// the prefix of leaves. It spares the copy that HashLeaf makes.
func HashPrefixed(buf []byte) Hash {
	buf[0] = leafPrefix
	return sha256.Sum256(buf)
}

// HashNode is SHA-256(0x01 || left || right).
func HashNode(left, right Hash) Hash {
	var buf [1 + 2*sha256.Size]byte
	buf[0] = nodePrefix
	copy(buf[1:], left[:])
	copy(buf[1+sha256.Size:], right[:])
	return sha256.Sum256(buf[:])
}

// Tree is a compact range: the roots of the perfect subtrees along the right
// edge, one for each bit that is set in the size. The zero value is the empty
// tree. A Tree is not safe for concurrent use.
type Tree struct {
	size int64
	edge []Hash // from the largest subtree to the smallest
}

// Append adds a leaf. On average it computes one node hash.
func (t *Tree) Append(leaf Hash) {
	t.push(leaf, 0)
}

// push adds the root of 2^level leaves, of which the size is a multiple.
func (t *Tree) push(h Hash, level int) {
	for s := t.size >> level; s&1 == 1; s >>= 1 {
		last := len(t.edge) - 1
		h = HashNode(t.edge[last], h)
		t.edge = t.edge[:last]
	}
	t.edge = append(t.edge, h)
	t.size += 1 << level
}

// AppendAll is Append for each of leaves, in subtrees as large as fit.
func (t *Tree) AppendAll(leaves []Hash) {
	const most = 8 // 256 leaves at once
	var scratch [1 << most]Hash
	for len(leaves) > 0 {
		level := min(bits.TrailingZeros64(uint64(t.size)), bits.Len(uint(len(leaves)))-1, most)
		n := copy(scratch[:1<<level], leaves)
		t.push(Perfect(scratch[:n]), level)
		leaves = leaves[n:]
	}
}

// Size is the number of leaves.
func (t *Tree) Size() int64 { return t.size }

// Root is the RFC 6962 root hash.
func (t *Tree) Root() Hash {
	if t.size == 0 {
		return EmptyRoot()
	}
	last := len(t.edge) - 1
	h := t.edge[last]
	for i := last - 1; i >= 0; i-- {
		h = HashNode(t.edge[i], h)
	}
	return h
}

// Clone returns an independent copy.
func (t *Tree) Clone() Tree {
	return Tree{size: t.size, edge: append(make([]Hash, 0, bits.Len64(uint64(t.size))+1), t.edge...)}
}
