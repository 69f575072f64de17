package kaizentest

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"github.com/kaizen-go/kaizen/audit"
)

// personal makes n entries about person, who also is the user of every second.
func (s *ledgerSuite) personal(person string, n int) []audit.Entry {
	es := s.entries(n)
	for i := range es {
		es[i].Subject = person
		if es[i].UserID = ""; i%2 == 0 {
			es[i].UserID = person
		}
		es[i].Details["about"] = person + " said something"
		es[i].Metadata["who"] = person
	}
	return es
}

// found are the indexes that q selects.
func (s *ledgerSuite) found(q audit.Query) []int64 {
	s.Helper()
	var out []int64
	for e, err := range s.l.Query(s.Context(), q) {
		if err != nil {
			s.Fatalf("Query(%+v): %v", q, err)
		}
		out = append(out, e.Index)
	}
	n, err := s.l.Count(s.Context(), q)
	if q.Limit == 0 && q.After == 0 && (err != nil || n != int64(len(out))) {
		s.Errorf("Count(%+v) = %d, %v, Query yields %d", q, n, err, len(out))
	}
	return out
}

func (s *ledgerSuite) wantFound(what string, q audit.Query, want ...int64) {
	s.Helper()
	if got := s.found(q); fmt.Sprint(got) != fmt.Sprint(want) {
		s.Errorf("%s: entries %v, want %v", what, got, want)
	}
}

// clear reports whether any stored line has the text.
func (s *ledgerSuite) clear(text string) bool {
	s.Helper()
	for _, line := range s.lines(0) {
		if bytes.Contains(line, []byte(text)) {
			return true
		}
	}
	return false
}

// testSubjects: what is about a person is encrypted in the lines, readable
// through the ledger, and found by the person's name.
func (s *ledgerSuite) testSubjects() {
	plain := s.entry()
	plain.UserID = ""
	plainAt := s.append(plain).Index
	ada := s.personal("ada@example.org", 4)
	first := s.appendAll(ada)
	first0 := first[0].Index
	s.append(s.personal("bob@example.org", 1)[0])
	for i, e := range ada {
		s.same(first[i].Index, e)
	}
	s.same(plainAt, plain)
	for _, name := range []string{"ada@example.org", "bob@example.org", "said something"} {
		if s.clear(name) {
			s.Errorf("%q stands in a stored line in clear", name)
		}
	}
	check := func() {
		s.Helper()
		s.wantFound("subject", audit.Query{Subject: "ada@example.org"}, first0, first0+1, first0+2, first0+3)
		s.wantFound("subject, descending", audit.Query{Subject: "ada@example.org", Descending: true, Limit: 2}, first0+3, first0+2)
		s.wantFound("user", audit.Query{UserID: "ada@example.org"}, first0, first0+2)
		s.wantFound("both", audit.Query{Subject: "bob@example.org", UserID: "bob@example.org"}, first0+4)
		s.wantFound("nobody", audit.Query{Subject: "eve@example.org"})
	}
	check()
	stored, revealed := audit.Entry{}, audit.Entry{}
	for e := range s.l.Query(s.Context(), audit.Query{Subject: "ada@example.org", Limit: 1, Stored: true}) {
		stored = e
	}
	for e := range s.l.Query(s.Context(), audit.Query{Subject: "ada@example.org", Limit: 1}) {
		revealed = e
	}
	if stored.Subject == "ada@example.org" || stored.UserID != stored.Subject || revealed.Subject != "ada@example.org" {
		s.Errorf("stored it is about %q, revealed about %q", stored.Subject, revealed.Subject)
	}
	again := s.append(ada[1])
	if !again.Duplicate || again.Index != first[1].Index || again.LeafHash != first[1].LeafHash {
		s.Errorf("receipt of a repeated entry with a subject: %+v, want a duplicate of %+v", again, first[1])
	}
	bad := s.entry()
	bad.Subject = stored.Subject
	s.refused("a subject in the form of a token", []audit.Entry{bad})
	s.shut()
	s.open()
	check()
	s.same(first0, ada[0])
}

