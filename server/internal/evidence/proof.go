package evidence

import (
	"bufio"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/tlog"
)

// One proof for many entries: the tree of all entries, left to right, as its
// shortest list of nodes beside the entries of the pack.
//
//	kaizen evidence-proof v1
//	0 4 <hash of the subtree of entries 0 to 3>
//	4 <leaf hash of entry 4, which is in the pack>
//	5 6 <hash of entry 5>
//
// Each node spans a power of two of entries and begins at a multiple of that, so
// neighbours of one size join to the next larger one. What is left at the end are
// the peaks of the tree, which give its root.

const proofFirstLine = "kaizen evidence-proof v1"

// proofWriter writes the lines, in the order of the entries.
type proofWriter struct {
	w     *bufio.Writer
	src   Source
	size  int64
	pos   int64
	tiles map[int]cachedTile // the newest one of each level
}

type cachedTile struct {
	index int64
	data  []byte
}

func newProofWriter(w io.Writer, src Source, size int64) (*proofWriter, error) {
	p := &proofWriter{w: bufio.NewWriter(w), src: src, size: size, tiles: map[int]cachedTile{}}
	_, err := p.w.WriteString(proofFirstLine + "\n")
	return p, err
}

// entry writes what leads from the last entry to this one, and its leaf hash.
func (p *proofWriter) entry(ctx context.Context, index int64, leaf tlog.Hash) error {
	if index < p.pos || index >= p.size {
		return fmt.Errorf("evidence: entry %d comes after %d of %d", index, p.pos, p.size)
	}
	if err := p.skipTo(ctx, index); err != nil {
		return err
	}
	p.pos++
	_, err := fmt.Fprintf(p.w, "%d %s\n", index, base64.StdEncoding.EncodeToString(leaf[:]))
	return err
}

// end writes what follows the last entry.
func (p *proofWriter) end(ctx context.Context) error {
	if err := p.skipTo(ctx, p.size); err != nil {
		return err
	}
	return p.w.Flush()
}

func (p *proofWriter) skipTo(ctx context.Context, to int64) error {
	for p.pos < to {
		height := bits.Len64(uint64(to-p.pos)) - 1
		if p.pos > 0 {
			height = min(height, bits.TrailingZeros64(uint64(p.pos)))
		}
		h, err := p.node(ctx, p.pos, height)
		if err != nil {
			return err
		}
		end := p.pos + int64(1)<<height
		if _, err := fmt.Fprintf(p.w, "%d %d %s\n", p.pos, end, base64.StdEncoding.EncodeToString(h[:])); err != nil {
			return err
		}
		p.pos = end
	}
	return nil
}

// node is the hash of the 2^height entries from lo on, from the tiles.
func (p *proofWriter) node(ctx context.Context, lo int64, height int) (tlog.Hash, error) {
	const tileHeight, tileWidth = 8, 256
	level, rest := height/tileHeight, height%tileHeight
	at := lo >> (level * tileHeight)
	index, offset := at/tileWidth, at%tileWidth
	t, ok := p.tiles[level]
	if !ok || t.index != index {
		width := min(tileWidth, p.size>>(level*tileHeight)-index*tileWidth)
		data, err := p.src.Tile(ctx, level, index, int(width))
		if err != nil {
			return tlog.Hash{}, fmt.Errorf("evidence: tile %d of level %d: %w", index, level, err)
		}
		if int64(len(data)) != width*tlog.HashSize {
			return tlog.Hash{}, fmt.Errorf("evidence: tile %d of level %d has %d bytes", index, level, len(data))
		}
		t = cachedTile{index, data}
		p.tiles[level] = t
	}
	hashes := make([]tlog.Hash, 1<<rest)
	for i := range hashes {
		copy(hashes[i][:], t.data[(offset+int64(i))*tlog.HashSize:])
	}
	for len(hashes) > 1 {
		for i := range len(hashes) / 2 {
			hashes[i] = tlog.NodeHash(hashes[2*i], hashes[2*i+1])
		}
		hashes = hashes[:len(hashes)/2]
	}
	return hashes[0], nil
}

