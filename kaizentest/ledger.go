package kaizentest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/kaizen-go/kaizen/audit"
)

// TestLedger checks that a ledger does what [audit.Backend] promises: order and
// receipts, proofs that golang.org/x/mod/sumdb/tlog accepts, queries, refusals,
// concurrency, and that closing and opening it again changes nothing. A new kind
// of ledger passes when this passes.
//
// Fresh makes the place of a new, empty ledger (a directory, a schema, a
// bucket), and returns the function that opens the ledger there. It is called
// once for every subtest; what it returns also a second time after the ledger
// was closed.
//
//	kaizentest.TestLedger(t, func(t *testing.T) func() (audit.Backend, error) {
//		dir := t.TempDir()
//		return func() (audit.Backend, error) {
//			return audit.Open(filepath.Join(dir, "audit"), audit.Config{})
//		}
//	})
func TestLedger(t *testing.T, fresh func(t *testing.T) (open func() (audit.Backend, error))) {
	for _, tt := range []struct {
		name string
		test func(s *ledgerSuite)
	}{
		{"append", (*ledgerSuite).testAppend},
		{"batch", (*ledgerSuite).testBatch},
		{"duplicates", (*ledgerSuite).testDuplicates},
		{"refusals", (*ledgerSuite).testRefusals},
		{"large entries", (*ledgerSuite).testLarge},
		{"receipts", (*ledgerSuite).testReceipts},
		{"proofs", (*ledgerSuite).testProofs},
		{"tree", (*ledgerSuite).testTree},
		{"query", (*ledgerSuite).testQuery},
		{"query order", (*ledgerSuite).testQueryOrder},
		{"query while writing", (*ledgerSuite).testSnapshot},
		{"concurrency", (*ledgerSuite).testConcurrency},
		{"reopen", (*ledgerSuite).testReopen},
		{"lines", (*ledgerSuite).testLines},
		{"contexts", (*ledgerSuite).testContexts},
		{"subjects", (*ledgerSuite).testSubjects},
		{"erasure", (*ledgerSuite).testErasure},
		{"holds", (*ledgerSuite).testHolds},
		{"key rotation", (*ledgerSuite).testRotation},
		{"stats", (*ledgerSuite).testStats},
		{"closing", (*ledgerSuite).testClosing},
	} {
		t.Run(tt.name, func(t *testing.T) {
			// Of today: a ledger may do something about entries that are old.
			s := &ledgerSuite{T: t, openIt: fresh(t), start: time.Now().UTC().Add(-time.Hour)}
			s.open()
			defer s.shut()
			tt.test(s)
			s.check()
		})
	}
}

// ledgerSuite is one subtest with its ledger.
type ledgerSuite struct {
	*testing.T
	openIt func() (audit.Backend, error)
	l      audit.Backend
	closed bool
	n      int // entries made, for ids and times
	start  time.Time
}

func (s *ledgerSuite) open() {
	s.Helper()
	l, err := s.openIt()
	if err != nil {
		s.Fatalf("open: %v", err)
	}
	s.l, s.closed = l, false
}

func (s *ledgerSuite) shut() {
	s.Helper()
	if s.closed {
		return
	}
	s.closed = true
	if err := s.l.Close(); err != nil {
		s.Errorf("close: %v", err)
	}
}

// entry makes the next entry, a second after the one before. Its fields have values of different frequency:
// two users, three agents, four actions, a trace for every five entries.
func (s *ledgerSuite) entry() audit.Entry {
	i := s.n
	s.n++
	return audit.Entry{
		ID:      ledgerID(i),
		Time:    s.start.Add(time.Duration(i) * time.Second),
		AgentID: fmt.Sprintf("agent-%d", i%3),
		Action:  fmt.Sprintf("action.%d", i%4),
		Result:  []audit.Result{audit.Success, audit.Failure, audit.Denied}[i%7%3],
		Details: map[string]any{"n": i, "text": "a \"quoted\" line\nand é 😀", "list": []any{1, "x", nil, true, 0.5}},
		UserID:  []string{"user-a", "user-b", ""}[i%3], SessionID: fmt.Sprintf("session-%d", i/10),
		RunID: fmt.Sprintf("run-%d", i/8), TraceID: fmt.Sprintf("%032x", i/5+1), SpanID: fmt.Sprintf("%016x", i+1),
		Severity: "info", Metadata: map[string]any{"region": "eu"},
	}
}

// ledgerID is a ULID for entry i, in the order of i.
func ledgerID(i int) string { return fmt.Sprintf("01HZY3V9T5XKQ2M4N6P8%06d", i) }

