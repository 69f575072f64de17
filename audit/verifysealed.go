package audit

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"math"
	"slices"
	"strconv"

	"github.com/klauspost/compress/zstd"

	"github.com/kaizen-go/kaizen/internal/durable"
	"github.com/kaizen-go/kaizen/internal/merkle"
)

// sealed checks the sealed segments: every line against its hash, every file
// against the digest in the manifest, and this against what the ledger itself
// says, which the signature covers.
func (v *verifier) sealed(ctx context.Context) error {
	v.claims.expect(v.manifest)
	for i := range v.manifest.records {
		seg := v.store.sealed[i]
		if err := v.sealedSegment(ctx, seg); err != nil {
			return err
		}
		if got := v.tree.Root(); got != seg.rec.root {
			return &TamperError{
				Path: manifestName, Index: -1, Reason: "root at the end of segment " + segStem(seg.base) + " is not that of its hashes",
				Want: fmt.Sprintf("%x", seg.rec.root), Got: fmt.Sprintf("%x", got),
			}
		}
	}
	if !slices.Equal(v.manifest.edge, v.tree.Edge()) {
		return &TamperError{Path: manifestName, Index: -1, Reason: "edge of the tree is not that of the hashes"}
	}
	return nil
}

func (v *verifier) sealedSegment(ctx context.Context, seg *segment) error {
	r := seg.rec
	leaves, err := v.digested(seg.hashPath(), r.l0, r.count*32)
	if err != nil {
		return v.notSigned(err, seg)
	}
	if _, err := v.digested(seg.nodesPath(), r.nodes, nodesSize(seg)); err != nil {
		return asDerived(err)
	}
	if r.pruned() {
		v.report.Pruned += r.count
		batch := make([]merkle.Hash, 0, groupLen)
		for i := range r.count {
			batch = append(batch, merkle.Hash(leaves[32*i:]))
			if len(batch) < groupLen && i+1 < r.count {
				continue
			}
			if err := v.extendAll(batch); err != nil {
				return err
			}
			batch = batch[:0]
		}
		return v.progress(ctx, v.tree.Size(), v.checkpoint.Size)
	}
	idx, err := v.digested(seg.idxPath(), r.idx, -1)
	if err != nil {
		return asDerived(err)
	}
	if err := v.keysMissing(seg, idx); err != nil {
		return err
	}
	if err := checkSystem(seg, idx); err != nil {
		return err
	}
	v.report.Sealed++
	v.report.Segments++
	v.report.Bytes += r.bytes
	dec, err := v.decoder()
	if err != nil {
		return err
	}
	w := sealedWalk{v: v, seg: seg, leaves: leaves, dec: dec}
	if v.cfg.Indexes || r.entry < 0 {
		w.idx = newIdxBuilder(seg.base)
	}
	if err := w.run(ctx); err != nil {
		return err
	}
	if w.idx != nil && !bytes.Equal(w.idx.encode(), idx) {
		return derived(seg.idxPath(), errors.New("not the index of the lines"))
	}
	return nil
}

// keysMissing looks, in a ledger without changes of the key, for an entry that
// names the present key as a new one: the changes were removed. One of another
// key is of a change that did not happen.
func (v *verifier) keysMissing(seg *segment, idx []byte) error {
	if len(v.rotations) > 0 || !bytes.Contains(idx, []byte(actionRotation)) {
		return nil
	}
	for i := range int(seg.rec.count) {
		line, err := v.store.sealedText(seg, i)
		if err != nil {
			return err
		}
		if !bytes.Contains(line, []byte(actionRotation)) {
			continue
		}
		e, err := DecodeLine(line)
		if err == nil && e.AgentID == systemAgent && e.Action == actionRotation && e.Details["vkey"] == v.store.vkey() {
			return &TamperError{Path: rotationsName, Index: -1, Reason: fmt.Sprintf("file is missing: entry %d names the present key as a new one", seg.base+int64(i))}
		}
	}
	return nil
}

