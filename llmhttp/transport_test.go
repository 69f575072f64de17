package llmhttp

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"
)

const jsonType = "application/json"

func answering(resp func() *http.Response) roundTripper {
	return func(*http.Request) (*http.Response, error) { return resp(), nil }
}

// sentBody is a base transport that keeps what was sent.
type sentBody struct {
	req  *http.Request
	body []byte
	err  error
}

func (s *sentBody) RoundTrip(r *http.Request) (*http.Response, error) {
	s.req = r
	s.body, s.err = io.ReadAll(r.Body)
	_ = r.Body.Close()
	if s.err != nil {
		return nil, s.err
	}
	return response(200, map[string]string{"Content-Type": jsonType}, []byte(`{}`)), nil
}

func TestOtherRequestsAreUntouched(t *testing.T) {
	tests := []struct{ name, method, url, body string }{
		{"GET", "GET", "https://api.openai.com/v1/chat/completions", ""},
		{"other path", "POST", "https://api.openai.com/v1/files", `{"model":"m","messages":[]}`},
		{"gemini token count", "POST", "https://generativelanguage.googleapis.com/v1beta/models/m:countTokens", `{"contents":[]}`},
		{"a chat of a web page", "POST", "https://www.example.org/api/chat", `{"id":"1","messages":[]}`},
		{"converse with a person", "POST", "https://www.example.org/converse", `{"messages":[]}`},
		{"no body", "POST", "https://api.openai.com/v1/responses", ""},
		{"a chat program's messages", "POST", "https://chat.example.org/rooms/1/messages", `{"text":"hi"}`},
		{"a survey's responses", "POST", "https://survey.example.org/api/responses", `{"input":"yes"}`},
		{"token count", "POST", "https://api.anthropic.com/v1/messages/count_tokens", `{"model":"m","messages":[]}`},
		{"batch", "POST", "https://api.anthropic.com/v1/messages/batches", `{"requests":[]}`},
		{"not JSON at an unknown host", "POST", "https://example.org/v1/messages", `hello`},
	}
	for _, tt := range tests {
		for _, rewindable := range []bool{true, false} {
			var rec recorder
			var base sentBody
			rt := Transport(&base, &rec, Config{})
			req := httptest.NewRequest(tt.method, tt.url, strings.NewReader(tt.body))
			if rewindable {
				req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(tt.body)), nil }
			}
			resp, err := rt.RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			if _, ok := resp.Body.(*pieces); !ok {
				t.Errorf("%s: the body was wrapped in %T", tt.name, resp.Body)
			}
			if string(base.body) != tt.body || len(rec.calls) != 0 {
				t.Errorf("%s: %q was sent, %d calls were told", tt.name, base.body, len(rec.calls))
			}
			if rewindable && base.req != req {
				t.Errorf("%s: another request was sent", tt.name)
			}
		}
	}
}

