package audit

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"github.com/oklog/ulid/v2"

	"github.com/kaizen-go/kaizen/internal/durable"
	"github.com/kaizen-go/kaizen/internal/merkle"
)

// store is the entries of a ledger: the segment files, and in memory what
// finds and proves them. A [Ledger] adds to it, a [Reader] follows it.
type store struct {
	fsys durable.FS
	dir  string
	vkey string
	// write says whether files are opened for writing.
	write bool
	// segmentBytes is the size from which on a segment gets no more entries.
	segmentBytes int64

	mu     sync.RWMutex // guards what follows
	segs   []*segment
	idx    index
	tree   merkle.Store
	head   Checkpoint // covers exactly the entries above
	bytes  int64      // of all lines
	closed bool

	hashBuf []byte // scratch of apply

	syncMu  sync.Mutex
	syncErr error // of the first sync that failed, guarded by syncMu
}

// segment is one file of lines and the file of their hashes beside it.
type segment struct {
	base   int64 // index of its first entry
	lines  durable.File
	hashes durable.File // nil if there is no such file
	size   int64        // bytes of lines
	seen   int64        // the size when it was opened
}

func (s *segment) path() string     { return filepath.Join(segDir, segStem(s.base)+lineExt) }
func (s *segment) hashPath() string { return filepath.Join(segDir, segStem(s.base)+hashExt) }

func newStore(fsys durable.FS, dir, vkey string) *store {
	return &store{fsys: fsys, dir: dir, vkey: vkey, idx: newIndex(), segmentBytes: defaultSegmentBytes}
}

// openSegment opens the two files of a segment.
func (s *store) openSegment(base int64, flag int) (*segment, error) {
	seg := &segment{base: base}
	var err error
	if seg.lines, err = s.openFile(seg.path(), flag); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			err = missing(seg.path(), base)
		}
		return nil, err
	}
	seg.hashes, err = s.openFile(seg.hashPath(), flag)
	if errors.Is(err, fs.ErrNotExist) {
		err = nil // damage only if somebody needs a hash from it: see cursor.hash
		seg.hashes = nil
	}
	if err != nil {
		return nil, errors.Join(err, seg.close())
	}
	if err := seg.stat(); err != nil {
		return nil, errors.Join(err, seg.close())
	}
	seg.seen = seg.size
	return seg, nil
}

func (s *store) openFile(path string, flag int) (durable.File, error) {
	return s.fsys.OpenFile(filepath.Join(s.dir, path), flag, durable.FilePerm)
}

func missing(path string, index int64) error {
	return &TamperError{Path: path, Index: index, Reason: "file is missing"}
}

func (s *segment) stat() error {
	info, err := s.lines.Stat()
	if err == nil {
		s.size = info.Size()
	}
	return err
}

func (s *segment) close() error {
	err := s.lines.Close()
	if s.hashes != nil {
		err = errors.Join(err, s.hashes.Close())
	}
	return err
}

func (s *store) closeFiles() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	var errs []error
	for _, seg := range s.segs {
		errs = append(errs, seg.close())
	}
	s.segs = nil
	return errors.Join(errs...)
}

// openListed opens the segments of bases that are not open yet, and takes
// note of how far the others have grown.
func (s *store) openListed(bases []int64) error {
	flag := os.O_RDONLY
	if s.write {
		flag = os.O_RDWR
	}
	for i, base := range bases {
		if i < len(s.segs) {
			if err := s.segs[i].stat(); err != nil {
				return err
			}
			continue
		}
		seg, err := s.openSegment(base, flag)
		if err != nil {
			return err
		}
		s.segs = append(s.segs, seg)
	}
	if len(s.segs) == 0 || s.segs[0].base != 0 {
		return missing(filepath.Join(segDir, segStem(0)+lineExt), 0)
	}
	return nil
}

// createSegment makes an empty segment for the entries from base on. When it
// returns, the directory entry is durable.
func (s *store) createSegment(base int64) error {
	seg, err := s.openSegment(base, os.O_RDWR|os.O_CREATE|os.O_TRUNC)
	if err != nil {
		return err
	}
	s.segs = append(s.segs, seg)
	return s.fsys.SyncDir(filepath.Join(s.dir, segDir))
}

// group is a run of entries that become durable together.
type group struct {
	base    int64  // index of the first
	buf     []byte // their lines, each with its newline
	frame   []byte // if set, buf is in it, with room for a frame's header before and padding after
	ends    []int  // where each line ends in buf, after the newline
	leaves  [][32]byte
	entries []*Entry // for the index
}

func (g *group) len() int { return len(g.ends) }

// line is the i-th line, without its newline.
func (g *group) line(i int) []byte { return g.buf[g.start(i) : g.ends[i]-1] }

func (g *group) start(i int) int {
	if i == 0 {
		return 0
	}
	return g.ends[i-1]
}

