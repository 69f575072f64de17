package audit

import (
	"errors"
	"io"
	"io/fs"
	"path/filepath"
	"sync"

	"github.com/oklog/ulid/v2"

	"github.com/kaizen-go/kaizen/internal/durable"
)

// segment is a run of entries. As long as it is not sealed it is a file of
// lines and one of their hashes, both open, with the index in memory. A sealed
// one is what rec says, in files that are opened when they are needed.
type segment struct {
	base int64 // index of its first entry

	rec *record // of a sealed one; nil otherwise

	lines  durable.File
	hashes durable.File // nil if there is no such file
	size   int64        // bytes of lines
	seen   int64        // the size when it was opened
	begun  int64        // bytes of lines that the system was asked to write
	idx    index
	leaves hashList

	use     sync.Mutex // guards what follows
	users   int
	retired bool // the last user closes the files
}

func newRaw(base int64) *segment { return &segment{base: base, idx: newIndex()} }

func newSealed(r record) *segment { return &segment{base: r.base, rec: &r} }

// end is the index after its last entry.
func (s *segment) end() int64 {
	if s.rec != nil {
		return s.rec.end()
	}
	return s.base + s.leaves.len()
}

func (s *segment) stem() string      { return filepath.Join(segDir, segStem(s.base)) }
func (s *segment) path() string      { return s.stem() + lineExt }
func (s *segment) hashPath() string  { return s.stem() + hashExt }
func (s *segment) zstPath() string   { return s.stem() + zstExt }
func (s *segment) idxPath() string   { return s.stem() + idxExt }
func (s *segment) nodesPath() string { return s.stem() + nodesExt }

// groupSize is the number of entries in group g of a sealed segment.
func (s *segment) groupSize(g int) int { return int(min(groupLen, s.rec.count-int64(g)*groupLen)) }

func (s *segment) stat() error {
	info, err := s.lines.Stat()
	if err == nil {
		s.size = info.Size()
	}
	return err
}

// beginBytes of lines at a time are given to the disk. Left to the sync that
// ends a section of the ring they come in one piece of megabytes, and the
// groups that are written to the ring meanwhile, one in a hundred, wait for it.
const beginBytes = 128 << 10

// beginWriting asks the system to begin with the new lines. It is for whoever
// has just answered a group: until its callers are back the disk has nothing else
// to do, while beside the next group it would hold that up (by 50 to 90 µs for
// groups of 110 to 190 KB, measured). The caller holds mu.
func (s *store) beginWriting() {
	seg := s.segs[len(s.segs)-1]
	if n := seg.size - seg.begun; n >= beginBytes {
		durable.StartWriting(seg.lines, seg.begun, n)
		seg.begun = seg.size
	}
}

// retain keeps the files open until release.
func (s *segment) retain() {
	s.use.Lock()
	defer s.use.Unlock()
	s.users++
}

// release ends a use. The error of closing a file that was only read from by
// then tells nobody anything.
func (s *segment) release() {
	s.use.Lock()
	defer s.use.Unlock()
	s.users--
	if s.retired && s.users == 0 {
		_ = s.close()
	}
}

// retire closes the files, now or after their last use.
func (s *segment) retire() error {
	s.use.Lock()
	defer s.use.Unlock()
	s.retired = true
	if s.users > 0 {
		return nil
	}
	return s.close()
}

func (s *segment) close() error {
	err := s.lines.Close()
	if s.hashes != nil {
		err = errors.Join(err, s.hashes.Close())
	}
	return err
}

// place finds line i of a segment that is not sealed: bytes off to end of its
// file, newline included. The caller holds the store's mu.
func (s *segment) place(i int64) (off, end int64) {
	at := i - s.base
	off, end = s.idx.offset(at), s.size
	if at+1 < s.idx.n {
		end = s.idx.offset(at + 1)
	}
	return off, end
}

// lookup finds the entry with that id. The caller holds mu. In sealed segments
// it reads files, but only in those whose ids were made at about the same time.
func (s *store) lookup(id ulid.ULID) (index int64, leaf [32]byte, ok bool, err error) {
	for _, seg := range s.segs {
		if at, ok := seg.idx.lookup(id); ok {
			return seg.base + at, seg.leaves.at(at), true, nil
		}
	}
	ms := id.Time()
	for k := len(s.sealed) - 1; k >= 0; k-- {
		seg := s.sealed[k]
		if ms < seg.rec.minID || ms > seg.rec.maxID || seg.rec.pruned() {
			continue
		}
		index, ok, err = s.lookupSealed(seg, id)
		if err != nil {
			return 0, leaf, false, err
		}
		if ok {
			leaf, err = s.viewLocked().Leaf(index)
			return index, leaf, err == nil, err
		}
	}
	return 0, leaf, false, nil
}

// lookupSealed looks for an id in one sealed segment: in the groups whose times
// fit, at the places where 16 bits of it stand, in the lines.
func (s *store) lookupSealed(seg *segment, id ulid.ULID) (int64, bool, error) {
	x := &sealedIndex{s, seg}
	z, err := x.zones()
	if err != nil {
		return 0, false, err
	}
	col, err := x.column(secIDs)
	if err != nil {
		return 0, false, err
	}
	text, ms := id.String(), id.Time()
	want := uint64(shortPrint([]byte(text)))
	for g := range groups(int(seg.rec.count)) {
		if ms < z.minID(g) || ms > z.maxID(g) {
			continue
		}
		hits := equal(col.group(g), want, 16)
		for i := range seg.groupSize(g) {
			if !hits.has(i) {
				continue
			}
			line, err := s.sealedText(seg, g*groupLen+i)
			if err != nil {
				return 0, false, err
			}
			e, err := header(line)
			if err != nil {
				return 0, false, &TamperError{Path: seg.zstPath(), Index: seg.base + int64(g*groupLen+i), Reason: err.Error()}
			}
			if e.ID == text {
				return seg.base + int64(g*groupLen+i), true, nil
			}
		}
	}
	return 0, false, nil
}

// noFile is the file of a segment that has none: empty.
type noFile struct{ durable.File }

func (noFile) ReadAt([]byte, int64) (int, error) { return 0, io.EOF }
func (noFile) Stat() (fs.FileInfo, error)        { return noFileInfo{}, nil }
func (noFile) Close() error                      { return nil }

type noFileInfo struct{ fs.FileInfo }

func (noFileInfo) Size() int64 { return 0 }