func TestCall(t *testing.T) {
	ref := func(f float64) *float64 { return &f }
	tests := []struct {
		name, url, body string
		header          [2]string
		cfg             Config
		want            Call
	}{
		{"chat", "https://api.openai.com/v1/chat/completions", `{"messages":[{"role":"user","content":"\"model\":\"no\""}],"model":"gpt-4o","stream":true,"max_completion_tokens":50,"temperature":0.5,"top_p":0}`,
			[2]string{"X-Stainless-Retry-Count", "2"}, Config{},
			Call{Provider: "openai", Operation: "chat", Dialect: OpenAIChat, Model: "gpt-4o", Stream: true, ServerAddress: "api.openai.com", ServerPort: 443, Attempt: 2, Counted: true, MaxTokens: 50, Temperature: ref(0.5), TopP: ref(0)}},
		{"responses on loopback", "http://127.0.0.1:8080/v1/responses", `{"model":"gpt-5","input":"hi","max_output_tokens":9,"conversation":{"id":"conv_1"}}`,
			[2]string{}, Config{},
			Call{Provider: "openai", Operation: "chat", Dialect: OpenAIResponses, Model: "gpt-5", ServerAddress: "127.0.0.1", ServerPort: 8080, MaxTokens: 9, ConversationID: "conv_1"}},
		{"embeddings of a gateway", "http://llm.example.org/v1/embeddings", `{"model":"e","input":["a"]}`,
			[2]string{"Amz-Sdk-Request", "attempt=3; max=3"}, Config{Provider: "gateway"},
			Call{Provider: "gateway", Operation: "embeddings", Dialect: OpenAIEmbeddings, Model: "e", ServerAddress: "llm.example.org", ServerPort: 80, Attempt: 2, Counted: true, MaxAttempts: 3}},
		{"anthropic on Azure, known before configured", "https://x.services.ai.azure.com/anthropic/v1/messages/", `{"model":"claude-opus-4-5","max_tokens":1,"messages":[]}`,
			[2]string{"X-Stainless-Retry-Count", "0"}, Config{Provider: "gateway"},
			Call{Provider: "azure.ai.inference", Operation: "chat", Dialect: AnthropicMessages, Model: "claude-opus-4-5", ServerAddress: "x.services.ai.azure.com", ServerPort: 443, Counted: true, MaxTokens: 1}},
		{"model in the path", "https://x.openai.azure.com/openai/deployments/my-gpt/chat/completions?api-version=1", `{"messages":[]}`,
			[2]string{}, Config{},
			Call{Provider: "azure.ai.openai", Operation: "chat", Dialect: OpenAIChat, Model: "my-gpt", ServerAddress: "x.openai.azure.com", ServerPort: 443}},
		{"gemini", "https://generativelanguage.googleapis.com/v1beta/models/gemini-2.5-flash:generateContent", `{"generationConfig":{"temperature":0.5,"topP":0.9,"maxOutputTokens":50},"contents":[]}`,
			[2]string{}, Config{},
			Call{Provider: "gcp.gemini", Operation: "generate_content", Dialect: GeminiGenerateContent, Model: "gemini-2.5-flash", ServerAddress: "generativelanguage.googleapis.com", ServerPort: 443, MaxTokens: 50, Temperature: ref(0.5), TopP: ref(0.9)}},
		{"gemini on Vertex AI", "https://europe-west4-aiplatform.googleapis.com/v1/projects/p/locations/europe-west4/publishers/google/models/gemini-2.5-pro:streamGenerateContent?alt=sse", `{"contents":[]}`,
			[2]string{}, Config{},
			Call{Provider: "gcp.vertex_ai", Operation: "generate_content", Dialect: GeminiGenerateContent, Model: "gemini-2.5-pro", Stream: true, ServerAddress: "europe-west4-aiplatform.googleapis.com", ServerPort: 443}},
		{"gemini on Vertex AI behind a proxy", "http://proxy.example.org/v1/projects/p/locations/global/publishers/google/models/gemini%2Dx%3AgenerateContent", `{"contents":[]}`,
			[2]string{}, Config{},
			Call{Provider: "gcp.vertex_ai", Operation: "generate_content", Dialect: GeminiGenerateContent, Model: "gemini-x", ServerAddress: "proxy.example.org", ServerPort: 80}},
		{"gemini embeddings", "http://127.0.0.1:1/v1beta/models/gemini-embedding-001:embedContent", `{"content":{"parts":[{"text":"hi"}]}}`,
			[2]string{}, Config{},
			Call{Provider: "gcp.gemini", Operation: "embeddings", Dialect: GeminiEmbedContent, Model: "gemini-embedding-001", ServerAddress: "127.0.0.1", ServerPort: 1}},
		{"ollama streams unless told not to", "http://127.0.0.1:11434/api/chat", `{"model":"qwen3:8b","messages":[],"options":{"num_predict":50,"temperature":0.5,"top_p":0.9}}`,
			[2]string{}, Config{},
			Call{Provider: "ollama", Operation: "chat", Dialect: OllamaChat, Model: "qwen3:8b", Stream: true, ServerAddress: "127.0.0.1", ServerPort: 11434, MaxTokens: 50, Temperature: ref(0.5), TopP: ref(0.9)}},
		{"ollama generate", "http://127.0.0.1:11434/api/generate", `{"model":"qwen3:8b","prompt":"hi","stream":false,"options":{"num_predict":-1}}`,
			[2]string{}, Config{},
			Call{Provider: "ollama", Operation: "text_completion", Dialect: OllamaGenerate, Model: "qwen3:8b", ServerAddress: "127.0.0.1", ServerPort: 11434}},
		{"bedrock", "https://bedrock-runtime.us-east-1.amazonaws.com/model/anthropic.claude-sonnet-4-5-20250929-v1%3A0/converse", `{"messages":[],"inferenceConfig":{"maxTokens":50,"temperature":0.5,"topP":0.9}}`,
			[2]string{"Amz-Sdk-Request", "attempt=2; max=3"}, Config{},
			Call{Provider: "aws.bedrock", Operation: "chat", Dialect: BedrockConverse, Model: "anthropic.claude-sonnet-4-5-20250929-v1:0", ServerAddress: "bedrock-runtime.us-east-1.amazonaws.com", ServerPort: 443, Attempt: 1, Counted: true, MaxAttempts: 3, MaxTokens: 50, Temperature: ref(0.5), TopP: ref(0.9)}},
		{"bedrock with an ARN", "http://127.0.0.1:8080/model/arn%3Aaws%3Abedrock%3Aus-east-1%3A123456789012%3Ainference-profile%2Fus.amazon.nova-pro-v1%3A0/converse-stream", `{"messages":[]}`,
			[2]string{}, Config{},
			Call{Provider: "aws.bedrock", Operation: "chat", Dialect: BedrockConverse, Model: "arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.amazon.nova-pro-v1:0", Stream: true, ServerAddress: "127.0.0.1", ServerPort: 8080}},
		{"bedrock with an ARN that a proxy unescaped", "http://127.0.0.1:8080/model/arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.amazon.nova-pro-v1:0/converse", `{"messages":[]}`,
			[2]string{}, Config{},
			Call{Provider: "aws.bedrock", Operation: "chat", Dialect: BedrockConverse, Model: "arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.amazon.nova-pro-v1:0", ServerAddress: "127.0.0.1", ServerPort: 8080}},
		{"body that cannot be read", "https://api.openai.com/v1/chat/completions", "\x1f\x8b compressed",
			[2]string{"Content-Encoding", "gzip"}, Config{Content: true},
			Call{Provider: "openai", Operation: "chat", Dialect: OpenAIChat, ServerAddress: "api.openai.com", ServerPort: 443, Truncated: true}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var rec recorder
			var base sentBody
			req, err := http.NewRequestWithContext(t.Context(), "POST", tt.url, strings.NewReader(tt.body))
			if err != nil {
				t.Fatal(err)
			}
			if tt.header[0] != "" {
				req.Header.Set(tt.header[0], tt.header[1])
			}
			before := req.Clone(t.Context())
			if _, err := Transport(&base, &rec, tt.cfg).RoundTrip(req); err != nil {
				t.Fatal(err)
			}
			for i := range rec.calls { // TestFingerprint checks it
				rec.calls[i].Fingerprint = 0
			}
			if diff := cmp.Diff([]Call{tt.want}, rec.calls); diff != "" {
				t.Errorf("calls (-want +got):\n%s", diff)
			}
			if string(base.body) != tt.body || !reflect.DeepEqual(base.req.Header, before.Header) || base.req.URL.String() != tt.url || base.req.GetBody == nil {
				t.Errorf("sent was %q with %v", base.body, base.req.Header)
			}
		})
	}
}

