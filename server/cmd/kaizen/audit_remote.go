package main

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math/bits"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/kaizen-go/kaizen/audit"
	logtiles "github.com/kaizen-go/kaizen/server/internal/tlog"
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
// be the root of the tree at its size. Keys are those that somebody trusts; if
// none, the ledger's own.
func verifyRemote(ctx context.Context, l apiLedger, cfg audit.VerifyConfig, keys []string) (audit.Report, error) {
	var head remoteHead
	if err := l.c.get(ctx, "/api/audit/checkpoint", nil, &head); err != nil {
		return audit.Report{}, err
	}
	log, err := openLog(ctx, l)
	if err != nil {
		return audit.Report{}, err
	}
	log.trust(keys)
	now, key, err := log.signed(head.Note, openUnder)
	if err != nil {
		return audit.Report{}, &audit.TamperError{Path: "checkpoint", Index: -1, Reason: err.Error()}
	}
	var earlier audit.Checkpoint
	if len(cfg.Checkpoint) > 0 {
		if earlier, _, err = log.signed(string(cfg.Checkpoint), openUnder); err != nil {
			return audit.Report{}, &audit.TamperError{Path: "earlier checkpoint", Index: -1, Reason: err.Error()}
		}
	}
	if earlier.Size > now.Size {
		return audit.Report{}, &audit.TamperError{Path: "checkpoint", Index: -1, Reason: "the ledger was set back: it is smaller than the earlier checkpoint",
			Want: strconv.FormatInt(earlier.Size, 10) + " entries or more", Got: strconv.FormatInt(now.Size, 10)}
	}
	w := remoteWalk{log: log, key: key, now: now, earlier: earlier, show: cfg.Progress}
	if err := w.run(ctx, l); err != nil {
		return audit.Report{}, err
	}
	return audit.Report{Origin: head.Origin, Key: key, Checkpoint: now, Entries: now.Size, Pruned: w.pruned}, nil
}

// openUnder checks the signature of a C2SP checkpoint and reads it: the note's
// text is origin, size and root (in base64), one a line.
func openUnder(text, key string) (audit.Checkpoint, error) {
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

// remoteWalk reads the entries that a checkpoint covers and compares the roots.
type remoteWalk struct {
	log          tileLog
	key          string // that now is signed with
	now, earlier audit.Checkpoint
	show         func(done, total int64) // may be nil

	tree   rightEdge
	gaps   []entryRun // not among the entries that were read
	told   []entryRun // removed, as entries that were read say
	pruned int64      // entries in gaps
}

// entryRun is the entries from index from to before to.
type entryRun struct{ from, to int64 }

func (w *remoteWalk) run(ctx context.Context, l apiLedger) error {
	if err := w.tree.compare(w.earlier); err != nil {
		return err
	}
	if w.now.Size > 0 {
		for e, err := range l.query(ctx, audit.Query{Stored: true}) {
			if err != nil {
				return err
			}
			if err := w.add(ctx, &e); err != nil {
				return err
			}
			if w.tree.size >= w.now.Size {
				break
			}
		}
	}
	if w.tree.size < w.now.Size {
		return &audit.TamperError{Path: "/api/audit", Index: w.tree.size, Reason: "entry is missing",
			Want: strconv.FormatInt(w.now.Size, 10) + " entries", Got: strconv.FormatInt(w.tree.size, 10)}
	}
	if err := w.excused(); err != nil {
		return err
	}
	if w.tree.root() == tlog.Hash(w.now.Root) {
		return nil
	}
	return findForgery(ctx, l, w.key, w.now, w.tree.root())
}

// add takes the next entry, and before it the hashes of those that are missing.
func (w *remoteWalk) add(ctx context.Context, e *entry) error {
	if e.Index > w.tree.size && e.Index < w.now.Size {
		if err := w.skip(ctx, e.Index); err != nil {
			return err
		}
	}
	if e.Index != w.tree.size {
		// A gap before that nothing has explained so far is where it began.
		return cmp.Or(w.excused(), missingEntry(w.tree.size, e.Index))
	}
	line, err := audit.EncodeLine(nil, e.Entry)
	if err != nil {
		return &audit.TamperError{Path: "/api/audit", Index: e.Index, Reason: "entry cannot be recorded: " + err.Error()}
	}
	w.told = append(w.told, removedBy(&e.Entry)...)
	return w.leaf(tlog.RecordHash(line))
}

func (w *remoteWalk) leaf(h tlog.Hash) error {
	w.tree.add(h)
	if w.show != nil {
		w.show(w.tree.size, w.now.Size)
	}
	return w.tree.compare(w.earlier)
}

func missingEntry(want, got int64) error {
	return &audit.TamperError{Path: "/api/audit", Index: want, Reason: "entry is missing or out of order",
		Want: strconv.FormatInt(want, 10), Got: strconv.FormatInt(got, 10)}
}

// skip takes the hashes of the entries before to from the log's tiles. Whether
// they may be missing is seen when all entries were read.
func (w *remoteWalk) skip(ctx context.Context, to int64) error {
	w.gaps = append(w.gaps, entryRun{w.tree.size, to})
	w.pruned += to - w.tree.size
	for w.tree.size < to {
		index, first := w.tree.size/audit.TileWidth, w.tree.size%audit.TileWidth
		width := min(audit.TileWidth, w.now.Size-index*audit.TileWidth)
		tile, err := w.log.file(ctx, logtiles.Path(0, index, int(width)))
		if err != nil {
			return err
		}
		if int64(len(tile)) != width*tlog.HashSize {
			return missingEntry(w.tree.size, to)
		}
		for i := first; i < width && w.tree.size < to; i++ {
			if err := w.leaf(tlog.Hash(tile[i*tlog.HashSize:])); err != nil {
				return err
			}
		}
	}
	return nil
}

// excused reports an entry that is missing and that no entry calls removed.
func (w *remoteWalk) excused() error {
	slices.SortFunc(w.told, func(a, b entryRun) int { return cmp.Compare(a.from, b.from) })
	for _, gap := range w.gaps {
		at := gap.from
		for _, t := range w.told {
			if t.from <= at {
				at = max(at, t.to)
			}
		}
		if at < gap.to {
			return missingEntry(at, gap.to)
		}
	}
	return nil
}

// removedBy is what an entry says that retention removed: a ledger in files
// names segments, one in PostgreSQL the entries of a partition.
func removedBy(e *audit.Entry) (runs []entryRun) {
	if e.AgentID != "kaizen" || e.Action != "ledger.pruned" {
		return nil
	}
	list := []any{map[string]any(e.Details)}
	if segments, ok := e.Details["segments"].([]any); ok {
		list = segments
	}
	for _, item := range list {
		var run struct{ Base, Count *int64 }
		text, err := json.Marshal(item)
		if err == nil && json.Unmarshal(text, &run) == nil && run.Base != nil && run.Count != nil && *run.Base >= 0 && *run.Count > 0 {
			runs = append(runs, entryRun{*run.Base, *run.Base + *run.Count})
		}
	}
	return runs
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
