package kaizentest

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/kaizen-go/kaizen/audit"
)

var emptyRoot = sha256.Sum256(nil)

func (s *ledgerSuite) testAppend() {
	if n := s.l.Size(); n != 0 {
		s.Fatalf("a new ledger has %d entries", n)
	}
	for i := range 20 {
		e := s.entry()
		r := s.append(e)
		if r.Index != int64(i) || r.ID != e.ID || r.Duplicate {
			s.Errorf("receipt %+v, want index %d and id %s", r, i, e.ID)
		}
		line, err := audit.EncodeLine(nil, e)
		if err != nil {
			s.Fatal(err)
		}
		if want := tlog.RecordHash(line); r.LeafHash != want {
			s.Errorf("entry %d: leaf hash %x, want %x", i, r.LeafHash, want)
		}
		s.same(r.Index, e)
	}
	if n := s.l.Size(); n != 20 {
		s.Errorf("Size() = %d, want 20", n)
	}
	before := time.Now()
	r := s.append(audit.Entry{AgentID: "a", Action: "x", Result: audit.Success})
	got, err := s.l.Get(s.Context(), r.Index)
	if err != nil {
		s.Fatal(err)
	}
	if got.ID != r.ID || len(r.ID) != 26 || got.Time.Before(before.Add(-time.Second)) || got.Time.After(time.Now()) {
		s.Errorf("id %q and time %s are not filled in", got.ID, got.Time)
	}
	if _, err := s.l.Get(s.Context(), 21); !errors.Is(err, audit.ErrNotFound) {
		s.Errorf("Get(21) = %v, want ErrNotFound", err)
	}
	if _, err := s.l.Get(s.Context(), -1); !errors.Is(err, audit.ErrNotFound) {
		s.Errorf("Get(-1) = %v, want ErrNotFound", err)
	}
}

// same checks that the entry at index is e, by the one spelling of both.
func (s *ledgerSuite) same(index int64, e audit.Entry) {
	s.Helper()
	got, err := s.l.Get(s.Context(), index)
	if err != nil {
		s.Fatalf("Get(%d) = %v", index, err)
	}
	a, errA := audit.EncodeLine(nil, got)
	b, errB := audit.EncodeLine(nil, e)
	if errA != nil || errB != nil || got.Index != index || string(a) != string(b) {
		s.Errorf("Get(%d) = index %d %s (%v), want %s (%v)", index, got.Index, a, errA, b, errB)
	}
}

func (s *ledgerSuite) testBatch() {
	if rs, err := s.l.AppendBatch(s.Context(), nil); err != nil || len(rs) != 0 {
		s.Errorf("AppendBatch(nil) = %v, %v", rs, err)
	}
	for _, n := range []int{1, 2, 300, 7} {
		base := s.l.Size()
		es := s.entries(n)
		for i, r := range s.appendAll(es) {
			if r.Index != base+int64(i) || r.ID != es[i].ID {
				s.Fatalf("receipt %d of a batch of %d: %+v, want index %d", i, n, r, base+int64(i))
			}
		}
		s.same(base, es[0])
		s.same(base+int64(n)-1, es[n-1])
	}
	var tooMany []audit.Entry
	for range audit.MaxBatchEntries + 1 {
		tooMany = append(tooMany, audit.Entry{AgentID: "a", Action: "x", Result: audit.Success})
	}
	s.refused("more entries than a batch may have", tooMany)
	big := strings.Repeat("x", 60_000)
	var tooLarge []audit.Entry
	for range audit.MaxBatchBytes/len(big) + 1 {
		tooLarge = append(tooLarge, audit.Entry{AgentID: "a", Action: "x", Result: audit.Success, Details: map[string]any{"b": big}})
	}
	s.refused("more bytes than a batch may have", tooLarge)
}

// refused checks that es are not written, with an [*audit.EntryError].
func (s *ledgerSuite) refused(what string, es []audit.Entry) {
	s.Helper()
	before := s.l.Size()
	_, err := s.l.AppendBatch(s.Context(), es)
	if _, ok := errors.AsType[*audit.EntryError](err); !ok {
		s.Errorf("%s: %v, want an *EntryError", what, err)
	}
	if err := s.l.Flush(s.Context()); err != nil {
		s.Fatal(err)
	}
	if n := s.l.Size(); n != before {
		s.Errorf("%s: %d entries were written", what, n-before)
	}
}