// TestBodyWithoutGetBody: what was read ahead is sent, then the rest, then the error.
func TestBodyWithoutGetBody(t *testing.T) {
	long := `{"model":"m","messages":["` + strings.Repeat("x", 3*readAheadBytes) + `"]}`
	late := `{"messages":["` + strings.Repeat("x", readAheadBytes) + `"],"model":"late"}`
	broken := errors.New("disk on fire")
	tests := []struct {
		name, body, model string
		err               error
		wantTold          bool
	}{
		{"short", `{"model":"m","messages":[]}`, "m", nil, true},
		{"longer than what is read ahead", long, "m", nil, true},
		{"model beyond it", late, "", nil, true},
		{"error while reading ahead", `{"model":"m","messages":[]`, "m", broken, true},
		{"error later", long, "m", broken, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var rec recorder
			var base sentBody
			var in io.Reader = iotest.OneByteReader(strings.NewReader(tt.body[:100%len(tt.body)]))
			in = io.MultiReader(in, strings.NewReader(tt.body[100%len(tt.body):]))
			if tt.err != nil {
				in = io.MultiReader(in, iotest.ErrReader(tt.err))
			}
			req := httptest.NewRequest("POST", "https://api.openai.com/v1/chat/completions", nil)
			req.Body = io.NopCloser(in)
			_, err := Transport(&base, &rec, Config{}).RoundTrip(req)
			if err != tt.err || base.err != tt.err || string(base.body) != tt.body {
				t.Fatalf("RoundTrip = %v; %d bytes and %v were sent, want %d and %v", err, len(base.body), base.err, len(tt.body), tt.err)
			}
			if len(rec.calls) != 1 || rec.calls[0].Model != tt.model {
				t.Fatalf("calls = %+v, want one of model %q", rec.calls, tt.model)
			}
			if r := rec.results; tt.err != nil && (len(r) != 1 || r[0].Err != tt.err) {
				t.Errorf("results = %+v", r)
			}
		})
	}
}

