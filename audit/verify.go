package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/klauspost/compress/zstd"

	"github.com/kaizen-go/kaizen/internal/durable"
	"github.com/kaizen-go/kaizen/internal/merkle"
)

// VerifyConfig says what the auditor knows beforehand. The zero value trusts
// the key in the directory: that shows damage, and forgery by anybody who has
// not the key, but not a ledger that was replaced together with its key.
type VerifyConfig struct {
	// Key is the trusted public key, as [Ledger.VerifierKey] gave it. If
	// empty, the one in ledger.json.
	Key string
	// Checkpoint is a signed checkpoint of this ledger from an earlier time,
	// of a [Receipt] or a copy of the file. With it, Verify finds out if the
	// ledger was put back to an older state or given another history.
	Checkpoint []byte
	// Checkpoints are more of them, of anchors and receipts, as [ReadAnchors]
	// reads them. Two that contradict each other are reported as a split view.
	Checkpoints []Remembered
	// Indexes also makes the index of every sealed segment anew from its lines
	// and compares. Otherwise an index file must be the one that was sealed, by
	// the hash of it that is in the ledger.
	Indexes bool
	// Progress, if not nil, is called now and then with the number of entries
	// checked, and how many there are.
	Progress func(done, total int64)
}

// Report describes an intact ledger.
type Report struct {
	// Origin and Key are the ledger's name and public key.
	Origin, Key string
	// Checkpoint is the published one.
	Checkpoint Checkpoint
	// Entries is the number of entries that it covers: all of them are what
	// was signed.
	Entries int64
	// Unsigned is the number of later entries, in the ring of a ledger that is
	// open or crashed. They are whole, but only [Open], which has the key, can
	// tell who wrote them.
	Unsigned int64
	// Bytes is the size of the lines that the checkpoint covers, Segments the
	// number of segments they are in, Sealed how many of these are compressed.
	Bytes            int64
	Segments, Sealed int
	// Pruned is the number of entries that retention removed, as the ledger
	// itself says. Of these the hashes alone were checked.
	Pruned int64
	// Clean says that the ledger was closed: every byte in the directory was
	// checked. Otherwise a ledger has it open, or crashed.
	Clean bool
}

// Verify checks the ledger in dir: every entry, hash and signature. It needs
// neither the key nor the lock; the ledger may be closed, crashed, or open.
// It returns nil and a report for an intact ledger; a [*TamperError], which
// names the file, the entry and what differs, for any other; or the error that
// kept it from reading. It never changes anything.
func Verify(ctx context.Context, dir string, cfg VerifyConfig) (Report, error) {
	r, err := verify(ctx, durable.OS{}, dir, cfg)
	if err != nil {
		return Report{}, fmt.Errorf("audit: verify %s: %w", dir, err)
	}
	return r, nil
}

// verify takes a snapshot and checks it. What a ledger in use wrote between
// two of our looks can make the newest entries seem out of place; if they do,
// and the ledger has moved on, it looks again.
func verify(ctx context.Context, fsys durable.FS, dir string, cfg VerifyConfig) (Report, error) {
	const tries = 20
	for try := 1; ; try++ {
		v := verifier{cfg: cfg, fsys: fsys, dir: dir}
		report, err := v.run(ctx)
		err = v.files.nameMissing(err)
		if v.store != nil {
			err = errors.Join(err, v.store.closeFiles())
		}
		again := isTamper(err) && try < tries
		if v.signedChecked && !v.inTail {
			again = again && v.prunedMeanwhile(err) // nothing else takes anything away
		} else {
			again = again && v.moved()
		}
		if !again {
			return report, err
		}
	}
}

type verifier struct {
	cfg  VerifyConfig
	fsys durable.FS
	dir  string

	store *store
	// The snapshot, in the order in which it is taken.
	checkpoint Checkpoint
	manifest   *manifest
	manifested []byte
	files      listing
	ringBytes  []byte
	ring       chain

	known         known
	rotations     []rotation
	history       past
	version       int64 // of the format
	tree          merkle.Tree
	claims        claims // of the ledger's entries about its segments
	report        Report
	dec           *zstd.Decoder // of sealed lines; made when it is needed
	signedChecked bool          // the entries under the checkpoint were looked at
	inTail        bool          // and what failed comes after them
}

func (v *verifier) run(ctx context.Context) (Report, error) {
	if err := v.snapshot(); err != nil {
		return Report{}, err
	}
	v.signedChecked = true
	c, err := v.signed(ctx)
	if err != nil {
		return Report{}, v.store.blame(err, v.checkpoint)
	}
	report := v.report
	report.Key, report.Checkpoint, report.Entries = v.store.vkey(), v.checkpoint, v.checkpoint.Size
	report.Bytes += v.store.bytes
	report.Segments += len(v.store.segs)
	report.Clean = len(v.ringBytes) == 0 && len(v.files.leftover) == 0
	if report.Origin, err = originOf(v.store.vkey()); err != nil {
		return Report{}, err
	}
	v.inTail = true
	if err := v.unsigned(c); err != nil {
		return Report{}, err
	}
	if err := v.hashSizes(); err != nil {
		return Report{}, err
	}
	report.Unsigned = v.tree.Size() - v.checkpoint.Size
	// By now all entries, in the ring too, are counted.
	return report, errors.Join(v.known.beyond(v.tree.Size(), len(v.files.bases) == 0), v.checkHistory(report.Clean))
}

