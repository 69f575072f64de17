package s3

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"slices"
	"strings"
	"sync"

	"github.com/oklog/ulid/v2"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/kaizen-go/kaizen/audit"
	"github.com/kaizen-go/kaizen/server/backend/internal/group"
)

// state is what this process knows of the ledger: where it ends, the right edge
// of its tree, the batches since the last chunk, and where the others are.
type state struct {
	mu     sync.RWMutex // guards what follows
	next   int64        // number of the next batch
	head   audit.Checkpoint
	tree   group.Tree
	edge   edge
	refs   refs
	tail   tail
	system []system
	terms  map[string]string // one copy of each agent, action, user
}

// tail is the batches that are in no chunk yet.
type tail struct {
	ref
	sum     hash.Hash
	entries []audit.Entry
	places  []place
	leaves  []tlog.Hash
	ids     map[ulid.ULID]int64
}

// place is where a line stands: in which batch, and which bytes after its
// header.
type place struct {
	batch      int64
	start, end int32
}

// system is an entry that the ledger wrote about itself. There are few, and a
// process must know all of them from the beginning.
type system struct {
	Index int64  `json:"index"`
	Line  string `json:"line"`
}

// kept reports whether an entry is one of those. Checkpoints of shards are many.
func kept(e *audit.Entry) bool {
	return e.AgentID == "kaizen" && strings.HasPrefix(e.Action, "ledger.") && e.Action != audit.ShardAction
}

func (s *state) init() {
	s.terms = map[string]string{}
	s.begin()
}

// begin makes an empty tail.
func (s *state) begin() {
	s.tail = tail{ref: emptyRef(s.next, s.tree.Size), sum: sha256.New(), ids: map[ulid.ULID]int64{}}
}

func (s *state) checkpoint() audit.Checkpoint {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.head
}

// view is a moment of the state. What it refers to is never changed.
type view struct {
	head   audit.Checkpoint
	edge   edge
	refs   refs
	tail   tail
	system []system
}

func (s *state) view() view {
	s.mu.RLock()
	defer s.mu.RUnlock()
	v := view{head: s.head, edge: slices.Clone(s.edge), refs: s.refs, tail: s.tail, system: s.system}
	v.tail.sum, v.tail.ids = nil, nil // these are changed
	return v
}

// batch is one that is about to become part of the state.
type batch struct {
	n       int64
	body    []byte
	records []*group.Record
	tree    group.Tree
	head    audit.Checkpoint
}

// take adds a batch whose records are known to be right. It returns the objects
// that follow from it.
func (s *state) take(st batch, cfg *Config) (out []derived, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := &s.tail
	at := int32(0)
	one := emptyRef(st.n, t.end())
	one.Batches, one.Stored = 1, int64(len(st.body))
	for i, r := range st.records {
		index := one.Base + int64(i)
		var full []derived
		s.edge, full = s.edge.add(index, r.Leaf)
		out = append(out, full...)
		if kept(&r.Entry) {
			s.system = append(s.system, system{index, string(r.Line)})
		}
		t.entries = append(t.entries, compact(r.Entry, index, s.terms))
		t.places = append(t.places, place{batch: st.n, start: at, end: at + int32(len(r.Line))})
		t.leaves = append(t.leaves, r.Leaf)
		t.ids[r.ID] = index
		at += int32(len(r.Line)) + 1
		when := r.Entry.Time.UnixNano()
		one.join(&ref{Count: 1, Bytes: int64(len(r.Line)) + 1, Oldest: when, Newest: when, MinID: r.ID.Time(), MaxID: r.ID.Time()})
	}
	t.join(&one)
	t.sum.Write(st.body)
	s.next, s.tree, s.head = st.n+1, st.tree, st.head
	if s.next%cfg.chunkLen != 0 {
		return out, nil
	}
	t.Sum = hex.EncodeToString(t.sum.Sum(nil))
	rs, pages, err := s.refs.add(t.ref, cfg.fan)
	if err != nil {
		return nil, err
	}
	s.refs, s.terms = rs, map[string]string{}
	s.begin()
	return append(out, pages...), nil
}

