package kaizentest

import (
	"context"
	"errors"
	"slices"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/kaizen-go/kaizen/audit"
)

func (s *ledgerSuite) testReceipts() {
	var tree reference
	for range 12 {
		r := s.append(s.entry())
		for _, line := range s.lines(r.Index) {
			if err := tree.add(line); err != nil {
				s.Fatal(err)
			}
		}
		if err := checkNote(s.l, r.Checkpoint); err != nil {
			s.Error(err)
		}
		if root, err := tree.root(r.Checkpoint.Size); err != nil || root != r.Checkpoint.Root {
			s.Errorf("receipt of entry %d has root %x, want %x (%v)", r.Index, r.Checkpoint.Root, root, err)
		}
		if c := s.l.Checkpoint(); c.Size < r.Checkpoint.Size {
			s.Errorf("Checkpoint() is at %d after a receipt at %d", c.Size, r.Checkpoint.Size)
		}
	}
}

func (s *ledgerSuite) testProofs() {
	if _, err := s.l.Proof(0); !errors.Is(err, audit.ErrNotFound) {
		s.Errorf("Proof(0) of an empty ledger = %v, want ErrNotFound", err)
	}
	// Sizes around the tiles of 256 hashes.
	for _, n := range []int{1, 2, 253, 1, 258, 200} {
		s.fill(n)
		size := s.l.Size()
		for _, i := range []int64{0, 1, size / 2, 254, 255, 256, 511, 512, size - 1} {
			if i < size {
				s.proof(i)
			}
		}
		for _, i := range []int64{-1, size, size + 1000} {
			if _, err := s.l.Proof(i); !errors.Is(err, audit.ErrNotFound) {
				s.Errorf("Proof(%d) of %d entries = %v, want ErrNotFound", i, size, err)
			}
		}
	}
}

// proof checks the proof of one entry with our own code and with tlog's.
func (s *ledgerSuite) proof(i int64) {
	s.Helper()
	p, err := s.l.Proof(i)
	if err != nil {
		s.Fatalf("Proof(%d) = %v", i, err)
	}
	if err := p.Check(s.l.VerifierKey()); err != nil {
		s.Errorf("proof of entry %d: %v", i, err)
	}
	c, err := p.Checkpoint(s.l.VerifierKey())
	if err != nil {
		s.Fatal(err)
	}
	hashes := make(tlog.RecordProof, len(p.Hashes))
	for k, h := range p.Hashes {
		hashes[k] = tlog.Hash(h)
	}
	if err := tlog.CheckRecord(hashes, c.Size, c.Root, i, tlog.RecordHash(p.Line)); err != nil {
		s.Errorf("tlog: proof of entry %d: %v", i, err)
	}
	again, err := audit.ParseProof(p.Marshal())
	if err != nil || again.Index != i || string(again.Line) != string(p.Line) {
		s.Errorf("proof of entry %d does not survive as text: %v", i, err)
	}
}

// testTree follows the tree by tiles, bundles and consistency proofs as another
// program does.
func (s *ledgerSuite) testTree() {
	var heads []audit.Checkpoint
	for _, n := range []int{1, 254, 1, 1, 300, 0} {
		if n > 0 {
			s.fill(n)
		}
		heads = append(heads, s.l.Checkpoint())
	}
	head := heads[len(heads)-1]
	for _, old := range heads {
		hashes, err := s.l.Consistency(old.Size, head.Size)
		if err != nil {
			s.Fatalf("Consistency(%d, %d) = %v", old.Size, head.Size, err)
		}
		proof := make(tlog.TreeProof, len(hashes))
		for i, h := range hashes {
			proof[i] = h
		}
		if old.Size == head.Size {
			continue
		}
		if err := tlog.CheckTree(proof, head.Size, head.Root, old.Size, old.Root); err != nil {
			s.Errorf("tlog: consistency of %d and %d: %v", old.Size, head.Size, err)
		}
	}
	if _, err := s.l.Consistency(1, head.Size+1); err == nil {
		s.Error("Consistency with more entries than there are = nil")
	}
	// The tile reader checks every hash against the root.
	reader := tlog.TileHashReader(tlog.Tree{N: head.Size, Hash: head.Root}, suiteTiles{s.l})
	for i, line := range s.lines(0) {
		got, err := reader.ReadHashes([]int64{tlog.StoredHashIndex(0, int64(i))})
		if err != nil || got[0] != tlog.RecordHash(line) {
			s.Fatalf("tile hash of entry %d: %v", i, err)
		}
	}
	s.bundles(head.Size)
	for _, bad := range []struct {
		level, width int
		index        int64
	}{{0, 256, 3}, {0, 257, 0}, {0, 0, 0}, {1, 3, 0}, {-1, 1, 0}, {0, 1, -1}} {
		if _, err := s.l.Tile(bad.level, bad.index, bad.width); !errors.Is(err, audit.ErrNotFound) {
			s.Errorf("Tile(%+v) = %v, want ErrNotFound", bad, err)
		}
	}
}

