package audit

import (
	"encoding/binary"
	"slices"
	"testing"

	"github.com/kaizen-go/kaizen/internal/merkle"
)

func TestHashList(t *testing.T) {
	t.Parallel()
	var l hashList
	var want []merkle.Hash
	check := func(l *hashList, want []merkle.Hash) {
		t.Helper()
		if l.len() != int64(len(want)) {
			t.Fatalf("%d hashes, want %d", l.len(), len(want))
		}
		var all []merkle.Hash
		for run := range l.runs() {
			all = append(all, run...)
		}
		if !slices.Equal(all, want) {
			t.Fatalf("runs of %d hashes differ", len(want))
		}
		for i, h := range want {
			if l.at(int64(i)) != h {
				t.Fatalf("hash %d of %d differs", i, len(want))
			}
		}
	}
	for _, n := range []int{0, 1, 2, hashBlock - 4, 1, 1, 3, 2*hashBlock + 5, hashBlock, 0, 7} {
		before, had := l, slices.Clone(want)
		var more []merkle.Hash
		for range n {
			var h merkle.Hash
			binary.BigEndian.PutUint64(h[:], uint64(len(want)+len(more))+1)
			more = append(more, h)
		}
		l.add(more)
		want = append(want, more...)
		check(&before, had)
		check(&l, want)
	}
	for _, r := range [][2]int64{{0, 1}, {5, 9}, {hashBlock - 1, hashBlock + 7}, {hashBlock, l.len()}, {l.len() - 1, l.len() + 9}} {
		got := l.run(r[0], r[1])
		if n := len(got); n == 0 || int64(n) > r[1]-r[0] || !slices.Equal(got, want[r[0]:r[0]+int64(n)]) {
			t.Fatalf("run(%d, %d): %d hashes, or others", r[0], r[1], n)
		}
	}
}
