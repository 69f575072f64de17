package merkle

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"golang.org/x/mod/sumdb/tlog"
)

// reference is the same tree kept by x/mod's tlog.
type reference struct{ hashes []tlog.Hash }

func (r *reference) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	out := make([]tlog.Hash, len(indexes))
	for i, x := range indexes {
		out[i] = r.hashes[x]
	}
	return out, nil
}

func (r *reference) add(t *testing.T, n int64, data []byte) {
	t.Helper()
	hs, err := tlog.StoredHashes(n, data, r)
	if err != nil {
		t.Fatal(err)
	}
	r.hashes = append(r.hashes, hs...)
}

func same(a []Hash, b []tlog.Hash) bool {
	return slices.EqualFunc(a, b, func(x Hash, y tlog.Hash) bool { return x == Hash(y) })
}

// trees builds the same leaves three ways and compares every root.
func trees(t *testing.T, n int64) (*Store, *reference, []Hash) {
	t.Helper()
	var tree Tree
	var store Store
	ref := &reference{}
	roots := []Hash{EmptyRoot()}
	for i := range n {
		data := fmt.Appendf(nil, "leaf %d", i)
		if got, want := HashLeaf(data), Hash(tlog.RecordHash(data)); got != want {
			t.Fatalf("HashLeaf(%q) = %x, want %x", data, got, want)
		}
		tree.Append(HashLeaf(data))
		store.Append(HashLeaf(data))
		ref.add(t, i, data)
		want, err := tlog.TreeHash(i+1, ref)
		if err != nil {
			t.Fatal(err)
		}
		if got := tree.Root(); got != Hash(want) {
			t.Fatalf("Tree.Root() at %d = %x, want %x", i+1, got, want)
		}
		if got := store.Root(i + 1); got != Hash(want) {
			t.Fatalf("Store.Root(%d) = %x, want %x", i+1, got, want)
		}
		if again := store.Tree(); again.Root() != tree.Root() || again.Size() != tree.Size() {
			t.Fatalf("Store.Tree() at %d differs from the tree", i+1)
		}
		roots = append(roots, tree.Root())
	}
	return &store, ref, roots
}

func TestEmpty(t *testing.T) {
	var tree Tree
	var store Store
	if tree.Root() != EmptyRoot() || store.Root(0) != EmptyRoot() || tree.Size() != 0 || store.Size() != 0 {
		t.Error("the empty tree's root is not the hash of nothing")
	}
	if _, err := store.Inclusion(0, 0); err == nil {
		t.Error("Inclusion(0, 0) = nil, want an error")
	}
}

func TestHashLeafLong(t *testing.T) {
	for _, n := range []int{0, 1022, 1023, 1024, 1025, 65535} {
		data := make([]byte, n)
		if got, want := HashLeaf(data), Hash(tlog.RecordHash(data)); got != want {
			t.Errorf("HashLeaf(%d bytes) = %x, want %x", n, got, want)
		}
	}
}

func TestClone(t *testing.T) {
	var a Tree
	a.Append(HashLeaf([]byte("1")))
	b := a.Clone()
	root := b.Root()
	a.Append(HashLeaf([]byte("2")))
	if b.Root() != root || b.Size() != 1 {
		t.Error("a clone changed with its original")
	}
}

// TestAgainstTlog proves every leaf and every prefix of every tree up to 300
// leaves, both ways: our proofs equal tlog's, and both verifiers take them.
func TestAgainstTlog(t *testing.T) {
	const n = 300
	store, ref, roots := trees(t, n)
	for size := int64(1); size <= n; size++ {
		for i := range size {
			checkInclusion(t, store, ref, roots, i, size)
		}
		for old := int64(1); old <= size; old++ {
			checkConsistency(t, store, ref, roots, old, size)
		}
	}
}

func TestAgainstTlogLarge(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	const n = 20_000
	store, ref, roots := trees(t, n)
	for range 3000 {
		size := 1 + rnd.Int64N(n)
		checkInclusion(t, store, ref, roots, rnd.Int64N(size), size)
		checkConsistency(t, store, ref, roots, 1+rnd.Int64N(size), size)
	}
}