// checkSystem compares what the manifest says about the ledger's own entries in
// a segment with its index.
func checkSystem(seg *segment, idx []byte) error {
	if seg.rec.system == "" {
		return nil
	}
	have, err := systemActions(idx, seg.base, int(seg.rec.count))
	if err != nil {
		return derived(seg.idxPath(), err)
	}
	if have != seg.rec.system {
		return &TamperError{
			Path: manifestName, Index: -1, Reason: "segment " + segStem(seg.base) + " has other entries of the ledger's own than the manifest says",
			Want: seg.rec.system, Got: have,
		}
	}
	return nil
}

// nodesSize is how large the file of a segment's nodes must be.
func nodesSize(seg *segment) int64 {
	var n int64
	for step := 1; step*tileHeight < 63; step++ {
		n += nodesIn(seg.base, seg.end(), step)
	}
	return n * 32
}

// digested reads a file and compares its size, unless that is negative, and
// its digest.
func (v *verifier) digested(path string, want merkle.Hash, size int64) ([]byte, error) {
	var b []byte
	err := v.store.files.use(path, func(f durable.File, have int64) error {
		if size >= 0 && have != size {
			return &TamperError{Path: path, Index: -1, Reason: "file has the wrong size", Want: strconv.FormatInt(size, 10), Got: strconv.FormatInt(have, 10)}
		}
		b = make([]byte, have)
		n, err := f.ReadAt(b, 0)
		if n < len(b) && err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		b = b[:n]
		return nil
	})
	if err != nil {
		return nil, missingFile(err, path, -1)
	}
	if got := sha256.Sum256(b); got != want {
		return b, notSealed(path, want, got)
	}
	return b, nil
}

const notSealedReason = "file is not the one that was sealed"

func notSealed(path string, want, got merkle.Hash) *TamperError {
	return &TamperError{Path: path, Index: -1, Reason: notSealedReason, Want: fmt.Sprintf("%x", want), Got: fmt.Sprintf("%x", got)}
}

// asDerived says of damage that the file can be made again.
func asDerived(err error) error {
	var t *TamperError
	if !errors.As(err, &t) {
		return err
	}
	d := *t
	d.Reason = derivedReason + t.Reason
	return &d
}

// notSigned finds the first hash of a damaged .l0 file that is not that of its
// line.
func (v *verifier) notSigned(err error, seg *segment) error {
	var t *TamperError
	if !errors.As(err, &t) || t.Reason != notSealedReason || seg.rec.pruned() {
		return err
	}
	tree := v.store.viewLocked()
	for i := seg.base; i < seg.end(); i++ {
		line, gerr := v.store.sealedText(seg, int(i-seg.base))
		leaf, lerr := tree.Leaf(i)
		if gerr != nil || lerr != nil {
			break
		}
		if got := merkle.HashLeaf(line); got != leaf {
			return &TamperError{Path: t.Path, Index: i, Reason: "stored hash is wrong, the entry is right", Want: fmt.Sprintf("%x", got), Got: fmt.Sprintf("%x", leaf)}
		}
	}
	return err
}

// sealedWalk goes through the lines of one sealed segment.
type sealedWalk struct {
	v      *verifier
	seg    *segment
	leaves []byte // the file of their hashes
	idx    *idxBuilder
	sum    hash.Hash
	dec    *zstd.Decoder

	// What follows is used again for each frame.
	packed []byte
	lines  lineGroup
	buf    []byte // one byte, and then what lines are decompressed to
	msgs   [][]byte
	hashes []merkle.Hash
}

