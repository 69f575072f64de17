package llmhttp

import (
	"bufio"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"io"
	"iter"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/zstd"
)

// Bounds of what is read of a compressed body: a small one can inflate to any
// size. The text of an answer is seldom 20 times as long as its compressed form;
// beyond freeBytes, one that is maxRatio times as long is no answer.
const (
	maxInflatedBytes = 256 << 20
	maxRatio         = 250
	freeBytes        = 1 << 20
)

// maxWindowBytes bounds the memory of a decompressor that asks for some: 8 MiB
// is what the zstd encoding of HTTP may use (RFC 9659); brotli's has 16 MiB at most.
const maxWindowBytes = 8 << 20

// inflater undoes gzip, deflate, brotli or zstd as the bytes pass, in steps: the
// decompressor wants to pull, and is run as a coroutine that pauses when it has
// used what there is. It needs no goroutine of its own.
type inflater struct {
	out  func([]byte)
	in   []byte // not yet used
	took int    // bytes in so far
	eof  bool
	cut  bool // there is more than is read
	next func() (struct{}, bool)
	stop func()
	wait func(struct{}) bool // pauses the coroutine; false means it shall end
}

// newInflater returns nil for an encoding that it does not know.
func newInflater(encoding string, out func([]byte)) *inflater {
	switch encoding {
	case "gzip", "x-gzip", "deflate", "br", "zstd":
	default:
		return nil
	}
	f := &inflater{out: out}
	f.next, f.stop = iter.Pull(func(yield func(struct{}) bool) {
		f.wait = yield
		f.run(encoding)
	})
	return f
}

// write inflates b, which is not kept.
func (f *inflater) write(b []byte) {
	f.in = b
	f.next()
	f.in = nil
}

// end lets the decompressor see the end of the body.
func (f *inflater) end() {
	f.eof = true
	f.next()
	f.stop()
}

func (f *inflater) run(encoding string) {
	src := bufio.NewReader((*inflaterSource)(f))
	r, err := decompressor(encoding, src)
	if err != nil {
		return // not what its header says: there is nothing to see in it
	}
	if c, ok := r.(interface{ Close() }); ok { // zstd's
		defer c.Close()
	}
	buf := make([]byte, 8<<10)
	for total := 0; ; {
		n, err := r.Read(buf)
		if total += n; total > maxInflatedBytes || total > freeBytes && total/maxRatio > f.took {
			f.cut = true
			return
		}
		f.out(buf[:n])
		if err != nil {
			return
		}
	}
}

func decompressor(encoding string, src *bufio.Reader) (io.Reader, error) {
	switch encoding {
	case "br":
		return brotli.NewReader(src), nil
	case "zstd":
		// One at a time: then it needs no goroutines, and reads where it is called.
		return zstd.NewReader(src, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxWindowBytes))
	case "gzip", "x-gzip":
		return gzip.NewReader(src)
	}
	// Deflate means the zlib format, and some send it bare.
	head, err := src.Peek(2)
	if err != nil {
		return nil, err
	}
	if head[0]&0x0f == 8 && (uint(head[0])<<8|uint(head[1]))%31 == 0 {
		return zlib.NewReader(src)
	}
	return flate.NewReader(src), nil
}

// inflaterSource is the side that the decompressor reads.
type inflaterSource inflater

func (f *inflaterSource) Read(p []byte) (int, error) {
	for len(f.in) == 0 {
		if f.eof {
			return 0, io.EOF
		}
		if !f.wait(struct{}{}) {
			return 0, io.ErrUnexpectedEOF
		}
	}
	n := copy(p, f.in)
	f.in = f.in[n:]
	f.took += n
	return n, nil
}
