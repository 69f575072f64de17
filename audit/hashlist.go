package audit

import (
	"iter"

	"github.com/kaizen-go/kaizen/internal/merkle"
)

// hashBlock is how many hashes stand in one piece: 32 KiB.
const hashBlock = 1024

// hashList is the leaf hashes of a segment, in memory. It grows by blocks: a slice
// that doubles would be copied, megabytes at a time, while all who append wait. A
// copy of it stays as it is while the original grows, also without a lock. The
// zero value is empty.
type hashList struct {
	blocks []*[hashBlock]merkle.Hash
	n      int64
}

func (l *hashList) len() int64 { return l.n }

func (l *hashList) at(i int64) merkle.Hash { return l.blocks[i/hashBlock][i%hashBlock] }

func (l *hashList) add(hashes []merkle.Hash) {
	for len(hashes) > 0 {
		at := l.n % hashBlock
		if at == 0 {
			l.blocks = append(l.blocks, new([hashBlock]merkle.Hash))
		}
		n := copy(l.blocks[len(l.blocks)-1][at:], hashes)
		l.n += int64(n)
		hashes = hashes[n:]
	}
}

// run is the hashes from i on, before end, that stand in one piece: at least one.
func (l *hashList) run(i, end int64) []merkle.Hash {
	at := i % hashBlock
	return l.blocks[i/hashBlock][at:min(at+min(end, l.n)-i, hashBlock)]
}

// runs are all of them, in pieces.
func (l *hashList) runs() iter.Seq[[]merkle.Hash] {
	return func(yield func([]merkle.Hash) bool) {
		for i := int64(0); i < l.n; i += hashBlock {
			if !yield(l.run(i, l.n)) {
				return
			}
		}
	}
}
