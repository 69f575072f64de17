package llmhttp_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/kaizen-go/kaizen/kaizentest"
	"github.com/kaizen-go/kaizen/llmhttp"
	"github.com/kaizen-go/kaizen/price"
)

// sums is an observer that adds up.
type sums struct {
	mu                      sync.Mutex
	open, attempts, retries int
	failed, partial, tools  int
	usage                   price.Usage
	byDialect               map[string]int
}

func (s *sums) Start(ctx context.Context, c llmhttp.Call) (context.Context, func(llmhttp.Result)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open++
	s.attempts++
	s.byDialect[c.Dialect]++
	if c.Attempt > 0 {
		s.retries++
	}
	return ctx, func(r llmhttp.Result) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.open--
		if r.Err != nil {
			s.failed++
		}
		if r.Partial {
			s.partial++
		}
		s.tools += len(r.ToolCalls)
		if r.HasUsage {
			s.usage = s.usage.Add(r.Usage)
		}
	}
}

var usage = price.Usage{Input: 100, CacheRead: 50, CacheWrite: 20, CacheWrite1h: 5, Output: 30, Reasoning: 7}

// TestAgainstServer has many clients call a server over real HTTP, with
// errors, retries and cuts among the answers, and compares what the observer
// was told with the server's own account.
func TestAgainstServer(t *testing.T) {
	server := kaizentest.NewModelServer(kaizentest.Script{Reply: func(r kaizentest.Request) kaizentest.Reply {
		reply := kaizentest.Reply{Text: "some words to stream", Usage: usage}
		switch r.Dialect {
		case llmhttp.OpenAIEmbeddings, llmhttp.GeminiEmbedContent, llmhttp.OllamaEmbed:
			reply.Usage = price.Usage{Input: 9}
		}
		if r.Nth%3 == 0 {
			reply.ToolCalls = []kaizentest.ToolCall{{Name: "search", Arguments: []byte(`{"q":"go"}`)}, {Name: "fetch"}}
		}
		switch {
		case r.Nth%5 == 1 && r.Attempt == 0:
			return kaizentest.Reply{Status: 429}
		case r.Nth%5 == 2 && r.Stream:
			reply.ToolCalls, reply.CutAfterChunks = nil, 2
		}
		return reply
	}})
	defer server.Close()
	o := &sums{byDialect: map[string]int{}}
	client := &http.Client{Transport: llmhttp.Transport(nil, o, llmhttp.Config{})}

	paths := []struct{ path, body string }{
		{"/v1/chat/completions", `{"model":"gpt-4o","messages":[{"role":"user","content":"hi"}]}`},
		{"/v1/chat/completions", `{"model":"gpt-4o","stream":true,"stream_options":{"include_usage":true},"messages":[{"role":"user","content":"hi"}]}`},
		{"/v1/responses", `{"model":"gpt-5","input":"hi"}`},
		{"/v1/responses", `{"model":"gpt-5","stream":true,"input":"hi"}`},
		{"/v1/messages", `{"model":"claude-sonnet-4-5","max_tokens":9,"messages":[{"role":"user","content":"hi"}]}`},
		{"/v1/messages", `{"model":"claude-sonnet-4-5","max_tokens":9,"stream":true,"messages":[{"role":"user","content":"hi"}]}`},
		{"/v1/embeddings", `{"model":"text-embedding-3-small","input":["hi"]}`},
		{"/v1beta/models/gemini-2.5-flash:generateContent", `{"contents":[{"parts":[{"text":"hi"}]}]}`},
		{"/v1beta/models/gemini-2.5-flash:streamGenerateContent?alt=sse", `{"contents":[{"parts":[{"text":"hi"}]}]}`},
		{"/v1beta/models/gemini-2.5-flash:streamGenerateContent", `{"contents":[{"parts":[{"text":"hi"}]}]}`},
		{"/v1beta/models/gemini-embedding-001:embedContent", `{"content":{"parts":[{"text":"hi"}]}}`},
		{"/api/chat", `{"model":"qwen3:8b","messages":[{"role":"user","content":"hi"}]}`},
		{"/api/chat", `{"model":"qwen3:8b","stream":false,"messages":[{"role":"user","content":"hi"}]}`},
		{"/api/generate", `{"model":"qwen3:8b","prompt":"hi"}`},
		{"/api/embed", `{"model":"all-minilm","input":"hi"}`},
		{"/model/anthropic.claude-sonnet-4-5-20250929-v1%3A0/converse", `{"messages":[{"role":"user","content":[{"text":"hi"}]}]}`},
		{"/model/arn%3Aaws%3Abedrock%3Aus-east-1%3A1%3Ainference-profile%2Fm/converse-stream", `{"messages":[{"role":"user","content":[{"text":"hi"}]}]}`},
	}
	var wg sync.WaitGroup
	for i, p := range paths {
		for worker := range 3 {
			wg.Go(func() {
				agent := fmt.Sprintf("agent-%d-%d", i, worker)
				for range 15 {
					if err := call(t.Context(), client, server.URL+p.path, p.body, agent, 0); err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
						t.Error(err)
					}
				}
			})
		}
	}
	wg.Wait()

	bill := server.Bill()
	var cut, failed int
	dialects := map[string]int{}
	for _, s := range server.Ledger() {
		dialects[s.Dialect]++
		if s.Cut {
			cut++
		}
		if s.Cut || s.Status >= 400 {
			failed++
		}
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	got := fmt.Sprint(o.open, o.attempts, o.attempts-o.retries, o.failed, o.partial, o.tools, o.usage)
	want := fmt.Sprint(0, bill.Attempts, bill.Calls, failed, cut, bill.ToolCalls, bill.Usage)
	if got != want {
		t.Errorf("observer %s\n  server %s", got, want)
	}
	if diff := cmp.Diff(dialects, o.byDialect); diff != "" {
		t.Errorf("dialects (-server +observer):\n%s", diff)
	}
	if bill.Calls != len(paths)*3*15 || cut == 0 || failed == cut || bill.ToolCalls == 0 {
		t.Errorf("the script did not do what it was for: %+v, %d cut, %d failed", bill, cut, failed)
	}
}

