package group

import (
	"crypto/sha256"
	"fmt"
	"math/bits"

	"golang.org/x/mod/sumdb/tlog"
)

// Tree is the right edge of a Merkle tree: the roots of its perfect subtrees,
// from the largest to the smallest, one for each bit of the size.
type Tree struct {
	Size int64
	Edge []tlog.Hash
}

// Node is the root of a subtree of 256^Level leaves: what a tile of that level
// holds at that place.
type Node struct {
	Level int
	N     int64
	Hash  tlog.Hash
}

// Append adds a leaf, and to nodes the subtrees of 256^n leaves that it
// completes.
func (t *Tree) Append(leaf tlog.Hash, nodes []Node) []Node {
	h := leaf
	for level, s := 1, t.Size; s&1 == 1; level, s = level+1, s>>1 {
		last := len(t.Edge) - 1
		h = hashNode(t.Edge[last], h)
		t.Edge = t.Edge[:last]
		if level%8 == 0 {
			nodes = append(nodes, Node{Level: level / 8, N: t.Size >> level, Hash: h})
		}
	}
	t.Edge = append(t.Edge, h)
	t.Size++
	return nodes
}

// Root is the RFC 6962 root.
func (t *Tree) Root() tlog.Hash {
	if t.Size == 0 {
		return sha256.Sum256(nil)
	}
	last := len(t.Edge) - 1
	h := t.Edge[last]
	for i := last - 1; i >= 0; i-- {
		h = hashNode(t.Edge[i], h)
	}
	return h
}

// Clone returns a copy that shares nothing.
func (t *Tree) Clone() Tree { return Tree{Size: t.Size, Edge: append([]tlog.Hash(nil), t.Edge...)} }

// Marshal gives the edge as bytes, 32 for each hash.
func (t *Tree) Marshal() []byte {
	b := make([]byte, 0, len(t.Edge)*tlog.HashSize)
	for _, h := range t.Edge {
		b = append(b, h[:]...)
	}
	return b
}

// ParseTree reads what [Tree.Marshal] gave for a tree of that size.
func ParseTree(size int64, edge []byte) (Tree, error) {
	if size < 0 || len(edge) != bits.OnesCount64(uint64(size))*tlog.HashSize {
		return Tree{}, fmt.Errorf("right edge of %d bytes for a tree of %d entries", len(edge), size)
	}
	t := Tree{Size: size}
	for i := 0; i < len(edge); i += tlog.HashSize {
		t.Edge = append(t.Edge, tlog.Hash(edge[i:i+tlog.HashSize]))
	}
	return t, nil
}

// hashNode is SHA-256(0x01 || left || right), on the stack.
func hashNode(left, right tlog.Hash) tlog.Hash {
	var buf [1 + 2*tlog.HashSize]byte
	buf[0] = 1
	copy(buf[1:], left[:])
	copy(buf[1+tlog.HashSize:], right[:])
	return sha256.Sum256(buf[:])
}
