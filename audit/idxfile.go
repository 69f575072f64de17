package audit

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sort"
)

// idxHead is the header of an index file: where its sections are.
type idxHead struct {
	base  int64
	count int
	off   [numSection]int64
	size  [numSection]int64
	crc   [numSection]uint32
}

// groups is the number of groups that n entries make.
func groups(n int) int { return (n + groupLen - 1) / groupLen }

// parseIdxHead reads the first idxHeader bytes of an index file of that size.
// A header that it accepts never asks for more memory than count entries can
// need.
func parseIdxHead(b []byte, fileSize, base int64, count int) (*idxHead, error) {
	le := binary.LittleEndian
	if len(b) != idxHeader || string(b[:4]) != idxMagic || checksum(b[:idxHeader-4]) != le.Uint32(b[idxHeader-4:]) {
		return nil, errors.New("header is damaged")
	}
	if le.Uint16(b[4:]) != idxVersion || le.Uint16(b[6:]) != numSection || le.Uint32(b[20:]) != groupLen {
		return nil, fmt.Errorf("version %d is not known", le.Uint16(b[4:]))
	}
	h := &idxHead{base: int64(le.Uint64(b[8:])), count: int(le.Uint32(b[16:]))}
	if h.base != base || h.count != count {
		return nil, fmt.Errorf("belongs to %d entries from %d on", h.count, h.base)
	}
	at := int64(idxHeader)
	for k := range numSection {
		entry := b[idxFixed+k*12:]
		h.off[k], h.size[k], h.crc[k] = at, int64(le.Uint64(entry)), le.Uint32(entry[8:])
		if lo, hi := sectionLimits(k, count); h.size[k] < lo || h.size[k] > hi {
			return nil, fmt.Errorf("section %d of %d bytes", k, h.size[k])
		}
		at += h.size[k]
	}
	if at != fileSize {
		return nil, fmt.Errorf("%d bytes, want %d", fileSize, at)
	}
	return h, nil
}

// sectionLimits are the smallest and the largest size of a section.
func sectionLimits(k, count int) (lo, hi int64) {
	n, g := int64(count), int64(groups(count))
	switch {
	case k == secZones:
		return g * zoneLen, g * zoneLen
	case k < secPrints:
		return 0, n * (MaxNameBytes + 2)
	case k < secCodes:
		return 0, n * 12
	case k < secTimes:
		return 0, g * groupLen * 4
	case k == secTimes:
		return 0, g * groupLen * 8
	}
	return g * groupLen * 2, g * groupLen * 2
}

// read reads a section and checks its sum; packPad bytes follow it.
func (h *idxHead) read(r io.ReaderAt, k int) ([]byte, error) {
	b := make([]byte, h.size[k]+packPad)
	n, err := r.ReadAt(b[:h.size[k]], h.off[k])
	if int64(n) < h.size[k] {
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, err
		}
		return nil, badIndex{fmt.Errorf("section %d is cut off", k)}
	}
	if checksum(b[:h.size[k]]) != h.crc[k] {
		return nil, badIndex{fmt.Errorf("section %d is damaged", k)}
	}
	return b, nil
}

// badIndex is an error about what an index file contains, not of reading it.
type badIndex struct{ error }

func (b badIndex) Unwrap() error { return b.error }

// zones is the section of zones, in which each accessor reads one field.
type zones []byte

func (z zones) at(g int) []byte { return z[g*zoneLen:] }

func (z zones) firstTime(g int) int64 { return int64(binary.LittleEndian.Uint64(z.at(g))) }
func (z zones) minTime(g int) int64   { return int64(binary.LittleEndian.Uint64(z.at(g)[8:])) }
func (z zones) maxTime(g int) int64   { return int64(binary.LittleEndian.Uint64(z.at(g)[16:])) }
func (z zones) minID(g int) uint64    { return binary.LittleEndian.Uint64(z.at(g)[24:]) }
func (z zones) maxID(g int) uint64    { return binary.LittleEndian.Uint64(z.at(g)[32:]) }
func (z zones) min(g, col int) uint32 { return binary.LittleEndian.Uint32(z.at(g)[40+5*col:]) }
func (z zones) width(g, col int) uint { return uint(z.at(g)[44+5*col]) }
func (z zones) timeWidth(g int) uint  { return uint(z.at(g)[zoneLen-1]) }

// column is a section of packed values and where each group of them begins.
type column struct {
	data []byte
	off  []uint32
}

// newColumn finds the groups of a section, each of that width.
func newColumn(data []byte, n int, width func(g int) uint) (*column, error) {
	c := &column{data: data, off: make([]uint32, n)}
	at := uint64(0)
	for g := range n {
		w := width(g)
		if w > 64 {
			return nil, badIndex{fmt.Errorf("width of %d bits", w)}
		}
		c.off[g] = uint32(at)
		at += uint64(packedLen(groupLen, w))
	}
	if at+packPad != uint64(len(data)) {
		return nil, badIndex{errors.New("column does not have the size of its groups")}
	}
	return c, nil
}

func (c *column) group(g int) []byte { return c.data[c.off[g]:] }

// texts is a dictionary of texts: lengths and bytes. Codes count from 1.
type texts []byte

// code finds a text. False if it is not there.
func (t texts) code(want string) (uint32, bool, error) {
	for code, text := range t.all {
		if text == nil {
			return 0, false, badIndex{errors.New("dictionary is cut off")}
		}
		if string(text) == want {
			return code, true, nil
		}
	}
	return 0, false, nil
}

// all yields the codes and their texts; a nil text if the rest is not one.
func (t texts) all(yield func(uint32, []byte) bool) {
	rest := t[:len(t)-packPad]
	for code := uint32(1); len(rest) > 0; code++ {
		n, size := binary.Uvarint(rest)
		if size <= 0 || n > uint64(len(rest)-size) {
			yield(code, nil)
			return
		}
		if !yield(code, rest[size:size+int(n):size+int(n)]) {
			return
		}
		rest = rest[size+int(n):]
	}
}

// prints is a dictionary of fingerprints.
type prints []byte

// codes are those of a fingerprint: none, one, or by a rare chance several.
func (p prints) codes(want uint64) ([]uint32, error) {
	n, err := p.len()
	if err != nil {
		return nil, err
	}
	le, width := binary.LittleEndian, bitWidth(uint64(n))
	at := sort.Search(n, func(i int) bool { return le.Uint64(p[8*i:]) >= want })
	var out []uint32
	for ; at < n && le.Uint64(p[8*at:]) == want; at++ {
		out = append(out, uint32(unpack(p[8*n:], at, width)))
	}
	return out, nil
}

// len is the number of fingerprints: the one that makes a section of this size.
func (p prints) len() (int, error) {
	size := len(p) - packPad
	n := sort.Search(size/8+1, func(n int) bool { return 8*n+packedLen(n, bitWidth(uint64(n))) >= size })
	if 8*n+packedLen(n, bitWidth(uint64(n))) != size {
		return 0, badIndex{errors.New("dictionary of no possible size")}
	}
	return n, nil
}
