package llmhttp

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/andybalholm/brotli"
	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// recorder is an observer that keeps what it is told.
type recorder struct {
	mu      sync.Mutex
	calls   []Call
	results []Result
}

func (r *recorder) Start(ctx context.Context, c Call) (context.Context, func(Result)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.calls = append(r.calls, c)
	return ctx, func(res Result) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.results = append(r.results, res)
	}
}

// one returns the only result so far.
func (r *recorder) one(t testing.TB) Result {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.results) != 1 {
		t.Fatalf("the call ended %d times, want once", len(r.results))
	}
	return r.results[0]
}

// roundTripper is a function as a transport.
type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// pieces is a body that delivers one piece with each Read, then err.
type pieces struct {
	list [][]byte
	err  error
}

func (p *pieces) Read(b []byte) (int, error) {
	for len(p.list) > 0 && len(p.list[0]) == 0 {
		p.list = p.list[1:]
	}
	if len(p.list) == 0 {
		return 0, p.err
	}
	n := copy(b, p.list[0])
	p.list[0] = p.list[0][n:]
	return n, nil
}

func (p *pieces) Close() error { return nil }

// response is one with a body in pieces.
func response(status int, header map[string]string, list ...[]byte) *http.Response {
	h := http.Header{}
	for k, v := range header {
		h.Set(k, v)
	}
	return &http.Response{StatusCode: status, Header: h, ContentLength: -1, Body: &pieces{list: list, err: io.EOF}}
}

// requests are the bodies of the dialects' requests.
var requests = map[string]struct{ url, body string }{
	"chat":                {"https://api.openai.com/v1/chat/completions", `{"messages":[{"role":"user","content":"hi"}],"model":"gpt-4o","stream":true}`},
	"responses":           {"https://api.openai.com/v1/responses", `{"input":"hi","model":"gpt-5","stream":true}`},
	"embeddings":          {"https://api.openai.com/v1/embeddings", `{"input":["hi"],"model":"text-embedding-3-small"}`},
	"anthropic":           {"https://api.anthropic.com/v1/messages", `{"max_tokens":1024,"messages":[{"role":"user","content":"hi"}],"model":"claude-sonnet-4-5","stream":true}`},
	"gemini":              {"https://generativelanguage.googleapis.com/v1beta/models/gemini-2.5-flash:generateContent", `{"contents":[{"role":"user","parts":[{"text":"hi"}]}]}`},
	"geministream":        {"https://generativelanguage.googleapis.com/v1beta/models/gemini-2.5-flash:streamGenerateContent?alt=sse", `{"contents":[{"role":"user","parts":[{"text":"hi"}]}]}`},
	"geminiembed":         {"https://generativelanguage.googleapis.com/v1beta/models/gemini-embedding-001:batchEmbedContents", `{"requests":[{"model":"models/gemini-embedding-001","content":{"parts":[{"text":"hi"}]}}]}`},
	"ollamachat":          {"http://127.0.0.1:11434/api/chat", `{"model":"qwen3:8b","messages":[{"role":"user","content":"hi"}]}`},
	"ollamaonce":          {"http://127.0.0.1:11434/api/chat", `{"model":"qwen3:8b","stream":false,"messages":[{"role":"user","content":"hi"}]}`},
	"ollamagenerate":      {"http://127.0.0.1:11434/api/generate", `{"model":"llama3.2","prompt":"hi"}`},
	"ollamageneratedonce": {"http://127.0.0.1:11434/api/generate", `{"model":"llama3.2","prompt":"hi","stream":false}`},
	"geminiembedone":      {"https://generativelanguage.googleapis.com/v1beta/models/gemini-embedding-001:embedContent", `{"content":{"parts":[{"text":"hi"}]}}`},
	"ollamaembed":         {"http://127.0.0.1:11434/api/embed", `{"model":"all-minilm","input":"hi"}`},
	"bedrock":             {"https://bedrock-runtime.us-east-1.amazonaws.com/model/anthropic.claude-sonnet-4-5-20250929-v1%3A0/converse", `{"messages":[{"role":"user","content":[{"text":"hi"}]}]}`},
	"bedrockstream":       {"https://bedrock-runtime.us-east-1.amazonaws.com/model/anthropic.claude-sonnet-4-5-20250929-v1%3A0/converse-stream", `{"messages":[{"role":"user","content":[{"text":"hi"}]}]}`},
}

func request(t testing.TB, dialect string) *http.Request {
	t.Helper()
	r := requests[dialect]
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, r.url, strings.NewReader(r.body))
	if err != nil {
		t.Fatal(err)
	}
	return req
}

