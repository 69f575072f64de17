package s3

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/kaizen-go/kaizen/audit"
	"github.com/kaizen-go/kaizen/server/backend/internal/group"
)

// snapshot is what must be known to go on after a chunk without reading what was
// before. The object is this as a line of JSON, and the seal of the ledger's key
// over it.
type snapshot struct {
	Batches int64 `json:"batches"`
	Size    int64 `json:"size"`
	// Note is the signed checkpoint of Size entries.
	Note string `json:"note"`
	// Keys are the changes of the key so far, as lines of keys.jsonl.
	Keys []string `json:"keys"`
	// Edge has the tiles that are not full, by level: their root is that of Note.
	Edge [][]byte `json:"edge"`
	// Refs are the batches before, by level, see refs.
	Refs [][]ref `json:"refs"`
	// System are the entries that the ledger wrote about itself.
	System []system `json:"system"`
}

// snapshotJSON is the line of the state after the chunk that was filled last.
func (l *Ledger) snapshotJSON() ([]byte, error) {
	v := l.state.view()
	s := snapshot{Batches: v.tail.Batch, Size: v.tail.Base, Note: v.head.Note, Keys: []string{}, System: v.system, Refs: v.refs}
	for _, c := range l.keys.Changes() {
		s.Keys = append(s.Keys, string(c.Encode()))
	}
	for _, hashes := range v.edge {
		s.Edge = append(s.Edge, tileBytes(hashes))
	}
	b, err := json.Marshal(s)
	return append(b, '\n'), err
}

// snapshot makes the object of the state after k chunks, which is the present
// one.
func (l *Ledger) snapshot(k int64) (derived, error) {
	body, err := l.snapshotJSON()
	if err != nil {
		return derived{}, err
	}
	signer, err := l.keys.Signer()
	if err != nil {
		return derived{}, err
	}
	seal, err := signer.Seal(sealed(k), sha256.Sum256(body))
	return derived{numbered(statePrefix, k), append(body, seal...)}, err
}

// sealed is what a seal is about.
func sealed(k int64) string { return "state " + strconv.FormatInt(k, 10) }

// openSnapshot checks the object of the state after k chunks of a ledger that
// began with the key first: the seal, the keys, and that tiles and runs are those
// of the signed checkpoint.
func openSnapshot(body []byte, k, chunkLen int64, first string) (s snapshot, keys *group.Keys, err error) {
	line, seal, ok := bytes.Cut(body, []byte("\n"))
	if !ok {
		return s, nil, errors.New("no seal")
	}
	if err := json.Unmarshal(line, &s); err != nil {
		return s, nil, err
	}
	keys = group.ReadOnly(first)
	for _, text := range s.Keys {
		c, err := audit.ParseKeyChange([]byte(text))
		if err == nil {
			err = keys.Learn(c)
		}
		if err != nil {
			return s, nil, err
		}
	}
	if err := group.CheckSeal(string(seal), sealed(k), sha256.Sum256(append(line, '\n')), keys.VerifierKey()); err != nil {
		return s, nil, fmt.Errorf("not as it was sealed: %w", err)
	}
	c, err := group.OpenCheckpoint(s.Note, keys.VerifierKey())
	if err != nil {
		return s, nil, err
	}
	tree, err := s.edge().tree(s.Size)
	if err != nil {
		return s, nil, err
	}
	all, err := refs(s.Refs).total()
	if err != nil {
		return s, nil, err
	}
	if c.Size != s.Size || c.Root != [32]byte(tree.Root()) || all.Count != s.Size || all.Batches != s.Batches || s.Batches != k*chunkLen {
		return s, nil, errors.New("tiles and runs are not those of the signed checkpoint")
	}
	return s, keys, nil
}

func (s *snapshot) edge() edge {
	e := make(edge, len(s.Edge))
	for level, b := range s.Edge {
		for ; len(b) >= tlog.HashSize; b = b[tlog.HashSize:] {
			e[level] = append(e[level], tlog.Hash(b))
		}
	}
	return e
}

// restore begins at a snapshot.
func (l *Ledger) restore(s snapshot) error {
	tree, err := s.edge().tree(s.Size)
	if err != nil {
		return err
	}
	c, err := group.OpenCheckpoint(s.Note, l.keys.VerifierKey())
	if err != nil {
		return err
	}
	st := &l.state
	st.mu.Lock()
	defer st.mu.Unlock()
	st.next, st.head, st.tree, st.edge, st.refs, st.system = s.Batches, c, tree, s.edge(), s.Refs, s.System
	st.begin()
	return nil
}
