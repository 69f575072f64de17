package kaizentest

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/kaizen-go/kaizen/price"
)

// post sends a request and returns status, header and body; err is that of reading the body.
func post(t *testing.T, url, body string, header ...string) (int, http.Header, string, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, resp.Header, string(b), err
}

// data returns the data of a stream's events.
func data(stream string) []string {
	var all []string
	for s := bufio.NewScanner(strings.NewReader(stream)); s.Scan(); {
		if d, ok := strings.CutPrefix(s.Text(), "data: "); ok {
			all = append(all, d)
		}
	}
	return all
}

// lastLine returns the last line of a stream of objects.
func lastLine(stream string) string {
	lines := strings.Split(strings.TrimSpace(stream), "\n")
	return lines[len(lines)-1]
}

// at digs a value out of a JSON text, as JSON: at(s, "usage", "input_tokens").
func at(t *testing.T, text string, path ...any) string {
	t.Helper()
	var v any
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	for _, p := range path {
		switch p := p.(type) {
		case string:
			v = v.(map[string]any)[p]
		case int:
			v = v.([]any)[p]
		}
	}
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

var fullUsage = price.Usage{Input: 10, CacheRead: 20, CacheWrite: 30, CacheWrite1h: 12, Output: 5, Reasoning: 7}

const (
	chatBody      = `{"model":"gpt-4o","messages":[{"role":"system","content":"be brief"},{"role":"user","content":[{"type":"text","text":"hi"}]}]}`
	anthropicBody = `{"model":"claude-sonnet-4-5","max_tokens":99,"system":[{"type":"text","text":"be brief"}],"messages":[{"role":"user","content":"hi"}]}`
	responsesBody = `{"model":"gpt-5","instructions":"be brief","input":"hi"}`
	geminiPath    = "/v1beta/models/gemini-2.5-flash"
	geminiBody    = `{"contents":[{"role":"user","parts":[{"text":"hi"}]}]}`
	ollamaBody    = `{"model":"qwen3:8b","messages":[{"role":"user","content":"hi"}]}`
	ollamaOnce    = `{"model":"qwen3:8b","messages":[{"role":"user","content":"hi"}],"stream":false}`
	bedrockBody   = `{"messages":[{"role":"user","content":[{"text":"hi"}]}]}`
)

func streamed(body string) string {
	return strings.TrimSuffix(body, "}") + `,"stream":true,"stream_options":{"include_usage":true}}`
}

func TestRequestAsUnderstood(t *testing.T) {
	history := []Message{
		{Role: "user", Text: "add"},
		{Role: "assistant", Text: "so be it", ToolCalls: []ToolCall{{ID: "c1", Name: "sum", Arguments: []byte(`{"a":1}`)}}},
		{Role: "tool", ToolResults: []ToolResult{{ID: "c1", Text: "2"}}},
	}
	tests := []struct {
		path, body string
		toolRole   string
	}{
		{"/v1/chat/completions", `{"model":"m","tools":[{"type":"function","function":{"name":"sum"}}],"messages":[{"role":"developer","content":"s"},{"role":"user","content":"add"},
			{"role":"assistant","content":"so be it","tool_calls":[{"id":"c1","type":"function","function":{"name":"sum","arguments":"{\"a\":1}"}}]},{"role":"tool","tool_call_id":"c1","content":"2"}]}`, "tool"},
		{"/v1/responses", `{"model":"m","instructions":"s","tools":[{"type":"function","name":"sum"}],"input":[{"role":"user","content":"add"},{"type":"reasoning","id":"r"},
			{"type":"message","role":"assistant","content":[{"type":"output_text","text":"so be it"}]},{"type":"function_call","call_id":"c1","name":"sum","arguments":"{\"a\":1}"},{"type":"function_call_output","call_id":"c1","output":"2"}]}`, "tool"},
		{"/v1/messages", `{"model":"m","max_tokens":1,"system":"s","tools":[{"name":"sum"}],"messages":[{"role":"user","content":"add"},
			{"role":"assistant","content":[{"type":"text","text":"so be it"},{"type":"tool_use","id":"c1","name":"sum","input":{"a":1}}]},{"role":"user","content":[{"type":"tool_result","tool_use_id":"c1","content":[{"type":"text","text":"2"}]}]}]}`, "user"},
		{"/v1beta/models/m:generateContent", `{"systemInstruction":{"parts":[{"text":"s"}]},"tools":[{"functionDeclarations":[{"name":"sum"}]}],"contents":[{"parts":[{"text":"add"}]},
			{"role":"model","parts":[{"text":"hm","thought":true},{"text":"so be it"},{"functionCall":{"id":"c1","name":"sum","args":{"a":1}}}]},{"role":"user","parts":[{"functionResponse":{"id":"c1","name":"sum","response":2}}]}]}`, "user"},
		{"/api/chat", `{"model":"m","tools":[{"type":"function","function":{"name":"sum"}}],"messages":[{"role":"system","content":"s"},{"role":"user","content":"add"},
			{"role":"assistant","content":"so be it","tool_calls":[{"id":"c1","function":{"name":"sum","arguments":{"a":1}}}]},{"role":"tool","tool_call_id":"c1","content":"2"}]}`, "tool"},
		{"/model/m/converse", `{"system":[{"text":"s"}],"toolConfig":{"tools":[{"toolSpec":{"name":"sum"}},{"cachePoint":{"type":"default"}}]},"messages":[{"role":"user","content":[{"text":"add"}]},
			{"role":"assistant","content":[{"text":"so be it"},{"toolUse":{"toolUseId":"c1","name":"sum","input":{"a":1}}}]},{"role":"user","content":[{"toolResult":{"toolUseId":"c1","content":[{"json":2}]}}]}]}`, "user"},
	}
	for _, tt := range tests {
		t.Run(tt.path, func(t *testing.T) {
			var got Request
			s := NewModelServer(Script{Reply: func(r Request) Reply { got = r; return Reply{} }})
			defer s.Close()
			if status, _, body, err := post(t, s.URL+tt.path, tt.body, AgentHeader, "a1", "X-Stainless-Retry-Count", "2"); status != 200 || err != nil {
				t.Fatalf("status %d, %v: %s", status, err, body)
			}
			want := append([]Message(nil), history...)
			want[2].Role = tt.toolRole
			if diff := cmp.Diff(want, got.Messages); diff != "" {
				t.Errorf("messages (-want +got):\n%s", diff)
			}
			if got.Model != "m" || got.System != "s" || got.Agent != "a1" || got.Attempt != 2 || got.Turn != 1 || len(got.Tools) != 1 || got.Tools[0] != "sum" {
				t.Errorf("request = %+v", got)
			}
		})
	}
}

func TestWireForms(t *testing.T) {
	s := NewModelServer(Script{Reply: func(Request) Reply {
		return Reply{Text: "one two", ToolCalls: []ToolCall{{ID: "c1", Name: "sum", Arguments: []byte(`{"a":1}`)}}, Usage: fullUsage}
	}})
	defer s.Close()
	get := func(path, body string) string {
		status, h, text, err := post(t, s.URL+path, body)
		if status != 200 || err != nil || h.Get("X-Request-Id") == "" {
			t.Fatalf("%s: status %d, %v: %s", path, status, err, text)
		}
		return text
	}
	last := func(path, body string, back int) string {
		d := data(get(path, streamed(body)))
		return d[len(d)-back]
	}
	chatUsage := `{"completion_tokens":12,"completion_tokens_details":{"reasoning_tokens":7},"prompt_tokens":60,"prompt_tokens_details":{"cache_write_tokens":30,"cached_tokens":20},"total_tokens":72}`
	responsesUsage := `{"input_tokens":60,"input_tokens_details":{"cache_write_tokens":30,"cached_tokens":20},"output_tokens":12,"output_tokens_details":{"reasoning_tokens":7},"total_tokens":72}`
	anthropicUsage := `{"cache_creation":{"ephemeral_1h_input_tokens":12,"ephemeral_5m_input_tokens":18},"cache_creation_input_tokens":30,"cache_read_input_tokens":20,"input_tokens":10,"output_tokens":12,"output_tokens_details":{"thinking_tokens":7},"service_tier":"standard"}`
	geminiUsage := `{"cachedContentTokenCount":20,"candidatesTokenCount":5,"promptTokenCount":60,"thoughtsTokenCount":7,"totalTokenCount":72,"trafficType":"ON_DEMAND"}`
	bedrockUsage := `{"cacheDetails":[{"inputTokens":18,"ttl":"5m"},{"inputTokens":12,"ttl":"1h"}],"cacheReadInputTokens":20,"cacheWriteInputTokens":30,"inputTokens":10,"outputTokens":12,"totalTokens":72}`
	tests := []struct{ name, got, want string }{
		{"chat usage", at(t, get("/v1/chat/completions", chatBody), "usage"), chatUsage},
		{"chat finish", at(t, get("/v1/chat/completions", chatBody), "choices", 0, "finish_reason"), `"tool_calls"`},
		{"chat stream usage", at(t, last("/v1/chat/completions", chatBody, 2), "usage"), chatUsage},
		{"chat stream end", last("/v1/chat/completions", chatBody, 1), "[DONE]"},
		{"responses usage", at(t, get("/v1/responses", responsesBody), "usage"), responsesUsage},
		{"responses call", at(t, get("/v1/responses", responsesBody), "output", 1, "arguments"), `"{\"a\":1}"`},
		{"responses stream usage", at(t, last("/v1/responses", responsesBody, 1), "response", "usage"), responsesUsage},
		{"anthropic usage", at(t, get("/v1/messages", anthropicBody), "usage"), anthropicUsage},
		{"anthropic input", at(t, get("/v1/messages", anthropicBody), "content", 1, "input"), `{"a":1}`},
		{"anthropic stream usage", at(t, last("/v1/messages", anthropicBody, 2), "usage"), anthropicUsage},
		{"gemini usage", at(t, get(geminiPath+":generateContent", geminiBody), "usageMetadata"), geminiUsage},
		{"gemini model", at(t, get(geminiPath+":generateContent", geminiBody), "modelVersion"), `"gemini-2.5-flash"`},
		{"gemini call", at(t, get(geminiPath+":generateContent", geminiBody), "candidates", 0, "content", "parts", 1, "functionCall", "args"), `{"a":1}`},
		{"gemini stream usage", at(t, last(geminiPath+":streamGenerateContent?alt=sse", geminiBody, 1), "usageMetadata"), geminiUsage},
		{"gemini array usage", at(t, get(geminiPath+":streamGenerateContent", geminiBody), 3, "usageMetadata"), geminiUsage},
		{"gemini embedding", at(t, get(geminiPath+":batchEmbedContents", `{"requests":[{"content":{"parts":[{"text":"a"}]}}]}`), "usageMetadata", "promptTokenCount"), `60`},
		{"gemini one embedding", at(t, get(geminiPath+":embedContent", `{"content":{"parts":[{"text":"a"}]},"outputDimensionality":1}`), "usageMetadata", "promptTokenCount"), `60`},
		{"ollama counts", at(t, get("/api/chat", ollamaOnce), "prompt_eval_count") + at(t, get("/api/chat", ollamaOnce), "eval_count"), `6012`},
		{"ollama call", at(t, get("/api/chat", ollamaOnce), "message", "tool_calls", 0, "function", "arguments"), `{"a":1}`},
		{"ollama stream end", at(t, lastLine(get("/api/chat", ollamaBody)), "done") + at(t, lastLine(get("/api/chat", ollamaBody)), "eval_count"), `true12`},
		{"ollama generate", at(t, get("/api/generate", `{"model":"m","prompt":"hi","stream":false}`), "response"), `"one two"`},
		{"ollama generate stream", at(t, lastLine(get("/api/generate", `{"model":"m","prompt":"hi"}`)), "done_reason"), `"stop"`},
		{"ollama embedding", at(t, get("/api/embed", `{"model":"m","input":["a","b"]}`), "prompt_eval_count"), `60`},
		{"bedrock usage", at(t, get("/model/a%2Fb/converse", bedrockBody), "usage"), bedrockUsage},
		{"bedrock stop", at(t, get("/model/a%2Fb/converse", bedrockBody), "stopReason"), `"tool_use"`},
		{"embedding", at(t, get("/v1/embeddings", `{"model":"e","input":["a","b"],"dimensions":2}`), "data", 1, "index"), `1`},
		{"embedding usage", at(t, get("/v1/embeddings", `{"model":"e","input":"a","encoding_format":"base64"}`), "usage", "prompt_tokens"), `60`},
	}
	for _, tt := range tests {
		if diff := cmp.Diff(tt.want, tt.got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
	}
	if text := get("/v1/chat/completions", strings.Replace(streamed(chatBody), "true}", "false}", 1)); strings.Contains(text, "usage") {
		t.Error("usage was streamed without being asked for")
	}
	untold := fullUsage
	untold.CacheWrite1h = 0
	if l := s.Ledger(); l[len(l)-1].Told || l[len(l)-1].Usage != untold {
		t.Errorf("last entry = %+v, want untold usage", l[len(l)-1])
	}
}

func TestErrorsAndRetry(t *testing.T) {
	s := NewModelServer(Script{
		Prices: map[string]Rates{"gpt-4o": {Input: 2500, Output: 10000}},
		Reply: func(r Request) Reply {
			if r.Attempt == 0 && r.Nth == 0 {
				return Reply{Status: 429, RetryAfter: 1500 * time.Millisecond}
			}
			return Reply{Text: strconv.Itoa(r.Nth), Usage: price.Usage{Input: 3, Output: 1}}
		}})
	defer s.Close()
	url := s.URL + "/v1/chat/completions"
	status, h, body, _ := post(t, url, chatBody, "X-Stainless-Retry-Count", "0")
	if status != 429 || h.Get("Retry-After") != "2" || h.Get("Retry-After-Ms") != "1500" || at(t, body, "error", "code") != `"rate_limit_exceeded"` {
		t.Fatalf("first attempt: %d %v %s", status, h, body)
	}
	if _, _, body, _ = post(t, url, chatBody, "X-Stainless-Retry-Count", "1"); at(t, body, "choices", 0, "message", "content") != `"0"` {
		t.Errorf("the retry is not the same call: %s", body)
	}
	if _, _, body, _ = post(t, url, chatBody, "X-Stainless-Retry-Count", "0"); at(t, body, "choices", 0, "message", "content") != `"1"` {
		t.Errorf("the next call has not the next number: %s", body)
	}
	want := Bill{Calls: 2, OK: 2, Attempts: 3, Usage: price.Usage{Input: 6, Output: 2}, NanoUSD: 6*2500 + 2*10000}
	if diff := cmp.Diff(want, s.Bill()); diff != "" {
		t.Errorf("bill (-want +got):\n%s", diff)
	}
}

func TestFailureBodies(t *testing.T) {
	tests := []struct {
		path, body string
		status     int
		field      string
		want       string
	}{
		{"/v1/messages", anthropicBody, 429, "type", "rate_limit_error"},
		{"/v1/messages", anthropicBody, 529, "type", "overloaded_error"},
		{"/v1/messages", anthropicBody, 500, "type", "api_error"},
		{"/v1/messages", anthropicBody, 400, "type", "invalid_request_error"},
		{"/v1/messages", `{"model":"m"}`, 400, "type", "invalid_request_error"},
		{"/v1/messages", `{]`, 400, "type", "invalid_request_error"},
		{"/v1/responses", responsesBody, 500, "type", "server_error"},
		{"/v1/responses", `{"model":"m","input":7}`, 400, "type", "invalid_request_error"},
		{"/v1/chat/completions", chatBody, 401, "code", "invalid_api_key"},
		{"/v1/chat/completions", `{"model":"m","messages":[{"role":"user","content":3}]}`, 400, "type", "invalid_request_error"},
		{"/v1/embeddings", `{"model":"m","input":{}}`, 400, "type", "invalid_request_error"},
		{"/v1/nothing", `{}`, 404, "type", "not_found_error"},
	}
	for _, tt := range tests {
		s := NewModelServer(Script{Reply: func(Request) Reply { return Reply{Status: tt.status} }})
		status, _, body, _ := post(t, s.URL+tt.path, tt.body)
		if status != tt.status || at(t, body, "error", tt.field) != strconv.Quote(tt.want) {
			t.Errorf("%s %s: %d %s, want %d %s", tt.path, tt.body, status, body, tt.status, tt.want)
		}
		if b := s.Bill(); tt.status != 404 && (b.Failed != 1 || b.OK != 0 || b.NanoUSD != 0) {
			t.Errorf("%s %s: bill %+v", tt.path, tt.body, b)
		}
		s.Close()
	}
}

// TestFailureBodiesOfOthers: the same where the body has another form.
func TestFailureBodiesOfOthers(t *testing.T) {
	tests := []struct {
		path, body string
		status     int
		want       string
		at         []any
	}{
		{geminiPath + ":generateContent", geminiBody, 429, `"RESOURCE_EXHAUSTED"`, []any{"error", "status"}},
		{geminiPath + ":streamGenerateContent?alt=sse", geminiBody, 500, `"INTERNAL"`, []any{"error", "status"}},
		{geminiPath + ":generateContent", `{}`, 400, `"INVALID_ARGUMENT"`, []any{"error", "status"}},
		{geminiPath + ":embedContent", `{}`, 400, `"INVALID_ARGUMENT"`, []any{"error", "status"}},
		{"/api/chat", ollamaBody, 404, `"scripted: Not Found"`, []any{"error"}},
		{"/api/chat", `{"model":"m"}`, 400, `"model and messages are required"`, []any{"error"}},
		{"/api/generate", `{"model":"m"}`, 400, `"model and prompt are required"`, []any{"error"}},
		{"/model/m/converse-stream", bedrockBody, 429, `"ThrottlingException"`, []any{"__type"}},
		{"/model/m/converse", bedrockBody, 500, `"InternalServerException"`, []any{"__type"}},
		{"/model/m/converse", `[]`, 400, `"ValidationException"`, []any{"__type"}},
	}
	for _, tt := range tests {
		s := NewModelServer(Script{Reply: func(Request) Reply { return Reply{Status: tt.status} }})
		status, _, body, _ := post(t, s.URL+tt.path, tt.body)
		if status != tt.status || at(t, body, tt.at...) != tt.want {
			t.Errorf("%s %s: %d %s, want %d %s", tt.path, tt.body, status, body, tt.status, tt.want)
		}
		if b := s.Bill(); b.Failed != 1 || b.OK != 0 || b.NanoUSD != 0 {
			t.Errorf("%s %s: bill %+v", tt.path, tt.body, b)
		}
		s.Close()
	}
}

// TestAmazonRetry: Amazon's clients count their attempts in a header of their own.
func TestAmazonRetry(t *testing.T) {
	s := NewModelServer(Script{Reply: func(r Request) Reply {
		if r.Attempt == 0 {
			return Reply{Status: 503}
		}
		return Reply{Text: "ok"}
	}})
	defer s.Close()
	for i, want := range []int{503, 200} {
		status, _, body, _ := post(t, s.URL+"/model/m/converse", bedrockBody, "Amz-Sdk-Request", "attempt="+strconv.Itoa(i+1)+"; max=3")
		if status != want {
			t.Errorf("attempt %d: %d %s", i, status, body)
		}
	}
	if b := s.Bill(); b.Calls != 1 || b.OK != 1 || b.Attempts != 2 {
		t.Errorf("bill = %+v", b)
	}
}

func TestCut(t *testing.T) {
	tests := []struct {
		name, path, body string
		want             price.Usage
		tools            int
	}{
		{"anthropic bills the opening", "/v1/messages", streamed(anthropicBody), price.Usage{Input: 10, CacheRead: 20, CacheWrite: 30, CacheWrite1h: 12, Output: 1}, 0},
		{"chat bills nothing", "/v1/chat/completions", streamed(chatBody), price.Usage{}, 0},
		{"gemini bills what was told", geminiPath + ":streamGenerateContent?alt=sse", streamed(geminiBody), price.Usage{Input: 40, CacheRead: 20, Output: 1}, 0},
		{"body bills nothing", "/v1/chat/completions", chatBody, price.Usage{}, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := NewModelServer(Script{Reply: func(Request) Reply {
				return Reply{Text: "one two three", Usage: fullUsage, CutAfterChunks: 3}
			}})
			defer s.Close()
			_, _, body, err := post(t, s.URL+tt.path, tt.body)
			if !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("reading gave %v, want an unexpected EOF", err)
			}
			if n := len(data(body)); strings.Contains(tt.body, "stream") && n != 3 {
				t.Errorf("%d events came before the cut, want 3", n)
			}
			l := s.Ledger()
			if len(l) != 1 || !l[0].Cut || l[0].Usage != tt.want || l[0].ToolCalls != tt.tools {
				t.Errorf("ledger = %+v, want one cut entry with %+v", l, tt.want)
			}
			if b := s.Bill(); b.Failed != 1 || b.Unpriced != min(1, int(tt.want.Total())) {
				t.Errorf("bill = %+v", b)
			}
		})
	}
}

