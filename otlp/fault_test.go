package otlp

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"google.golang.org/protobuf/encoding/protowire"
)

func expired() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

// emit sends n spans, n log records and n lines.
func emit(e *Exporter, url string, n int) {
	tr := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(e.SpanProcessor())).Tracer("t")
	lines := e.NewLines(url + "/api/audit")
	for i := range n {
		_, s := tr.Start(context.Background(), "span")
		s.End()
		e.EmitLog(LogRecord{Body: strconv.Itoa(i)})
		lines.Emit(fmt.Appendf(nil, `{"id":%d}`, i))
	}
}

// total says how many records of all signals are where.
func (s Stats) total() (offered, sent, spooled, dropped int64) {
	for _, x := range []SignalStats{s.Traces, s.Logs, s.Audit} {
		offered += x.Offered
		sent += x.Sent
		spooled += x.Spooled
		for _, n := range x.Dropped {
			dropped += n
		}
	}
	return offered, sent, spooled, dropped
}

// arrived counts the records that the server has, of all signals.
func arrived(t *testing.T, s *server) int64 {
	return int64(len(s.records(t, "/v1/traces")) + len(s.records(t, "/v1/logs")) + len(s.lines("/api/audit")))
}

func TestFaultsThatPass(t *testing.T) {
	first := func(fault http.HandlerFunc) func(*server) http.HandlerFunc {
		return func(s *server) http.HandlerFunc {
			return func(w http.ResponseWriter, r *http.Request) {
				if s.attempts(r.URL.Path) == 1 {
					fault(w, r)
				}
			}
		}
	}
	for _, tt := range []struct {
		name    string
		fault   func(*server) http.HandlerFunc
		failure string
	}{
		{"503 with Retry-After", first(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "1")
			w.WriteHeader(503)
		}), "http_503"},
		{"429", first(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(429) }), "http_429"},
		{"502", first(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(502) }), "http_502"},
		{"connection cut before the answer", first(func(w http.ResponseWriter, _ *http.Request) {
			w.(*statusWriter).status = 0
			panic(http.ErrAbortHandler)
		}), "network"},
		{"connection cut in the middle of the answer", first(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100")
			_, _ = w.Write([]byte("half"))
			_ = http.NewResponseController(w).Flush()
			w.(*statusWriter).status = 0
			panic(http.ErrAbortHandler)
		}), "network"},
	} {
		for _, spool := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, spool %v", tt.name, spool), func(t *testing.T) {
				t.Parallel()
				s := newServer(t)
				s.say(tt.fault(s))
				cfg := Config{Endpoint: s.URL}
				if spool {
					cfg.SpoolDir = t.TempDir()
				}
				e := newExporter(t, cfg)
				emit(e, s.URL, 20)
				if err := e.Flush(t.Context()); err != nil {
					t.Error(err)
				}
				st := check(t, e)
				if _, sent, spooled, dropped := st.total(); sent != 60 || spooled != 0 || dropped != 0 || arrived(t, s) != 60 {
					t.Errorf("sent %d, spooled %d, dropped %d, arrived %d; want 60 sent", sent, spooled, dropped, arrived(t, s))
				}
				if st.Traces.Failures[tt.failure] != 1 {
					t.Errorf("failures %v, want one %s", st.Traces.Failures, tt.failure)
				}
				s.mu.Lock()
				defer s.mu.Unlock()
				for path, tries := range s.wire {
					if string(tries[0]) != string(tries[1]) {
						t.Errorf("%s: the second attempt has other bytes than the first", path)
					}
				}
			})
		}
	}
}

func TestRefusals(t *testing.T) {
	partial := protowire.AppendVarint(protowire.AppendTag(nil, 1, protowire.VarintType), 4)
	partial = protowire.AppendString(protowire.AppendTag(partial, 2, protowire.BytesType), "four are bad")
	partial = protowire.AppendBytes(protowire.AppendTag(nil, 1, protowire.BytesType), partial)
	for _, tt := range []struct {
		name    string
		answer  http.HandlerFunc
		dropped map[string]int64 // of the log records
	}{
		{"400", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(400) }, map[string]int64{"rejected": 10}},
		{"413", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(413) }, map[string]int64{"too_large": 10}},
		{"redirect", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "https://elsewhere/", http.StatusPermanentRedirect)
		}, map[string]int64{"rejected": 10}},
		{"partial success", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(partial) }, map[string]int64{"rejected": 4}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newServer(t)
			s.say(tt.answer)
			e := newExporter(t, Config{Endpoint: s.URL, SpoolDir: t.TempDir(), FlushDelay: time.Hour})
			for range 10 {
				e.EmitLog(LogRecord{Body: "x"})
			}
			if err := e.Flush(t.Context()); err == nil {
				t.Error("Flush = nil though records were refused")
			}
			st := check(t, e).Logs
			for reason, n := range tt.dropped {
				if st.Dropped[reason] != n || st.Sent != 10-n {
					t.Errorf("sent %d, dropped %v; want %v dropped", st.Sent, st.Dropped, tt.dropped)
				}
			}
			if n := s.attempts("/v1/logs"); n != 1 {
				t.Errorf("%d attempts, want 1", n)
			}
		})
	}
}