func checkInclusion(t *testing.T, s *Store, ref *reference, roots []Hash, i, size int64) {
	t.Helper()
	p, err := s.Inclusion(i, size)
	if err != nil {
		t.Fatal(err)
	}
	want, err := tlog.ProveRecord(size, i, ref)
	if err != nil {
		t.Fatal(err)
	}
	if !same(p, want) {
		t.Fatalf("Inclusion(%d, %d) differs from tlog's", i, size)
	}
	if err := CheckInclusion(p, i, size, s.Leaf(i), roots[size]); err != nil {
		t.Fatalf("CheckInclusion(%d, %d) = %v", i, size, err)
	}
}

func checkConsistency(t *testing.T, s *Store, ref *reference, roots []Hash, old, size int64) {
	t.Helper()
	p, err := s.Consistency(old, size)
	if err != nil {
		t.Fatal(err)
	}
	want, err := tlog.ProveTree(size, old, ref)
	if err != nil {
		t.Fatal(err)
	}
	if !same(p, want) {
		t.Fatalf("Consistency(%d, %d) differs from tlog's", old, size)
	}
	if err := CheckConsistency(p, old, size, roots[old], roots[size]); err != nil {
		t.Fatalf("CheckConsistency(%d, %d) = %v", old, size, err)
	}
}

// TestWrongProofs changes each valid proof in every way it can be wrong.
func TestWrongProofs(t *testing.T) {
	const n = 40
	store, _, roots := trees(t, n)
	for size := int64(1); size <= n; size++ {
		for i := range size {
			p, err := store.Inclusion(i, size)
			if err != nil {
				t.Fatal(err)
			}
			for name, bad := range variants(p) {
				if err := CheckInclusion(bad, i, size, store.Leaf(i), roots[size]); !errors.Is(err, ErrProof) {
					t.Fatalf("CheckInclusion(%s, %d, %d) = %v, want ErrProof", name, i, size, err)
				}
			}
			if err := CheckInclusion(p, i, size, store.Leaf(i), roots[size-1]); err == nil {
				t.Fatalf("CheckInclusion(%d, %d) took another root", i, size)
			}
			if err := CheckInclusion(p, i+1, size, store.Leaf(i), roots[size]); err == nil {
				t.Fatalf("CheckInclusion(%d, %d) took another index", i, size)
			}
		}
		for old := int64(1); old < size; old++ {
			p, err := store.Consistency(old, size)
			if err != nil {
				t.Fatal(err)
			}
			for name, bad := range variants(p) {
				if err := CheckConsistency(bad, old, size, roots[old], roots[size]); !errors.Is(err, ErrProof) {
					t.Fatalf("CheckConsistency(%s, %d, %d) = %v, want ErrProof", name, old, size, err)
				}
			}
			if err := CheckConsistency(p, old, size, roots[old-1], roots[size]); err == nil {
				t.Fatalf("CheckConsistency(%d, %d) took another old root", old, size)
			}
		}
	}
	for _, tt := range []struct {
		name      string
		old, size int64
		oldRoot   Hash
	}{
		{"negative", -1, 3, roots[0]},
		{"shrunk", 4, 3, roots[4]},
		{"forged empty", 0, 3, roots[1]},
		{"same size, other root", 3, 3, roots[2]},
	} {
		if err := CheckConsistency(nil, tt.old, tt.size, tt.oldRoot, roots[3]); !errors.Is(err, ErrProof) {
			t.Errorf("CheckConsistency(%s) = %v, want ErrProof", tt.name, err)
		}
	}
}

func variants(p []Hash) map[string][]Hash {
	out := map[string][]Hash{"longer": append(slices.Clone(p), Hash{1})}
	if len(p) == 0 {
		return out
	}
	out["shorter"] = p[:len(p)-1]
	for i := range p {
		c := slices.Clone(p)
		c[i][7] ^= 1
		out[fmt.Sprintf("flip in %d", i)] = c
	}
	return out
}

func BenchmarkTreeAppend(b *testing.B) {
	var tree Tree
	for b.Loop() {
		tree.Append(Hash{1})
	}
}

func BenchmarkStoreInclusion(b *testing.B) {
	var s Store
	for range 1 << 17 {
		s.Append(Hash{1})
	}
	for b.Loop() {
		if _, err := s.Inclusion(77_777, 1<<17-5); err != nil {
			b.Fatal(err)
		}
	}
}