// apply writes a group that is durable in the ring to the segment, and makes
// it visible; head covers it. The caller holds mu. Live writing and recovery
// both come through here.
func (s *store) apply(g *group, head Checkpoint) error {
	seg := s.segs[len(s.segs)-1]
	if seg.size >= s.segmentBytes {
		// What is full is made durable at once, so that only the last segment
		// ever has something outstanding.
		if err := s.syncSegment(seg); err != nil {
			return err
		}
		if err := s.createSegment(g.base); err != nil {
			return err
		}
		seg = s.segs[len(s.segs)-1]
	}
	if _, err := seg.lines.WriteAt(g.buf, seg.size); err != nil {
		return err
	}
	hashes := s.hashBuf[:0]
	for i := range g.leaves {
		hashes = append(hashes, g.leaves[i][:]...)
	}
	s.hashBuf = hashes
	if _, err := seg.hashes.WriteAt(hashes, (g.base-seg.base)*32); err != nil {
		return err
	}
	for i, e := range g.entries {
		s.idx.add(e, uint32(seg.size)+uint32(g.start(i)))
		s.tree.Append(g.leaves[i])
	}
	seg.size += int64(len(g.buf))
	s.bytes += int64(len(g.buf))
	s.head = head
	return nil
}

// load takes in the entries of the open segments from the index's end up to
// size, comparing each line with its stored hash. It does not know whether the
// hashes are the signed ones: its caller compares roots. It returns where in
// the files it stopped.
func (s *store) load(ctx context.Context, size int64) (*cursor, error) {
	c := newCursor(s.segs)
	c.skipTo(s.idx.n, s.bytes)
	for s.idx.n < size {
		if s.idx.n%blockLen == 0 && ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		line, stored, err := c.next(size)
		if err != nil {
			return nil, err
		}
		leaf := merkle.HashLeaf(line)
		if leaf != stored {
			return nil, hashMismatch(c.seg().path(), s.idx.n, stored, leaf)
		}
		e, err := header(line)
		if err != nil {
			return nil, &TamperError{Path: c.seg().path(), Index: s.idx.n, Reason: err.Error()}
		}
		s.idx.add(&e, uint32(c.off-int64(len(line))-1))
		s.tree.Append(leaf)
		s.bytes += int64(len(line)) + 1
	}
	return c, nil
}

const hashMismatchReason = "entry and stored hash differ"

func hashMismatch(path string, index int64, want, got [32]byte) *TamperError {
	return &TamperError{
		Path: path, Index: index, Reason: hashMismatchReason,
		Want: fmt.Sprintf("%x", want), Got: fmt.Sprintf("%x", got),
	}
}

// rawLine reads the line at index i, and checks it against its hash: what is
// changed under an open ledger is not handed out.
func (s *store) rawLine(i int64) ([]byte, error) {
	seg, off, end, leaf, err := s.place(i)
	if err != nil {
		return nil, err
	}
	buf := make([]byte, end-off)
	if n, err := seg.lines.ReadAt(buf, off); n < len(buf) && err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	line := buf[:len(buf)-1]
	if got := merkle.HashLeaf(line); got != leaf {
		return nil, hashMismatch(seg.path(), i, leaf, got)
	}
	return line, nil
}

// place finds the line at index i: bytes off to end of seg, newline included.
func (s *store) place(i int64) (seg *segment, off, end int64, leaf [32]byte, err error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed {
		return nil, 0, 0, leaf, ErrClosed
	}
	if i < 0 || i >= s.idx.n {
		return nil, 0, 0, leaf, ErrNotFound
	}
	k := len(s.segs) - 1
	for s.segs[k].base > i {
		k--
	}
	seg, off, end = s.segs[k], s.idx.offset(i), s.segs[k].size
	if next := i + 1; next < s.idx.n && (k == len(s.segs)-1 || next < s.segs[k+1].base) {
		end = s.idx.offset(next)
	}
	return seg, off, end, s.tree.Leaf(i), nil
}

// get reads one entry.
func (s *store) get(i int64) (Entry, error) {
	line, err := s.rawLine(i)
	if err != nil {
		return Entry{}, err
	}
	e, err := DecodeLine(line)
	e.Index = i
	return e, err
}

// proof makes the inclusion proof of one entry under the newest checkpoint.
func (s *store) proof(i int64) (Proof, error) {
	line, err := s.rawLine(i)
	if err != nil {
		return Proof{}, err
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	hashes, err := s.tree.Inclusion(i, s.head.Size)
	return Proof{Index: i, Line: line, Hashes: hashes, Note: s.head.Note}, err
}

// lookup finds the entry with that id. The caller holds mu.
func (s *store) lookup(id ulid.ULID) (index int64, leaf [32]byte, ok bool) {
	index, ok = s.idx.lookup(id)
	if ok {
		leaf = s.tree.Leaf(index)
	}
	return index, leaf, ok
}

// checkpoint is the newest one that the entries in memory match.
func (s *store) checkpoint() Checkpoint {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.head
}
