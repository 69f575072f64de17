package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"math/bits"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/kaizen-go/kaizen/audit"
)

// remoteHead is the answer of /api/audit/checkpoint.
type remoteHead struct {
	Origin string `json:"origin"`
	Size   int64  `json:"size"`
	Root   string `json:"root"`
	Note   string `json:"note"`
	VKey   string `json:"vkey"`
}

// verifyRemote checks the ledger behind an API: it reads every entry that the
// signed checkpoint covers, spells each as its stored line, builds the Merkle
// tree and compares the root with the signed one. An earlier checkpoint has to
// be the root of the tree at its size.
func verifyRemote(ctx context.Context, l apiLedger, cfg audit.VerifyConfig) (audit.Report, error) {
	var head remoteHead
	if err := l.c.get(ctx, "/api/audit/checkpoint", nil, &head); err != nil {
		return audit.Report{}, err
	}
	key := cfg.Key
	if key == "" {
		key = head.VKey
	}
	now, err := openCheckpoint(head.Note, key)
	if err != nil {
		return audit.Report{}, &audit.TamperError{Path: "checkpoint", Index: -1, Reason: err.Error()}
	}
	var earlier audit.Checkpoint
	if len(cfg.Checkpoint) > 0 {
		if earlier, err = openCheckpoint(string(cfg.Checkpoint), key); err != nil {
			return audit.Report{}, &audit.TamperError{Path: "earlier checkpoint", Index: -1, Reason: err.Error()}
		}
	}
	if earlier.Size > now.Size {
		return audit.Report{}, &audit.TamperError{Path: "checkpoint", Index: -1, Reason: "the ledger was set back: it is smaller than the earlier checkpoint",
			Want: strconv.FormatInt(earlier.Size, 10) + " entries or more", Got: strconv.FormatInt(now.Size, 10)}
	}
	if err := compareTree(ctx, l, key, now, earlier, cfg.Progress); err != nil {
		return audit.Report{}, err
	}
	return audit.Report{Origin: head.Origin, Key: key, Checkpoint: now, Entries: now.Size}, nil
}

// openCheckpoint checks the signature of a C2SP checkpoint and reads it: the
// note's text is origin, size and root (in base64), one a line.
func openCheckpoint(text, key string) (audit.Checkpoint, error) {
	verifier, err := note.NewVerifier(key)
	if err != nil {
		return audit.Checkpoint{}, fmt.Errorf("public key %q: %w", key, err)
	}
	n, err := note.Open([]byte(text), note.VerifierList(verifier))
	if err != nil {
		return audit.Checkpoint{}, fmt.Errorf("signature under %s: %w", verifier.Name(), err)
	}
	c, err := parseCheckpointText(n.Text)
	if err != nil {
		return audit.Checkpoint{}, err
	}
	if origin, _, _ := strings.Cut(n.Text, "\n"); origin != verifier.Name() {
		return audit.Checkpoint{}, fmt.Errorf("is of %q, and the key of %q", origin, verifier.Name())
	}
	c.Note = text
	return c, nil
}

// parseCheckpointText reads size and root of a checkpoint's text.
func parseCheckpointText(text string) (audit.Checkpoint, error) {
	lines := strings.Split(text, "\n")
	if len(lines) < 4 {
		return audit.Checkpoint{}, errors.New("text is not origin, size and root")
	}
	size, err := strconv.ParseInt(lines[1], 10, 64)
	if err != nil || size < 0 {
		return audit.Checkpoint{}, fmt.Errorf("size %q is no number from 0", lines[1])
	}
	root, err := base64.StdEncoding.DecodeString(lines[2])
	if err != nil || len(root) != tlog.HashSize {
		return audit.Checkpoint{}, fmt.Errorf("root %q is no hash", lines[2])
	}
	return audit.Checkpoint{Size: size, Root: [32]byte(root)}, nil
}