func (w *sealedWalk) run(ctx context.Context) error {
	path := w.seg.zstPath()
	err := w.v.store.files.use(path, func(f durable.File, size int64) error {
		fr, err := readFrames(f, size, int(w.seg.rec.count), w.seg.rec.bytes)
		if err != nil {
			return w.damaged(-1, badFrame{err})
		}
		w.sum = sha256.New()
		for k := range fr.sizes {
			if err := w.frame(f, fr, k); err != nil {
				return err
			}
			if k%(progressInterval/frameLines) == 0 {
				if err := w.v.progress(ctx, w.v.tree.Size(), w.v.checkpoint.Size); err != nil {
					return err
				}
			}
		}
		tail := make([]byte, size-fr.offsets[len(fr.offsets)-1])
		if n, err := f.ReadAt(tail, fr.offsets[len(fr.offsets)-1]); n < len(tail) && err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		w.sum.Write(tail)
		if got := merkle.Hash(w.sum.Sum(nil)); got != w.seg.rec.zst {
			return notSealed(path, w.seg.rec.zst, got)
		}
		return nil
	})
	return missingFile(err, path, w.seg.base)
}

// damaged names the place of an error in the frames.
func (w *sealedWalk) damaged(index int64, err error) error {
	var bad badFrame
	if !errors.As(err, &bad) {
		return err
	}
	return &TamperError{Path: w.seg.zstPath(), Index: index, Reason: "compressed entries are damaged: " + bad.Error()}
}

// frame checks the lines of one frame. They are hashed where they are, together
// with the byte before each: there is one more before the first.
func (w *sealedWalk) frame(f durable.File, fr *frames, k int) error {
	at := w.seg.base + int64(k)*int64(fr.lines)
	packed := int(fr.offsets[k+1] - fr.offsets[k])
	w.packed = slices.Grow(w.packed[:0], packed)[:packed]
	if n, err := f.ReadAt(w.packed, fr.offsets[k]); n < packed && err != nil && !errors.Is(err, io.EOF) {
		return err
	} else if n < packed {
		return w.damaged(at, badFrame{errors.New("frame is cut off")})
	}
	w.sum.Write(w.packed)
	size := int(fr.sizes[k])
	if cap(w.buf) < 1+size+frameSlack {
		w.buf = make([]byte, 1+size+size/4+frameSlack)
	}
	w.lines.buf = w.buf[1:1]
	if err := w.lines.decode(w.packed, w.dec, size, fr.linesIn(k)); err != nil {
		return w.damaged(at, err)
	}
	w.msgs = w.msgs[:0]
	start := uint32(0)
	for _, end := range w.lines.ends {
		w.msgs = append(w.msgs, w.buf[start:end]) // from the byte before the line to before its newline
		start = end
	}
	w.hashes = slices.Grow(w.hashes[:0], len(w.msgs))[:len(w.msgs)]
	merkle.HashAllPrefixed(w.hashes, w.msgs)
	for i, leaf := range w.hashes {
		n := at + int64(i)
		if stored := merkle.Hash(w.leaves[32*(n-w.seg.base):]); leaf != stored {
			return &TamperError{
				Path: w.seg.zstPath(), Index: n, Reason: "entry is not the one that was sealed: its hash differs",
				Want: fmt.Sprintf("%x", stored), Got: fmt.Sprintf("%x", leaf),
			}
		}
	}
	if err := w.v.extendAll(w.hashes); err != nil {
		return err
	}
	return w.look(at)
}

// look reads what is of interest in the lines of a frame.
func (w *sealedWalk) look(at int64) error {
	if w.idx == nil && w.v.claims.next >= at+int64(len(w.msgs)) {
		return nil
	}
	for i, msg := range w.msgs {
		n := at + int64(i)
		if n == w.v.claims.next {
			if err := w.v.claims.read(w.seg.zstPath(), n, msg[1:]); err != nil {
				return err
			}
		}
		if w.idx != nil {
			e, err := header(msg[1:])
			if err != nil {
				return &TamperError{Path: w.seg.zstPath(), Index: n, Reason: err.Error()}
			}
			w.idx.add(&e)
		}
	}
	return nil
}

