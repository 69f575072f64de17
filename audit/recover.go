package audit

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"github.com/kaizen-go/kaizen/internal/merkle"
)

// What recovery, readers and verification have in common: how the ring, the
// checkpoint and the segments must fit each other.

// anchor is the number of entries that must be in the segments in full: those
// that were synced when the newest frame was written, and those that the
// checkpoint covers, which is published after a sync. Later ones may be in the
// ring alone.
func anchor(ring *chain, published Checkpoint) (int64, error) {
	if len(ring.frames) > 0 && ring.end() < published.Size {
		return 0, &TamperError{
			Path: ringName, Index: ring.end(), Reason: "ring is older than the checkpoint",
			Want: strconv.FormatInt(published.Size, 10) + " entries", Got: strconv.FormatInt(ring.end(), 10),
		}
	}
	return max(ring.start(), published.Size), nil
}

// after returns the entries from index a on, which the ring holds.
func (c *chain) after(a int64) []group {
	var rest []group
	for i := range c.frames {
		g := c.frames[i].group
		if g.base+int64(g.len()) <= a {
			continue
		}
		if skip := int(a - g.base); skip > 0 { // a checkpoint may end within a frame of another run
			start := g.start(skip)
			cut := group{base: a, buf: g.buf[start:], leaves: g.leaves[skip:]}
			for _, end := range g.ends[skip:] {
				cut.ends = append(cut.ends, end-start)
			}
			g = cut
		}
		rest = append(rest, g)
	}
	return rest
}

// rootsWanted are the sizes at which the tree of the loaded entries is to be
// compared: that of the checkpoint, and those that the frames begin at, as far
// as they come after the sealed segments.
func rootsWanted(ring *chain, published Checkpoint, sealed int64) map[int64]merkle.Hash {
	roots := map[int64]merkle.Hash{published.Size: {}}
	for i := range ring.frames {
		if base := ring.frames[i].group.base; base >= sealed {
			roots[base] = merkle.Hash{}
		}
	}
	return roots
}

// checkRoots compares the tree of the loaded entries with the checkpoint and
// with the roots that the frames carry.
func checkRoots(roots map[int64]merkle.Hash, ring *chain, published Checkpoint) error {
	if got := roots[published.Size]; got != published.Root {
		return rootMismatch(checkpointName, published.Root, got)
	}
	for i := range ring.frames {
		f := &ring.frames[i]
		if got, ok := roots[f.group.base]; ok && got != (merkle.Hash{}) && got != f.root {
			return rootMismatch(ringName, f.root, got)
		}
	}
	return nil
}

// adopt takes over what the manifest says about sealed segments.
func (s *store) adopt(m *manifest) error {
	edge, err := merkle.NewTree(m.end(), m.edge)
	if err != nil {
		return &TamperError{Path: manifestName, Index: -1, Reason: err.Error()}
	}
	s.edge = edge
	s.sealed = make([]*segment, len(m.records))
	for i, r := range m.records {
		s.sealed[i] = newSealed(r)
	}
	return nil
}

// loaded is the tree of all entries, to go on appending to.
func (s *store) loaded() merkle.Tree {
	tree := s.edge.Clone()
	for _, seg := range s.segs {
		for run := range seg.leaves.runs() {
			tree.AppendAll(run)
		}
	}
	return tree
}

// rootMismatch is without an index: lines and stored hashes agree with each
// other, so nothing says which of them is not what was signed.
func rootMismatch(path string, want, got merkle.Hash) *TamperError {
	return &TamperError{
		Path: path, Index: -1, Reason: "entries and their stored hashes agree, but not with the signed root",
		Want: fmt.Sprintf("root %x", want), Got: fmt.Sprintf("%x", got),
	}
}

// blame finds out, when a line and its stored hash differ, which of them is
// wrong: the one whose tree has not the signed root. Other errors pass.
func (s *store) blame(err error, published Checkpoint) error {
	var t *TamperError
	if !errors.As(err, &t) || t.Index < 0 || t.Index >= published.Size || t.Reason != hashMismatchReason {
		return err
	}
	lines, stored := rootsOf(s.edge, s.segs, published.Size)
	switch published.Root {
	case lines:
		seg := s.segs[len(s.segs)-1]
		for _, sg := range s.segs {
			if sg.base <= t.Index {
				seg = sg
			}
		}
		return &TamperError{Path: seg.hashPath(), Index: t.Index, Reason: "stored hash is wrong, the entry is right", Want: t.Got, Got: t.Want}
	case stored:
		return &TamperError{Path: t.Path, Index: t.Index, Reason: "entry is not the signed one: its hash differs", Want: t.Want, Got: t.Got}
	}
	return err
}

