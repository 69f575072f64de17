package audit

import (
	"hash/maphash"
	"sync"

	"github.com/oklog/ulid/v2"
)

// idTable finds an entry of an [index] by its id: an open-addressed table of
// index+1, at most three quarters full. The ids themselves stand in the blocks.
//
// Only callers that give entries ids of their own look for them. So the table
// is made, and brought up to date with what was appended since, when somebody
// looks: a ledger that makes up its ids pays nothing for it.
type idTable struct {
	mu    sync.Mutex // guards what follows: those who look hold the store's mu for reading only
	slots []uint32
	used  int64 // how many entries are in it, the first ones
}

// lookup returns the index of the entry with that id. The caller holds the
// store's mu, for reading or writing.
func (x *index) lookup(id ulid.ULID) (int64, bool) {
	if x.n == 0 {
		return 0, false
	}
	t := &x.ids
	t.mu.Lock()
	defer t.mu.Unlock()
	t.catchUp(x)
	mask := uint64(len(t.slots) - 1)
	for h := x.hashID(&id); ; h++ {
		slot := t.slots[h&mask]
		if slot == 0 {
			return 0, false
		}
		if i := int64(slot) - 1; *x.id(i) == id {
			return i, true
		}
	}
}

func (x *index) hashID(id *ulid.ULID) uint64 { return maphash.Bytes(x.seed, id[:]) }

// catchUp adds the entries that are new since somebody looked.
func (t *idTable) catchUp(x *index) {
	size := max(1024, len(t.slots))
	for x.n > int64(size)/4*3 {
		size *= 2
	}
	if size != len(t.slots) {
		t.slots, t.used = make([]uint32, size), 0
	}
	mask := uint64(size - 1)
	for ; t.used < x.n; t.used++ {
		h := x.hashID(x.id(t.used))
		for t.slots[h&mask] != 0 {
			h++
		}
		t.slots[h&mask] = uint32(t.used + 1)
	}
}
