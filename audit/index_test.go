package audit

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"unsafe"

	"github.com/oklog/ulid/v2"
)

// BenchmarkIndexAdd is what the index of the newest segment costs an entry.
func BenchmarkIndexAdd(b *testing.B) {
	const n, some = 100_000, 1000
	entries, ids := make([]Entry, some), make([]ulid.ULID, n)
	for i := range entries {
		entries[i] = storeEntry(i)
		entries[i].ID, entries[i].Details = "", nil
	}
	for i := range ids {
		ids[i] = newULID(uint64(i))
	}
	for b.Loop() {
		x := newIndex()
		for i := range n {
			x.add(&entries[i%some], ids[i], uint32(i))
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/entry")
}

// TestIDTable looks for ids now and then while an index grows: what is new since
// is found, what is not there is not, from several goroutines at once.
func TestIDTable(t *testing.T) {
	x := newIndex()
	if _, ok := x.lookup(newULID(1)); ok {
		t.Error("an empty index has an id")
	}
	var ids []ulid.ULID
	for _, upTo := range []int{1, 2, 255, 256, 257, 767, 768, 769, 3000, 20_000} {
		for i := len(ids); i < upTo; i++ {
			ids = append(ids, newULID(uint64(i)))
			e := numbered(i)
			x.add(&e, ids[i], uint32(i))
		}
		var all sync.WaitGroup
		for k := range 4 {
			all.Go(func() {
				for i := k; i < upTo; i += 1 + upTo/300 {
					if at, ok := x.lookup(ids[i]); !ok || at != int64(i) {
						t.Errorf("of %d: lookup of id %d = %d, %v", upTo, i, at, ok)
					}
				}
				if at, ok := x.lookup(newULID(1)); ok {
					t.Errorf("of %d: lookup of a new id = %d", upTo, at)
				}
			})
		}
		all.Wait()
		if x.ids.used != int64(upTo) || len(x.ids.slots)*3/4 < upTo {
			t.Fatalf("of %d: the table has %d entries, and room for %d", upTo, x.ids.used, len(x.ids.slots))
		}
	}
}

// tables counts the ids in the tables of the open segments.
func tables(s *store) (n int64) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, seg := range s.segs {
		n += seg.idx.ids.used
	}
	return n
}

// TestIDTableLazy appends entries without ids, for which no table is made, and
// then again some of them with the ids that they got: from each segment, and
// after the ledger was opened anew.
func TestIDTableLazy(t *testing.T) {
	dir := t.TempDir() + "/audit"
	cfg := small() // which does not seal by itself
	l := mustOpen(t, dir, cfg)
	var first []Receipt
	for i := range 120 {
		e := numbered(i)
		e.ID = ""
		r, err := l.Append(t.Context(), e)
		if err != nil {
			t.Fatal(err)
		}
		first = append(first, r)
	}
	if n := len(l.store.segs); n < 3 {
		t.Fatalf("%d segments, want 3 or more", n)
	}
	again := func(l *Ledger, i int) {
		t.Helper()
		e := numbered(i)
		e.ID = first[i].ID
		r, err := l.Append(t.Context(), e)
		if err != nil || !r.Duplicate || r.Index != first[i].Index || r.LeafHash != first[i].LeafHash {
			t.Errorf("entry %d again = %+v, %v; want a duplicate of %d", i, r, err, first[i].Index)
		}
	}
	if n := tables(l.store); n != 0 {
		t.Errorf("tables of %d ids in a ledger that nobody asked", n)
	}
	for i := 0; i < len(first); i += 7 {
		again(l, i)
	}
	e := numbered(1000)
	e.ID = ""
	r, err := l.Append(t.Context(), e)
	if err != nil {
		t.Fatal(err)
	}
	first = append(first, r)
	again(l, len(first)-1) // came after the table was made
	mustClose(t, l)

	l = mustOpen(t, dir, cfg)
	if n := tables(l.store); n != 0 {
		t.Errorf("tables of %d ids in a ledger that was just opened", n)
	}
	for i := range first {
		again(l, i)
	}
	if n := l.Size(); n != int64(len(first)) {
		t.Errorf("%d entries, want %d", n, len(first))
	}
}

// TestDuplicatesAtOnce appends with ids that are there, from several goroutines
// beside others that give none, while readers of the ledger go on.
func TestDuplicatesAtOnce(t *testing.T) {
	l := mustOpen(t, t.TempDir()+"/audit", small())
	receipts, err := l.AppendBatch(t.Context(), []Entry{numbered(0), numbered(1), numbered(2)})
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for k := range 4 {
		all.Go(func() {
			for i := range 40 {
				e := numbered(100 + 100*k + i)
				e.ID = ""
				r, err := l.Append(t.Context(), e)
				if err != nil {
					t.Error(err)
					return
				}
				e.ID = r.ID
				for _, same := range []struct {
					e    Entry
					want int64
				}{{e, r.Index}, {withID(numbered(i%3), receipts[i%3].ID), receipts[i%3].Index}} {
					if r, err := l.Append(t.Context(), same.e); err != nil || !r.Duplicate || r.Index != same.want {
						t.Errorf("entry again = %+v, %v; want a duplicate of %d", r, err, same.want)
					}
				}
				if _, err := l.Count(context.Background(), Query{AgentID: fmt.Sprintf("agent-%d", k)}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	if n := l.Size(); n != 3+4*40 {
		t.Errorf("%d entries, want %d", n, 3+4*40)
	}
}

func withID(e Entry, id string) Entry {
	e.ID = id
	return e
}

// TestSealedSegmentSize holds what each sealed segment takes in memory, of which
// a large ledger has many thousand, and a reader makes all anew when one is added.
func TestSealedSegmentSize(t *testing.T) {
	if n := unsafe.Sizeof(segment{}); n > 512 {
		t.Errorf("a sealed segment takes %d bytes besides its record, want at most 512", n)
	}
}
