package audit

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/kaizen-go/kaizen/internal/durable"
	"github.com/kaizen-go/kaizen/internal/merkle"
)

// Actions of the ledger's own entries about its segments.
const (
	actionSealed   = systemPrefix + "segment_sealed"
	actionPruned   = systemPrefix + "pruned"
	actionArchived = systemPrefix + "archived"
)

// packer does what can wait, behind everything else: it compresses and indexes
// segments that are full, copies them to the archive, and removes those that
// retention does not keep.
type packer struct {
	l       *Ledger
	woken   chan struct{}
	backlog *backlog
	ctx     context.Context
	cancel  context.CancelFunc
	done    sync.WaitGroup

	work   sync.Mutex       // one seal, archive or prune at a time; guards what follows
	enc    [2]*zstd.Encoder // made when needed; the second is the hurried one
	closed bool
	copies copies
	// old makes segments as they were made at first, for tests: larger frames,
	// and no list of the ledger's own entries.
	old bool
}

// sealEvery is how often age is looked at.
const sealEvery = time.Minute

func newPacker(l *Ledger) *packer {
	s := &packer{l: l, woken: make(chan struct{}, 1)}
	s.backlog = newBacklog(&l.cfg, func() {
		l.cfg.Logger.Warn("audit ledger: entries come faster than full segments can be sealed; appends wait for that", "dir", l.store.dir, "bytes", s.backlog.size())
	})
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s
}

// start begins the work in the background.
func (s *packer) start() {
	st := s.l.store
	st.mu.Lock()
	st.rotated = func() {
		s.backlog.set(st.unsealed())
		s.wake()
	}
	s.backlog.set(st.unsealed())
	st.mu.Unlock()
	// What is old is found before the first append: an entry that carries a
	// time of long ago does not have its segment sealed at once.
	old := s.l.due(time.Now())
	s.done.Go(func() { s.run(old) })
	s.wake()
}

// stop ends the work, wherever it is and whoever asked for it, and waits: once
// Close has returned nothing may touch the files. Work that comes later gets
// [ErrClosed].
func (s *packer) stop() {
	s.cancel()
	s.done.Wait()
	s.work.Lock()
	defer s.work.Unlock()
	s.closed = true
}

// begin takes work, and returns what ends it. The context that it returns ends
// with ctx, and with [ErrClosed] as its cause when the ledger is closed.
func (s *packer) begin(ctx context.Context) (_ context.Context, end func(), err error) {
	s.work.Lock()
	if s.closed {
		s.work.Unlock()
		return nil, nil, ErrClosed
	}
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(s.ctx, func() { cancel(ErrClosed) })
	return ctx, func() { stop(); cancel(nil); s.work.Unlock() }, nil
}

// tell is [Config].Progress. The caller has work.
func (s *packer) tell(work string, done, total int64) {
	if s.l.cfg.Progress != nil {
		s.l.cfg.Progress(work, done, total)
	}
}

func (s *packer) wake() {
	select {
	case s.woken <- struct{}{}:
	default: // it will look anyway
	}
}

// run works when it is woken and now and then. If old, the newest segment was
// due to be sealed when the ledger was opened.
func (s *packer) run(old bool) {
	tick := time.NewTicker(sealEvery)
	defer tick.Stop()
	for {
		select {
		case <-s.woken:
		case now := <-tick.C:
			old = s.l.due(now)
		case <-s.ctx.Done():
			return
		}
		err := s.round(old)
		old = false
		if err != nil && s.ctx.Err() == nil {
			s.l.cfg.Logger.Error("audit ledger: sealing segments in the background; it will be tried again", "dir", s.l.store.dir, "error", err)
		}
	}
}

// round does what is due, and seals the newest segment if it is old.
func (s *packer) round(old bool) error {
	l := s.l
	if old {
		if err := l.rotate(); err != nil {
			return err
		}
	}
	if err := s.seal(s.ctx, true); err != nil {
		return err
	}
	if l.cfg.Archive != "" {
		if _, err := l.archive(s.ctx, ArchiveDir(l.cfg.Archive), &s.copies); err != nil {
			return err
		}
	}
	if l.cfg.Retention == (Retention{}) {
		return nil
	}
	_, err := l.prune(s.ctx, PruneOptions{})
	return err
}