// TestBlockedBody: a body that blocks while it is read ahead is let go of with the context.
func TestBlockedBody(t *testing.T) {
	pr, pw := io.Pipe()
	defer pw.Close()
	ctx, cancel := context.WithCancel(t.Context())
	req := httptest.NewRequest("POST", "https://api.openai.com/v1/chat/completions", nil).WithContext(ctx)
	req.Body = pr
	go func() {
		if _, err := pw.Write([]byte(`{"model":"m",`)); err != nil {
			t.Error(err)
		}
		cancel()
	}()
	var rec recorder
	var base sentBody
	if _, err := Transport(&base, &rec, Config{}).RoundTrip(req); !errors.Is(err, io.ErrClosedPipe) {
		t.Fatalf("RoundTrip = %v, want the error of the closed body", err)
	}
}

func TestResultOfHeaders(t *testing.T) {
	resp := response(429, map[string]string{"Content-Type": jsonType, "Retry-After": "7", "Request-Id": "req_9"}, []byte(`{"type":"error","error":{"type":"rate_limit_error","message":"secret"}}`))
	var rec recorder
	got, err := Transport(answering(func() *http.Response { return resp }), &rec, Config{}).RoundTrip(request(t, "anthropic"))
	if err != nil {
		t.Fatal(err)
	}
	// As clients do that try again: the body is not read.
	if err := got.Body.Close(); err != nil {
		t.Fatal(err)
	}
	r := rec.one(t)
	var api *APIError
	if r.StatusCode != 429 || r.RetryAfter != 7*time.Second || r.RequestID != "req_9" || r.Partial || r.ErrorType != "429" || !errors.As(r.Err, &api) {
		t.Errorf("unread: %s", golden(r))
	}
	resp.Body = &pieces{list: [][]byte{[]byte(`{"type":"error","error":{"type":"rate_limit_error","message":"secret"}}`)}, err: io.EOF}
	r = observe(t, "anthropic", Config{}, resp, []byte(`{"type":"error","error":{"type":"rate_limit_error","message":"secret"}}`))
	if !errors.As(r.Err, &api) || api.Message != "secret" || strings.Contains(r.Err.Error(), "secret") || r.ErrorType != "rate_limit_error" {
		t.Errorf("read: %s", golden(r))
	}
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	for _, tt := range []struct {
		name, value string
		want        time.Duration
	}{
		{"Retry-After", "3", 3 * time.Second},
		{"Retry-After", "0.5", 500 * time.Millisecond},
		{"Retry-After", "Sun, 22 Nov 2026 12:00:30 GMT", 30 * time.Second},
		{"Retry-After", "Sun, 22 Nov 2026 11:00:00 GMT", 0},
		{"Retry-After", "-1", 0},
		{"Retry-After", "1e300", 0},
		{"Retry-After", "soon", 0},
		{"Retry-After-Ms", "20", 20 * time.Millisecond},
	} {
		if got := retryAfter(http.Header{tt.name: {tt.value}}, now); got != tt.want {
			t.Errorf("%s: %s = %v, want %v", tt.name, tt.value, got, tt.want)
		}
	}
}

type timeoutError struct{ error }

