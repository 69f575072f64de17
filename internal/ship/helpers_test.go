package ship

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// peer is a server in the shape of a RoundTripper, so that it works inside a
// synctest bubble: it acknowledges lines, in order, unless it is told otherwise.
type peer struct {
	mu     sync.Mutex
	answer func(n int, lines []string) (status int, header http.Header, body string, err error)
	tries  [][]byte    // wire bytes of each attempt
	at     []time.Time // of each attempt
	lines  []string    // acknowledged, in order
	sizes  []int       // body bytes of each acknowledged batch
}

func (p *peer) set(answer func(n int, lines []string) (int, http.Header, string, error)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.answer = answer
}

func (p *peer) up()   { p.set(nil) }
func (p *peer) down() { p.status(0, nil) }

// status makes the peer answer this to everything; 0 is a network error.
func (p *peer) status(code int, header http.Header) {
	p.set(func(int, []string) (int, http.Header, string, error) {
		if code == 0 {
			return 0, nil, "", errors.New("connection refused")
		}
		return code, header, "no\nway", nil
	})
}

func (p *peer) RoundTrip(r *http.Request) (*http.Response, error) {
	wire, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	body, err := unpack(wire, r.Header.Get("Content-Encoding") == "gzip")
	if err != nil {
		return nil, err
	}
	lines := strings.Split(strings.TrimSuffix(string(body), "\n"), "\n")
	p.mu.Lock()
	answer, n := p.answer, len(p.tries)
	p.tries = append(p.tries, wire)
	p.at = append(p.at, time.Now())
	p.mu.Unlock()
	status, header, text := 200, http.Header(nil), ""
	if answer != nil {
		if status, header, text, err = answer(n, lines); err != nil {
			return nil, err
		}
	}
	if header == nil {
		header = http.Header{}
	}
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if status == 200 {
		p.lines = append(p.lines, lines...)
		p.sizes = append(p.sizes, len(body))
	}
	return &http.Response{StatusCode: status, Status: fmt.Sprint(status), Header: header, Body: io.NopCloser(strings.NewReader(text)), Request: r}, nil
}

func (p *peer) acknowledged() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]string(nil), p.lines...)
}

func (p *peer) attempts() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.tries)
}

// lineConfig ships lines of text to p.
func lineConfig(p http.RoundTripper) Config[string] {
	return Config[string]{
		Name:        "test",
		URL:         "http://peer/",
		ContentType: "text/plain",
		Client:      &http.Client{Transport: p},
		Cost:        func(s string) int { return len(s) },
		Encode: func(dst []byte, s string) ([]byte, error) {
			if s == "unencodable" {
				return append(dst, "half"...), errors.New("no")
			}
			return append(dst, s...), nil
		},
		Frame: func(dst []byte, parts []Part[string]) []byte {
			for _, p := range parts {
				dst = append(append(dst, p.Data...), '\n')
			}
			return dst
		},
		PartialSuccess: func(body []byte) (int64, string) {
			n, _ := strconv.ParseInt(string(body), 10, 64)
			return n, "told so"
		},
		Split: func(body []byte) (a, b []byte, na, nb int) {
			lines := bytes.SplitAfter(body, []byte("\n"))
			lines = lines[:len(lines)-1]
			na = len(lines) / 2
			return bytes.Join(lines[:na], nil), bytes.Join(lines[na:], nil), na, len(lines) - na
		},
		FlushDelay: 10 * time.Millisecond,
	}
}

func start(t *testing.T, cfg Config[string]) *Shipper[string] {
	t.Helper()
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Shutdown(expired(t)); err == nil {
			<-s.done
		}
		<-s.done
		check(t, s)
	})
	return s
}

// check verifies the accounting, and that the spool's counts are the disk's.
func check(t *testing.T, s *Shipper[string]) Stats {
	t.Helper()
	st := s.Stats()
	if in, out := st.Offered+st.Adopted, st.Sent+st.TotalDropped()+st.Queued+st.Spooled; in != out {
		t.Errorf("offered %d + adopted %d = %d, but sent %d + dropped %v + queued %d + spooled %d = %d",
			st.Offered, st.Adopted, in, st.Sent, st.Dropped, st.Queued, st.Spooled, out)
	}
	for name, n := range map[string]int64{"queued": st.Queued, "queued bytes": st.QueuedBytes, "spooled": st.Spooled, "spool bytes": st.SpoolBytes, "spool files": st.SpoolFiles, "sent": st.Sent} {
		if n < 0 {
			t.Errorf("%s = %d", name, n)
		}
	}
	if st.QueuedBytes > s.cfg.QueueBytes {
		t.Errorf("queued %d bytes, bound is %d", st.QueuedBytes, s.cfg.QueueBytes)
	}
	if st.SpoolBytes > s.cfg.SpoolBytes {
		t.Errorf("spooled %d bytes, bound is %d", st.SpoolBytes, s.cfg.SpoolBytes)
	}
	return st
}

// spoolFiles lists the batches of all processes below a spool directory.
func spoolFiles(t *testing.T, dir string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*", "*", "*"+batchSuffix))
	if err != nil {
		t.Fatal(err)
	}
	kept := files[:0]
	for _, f := range files {
		if filepath.Base(filepath.Dir(f)) != corruptName {
			kept = append(kept, f)
		}
	}
	return kept
}

func offer(s *Shipper[string], from, to int) {
	for i := from; i < to; i++ {
		s.Offer(line(i))
	}
}

func line(i int) string { return fmt.Sprintf("line-%06d", i) }

func wantLines(t *testing.T, got []string, n int) {
	t.Helper()
	if len(got) != n {
		t.Errorf("server has %d lines, want %d", len(got), n)
	}
	for i, l := range got {
		if l != line(i) {
			t.Errorf("line %d = %q, want %q", i, l, line(i))
			return
		}
	}
}

// faultFS fails chosen operations, with their effect lost or kept.
type faultFS struct {
	osFS
	mu   sync.Mutex
	n    int
	fail func(op string, n int) (err error, keep bool)
	ops  []string
}

func (f *faultFS) do(op string, act func() error) error {
	f.mu.Lock()
	f.n++
	n := f.n
	f.ops = append(f.ops, op)
	err, keep := error(nil), false
	if f.fail != nil {
		err, keep = f.fail(op, n)
	}
	f.mu.Unlock()
	if err == nil {
		return act()
	}
	if keep {
		return errors.Join(err, act())
	}
	return err
}

func (f *faultFS) Create(path string) (file, error) {
	var out file
	err := f.do("create", func() (err error) { out, err = f.osFS.Create(path); return err })
	if err != nil && out != nil {
		err = errors.Join(err, out.Close())
	}
	return &faultFile{out, f}, err
}
func (f *faultFS) Rename(a, b string) error {
	return f.do("rename", func() error { return f.osFS.Rename(a, b) })
}
func (f *faultFS) Remove(p string) error {
	return f.do("remove", func() error { return f.osFS.Remove(p) })
}
func (f *faultFS) SyncDir(d string) error {
	return f.do("syncdir", func() error { return f.osFS.SyncDir(d) })
}

type faultFile struct {
	file
	fs *faultFS
}

func (f *faultFile) Write(b []byte) (n int, err error) {
	err = f.fs.do("write", func() error { n, err = f.file.Write(b); return err })
	return n, err
}
func (f *faultFile) Sync() error { return f.fs.do("sync", f.file.Sync) }

var errDisk = fmt.Errorf("fault: %w", os.ErrPermission)
