package audit

import (
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/kaizen-go/kaizen/internal/durable"
	"github.com/kaizen-go/kaizen/internal/merkle"
)

var errNoSuchCode = errors.New("code without a text")

// missingFile says that a file which must be there is not; other errors pass.
func missingFile(err error, path string, index int64) error {
	if errors.Is(err, fs.ErrNotExist) {
		return missing(path, index)
	}
	return err
}

// derived says that a file which follows from the lines is not what it was.
func derived(path string, err error) error {
	return &TamperError{Path: path, Index: -1, Reason: derivedReason + err.Error()}
}

// derivedReason begins the reason of damage in a file that can be made again
// from the lines, see [Repair].
const derivedReason = "derived file damaged: "

// sealedIndex is the index file of a sealed segment, of which parts are read
// when they are needed.
type sealedIndex struct {
	s   *store
	seg *segment
}

// part returns what load reads from the file, or what it read before. Size is
// how much of the cache it takes.
func (x *sealedIndex) part(part int, load func(f durable.File, fileSize int64) (value any, size int64, err error)) (any, error) {
	key := cacheKey{x.seg.base, part}
	if v, ok := x.s.cache.get(key); ok {
		return v, nil
	}
	var value any
	path := x.seg.idxPath()
	err := x.s.files.use(path, func(f durable.File, fileSize int64) error {
		v, size, err := load(f, fileSize)
		if err == nil {
			x.s.cache.put(key, v, size)
		}
		value = v
		return err
	})
	var bad badIndex
	switch {
	case errors.As(err, &bad):
		return nil, derived(path, bad)
	case err != nil:
		return nil, missingFile(err, path, x.seg.base)
	}
	return value, nil
}

func (x *sealedIndex) head() (*idxHead, error) {
	v, err := x.part(partHead, func(f durable.File, fileSize int64) (any, int64, error) {
		b := make([]byte, idxHeader)
		if n, err := f.ReadAt(b, 0); n < len(b) && err != nil && !errors.Is(err, io.EOF) {
			return nil, 0, err
		}
		h, err := parseIdxHead(b, fileSize, x.seg.base, int(x.seg.rec.count))
		if err != nil {
			return nil, 0, badIndex{err}
		}
		return h, 600, nil
	})
	if err != nil {
		return nil, err
	}
	return v.(*idxHead), nil
}

func (x *sealedIndex) section(k int) ([]byte, error) {
	h, err := x.head()
	if err != nil {
		return nil, err
	}
	v, err := x.part(k, func(f durable.File, _ int64) (any, int64, error) {
		b, err := h.read(f, k)
		return b, int64(len(b)) + 100, err
	})
	if err != nil {
		return nil, err
	}
	return v.([]byte), nil
}

func (x *sealedIndex) zones() (zones, error) {
	b, err := x.section(secZones)
	return zones(b), err
}

// column is a section of packed values with the places of its groups.
func (x *sealedIndex) column(k int) (*column, error) {
	z, err := x.zones()
	if err != nil {
		return nil, err
	}
	data, err := x.section(k)
	if err != nil {
		return nil, err
	}
	width := func(int) uint { return 16 }
	switch {
	case k == secTimes:
		width = z.timeWidth
	case k < secTimes:
		width = func(g int) uint { return z.width(g, k-secCodes) }
	}
	v, err := x.part(partColumn+k, func(durable.File, int64) (any, int64, error) {
		c, err := newColumn(data, groups(int(x.seg.rec.count)), width)
		return c, int64(4*groups(int(x.seg.rec.count))) + 100, err
	})
	if err != nil {
		return nil, err
	}
	return v.(*column), nil
}

// lookup finds the codes of a text in a column: none if no entry has it.
func (x *sealedIndex) lookup(col int, want string) ([]uint32, error) {
	if col == colResult {
		switch Result(want) {
		case Success, Failure, Denied:
			return []uint32{uint32(resultCode(Result(want)))}, nil
		}
		return nil, nil
	}
	sec := secTexts + col
	if col > colResult {
		sec = secPrints + col - colSession
	}
	b, err := x.section(sec)
	if err != nil {
		return nil, err
	}
	var codes []uint32
	if col > colResult {
		codes, err = prints(b).codes(fingerprint(want))
	} else {
		var code uint32
		var ok bool
		if code, ok, err = texts(b).code(want); ok {
			codes = []uint32{code}
		}
	}
	if err != nil {
		return nil, derived(x.seg.idxPath(), err)
	}
	return codes, nil
}

// sealedText returns line i of a sealed segment, counted from its first, as the
// file has it. The caller must not change it.
func (s *store) sealedText(seg *segment, i int) ([]byte, error) {
	if v, ok := s.cache.get(cacheKey{seg.base, partFrames}); ok {
		fr := v.(*frames)
		if g, ok := s.plain.get(cacheKey{seg.base, partFrame + i/fr.lines}); ok {
			return g.(*lineGroup).line(i % fr.lines), nil
		}
	}
	path, first := seg.zstPath(), i
	var out []byte
	err := s.files.use(path, func(f durable.File, size int64) error {
		fr, err := s.frames(seg, f, size)
		if err != nil {
			return badFrame{err}
		}
		first -= i % fr.lines
		g, err := s.frame(seg, f, fr, i/fr.lines)
		if err == nil {
			out = g.line(i % fr.lines)
		}
		return err
	})
	var bad badFrame
	switch {
	case errors.As(err, &bad):
		return nil, &TamperError{Path: path, Index: seg.base + int64(first), Reason: "compressed entries are damaged: " + bad.Error()}
	case err != nil:
		return nil, missingFile(err, path, seg.base)
	}
	return out, nil
}

// frame returns the lines of frame k.
func (s *store) frame(seg *segment, f durable.File, fr *frames, k int) (*lineGroup, error) {
	key := cacheKey{seg.base, partFrame + k}
	if v, ok := s.plain.get(key); ok {
		return v.(*lineGroup), nil
	}
	dec, err := s.dec()
	if err != nil {
		return nil, err
	}
	g, err := fr.read(f, dec, k)
	if err == nil {
		s.plain.put(key, g, int64(cap(g.buf)+4*cap(g.ends)))
	}
	return g, err
}

func (s *store) frames(seg *segment, f durable.File, size int64) (*frames, error) {
	key := cacheKey{seg.base, partFrames}
	if v, ok := s.cache.get(key); ok {
		return v.(*frames), nil
	}
	fr, err := readFrames(f, size, int(seg.rec.count), seg.rec.bytes)
	if err != nil {
		return nil, err
	}
	s.cache.put(key, fr, int64(12*len(fr.offsets)))
	return fr, nil
}

// sealedLine reads line i of a sealed segment and checks it against its hash.
func (s *store) sealedLine(seg *segment, v *treeView, i int64) ([]byte, error) {
	if seg.rec.pruned() {
		return nil, fmt.Errorf("%w: entry %d", ErrPruned, i)
	}
	line, err := s.sealedText(seg, int(i-seg.base))
	if err != nil {
		return nil, err
	}
	leaf, err := v.Leaf(i)
	if err != nil {
		return nil, err
	}
	if got := merkle.HashLeaf(line); got != leaf {
		return nil, hashMismatch(seg.zstPath(), i, leaf, got)
	}
	return line, nil
}