func (timeoutError) Timeout() bool   { return true }
func (timeoutError) Temporary() bool { return false }

func TestTransportErrors(t *testing.T) {
	for _, tt := range []struct {
		err  error
		want string
	}{
		{&net.OpError{Op: "dial", Err: errors.New("refused")}, ErrorConnection},
		{timeoutError{errors.New("slow")}, ErrorTimeout},
		{context.DeadlineExceeded, ErrorTimeout},
		{context.Canceled, ErrorCancelled},
		{io.ErrUnexpectedEOF, ErrorCut},
	} {
		var rec recorder
		rt := Transport(roundTripper(func(*http.Request) (*http.Response, error) { return nil, tt.err }), &rec, Config{})
		resp, err := rt.RoundTrip(request(t, "chat"))
		if resp != nil || err != tt.err {
			t.Errorf("RoundTrip = %v, %v, want the error as it is", resp, err)
		}
		if r := rec.one(t); r.Err != tt.err || r.ErrorType != tt.want {
			t.Errorf("%v: %s", tt.err, golden(r))
		}
	}
}

func TestEarlyClose(t *testing.T) {
	var stream []byte
	for _, f := range fixtures(t) {
		if strings.HasSuffix(f.file, "/anthropic.sse") {
			stream = f.body
		}
	}
	at := bytes.Index(stream, []byte("Okay")) + 8
	var rec recorder
	resp := response(200, map[string]string{"Content-Type": "text/event-stream"}, stream[:at], stream[at:])
	got, err := Transport(answering(func() *http.Response { return resp }), &rec, Config{Content: true}).RoundTrip(request(t, "anthropic"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(got.Body, make([]byte, at)); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := got.Body.Close(); err != nil {
			t.Fatal(err)
		}
	}
	r := rec.one(t)
	if r.Err != nil || !r.Partial || r.Usage.Input != 472 || r.Usage.Output != 2 || r.Bytes != int64(at) || r.FinishReasons != nil {
		t.Errorf("result = %s", golden(r))
	}
}

// TestJSONWithoutEOF: decoders stop at the end of the value, and some callers
// cancel before they close.
func TestJSONWithoutEOF(t *testing.T) {
	for _, cancelFirst := range []bool{false, true} {
		ctx, cancel := context.WithCancel(t.Context())
		var rec recorder
		ended := make(chan struct{})
		o := observerFunc(func(ctx context.Context, c Call) (context.Context, func(Result)) {
			ctx, end := rec.Start(ctx, c)
			return ctx, func(r Result) { end(r); close(ended) }
		})
		resp := response(200, map[string]string{"Content-Type": jsonType}, []byte(`{"model":"m","usage":{"prompt_tokens":1}}`), []byte("\n"))
		got, err := Transport(answering(func() *http.Response { return resp }), o, Config{}).RoundTrip(request(t, "chat").WithContext(ctx))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(got.Body, make([]byte, 41)); err != nil {
			t.Fatal(err)
		}
		if cancelFirst {
			cancel()
			<-ended
		}
		if err := got.Body.Close(); err != nil {
			t.Fatal(err)
		}
		if r := rec.one(t); r.Err != nil || r.Partial || !r.HasUsage {
			t.Errorf("cancelled first: %v: %s", cancelFirst, golden(r))
		}
		cancel()
	}
}

type observerFunc func(context.Context, Call) (context.Context, func(Result))

func (f observerFunc) Start(ctx context.Context, c Call) (context.Context, func(Result)) {
	return f(ctx, c)
}

// TestLeakedBody: the end of the context ends a call whose body nobody reads or closes.
func TestLeakedBody(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan Result, 2)
	o := observerFunc(func(ctx context.Context, _ Call) (context.Context, func(Result)) {
		return ctx, func(r Result) { ended <- r }
	})
	resp := response(200, map[string]string{"Content-Type": "text/event-stream"}, []byte("data: {\"id\":\"x\"}\n\n"))
	got, err := Transport(answering(func() *http.Response { return resp }), o, Config{}).RoundTrip(request(t, "chat").WithContext(ctx))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := got.Body.Read(make([]byte, 5)); err != nil {
		t.Fatal(err)
	}
	cancel()
	if r := <-ended; !errors.Is(r.Err, context.Canceled) || r.ErrorType != ErrorCancelled || !r.Partial || r.Bytes != 5 {
		t.Errorf("result = %s", golden(r))
	}
	if _, err := io.ReadAll(got.Body); err != nil { // still readable, no second end
		t.Fatal(err)
	}
	if err := got.Body.Close(); err != nil {
		t.Fatal(err)
	}
	if len(ended) != 0 {
		t.Error("the call ended twice")
	}
}

