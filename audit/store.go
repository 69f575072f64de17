package audit

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"

	"github.com/klauspost/compress/zstd"
	"github.com/oklog/ulid/v2"

	"github.com/kaizen-go/kaizen/internal/durable"
	"github.com/kaizen-go/kaizen/internal/merkle"
)

// store is the entries of a ledger: the segment files, and in memory what
// finds and proves them. A [Ledger] adds to it, a [Reader] follows it.
type store struct {
	fsys durable.FS
	dir  string
	key  atomic.Pointer[string] // public, another one after a change
	// write says whether files are opened for writing.
	write bool
	// segmentBytes is the size from which on a segment gets no more entries.
	segmentBytes int64

	files *handles                      // of sealed segments
	cache *cache                        // of what was read from their index
	plain *cache                        // of their lines, decompressed
	dec   func() (*zstd.Decoder, error) // made when it is needed
	nodes nodeCache
	// rotated is called, if not nil, when a segment got its last entry. The
	// caller of apply holds mu.
	rotated func()

	mu     sync.RWMutex // guards what follows
	sealed []*segment   // those that come first; a new slice at each change
	edge   merkle.Tree  // of the entries in them
	segs   []*segment   // the others; the last takes new entries
	head   Checkpoint   // covers exactly the entries above
	bytes  int64        // of the lines in segs
	closed bool
	// broken is the first failure of apply: what the newest segment's files
	// hold is not known any more, and nothing may be written behind it.
	broken error

	// room is how many bytes of lines may still be added to the last segment
	// without asking the file system for blocks.
	room atomic.Int64

	// owed is how many bytes of lines were promised room in the last segment and
	// are not there yet.
	owed atomic.Int64

	hashBuf []byte // scratch of apply

	syncMu  sync.Mutex
	syncErr error // of the first sync that failed, guarded by syncMu
}

const (
	indexCacheBytes = 24 << 20
	lineCacheBytes  = 16 << 20
)

func newStore(fsys durable.FS, dir, vkey string) *store {
	s := &store{
		fsys: fsys, dir: dir, segmentBytes: defaultSegmentBytes, dec: sync.OnceValues(newFrameDecoder),
		files: newHandles(fsys, dir), cache: newCache(indexCacheBytes), plain: newCache(lineCacheBytes),
	}
	s.key.Store(&vkey)
	return s
}

func (s *store) vkey() string { return *s.key.Load() }

// size is the number of entries. The caller holds mu.
func (s *store) size() int64 {
	if len(s.segs) == 0 {
		return s.edge.Size()
	}
	return s.segs[len(s.segs)-1].end()
}

// openSegment opens the two files of a segment.
func (s *store) openSegment(base int64, flag int) (*segment, error) {
	seg := newRaw(base)
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
	seg.seen, seg.begun = seg.size, seg.size
	return seg, nil
}

func (s *store) openFile(path string, flag int) (durable.File, error) {
	return s.fsys.OpenFile(filepath.Join(s.dir, path), flag, durable.FilePerm)
}

// path is where a file of the ledger lies.
func (s *store) path(name string) string { return filepath.Join(s.dir, name) }

func missing(path string, index int64) error {
	return &TamperError{Path: path, Index: index, Reason: "file is missing"}
}