// known looks up ids: in the tail, and in chunks whose ids were made at about the
// same time.
func (l *Ledger) known(ctx context.Context, ids []ulid.ULID) (map[ulid.ULID]group.Known, error) {
	v := l.state.view()
	out := map[ulid.ULID]group.Known{}
	for _, id := range ids {
		l.state.mu.RLock()
		i, ok := l.state.tail.ids[id]
		l.state.mu.RUnlock()
		if ok {
			out[id] = group.Known{Index: i, Leaf: v.tail.leaves[i-v.tail.Base]}
			continue
		}
		ms := id.Time()
		for p, err := range l.parts(ctx, v.refs, true, func(r *ref) bool { return r.MinID <= ms && ms <= r.MaxID }) {
			if err != nil {
				return nil, err
			}
			c, err := l.chunk(ctx, p)
			if err != nil {
				return nil, err
			}
			if i, ok := c.index(id); ok {
				out[id] = group.Known{Index: i, Leaf: c.leaf(i)}
				break
			}
		}
	}
	return out, nil
}

// check reads a batch that somebody stored as the n-th, and makes sure that it
// continues what is known: its place, its lines, and its signed checkpoint. If it
// changes the key, that is returned too.
func (l *Ledger) check(n int64, h batchHeader, lines []byte) (st batch, change *audit.KeyChange, err error) {
	name := numbered(batchPrefix, n)
	damaged := func(index int64, reason string) error {
		return &audit.TamperError{Path: name, Index: index, Reason: reason}
	}
	l.state.mu.RLock()
	st = batch{n: n, tree: l.state.tree.Clone()}
	l.state.mu.RUnlock()
	if h.Batch != n || h.Base != st.tree.Size {
		return st, nil, damaged(st.tree.Size, fmt.Sprintf("says that it is batch %d from entry %d on", h.Batch, h.Base))
	}
	vkey := l.keys.VerifierKey()
	if st.head, err = group.OpenCheckpoint(h.Note, vkey); err != nil {
		return st, nil, damaged(-1, "the checkpoint is not as it was signed: "+err.Error())
	}
	st.records = make([]*group.Record, 0, h.Count)
	for len(lines) > 0 {
		line, rest, _ := bytes.Cut(lines, []byte("\n"))
		lines = rest
		e, err := audit.DecodeLine(line)
		if err != nil {
			return st, nil, damaged(st.tree.Size, err.Error())
		}
		r := &group.Record{Entry: e, ID: ulid.MustParseStrict(e.ID), Line: line, Leaf: tlog.RecordHash(line), Index: st.tree.Size}
		st.tree.Append(r.Leaf, nil)
		st.records = append(st.records, r)
	}
	if root := st.tree.Root(); st.head.Size != st.tree.Size || st.head.Root != [32]byte(root) {
		return st, nil, &audit.TamperError{
			Path: name, Index: -1, Reason: "entries are not those that were signed",
			Want: fmt.Sprintf("%d entries, root %x", st.head.Size, st.head.Root), Got: fmt.Sprintf("%d, %x", st.tree.Size, root),
		}
	}
	if h.Key == "" {
		return st, nil, nil
	}
	c := audit.KeyChange{From: st.tree.Size, Previous: vkey, Key: h.Key, Entry: st.records[len(st.records)-1].Line, Note: h.Note}
	if c, err = audit.ParseKeyChange(c.Encode()); err == nil {
		st.head, err = group.Only(st.head, h.Key)
	}
	if err != nil {
		return st, nil, damaged(-1, "a change of the key is not as it should be: "+err.Error())
	}
	return st, &c, nil
}

// absorb takes a batch that somebody stored. The caller holds step.
func (l *Ledger) absorb(n int64, body []byte) ([]derived, error) {
	h, lines, rest, err := cutBatch(body)
	if err == nil && len(rest) > 0 {
		err = fmt.Errorf("something after the last line")
	}
	if err != nil {
		return nil, &audit.TamperError{Path: numbered(batchPrefix, n), Index: -1, Reason: err.Error()}
	}
	st, change, err := l.check(n, h, lines)
	if err != nil {
		return nil, err
	}
	st.body = body
	if change != nil {
		if err := l.keys.Learn(*change); err != nil {
			return nil, err
		}
	}
	return l.state.take(st, &l.cfg)
}