// TestCancelOverHTTP cancels a stream in the middle: the server waits for an
// hour before its third event.
func TestCancelOverHTTP(t *testing.T) {
	server := kaizentest.NewModelServer(kaizentest.Script{Reply: func(kaizentest.Request) kaizentest.Reply {
		return kaizentest.Reply{Text: "hello", Usage: usage, ChunkDelay: time.Hour}
	}})
	defer server.Close()
	ended := make(chan llmhttp.Result, 2)
	rt := llmhttp.Transport(nil, ends(ended), llmhttp.Config{})
	ctx, cancel := context.WithCancel(t.Context())
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, server.URL+"/v1/messages",
		strings.NewReader(`{"model":"claude-sonnet-4-5","max_tokens":9,"stream":true,"messages":[{"role":"user","content":"hi"}]}`))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := (&http.Client{Transport: rt}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	go cancel()
	if b, err := io.ReadAll(resp.Body); !errors.Is(err, context.Canceled) || len(b) != 0 {
		t.Errorf("the caller got %d bytes and %v", len(b), err)
	}
	if err := resp.Body.Close(); err != nil {
		t.Fatal(err)
	}
	if r := <-ended; !errors.Is(r.Err, context.Canceled) || r.ErrorType != llmhttp.ErrorCancelled || !r.Partial || r.HasUsage || r.StatusCode != 200 {
		t.Errorf("result = %+v", r)
	}
	if len(ended) != 0 {
		t.Error("the call ended twice")
	}
}

// ends is an observer that passes on the results.
type ends chan llmhttp.Result

func (e ends) Start(ctx context.Context, _ llmhttp.Call) (context.Context, func(llmhttp.Result)) {
	return context.WithoutCancel(ctx), func(r llmhttp.Result) { e <- r }
}

// call makes a call as client libraries do, with a second try after a 429.
func call(ctx context.Context, client *http.Client, url, body, agent string, attempt int) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set(kaizentest.AgentHeader, agent)
	req.Header.Set("X-Stainless-Retry-Count", fmt.Sprint(attempt))
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusTooManyRequests && attempt == 0 {
		return call(ctx, client, url, body, agent, 1)
	}
	_, err = io.Copy(io.Discard, resp.Body)
	return err
}

// printer is an observer that prints.
type printer struct{}

func (printer) Start(ctx context.Context, c llmhttp.Call) (context.Context, func(llmhttp.Result)) {
	return ctx, func(r llmhttp.Result) {
		fmt.Println(c.Provider, c.Operation, c.Model, r.StatusCode, r.Usage.Input, r.Usage.Output, r.FinishReasons)
	}
}

func ExampleTransport() {
	server := kaizentest.NewModelServer(kaizentest.Script{Reply: func(kaizentest.Request) kaizentest.Reply {
		return kaizentest.Reply{Text: "hello", Usage: price.Usage{Input: 12, Output: 3}}
	}})
	defer server.Close()

	// Any client library that takes an *http.Client takes this one.
	client := &http.Client{Transport: llmhttp.Transport(nil, printer{}, llmhttp.Config{})}
	resp, err := client.Post(server.URL+"/v1/messages", "application/json",
		strings.NewReader(`{"model":"claude-sonnet-4-5","max_tokens":100,"messages":[{"role":"user","content":"hi"}]}`))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		fmt.Println(err)
	}
	// Output: anthropic chat claude-sonnet-4-5 200 12 3 [end_turn]
}
