package llmhttp

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// slow is a body whose pieces take a second each.
type slow struct{ pieces []string }

func (s *slow) Read(p []byte) (int, error) {
	if len(s.pieces) == 0 {
		return 0, io.EOF
	}
	time.Sleep(time.Second)
	n := copy(p, s.pieces[0])
	if s.pieces[0] = s.pieces[0][n:]; s.pieces[0] == "" {
		s.pieces = s.pieces[1:]
	}
	return n, nil
}

func (*slow) Close() error { return nil }

// TestFirstChunk: the time to the first chunk counts from the start of the
// request to the first event of the stream, in each format; what is no stream has none.
func TestFirstChunk(t *testing.T) {
	for _, f := range fixtures(t) {
		if f.status != 200 || len(f.body) == 0 {
			continue
		}
		t.Run(f.file, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var rec recorder
				rt := Transport(roundTripper(func(*http.Request) (*http.Response, error) {
					time.Sleep(2 * time.Second) // until the head
					resp := f.response(nil)
					// The first byte of the answer comes a second later, the rest after another.
					resp.Body = &slow{[]string{string(f.body[:1]), string(f.body[1:])}}
					return resp, nil
				}), &rec, Config{})
				resp, err := rt.RoundTrip(request(t, f.dialect))
				if err != nil {
					t.Fatal(err)
				}
				if _, err := io.Copy(io.Discard, resp.Body); err != nil {
					t.Fatal(err)
				}
				if err := resp.Body.Close(); err != nil {
					t.Fatal(err)
				}
				r := rec.one(t)
				switch {
				case r.Chunks == 0 && r.FirstChunk != 0:
					t.Errorf("no stream, and yet a first chunk after %v", r.FirstChunk)
				case r.Chunks > 0 && (r.FirstChunk < 4*time.Second || !strings.HasSuffix(f.file, "events") && r.FirstChunk > 8*time.Second):
					t.Errorf("the first chunk after %v", r.FirstChunk)
				}
			})
		})
	}
}