// observe has resp answer a request, reads it as a caller does, checks that
// the caller gets exactly what was sent, and returns what the observer was told.
func observe(t testing.TB, dialect string, cfg Config, resp *http.Response, sent []byte) Result {
	t.Helper()
	var rec recorder
	rt := Transport(roundTripper(func(*http.Request) (*http.Response, error) { return resp, nil }), &rec, cfg)
	got, err := rt.RoundTrip(request(t, dialect))
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(got.Body)
	if err != nil || !bytes.Equal(body, sent) {
		t.Fatalf("the caller got %d bytes and %v, want the %d bytes that were sent", len(body), err, len(sent))
	}
	if err := got.Body.Close(); err != nil {
		t.Fatal(err)
	}
	return rec.one(t)
}

// golden is a result as it stands in a golden file.
func golden(r Result) string {
	r.FirstChunk = 0
	text := struct {
		Result
		Err string
	}{r, ""}
	if r.Err != nil {
		text.Err = r.Err.Error()
	}
	b, err := json.MarshalIndent(text, "", "  ")
	if err != nil {
		return err.Error()
	}
	return string(b) + "\n"
}

// fixture is a response in testdata/wire: dialect[-variant][.status].form
type fixture struct {
	file, dialect string
	status        int
	body          []byte
	form          string
	contentType   string
}

// contentTypes are the forms of answers and what their servers call them. An
// array is a stream too: Gemini's without alt=sse.
var contentTypes = map[string]string{"sse": "text/event-stream; charset=utf-8", "array": "application/json; charset=UTF-8", "ndjson": "application/x-ndjson",
	"events": "application/vnd.amazon.eventstream", "json": "application/json", "html": "text/html"}

// streams reports whether the answer is a stream that went well at its head.
func (f fixture) streams() bool { return f.form != "json" && f.form != "html" && f.status == 200 }

func fixtures(t testing.TB) []fixture {
	t.Helper()
	files, err := filepath.Glob("testdata/wire/*.*")
	if err != nil {
		t.Fatal(err)
	}
	var all []fixture
	for _, file := range files {
		if strings.HasSuffix(file, ".want") {
			continue
		}
		body, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		parts := strings.Split(filepath.Base(file), ".")
		f := fixture{file: file, body: body, status: 200}
		f.dialect, _, _ = strings.Cut(parts[0], "-")
		if len(parts) == 3 {
			if f.status, err = strconv.Atoi(parts[1]); err != nil {
				t.Fatal(err)
			}
		}
		f.form = parts[len(parts)-1]
		f.contentType = contentTypes[f.form]
		if f.form == "events" {
			f.body = framed(t, string(body))
		}
		all = append(all, f)
	}
	if len(all) < 30 {
		t.Fatalf("only %d fixtures", len(all))
	}
	return all
}

func (f fixture) response(list ...[]byte) *http.Response {
	return response(f.status, map[string]string{"Content-Type": f.contentType, "X-Request-Id": "req_1"}, list...)
}