// rootsOf computes the root of the first size lines, and of the first size
// stored hashes, each the zero hash if they cannot be read. The tree of the
// entries before segs is edge.
func rootsOf(edge merkle.Tree, segs []*segment, size int64) (lines, stored merkle.Hash) {
	a, b := edge.Clone(), edge.Clone()
	c := newCursor(segs)
	for a.Size() < size {
		line, h, err := c.next(size)
		if err != nil {
			break
		}
		a.Append(merkle.HashLeaf(line))
		b.Append(h)
	}
	if a.Size() == size {
		return a.Root(), b.Root()
	}
	return linesRoot(edge, segs, size), storedRoot(edge, segs, size)
}

// linesRoot is the root by the lines alone, for hash files that are too short.
func linesRoot(edge merkle.Tree, segs []*segment, size int64) merkle.Hash {
	tree := edge.Clone()
	for c := newCursor(segs); tree.Size() < size; c.index++ {
		line, err := c.nextLine()
		if err != nil {
			return merkle.Hash{}
		}
		tree.Append(merkle.HashLeaf(line))
	}
	return tree.Root()
}

// storedRoot is the root by the hash files alone, for lines that cannot be
// told apart any more.
func storedRoot(edge merkle.Tree, segs []*segment, size int64) merkle.Hash {
	tree := edge.Clone()
	for k, seg := range segs {
		end := size
		if k+1 < len(segs) {
			end = min(size, segs[k+1].base)
		}
		c := cursor{segs: segs, k: k}
		for i := seg.base; i < end; i++ {
			h, err := c.hash(i)
			if err != nil {
				return merkle.Hash{}
			}
			tree.Append(h)
		}
	}
	if tree.Size() != size {
		return merkle.Hash{}
	}
	return tree.Root()
}

// compareTail checks what the segments hold beyond the cursor against the
// lines in the ring. Those bytes were not synced, so each may be missing, or
// zero as a lost page reads; anything else was never written by a ledger.
func compareTail(c *cursor, rest *[]group) error {
	t := tail{groups: *rest, next: c.index}
	for k := c.k; k < len(c.segs); k++ {
		seg, off := c.segs[k], int64(0)
		if k == c.k {
			off = c.off
		} else if !t.moveTo(seg.base) {
			return &TamperError{Path: seg.path(), Index: seg.base, Reason: "segment holds nothing that the checkpoint or the ring covers"}
		}
		if err := t.compare(seg, off); err != nil {
			return err
		}
	}
	return nil
}

// tail walks the lines of groups, which follow each other.
type tail struct {
	groups []group
	next   int64 // index of the next line
}

// moveTo goes to the line at index i, which may be the end.
func (t *tail) moveTo(i int64) bool {
	end := t.next
	if n := len(t.groups); n > 0 {
		end = t.groups[n-1].base + int64(t.groups[n-1].len())
	}
	ok := i >= t.next && i <= end
	t.next = i
	return ok
}

// line is the next line with its newline, nil at the end.
func (t *tail) line() []byte {
	for len(t.groups) > 0 {
		g := &t.groups[0]
		if i := int(t.next - g.base); i < g.len() {
			return g.buf[g.start(i):g.ends[i]]
		}
		t.groups = t.groups[1:]
	}
	return nil
}

// compare checks the bytes of seg from off on against the lines that come.
func (t *tail) compare(seg *segment, off int64) error {
	for off < seg.size {
		want := t.line()
		if want == nil && off >= seg.seen {
			return nil // written after we looked, by a ledger that is open
		}
		if want == nil {
			return &TamperError{
				Path: seg.path(), Index: t.next, Reason: "more than the checkpoint and the ring cover",
				Got: strconv.FormatInt(seg.size-off, 10) + " bytes",
			}
		}
		got := make([]byte, min(int64(len(want)), seg.size-off))
		if _, err := seg.lines.ReadAt(got, off); err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		for i, b := range got {
			if b != want[i] && b != 0 {
				return &TamperError{Path: seg.path(), Index: t.next, Reason: "entry is not the one in the ring", Want: string(want), Got: string(got)}
			}
		}
		off += int64(len(got))
		t.next++
	}
	return nil
}

// cut ends the segments at the cursor: what follows is in the ring and gets
// written anew.
func (s *store) cut(c *cursor) error {
	for _, seg := range s.segs[c.k+1:] {
		if err := seg.close(); err != nil {
			return err
		}
		if err := errors.Join(s.remove(seg.hashPath()), s.remove(seg.path())); err != nil {
			return err
		}
	}
	s.segs = s.segs[:c.k+1]
	seg := c.seg()
	seg.size = c.off
	if seg.hashes == nil { // a crash while it was created; it has no entry yet
		var err error
		if seg.hashes, err = s.openFile(seg.hashPath(), os.O_RDWR|os.O_CREATE); err != nil {
			return err
		}
		if err := s.fsys.SyncDir(filepath.Join(s.dir, segDir)); err != nil {
			return err
		}
	}
	if err := seg.lines.Truncate(c.off); err != nil {
		return err
	}
	return seg.hashes.Truncate((c.index - seg.base) * 32)
}

func (s *store) remove(path string) error {
	err := removeSynced(s.fsys, s.dir, path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