func TestCancelledBeforeTheBody(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan Result, 1)
	o := observerFunc(func(ctx context.Context, _ Call) (context.Context, func(Result)) {
		return ctx, func(r Result) { ended <- r }
	})
	base := roundTripper(func(*http.Request) (*http.Response, error) {
		cancel()
		return response(200, nil, []byte("{}")), nil
	})
	if _, err := Transport(base, o, Config{}).RoundTrip(request(t, "chat").WithContext(ctx)); err != nil {
		t.Fatal(err)
	}
	if r := <-ended; r.ErrorType != ErrorCancelled || !r.Partial {
		t.Errorf("result = %s", golden(r))
	}
}

func TestSwitchingProtocolsIsNotWrapped(t *testing.T) {
	client, server := net.Pipe()
	defer client.Close()
	defer server.Close()
	resp := response(101, nil)
	resp.Body = client
	var rec recorder
	got, err := Transport(answering(func() *http.Response { return resp }), &rec, Config{}).RoundTrip(request(t, "responses"))
	if err != nil {
		t.Fatal(err)
	}
	if got.Body != io.ReadCloser(client) {
		t.Errorf("body is a %T", got.Body)
	}
	if r := rec.one(t); r.StatusCode != 101 || !r.Partial || r.Err != nil {
		t.Errorf("result = %s", golden(r))
	}
}

func TestNoBodyStays(t *testing.T) {
	resp := response(503, nil)
	resp.Body = http.NoBody
	var rec recorder
	got, err := Transport(answering(func() *http.Response { return resp }), &rec, Config{}).RoundTrip(request(t, "chat"))
	if err != nil {
		t.Fatal(err)
	}
	if got.Body != http.NoBody {
		t.Errorf("body is a %T", got.Body)
	}
	if r := rec.one(t); r.ErrorType != "503" || r.Partial {
		t.Errorf("result = %s", golden(r))
	}
}

type key struct{}

func TestContextAndRequest(t *testing.T) {
	o := observerFunc(func(ctx context.Context, _ Call) (context.Context, func(Result)) {
		return context.WithValue(ctx, key{}, "span"), nil
	})
	var sent *http.Request
	base := roundTripper(func(r *http.Request) (*http.Response, error) {
		sent = r
		resp := response(200, nil, []byte("{}"))
		resp.Request = r
		return resp, nil
	})
	req := request(t, "chat")
	resp, err := Transport(base, o, Config{}).RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	if sent.Context().Value(key{}) != "span" || req.Context().Value(key{}) != nil {
		t.Error("the request was not sent with the observer's context, or was changed")
	}
	if resp.Request != req {
		t.Error("the response does not name the caller's request")
	}
	if _, err := io.ReadAll(resp.Body); err != nil { // the end function is nil
		t.Fatal(err)
	}
}

func TestPanicsAreContained(t *testing.T) {
	for _, where := range []string{"start", "end", "nowhere"} {
		var caught []any
		o := observerFunc(func(context.Context, Call) (context.Context, func(Result)) {
			if where == "start" {
				panic(where)
			}
			return nil, func(Result) {
				if where == "end" {
					panic(where)
				}
			}
		})
		for _, onPanic := range []func(any){nil, func(v any) { caught = append(caught, v) }} {
			rt := Transport(answering(func() *http.Response { return response(200, nil, []byte(`{"a":1}`)) }), o, Config{OnPanic: onPanic})
			resp, err := rt.RoundTrip(request(t, "chat"))
			if err != nil {
				t.Fatal(err)
			}
			if b, err := io.ReadAll(resp.Body); err != nil || string(b) != `{"a":1}` {
				t.Errorf("panic in %s: the caller got %q, %v", where, b, err)
			}
		}
		if where != "nowhere" && (len(caught) != 1 || caught[0] != where) {
			t.Errorf("caught %v", caught)
		}
	}
}

