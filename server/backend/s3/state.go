package s3

import (
	"bytes"
	"fmt"
	"sync"

	"github.com/oklog/ulid/v2"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/kaizen-go/kaizen/audit"
	"github.com/kaizen-go/kaizen/server/backend/internal/group"
)

// state is what this process knows of the ledger: all but the lines.
type state struct {
	mu      sync.RWMutex // guards what follows
	next    int64        // number of the next batch
	head    audit.Checkpoint
	tree    group.Tree
	hashes  []tlog.Hash // as tlog stores them
	entries []audit.Entry
	places  []place
	ids     map[ulid.ULID]int64
	terms   map[string]string // one copy of each agent, action, user
}

// place is where a line stands: in which batch, and which bytes after its
// header.
type place struct {
	batch      int64
	start, end int32
}

func (s *state) init() {
	s.ids, s.terms = map[ulid.ULID]int64{}, map[string]string{}
}

func (s *state) checkpoint() audit.Checkpoint {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.head
}

// ReadHashes implements tlog.HashReader on the hashes in memory. The caller
// holds mu.
func (s *state) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	out := make([]tlog.Hash, len(indexes))
	for i, x := range indexes {
		if x >= int64(len(s.hashes)) {
			return nil, fmt.Errorf("hash %d of %d", x, len(s.hashes))
		}
		out[i] = s.hashes[x]
	}
	return out, nil
}

// take adds a batch whose records are known to be right under c.
func (s *state) take(n int64, records []*group.Record, tree group.Tree, c audit.Checkpoint) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	at := int32(0)
	for _, r := range records {
		index := int64(len(s.entries))
		hs, err := tlog.StoredHashesForRecordHash(index, r.Leaf, s)
		if err != nil {
			return err
		}
		s.hashes = append(s.hashes, hs...)
		s.entries = append(s.entries, s.compact(r.Entry, index))
		s.places = append(s.places, place{batch: n, start: at, end: at + int32(len(r.Line))})
		s.ids[r.ID] = index
		at += int32(len(r.Line)) + 1
	}
	s.next, s.tree, s.head = n+1, tree, c
	return nil
}

// compact keeps one copy of texts that come again and again.
func (s *state) compact(e audit.Entry, index int64) audit.Entry {
	for _, field := range []*string{&e.AgentID, &e.Action, &e.UserID, &e.Subject, &e.SessionID, &e.RunID} {
		known, ok := s.terms[*field]
		if !ok {
			known = string(append([]byte(nil), *field...))
			s.terms[known] = known
		}
		*field = known
	}
	e.Index, e.Details, e.Metadata = index, nil, nil
	return e
}

// known looks up ids; own says from which index on an entry is that of an
// earlier attempt.
func (s *state) known(ids []ulid.ULID) map[ulid.ULID]group.Known {
	s.mu.RLock()
	defer s.mu.RUnlock()
	out := map[ulid.ULID]group.Known{}
	for _, id := range ids {
		if i, ok := s.ids[id]; ok {
			out[id] = group.Known{Index: i, Leaf: s.hashes[tlog.StoredHashIndex(0, i)]}
		}
	}
	return out
}

// check reads a batch that somebody stored as the n-th, and makes sure that it
// continues what is known: its place, its lines, and its signed checkpoint.
func (l *Ledger) check(n int64, h batchHeader, lines []byte) ([]*group.Record, group.Tree, audit.Checkpoint, error) {
	damaged := func(index int64, reason string) error {
		return &audit.TamperError{Path: numbered(batchPrefix, n), Index: index, Reason: reason}
	}
	l.state.mu.RLock()
	tree := l.state.tree.Clone()
	l.state.mu.RUnlock()
	if h.Batch != n || h.Base != tree.Size {
		return nil, tree, audit.Checkpoint{}, damaged(tree.Size, fmt.Sprintf("says that it is batch %d from entry %d on", h.Batch, h.Base))
	}
	c, err := group.OpenCheckpoint(h.Note, l.VerifierKey())
	if err != nil {
		return nil, tree, c, damaged(-1, "the checkpoint is not as it was signed: "+err.Error())
	}
	records := make([]*group.Record, 0, h.Count)
	for len(lines) > 0 {
		line, rest, _ := bytes.Cut(lines, []byte("\n"))
		lines = rest
		e, err := audit.DecodeLine(line)
		if err != nil {
			return nil, tree, c, damaged(tree.Size, err.Error())
		}
		r := &group.Record{Entry: e, ID: ulid.MustParseStrict(e.ID), Line: line, Leaf: tlog.RecordHash(line), Index: tree.Size}
		tree.Append(r.Leaf, nil)
		records = append(records, r)
	}
	if root := tree.Root(); c.Size != tree.Size || c.Root != [32]byte(root) {
		return nil, tree, c, &audit.TamperError{
			Path: numbered(batchPrefix, n), Index: -1, Reason: "entries are not those that were signed",
			Want: fmt.Sprintf("%d entries, root %x", c.Size, c.Root), Got: fmt.Sprintf("%d, %x", tree.Size, root),
		}
	}
	return records, tree, c, nil
}

// absorb takes a batch that another process stored. The caller holds step.
func (l *Ledger) absorb(n int64, body []byte) (rest []byte, err error) {
	h, lines, rest, err := cutBatch(body)
	if err != nil {
		return nil, &audit.TamperError{Path: numbered(batchPrefix, n), Index: -1, Reason: err.Error()}
	}
	records, tree, c, err := l.check(n, h, lines)
	if err != nil {
		return nil, err
	}
	return rest, l.state.take(n, records, tree, c)
}