func TestClientGoesAway(t *testing.T) {
	asked := make(chan struct{})
	s := NewModelServer(Script{Reply: func(Request) Reply { close(asked); return Reply{Delay: time.Hour} }})
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-asked; cancel() }()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.URL+"/v1/messages", strings.NewReader(anthropicBody))
	if err != nil {
		t.Fatal(err)
	}
	if resp, err := http.DefaultClient.Do(req); err == nil {
		resp.Body.Close()
		t.Error("the request was answered")
	}
	s.Close() // waits for the handler
	if l := s.Ledger(); len(l) != 1 || !l[0].Cut {
		t.Errorf("ledger = %+v, want one cut entry", l)
	}
}

func TestConcurrentAgentsAreDeterministic(t *testing.T) {
	s := NewModelServer(Script{Reply: func(r Request) Reply {
		return Reply{Text: r.Agent + " " + strconv.Itoa(r.Nth), ToolCalls: []ToolCall{{Name: "t"}}}
	}})
	defer s.Close()
	run := func(agent string) string {
		var all bytes.Buffer
		for range 5 {
			_, _, body, _ := post(t, s.URL+"/v1/messages", anthropicBody, AgentHeader, agent)
			all.WriteString(at(t, body, "id") + at(t, body, "content"))
		}
		return all.String()
	}
	var wg sync.WaitGroup
	got := make([]string, 4)
	for i := range got {
		wg.Go(func() { got[i] = run("agent" + strconv.Itoa(i)) })
	}
	wg.Wait()
	again := NewModelServer(s.script)
	defer again.Close()
	first := s
	s = again
	for i := range got {
		if want := run("agent" + strconv.Itoa(i)); got[i] != want {
			t.Errorf("agent %d got %s, alone %s", i, got[i], want)
		}
	}
	if first.Bill() != again.Bill() || again.Bill().Calls != 20 || again.Bill().ToolCalls != 20 {
		t.Errorf("bills %+v and %+v", first.Bill(), again.Bill())
	}
}

func TestDefaultReply(t *testing.T) {
	s := NewModelServer(Script{})
	defer s.Close()
	_, _, body, _ := post(t, s.URL+"/v1/chat/completions", chatBody)
	if got := at(t, body, "choices", 0, "message", "content"); got != `"ok"` {
		t.Errorf("content = %s", got)
	}
	// "be brief" and "hi" are 10 bytes, 3 tokens; "ok" is one.
	if got := s.Ledger()[0].Usage; got != (price.Usage{Input: 3, Output: 1}) {
		t.Errorf("derived usage = %+v", got)
	}
}
