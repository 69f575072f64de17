package audit

import (
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"syscall"

	"github.com/kaizen-go/kaizen/internal/durable"
)

// The ring is a pre-written file in which every group of entries becomes
// durable before it is acknowledged. Its blocks are allocated and zeroed
// beforehand, so a sync is one flush of the device, without the journal commit
// that a growing file costs (1.35 to 1.8 times as dear, measured). It is cut
// into sections; one is written over again only after the entries in it were
// synced in their segment.
const (
	ringAlign    = 4096 // no page that holds an acknowledged frame is rewritten
	ringSections = 4
)

// ring is the writing side. It belongs to the committer.
type ring struct {
	file         durable.File
	mac          *frameMACer
	generation   uint64
	sectionBytes int64
	lsn          uint64
	pos          int64               // where the next frame goes
	ends         [ringSections]int64 // entries that must be durable elsewhere before reuse
	direct       bool                // writes are durable when they return
}

// createRing replaces whatever ring there was by a zeroed one. A crash leaves
// the old one or the new one, never a mixture.
func createRing(fsys durable.FS, dir string, s *signer, generation uint64, sectionBytes int64) (*ring, error) {
	name := filepath.Join(dir, ringName)
	f, err := fsys.OpenFile(name+tmpExt, os.O_RDWR|os.O_CREATE|os.O_TRUNC, durable.FilePerm)
	if err != nil {
		return nil, err
	}
	r := &ring{file: f, mac: newFrameMACer(s.macKey), generation: generation, sectionBytes: sectionBytes, pos: ringAlign}
	if err := r.format(fsys, name); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return r, r.goDirect(fsys, name)
}

// goDirect opens the ring anew so that each write is durable when it returns,
// if the file system can do that.
func (r *ring) goDirect(fsys durable.FS, name string) error {
	if durable.DirectFlag == 0 {
		return nil
	}
	f, err := fsys.OpenFile(name, os.O_RDWR|durable.DirectFlag, 0)
	if err != nil {
		return nil // we have it open as it is
	}
	block := durable.AlignedBuffer(ringAlign)
	copy(block, r.header())
	if _, err := f.WriteAt(block, 0); errors.Is(err, syscall.EINVAL) {
		return f.Close()
	} else if err != nil {
		return errors.Join(err, f.Close(), r.file.Close())
	}
	old := r.file
	r.file, r.direct = f, true
	return old.Close()
}

func (r *ring) format(fsys durable.FS, name string) error {
	if _, err := r.file.WriteAt(r.header(), 0); err != nil {
		return err
	}
	zeros := make([]byte, min(r.sectionBytes, 1<<20))
	for at, size := int64(ringAlign), r.size(); at < size; at += int64(len(zeros)) {
		if _, err := r.file.WriteAt(zeros[:min(int64(len(zeros)), size-at)], at); err != nil {
			return err
		}
	}
	if err := r.file.Sync(); err != nil {
		return err
	}
	if err := fsys.Rename(name+tmpExt, name); err != nil {
		return err
	}
	return fsys.SyncDir(filepath.Dir(name))
}

func (r *ring) size() int64 { return ringAlign + ringSections*r.sectionBytes }

func (r *ring) section(pos int64) int { return int((pos - ringAlign) / r.sectionBytes) }

// frameSize is the room that a payload of n bytes takes.
func frameSize(n int) int64 {
	return (int64(frameHeaderLen+n) + ringAlign - 1) / ringAlign * ringAlign
}

// next says where a frame for n bytes goes, and whether it opens a section:
// then the section's earlier entries, below ends, must be durable first.
func (r *ring) next(n int) (pos int64, opens bool) {
	pos = r.pos
	at := (pos - ringAlign) % r.sectionBytes
	if at+frameSize(n) > r.sectionBytes { // does not fit: on to the next section
		pos += r.sectionBytes - at
		at = 0
	}
	if pos >= r.size() {
		pos = ringAlign
	}
	return pos, at == 0
}

// needed is how many entries must be durable in the segments before the section
// at pos is opened: all that the section after it holds. Only then does each frame
// here name more than that. Were it less, and the power lost while the next section
// is begun, the newest whole frame would still need the one that was written over.
func (r *ring) needed(pos int64) int64 { return r.ends[(r.section(pos)+1)%ringSections] }

// write makes g durable at pos, as given by next.
func (r *ring) write(pos int64, g *group, root [32]byte, durableTo int64) error {
	h := frameHeader{
		generation: r.generation, lsn: r.lsn, base: uint64(g.base), durable: uint64(durableTo),
		count: uint32(g.len()), length: uint32(len(g.buf)), root: root,
	}
	end := frameHeaderLen + len(g.buf)
	b := g.frame[:frameSize(len(g.buf))]
	clear(b[end:])
	h.put(b[:end], r.mac.of(&h, g.leaves))
	if _, err := r.file.WriteAt(b, pos); err != nil {
		return err
	}
	if !r.direct {
		if err := r.file.Sync(); err != nil {
			return err
		}
	}
	r.lsn++
	r.pos = pos + int64(len(b))
	r.ends[r.section(pos)] = g.base + int64(g.len())
	return nil
}

// header is the first block of the file: what the frames are read with.
func (r *ring) header() []byte {
	b := make([]byte, ringAlign)
	copy(b, ringMagic)
	binary.LittleEndian.PutUint16(b[4:], ringVersion)
	binary.LittleEndian.PutUint16(b[6:], ringHeaderLen)
	binary.LittleEndian.PutUint32(b[12:], ringSections)
	binary.LittleEndian.PutUint64(b[16:], r.generation)
	binary.LittleEndian.PutUint64(b[24:], uint64(r.sectionBytes))
	binary.LittleEndian.PutUint32(b[8:], checksum(b[12:ringHeaderLen]))
	return b
}
