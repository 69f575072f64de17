package audit

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"

	"github.com/kaizen-go/kaizen/internal/merkle"
)

// cursor reads the lines of segments in order, and beside each line the hash
// that is stored for it. It reads no further than the sizes that the segments
// had when they were opened.
type cursor struct {
	segs  []*segment
	k     int   // current segment
	off   int64 // of the next line in it
	index int64 // of the next line

	buf        []byte // window on the lines, after one spare byte
	start, end int    // buf[start:end] is the file from off on
	line       int    // where the line begins that was returned last

	hashBuf   []byte
	hashFirst int64 // index of the first hash in hashBuf
	hashLast  int64 // and one past the last
}

const (
	windowBytes = 1 << 20
	hashWindow  = 4096 // hashes read at once
)

func newCursor(segs []*segment) *cursor { return &cursor{segs: segs, index: segs[0].base} }

func (c *cursor) seg() *segment { return c.segs[c.k] }

// skipTo moves to entry index, before which the segments hold that many bytes.
func (c *cursor) skipTo(index, bytes int64) {
	for c.k+1 < len(c.segs) && c.segs[c.k+1].base <= index {
		bytes -= c.segs[c.k].size
		c.k++
	}
	c.index, c.off = index, bytes
}

// next reads the next line, which stays valid until the following call. want
// is how many entries there should be, for the error if there are fewer.
func (c *cursor) next(want int64) (line []byte, stored [32]byte, err error) {
	line, err = c.nextLine()
	if errors.Is(err, io.EOF) {
		err = &TamperError{
			Path: c.seg().path(), Index: c.index, Reason: "entry is missing",
			Want: strconv.FormatInt(want, 10) + " entries", Got: strconv.FormatInt(c.index, 10),
		}
	}
	if err != nil {
		return nil, stored, err
	}
	stored, err = c.hash(c.index)
	c.index++
	return line, stored, err
}

// nextLine moves past the next line; io.EOF after the last segment's end.
func (c *cursor) nextLine() ([]byte, error) {
	for {
		if i := bytes.IndexByte(c.buf[c.start:c.end], '\n'); i >= 0 {
			line := c.buf[c.start : c.start+i]
			c.line = c.start
			if i > MaxLineBytes {
				return nil, c.broken(fmt.Sprintf("line of more than %d bytes", MaxLineBytes))
			}
			c.start += i + 1
			c.off += int64(i) + 1
			return line, nil
		}
		left := c.seg().size - c.off
		pending := int64(c.end - c.start)
		switch {
		case pending > MaxLineBytes:
			return nil, c.broken(fmt.Sprintf("line of more than %d bytes", MaxLineBytes))
		case left > pending:
			if err := c.fill(); err != nil {
				return nil, err
			}
		case left > 0:
			return nil, c.broken("line is cut off")
		default:
			if err := c.nextSegment(); err != nil {
				return nil, err
			}
		}
	}
}

func (c *cursor) broken(reason string) error {
	return &TamperError{Path: c.seg().path(), Index: c.index, Reason: reason}
}

// fill reads more of the current segment into the window.
func (c *cursor) fill() error {
	if c.buf == nil {
		c.buf = make([]byte, 1+min(windowBytes, c.largest()))
	}
	c.end = 1 + copy(c.buf[1:], c.buf[c.start:c.end])
	c.start = 1
	at := c.off + int64(c.end-c.start)
	room := min(int64(len(c.buf)-c.end), c.seg().size-at)
	n, err := c.seg().lines.ReadAt(c.buf[c.end:c.end+int(room)], at)
	c.end += n
	if n > 0 {
		return nil
	}
	if errors.Is(err, io.EOF) {
		return c.broken("file became shorter while it was read")
	}
	return err
}

// leaf is the hash of the line that next returned. It takes the byte before the
// line, which is its predecessor's newline, for the prefix of leaves: so the
// line need not be copied.
func (c *cursor) leaf(line []byte) merkle.Hash {
	return merkle.HashPrefixed(c.buf[c.line-1 : c.line+len(line)])
}

// largest is the size of the largest segment: no window need be larger.
func (c *cursor) largest() int64 {
	var n int64
	for _, seg := range c.segs {
		n = max(n, seg.size)
	}
	return n
}

func (c *cursor) nextSegment() error {
	if c.k+1 == len(c.segs) {
		return io.EOF
	}
	next := c.segs[c.k+1]
	if next.base != c.index {
		return &TamperError{
			Path: c.seg().path(), Index: c.index, Reason: "segment does not reach the next one, " + next.path(),
			Want: strconv.FormatInt(next.base, 10) + " entries before it", Got: strconv.FormatInt(c.index, 10),
		}
	}
	c.k++
	c.off, c.start, c.end = 0, 0, 0
	return nil
}

// hash is the stored hash of entry i of the current segment.
func (c *cursor) hash(i int64) (h [32]byte, err error) {
	if i < c.hashFirst || i >= c.hashLast || c.hashFirst < c.seg().base {
		if err := c.fillHashes(i); err != nil {
			return h, err
		}
	}
	copy(h[:], c.hashBuf[(i-c.hashFirst)*32:])
	return h, nil
}

func (c *cursor) fillHashes(i int64) error {
	if c.hashBuf == nil {
		// A line has more than 64 bytes: there are at most so many hashes.
		c.hashBuf = make([]byte, 32*min(hashWindow, c.largest()/64+1))
	}
	if c.seg().hashes == nil {
		return missing(c.seg().hashPath(), i)
	}
	n, err := c.seg().hashes.ReadAt(c.hashBuf, (i-c.seg().base)*32)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	c.hashFirst, c.hashLast = i, i+int64(n/32)
	if n < 32 {
		return &TamperError{Path: c.seg().hashPath(), Index: i, Reason: "hash is missing"}
	}
	return nil
}