func TestServerAwayThenRestart(t *testing.T) {
	dir := t.TempDir()
	const away = "http://127.0.0.1:1" // nobody listens there
	e := newExporter(t, Config{Endpoint: away, SpoolDir: dir})
	emit(e, away, 50)
	if err := e.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, sent, spooled, dropped := check(t, e).total(); sent != 0 || spooled != 150 || dropped != 0 {
		t.Errorf("sent %d, spooled %d, dropped %d; want all 150 spooled", sent, spooled, dropped)
	}
	// A new process, and the server at another address.
	s := newServer(t)
	e = newExporter(t, Config{Endpoint: s.URL, SpoolDir: dir})
	e.NewLines(s.URL + "/api/audit")
	if err := e.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	check(t, e)
	if n := arrived(t, s); n != 150 {
		t.Errorf("%d records arrived after the restart, want 150", n)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*", "*", "*")); len(left) != 0 {
		t.Errorf("left in the spool: %v", left)
	}
}

func TestServerGoesMidway(t *testing.T) {
	s := newServer(t)
	e := newExporter(t, Config{Endpoint: s.URL, SpoolDir: t.TempDir()})
	emit(e, s.URL, 10)
	if err := e.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.say(func(w http.ResponseWriter, _ *http.Request) {
		w.(*statusWriter).status = 0
		panic(http.ErrAbortHandler)
	})
	emit(e, s.URL, 10)
	short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := e.Flush(short); err == nil || !strings.Contains(err.Error(), "unacknowledged") {
		t.Errorf("Flush = %v while the server is away, want an error", err)
	}
	check(t, e)
	s.say(nil)
	if err := e.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := arrived(t, s); n != 60 {
		t.Errorf("%d records arrived, want 60", n)
	}
}

func TestCallerIsNotBlocked(t *testing.T) {
	s := newServer(t)
	release := make(chan struct{})
	s.say(func(http.ResponseWriter, *http.Request) { <-release })
	e := newExporter(t, Config{Endpoint: s.URL, QueueBytes: 64 << 10})
	emit(e, s.URL, 1000) // returns though every handler hangs
	st := check(t, e)
	for name, x := range map[string]SignalStats{"traces": st.Traces, "logs": st.Logs, "audit": st.Audit} {
		if x.Dropped["queue_full"] == 0 || x.QueuedBytes > 64<<10 {
			t.Errorf("%s: queued %d bytes, dropped %v; want the bound kept and drops counted", name, x.QueuedBytes, x.Dropped)
		}
	}
	close(release)
	if err := e.Flush(t.Context()); err != nil {
		t.Error(err)
	}
	offered, sent, _, dropped := check(t, e).total()
	if sent != arrived(t, s) || sent+dropped != offered {
		t.Errorf("offered %d, sent %d, dropped %d, arrived %d", offered, sent, dropped, arrived(t, s))
	}
}

func TestShutdownWhileTheServerHangs(t *testing.T) {
	s := newServer(t)
	release := make(chan struct{})
	defer close(release)
	s.say(func(http.ResponseWriter, *http.Request) { <-release })
	e := newExporter(t, Config{Endpoint: s.URL, SpoolDir: t.TempDir()})
	emit(e, s.URL, 10)
	if err := e.Shutdown(endsSoon{t.Context(), time.Now().Add(2 * time.Second)}); err != nil {
		t.Error(err)
	}
	if _, _, spooled, _ := check(t, e).total(); spooled != 30 {
		t.Errorf("spooled %d, want all 30", spooled)
	}
}

// endsSoon says when it ends, but does not: sending is over in time, and what
// comes then may take as long as the disk does.
type endsSoon struct {
	context.Context
	at time.Time
}

func (c endsSoon) Deadline() (time.Time, bool) { return c.at, true }

func TestSpoolThatCannotBeOpenedFailsTheStart(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := NewExporter(Config{SpoolDir: file}); err == nil || !strings.Contains(err.Error(), "open spool of traces") {
		t.Errorf("NewExporter = %v, want an error that names the spool", err)
	}
}

func TestLinesWithoutTheirSpool(t *testing.T) {
	s := newServer(t)
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "lines-api-audit"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	e := newExporter(t, Config{Endpoint: s.URL, SpoolDir: dir})
	e.NewLines(s.URL + "/api/audit").Emit([]byte(`{}`))
	if err := e.Flush(t.Context()); err != nil {
		t.Error(err)
	}
	if st := check(t, e).Audit; st.Sent != 1 || st.SpoolErrors != 1 {
		t.Errorf("%+v", st)
	}
}
