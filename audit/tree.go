package audit

import (
	"errors"
	"fmt"
	"io"
	"sort"
	"sync"

	"github.com/kaizen-go/kaizen/internal/durable"
	"github.com/kaizen-go/kaizen/internal/merkle"
)

// The tree of a ledger is kept in steps of eight levels, as C2SP's tiles are:
// the leaf hashes, in the .l0 file of their segment, and the nodes of level 8,
// 16, 24 and so on, each in the .nodes file of the segment that has the last
// leaf under it. What lies between is computed: at most 255 nodes from one
// read. Segments that are not sealed have their leaf hashes in memory too, and
// no .nodes yet.

// tileHeight is the number of levels in one step.
const tileHeight = merkle.TileHeight

// nodeCache keeps nodes of segments that are not sealed.
type nodeCache struct {
	mu    sync.Mutex // guards nodes
	nodes map[nodeKey]merkle.Hash
}

type nodeKey struct {
	step int
	i    int64
}

// maxNodes bounds a nodeCache: 8192 nodes of level 8 stand for two million entries.
const maxNodes = 8192

func (c *nodeCache) get(k nodeKey) (merkle.Hash, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	h, ok := c.nodes[k]
	return h, ok
}

func (c *nodeCache) put(k nodeKey, h merkle.Hash) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.nodes == nil || len(c.nodes) >= maxNodes {
		c.nodes = map[nodeKey]merkle.Hash{}
	}
	c.nodes[k] = h
}

// treeView is the tree of a ledger at one moment. It needs no lock, and its
// methods may be called at once.
type treeView struct {
	files  *handles
	cache  *nodeCache
	sealed []*segment
	raws   []rawLeaves
	size   int64
}

type rawLeaves struct {
	base   int64
	leaves hashList
}

// view is the tree as it is now.
func (s *store) view() (*treeView, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed {
		return nil, ErrClosed
	}
	return s.viewLocked(), nil
}

// viewLocked is view for callers that hold mu.
func (s *store) viewLocked() *treeView {
	v := &treeView{files: s.files, cache: &s.nodes, sealed: s.sealed, size: s.size()}
	for _, seg := range s.segs {
		v.raws = append(v.raws, rawLeaves{seg.base, seg.leaves})
	}
	return v
}

func (v *treeView) nodes() merkle.Nodes { return v.node }

// Root is the root of the first size leaves.
func (v *treeView) Root(size int64) (merkle.Hash, error) {
	if size < 0 || size > v.size {
		return merkle.Hash{}, fmt.Errorf("root of %d entries: there are %d", size, v.size)
	}
	return v.nodes().Root(size)
}

// Leaf is the hash of the entry at index i.
func (v *treeView) Leaf(i int64) (merkle.Hash, error) {
	hs, err := v.span(0, i, 1)
	if err != nil {
		return merkle.Hash{}, err
	}
	return hs[0], nil
}

// Inclusion proves that the entry at index is in the tree of size entries.
func (v *treeView) Inclusion(index, size int64) ([]merkle.Hash, error) {
	if size > v.size {
		return nil, fmt.Errorf("prove entry %d in tree of %d: there are %d", index, size, v.size)
	}
	return v.nodes().Inclusion(index, size)
}

// Consistency proves that the tree of old entries is a prefix of that of size.
func (v *treeView) Consistency(old, size int64) ([]merkle.Hash, error) {
	if size > v.size {
		return nil, fmt.Errorf("prove tree of %d consistent with tree of %d: there are %d entries", old, size, v.size)
	}
	return v.nodes().Consistency(old, size)
}

// Tile returns the hashes of a C2SP tile.
func (v *treeView) Tile(level int, index int64, width int) ([]merkle.Hash, error) {
	if err := merkle.CheckTile(level, index, width, v.size); err != nil {
		return nil, err
	}
	return v.span(level, index*merkle.TileWidth, int64(width))
}

