package merkle

import (
	"crypto/sha256"
	"math/rand/v2"
	"slices"
	"testing"
)

// messages are n texts of random lengths, none of them empty.
func messages(rnd *rand.Rand, n, longest int) [][]byte {
	msgs := make([][]byte, n)
	for i := range msgs {
		msgs[i] = make([]byte, 1+rnd.IntN(longest))
		for k := range msgs[i] {
			msgs[i][k] = byte(rnd.Uint32())
		}
	}
	return msgs
}

// TestHashAllPrefixed hashes batches of all sizes, of lengths that end in each
// place of a block.
func TestHashAllPrefixed(t *testing.T) {
	t.Logf("two lanes: %v", twoAtOnce())
	rnd := rand.New(rand.NewPCG(3, 4))
	for n := range 70 {
		msgs := messages(rnd, n, 1+rnd.IntN(700))
		sums := make([]Hash, n)
		HashAllPrefixed(sums, msgs)
		for i, m := range msgs {
			if want := HashLeaf(m[1:]); sums[i] != want {
				t.Fatalf("HashAllPrefixed of %d messages: number %d, of %d bytes, is %x, want %x", n, i, len(m), sums[i], want)
			}
		}
	}
}

// TestSumAll has the lengths about the end of a block, in pairs that differ.
func TestSumAll(t *testing.T) {
	text := make([]byte, 5*sha256.BlockSize)
	for i := range text {
		text[i] = byte(i)
	}
	for i := range text {
		for _, k := range []int{0, 1, 55, 56, 63, 64, 65, 119, 120, 128, 300} {
			msgs := [][]byte{text[:i], text[:k], text[i:]}
			var sums [3]Hash
			sumAll(sums[:], msgs)
			for m := range msgs {
				if want := sha256.Sum256(msgs[m]); sums[m] != want {
					t.Fatalf("sumAll of %d and %d bytes: number %d is %x, want %x", i, k, m, sums[m], want)
				}
			}
		}
	}
}

// TestAppendAll adds leaves in batches of all sizes, beginning at all sizes.
func TestAppendAll(t *testing.T) {
	rnd := rand.New(rand.NewPCG(5, 6))
	for range 60 {
		var one, all Tree
		for all.Size() < 1500 {
			leaves := make([]Hash, rnd.IntN(700))
			for i := range leaves {
				leaves[i] = HashLeaf([]byte{byte(rnd.Uint32()), byte(rnd.Uint32())})
				one.Append(leaves[i])
			}
			kept := slices.Clone(leaves)
			all.AppendAll(leaves)
			if all.Size() != one.Size() || all.Root() != one.Root() || !slices.Equal(all.Edge(), one.Edge()) {
				t.Fatalf("AppendAll of %d leaves up to %d: root %x, want %x", len(leaves), all.Size(), all.Root(), one.Root())
			}
			if !slices.Equal(kept, leaves) {
				t.Fatal("AppendAll changed the leaves")
			}
		}
	}
}

// BenchmarkHashAll hashes 256 lines of 590 bytes, and one after the other what
// it is to be compared with.
func BenchmarkHashAll(b *testing.B) {
	rnd := rand.New(rand.NewPCG(7, 8))
	msgs := messages(rnd, 256, 1)
	for i := range msgs {
		msgs[i] = make([]byte, 560+rnd.IntN(60))
	}
	sums := make([]Hash, len(msgs))
	b.Run("lanes", func(b *testing.B) {
		for b.Loop() {
			HashAllPrefixed(sums, msgs)
		}
	})
	b.Run("single", func(b *testing.B) {
		for b.Loop() {
			for i := range msgs {
				sums[i] = HashPrefixed(msgs[i])
			}
		}
	})
	var tree Tree
	b.Run("tree", func(b *testing.B) {
		for b.Loop() {
			tree.AppendAll(sums)
		}
	})
	b.Run("tree of single", func(b *testing.B) {
		for b.Loop() {
			for i := range sums {
				tree.Append(sums[i])
			}
		}
	})
}
