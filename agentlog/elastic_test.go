package agentlog

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/oklog/ulid/v2"
)

// newElastic starts a sink that retries at once, and loggers over it.
func newElastic(t *testing.T, cfg ElasticConfig) (*Elastic, *Logs) {
	t.Helper()
	cfg.retryMin = time.Millisecond
	cfg.FlushDelay = time.Millisecond
	sink, err := NewElastic(cfg)
	if err != nil {
		t.Fatal(err)
	}
	logs, err := New(Config{Sinks: []Sink{sink}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		_ = logs.Close(ctx) // most tests have closed it, or mean to lose what is left
		checkElastic(t, sink)
	})
	return sink, logs
}

// checkElastic verifies that each line is in exactly one place.
func checkElastic(t *testing.T, sink *Elastic) ElasticStats {
	t.Helper()
	st := sink.Stats()
	out := st.Sent + st.Queued + st.Spooled
	for _, n := range st.Dropped {
		out += n
	}
	if in := st.Offered + st.Adopted; in != out {
		t.Errorf("%d lines came in, %d are accounted for: %+v", in, out, st)
	}
	return st
}

func logAll(logs *Logs, messages []string) {
	logger := logs.Logger("planner")
	for i, m := range messages {
		logger.Info(m, "i", i)
	}
}

func flush(t *testing.T, sink *Elastic) error {
	t.Helper()
	return sink.Flush(t.Context())
}