func (s *store) closeFiles() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	var errs []error
	for _, seg := range s.segs {
		errs = append(errs, seg.retire())
	}
	errs = append(errs, s.files.close())
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
		if i < len(s.segs) && s.segs[i].base == base {
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
	if len(s.segs) == 0 && s.edge.Size() > 0 && !s.write {
		// An archive ends with its last sealed segment. If entries are missing,
		// reading will find out.
		seg := newRaw(s.edge.Size())
		seg.lines, seg.hashes = noFile{}, noFile{}
		s.segs = append(s.segs, seg)
	}
	if first := s.edge.Size(); len(s.segs) == 0 || s.segs[0].base != first {
		return missing(filepath.Join(segDir, segStem(first)+lineExt), first)
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
	if err := s.fsys.SyncDir(filepath.Join(s.dir, segDir)); err != nil {
		return errors.Join(err, seg.close())
	}
	s.segs = append(s.segs, seg)
	s.room.Store(0)
	return nil
}

// group is a run of entries that become durable together.
type group struct {
	base    int64  // index of the first
	buf     []byte // their lines, each with its newline
	frame   []byte // if set, buf is in it, with room for a frame's header before and padding after
	ends    []int  // where each line ends in buf, after the newline
	leaves  [][32]byte
	entries []*Entry    // for the index
	ids     []ulid.ULID // of the entries; none in a group that was read from the ring
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

// id is that of the i-th entry.
func (g *group) id(i int) ulid.ULID {
	if len(g.ids) == 0 {
		return mustID(g.entries[i].ID)
	}
	return g.ids[i]
}

// apply writes a group that is durable in the ring to the segment, and makes
// it visible; head covers it. The caller holds mu. Live writing and recovery
// both come through here.
func (s *store) apply(g *group, head Checkpoint) error {
	if s.broken == nil {
		s.broken = s.put(g, head)
	}
	return s.broken
}

func (s *store) put(g *group, head Checkpoint) error {
	if s.full() {
		if err := s.rotate(g.base); err != nil {
			return err
		}
	}
	seg := s.segs[len(s.segs)-1]
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
	offset := uint32(seg.size)
	for i, e := range g.entries {
		seg.idx.add(e, g.id(i), offset+uint32(g.start(i)))
	}
	seg.leaves.add(g.leaves)
	seg.size += int64(len(g.buf))
	s.bytes += int64(len(g.buf))
	s.owed.Add(-int64(len(g.buf)))
	s.head = head
	return nil
}

const hashMismatchReason = "entry and stored hash differ"

func hashMismatch(path string, index int64, want, got [32]byte) *TamperError {
	return &TamperError{
		Path: path, Index: index, Reason: hashMismatchReason,
		Want: fmt.Sprintf("%x", want), Got: fmt.Sprintf("%x", got),
	}
}

// rawLine reads the line at index i, and checks it against its hash: what is
// changed under an open ledger is not handed out. The caller must not change it.
func (s *store) rawLine(i int64) ([]byte, error) {
	seg, v, err := s.at(i)
	if err != nil {
		return nil, err
	}
	if seg.rec != nil {
		line, err := s.sealedLine(seg, v, i)
		if isTamper(err) && s.prunedNow(seg) {
			err = fmt.Errorf("%w: entry %d", ErrPruned, i)
		}
		return line, err
	}
	defer seg.release()
	return s.openLine(seg, i)
}

// at finds the segment that holds entry i. One that is not sealed must be
// released after use.
func (s *store) at(i int64) (*segment, *treeView, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed {
		return nil, nil, ErrClosed
	}
	if i < 0 || i >= s.head.Size {
		return nil, nil, ErrNotFound
	}
	return s.holder(i), s.viewLocked(), nil
}

// holder is the segment of entry i, which there is. The caller holds mu.
func (s *store) holder(i int64) *segment {
	if seg := findSealed(s.sealed, i); seg != nil {
		return seg
	}
	k := len(s.segs) - 1
	for s.segs[k].base > i {
		k--
	}
	s.segs[k].retain()
	return s.segs[k]
}

// openLine reads line i of a segment that is not sealed.
func (s *store) openLine(seg *segment, i int64) ([]byte, error) {
	s.mu.RLock()
	off, end := seg.place(i)
	leaf := seg.leaves.at(i - seg.base)
	s.mu.RUnlock()
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

// get reads one entry.
func (s *store) get(i int64) (Entry, error) {
	line, err := s.rawLine(i)
	if err != nil {
		return Entry{}, err
	}
	return s.decode(line, i)
}

// decode reads a line that has the stored hash. One that is not canonical was
// never written by a ledger.
func (s *store) decode(line []byte, i int64) (Entry, error) {
	e, err := DecodeLine(line)
	if err != nil {
		return e, &TamperError{Path: segDir, Index: i, Reason: "stored line is malformed: " + err.Error()}
	}
	e.Index = i
	return e, nil
}

// proof makes the inclusion proof of one entry under the newest checkpoint.
func (s *store) proof(i int64) (Proof, error) {
	line, err := s.rawLine(i)
	if err != nil {
		return Proof{}, err
	}
	s.mu.RLock()
	v, head := s.viewLocked(), s.head
	s.mu.RUnlock()
	hashes, err := v.Inclusion(i, head.Size)
	if err != nil {
		return Proof{}, err
	}
	if err := merkle.CheckInclusion(hashes, i, head.Size, merkle.HashLeaf(line), head.Root); err != nil {
		return Proof{}, &TamperError{Path: segDir, Index: i, Reason: "stored hashes do not lead to the signed root"}
	}
	return Proof{Index: i, Line: line, Hashes: hashes, Note: head.Note}, nil
}

// checkpoint is the newest one that the entries in memory match.
func (s *store) checkpoint() Checkpoint {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.head
}
