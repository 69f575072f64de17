package audit

import (
	"bytes"
	"cmp"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/kaizen-go/kaizen/internal/durable"
	"github.com/kaizen-go/kaizen/internal/merkle"
)

const (
	ringMagic      = "KZRR"
	ringHeaderLen  = 32
	frameMagic     = "KZRF"
	frameHeaderLen = 128
	// maxRing bounds what is read into memory; ours are 16 MiB.
	maxRing = 256 << 20
)

// frameHeader stands before the lines of one group. Its layout, little-endian:
//
//	  0  "KZRF"
//	  4  uint16 version (1)       6  uint16 header length (128)
//	  8  uint32 CRC-32C of everything from byte 12 to the payload's end
//	 12  uint32 count             16  uint64 generation
//	 24  uint64 LSN               32  uint64 base index
//	 40  uint64 durable: entries synced in segments when it was written
//	 48  uint32 payload length    52  uint32 zero
//	 56  root hash of the entries before base (32 bytes)
//	 88  MAC: HMAC-SHA256(key, bytes 12 to 88 || leaf hashes of the lines)
//	120  zero (8 bytes)
//	128  payload: the lines, each with its newline
type frameHeader struct {
	count      uint32
	generation uint64
	lsn        uint64
	base       uint64
	durable    uint64
	length     uint32
	root       [32]byte
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func checksum(b []byte) uint32 { return crc32.Checksum(b, castagnoli) }

// fields are bytes 12 to 88.
func (h *frameHeader) fields() (b [76]byte) {
	binary.LittleEndian.PutUint32(b[0:], h.count)
	binary.LittleEndian.PutUint64(b[4:], h.generation)
	binary.LittleEndian.PutUint64(b[12:], h.lsn)
	binary.LittleEndian.PutUint64(b[20:], h.base)
	binary.LittleEndian.PutUint64(b[28:], h.durable)
	binary.LittleEndian.PutUint32(b[36:], h.length)
	copy(b[44:], h.root[:])
	return b
}

// put writes the header before the payload that b already holds.
func (h *frameHeader) put(b []byte, mac [32]byte) {
	clear(b[:frameHeaderLen])
	copy(b, frameMagic)
	binary.LittleEndian.PutUint16(b[4:], ringVersion)
	binary.LittleEndian.PutUint16(b[6:], frameHeaderLen)
	fields := h.fields()
	copy(b[12:], fields[:])
	copy(b[88:], mac[:])
	binary.LittleEndian.PutUint32(b[8:], checksum(b[12:]))
}

// frameMACer shows who wrote a frame. Its MAC binds the lines through their
// hashes, and all earlier entries through the root in the header. It is for
// one goroutine.
type frameMACer struct {
	hash hash.Hash
	buf  []byte
}

func newFrameMACer(key []byte) *frameMACer { return &frameMACer{hash: hmac.New(sha256.New, key)} }

func (m *frameMACer) of(h *frameHeader, leaves [][32]byte) (mac [32]byte) {
	fields := h.fields()
	m.buf = append(m.buf[:0], fields[:]...)
	for i := range leaves {
		m.buf = append(m.buf, leaves[i][:]...)
	}
	m.hash.Reset()
	m.hash.Write(m.buf)
	m.buf = m.hash.Sum(m.buf[:0])
	copy(mac[:], m.buf)
	return mac
}

// frame is one that was read back.
type frame struct {
	frameHeader
	group
	mac [32]byte
	pos int64
}

func (f *frame) end() int64 { return f.group.base + int64(f.len()) }

// parseFrame reads the frame at the start of b. It checks everything but the
// MAC; ok is false for anything that was not written in full.
func parseFrame(b []byte) (f frame, ok bool) {
	if len(b) < frameHeaderLen || string(b[:4]) != frameMagic ||
		binary.LittleEndian.Uint16(b[4:]) != ringVersion || binary.LittleEndian.Uint16(b[6:]) != frameHeaderLen {
		return f, false
	}
	f.length = binary.LittleEndian.Uint32(b[48:])
	if uint64(f.length) > uint64(len(b)-frameHeaderLen) {
		return f, false
	}
	b = b[:frameHeaderLen+int(f.length)]
	if checksum(b[12:]) != binary.LittleEndian.Uint32(b[8:]) {
		return f, false
	}
	f.count = binary.LittleEndian.Uint32(b[12:])
	f.generation = binary.LittleEndian.Uint64(b[16:])
	f.lsn = binary.LittleEndian.Uint64(b[24:])
	f.frameHeader.base = binary.LittleEndian.Uint64(b[32:])
	f.durable = binary.LittleEndian.Uint64(b[40:])
	copy(f.root[:], b[56:])
	copy(f.mac[:], b[88:])
	again := make([]byte, frameHeaderLen)
	f.put(again, f.mac)
	if !bytes.Equal(again[12:], b[12:frameHeaderLen]) { // something where zeros belong
		return f, false
	}
	return f, f.split(b[frameHeaderLen:])
}

// split finds the lines in the payload.
func (f *frame) split(payload []byte) bool {
	const maxIndex = 1 << 62
	if f.frameHeader.base > maxIndex || f.durable > f.frameHeader.base || f.count == 0 || f.count > f.length {
		return false
	}
	f.group.base, f.buf = int64(f.frameHeader.base), payload
	f.ends = make([]int, 0, f.count)
	for at := 0; at < len(payload); {
		i := bytes.IndexByte(payload[at:], '\n')
		if i < 0 || i > MaxLineBytes || len(f.ends) == int(f.count) {
			return false
		}
		f.leaves = append(f.leaves, merkle.HashLeaf(payload[at:at+i]))
		at += i + 1
		f.ends = append(f.ends, at)
	}
	return len(f.ends) == int(f.count)
}

// chain is what a ring holds: the frames from the last sync of the segments
// up to the newest, without a gap.
type chain struct {
	generation uint64
	frames     []frame
	torn       bool // something that is no frame follows the newest
}

// end is how many entries the ledger has according to the ring, and start from
// which index on the ring has them. Both 0 without frames.
func (c *chain) end() int64 {
	if len(c.frames) == 0 {
		return 0
	}
	return c.frames[len(c.frames)-1].end()
}

func (c *chain) start() int64 {
	if len(c.frames) == 0 {
		return 0
	}
	return c.frames[0].group.base
}

// readRing reads the ring of the ledger in dir. With a macKey every frame must
// carry its MAC; a verifier, who has no key, passes nil. No file, or an empty
// one, is a ring without frames.
func readRing(fsys durable.FS, dir string, macKey []byte) (chain, error) {
	b, err := ringBytes(fsys, dir)
	if err != nil || len(b) == 0 {
		return chain{}, err
	}
	return parseRing(b, macKey)
}

// ringBytes is the content of the ring, nothing if there is none.
func ringBytes(fsys durable.FS, dir string) ([]byte, error) {
	b, err := durable.ReadFile(fsys, filepath.Join(dir, ringName), maxRing)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err == nil && len(b) == 0 {
		return nil, ringDamage(-1, "is empty") // it is renamed into place whole
	}
	return b, err
}

func ringDamage(index int64, reason string) error {
	return &TamperError{Path: ringName, Index: index, Reason: reason}
}

func parseRing(b, macKey []byte) (chain, error) {
	c, err := parseRingHeader(b)
	if err != nil {
		return c, err
	}
	var found []frame
	mac := newFrameMACer(macKey)
	for pos := ringAlign; pos < len(b); {
		f, ok := parseFrame(b[pos:])
		if !ok || f.generation != c.generation {
			pos += ringAlign
			continue
		}
		if macKey != nil {
			want := mac.of(&f.frameHeader, f.leaves)
			if !hmac.Equal(want[:], f.mac[:]) {
				return c, ringDamage(f.group.base, "frame was not written with the ledger's key")
			}
		}
		f.pos = int64(pos)
		found = append(found, f)
		pos += int(frameSize(len(f.buf)))
	}
	if len(found) == 0 {
		c.torn = !allZero(b[ringAlign:min(len(b), 2*ringAlign)])
		return c, nil
	}
	if err := c.connect(found); err != nil {
		return c, err
	}
	last := c.frames[len(c.frames)-1]
	after := last.pos + frameSize(len(last.buf))
	c.torn = after < int64(len(b)) && !allZero(b[after:min(int64(len(b)), after+frameHeaderLen)])
	return c, nil
}

func allZero(b []byte) bool { return len(bytes.Trim(b, "\x00")) == 0 }

func parseRingHeader(b []byte) (c chain, err error) {
	if len(b) < ringAlign || string(b[:4]) != ringMagic || checksum(b[12:ringHeaderLen]) != binary.LittleEndian.Uint32(b[8:]) {
		return c, ringDamage(-1, "header is damaged")
	}
	if v := binary.LittleEndian.Uint16(b[4:]); v != ringVersion {
		return c, ringDamage(-1, fmt.Sprintf("format version %d: damaged, or written by a later version of this program", v))
	}
	r := ring{generation: binary.LittleEndian.Uint64(b[16:]), sectionBytes: int64(binary.LittleEndian.Uint64(b[24:]))}
	if !bytes.Equal(r.header(), b[:ringAlign]) {
		return c, ringDamage(-1, "header is damaged")
	}
	if r.sectionBytes <= 0 || r.sectionBytes > maxRing || r.size() != int64(len(b)) {
		return c, &TamperError{
			Path: ringName, Index: -1, Reason: "file has another size than its header says",
			Want: strconv.FormatInt(r.size(), 10), Got: strconv.Itoa(len(b)),
		}
	}
	c.generation = r.generation
	return c, nil
}

// connect picks from the frames found those that count: back from the newest
// to the last sync that it names. Older ones are leftovers that are about to
// be written over; a gap on the way is damage, because only the frame after
// the newest can be missing by a crash.
func (c *chain) connect(found []frame) error {
	slices.SortFunc(found, func(a, b frame) int { return cmp.Compare(a.lsn, b.lsn) })
	first := len(found) - 1
	for need := int64(found[first].durable); found[first].group.base > need; first-- {
		if first == 0 || found[first-1].lsn+1 != found[first].lsn || found[first-1].end() != found[first].group.base {
			return ringDamage(found[first].group.base-1, "frame is missing or damaged, a later one is there")
		}
	}
	if got := found[first].group.base; got != int64(found[len(found)-1].durable) {
		return ringDamage(got, "frames do not begin at the last sync")
	}
	c.frames = found[first:]
	return nil
}