// due reports whether the newest segment is old enough to be sealed.
func (l *Ledger) due(now time.Time) bool {
	l.store.mu.RLock()
	defer l.store.mu.RUnlock()
	seg := l.store.segs[len(l.store.segs)-1]
	return l.cfg.SealAfter > 0 && seg.worthSealing() && now.UnixNano()-seg.idx.blocks[0].time[0] > int64(l.cfg.SealAfter)
}

// worthSealing reports whether a segment holds more than the ledger's own notes
// about sealing. The caller holds the store's mu.
func (s *segment) worthSealing() bool {
	code, ok := s.idx.terms[actionSealed]
	for i := range s.idx.n {
		if !ok || s.idx.blocks[i/groupLen].action[i%groupLen] != code {
			return true
		}
	}
	return false
}

// Seal ends the newest segment, and returns when all but the one that then
// begins are compressed and have an index file. It may be called at any time:
// segments are sealed by themselves when they are full or old enough. Errors
// are those of [Ledger.Append] and of the file system, after which the segments
// are as they were; and a [*TamperError] if lines were changed on disk.
func (l *Ledger) Seal(ctx context.Context) error {
	err := l.rotate()
	if err == nil {
		err = l.packer.seal(ctx, false)
	}
	if err != nil {
		return fmt.Errorf("audit: seal: %w", err)
	}
	return nil
}

// rotate begins a new segment, unless the newest has nothing worth sealing.
func (l *Ledger) rotate() error {
	if err := l.failed(); err != nil {
		return err
	}
	s := l.store
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed:
		return ErrClosed
	case s.broken != nil:
		return s.broken
	}
	seg := s.segs[len(s.segs)-1]
	if !seg.worthSealing() {
		return nil
	}
	err := s.rotate(seg.end())
	if errors.Is(err, ErrNoSpace) {
		return err
	}
	if err != nil {
		return l.fail(fmt.Errorf("begin a segment: %w", err))
	}
	return nil
}

// seal seals the segments that get no more entries, the oldest first. In the
// background it gives way to appends.
func (s *packer) seal(ctx context.Context, background bool) error {
	ctx, end, err := s.begin(ctx)
	if err != nil {
		return err
	}
	defer end()
	s.backlog.seal(true)
	defer s.backlog.seal(false)
	for done := int64(0); ; {
		if err := s.l.failed(); err != nil {
			return err
		}
		st := s.l.store
		st.mu.RLock()
		waiting, closed := len(st.segs)-1, st.closed
		var seg *segment
		var entries int64 // that wait
		if waiting > 0 && !closed {
			seg = st.segs[0]
			entries = st.segs[waiting].base - seg.base
			seg.retain()
		}
		st.mu.RUnlock()
		if closed {
			return ErrClosed
		}
		if seg == nil {
			return nil
		}
		behind := waiting >= maxWaiting
		p := pace{l: s.l, on: background && !behind, tell: func(n int64) { s.tell("seal", done+n, done+entries) }}
		n := seg.leaves.len() // it gets no more
		err := s.sealOne(ctx, seg, p, background && behind)
		seg.release()
		if err != nil {
			return fmt.Errorf("segment %s: %w", segStem(seg.base), err)
		}
		done += n
	}
}

// encoder is the one for such a segment.
func (s *packer) encoder(hurried bool) (_ *zstd.Encoder, err error) {
	enc := &s.enc[0]
	if hurried {
		enc = &s.enc[1]
	}
	if *enc == nil {
		*enc, err = newFrameEncoder(hurried)
	}
	return *enc, err
}

// maxWaiting is how many full segments may wait before sealing stops giving
// way to appends, and hurries: each has about 11 MiB of index in memory. At twice
// as many appends wait, see [backlog].
const maxWaiting = 2

// pace slows background work down while entries come in, and says how far it is.
type pace struct {
	l    *Ledger
	on   bool
	tell func(entries int64)
	last time.Time
	size int64
}

// wait is called after each piece of work. While the ledger grows it sleeps
// nine times as long as the piece took.
func (p *pace) wait(ctx context.Context) error {
	if !p.on {
		return context.Cause(ctx)
	}
	now, size := time.Now(), p.l.store.checkpoint().Size
	if busy := size > p.size; busy && !p.last.IsZero() {
		t := time.NewTimer(9 * now.Sub(p.last))
		defer t.Stop()
		select {
		case <-t.C:
		case <-ctx.Done():
		}
		now = time.Now()
	}
	p.last, p.size = now, size
	return context.Cause(ctx)
}