func (s *ledgerSuite) testDuplicates() {
	es := s.entries(5)
	first := s.appendAll(es)
	again := s.append(es[2])
	if !again.Duplicate || again.Index != first[2].Index || again.LeafHash != first[2].LeafHash {
		s.Errorf("receipt of a repeated entry: %+v, want a duplicate of %+v", again, first[2])
	}
	other := es[3]
	other.Action = "something.else"
	if r := s.append(other); !r.Duplicate || r.LeafHash != first[3].LeafHash {
		s.Errorf("receipt of another entry with a known id: %+v, want the first's", r)
	}
	twice := s.entry()
	mixed := s.appendAll([]audit.Entry{es[0], twice, s.entry(), twice, es[4]})
	want := []struct {
		index     int64
		duplicate bool
	}{{0, true}, {5, false}, {6, false}, {5, true}, {4, true}}
	for i, w := range want {
		if mixed[i].Index != w.index || mixed[i].Duplicate != w.duplicate {
			s.Errorf("receipt %d of a mixed batch: index %d, duplicate %t, want %+v", i, mixed[i].Index, mixed[i].Duplicate, w)
		}
		if mixed[i].Checkpoint.Size < 7 {
			s.Errorf("receipt %d of a mixed batch: checkpoint of %d entries, want 7", i, mixed[i].Checkpoint.Size)
		}
	}
	if n := s.l.Size(); n != 7 {
		s.Errorf("Size() = %d, want 7", n)
	}
}

func (s *ledgerSuite) testRefusals() {
	s.fill(2)
	for _, tt := range []struct {
		name   string
		change func(e *audit.Entry)
	}{
		{"no agent", func(e *audit.Entry) { e.AgentID = "" }},
		{"no action", func(e *audit.Entry) { e.Action = "" }},
		{"no result", func(e *audit.Entry) { e.Result = "" }},
		{"unknown result", func(e *audit.Entry) { e.Result = "fine" }},
		{"id in lower case", func(e *audit.Entry) { e.ID = strings.ToLower(e.ID) }},
		{"id too short", func(e *audit.Entry) { e.ID = "01" }},
		{"time before 1970", func(e *audit.Entry) { e.Time = time.Unix(-1, 0) }},
		{"time after 2261", func(e *audit.Entry) { e.Time = time.Date(2262, 1, 1, 0, 0, 0, 0, time.UTC) }},
		{"agent of 513 bytes", func(e *audit.Entry) { e.AgentID = strings.Repeat("a", audit.MaxNameBytes+1) }},
		{"agent that is not UTF-8", func(e *audit.Entry) { e.AgentID = "\xff" }},
		{"details that are not UTF-8", func(e *audit.Entry) { e.Details = map[string]any{"x": "\xff"} }},
		{"trace of zeros", func(e *audit.Entry) { e.TraceID = strings.Repeat("0", 32) }},
		{"span in upper case", func(e *audit.Entry) { e.SpanID = "00F067AA0BA902B7" }},
		{"parent that is no id", func(e *audit.Entry) { e.Parent = "x" }},
		{"an entry that only the ledger writes", func(e *audit.Entry) { e.AgentID, e.Action = "kaizen", "ledger.erasure" }},
		{"details that cannot be encoded", func(e *audit.Entry) { e.Details = map[string]any{"x": func() {}} }},
	} {
		bad := s.entry()
		tt.change(&bad)
		s.refused(tt.name, []audit.Entry{bad})
		s.refused(tt.name+", among good ones", []audit.Entry{s.entry(), bad, s.entry()})
	}
}

func (s *ledgerSuite) testLarge() {
	e := s.entry()
	e.Details = map[string]any{"b": ""}
	line, err := audit.EncodeLine(nil, e)
	if err != nil {
		s.Fatal(err)
	}
	room := audit.MaxLineBytes - len(line)
	e.Details["b"] = strings.Repeat("z", room)
	r := s.append(e)
	s.same(r.Index, e)
	p, err := s.l.Proof(r.Index)
	if err != nil {
		s.Fatal(err)
	}
	if len(p.Line) != audit.MaxLineBytes {
		s.Errorf("the longest line has %d bytes, want %d", len(p.Line), audit.MaxLineBytes)
	}
	if err := p.Check(s.l.VerifierKey()); err != nil {
		s.Error(err)
	}
	longer := s.entry()
	longer.Details = map[string]any{"b": strings.Repeat("z", room+1)}
	s.refused("a line that is too long by one byte", []audit.Entry{longer})
	wide := s.entry()
	wide.AgentID, wide.UserID = strings.Repeat("é", audit.MaxNameBytes/2), strings.Repeat("\x00", audit.MaxNameBytes)
	s.same(s.append(wide).Index, wide)
}