// brokenReader is a dialect whose reading has a bug.
type brokenReader struct{}

func (brokenReader) event(*answer, doc) { panic("event") }
func (brokenReader) whole(*answer, doc) { panic("whole") }

func TestPanicOfReading(t *testing.T) {
	stream := []byte("data: {}\n\ndata: {}\n\n")
	var caught []any
	var results []Result
	for _, kind := range []string{"text/event-stream", jsonType} {
		o := &observed{dialect: &dialect{reader: brokenReader{}}, done: func(r Result) { results = append(results, r) }, onPanic: func(v any) { caught = append(caught, v) }}
		body := stream
		if kind == jsonType {
			body = []byte("{}")
		}
		tap := newTap(t.Context(), response(200, map[string]string{"Content-Type": kind}, body), o)
		if b, err := io.ReadAll(tap); err != nil || !bytes.Equal(b, body) {
			t.Errorf("the caller got %q, %v", b, err)
		}
	}
	if diff := cmp.Diff([]any{"event", "whole"}, caught); diff != "" || len(results) != 2 {
		t.Errorf("%d results, caught (-want +got):\n%s", len(results), diff)
	}
}

func TestBasePanics(t *testing.T) {
	var rec recorder
	rt := Transport(roundTripper(func(*http.Request) (*http.Response, error) { panic("base") }), &rec, Config{})
	defer func() {
		if recover() != "base" {
			t.Error("the panic of the base transport was swallowed")
		}
		if r := rec.one(t); r.Err == nil {
			t.Errorf("result = %s", golden(r))
		}
	}()
	_, _ = rt.RoundTrip(request(t, "chat"))
}

type idleCloser struct {
	roundTripper
	closed int
}

func (c *idleCloser) CloseIdleConnections() { c.closed++ }

func TestCloseIdleConnections(t *testing.T) {
	base := &idleCloser{}
	client := &http.Client{Transport: Transport(base, &recorder{}, Config{})}
	client.CloseIdleConnections()
	if base.closed != 1 {
		t.Errorf("the base transport was told %d times", base.closed)
	}
	Transport(roundTripper(nil), nil, Config{}).(interface{ CloseIdleConnections() }).CloseIdleConnections()
}

func TestUnknownEncoding(t *testing.T) {
	body := []byte("not really brotli")
	resp := response(200, map[string]string{"Content-Type": jsonType, "Content-Encoding": "br"}, body)
	if r := observe(t, "chat", Config{}, resp, body); r.HasUsage || r.Err != nil || r.Partial || r.Bytes != int64(len(body)) {
		t.Errorf("result = %s", golden(r))
	}
	resp = response(200, map[string]string{"Content-Type": jsonType, "Content-Encoding": "gzip"}, body)
	if r := observe(t, "chat", Config{}, resp, body); r.HasUsage || r.Err != nil {
		t.Errorf("false gzip: %s", golden(r))
	}
}

// TestConcurrentReadCloseCancel lets the three ends of a call meet.
func TestConcurrentReadCloseCancel(t *testing.T) {
	for range 200 {
		ctx, cancel := context.WithCancel(t.Context())
		var mu sync.Mutex
		ends := 0
		o := observerFunc(func(ctx context.Context, _ Call) (context.Context, func(Result)) {
			return ctx, func(Result) { mu.Lock(); ends++; mu.Unlock() }
		})
		resp := response(200, map[string]string{"Content-Type": "text/event-stream"}, bytesOf([]byte("data: {\"id\":\"1\"}\n\ndata: [DONE]\n\n"))...)
		got, err := Transport(answering(func() *http.Response { return resp }), o, Config{}).RoundTrip(request(t, "chat").WithContext(ctx))
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		wg.Go(func() { _, _ = io.ReadAll(got.Body) })
		wg.Go(cancel)
		wg.Go(func() { _ = got.Body.Close() })
		wg.Wait()
		_ = got.Body.Close()
		mu.Lock()
		if ends > 1 {
			t.Fatalf("the call ended %d times", ends)
		}
		mu.Unlock()
		cancel()
	}
}