// bundles reads all entries by bundles.
func (s *ledgerSuite) bundles(size int64) {
	s.Helper()
	want := s.lines(0)
	for n := int64(0); n*audit.TileWidth < size; n++ {
		width := int(min(audit.TileWidth, size-n*audit.TileWidth))
		b, err := s.l.Bundle(s.Context(), n, width)
		if err != nil {
			s.Fatalf("Bundle(%d) = %v", n, err)
		}
		lines, err := audit.SplitBundle(b)
		if err != nil || len(lines) != width {
			s.Fatalf("bundle %d has %d entries (%v), want %d", n, len(lines), err, width)
		}
		for i, line := range lines {
			if string(line) != string(want[n*audit.TileWidth+int64(i)]) {
				s.Fatalf("entry %d of bundle %d is %s", i, n, line)
			}
		}
	}
}

// suiteTiles gives tlog the ledger's tiles.
type suiteTiles struct{ l audit.Backend }

func (suiteTiles) Height() int                     { return 8 }
func (suiteTiles) SaveTiles([]tlog.Tile, [][]byte) {}

func (r suiteTiles) ReadTiles(tiles []tlog.Tile) ([][]byte, error) {
	out := make([][]byte, len(tiles))
	for i, t := range tiles {
		var err error
		if out[i], err = r.l.Tile(t.L, t.N, t.W); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func (s *ledgerSuite) testQuery() {
	es := s.entries(120)
	es[50].UserID = "user'; \"x\" \\ %_é"
	s.appendAll(es)
	at := func(i int) time.Time { return es[i].Time }
	for _, tt := range []struct {
		name string
		q    audit.Query
	}{
		{"everything", audit.Query{}},
		{"agent", audit.Query{AgentID: "agent-1"}},
		{"user", audit.Query{UserID: "user-b"}},
		{"user with quotes", audit.Query{UserID: es[50].UserID}},
		{"action", audit.Query{Action: "action.3"}},
		{"result", audit.Query{Result: audit.Denied}},
		{"session", audit.Query{SessionID: "session-4"}},
		{"run", audit.Query{RunID: "run-3"}},
		{"trace", audit.Query{TraceID: es[33].TraceID}},
		{"span", audit.Query{SpanID: es[33].SpanID}},
		{"agent and action", audit.Query{AgentID: "agent-1", Action: "action.1"}},
		{"all of one entry", audit.Query{
			AgentID: es[40].AgentID, Action: es[40].Action, Result: es[40].Result, UserID: es[40].UserID, SessionID: es[40].SessionID,
			RunID: es[40].RunID, TraceID: es[40].TraceID, SpanID: es[40].SpanID, Since: at(40), Until: at(40),
		}},
		{"nothing of a contradiction", audit.Query{AgentID: "agent-1", SpanID: es[0].SpanID}},
		{"nothing of an unknown agent", audit.Query{AgentID: "agent"}},
		{"nothing of an unknown result", audit.Query{Result: "fine"}},
		{"since is inclusive", audit.Query{Since: at(100)}},
		{"since in nanoseconds", audit.Query{Since: at(100).Add(1)}},
		{"until is inclusive", audit.Query{Until: at(20)}},
		{"until in nanoseconds", audit.Query{Until: at(20).Add(-1)}},
		{"since and until", audit.Query{Since: at(20), Until: at(30), Result: audit.Success}},
		{"in another zone", audit.Query{Since: at(20).In(time.FixedZone("z", 3600)), Until: at(30)}},
		{"nothing between", audit.Query{Since: at(20).Add(1), Until: at(21).Add(-1)}},
		{"times out of range", audit.Query{Since: time.Unix(-1<<40, 0), Until: time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)}},
	} {
		var want []int64
		for i, e := range es {
			if matches(tt.q, e) {
				want = append(want, int64(i))
			}
		}
		if got := s.query(tt.q); !slices.Equal(got, want) {
			s.Errorf("%s: entries %v, want %v", tt.name, got, want)
		}
		if n, err := s.l.Count(s.Context(), tt.q); err != nil || n != int64(len(want)) {
			s.Errorf("%s: Count = %d (%v), want %d", tt.name, n, err, len(want))
		}
	}
	s.querySubject()
}

// querySubject is apart: who keeps subjects' names out of the ledger may store
// another text than was given, but must find it by the name. Before the first
// subject, a ledger may record something of its own.
func (s *ledgerSuite) querySubject() {
	es := s.entries(3)
	es[1].Subject, es[2].Subject = "subject-1", "subject-1"
	rs := s.appendAll(es)
	if got := s.query(audit.Query{Subject: "subject-1"}); !slices.Equal(got, []int64{rs[1].Index, rs[2].Index}) {
		s.Errorf("subject: entries %v, want %d and %d", got, rs[1].Index, rs[2].Index)
	}
	if got := s.query(audit.Query{Subject: "nobody"}); len(got) != 0 {
		s.Errorf("unknown subject: entries %v, want none", got)
	}
}

func matches(q audit.Query, e audit.Entry) bool {
	same := func(want, got string) bool { return want == "" || want == got }
	return same(q.AgentID, e.AgentID) && same(q.UserID, e.UserID) && same(q.Action, e.Action) && same(string(q.Result), string(e.Result)) &&
		same(q.SessionID, e.SessionID) && same(q.RunID, e.RunID) && same(q.TraceID, e.TraceID) && same(q.SpanID, e.SpanID) &&
		(q.Since.IsZero() || !e.Time.Before(q.Since)) && (q.Until.IsZero() || !e.Time.After(q.Until))
}

func (s *ledgerSuite) query(q audit.Query) []int64 {
	s.Helper()
	var got []int64
	for e, err := range s.l.Query(s.Context(), q) {
		if err != nil {
			s.Fatalf("Query(%+v) = %v", q, err)
		}
		got = append(got, e.Index)
	}
	return got
}

func (s *ledgerSuite) testQueryOrder() {
	es := s.entries(90)
	for _, part := range [][]audit.Entry{es[:30], es[30:31], es[31:]} {
		s.appendAll(part)
	}
	of := func(agent int, from, to int) (is []int64) { // entries of an agent in [from, to)
		for i := from; i < to; i++ {
			if i%3 == agent {
				is = append(is, int64(i))
			}
		}
		return is
	}
	down := func(is []int64) []int64 { slices.Reverse(is); return is }
	for _, tt := range []struct {
		name string
		q    audit.Query
		want []int64
	}{
		{"limit", audit.Query{AgentID: "agent-1", Limit: 4}, of(1, 0, 12)},
		{"limit of all", audit.Query{AgentID: "agent-1", Limit: 1000}, of(1, 0, 90)},
		{"descending", audit.Query{AgentID: "agent-1", Descending: true}, down(of(1, 0, 90))},
		{"descending, limit", audit.Query{AgentID: "agent-1", Descending: true, Limit: 2}, []int64{88, 85}},
		{"after", audit.Query{AgentID: "agent-1", After: 32}, of(1, 32, 90)},
		{"after, limit", audit.Query{AgentID: "agent-1", After: 32, Limit: 2}, []int64{34, 37}},
		{"after, descending", audit.Query{AgentID: "agent-1", After: 32, Descending: true}, down(of(1, 0, 31))},
		{"after the end", audit.Query{AgentID: "agent-1", After: 90}, nil},
		{"descending after the first", audit.Query{AgentID: "agent-0", After: 1, Descending: true}, nil},
	} {
		if got := s.query(tt.q); !slices.Equal(got, tt.want) {
			s.Errorf("%s: entries %v, want %v", tt.name, got, tt.want)
		}
		all, err := s.l.Count(s.Context(), tt.q)
		if want := int64(len(of(1, 0, 90))); err != nil || all != want {
			s.Errorf("%s: Count = %d (%v), want %d whatever limit and cursor are", tt.name, all, err, want)
		}
	}
	s.pages(audit.Query{AgentID: "agent-2", Limit: 7}, of(2, 0, 90))
	s.pages(audit.Query{AgentID: "agent-2", Limit: 7, Descending: true}, down(of(2, 0, 90)))
	for e, err := range s.l.Query(s.Context(), audit.Query{}) {
		if err != nil || e.Index != 0 {
			s.Errorf("first entry %d (%v), want 0", e.Index, err)
		}
		break // a reader may have enough at any time
	}
}

// pages follows the cursor from page to page.
func (s *ledgerSuite) pages(q audit.Query, want []int64) {
	s.Helper()
	var got []int64
	for {
		page := s.query(q)
		if got = append(got, page...); len(page) < q.Limit {
			break
		}
		q.After = page[len(page)-1] + 1
	}
	if !slices.Equal(got, want) {
		s.Errorf("pages of %+v: entries %v, want %v", q, got, want)
	}
}

// testSnapshot appends from inside the loop over an answer: the answer is of
// the entries that were there when it began.
func (s *ledgerSuite) testSnapshot() {
	s.fill(20)
	var got []int64
	for e, err := range s.l.Query(s.Context(), audit.Query{}) {
		if err != nil {
			s.Fatal(err)
		}
		got = append(got, e.Index)
		s.append(s.entry())
	}
	if len(got) != 20 || s.l.Size() != 40 {
		s.Errorf("an answer of %d entries from a ledger of %d, want 20 and 40", len(got), s.l.Size())
	}
}

func (s *ledgerSuite) testContexts() {
	s.fill(3)
	ended, cancel := context.WithCancel(s.Context())
	cancel()
	if _, err := s.l.Get(ended, 0); !errors.Is(err, context.Canceled) {
		s.Errorf("Get with an ended context = %v, want context.Canceled", err)
	}
	var last error
	for _, err := range s.l.Query(ended, audit.Query{}) {
		last = err
	}
	if !errors.Is(last, context.Canceled) {
		s.Errorf("Query with an ended context ends with %v, want context.Canceled", last)
	}
	// Ctx bounds the waiting: the entry may be there or not, but only once.
	e := s.entry()
	_, err := s.l.Append(ended, e)
	if err != nil && !errors.Is(err, context.Canceled) {
		s.Errorf("Append with an ended context = %v, want nil or context.Canceled", err)
	}
	if r := s.append(e); r.Index != 3 {
		s.Errorf("receipt %+v, want index 3", r)
	}
	if n := s.l.Size(); n != 4 {
		s.Errorf("Size() = %d, want 4", n)
	}
}

func (s *ledgerSuite) testClosing() {
	s.fill(3)
	head := s.l.Checkpoint()
	s.shut()
	if err := s.l.Close(); err != nil {
		s.Errorf("second Close = %v", err)
	}
	ctx := s.Context()
	for name, call := range map[string]func() error{
		"Append":      func() error { _, err := s.l.Append(ctx, s.entry()); return err },
		"AppendBatch": func() error { _, err := s.l.AppendBatch(ctx, s.entries(2)); return err },
		"Flush":       func() error { return s.l.Flush(ctx) },
		"Get":         func() error { _, err := s.l.Get(ctx, 0); return err },
		"Proof":       func() error { _, err := s.l.Proof(0); return err },
		"Count":       func() error { _, err := s.l.Count(ctx, audit.Query{AgentID: "agent-0"}); return err },
		"Query": func() (last error) {
			for _, err := range s.l.Query(ctx, audit.Query{}) {
				last = err
			}
			return last
		},
	} {
		if err := call(); !errors.Is(err, audit.ErrClosed) {
			s.Errorf("%s after Close = %v, want ErrClosed", name, err)
		}
	}
	s.open()
	if again := s.l.Checkpoint(); again.Size != head.Size || again.Root != head.Root {
		s.Errorf("opened again it has %d entries, want %d", again.Size, head.Size)
	}
}