// peaks joins nodes from left to right.
type peaks struct {
	size   int64
	nodes  []tlog.Hash // one for each bit of size, the largest first
	levels []int
}

// add takes the next node, of 2^height entries.
func (p *peaks) add(h tlog.Hash, height int) error {
	if p.size&(int64(1)<<height-1) != 0 {
		return fmt.Errorf("a node of %d entries cannot begin at %d", int64(1)<<height, p.size)
	}
	p.size += int64(1) << height
	for n := len(p.levels); n > 0 && p.levels[n-1] == height; n-- {
		h = tlog.NodeHash(p.nodes[n-1], h)
		p.nodes, p.levels = p.nodes[:n-1], p.levels[:n-1]
		height++
	}
	p.nodes, p.levels = append(p.nodes, h), append(p.levels, height)
	return nil
}

func (p *peaks) root() tlog.Hash {
	if len(p.nodes) == 0 {
		h, _ := tlog.TreeHash(0, nil)
		return h
	}
	h := p.nodes[len(p.nodes)-1]
	for i := len(p.nodes) - 2; i >= 0; i-- {
		h = tlog.NodeHash(p.nodes[i], h)
	}
	return h
}

// proofReader reads the lines that proofWriter wrote, and adds up the tree.
type proofReader struct {
	lines *bufio.Scanner
	n     int // of the line
	size  int64
	tree  peaks
}

func newProofReader(r io.Reader, size int64) (*proofReader, error) {
	p := &proofReader{lines: bufio.NewScanner(r), size: size}
	if line, ok, err := p.line(); err != nil {
		return nil, err
	} else if !ok || line != proofFirstLine {
		return nil, errors.New("is not a proof")
	}
	return p, nil
}

func (p *proofReader) line() (string, bool, error) {
	if !p.lines.Scan() {
		return "", false, p.lines.Err()
	}
	p.n++
	return p.lines.Text(), true, nil
}

// next passes over nodes and returns the next entry's index and leaf hash, which
// is taken in. False at the end.
func (p *proofReader) next() (index int64, leaf tlog.Hash, ok bool, err error) {
	for {
		line, ok, err := p.line()
		if err != nil || !ok {
			return 0, leaf, false, err
		}
		lo, hi, h, err := parseProofLine(line)
		if err != nil || lo != p.tree.size || hi > p.size {
			return 0, leaf, false, fmt.Errorf("line %d does not continue the tree at %d", p.n, p.tree.size)
		}
		if hi == lo { // an entry
			return lo, h, true, p.tree.add(h, 0)
		}
		height := bits.TrailingZeros64(uint64(hi - lo))
		if hi-lo != int64(1)<<height {
			return 0, leaf, false, fmt.Errorf("line %d spans %d entries, which is no power of two", p.n, hi-lo)
		}
		if err := p.tree.add(h, height); err != nil {
			return 0, leaf, false, fmt.Errorf("line %d: %w", p.n, err)
		}
	}
}

// parseProofLine reads "lo hi hash", or "index hash" with hi = lo.
func parseProofLine(line string) (lo, hi int64, h tlog.Hash, err error) {
	fields := strings.Split(line, " ")
	if len(fields) != 2 && len(fields) != 3 {
		return 0, 0, h, errors.New("not two or three fields")
	}
	if lo, err = number(fields[0]); err != nil {
		return 0, 0, h, err
	}
	hi = lo
	if len(fields) == 3 {
		if hi, err = number(fields[1]); err != nil || hi <= lo {
			return 0, 0, h, errors.New("ends before it begins")
		}
	}
	b, err := base64.StdEncoding.Strict().DecodeString(fields[len(fields)-1])
	if err != nil || len(b) != len(h) {
		return 0, 0, h, errors.New("no hash")
	}
	return lo, hi, tlog.Hash(b), nil
}

// number reads a decimal number in its one spelling.
func number(s string) (int64, error) {
	n, err := strconv.ParseInt(s, 10, 64)
	if err == nil && (n < 0 || strconv.FormatInt(n, 10) != s) {
		err = strconv.ErrSyntax
	}
	return n, err
}
