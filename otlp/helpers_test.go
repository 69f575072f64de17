package otlp

import (
	"bytes"
	"compress/gzip"
	"encoding/pem"
	"errors"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
)

// field is one field of a message, read without a schema.
type field struct {
	num   protowire.Number
	value uint64
	bytes []byte
}

// message reads all fields; the tests know what is a message and what is text.
func message(t *testing.T, b []byte) []field {
	t.Helper()
	var all []field
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			t.Fatalf("bad tag: %v", protowire.ParseError(n))
		}
		b = b[n:]
		f := field{num: num}
		switch typ {
		case protowire.VarintType:
			f.value, n = protowire.ConsumeVarint(b)
		case protowire.Fixed64Type:
			f.value, n = protowire.ConsumeFixed64(b)
		case protowire.Fixed32Type:
			var v uint32
			v, n = protowire.ConsumeFixed32(b)
			f.value = uint64(v)
		case protowire.BytesType:
			f.bytes, n = protowire.ConsumeBytes(b)
		default:
			t.Fatalf("wire type %d", typ)
		}
		if n < 0 {
			t.Fatalf("bad field %d: %v", num, protowire.ParseError(n))
		}
		all = append(all, f)
		b = b[n:]
	}
	return all
}

// at returns the bytes of every field with the first number, then of every field
// with the second number in those, and so on.
func at(t *testing.T, b []byte, path ...protowire.Number) [][]byte {
	t.Helper()
	found := [][]byte{b}
	for _, num := range path {
		var next [][]byte
		for _, m := range found {
			for _, f := range message(t, m) {
				if f.num == num {
					next = append(next, f.bytes)
				}
			}
		}
		found = next
	}
	return found
}

// attrs reads the attributes in field num of a message: text, or the raw AnyValue.
func attrs(t *testing.T, b []byte, num protowire.Number) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, kv := range at(t, b, num) {
		key := string(at(t, kv, 1)[0])
		out[key] = ""
		if value := at(t, kv, 2); len(value) == 1 && len(value[0]) > 0 {
			out[key] = string(value[0])
			if text := at(t, value[0], 1); len(text) == 1 {
				out[key] = string(text[0])
			}
		}
	}
	return out
}

// server records what it acknowledged, and answers as it is told.
type server struct {
	*httptest.Server
	mu     sync.Mutex
	answer http.HandlerFunc    // nil: take everything
	bodies map[string][][]byte // acknowledged, by path
	wire   map[string][][]byte // of each attempt, by path
	heads  []http.Header
}

func newServer(t *testing.T) *server {
	s := &server{bodies: map[string][][]byte{}, wire: map[string][][]byte{}}
	s.Server = httptest.NewServer(s)
	t.Cleanup(func() {
		s.CloseClientConnections()
		s.Close()
	})
	return s
}

func (s *server) say(h http.HandlerFunc) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answer = h
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	wire, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, err.Error(), 400)
		return
	}
	body := wire
	if r.Header.Get("Content-Encoding") == "gzip" {
		zr, err := gzip.NewReader(bytes.NewReader(wire))
		if err == nil {
			body, err = io.ReadAll(zr)
		}
		if err != nil {
			http.Error(w, err.Error(), 400)
			return
		}
	}
	s.mu.Lock()
	s.wire[r.URL.Path] = append(s.wire[r.URL.Path], wire)
	s.heads = append(s.heads, r.Header.Clone())
	answer := s.answer
	s.mu.Unlock()
	if answer != nil {
		r.Body = io.NopCloser(bytes.NewReader(body))
		rec := &statusWriter{ResponseWriter: w, status: 200}
		answer(rec, r)
		if rec.status != 200 {
			return
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.bodies[r.URL.Path] = append(s.bodies[r.URL.Path], body)
}

type statusWriter struct {
	http.ResponseWriter
	status int
}

func (w *statusWriter) WriteHeader(code int)        { w.status = code; w.ResponseWriter.WriteHeader(code) }
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// records returns the acknowledged records of a path.
func (s *server) records(t *testing.T, path string) [][]byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all [][]byte
	for _, b := range s.bodies[path] {
		all = append(all, at(t, b, 1, 2, 2)...)
	}
	return all
}

func (s *server) lines(path string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []string
	for _, b := range s.bodies[path] {
		all = append(all, strings.Split(strings.TrimSuffix(string(b), "\n"), "\n")...)
	}
	return all
}

func (s *server) attempts(path string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.wire[path])
}

func newExporter(t *testing.T, cfg Config) *Exporter {
	t.Helper()
	if cfg.FlushDelay == 0 {
		cfg.FlushDelay = time.Millisecond
	}
	e, err := NewExporter(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		// A test that leaves records behind has said so already.
		_ = e.Shutdown(expired())
		check(t, e)
	})
	return e
}

// check verifies the accounting of every signal.
func check(t *testing.T, e *Exporter) Stats {
	t.Helper()
	st := e.Stats()
	for name, s := range map[string]SignalStats{"traces": st.Traces, "metrics": st.Metrics, "logs": st.Logs, "audit": st.Audit} {
		dropped := int64(0)
		for _, n := range s.Dropped {
			dropped += n
		}
		if in, out := s.Offered+s.Adopted, s.Sent+dropped+s.Queued+s.Spooled; in != out {
			t.Errorf("%s: %d came in, %d are accounted for: %+v", name, in, out, s)
		}
	}
	return st
}

// reader is a RoundTripper that takes everything, for bubbles without a network.
type reader struct {
	mu     sync.Mutex
	bodies [][]byte
	at     []time.Time
}

func (p *reader) RoundTrip(r *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	if r.Header.Get("Content-Encoding") != "" {
		return nil, errors.New("the test asks for no compression")
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.bodies = append(p.bodies, body)
	p.at = append(p.at, time.Now())
	return &http.Response{StatusCode: 200, Header: http.Header{}, Body: http.NoBody, Request: r}, nil
}

func float(v uint64) float64 { return math.Float64frombits(v) }

// tlsServer is a server with a certificate that nobody knows.
type tlsServer struct {
	*httptest.Server
	pem []byte
}

func newTLSServer(t *testing.T) tlsServer {
	s := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	t.Cleanup(s.Close)
	return tlsServer{s, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})}
}