// node is the hash of the i-th perfect subtree of 2^level leaves.
func (v *treeView) node(level int, i int64) (merkle.Hash, error) {
	up := level % tileHeight
	hs, err := v.span(level/tileHeight, i<<up, 1<<up)
	if err != nil {
		return merkle.Hash{}, err
	}
	return merkle.Perfect(hs), nil
}

// span returns n nodes of that step from the i-th on. The slice is the caller's.
func (v *treeView) span(step int, i, n int64) ([]merkle.Hash, error) {
	out := make([]merkle.Hash, 0, n)
	for i0 := i; i < i0+n; {
		last := (i+1)<<(step*tileHeight) - 1 // the last leaf under the first node wanted
		if last >= v.size {
			return nil, fmt.Errorf("hash of entry %d: there are %d", last, v.size)
		}
		seg := v.find(last)
		var more []merkle.Hash
		var err error
		if seg != nil {
			// All that end in this segment, as far as wanted.
			end := min(i0+n, seg.end()>>(step*tileHeight))
			more, err = v.read(seg, step, i, end-i)
		} else {
			more, err = v.raw(step, i, i0+n)
		}
		if err != nil {
			return nil, err
		}
		out = append(out, more...)
		i += int64(len(more))
	}
	return out, nil
}

// find is the sealed segment that entry i is in, nil if it is not in one.
func (v *treeView) find(i int64) *segment { return findSealed(v.sealed, i) }

func findSealed(sealed []*segment, i int64) *segment {
	k := sort.Search(len(sealed), func(k int) bool { return sealed[k].end() > i })
	if k == len(sealed) {
		return nil
	}
	return sealed[k]
}

// read reads n nodes of that step from the i-th on from a sealed segment,
// which has them all.
func (v *treeView) read(seg *segment, step int, i, n int64) ([]merkle.Hash, error) {
	path, at := seg.hashPath(), i-seg.base
	if step > 0 {
		path, at = seg.nodesPath(), i-seg.base>>(step*tileHeight)
		for k := 1; k < step; k++ {
			at += nodesIn(seg.base, seg.end(), k)
		}
	}
	buf := make([]byte, n*32)
	err := v.files.use(path, func(f durable.File, _ int64) error {
		got, err := f.ReadAt(buf, at*32)
		if got < len(buf) {
			if err != nil && !errors.Is(err, io.EOF) {
				return err
			}
			return &TamperError{Path: path, Index: (i + int64(got/32)) << (step * tileHeight), Reason: "hash is missing"}
		}
		return nil
	})
	if err != nil {
		return nil, missingFile(err, path, seg.base)
	}
	out := make([]merkle.Hash, n)
	for k := range out {
		copy(out[k][:], buf[k*32:])
	}
	return out, nil
}

// nodesIn is how many nodes of that step end among the entries from base to
// end-1.
func nodesIn(base, end int64, step int) int64 {
	return end>>(step*tileHeight) - base>>(step*tileHeight)
}

// raw returns nodes from the i-th to the one before end that are in memory, or
// follow from what is: at least one.
func (v *treeView) raw(step int, i, end int64) ([]merkle.Hash, error) {
	if step == 0 {
		k := sort.Search(len(v.raws), func(k int) bool { return v.raws[k].base+v.raws[k].leaves.len() > i })
		if k == len(v.raws) || v.raws[k].base > i {
			return nil, fmt.Errorf("hash of entry %d is not in memory", i)
		}
		r := v.raws[k]
		return r.leaves.run(i-r.base, end-r.base), nil
	}
	key := nodeKey{step, i}
	if h, ok := v.cache.get(key); ok {
		return []merkle.Hash{h}, nil
	}
	below, err := v.span(step-1, i*merkle.TileWidth, merkle.TileWidth)
	if err != nil {
		return nil, err
	}
	h := merkle.Perfect(below)
	v.cache.put(key, h)
	return []merkle.Hash{h}, nil
}