func (s *ledgerSuite) append(e audit.Entry) audit.Receipt {
	s.Helper()
	r, err := s.l.Append(s.Context(), e)
	if err != nil {
		s.Fatalf("Append(%s) = %v", e.ID, err)
	}
	return r
}

func (s *ledgerSuite) appendAll(es []audit.Entry) []audit.Receipt {
	s.Helper()
	rs, err := s.l.AppendBatch(s.Context(), es)
	if err != nil {
		s.Fatalf("AppendBatch of %d = %v", len(es), err)
	}
	if len(rs) != len(es) {
		s.Fatalf("AppendBatch of %d gave %d receipts", len(es), len(rs))
	}
	return rs
}

func (s *ledgerSuite) entries(n int) []audit.Entry {
	es := make([]audit.Entry, n)
	for i := range es {
		es[i] = s.entry()
	}
	return es
}

// fill appends n entries in one batch.
func (s *ledgerSuite) fill(n int) []audit.Receipt { return s.appendAll(s.entries(n)) }

// lines reads all stored lines and checks that they are as many as Size says.
func (s *ledgerSuite) lines(from int64) [][]byte {
	s.Helper()
	var out [][]byte
	for line, err := range s.l.Lines(s.Context(), from) {
		if err != nil {
			s.Fatalf("Lines: %v", err)
		}
		out = append(out, bytes.Clone(line))
	}
	return out
}

// check is the invariant of every ledger: no gap, and a signed checkpoint that
// is the root of what is stored.
func (s *ledgerSuite) check() {
	s.Helper()
	if s.closed {
		return
	}
	if err := CheckLedger(context.WithoutCancel(s.Context()), s.l); err != nil {
		s.Error(err)
	}
}

// CheckLedger reads the whole ledger and reports the first thing that is not as
// it should be: the checkpoint is signed with the ledger's key, the lines are as
// many as it says, canonical and without an id twice, and its root is theirs as
// golang.org/x/mod/sumdb/tlog computes it.
func CheckLedger(ctx context.Context, l audit.Backend) error {
	if err := l.Flush(ctx); err != nil {
		return fmt.Errorf("flush: %w", err)
	}
	head := l.Checkpoint()
	if err := checkNote(l, head); err != nil {
		return err
	}
	var tree reference
	ids := map[string]int64{}
	for line, err := range l.Lines(ctx, 0) {
		if err != nil {
			return fmt.Errorf("lines: %w", err)
		}
		n := tree.size
		e, err := audit.DecodeLine(line)
		if err != nil {
			return fmt.Errorf("line %d: %w", n, err)
		}
		if first, twice := ids[e.ID]; twice {
			return fmt.Errorf("entries %d and %d have the same id", first, n)
		}
		ids[e.ID] = n
		if err := tree.add(line); err != nil {
			return err
		}
		if tree.size == head.Size {
			break
		}
	}
	root, err := tree.root(head.Size)
	if err != nil {
		return fmt.Errorf("root of %d lines at size %d: %w", tree.size, head.Size, err)
	}
	if root != head.Root {
		return fmt.Errorf("the root of %d lines is %x, the checkpoint says %x", head.Size, root, head.Root)
	}
	return nil
}

// checkNote reads a checkpoint as somebody else's program would.
func checkNote(l audit.Backend, c audit.Checkpoint) error {
	v, err := note.NewVerifier(l.VerifierKey())
	if err != nil {
		return fmt.Errorf("verifier key: %w", err)
	}
	n, err := note.Open([]byte(c.Note), note.VerifierList(v))
	if err != nil {
		return fmt.Errorf("checkpoint at %d: %w", c.Size, err)
	}
	want := fmt.Sprintf("%s\n%d\n%s\n", l.Origin(), c.Size, tlog.Hash(c.Root))
	if n.Text != want {
		return fmt.Errorf("checkpoint says %q, want %q", n.Text, want)
	}
	return nil
}

// reference is the tree as tlog keeps it.
type reference struct {
	hashes []tlog.Hash
	size   int64
}

var errNoHash = errors.New("hash is not stored")

func (r *reference) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	out := make([]tlog.Hash, len(indexes))
	for i, x := range indexes {
		if x >= int64(len(r.hashes)) {
			return nil, errNoHash
		}
		out[i] = r.hashes[x]
	}
	return out, nil
}

func (r *reference) add(line []byte) error {
	hs, err := tlog.StoredHashes(r.size, line, r)
	if err != nil {
		return err
	}
	r.hashes = append(r.hashes, hs...)
	r.size++
	return nil
}

func (r *reference) root(size int64) ([32]byte, error) {
	if size == 0 {
		return [32]byte(tlog.Hash(emptyRoot)), nil
	}
	h, err := tlog.TreeHash(size, r)
	return [32]byte(h), err
}