// sealOne turns a segment into its sealed form. Until the manifest names the
// new files they have no meaning, and from then on the old one has none: a
// crash in between leaves files that the next Open removes.
func (s *packer) sealOne(ctx context.Context, seg *segment, p pace, hurried bool) error {
	enc, err := s.encoder(hurried)
	if err != nil {
		return err
	}
	st := s.l.store
	b := sealBuild{st: st, seg: seg, enc: enc, pace: p, perFrame: frameLines, listed: !s.old}
	if s.old {
		b.perFrame = oldFrameLines
	}
	if err := b.write(ctx); err != nil {
		return errors.Join(err, b.discard())
	}
	receipt, err := s.l.appendSystem(ctx, Entry{Action: actionSealed, Details: s.l.vouched(&b.rec)})
	if err != nil {
		return err
	}
	b.rec.entry = receipt.Index
	// The entry must be under the published checkpoint before the manifest
	// refers to it.
	if err := s.l.Flush(ctx); err != nil {
		return err
	}
	m := st.manifest()
	m.records = append(m.records, b.rec)
	m.edge = b.tree.Edge()
	if err := st.replaceManifest(m); err != nil {
		return err
	}
	st.mu.Lock()
	st.sealed = append(slices.Clip(st.sealed), newSealed(b.rec))
	st.edge = b.tree
	st.segs = slices.Clone(st.segs[1:])
	st.bytes -= seg.size
	s.backlog.set(st.unsealed())
	st.mu.Unlock()
	if err := seg.retire(); err != nil {
		return err
	}
	return removeSynced(st.fsys, st.dir, seg.path())
}

// manifest is what segments.json says.
func (s *store) manifest() *manifest {
	s.mu.RLock()
	defer s.mu.RUnlock()
	m := &manifest{edge: s.edge.Edge(), records: make([]record, 0, len(s.sealed)+1)}
	for _, seg := range s.sealed {
		m.records = append(m.records, *seg.rec)
	}
	return m
}

func (s *store) replaceManifest(m *manifest) error {
	return durable.ReplaceFile(s.fsys, filepath.Join(s.dir, manifestName), m.encode())
}

// sealBuild writes the files of a sealed segment.
type sealBuild struct {
	st       *store
	seg      *segment
	enc      *zstd.Encoder
	pace     pace
	perFrame int  // how many lines a frame gets
	listed   bool // whether the record lists the ledger's own entries

	rec  record
	tree merkle.Tree // at the end of the segment
	idx  *idxBuilder
	raw  hash.Hash
}

func (b *sealBuild) write(ctx context.Context) error {
	seg := b.seg
	b.st.mu.RLock()
	b.tree = b.st.edge.Clone()
	view := b.st.viewLocked()
	b.st.mu.RUnlock()
	b.rec = record{base: seg.base, count: seg.leaves.len(), bytes: seg.size, entry: -1, prunedAt: -1}
	b.idx, b.raw = newIdxBuilder(seg.base), sha256.New()
	if err := b.file(seg.zstPath(), &b.rec.zst, func(w *digestWriter) error { return b.frames(ctx, w) }); err != nil {
		return err
	}
	b.raw.Sum(b.rec.raw[:0])
	idx := b.idx.encode()
	if err := b.file(seg.idxPath(), &b.rec.idx, func(w *digestWriter) error {
		_, err := w.Write(idx)
		return err
	}); err != nil {
		return err
	}
	if b.listed {
		var err error
		if b.rec.system, err = systemActions(idx, seg.base, int(seg.leaves.len())); err != nil {
			return err
		}
	}
	if err := b.file(seg.nodesPath(), &b.rec.nodes, func(w *digestWriter) error { return writeNodes(w, view, seg) }); err != nil {
		return err
	}
	hashes := make([]byte, 0, 32*seg.leaves.len())
	for run := range seg.leaves.runs() {
		for i := range run {
			hashes = append(hashes, run[i][:]...)
		}
		b.tree.AppendAll(run)
	}
	b.rec.l0, b.rec.root = sha256.Sum256(hashes), b.tree.Root()
	b.rec.stored += int64(len(hashes))
	b.rec.minTime, b.rec.maxTime = slices.Min(b.idx.times), slices.Max(b.idx.times)
	b.rec.minID, b.rec.maxID = slices.Min(b.idx.millis), slices.Max(b.idx.millis)
	return b.rename()
}