// TestElasticFaults has the server fail at first, in every way it can, and
// checks that each line is indexed once in the end.
func TestElasticFaults(t *testing.T) {
	fromItem := func(o outcome) func(*elasticServer) {
		return func(s *elasticServer) {
			s.item = func(n int, doc map[string]any) outcome {
				if i := doc["kaizen.context"].(map[string]any)["i"].(float64); n < 2 && int(i)%3 == 1 {
					return o
				}
				return outcome{}
			}
		}
	}
	tests := []struct {
		name    string
		set     func(s *elasticServer)
		failure string
		repeats bool // the server had some of it already
	}{
		{"down", func(s *elasticServer) {
			s.before = only(2, func(w http.ResponseWriter, _ *http.Request) { hangUp(w, "") })
		}, "network", false},
		{"whole batch 429", func(s *elasticServer) { s.before = only(2, status(429)) }, "http_429", false},
		{"whole batch 503", func(s *elasticServer) { s.before = only(2, status(503)) }, "http_503", false},
		{"whole batch 500", func(s *elasticServer) { s.before = only(1, status(500)) }, "http_500", false},
		{"credentials refused for a time", func(s *elasticServer) { s.before = only(2, status(401)) }, "http_401", false},
		{"items 429", fromItem(outcome{429, "es_rejected_execution_exception"}), "items_429", true},
		{"items 503", fromItem(outcome{503, "unavailable_shards_exception"}), "items_503", true},
		{"items blocked", fromItem(outcome{403, "cluster_block_exception"}), "items_403", true},
		{"answer cut after the effect", func(s *elasticServer) {
			s.answer = func(n int, w http.ResponseWriter, body []byte) {
				if n < 2 {
					hangUp(w, string(body[:len(body)/2]))
					return
				}
				_, _ = w.Write(body)
			}
		}, "network", true},
		{"answer cut before the effect", func(s *elasticServer) {
			s.before = only(2, func(w http.ResponseWriter, _ *http.Request) { hangUp(w, `{"items":[`) })
		}, "network", false},
		{"answer of somebody else", func(s *elasticServer) {
			s.before = only(1, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>welcome</html>") })
		}, "bad_answer", false},
		{"answer that leaves documents out", func(s *elasticServer) {
			s.before = only(1, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"errors":false,"items":[]}`) })
		}, "bad_answer", false},
		{"slow", func(s *elasticServer) {
			s.before = only(1, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
		}, "timeout", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			server := newElasticServer(t)
			server.say(tt.set)
			cfg := ElasticConfig{URL: server.URL}
			if tt.failure == "timeout" {
				cfg.Timeout = 100 * time.Millisecond
			}
			sink, logs := newElastic(t, cfg)
			logAll(logs, texts(30))
			if err := flush(t, sink); err != nil {
				t.Fatal(err)
			}
			server.checkIndexed(t, texts(30)...)
			st := checkElastic(t, sink)
			if st.Sent != 30 || len(st.Dropped) != 0 || len(st.Refused) != 0 {
				t.Errorf("stats %+v, want 30 sent", st)
			}
			if st.Failures[tt.failure] == 0 || len(st.Failures) != 1 {
				t.Errorf("failures %v, want %s", st.Failures, tt.failure)
			}
			if (st.Conflicts > 0) != tt.repeats {
				t.Errorf("%d conflicts, want some: %v", st.Conflicts, tt.repeats)
			}
		})
	}
}

// TestElasticRefusals has the server refuse documents for good: they are
// dropped, the others are not.
func TestElasticRefusals(t *testing.T) {
	bad := func(doc map[string]any) bool {
		return strings.HasSuffix(doc["message"].(string), "5")
	}
	tests := []struct {
		name    string
		set     func(s *elasticServer)
		dropped map[string]int64
		refused map[string]int64
	}{
		{"items 400", func(s *elasticServer) {
			s.item = func(_ int, doc map[string]any) outcome {
				if bad(doc) {
					return outcome{400, "document_parsing_exception"}
				}
				return outcome{}
			}
		}, map[string]int64{"rejected": 2}, map[string]int64{"document_parsing_exception": 2}},
		{"items 400 beside items 429", func(s *elasticServer) { // counted once, though answered three times
			s.item = func(n int, doc map[string]any) outcome {
				switch {
				case bad(doc):
					return outcome{400, "mapper_parsing_exception"}
				case n < 2 && doc["message"] == "message 007":
					return outcome{429, "es_rejected_execution_exception"}
				}
				return outcome{}
			}
		}, map[string]int64{"rejected": 2}, map[string]int64{"mapper_parsing_exception": 2}},
		{"whole batch 400 for the sake of one", func(s *elasticServer) {
			s.before = func(_ int, w http.ResponseWriter, r *http.Request, body []byte) bool {
				n, err := countDocuments(requestOf(r, body))
				if err != nil || n == 0 || !strings.Contains(unzipped(body), "message 005") {
					return false
				}
				refuse(w, 400, "illegal_argument_exception", "no")
				return true
			}
		}, map[string]int64{"rejected": 1}, map[string]int64{}},
		{"413 above eight documents", func(s *elasticServer) {
			s.before = func(_ int, w http.ResponseWriter, r *http.Request, body []byte) bool {
				n, err := countDocuments(requestOf(r, body))
				if err != nil || n <= 8 {
					return false
				}
				refuse(w, 413, "too_large", "no")
				return true
			}
		}, map[string]int64{}, map[string]int64{}},
		{"400 in a half that is repeated for the other's sake", func(s *elasticServer) { // counted once
			s.before = func(_ int, w http.ResponseWriter, r *http.Request, body []byte) bool {
				n, err := countDocuments(requestOf(r, body))
				if err != nil || n <= 10 {
					return false
				}
				refuse(w, 413, "too_large", "no")
				return true
			}
			s.item = func(n int, doc map[string]any) outcome {
				switch {
				case doc["message"] == "message 005":
					return outcome{400, "document_parsing_exception"}
				case n < 3 && doc["message"] == "message 017":
					return outcome{429, "es_rejected_execution_exception"}
				}
				return outcome{}
			}
		}, map[string]int64{"rejected": 1}, map[string]int64{"document_parsing_exception": 1}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			server := newElasticServer(t)
			server.say(tt.set)
			sink, logs := newElastic(t, ElasticConfig{URL: server.URL})
			logAll(logs, texts(20))
			err := flush(t, sink)
			if (err != nil) != (len(tt.dropped) > 0) {
				t.Errorf("Flush = %v", err)
			}
			st := checkElastic(t, sink)
			if diff := cmp.Diff(tt.dropped, st.Dropped); diff != "" {
				t.Errorf("dropped (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tt.refused, st.Refused); diff != "" {
				t.Errorf("refused (-want +got):\n%s", diff)
			}
			if st.Sent+st.Dropped["rejected"] != 20 || int64(len(server.docs)) != st.Sent {
				t.Errorf("%d sent, %d indexed", st.Sent, len(server.docs))
			}
		})
	}
}

func requestOf(r *http.Request, body []byte) *http.Request {
	c := httptest.NewRequest(http.MethodPost, "/", nil)
	c.Header = r.Header
	c.GetBody = bodyOf(body)
	return c
}

// TestElasticRestart stops a program while the server is away, and starts
// another over the same spool.
func TestElasticRestart(t *testing.T) {
	tests := []struct {
		name    string
		set     func(s *elasticServer)
		arrived bool
	}{
		{"nothing had arrived", func(s *elasticServer) {
			s.before = func(_ int, w http.ResponseWriter, _ *http.Request, _ []byte) bool { hangUp(w, ""); return true }
		}, false},
		{"some had arrived, but the answer was lost", func(s *elasticServer) {
			s.answer = func(_ int, w http.ResponseWriter, _ []byte) { hangUp(w, "") }
		}, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			server, dir := newElasticServer(t), t.TempDir()
			server.say(tt.set)
			first, logs := newElastic(t, ElasticConfig{URL: server.URL, SpoolDir: dir})
			logAll(logs, texts(40))
			if err := logs.Close(t.Context()); err != nil {
				t.Fatal(err)
			}
			if st := checkElastic(t, first); st.Spooled != 40 || st.Sent != 0 || st.SpoolBytes == 0 {
				t.Errorf("stats %+v, want 40 spooled", st)
			}
			var arrived int64 // in the batches that were tried: how many lines these had depends on the machine
			server.say(func(s *elasticServer) { s.before, s.answer, arrived = nil, nil, int64(len(s.docs)) })
			if (arrived > 0) != tt.arrived {
				t.Errorf("%d lines had arrived", arrived)
			}
			second, logs := newElastic(t, ElasticConfig{URL: server.URL, SpoolDir: dir})
			logAll(logs, []string{"after"})
			if err := logs.Close(t.Context()); err != nil {
				t.Fatal(err)
			}
			st := checkElastic(t, second)
			if st.Adopted != 40 || st.Sent != 41 || st.Spooled != 0 || st.Conflicts != arrived {
				t.Errorf("stats %+v, want 40 adopted, 41 sent and %d conflicts", st, arrived)
			}
			server.checkIndexed(t, append(texts(40), "after")...)
		})
	}
}

// TestElasticSpoolsApart: a batch does not say where it belongs, so one target
// must not find those of another.
func TestElasticSpoolsApart(t *testing.T) {
	server, dir := newElasticServer(t), t.TempDir()
	server.say(func(s *elasticServer) { s.before = only(1<<30, status(503)) })
	_, logs := newElastic(t, ElasticConfig{URL: server.URL, SpoolDir: dir})
	logAll(logs, texts(3))
	if err := logs.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, index := range []string{"logs.kaizen.default", "logs_kaizen_default"} {
		other, _ := newElastic(t, ElasticConfig{URL: server.URL, SpoolDir: dir, Index: index})
		if st := other.Stats(); st.Adopted != 0 {
			t.Errorf("%s adopted %d lines of another target", index, st.Adopted)
		}
	}
}

func TestElasticClose(t *testing.T) {
	t.Run("sends what waits", func(t *testing.T) {
		server := newElasticServer(t)
		sink, logs := newElastic(t, ElasticConfig{URL: server.URL})
		logAll(logs, texts(5))
		if err := logs.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		server.checkIndexed(t, texts(5)...)
		if err := sink.Write(&Record{Line: []byte(`{"a":1}`)}); !errors.Is(err, ErrClosed) {
			t.Errorf("Write after Close = %v", err)
		}
	})
	t.Run("tells what is lost without a spool", func(t *testing.T) {
		server := newElasticServer(t)
		server.say(func(s *elasticServer) { s.before = only(1<<30, status(503)) })
		sink, logs := newElastic(t, ElasticConfig{URL: server.URL})
		logAll(logs, texts(5))
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		defer cancel()
		if err := logs.Close(ctx); err == nil {
			t.Error("Close = nil, though lines were lost")
		}
		<-ctx.Done()
		_ = sink.Close(t.Context()) // waits for the first
		if st := checkElastic(t, sink); st.Dropped["shutdown"] != 5 {
			t.Errorf("dropped %v, want 5 at shutdown", st.Dropped)
		}
	})
}

func TestElasticQueueIsBounded(t *testing.T) {
	server := newElasticServer(t)
	server.say(func(s *elasticServer) { s.before = only(1<<30, status(503)) })
	sink, logs := newElastic(t, ElasticConfig{URL: server.URL, QueueBytes: 2000})
	logAll(logs, texts(100))
	st := checkElastic(t, sink)
	if st.Dropped["queue_full"] == 0 || st.QueuedBytes > 2000 {
		t.Errorf("stats %+v", st)
	}
	if got := logs.Stats().Errors; int64(got) != st.Dropped["queue_full"] {
		t.Errorf("%d errors, %d dropped", got, st.Dropped["queue_full"])
	}
}

func TestElasticDocument(t *testing.T) {
	tests := []struct {
		name string
		cfg  ElasticConfig
		set  func(s *elasticServer)
	}{
		{"data stream", ElasticConfig{}, func(*elasticServer) {}},
		{"other data stream and key", ElasticConfig{DataStream: "logs-a-b", APIKey: "aWQ6a2V5"}, func(s *elasticServer) { s.target, s.auth = "logs-a-b", "ApiKey aWQ6a2V5" }},
		{"index and password", ElasticConfig{Index: "kaizen_logs.1", User: "u", Password: "p:w"}, func(s *elasticServer) {
			s.target, s.dataStream, s.auth = "kaizen_logs.1", false, "Basic dTpwOnc="
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			server := newElasticServer(t)
			server.say(tt.set)
			tt.cfg.URL = server.URL + "/"
			sink, logs := newElastic(t, tt.cfg)
			h := logs.Handler("planner").WithAttrs([]slog.Attr{slog.String("api_key", "abc")})
			when := time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
			for _, at := range []time.Time{when, {}} { // a record may come without a time, a document must not
				r := slog.NewRecord(at, slog.LevelWarn, "two\nlines", 0)
				r.AddAttrs(slog.String("run_id", "r1"), slog.Group("g", "raw", json.RawMessage("{\n\"a\":\n1}")))
				if err := h.Handle(t.Context(), r); err != nil {
					t.Fatal(err)
				}
			}
			if err := flush(t, sink); err != nil {
				t.Fatal(err)
			}
			want := map[string]any{
				"log.level": "warning", "log.logger": "planner", "message": "two\nlines", "ecs.version": ecsVersion, "kaizen.run.id": "r1",
				"kaizen.context": map[string]any{"api_key": "[REDACTED:field]", "g": map[string]any{"raw": map[string]any{"a": 1.0}}},
			}
			server.mu.Lock()
			defer server.mu.Unlock()
			times := 0
			for id, doc := range server.docs {
				if _, err := ulid.ParseStrict(id); err != nil {
					t.Errorf("id %q: %v", id, err)
				}
				at, err := time.Parse(time.RFC3339Nano, fmt.Sprint(doc["@timestamp"]))
				if err != nil || (!at.Equal(when) && time.Since(at) > time.Hour) {
					t.Errorf("@timestamp %v", doc["@timestamp"])
				}
				if at.Equal(when) {
					times++
				}
				delete(doc, "@timestamp")
				if diff := cmp.Diff(want, doc); diff != "" {
					t.Errorf("document (-want +got):\n%s", diff)
				}
			}
			if len(server.docs) != 2 || times != 1 {
				t.Errorf("%d documents, %d with the time of the record", len(server.docs), times)
			}
		})
	}
}

// TestElasticKeepsOrder: ids sort as the lines were written, also in batches
// that are bounded by their size.
func TestElasticKeepsOrder(t *testing.T) {
	server := newElasticServer(t)
	sink, logs := newElastic(t, ElasticConfig{URL: server.URL, BatchBytes: 2000})
	logAll(logs, texts(100))
	if err := flush(t, sink); err != nil {
		t.Fatal(err)
	}
	server.mu.Lock()
	defer server.mu.Unlock()
	byMessage := map[string]string{}
	for id, doc := range server.docs {
		byMessage[doc["message"].(string)] = id
	}
	all := texts(100)
	for i := 1; i < len(all); i++ {
		if byMessage[all[i-1]] >= byMessage[all[i]] {
			t.Errorf("id of %q is not below that of %q", all[i-1], all[i])
		}
	}
	if len(server.sizes) < 5 {
		t.Errorf("%d batches", len(server.sizes))
	}
}

// TestElasticIdsDiffer also when the random number that they count up from
// begins at the top.
func TestElasticIdsDiffer(t *testing.T) {
	sink, _ := newElastic(t, ElasticConfig{URL: "http://127.0.0.1:1"})
	sink.entropy = ulid.Monotonic(bytes.NewReader(bytes.Repeat([]byte{0xff}, 1000)), 0)
	seen := map[string]bool{}
	for range 100 {
		lines, err := sink.encode(nil, []byte("{}"))
		if err != nil || seen[string(lines)] {
			t.Fatalf("encode = %q again, %v", lines, err)
		}
		seen[string(lines)] = true
	}
}

func TestElasticTLS(t *testing.T) {
	server := newElasticServer(t)
	secure := httptest.NewTLSServer(server)
	defer secure.Close()
	secure.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	pool := x509.NewCertPool()
	pool.AddCert(secure.Certificate())
	sink, logs := newElastic(t, ElasticConfig{URL: secure.URL, TLS: &tls.Config{RootCAs: pool}})
	logAll(logs, texts(1))
	if err := flush(t, sink); err != nil {
		t.Fatal(err)
	}
	server.checkIndexed(t, texts(1)...)
	doubtful, logs := newElastic(t, ElasticConfig{URL: secure.URL, SpoolDir: t.TempDir()})
	logAll(logs, []string{"secret"})
	if err := logs.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if st := doubtful.Stats(); st.Spooled != 1 || st.Failures["network"] == 0 {
		t.Errorf("stats %+v: a server that nobody vouches for must get nothing", st)
	}
	server.checkIndexed(t, texts(1)...)
}

func TestElasticDoesNotFollow(t *testing.T) {
	thief := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		t.Errorf("redirected with %v", r.Header)
	}))
	defer thief.Close()
	server := newElasticServer(t)
	server.say(func(s *elasticServer) {
		s.before = only(1<<30, func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, thief.URL, http.StatusTemporaryRedirect)
		})
	})
	sink, logs := newElastic(t, ElasticConfig{URL: server.URL, User: "u", Password: "p"})
	logAll(logs, texts(1))
	if err := flush(t, sink); err == nil {
		t.Error("Flush = nil")
	}
	if st := sink.Stats(); st.Failures["http_307"] == 0 {
		t.Errorf("failures %v", st.Failures)
	}
}

func TestNewElasticRefuses(t *testing.T) {
	file := t.TempDir() + "/file"
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, cfg := range map[string]ElasticConfig{
		"URL": {URL: "::"}, "scheme": {URL: "ftp://a"}, "no host": {URL: "http://"}, "query": {URL: "http://a?b=c"}, "secret in the URL": {URL: "http://u:hunter2@a"},
		"two targets": {DataStream: "a", Index: "b"}, "upper case": {Index: "A"}, "wildcard": {Index: "a*"}, "hidden": {Index: "_all"}, "dots": {Index: ".."},
		"long": {Index: strings.Repeat("a", 256)}, "two credentials": {APIKey: "a", User: "b"}, "password alone": {Password: "hunter2"},
		"negative": {QueueBytes: -1}, "spool is a file": {SpoolDir: file},
	} {
		sink, err := NewElastic(cfg)
		if err == nil {
			_ = sink.Close(t.Context())
			t.Errorf("NewElastic(%s) took it", name)
		} else if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("NewElastic(%s) tells the password: %v", name, err)
		}
	}
}

// wants is a recorder that asks for a format.
type wants struct {
	recorder
	format Format
}

func (w *wants) WantsAttrs() bool    { return false }
func (w *wants) WantsFormat() Format { return w.format }

// TestSinksOfManyFormats: what a sink gets in a format of its own is what it
// would get if all had that format.
func TestSinksOfManyFormats(t *testing.T) {
	do := func(logs *Logs) {
		logs.AddContext(slog.String("env", "test"))
		logger := logs.Logger("a").With("api_key", "abc", "session_id", "s1")
		ctx := agentContext(t.Context())
		for _, args := range [][]any{nil, {"n", 1, "run_id", "r7"}, {"n", 1, "n", 2}, {slog.Group("g", "x", 0.5)}, {"err", badError{}}, {"v", make(chan int)}} {
			logger.InfoContext(ctx, "login of ada@example.com", args...)
			logger.WithGroup("outer").With("k", "v").WithGroup("n").InfoContext(ctx, "m", args...)
		}
		logs.Logger("bare").Info("m")
	}
	plain := func(sinks []Sink) [][]byte {
		var lines [][]byte
		for _, r := range sinks[len(sinks)-1].(*wants).records {
			_, after, _ := strings.Cut(string(r.Line), "Z") // without the time
			lines = append(lines, []byte(after))
		}
		return lines
	}
	for _, main := range []Format{FormatJSON, FormatECS, FormatText} {
		for _, own := range []Format{FormatJSON, FormatECS, FormatText} {
			t.Run(fmt.Sprintf("%d beside %d", own, main), func(t *testing.T) {
				alone := []Sink{&wants{format: own}}
				both := []Sink{&wants{format: main}, &wants{format: own}, &wants{format: own}}
				for _, c := range []Config{{Format: own, Sinks: alone}, {Format: main, Sinks: both}} {
					logs, err := New(c)
					if err != nil {
						t.Fatal(err)
					}
					do(logs)
					if st := logs.Stats(); st.Errors != 0 || st.Failed != 0 {
						t.Errorf("stats %+v", st)
					}
				}
				if diff := cmp.Diff(plain(alone), plain(both)); diff != "" {
					t.Errorf("lines (-alone +beside):\n%s", diff)
				}
			})
		}
	}
	if _, err := New(Config{Sinks: []Sink{&wants{format: 9}}}); err == nil {
		t.Error("New took a sink that wants an unknown format")
	}
}