// snapshot reads checkpoint, sizes, ring and sizes again, in this order: a
// ledger writes the ring before the segments, and these before the checkpoint,
// so what is seen first is covered by what is seen later.
func (v *verifier) snapshot() error {
	vkey, c, err := identity(v.fsys, v.dir)
	if err != nil {
		return err
	}
	v.checkpoint = c
	if v.version, _, err = versionOf(v.fsys, v.dir); err != nil {
		return err
	}
	if v.manifest, v.manifested, err = readManifest(v.fsys, v.dir); err != nil {
		return err
	}
	// The history after the manifest, which is vouched for by entries that say
	// how far the history had come.
	if err := v.trust(vkey); err != nil {
		return err
	}
	if v.manifest.end() > c.Size {
		return rollback(c.Size, v.manifest.end())
	}
	if v.files, err = listDir(v.fsys, v.dir, v.manifest); err != nil {
		return err
	}
	v.store = newStore(v.fsys, v.dir, vkey)
	if err := v.store.adopt(v.manifest); err != nil {
		return err
	}
	if err := v.store.openListed(v.files.bases); err != nil {
		return err
	}
	if v.files.has(lockName) {
		info, err := stat(v.fsys, filepath.Join(v.dir, lockName))
		if err != nil {
			return err
		}
		if info.Size() > 0 {
			return &TamperError{Path: lockName, Index: -1, Reason: "is not empty", Want: "0 bytes", Got: strconv.FormatInt(info.Size(), 10)}
		}
	}
	if v.ringBytes, err = ringBytes(v.fsys, v.dir); err != nil {
		return err
	}
	if len(v.ringBytes) > 0 {
		if v.ring, err = parseRing(v.ringBytes, nil); err != nil {
			return err
		}
	}
	return v.store.openListed(v.files.bases)
}

// trust compares the key with the auditor's, and reads their checkpoint.
func (v *verifier) trust(vkey string) error {
	spans, rotations, err := spansOf(v.fsys, v.dir, vkey)
	if err != nil {
		return err
	}
	v.rotations = rotations
	if v.cfg.Key != "" && !trusted(v.cfg.Key, spans) {
		return &TamperError{Path: ledgerName, Index: -1, Reason: "signed with another key than the trusted one", Want: v.cfg.Key, Got: vkey}
	}
	return v.remember(spans)
}

// signed checks the entries that the checkpoint covers, and returns where they
// end.
func (v *verifier) signed(ctx context.Context) (*cursor, error) {
	total := v.checkpoint.Size
	if err := v.sealed(ctx); err != nil {
		return nil, err
	}
	c := newCursor(v.store.segs)
	for n := v.tree.Size(); n < total; n++ {
		if n%progressInterval == 0 {
			if err := v.progress(ctx, n, total); err != nil {
				return nil, err
			}
		}
		line, stored, err := c.next(total)
		if err != nil {
			return nil, err
		}
		leaf := c.leaf(line)
		if leaf != stored {
			return nil, hashMismatch(c.seg().path(), n, stored, leaf)
		}
		v.store.bytes += int64(len(line)) + 1
		if err := v.extend(leaf); err != nil {
			return nil, err
		}
		if n == v.claims.next {
			if err := v.claims.read(c.seg().path(), n, line); err != nil {
				return nil, err
			}
		}
	}
	if got := v.tree.Root(); got != v.checkpoint.Root {
		return nil, rootMismatch(checkpointName, v.checkpoint.Root, got)
	}
	if err := v.claims.settle(); err != nil {
		return nil, err
	}
	return c, v.progress(ctx, total, total)
}

// progressInterval is how many entries are checked between two calls of
// Progress.
const progressInterval = 4096

func (v *verifier) progress(ctx context.Context, done, total int64) error {
	if v.cfg.Progress != nil {
		v.cfg.Progress(done, total)
	}
	return context.Cause(ctx)
}

// extend adds a leaf, and compares with the checkpoints that are known on
// reaching their size.
func (v *verifier) extend(leaf merkle.Hash) error {
	v.tree.Append(leaf)
	if len(v.rotations) > 0 {
		if err := v.announced(leaf); err != nil {
			return err
		}
	}
	return v.known.reached(v.tree.Size(), v.tree.Root)
}