// compareTree reads the entries that now covers and compares the roots.
func compareTree(ctx context.Context, l apiLedger, key string, now, earlier audit.Checkpoint, show func(done, total int64)) error {
	var t rightEdge
	if err := t.compare(earlier); err != nil {
		return err
	}
	if now.Size > 0 {
		for e, err := range l.query(ctx, audit.Query{Stored: true}) {
			if err != nil {
				return err
			}
			if e.Index != t.size {
				return &audit.TamperError{Path: "/api/audit", Index: t.size, Reason: "entry is missing or out of order",
					Want: strconv.FormatInt(t.size, 10), Got: strconv.FormatInt(e.Index, 10)}
			}
			line, err := audit.EncodeLine(nil, e.Entry)
			if err != nil {
				return &audit.TamperError{Path: "/api/audit", Index: e.Index, Reason: "entry cannot be recorded: " + err.Error()}
			}
			t.add(tlog.RecordHash(line))
			if err := t.compare(earlier); err != nil {
				return err
			}
			if show != nil {
				show(t.size, now.Size)
			}
			if t.size == now.Size {
				break
			}
		}
	}
	if t.size < now.Size {
		return &audit.TamperError{Path: "/api/audit", Index: t.size, Reason: "entry is missing",
			Want: strconv.FormatInt(now.Size, 10) + " entries", Got: strconv.FormatInt(t.size, 10)}
	}
	if t.root() == tlog.Hash(now.Root) {
		return nil
	}
	return findForgery(ctx, l, key, now, t.root())
}

// findForgery looks for the first entry that its own proof does not bear out.
func findForgery(ctx context.Context, l apiLedger, key string, now audit.Checkpoint, got tlog.Hash) error {
	for e, err := range l.query(ctx, audit.Query{Stored: true}) {
		if err != nil {
			return err
		}
		if e.Index >= now.Size {
			break
		}
		text, err := l.proof(ctx, e.Index)
		if err != nil {
			return err
		}
		if err := compareProof(e, text, key); err != nil {
			return err
		}
	}
	return &audit.TamperError{Path: "checkpoint", Index: -1, Reason: "the entries do not give the signed root",
		Want: hex.EncodeToString(now.Root[:]), Got: hex.EncodeToString(got[:])}
}

// compareProof checks the proof of e and that it proves e and nothing else.
func compareProof(e entry, text []byte, key string) error {
	path := fmt.Sprintf("/api/audit/proof/%d", e.Index)
	p, err := audit.ParseProof(text)
	if err == nil {
		err = p.Check(key)
	}
	if err != nil {
		return &audit.TamperError{Path: path, Index: e.Index, Reason: err.Error()}
	}
	line, err := audit.EncodeLine(nil, e.Entry)
	if err != nil {
		return &audit.TamperError{Path: "/api/audit", Index: e.Index, Reason: "entry cannot be recorded: " + err.Error()}
	}
	if p.Index != e.Index || !bytes.Equal(p.Line, line) {
		return &audit.TamperError{Path: "/api/audit", Index: e.Index, Reason: "entry differs from the one that was signed",
			Want: string(p.Line), Got: string(line)}
	}
	return nil
}

// rightEdge is a Merkle tree that grows at its right: the roots of its full
// subtrees, from the largest to the smallest, one for each bit of size. The
// zero value is the empty tree.
type rightEdge struct {
	size  int64
	roots []tlog.Hash
}

// add adds a leaf. The subtrees that it completes are as many as size has ones
// at its low end.
func (t *rightEdge) add(leaf tlog.Hash) {
	for range bits.TrailingZeros64(^uint64(t.size)) {
		last := len(t.roots) - 1
		leaf = tlog.NodeHash(t.roots[last], leaf)
		t.roots = t.roots[:last]
	}
	t.roots = append(t.roots, leaf)
	t.size++
}

// root is the RFC 6962 root: the subtrees joined from the right; of the empty
// tree, the hash of nothing.
func (t *rightEdge) root() tlog.Hash {
	if len(t.roots) == 0 {
		return tlog.Hash(sha256.Sum256(nil))
	}
	h := t.roots[len(t.roots)-1]
	for i := len(t.roots) - 2; i >= 0; i-- {
		h = tlog.NodeHash(t.roots[i], h)
	}
	return h
}

// compare reports tampering when the tree has c's size and another root. The
// zero checkpoint, of no note, compares equal.
func (t *rightEdge) compare(c audit.Checkpoint) error {
	if c.Note == "" || t.size != c.Size || t.root() == tlog.Hash(c.Root) {
		return nil
	}
	root := t.root()
	return &audit.TamperError{Path: "earlier checkpoint", Index: -1, Reason: fmt.Sprintf("the first %d entries are not those that it covers", c.Size),
		Want: hex.EncodeToString(c.Root[:]), Got: hex.EncodeToString(root[:])}
}