// testErasure: what was encrypted for a person cannot be read again, by
// anybody; everything else stays as it was, and provable.
func (s *ledgerSuite) testErasure() {
	ada, bob := s.personal("ada@example.org", 3), s.personal("bob@example.org", 2)
	rs := s.appendAll(append(append([]audit.Entry(nil), ada...), bob...))
	proof, err := s.l.Proof(rs[1].Index)
	if err != nil {
		s.Fatal(err)
	}
	before := s.lines(0)
	trial, err := s.l.Erase(s.Context(), audit.Erasure{Subject: "ada@example.org", DryRun: true})
	if err != nil || !trial.Found || trial.Entries != 3 || trial.Receipt.Index != -1 {
		s.Fatalf("Erase that is tried only = %+v, %v, want 3 entries", trial, err)
	}
	s.same(rs[0].Index, ada[0])
	x, err := s.l.Erase(s.Context(), audit.Erasure{Subject: "ada@example.org", Reason: "request 17", Authority: "Art. 17 GDPR"})
	if err != nil {
		s.Fatalf("Erase = %v", err)
	}
	if !x.Found || x.Entries != 3 || x.First != rs[0].Index || x.Last != rs[2].Index || x.Token != trial.Token {
		s.Errorf("receipt %+v, want entries %d to %d of %s", x, rs[0].Index, rs[2].Index, trial.Token)
	}
	record, err := s.l.Get(s.Context(), x.Receipt.Index)
	if err != nil || record.Action != "ledger.erasure" || record.Details["token"] != x.Token {
		s.Errorf("the receipt's entry is %+v, %v", record, err)
	}
	gone := func() {
		s.Helper()
		for _, r := range rs[:3] {
			e, err := s.l.Get(s.Context(), r.Index)
			if err != nil || e.Withheld.Details != audit.Erased || e.Withheld.Metadata != audit.Erased || e.Subject != x.Token || e.UserID == "ada@example.org" {
				s.Errorf("an erased entry reads as %+v, %v", e, err)
			}
		}
		s.wantFound("the erased name", audit.Query{Subject: "ada@example.org"})
		s.wantFound("its token", audit.Query{Subject: x.Token}, rs[0].Index, rs[1].Index, rs[2].Index)
		s.same(rs[3].Index, bob[0])
		for i, line := range s.lines(0)[:len(before)] {
			if !bytes.Equal(line, before[i]) {
				s.Errorf("line %d is not what it was", i)
			}
		}
		if err := proof.Check(s.l.VerifierKey()); err != nil {
			s.Errorf("proof from before the erasure: %v", err)
		}
	}
	gone()
	again, err := s.l.Erase(s.Context(), audit.Erasure{Subject: "ada@example.org"})
	if err != nil || again.Found {
		s.Errorf("Erase of the same name again = %+v, %v, want nothing found", again, err)
	}
	byToken, err := s.l.Erase(s.Context(), audit.Erasure{Subject: x.Token})
	if err != nil || !byToken.Found || byToken.Receipt.Index != x.Receipt.Index {
		s.Errorf("Erase by the token again = %+v, %v, want the receipt of the first", byToken, err)
	}
	_, err = s.l.Erase(s.Context(), audit.Erasure{Subject: "bob@example.org", Reason: "bob@example.org asked"})
	if _, ok := errors.AsType[*audit.EntryError](err); !ok {
		s.Errorf("Erase with the name in its reason = %v, want an *EntryError", err)
	}
	s.shut()
	s.open()
	gone()
	// The same name is another subject from now on.
	fresh := s.personal("ada@example.org", 1)
	r := s.append(fresh[0])
	s.same(r.Index, fresh[0])
	s.wantFound("the new subject", audit.Query{Subject: "ada@example.org"}, r.Index)
}

// testHolds: who is held cannot be erased until the hold is released.
func (s *ledgerSuite) testHolds() {
	s.appendAll(s.personal("ada@example.org", 2))
	h, r, err := s.l.Hold(s.Context(), audit.Hold{ID: "case-7", Subject: "ada@example.org", Reason: "dispute"})
	if err != nil || h.Index != r.Index {
		s.Fatalf("Hold = %+v, %+v, %v", h, r, err)
	}
	if _, _, err := s.l.Hold(s.Context(), audit.Hold{ID: "case-7", AgentID: "x"}); err == nil {
		s.Error("a hold was placed under an id that is active")
	}
	if s.clear("ada@example.org") {
		s.Error("the held name stands in a stored line in clear")
	}
	held := func(id string) {
		s.Helper()
		_, err := s.l.Erase(s.Context(), audit.Erasure{Subject: "ada@example.org"})
		if e, ok := errors.AsType[*audit.HeldError](err); !ok || e.Hold != id {
			s.Errorf("Erase of a held subject = %v, want a *HeldError of %s", err, id)
		}
	}
	held("case-7")
	s.shut()
	s.open()
	held("case-7")
	if hs := s.l.Holds(); len(hs) != 1 || hs[0].ID != "case-7" || hs[0].Subject != "ada@example.org" {
		s.Errorf("Holds() = %+v, want the one of ada", hs)
	}
	if _, err := s.l.Release(s.Context(), audit.Release{ID: "case-8"}); !errors.Is(err, audit.ErrNoHold) {
		s.Errorf("Release of no hold = %v, want ErrNoHold", err)
	}
	if _, err := s.l.Release(s.Context(), audit.Release{ID: "case-7", Reason: "settled"}); err != nil {
		s.Fatalf("Release = %v", err)
	}
	// A hold on anything else that one of the entries has keeps them as well.
	run := fmt.Sprintf("run-%d", 0)
	if _, _, err := s.l.Hold(s.Context(), audit.Hold{ID: "by-run", RunID: run}); err != nil {
		s.Fatal(err)
	}
	held("by-run")
	if _, err := s.l.Release(s.Context(), audit.Release{ID: "by-run"}); err != nil {
		s.Fatal(err)
	}
	if hs := s.l.Holds(); len(hs) != 0 {
		s.Errorf("Holds() = %+v after all were released", hs)
	}
	if x, err := s.l.Erase(s.Context(), audit.Erasure{Subject: "ada@example.org"}); err != nil || !x.Found {
		s.Errorf("Erase after the release = %+v, %v", x, err)
	}
	if _, _, err := s.l.Hold(s.Context(), audit.Hold{ID: strings.Repeat("x", 65)}); err == nil {
		s.Error("a hold with an id of 65 letters was placed")
	}
}