// extendAll is extend for each of leaves.
func (v *verifier) extendAll(leaves []merkle.Hash) error {
	from, to := v.tree.Size(), v.tree.Size()+int64(len(leaves))
	changed := func(r rotation) bool { return r.from > from && r.from <= to }
	if !v.known.due(to) && !slices.ContainsFunc(v.rotations, changed) {
		v.tree.AppendAll(leaves)
		return nil
	}
	for _, leaf := range leaves {
		if err := v.extend(leaf); err != nil {
			return err
		}
	}
	return nil
}

func (v *verifier) decoder() (_ *zstd.Decoder, err error) {
	if v.dec == nil {
		v.dec, err = newVerifyDecoder()
	}
	return v.dec, err
}

func rollback(have, want int64) error {
	return &TamperError{
		Path: checkpointName, Index: have, Reason: "rollback: ledger is older than a checkpoint of it that is known",
		Want: strconv.FormatInt(want, 10) + " entries", Got: strconv.FormatInt(have, 10),
	}
}

// unsigned checks what comes after the checkpoint: entries that were synced
// since, by the root in the ring, and then those of the ring itself.
func (v *verifier) unsigned(c *cursor) error {
	a, err := anchor(&v.ring, v.checkpoint)
	if err != nil {
		return err
	}
	for c.index < a {
		line, stored, err := c.next(a)
		if err != nil {
			return v.missing(c, err, a)
		}
		leaf := merkle.HashLeaf(line)
		if leaf != stored { // both were synced, and Open compares them
			return hashMismatch(c.seg().path(), c.index-1, stored, leaf)
		}
		if err := v.extend(leaf); err != nil {
			return err
		}
	}
	rest := v.ring.after(a)
	if err := compareTail(c, &rest); err != nil {
		return err
	}
	return v.checkFrames(a)
}

func (v *verifier) missing(c *cursor, err error, want int64) error {
	if isTamper(err) {
		return err
	}
	return errors.Join(&TamperError{
		Path: c.seg().path(), Index: c.index, Reason: "entry is missing that was synced before the newest in the ring",
		Want: strconv.FormatInt(want, 10) + " entries",
	}, err)
}

// checkFrames extends the tree by the entries in the ring from a on, and
// compares the root that each frame carries.
func (v *verifier) checkFrames(a int64) error {
	for i := range v.ring.frames {
		f := &v.ring.frames[i]
		if f.group.base == v.tree.Size() && v.tree.Root() != f.root {
			return rootMismatch(ringName, f.root, v.tree.Root())
		}
		for n := range f.leaves {
			if f.group.base+int64(n) < a {
				continue
			}
			if err := v.extend(f.leaves[n]); err != nil {
				return err
			}
		}
	}
	return nil
}

// hashSizes checks that the hash files hold no more than their entries need.
// The last one of a ledger in use may be ahead of the checkpoint.
func (v *verifier) hashSizes() error {
	clean := len(v.ringBytes) == 0
	if clean && len(v.files.orphans) > 0 {
		return &TamperError{Path: v.files.orphans[0], Index: -1, Reason: "does not belong in a ledger"}
	}
	for k, seg := range v.store.segs {
		end := v.checkpoint.Size
		if last := k+1 == len(v.store.segs); !last {
			end = v.store.segs[k+1].base
		} else if !clean {
			continue
		}
		if end > v.checkpoint.Size {
			continue
		}
		if seg.hashes == nil {
			return missing(seg.hashPath(), seg.base)
		}
		info, err := seg.hashes.Stat()
		if err != nil {
			return err
		}
		if want := (end - seg.base) * 32; info.Size() != want {
			return &TamperError{Path: seg.hashPath(), Index: end, Reason: "file has the wrong size", Want: strconv.FormatInt(want, 10), Got: strconv.FormatInt(info.Size(), 10)}
		}
	}
	return nil
}

// prunedMeanwhile reports whether what is missing is a file that retention has
// removed since the snapshot.
func (v *verifier) prunedMeanwhile(err error) bool {
	var t *TamperError
	if !errors.As(err, &t) {
		return false
	}
	return slices.ContainsFunc(v.store.sealed, func(seg *segment) bool {
		return (t.Path == seg.zstPath() || t.Path == seg.idxPath()) && !seg.rec.pruned() && v.store.prunedNow(seg)
	})
}

// moved reports whether a ledger in use has written since the snapshot.
func (v *verifier) moved() bool {
	b, err := ringBytes(v.fsys, v.dir)
	if err != nil || !bytes.Equal(b, v.ringBytes) {
		return true
	}
	_, text, err := readManifest(v.fsys, v.dir)
	if err == nil && !bytes.Equal(text, v.manifested) {
		return true
	}
	// A ledger that was closed meanwhile has the same checkpoint, perhaps, and a
	// line more in its history.
	if p := v.history; p.absent || p.marks != nil { // it was read
		if n, err := historySize(v.fsys, v.dir); err == nil && n != p.bytes {
			return true
		}
	}
	_, c, err := identity(v.fsys, v.dir)
	return err == nil && c.Note != v.checkpoint.Note
}
