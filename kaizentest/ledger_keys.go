package kaizentest

import (
	"slices"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/kaizen-go/kaizen/audit"
)

// signedBy reports whether a checkpoint has a valid signature of each key.
func (s *ledgerSuite) signedBy(c audit.Checkpoint, keys ...string) {
	s.Helper()
	for _, key := range keys {
		v, err := note.NewVerifier(key)
		if err != nil {
			s.Fatal(err)
		}
		if _, err := note.Open([]byte(c.Note), note.VerifierList(v)); err != nil {
			s.Errorf("the checkpoint of %d entries is not signed with %s: %v", c.Size, key, err)
		}
	}
}

// testRotation: the key changes while the ledger is open. What was signed before
// stays valid, checkpoints carry both signatures for a time, and the change is an
// entry.
func (s *ledgerSuite) testRotation() {
	keys := []string{s.l.VerifierKey()}
	var proofs []audit.Proof
	var held []audit.Checkpoint
	for round := range 2 {
		s.fill(5)
		p, err := s.l.Proof(s.l.Size() - 1)
		if err != nil {
			s.Fatal(err)
		}
		proofs, held = append(proofs, p), append(held, s.l.Checkpoint())
		previous, vkey, err := s.l.RotateKey(s.Context())
		if err != nil {
			s.Fatalf("RotateKey = %v", err)
		}
		if previous != keys[0] || vkey == previous || s.l.VerifierKey() != vkey {
			s.Fatalf("RotateKey = %s, %s, and the key is %s", previous, vkey, s.l.VerifierKey())
		}
		keys = append([]string{vkey}, keys...)
		s.signedBy(s.l.Checkpoint(), vkey, previous)
		if r := s.append(s.entry()); r.Index != int64(6*(round+1)+round) {
			s.Errorf("the entry after change %d is at %d", round+1, r.Index)
		} else {
			s.signedBy(r.Checkpoint, vkey)
		}
		s.check()
	}
	after := func() {
		s.Helper()
		if got, err := s.l.VerifierKeys(); err != nil || !slices.Equal(got, keys) {
			s.Errorf("VerifierKeys() = %v, %v, want %v", got, err, keys)
		}
		ranges := []audit.KeyRange{{Key: keys[2], Until: 6}, {Key: keys[1], From: 6, Until: 13}, {Key: keys[0], From: 13, Until: -1}}
		if got, err := s.l.KeyRanges(); err != nil || !slices.Equal(got, ranges) {
			s.Errorf("KeyRanges() = %v, %v, want %v", got, err, ranges)
		}
		var from []int64
		for e, err := range s.l.Query(s.Context(), audit.Query{AgentID: "kaizen", Action: "ledger.key_rotation"}) {
			if err != nil {
				s.Fatal(err)
			}
			k := len(from)
			if from = append(from, e.Index); e.Details["previous"] != keys[len(keys)-1-k] || e.Details["vkey"] != keys[len(keys)-2-k] {
				s.Errorf("entry %d is about %v", e.Index, e.Details)
			}
		}
		if !slices.Equal(from, []int64{5, 12}) {
			s.Errorf("entries about changes of the key are at %v, want 5 and 12", from)
		}
		for i, p := range proofs {
			if err := p.Check(keys[len(keys)-1-i]); err != nil {
				s.Errorf("proof from before change %d: %v", i+1, err)
			}
			s.signedBy(held[i], keys[len(keys)-1-i])
			if _, err := s.l.Consistency(held[i].Size, s.l.Size()); err != nil {
				s.Errorf("consistency since before change %d: %v", i+1, err)
			}
		}
		s.signedBy(s.l.Checkpoint(), keys[0], keys[1])
		s.proof(0)
		s.check()
	}
	after()
	s.shut()
	s.open()
	after()
	if r := s.append(s.entry()); r.Index != 14 {
		s.Errorf("the entry after opening is at %d, want 14", r.Index)
	}
}

// testStats: a ledger knows what it holds, also after it was opened again.
func (s *ledgerSuite) testStats() {
	if st := s.l.Stats(); st.Entries != 0 || st.Bytes != 0 || !st.Oldest.IsZero() || !st.Newest.IsZero() {
		s.Errorf("Stats of an empty ledger = %+v", st)
	}
	check := func() {
		s.Helper()
		var entries, bytes int64
		var oldest, newest time.Time
		for _, line := range s.lines(0) {
			e, err := audit.DecodeLine(line)
			if err != nil {
				s.Fatal(err)
			}
			entries, bytes = entries+1, bytes+int64(len(line))+1
			if oldest.IsZero() || e.Time.Before(oldest) {
				oldest = e.Time
			}
			if e.Time.After(newest) {
				newest = e.Time
			}
		}
		st := s.l.Stats()
		if st.Entries != entries || st.Bytes != bytes || !st.Oldest.Equal(oldest) || !st.Newest.Equal(newest) {
			s.Errorf("Stats = %+v, want %d entries, %d bytes, from %s to %s", st, entries, bytes, oldest, newest)
		}
		if st.Stored <= 0 || st.Segments <= 0 || st.Pruned != 0 {
			s.Errorf("Stats = %+v, want the size of what is stored", st)
		}
	}
	s.fill(3)
	check()
	early := s.entry()
	early.Time = s.start.Add(-time.Minute)
	s.append(early)
	s.fill(600)
	if err := s.l.Flush(s.Context()); err != nil {
		s.Fatal(err)
	}
	check()
	s.shut()
	s.open()
	check()
}

// foreignSignatures counts the signatures of a note that are not by name.
func foreignSignatures(text, name string) (n int) {
	_, sigs, _ := strings.Cut(text, "\n\n")
	for line := range strings.Lines(sigs) {
		if !strings.HasPrefix(line, "— "+name+" ") {
			n++
		}
	}
	return n
}