// frames compresses the lines, frame by frame.
func (b *sealBuild) frames(ctx context.Context, w *digestWriter) error {
	fw := &frameWriter{w: w, enc: b.enc}
	r, feed := sealReader{seg: b.seg}, newIdxFeed(b.idx, &b.seg.idx)
	n := b.seg.leaves.len()
	for from := int64(0); from < n; {
		end := min(from+int64(b.perFrame), n)
		lines, err := r.read(from, end)
		if err != nil {
			return err
		}
		for i := from; i < end; i++ {
			if err := feed.add(i, r.line(int(i-from))); err != nil {
				return &TamperError{Path: b.seg.path(), Index: b.seg.base + i, Reason: err.Error()}
			}
		}
		b.raw.Write(lines)
		if err := fw.write(lines); err != nil {
			return err
		}
		if end%groupLen == 0 || end == n {
			b.pace.tell(end)
			if err := b.pace.wait(ctx); err != nil {
				return err
			}
		}
		from = end
	}
	return fw.finish()
}

// writeNodes writes the nodes of the tree that end in the segment.
func writeNodes(w *digestWriter, v *treeView, seg *segment) error {
	for step := 1; step*tileHeight < 63; step++ {
		hs, err := v.span(step, seg.base>>(step*tileHeight), nodesIn(seg.base, seg.end(), step))
		if err != nil {
			return err
		}
		for _, h := range hs {
			if _, err := w.Write(h[:]); err != nil {
				return err
			}
		}
	}
	return nil
}

// digestWriter writes a file in large pieces, and takes its digest.
type digestWriter struct {
	f   durable.File
	sum hash.Hash
	buf []byte
	n   int64
}

func (w *digestWriter) Write(p []byte) (int, error) {
	w.buf = append(w.buf, p...)
	if len(w.buf) >= windowBytes {
		return len(p), w.flush()
	}
	return len(p), nil
}

func (w *digestWriter) flush() error {
	w.sum.Write(w.buf)
	n, err := w.f.WriteAt(w.buf, w.n)
	w.n += int64(n)
	w.buf = w.buf[:0]
	return err
}

// file writes one synced file under its temporary name.
func (b *sealBuild) file(path string, digest *merkle.Hash, write func(*digestWriter) error) (err error) {
	f, err := b.st.openFile(path+tmpExt, os.O_WRONLY|os.O_CREATE|os.O_TRUNC)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	w := &digestWriter{f: f, sum: sha256.New()}
	if err := write(w); err != nil {
		return err
	}
	if err := w.flush(); err != nil {
		return err
	}
	w.sum.Sum(digest[:0])
	b.rec.stored += w.n
	return f.Sync()
}

func (b *sealBuild) paths() []string {
	return []string{b.seg.zstPath(), b.seg.idxPath(), b.seg.nodesPath()}
}

func (b *sealBuild) rename() error {
	for _, path := range b.paths() {
		name := filepath.Join(b.st.dir, path)
		if err := b.st.fsys.Rename(name+tmpExt, name); err != nil {
			return err
		}
	}
	return b.st.fsys.SyncDir(filepath.Join(b.st.dir, segDir))
}

// discard removes what was written when sealing is given up.
func (b *sealBuild) discard() error {
	var errs []error
	for _, path := range b.paths() {
		if err := b.st.fsys.Remove(filepath.Join(b.st.dir, path+tmpExt)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// vouched is what the ledger's own entry about a sealed segment says: the
// segment's record, and how far the history of checkpoints has come.
func (l *Ledger) vouched(r *record) map[string]any {
	d := r.details()
	if mark := l.outward.history.mark(); mark != nil {
		d[historyKey] = mark
	}
	return d
}

// details are the fields of a record as the ledger's own entry has them.
func (r *record) details() map[string]any {
	hex := func(h merkle.Hash) string { return fmt.Sprintf("%x", h) }
	d := map[string]any{
		"base": r.base, "count": r.count, "bytes": r.bytes, "stored": r.stored,
		"min_time": time.Unix(0, r.minTime), "max_time": time.Unix(0, r.maxTime),
		"min_id": r.minID, "max_id": r.maxID, "root": hex(r.root), "raw": hex(r.raw),
		"zst": hex(r.zst), "idx": hex(r.idx), "nodes": hex(r.nodes), "l0": hex(r.l0),
	}
	if r.system != "" {
		d["system"] = r.systemActions()
	}
	return d
}