// claims are the entries of the ledger that say what its sealed and its pruned
// segments are, and the records of the manifest that they must agree with.
type claims struct {
	todo []claim
	// next is the index of the first entry that is still to come.
	next int64
	// marks is how far the history had come at times; doubt is what is wrong
	// with it unless a later entry says that it was lost.
	marks map[int64][32]byte
	doubt error
}

type claim struct {
	entry  int64
	record *record
	pruned bool
}

// expect takes down which entries must say what.
func (c *claims) expect(m *manifest) {
	c.todo, c.doubt = nil, nil
	for i := range m.records {
		r := &m.records[i]
		if r.pruned() {
			c.todo = append(c.todo, claim{r.prunedAt, r, true})
		} else if r.entry >= 0 {
			c.todo = append(c.todo, claim{r.entry, r, false})
		}
	}
	slices.SortStableFunc(c.todo, func(a, b claim) int { return cmp.Compare(a.entry, b.entry) })
	c.advance(-1)
}

// advance goes on after the entry at index n.
func (c *claims) advance(n int64) {
	c.next = math.MaxInt64
	if c.doubt != nil {
		c.next = n + 1 // any entry may be the one
	} else if len(c.todo) > 0 {
		c.next = c.todo[0].entry
	}
}

// read compares the entry at index n with the records that refer to it.
func (c *claims) read(path string, n int64, line []byte) error {
	e, err := DecodeLine(line)
	if err != nil {
		return &TamperError{Path: path, Index: n, Reason: "stored line is malformed: " + err.Error()}
	}
	e.Index = n
	for len(c.todo) > 0 && c.todo[0].entry == n {
		if err := c.todo[0].check(&e); err != nil {
			return &TamperError{Path: manifestName, Index: n, Reason: "segment " + segStem(c.todo[0].record.base) + " is not what the entry says: " + err.Error()}
		}
		c.todo = c.todo[1:]
	}
	c.history(&e)
	c.advance(n)
	return nil
}

// history compares how far the history had come with what it has: a line that
// was removed from it, or from its beginning, changes all that follow.
func (c *claims) history(e *Entry) {
	if e.AgentID != systemAgent || len(c.marks) == 0 {
		return // without any, checkHistory will say so
	}
	if e.Action == actionRestored && e.Details[historyKey] == historyLostValue {
		c.doubt = nil
		return
	}
	said, ok := e.Details[historyKey].(map[string]any)
	if e.Action != actionSealed || !ok || c.doubt != nil {
		return
	}
	end, _ := indexOf(said["bytes"])
	want, _ := said["sha256"].(string)
	got, ok := c.marks[end]
	if text := hex.EncodeToString(got[:]); !ok || text != want {
		c.doubt = &TamperError{
			Path: historyName, Index: -1, Want: want, Got: text,
			Reason: fmt.Sprintf("the first %d bytes are not those that entry %d vouches for: lines were removed or replaced", end, e.Index),
		}
	}
}

// settle is called when all entries were seen.
func (c *claims) settle() error {
	if len(c.todo) == 0 {
		return c.doubt
	}
	return &TamperError{
		Path: manifestName, Index: c.todo[0].entry, Reason: "segment " + segStem(c.todo[0].record.base) + " refers to an entry that is not there",
	}
}

func (c *claim) check(e *Entry) error {
	action := actionSealed
	if c.pruned {
		action = actionPruned
	}
	if e.AgentID != systemAgent || e.Action != action {
		return fmt.Errorf("it is %s of %s, not %s", e.Action, e.AgentID, action)
	}
	list := []any{map[string]any(e.Details)}
	if c.pruned {
		list, _ = e.Details["segments"].([]any)
	}
	for _, v := range list {
		obj, _ := v.(map[string]any)
		var r record
		if r.fill(obj) != nil || r.base != c.record.base {
			continue
		}
		r.entry, r.prunedAt = c.record.entry, c.record.prunedAt
		if r != *c.record {
			return errors.New("it says something else")
		}
		return nil
	}
	return errors.New("it does not name the segment")
}