// TestWire reads each fixture in one piece, compares it with the golden file,
// and then cut at every byte, a byte at a time, with other line ends, and
// compressed: always with the same result.
func TestWire(t *testing.T) {
	for _, f := range fixtures(t) {
		t.Run(filepath.Base(f.file), func(t *testing.T) {
			want := golden(observe(t, f.dialect, Config{Content: true}, f.response(f.body), f.body))
			if *update {
				if err := os.WriteFile(f.file+".want", []byte(want), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			file, err := os.ReadFile(f.file + ".want")
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(file), want); diff != "" {
				t.Fatalf("result (-golden +got):\n%s", diff)
			}
			for i := range f.body {
				if got := golden(observe(t, f.dialect, Config{Content: true}, f.response(f.body[:i:i], f.body[i:]), f.body)); got != f.endedAt(i, want) {
					t.Fatalf("cut at byte %d:\n%s", i, cmp.Diff(want, got))
				}
			}
			if got := golden(observe(t, f.dialect, Config{Content: true}, f.response(bytesOf(f.body)...), f.body)); got != f.endedAt(len(bytes.TrimRight(f.body, "\n")), want) {
				t.Errorf("a byte at a time:\n%s", cmp.Diff(want, got))
			}
			f.compressed(t, want)
		})
	}
}

// endedAt is the golden text of a fixture that is cut at byte i. Where only the
// newline is left behind an object that ends the answer, the call has ended there.
func (f fixture) endedAt(i int, want string) string {
	if f.form == "ndjson" && string(f.body[i:]) == "\n" && !strings.Contains(want, `"ErrorType": "cut"`) {
		return withBytes(want, i)
	}
	return want
}

func bytesOf(b []byte) [][]byte {
	var list [][]byte
	for i := range b {
		list = append(list, b[i:i+1])
	}
	return list
}

// compressed delivers the fixture in each encoding, whole and in pieces.
func (f fixture) compressed(t *testing.T, want string) {
	t.Helper()
	for _, encoding := range []string{"gzip", "deflate", "br", "zstd"} {
		all := compress(t, encoding, f.body)
		f.decompressed(t, want, encoding, all, all)
		f.decompressed(t, want, encoding, all, bytesOf(all)...)
	}
	// Deflate without the zlib format around it, which some servers send.
	var bare bytes.Buffer
	w, err := flate.NewWriter(&bare, flate.DefaultCompression)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(f.body); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	f.decompressed(t, want, "deflate", bare.Bytes(), bare.Bytes())
}

// compress returns body in an encoding.
func compress(t testing.TB, encoding string, body []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	var w io.WriteCloser
	switch encoding {
	case "gzip":
		w = gzip.NewWriter(&b)
	case "deflate":
		w = zlib.NewWriter(&b)
	case "br":
		w = brotli.NewWriter(&b)
	case "zstd":
		z, err := zstd.NewWriter(&b, zstd.WithEncoderConcurrency(1))
		if err != nil {
			t.Fatal(err)
		}
		w = z
	}
	if _, err := w.Write(body); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// decompressed checks that the fixture shows the same in an encoding, delivered in pieces.
func (f fixture) decompressed(t *testing.T, want, encoding string, all []byte, pieces ...[]byte) {
	t.Helper()
	resp := f.response(pieces...)
	resp.Header.Set("Content-Encoding", encoding)
	r := observe(t, f.dialect, Config{Content: true}, resp, all)
	if !strings.Contains(want, `"Err": "llmhttp: stream ended`) && r.Err == nil && f.streams() && r.Chunks == 0 {
		t.Errorf("%s: nothing was seen", encoding)
	}
	r.Bytes = int64(len(f.body))
	if got := golden(r); got != withBytes(want, len(f.body)) {
		t.Errorf("%s:\n%s", encoding, cmp.Diff(withBytes(want, len(f.body)), got))
	}
}

// withBytes sets the count of bytes in a golden text: a stream ends at its last
// event, which may not be its last byte.
func withBytes(golden string, n int) string {
	i := strings.Index(golden, `"Bytes": `)
	j := i + strings.IndexAny(golden[i:], ",\n")
	return golden[:i] + fmt.Sprintf(`"Bytes": %d`, n) + golden[j:]
}

// TestWireLineEnds reads the streams with CR LF.
func TestWireLineEnds(t *testing.T) {
	for _, f := range fixtures(t) {
		if !strings.HasSuffix(f.file, ".sse") {
			continue
		}
		crlf := bytes.ReplaceAll(f.body, []byte("\n"), []byte("\r\n"))
		a := observe(t, f.dialect, Config{Content: true}, f.response(f.body), f.body)
		b := observe(t, f.dialect, Config{Content: true}, f.response(crlf), crlf)
		a.Bytes, b.Bytes = 0, 0
		if golden(a) != golden(b) {
			t.Errorf("%s with CR LF:\n%s", f.file, cmp.Diff(golden(a), golden(b)))
		}
	}
}

// TestWireWithoutContent: the same facts, and no text.
func TestWireWithoutContent(t *testing.T) {
	for _, f := range fixtures(t) {
		with := observe(t, f.dialect, Config{Content: true}, f.response(f.body), f.body)
		without := observe(t, f.dialect, Config{}, f.response(f.body), f.body)
		if without.Output != nil {
			t.Errorf("%s: output without being asked: %+v", f.file, without.Output)
		}
		with.Output = nil
		if golden(with) != golden(without) {
			t.Errorf("%s:\n%s", f.file, cmp.Diff(golden(with), golden(without)))
		}
	}
}

// TestWireTooLong pads the answers beyond what is kept: usage, ids and the
// finish that the document's edges tell are still found.
func TestWireTooLong(t *testing.T) {
	pad := strings.Repeat(`\"x{`, keepBytes/3)
	tests := []struct{ name, dialect, contentType, body string }{
		{"chat", "chat", "application/json", `{"id":"i","model":"m","choices":[{"index":0,"message":{"content":"` + pad + `"}}],"usage":{"prompt_tokens":3,"completion_tokens":2}}`},
		{"chat stream", "chat", "text/event-stream", `data: {"id":"i","model":"m","choices":[{"delta":{"content":"` + pad + `"}}],"usage":{"prompt_tokens":3,"completion_tokens":2}}` + "\r\n\r\ndata: [DONE]\n\n"},
		{"responses", "responses", "application/json", `{"id":"i","output":[{"pad":"` + pad + `"}],"model":"m","status":"completed","usage":{"input_tokens":3,"output_tokens":2}}`},
		{"responses stream", "responses", "text/event-stream", `data: {"type":"response.completed","response":{"id":"i","instructions":"` + pad + `","model":"m","status":"completed","usage":{"input_tokens":3,"output_tokens":2}}}` + "\n\n"},
		{"anthropic", "anthropic", "application/json", `{"id":"i","model":"m","content":[{"type":"text","text":"` + pad + `"}],"stop_reason":"end_turn","usage":{"input_tokens":3,"output_tokens":2}}`},
		{"gemini", "gemini", "application/json", `{"candidates":[{"content":{"parts":[{"text":"` + pad + `"}]},"finishReason":"STOP"}],"usageMetadata":{"promptTokenCount":3,"candidatesTokenCount":2},"modelVersion":"m","responseId":"i"}`},
		{"gemini stream", "geministream", "text/event-stream", `data: {"candidates":[{"content":{"parts":[{"text":"` + pad + `"}]},"finishReason":"STOP"}],"usageMetadata":{"promptTokenCount":3,"candidatesTokenCount":2},"modelVersion":"m","responseId":"i"}` + "\r\n\r\n"},
		{"gemini array", "geministream", "application/json", `[{"candidates":[{"content":{"parts":[{"text":"` + pad + `"}]},"finishReason":"STOP"}],"usageMetadata":{"promptTokenCount":3,"candidatesTokenCount":2},"modelVersion":"m","responseId":"i"}]`},
		{"ollama stream", "ollamachat", "application/x-ndjson", `{"model":"m","message":{"role":"assistant","content":"` + pad + `"},"done":true,"done_reason":"stop","prompt_eval_count":3,"eval_count":2}`},
		{"ollama", "ollamaonce", "application/json", `{"model":"m","message":{"role":"assistant","content":"` + pad + `"},"done":true,"done_reason":"stop","prompt_eval_count":3,"eval_count":2}`},
		{"ollama embeddings", "ollamaembed", "application/json", `{"model":"m","embeddings":["` + pad + `"],"prompt_eval_count":3,"eval_count":2}`},
		{"bedrock", "bedrock", "application/json", `{"output":{"message":{"content":[{"text":"` + pad + `"}]}},"stopReason":"end_turn","usage":{"inputTokens":3,"outputTokens":2}}`},
		{"bedrock stream", "bedrockstream", "application/vnd.amazon.eventstream", string(framed(t, `contentBlockDelta {"delta":{"text":"`+pad+`"}}`+"\n"+`metadata {"pad":"`+pad+`","usage":{"inputTokens":3,"outputTokens":2}}`+"\n"))},
		{"embeddings", "embeddings", "application/json", `{"data":["` + pad + `"],"id":"i","model":"m","usage":{"prompt_tokens":3,"completion_tokens":2}}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for _, size := range []int{len(tt.body), 4093, 65536} {
				var list [][]byte
				for b := []byte(tt.body); len(b) > 0; {
					n := min(size, len(b))
					list, b = append(list, b[:n]), b[n:]
				}
				r := observe(t, tt.dialect, Config{}, response(200, map[string]string{"Content-Type": tt.contentType}, list...), []byte(tt.body))
				if !r.HasUsage || r.Usage.Input != 3 || r.Usage.Output != 2 || tt.dialect != "bedrock" && tt.dialect != "bedrockstream" && (r.ResponseModel != "m" || r.ResponseID != "i" && !strings.HasPrefix(tt.dialect, "ollama")) || r.Err != nil || r.Partial {
					t.Errorf("in pieces of %d: %s", size, golden(r))
				}
				if r.Truncated == strings.Contains(tt.name, "embeddings") {
					t.Errorf("in pieces of %d: Truncated = %v", size, r.Truncated)
				}
			}
		})
	}
}

// TestMidStreamError cuts the streams by a read error at each event.
func TestMidStreamError(t *testing.T) {
	broken := errors.New("connection reset by peer")
	for _, f := range fixtures(t) {
		if !f.streams() {
			continue
		}
		whole := observe(t, f.dialect, Config{}, f.response(f.body), f.body)
		for i := 0; i < len(f.body); i += 97 {
			var rec recorder
			resp := f.response()
			resp.Body = &pieces{list: [][]byte{f.body[:i:i]}, err: broken}
			rt := Transport(roundTripper(func(*http.Request) (*http.Response, error) { return resp, nil }), &rec, Config{})
			got, err := rt.RoundTrip(request(t, f.dialect))
			if err != nil {
				t.Fatal(err)
			}
			if body, err := io.ReadAll(got.Body); err != broken || !bytes.Equal(body, f.body[:i]) {
				t.Fatalf("%s cut at %d: the caller got %d bytes and %v", f.file, i, len(body), err)
			}
			r := rec.one(t)
			// Once the model has said why it stopped, the rest is form.
			if done := len(r.FinishReasons) > 0; r.Partial == done || (r.Err == nil) != done && whole.Err == nil {
				t.Fatalf("%s cut at %d: %s", f.file, i, golden(r))
			}
			if r.Err == broken && r.ErrorType != ErrorCut {
				t.Fatalf("ErrorType = %q", r.ErrorType)
			}
		}
	}
}
