package audit

import (
	"context"
	"fmt"
	"testing"
)

// sameSpans returns n span ids that are alike in an index.
func sameSpans(n int) []string {
	by := map[uint16][]string{}
	for i := 1; ; i++ {
		id := fmt.Sprintf("%016x", i*7919)
		print := shortPrint([]byte(id))
		if by[print] = append(by[print], id); len(by[print]) == n {
			return by[print]
		}
	}
}

// TestFalseHits asks for spans that the index cannot tell apart, in segments that
// are sealed and in others: answers, counts and groups have none too many, and
// limits count what is shown.
func TestFalseHits(t *testing.T) {
	const n, kinds = 900, 4
	spans := append(sameSpans(kinds-1), "") // and none, whose fingerprint is 0
	dir := t.TempDir() + "/audit"
	l := mustOpen(t, dir, Config{sectionBytes: 1 << 20, segmentBytes: 100 << 10})
	entries := make([]Entry, n)
	for i := range entries {
		entries[i] = numbered(i)
		entries[i].SpanID = spans[i*7%13%kinds]
	}
	for i := 0; i < n; i += 100 {
		if _, err := l.AppendBatch(t.Context(), entries[i:i+100]); err != nil {
			t.Fatal(err)
		}
	}
	check := func(name string, r interface {
		Count(context.Context, Query) (int64, error)
		Group(context.Context, Query, Field, int) ([]GroupCount, error)
	}, s *store) {
		t.Helper()
		for _, q := range []Query{{SpanID: spans[0]}, {SpanID: spans[1], AgentID: "agent-3"}, {SpanID: spans[2], Since: entries[300].Time, Until: entries[700].Time}} {
			want, byAgent := []int64(nil), map[string]int64{}
			for i := range entries {
				if q.match(&entries[i]) {
					want = append(want, int64(i))
					byAgent[entries[i].AgentID]++
				}
			}
			if got, err := r.Count(t.Context(), q); err != nil || got != int64(len(want)) || got == 0 {
				t.Errorf("%s: Count(%+v) = %d, %v; want %d", name, q, got, err, len(want))
			}
			groups, err := r.Group(t.Context(), q, ByAgent, 0)
			if err != nil || len(groups) != len(byAgent) {
				t.Errorf("%s: Group(%+v) = %v, %v; want %v", name, q, groups, err, byAgent)
			}
			for _, g := range groups {
				if g.Count != byAgent[g.Value] {
					t.Errorf("%s: Group(%+v) has %d of %s, want %d", name, q, g.Count, g.Value, byAgent[g.Value])
				}
			}
			for _, limit := range []int{0, 3} {
				q, k := q, 0
				q.Limit = limit
				for e, err := range s.query(t.Context(), q) {
					if err != nil || k >= len(want) || e.Index != want[k] {
						t.Fatalf("%s: answer %d of %+v is entry %d, %v", name, k, q, e.Index, err)
					}
					k++
				}
				if wanted := len(want); k != wanted && (limit == 0 || k != min(limit, wanted)) {
					t.Errorf("%s: %d answers to %+v, of %d", name, k, q, wanted)
				}
			}
		}
	}
	check("open", l, l.store)
	if err := l.Seal(t.Context()); err != nil {
		t.Fatal(err)
	}
	check("sealed", l, l.store)
	r, err := OpenReader(dir)
	if err != nil {
		t.Fatal(err)
	}
	check("read", r, r.store)
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	mustClose(t, l)
}

// TestMixedIDs appends batches in which some entries have ids of their own, some
// of them known, from segments that are sealed and others, also after opening
// anew: each id stands once, and those made up are found like the others.
func TestMixedIDs(t *testing.T) {
	dir, cfg := t.TempDir()+"/audit", small() // which does not seal by itself
	known := map[string]Receipt{}
	var ids []string // that are known
	var l *Ledger
	round := func(from int) {
		t.Helper()
		var batch []Entry
		for i := from; i < from+12; i++ {
			e := numbered(i)
			if i%3 == 1 {
				e.ID = "" // made up
			}
			batch = append(batch, e)
		}
		batch = append(batch, batch[0]) // twice in one batch
		if len(ids) > 0 {               // one that was there before, of any round
			again := numbered(0)
			again.ID = ids[from*7%len(ids)]
			batch = append(batch, again)
		}
		size := l.Size()
		rs, err := l.AppendBatch(t.Context(), batch)
		if err != nil {
			t.Fatal(err)
		}
		for k, r := range rs {
			before, was := known[r.ID]
			if r.Duplicate != was || was && (r.Index != before.Index || r.LeafHash != before.LeafHash) {
				t.Fatalf("entry %d of the batch from %d: %+v, before %+v", k, from, r, before)
			}
			if !was {
				if r.Index != size {
					t.Fatalf("entry %d of the batch from %d is number %d, want %d", k, from, r.Index, size)
				}
				size++
				known[r.ID], ids = r, append(ids, r.ID)
			}
			if e, err := l.Get(t.Context(), r.Index); err != nil || e.ID != r.ID {
				t.Fatalf("Get(%d) = %s, %v; want %s", r.Index, e.ID, err, r.ID)
			}
		}
	}
	for k := range 4 {
		l = mustOpen(t, dir, cfg)
		for i := range 8 {
			round(1000*k + 12*i)
		}
		for _, id := range ids {
			e := numbered(0)
			e.ID = id
			if r, err := l.Append(t.Context(), e); err != nil || !r.Duplicate || r.Index != known[id].Index {
				t.Fatalf("again %+v, %v; want a duplicate of %d", r, err, known[id].Index)
			}
		}
		if k%2 == 1 {
			if err := l.Seal(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		mustClose(t, l)
	}
}
