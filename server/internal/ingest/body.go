package ingest

import (
	"bufio"
	"compress/zlib"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/klauspost/compress/flate"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"google.golang.org/grpc/codes"
)

// budget bounds the bytes that all requests hold together.
type budget struct {
	limit int64
	used  atomic.Int64
}

func (b *budget) take(n int64) bool {
	if b.used.Add(n) > b.limit {
		b.used.Add(-n)
		return false
	}
	return true
}

func (b *budget) give(n int64) { b.used.Add(-n) }

func tooLarge(limit int64) *failure {
	return &failure{
		http: http.StatusRequestEntityTooLarge, code: codes.InvalidArgument, outcome: outcomeInvalid,
		msg: fmt.Sprintf("body larger than %d bytes", limit),
	}
}

func overloaded() *failure {
	return &failure{
		http: http.StatusServiceUnavailable, code: codes.Unavailable, outcome: outcomeRefused,
		msg: "too much is being taken in at this moment", retryAfter: time.Second,
	}
}

// readBody reads and unpacks a request's body. release gives its room back.
func (s *Server) readBody(w http.ResponseWriter, r *http.Request) (body []byte, release func(), fail *failure) {
	limit := s.cfg.MaxBodyBytes
	if r.ContentLength > limit {
		return nil, nil, tooLarge(limit)
	}
	in, err := unpack(r.Header.Get("Content-Encoding"), http.MaxBytesReader(w, r.Body, limit), limit)
	if err != nil {
		return nil, nil, unpackFailure(err, limit)
	}
	defer in.Close() // a reader's; nothing was written
	var held int64
	defer func() {
		if release == nil { // also when a decoder panics
			s.budget.give(held)
		}
	}()
	for {
		if len(body) == cap(body) {
			grow := int64(max(32<<10, cap(body)))
			if !s.budget.take(grow) {
				return nil, nil, overloaded()
			}
			held += grow
			body = append(make([]byte, 0, cap(body)+int(grow)), body...)
		}
		n, err := in.Read(body[len(body):cap(body)])
		body = body[:len(body)+n]
		if int64(len(body)) > limit {
			return nil, nil, tooLarge(limit)
		}
		if err == io.EOF {
			return body, func() { s.budget.give(held) }, nil
		}
		if err != nil {
			return nil, nil, unpackFailure(err, limit)
		}
	}
}

func unpackFailure(err error, limit int64) *failure {
	var tooBig *http.MaxBytesError
	var f *failure
	switch {
	case errors.As(err, &f):
		return f
	case errors.As(err, &tooBig), errors.Is(err, zstd.ErrDecoderSizeExceeded), errors.Is(err, zstd.ErrWindowSizeExceeded):
		return tooLarge(limit)
	}
	return badRequest("cannot read body: " + err.Error())
}

// unpack returns a reader of what an encoding packed. The decoders' own memory
// is bounded; how much may come out is for the caller to watch.
func unpack(encoding string, body io.Reader, limit int64) (io.ReadCloser, error) {
	switch strings.ToLower(strings.TrimSpace(encoding)) {
	case "", "identity":
		return io.NopCloser(body), nil
	case "gzip", "x-gzip":
		return gzip.NewReader(body)
	case "deflate":
		return inflate(body)
	case "zstd":
		d, err := zstd.NewReader(body, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
			zstd.WithDecoderMaxWindow(uint64(max(min(limit, 64<<20), zstd.MinWindowSize))))
		if err != nil {
			return nil, err
		}
		return d.IOReadCloser(), nil
	}
	return nil, &failure{
		http: http.StatusUnsupportedMediaType, code: codes.InvalidArgument, outcome: outcomeInvalid,
		msg: fmt.Sprintf("content encoding %.40q: send gzip, zstd, deflate or none", encoding),
	}
}

// inflate reads deflate as HTTP means it, with the zlib header, and as some
// senders write it, without.
func inflate(body io.Reader) (io.ReadCloser, error) {
	b := bufio.NewReader(body)
	head, err := b.Peek(2)
	if err != nil {
		return nil, err
	}
	if head[0]&0x0f == 8 && (int(head[0])<<8|int(head[1]))%31 == 0 {
		return zlib.NewReader(b)
	}
	return flate.NewReader(b), nil
}
