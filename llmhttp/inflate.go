package llmhttp

import (
	"bufio"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"io"
	"iter"
)

// maxInflatedBytes bounds what is read of a compressed body: a small body can
// inflate to any size.
const maxInflatedBytes = 256 << 20

// inflater undoes gzip or deflate as the bytes pass, in steps: the
// decompressor wants to pull, and is run as a coroutine that pauses when it has
// used what there is. It needs no goroutine of its own.
type inflater struct {
	out  func([]byte)
	in   []byte // not yet used
	eof  bool
	next func() (struct{}, bool)
	stop func()
	wait func(struct{}) bool // pauses the coroutine; false means it shall end
}

// newInflater returns nil for an encoding that it does not know.
func newInflater(encoding string, out func([]byte)) *inflater {
	if encoding != "gzip" && encoding != "x-gzip" && encoding != "deflate" {
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
	buf := make([]byte, 8<<10)
	for total := 0; total < maxInflatedBytes; {
		n, err := r.Read(buf)
		total += n
		f.out(buf[:n])
		if err != nil {
			return
		}
	}
}

func decompressor(encoding string, src *bufio.Reader) (io.Reader, error) {
	if encoding != "deflate" {
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
	return n, nil
}