func (s *ledgerSuite) testConcurrency() {
	const writers, each = 8, 25
	receipts := make([][]audit.Receipt, writers)
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				e := audit.Entry{AgentID: fmt.Sprintf("w%d", w), Action: "x", Result: audit.Success, Details: map[string]any{"i": i}}
				r, err := s.l.Append(s.Context(), e)
				if err != nil {
					s.Errorf("writer %d: %v", w, err)
					return
				}
				receipts[w] = append(receipts[w], r)
			}
		})
	}
	wg.Wait()
	seen := map[int64]bool{}
	for w, rs := range receipts {
		for i, r := range rs {
			if seen[r.Index] {
				s.Errorf("index %d was given twice", r.Index)
			}
			seen[r.Index] = true
			// An append that began after another had returned comes after it.
			if i > 0 && r.Index <= rs[i-1].Index {
				s.Errorf("writer %d: index %d after %d", w, r.Index, rs[i-1].Index)
			}
			if r.Checkpoint.Size <= r.Index {
				s.Errorf("entry %d has a checkpoint of %d entries", r.Index, r.Checkpoint.Size)
			}
		}
	}
	if n := s.l.Size(); n != writers*each || len(seen) != writers*each {
		s.Errorf("%d entries with %d indexes, want %d", n, len(seen), writers*each)
	}
}

func (s *ledgerSuite) testReopen() {
	es := s.entries(40)
	first := s.appendAll(es)
	proof, err := s.l.Proof(5)
	if err != nil {
		s.Fatal(err)
	}
	origin, vkey := s.l.Origin(), s.l.VerifierKey()
	s.shut()
	s.open()
	if s.l.Origin() != origin || s.l.VerifierKey() != vkey {
		s.Errorf("opened again it is %s, %s, want %s, %s", s.l.Origin(), s.l.VerifierKey(), origin, vkey)
	}
	head := s.l.Checkpoint()
	if head.Size != 40 || head.Root != first[39].Checkpoint.Root {
		s.Errorf("opened again it has %d entries with root %x, want 40 with %x", head.Size, head.Root, first[39].Checkpoint.Root)
	}
	for i, e := range es {
		s.same(int64(i), e)
	}
	if err := proof.Check(vkey); err != nil {
		s.Error(err)
	}
	if r := s.append(es[7]); !r.Duplicate || r.Index != 7 {
		s.Errorf("receipt of a repeated entry: %+v, want a duplicate of entry 7", r)
	}
	if r := s.append(s.entry()); r.Index != 40 || r.Duplicate {
		s.Errorf("receipt of the next entry: %+v, want index 40", r)
	}
	s.check()
	s.shut()
	s.open()
	if n := s.l.Size(); n != 41 {
		s.Errorf("Size() = %d, want 41", n)
	}
}

func (s *ledgerSuite) testLines() {
	es := s.entries(600)
	s.appendAll(es)
	for _, from := range []int64{0, 1, 255, 256, 599, 600} {
		got := s.lines(from)
		if len(got) != 600-int(from) {
			s.Fatalf("Lines(%d) yields %d, want %d", from, len(got), 600-from)
		}
		for i, line := range got {
			want, err := audit.EncodeLine(nil, es[int(from)+i])
			if err != nil || string(line) != string(want) {
				s.Fatalf("line %d is %s, want %s (%v)", int(from)+i, line, want, err)
			}
		}
	}
	next, err := audit.EncodeLine(nil, s.entry())
	if err != nil {
		s.Fatal(err)
	}
	if err := s.l.Import(s.Context(), 601, [][]byte{next}); !errors.Is(err, audit.ErrPosition) {
		s.Errorf("Import with a gap = %v, want ErrPosition", err)
	}
	if err := s.l.Import(s.Context(), 599, [][]byte{next}); !errors.Is(err, audit.ErrPosition) {
		s.Errorf("Import over an entry = %v, want ErrPosition", err)
	}
	if err := s.l.Import(s.Context(), 600, [][]byte{[]byte(`{"id":1}`)}); err == nil {
		s.Error("Import took a line that is not canonical")
	}
	if err := s.l.Import(s.Context(), 600, [][]byte{next}); err != nil {
		s.Errorf("Import = %v", err)
	}
	if got := s.lines(600); len(got) != 1 || string(got[0]) != string(next) {
		s.Errorf("imported %q, want %q", got, next)
	}
}
