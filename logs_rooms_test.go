package kaizen

import (
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/protobuf/encoding/protowire"
)

// TestSentLinesAreTheOnesThatWereLogged: rooms of lines are used again and records
// share the ids of their run, and still each record arrives once, as it was logged,
// with many who log at once and a garbage collector that never rests.
func TestSentLinesAreTheOnesThatWereLogged(t *testing.T) {
	percent := debug.SetGCPercent(1)
	defer debug.SetGCPercent(percent)
	got := &logTaker{records: map[string]map[string]string{}}
	obs, err := Start(t.Context(), Config{
		Server: "http://127.0.0.1:1", HTTPClient: &http.Client{Transport: got}, SpoolDir: NoSpool,
		LogWriter: io.Discard, Off: Audit | Metrics | Traces,
	})
	if err != nil {
		t.Fatal(err)
	}
	const writers, lines = 6, 240
	var wg sync.WaitGroup
	for g := range writers {
		logger := obs.Logger("l").With("part", strconv.Itoa(g))
		wg.Go(func() {
			for i := range lines {
				logLineOf(t.Context(), logger, g, i)
			}
		})
	}
	wg.Wait()
	if err := obs.Shutdown(context.Background()); err != nil {
		t.Error(err)
	}
	want := map[string]map[string]string{}
	for g := range writers {
		for i := range lines {
			want[name(g, i)] = wantLineOf(g, i)
		}
	}
	if diff := cmp.Diff(want, got.records); diff != "" {
		t.Errorf("records (-logged +sent):\n%.2000s", diff)
	}
	for _, problem := range got.problems {
		t.Error(problem)
	}
}

func name(g, i int) string { return fmt.Sprintf("%d-%d", g, i) }

// runOf changes after every third line: some lines have the run of the one before.
func runOf(g, i int) Run {
	return Run{RunID: fmt.Sprint("run-", (g+i/3)%5), AgentID: fmt.Sprint("agent-", g), UserID: fmt.Sprint("user-", i/7)}
}

func spanOf(g, i int) trace.SpanContext {
	return trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1, byte(g)}, SpanID: trace.SpanID{1, byte(i)}})
}

// saying is a value that says what it is when it is asked.
type saying string

func (s saying) LogValue() slog.Value { return slog.StringValue("told " + string(s)) }

// logLineOf logs a line of one of several shapes.
func logLineOf(ctx context.Context, l *slog.Logger, g, i int) {
	ctx = trace.ContextWithSpanContext(WithRun(ctx, runOf(g, i)), spanOf(g, i))
	n := name(g, i)
	switch i % 6 {
	case 0:
		l.InfoContext(ctx, n)
	case 1:
		l.InfoContext(ctx, n, "a", "a"+n, "n", i)
	case 2: // more than a line has room for
		l.InfoContext(ctx, n, "a", "a"+n, "b", "b"+n, "c", "c"+n, "d", "d"+n, "e", "e"+n, "f", "f"+n)
	case 3:
		l.InfoContext(ctx, n, slog.Group("g", "a", "a"+n), "b", "b"+n)
	case 4: // one name twice
		l.InfoContext(ctx, n, "a", "first", "a", "a"+n)
	case 5:
		l.WithGroup("h").InfoContext(ctx, n, "v", saying(n), "long", strings.Repeat(n, 200))
	}
}

func wantLineOf(g, i int) map[string]string {
	n, run, sc := name(g, i), runOf(g, i), spanOf(g, i)
	want := map[string]string{
		"trace": sc.TraceID().String(), "span": sc.SpanID().String(), "part": strconv.Itoa(g),
		"gen_ai.agent.id": run.AgentID, "kaizen.run.id": run.RunID, "user.id": run.UserID,
	}
	add := func(kvs ...string) {
		for j := 0; j < len(kvs); j += 2 {
			want[kvs[j]] = kvs[j+1]
		}
	}
	switch i % 6 {
	case 1:
		add("a", "a"+n, "n", strconv.Itoa(i))
	case 2:
		add("a", "a"+n, "b", "b"+n, "c", "c"+n, "d", "d"+n, "e", "e"+n, "f", "f"+n)
	case 3:
		add("g.a", "a"+n, "b", "b"+n)
	case 4:
		add("a", "a"+n)
	case 5:
		add("h.v", "told "+n, "h.long", strings.Repeat(n, 200))
	}
	return want
}

// logTaker is a server's log records by their text. It takes every request.
type logTaker struct {
	mu       sync.Mutex
	records  map[string]map[string]string
	problems []string
}

func (s *logTaker) RoundTrip(r *http.Request) (*http.Response, error) {
	var body io.Reader = r.Body
	if r.Header.Get("Content-Encoding") == "gzip" {
		zr, err := gzip.NewReader(r.Body)
		if err != nil {
			return nil, err
		}
		body = zr
	}
	b, err := io.ReadAll(body)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if strings.HasSuffix(r.URL.Path, "/v1/logs") {
		for _, rec := range fieldsAt(b, 1, 2, 2) { // resource_logs, scope_logs, log_records
			s.take(rec)
		}
	}
	return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: http.NoBody, Request: r}, r.Body.Close()
}

// take keeps a record.
func (s *logTaker) take(rec []byte) {
	text := string(fieldsAt(rec, 5, 1)[0])
	attrs := map[string]string{"trace": fmt.Sprintf("%x", fieldsAt(rec, 9)[0]), "span": fmt.Sprintf("%x", fieldsAt(rec, 10)[0])}
	uid := false
	for _, kv := range fieldsAt(rec, 6) {
		key, value := string(fieldsAt(kv, 1)[0]), fieldsAt(kv, 2)[0]
		if key == "log.record.uid" {
			uid = true
			continue
		}
		if _, twice := attrs[key]; twice {
			s.problems = append(s.problems, text+" has two "+key)
		}
		if texts := fieldsAt(value, 1); len(texts) == 1 {
			attrs[key] = string(texts[0])
		} else if _, _, n := protowire.ConsumeTag(value); n > 0 {
			v, _ := protowire.ConsumeVarint(value[n:])
			attrs[key] = strconv.FormatUint(v, 10)
		}
	}
	if _, twice := s.records[text]; twice || !uid {
		s.problems = append(s.problems, fmt.Sprintf("%s: twice %v, with an id of its own %v", text, twice, uid))
	}
	s.records[text] = attrs
}

// fieldsAt are the bytes of every field with the first number, then of those with
// the second number in each of those, and so on.
func fieldsAt(b []byte, path ...protowire.Number) [][]byte {
	found := [][]byte{b}
	for _, num := range path {
		var next [][]byte
		for _, m := range found {
			for len(m) > 0 {
				n, typ, tag := protowire.ConsumeTag(m)
				size := protowire.ConsumeFieldValue(n, typ, m[max(tag, 0):])
				if tag < 0 || size < 0 {
					break
				}
				if n == num && typ == protowire.BytesType {
					v, _ := protowire.ConsumeBytes(m[tag:])
					next = append(next, v)
				}
				m = m[tag+size:]
			}
		}
		found = next
	}
	return found
}
