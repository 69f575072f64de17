package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kaizen-go/kaizen/audit"
	"github.com/kaizen-go/kaizen/server"
)

// startServer runs a server in this process until the test ends.
func startServer(t *testing.T) *server.Server {
	t.Helper()
	s, err := server.New(server.Config{
		DataDir: filepath.Join(t.TempDir(), "data"),
		Listen:  "127.0.0.1:0", OTLPHTTP: "127.0.0.1:0", OTLPGRPC: "127.0.0.1:0",
		Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	ctx, cancel := context.WithCancel(context.Background())
	go func() { served <- s.Serve(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return s
}

// mustPost sends body and fails the test unless the answer is 200.
func mustPost(t *testing.T, url, body string) {
	t.Helper()
	status, text, err := post(t.Context(), url, []byte(body))
	if err != nil || status != http.StatusOK {
		t.Fatalf("POST %s = %d, %v: %s", url, status, err, text)
	}
}

// lines collects what a command prints, and says when a line came.
type lines struct {
	mu   sync.Mutex
	text bytes.Buffer
	came chan struct{}
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n, err := l.text.Write(p)
	select {
	case l.came <- struct{}{}:
	default:
	}
	return n, err
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// await returns once the command has printed text.
func (l *lines) await(t *testing.T, text string) {
	t.Helper()
	for !strings.Contains(l.String(), text) {
		select {
		case <-l.came:
		case <-t.Context().Done():
			t.Fatalf("printed %q, want %q", l.String(), text)
		}
	}
}

// tail runs a following command until the returned stop.
func tail(t *testing.T, args ...string) (out *lines, stop func()) {
	t.Helper()
	out = &lines{came: make(chan struct{}, 1)}
	errs := &lines{came: make(chan struct{}, 1)}
	ctx, cancel := context.WithCancel(context.Background())
	code := make(chan int, 1)
	go func() { code <- run(ctx, args, nil, out, errs) }()
	return out, func() {
		cancel()
		if c := <-code; c != exitGood {
			t.Errorf("%q = %d: %s", args, c, errs)
		}
	}
}

const entryLine = `{"agent_id":"planner","action":"%","result":"success","details":{"note":"a\u001b[2Jb"}}`

func TestAuditTail(t *testing.T) {
	s := startServer(t)
	for _, where := range [][]string{{"--server", s.UIURL()}, {"--data", s.DataDir()}} {
		t.Run(where[0], func(t *testing.T) {
			action := func(n string) string { return "step" + n + "." + strings.TrimLeft(where[0], "-") }
			mustPost(t, s.UIURL()+"/api/audit", strings.ReplaceAll(entryLine, "%", action("1")))
			out, stop := tail(t, append([]string{"audit", "tail", "--lines", "1"}, where...)...)
			defer stop()
			out.await(t, action("1"))
			mustPost(t, s.UIURL()+"/api/audit", strings.ReplaceAll(entryLine, "%", action("2")))
			out.await(t, action("2"))
			mustPost(t, s.UIURL()+"/api/audit", strings.ReplaceAll(entryLine, "%", action("3")))
			out.await(t, action("3"))
			if got := strings.Count(out.String(), "\n"); got != 3 {
				t.Errorf("printed %d lines, want 3:\n%s", got, out)
			}
			if strings.Contains(out.String(), "\x1b") {
				t.Errorf("an entry reached the terminal's controls: %q", out)
			}
		})
	}
}

func TestTraceTail(t *testing.T) {
	s := startServer(t)
	span := func(trace, name string) string {
		return string(encode(object{"resourceSpans": []object{{"scopeSpans": []object{{"spans": []object{{
			"traceId": trace, "spanId": "00f067aa0ba902b1", "name": name, "startTimeUnixNano": nano(time.Now()), "endTimeUnixNano": nano(time.Now())}}}}}}}))
	}
	mustPost(t, s.UIURL()+"/v1/traces", span("4bf92f3577b34da6a3ce929d0e0e4731", "before"))
	out, stop := tail(t, "trace", "tail", "--data", s.DataDir())
	defer stop()
	// The first look takes stock: what it has not seen is new. So traces are
	// sent until one is printed.
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		for i := 1; out.String() == "" && t.Context().Err() == nil; i++ {
			_, _, _ = post(t.Context(), s.UIURL()+"/v1/traces", []byte(span(fmt.Sprintf("%032x", i), "after")))
		}
	}()
	out.await(t, "after")
	<-sent
	if strings.Contains(out.String(), "before") {
		t.Errorf("printed a trace that had ended before:\n%s", out)
	}
}

// altering passes requests on to base and lets change alter the answers.
func altering(t *testing.T, base string, change func(path string, body []byte) []byte) string {
	t.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		resp, err := http.Get(base + r.URL.RequestURI())
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		body, err := io.ReadAll(resp.Body)
		if err := errors.Join(err, resp.Body.Close()); err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		w.WriteHeader(resp.StatusCode)
		_, _ = w.Write(change(r.URL.Path, body)) // the client sees what is missing
	}))
	t.Cleanup(srv.Close)
	return srv.URL
}

func TestVerifyRemote(t *testing.T) {
	s := startServer(t)
	var batch []string
	for _, action := range []string{"one", "two", "three", "four", "five"} {
		batch = append(batch, strings.ReplaceAll(entryLine, "%", action))
	}
	mustPost(t, s.UIURL()+"/api/audit", strings.Join(batch, "\n"))
	c, err := newClient(s.UIURL())
	if err != nil {
		t.Fatal(err)
	}
	var early, foreign remoteHead
	if err := c.get(t.Context(), "/api/audit/checkpoint", nil, &early); err != nil {
		t.Fatal(err)
	}
	mustPost(t, s.UIURL()+"/api/audit", strings.Join(batch, "\n"))
	other := startServer(t)
	mustPost(t, other.UIURL()+"/api/audit", strings.Join(batch, "\n"))
	oc, err := newClient(other.UIURL())
	if err != nil {
		t.Fatal(err)
	}
	if err := oc.get(t.Context(), "/api/audit/checkpoint", nil, &foreign); err != nil {
		t.Fatal(err)
	}

	onEntries := func(old, new string) func(string, []byte) []byte {
		return func(path string, body []byte) []byte {
			if path == "/api/audit" {
				return bytes.Replace(body, []byte(old), []byte(new), 1)
			}
			return body
		}
	}
	tests := []struct {
		name   string
		change func(path string, body []byte) []byte
		cfg    audit.VerifyConfig
		index  int64
		reason string // "" for intact
	}{
		{name: "intact"},
		{name: "intact, from an earlier checkpoint", cfg: audit.VerifyConfig{Checkpoint: []byte(early.Note), Key: early.VKey}},
		{name: "a changed entry", change: onEntries(`"three"`, `"thrEe"`), index: 2, reason: "differs from the one that was signed"},
		{name: "a renumbered entry", change: onEntries(`"index":3`, `"index":4`), index: 3, reason: "missing or out of order"},
		{name: "a hidden entry", change: func(path string, body []byte) []byte {
			if path != "/api/audit" {
				return body
			}
			// The first page has all ten: cut the list after the first entry.
			at := bytes.Index(body, []byte(`,{"index":1,`))
			if at < 0 {
				return body
			}
			return append(body[:at:at], []byte(`],"next":"","size":1}`)...)
		}, index: 1, reason: "entry is missing"},
		{name: "a key that is not the ledger's", cfg: audit.VerifyConfig{Key: foreign.VKey}, index: -1, reason: "signature"},
		{name: "an earlier checkpoint of another ledger", cfg: audit.VerifyConfig{Checkpoint: []byte(foreign.Note)}, index: -1, reason: "signature"},
		{name: "a checkpoint that was changed", change: func(path string, body []byte) []byte {
			if path == "/api/audit/checkpoint" {
				return bytes.Replace(body, []byte(`\n10\n`), []byte(`\n11\n`), 1)
			}
			return body
		}, index: -1, reason: "signature"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			base := s.UIURL()
			if tt.change != nil {
				base = altering(t, base, tt.change)
			}
			c, err := newClient(base)
			if err != nil {
				t.Fatal(err)
			}
			report, err := verifyRemote(t.Context(), apiLedger{c}, tt.cfg, keysOf(tt.cfg.Key))
			if tt.reason == "" {
				if err != nil || report.Entries != 10 {
					t.Fatalf("verifyRemote = %+v, %v, want 10 entries", report, err)
				}
				return
			}
			tampered, ok := errors.AsType[*audit.TamperError](err)
			if !ok || tampered.Index != tt.index || !strings.Contains(tampered.Reason, tt.reason) {
				t.Fatalf("verifyRemote = %v, want entry %d, %q", err, tt.index, tt.reason)
			}
			if code, _ := classifyVerdict(err); code != exitFailed {
				t.Errorf("exit code = %d, want 1", code)
			}
		})
	}
	t.Run("set back", func(t *testing.T) {
		var late remoteHead
		if err := c.get(t.Context(), "/api/audit/checkpoint", nil, &late); err != nil {
			t.Fatal(err)
		}
		old := altering(t, s.UIURL(), func(path string, body []byte) []byte {
			if path == "/api/audit/checkpoint" {
				return encode(early)
			}
			return body
		})
		oldClient, err := newClient(old)
		if err != nil {
			t.Fatal(err)
		}
		_, err = verifyRemote(t.Context(), apiLedger{oldClient}, audit.VerifyConfig{Checkpoint: []byte(late.Note)}, nil)
		if tampered, ok := errors.AsType[*audit.TamperError](err); !ok || !strings.Contains(tampered.Reason, "set back") {
			t.Errorf("verifyRemote = %v, want it set back", err)
		}
	})
}

func classifyVerdict(err error) (int, string) {
	_, err = judge(audit.Report{}, err)
	return classify(err)
}
