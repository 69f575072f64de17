package audit

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"
)

// A sealed segment's lines are zstd frames of groupLen lines each, so that one
// line costs the reading of one frame, and after them a seek table in a
// skippable frame (the seekable format of zstd's contrib directory), which
// zstdcat passes over.

const (
	skippableMagic = 0x184D2A5E
	seekableMagic  = 0x8F92EAB1
	seekEntryLen   = 8
	seekFooterLen  = 9
	// maxGroupBytes is the size of a group of the longest lines.
	maxGroupBytes = groupLen * (MaxLineBytes + 1)
)

// frameWriter writes the frames and the seek table of a sealed segment.
type frameWriter struct {
	w     io.Writer
	enc   *zstd.Encoder
	buf   []byte
	table []byte
	n     int
	bytes int64
}

// newFrameEncoder compresses whole frames. It may be used again and again, by
// one goroutine at a time.
func newFrameEncoder() (*zstd.Encoder, error) {
	return zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedBetterCompression), zstd.WithEncoderConcurrency(1),
		zstd.WithWindowSize(1<<20), zstd.WithLowerEncoderMem(true))
}

// write compresses one group of lines.
func (f *frameWriter) write(lines []byte) error {
	f.buf = f.enc.EncodeAll(lines, f.buf[:0])
	f.table = binary.LittleEndian.AppendUint32(f.table, uint32(len(f.buf)))
	f.table = binary.LittleEndian.AppendUint32(f.table, uint32(len(lines)))
	f.n++
	f.bytes += int64(len(f.buf))
	_, err := f.w.Write(f.buf)
	return err
}

// finish writes the seek table.
func (f *frameWriter) finish() error {
	b := binary.LittleEndian.AppendUint32(nil, skippableMagic)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(f.table)+seekFooterLen))
	b = append(b, f.table...)
	b = binary.LittleEndian.AppendUint32(b, uint32(f.n))
	b = append(b, 0) // no checksums: every line has a hash
	b = binary.LittleEndian.AppendUint32(b, seekableMagic)
	f.bytes += int64(len(b))
	_, err := f.w.Write(b)
	return err
}

// frames says where the frames of a sealed segment are.
type frames struct {
	offsets []int64  // one more than frames: where the seek table begins
	sizes   []uint32 // of their lines
}

func seekTableLen(groups int) int64 { return 8 + int64(groups)*seekEntryLen + seekFooterLen }

// parseSeekTable reads the seek table b of a file of that size, which must
// describe exactly so many frames with so many bytes of lines.
func parseSeekTable(b []byte, fileSize int64, groups int, lineBytes int64) (*frames, error) {
	le := binary.LittleEndian
	if int64(len(b)) != seekTableLen(groups) || fileSize < int64(len(b)) {
		return nil, errors.New("no room for the seek table")
	}
	foot := b[len(b)-seekFooterLen:]
	switch {
	case le.Uint32(b) != skippableMagic, int(le.Uint32(b[4:])) != len(b)-8, le.Uint32(foot[5:]) != seekableMagic:
		return nil, errors.New("no seek table at the end")
	case int(le.Uint32(foot)) != groups || foot[4] != 0:
		return nil, fmt.Errorf("seek table of %d frames, want %d", le.Uint32(foot), groups)
	}
	f := &frames{offsets: make([]int64, groups+1), sizes: make([]uint32, groups)}
	var at, lines int64
	for i := range groups {
		entry := b[8+i*seekEntryLen:]
		packed := le.Uint32(entry)
		f.offsets[i], f.sizes[i] = at, le.Uint32(entry[4:])
		if f.sizes[i] > maxGroupBytes || packed > maxGroupBytes+1024 {
			return nil, fmt.Errorf("frame %d is too large", i)
		}
		at += int64(packed)
		lines += int64(f.sizes[i])
	}
	f.offsets[groups] = at
	if at != fileSize-int64(len(b)) || lines != lineBytes {
		return nil, errors.New("seek table does not fit the file")
	}
	return f, nil
}

// readFrames reads the seek table of a sealed segment.
func readFrames(r io.ReaderAt, fileSize int64, groups int, lineBytes int64) (*frames, error) {
	n := seekTableLen(groups)
	if n > fileSize {
		return nil, errors.New("no room for the seek table")
	}
	b := make([]byte, n)
	if _, err := r.ReadAt(b, fileSize-n); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return parseSeekTable(b, fileSize, groups, lineBytes)
}

// newFrameDecoder is for DecodeAll, which several goroutines may call at once.
func newFrameDecoder() (*zstd.Decoder, error) {
	return zstd.NewReader(nil, zstd.WithDecoderMaxMemory(maxGroupBytes), zstd.WithDecoderConcurrency(0))
}

// read returns the lines of group k, which must be that many.
func (f *frames) read(r io.ReaderAt, dec *zstd.Decoder, k, lines int) (*lineGroup, error) {
	packed := make([]byte, f.offsets[k+1]-f.offsets[k])
	if _, err := r.ReadAt(packed, f.offsets[k]); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return decodeGroup(packed, dec, int(f.sizes[k]), lines, nil)
}

// decodeGroup decompresses a frame into dst, which may be nil.
func decodeGroup(packed []byte, dec *zstd.Decoder, size, lines int, dst []byte) (*lineGroup, error) {
	if cap(dst) < size {
		dst = make([]byte, 0, size)
	}
	// Without room for more than the size, a frame cannot make us take more.
	b, err := dec.DecodeAll(packed, dst[:0:size])
	switch {
	case err != nil:
		return nil, badFrame{err}
	case len(b) != size:
		return nil, badFrame{fmt.Errorf("%d bytes of lines, want %d", len(b), size)}
	}
	g := &lineGroup{buf: b, ends: make([]uint32, 0, lines)}
	for at := 0; at < len(b); {
		n := bytes.IndexByte(b[at:], '\n')
		if n < 0 || n > MaxLineBytes {
			return nil, badFrame{errors.New("line is cut off")}
		}
		at += n + 1
		g.ends = append(g.ends, uint32(at))
	}
	if len(g.ends) != lines {
		return nil, badFrame{fmt.Errorf("%d lines, want %d", len(g.ends), lines)}
	}
	return g, nil
}

// badFrame is an error about what a frame contains, not of reading it.
type badFrame struct{ error }

func (b badFrame) Unwrap() error { return b.error }

// lineGroup is a decompressed frame.
type lineGroup struct {
	buf  []byte
	ends []uint32
}

// line is the i-th line without its newline.
func (g *lineGroup) line(i int) []byte {
	start := uint32(0)
	if i > 0 {
		start = g.ends[i-1]
	}
	return g.buf[start : g.ends[i]-1]
}
