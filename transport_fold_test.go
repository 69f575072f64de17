package kaizen_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"github.com/kaizen-go/kaizen"
	"github.com/kaizen-go/kaizen/hook"
)

// attempts is a model provider that answers each attempt by its number.
type attempts func(n int) (*http.Response, error)

func (f attempts) RoundTrip(req *http.Request) (*http.Response, error) {
	if _, err := io.Copy(io.Discard, req.Body); err != nil {
		return nil, err
	}
	n, err := strconv.Atoi(req.Header.Get("Test-Attempt"))
	if err != nil {
		return nil, err
	}
	return f(n)
}

const (
	goodAnswer = `{"id":"c1","model":"gpt-5-mini","choices":[{"message":{"content":"hello"},"finish_reason":"stop"}],"usage":{"prompt_tokens":8,"completion_tokens":2}}`
	goodStream = "data: " + `{"id":"c1","model":"gpt-5-mini","choices":[{"index":0,"delta":{"content":"hello"},"finish_reason":"stop"}]}` + "\n\n" +
		"data: " + `{"id":"c1","model":"gpt-5-mini","choices":[],"usage":{"prompt_tokens":8,"completion_tokens":2}}` + "\n\ndata: [DONE]\n\n"
)

func answer(status int, kind, body string, header ...string) *http.Response {
	h := http.Header{"Content-Type": {kind}}
	for i := 0; i+1 < len(header); i += 2 {
		h.Set(header[i], header[i+1])
	}
	return &http.Response{StatusCode: status, Header: h, Body: io.NopCloser(strings.NewReader(body)), ContentLength: int64(len(body))}
}

// try makes the n-th attempt of a call as a client library does, and returns
// what a caller would see: status and body, or the error.
func try(ctx context.Context, c *http.Client, n int, question string, stream bool, header ...string) string {
	body := fmt.Sprintf(`{"model":"gpt-5-mini","stream":%t,"messages":[{"role":"user","content":%q}]}`, stream, question)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://api.openai.com/v1/chat/completions", strings.NewReader(body))
	if err != nil {
		return err.Error()
	}
	req.Header.Set("Test-Attempt", strconv.Itoa(n))
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], strings.NewReplacer("{n}", strconv.Itoa(n), "{n+1}", strconv.Itoa(n+1)).Replace(header[i+1]))
	}
	resp, err := c.Do(req)
	if err != nil {
		return err.Error()
	}
	var b bytes.Buffer
	if resp.StatusCode < 400 { // libraries do not read what they will ask for again
		if _, err := b.ReadFrom(resp.Body); err != nil {
			return err.Error()
		}
	}
	if err := resp.Body.Close(); err != nil {
		return err.Error()
	}
	return fmt.Sprint(resp.StatusCode, " ", b.String())
}

// TestRetriesAreOneCall: what a client library tries again inside of itself is
// one span, one sample, one line and one entry, with the attempts as events.
func TestRetriesAreOneCall(t *testing.T) {
	libraries := []struct {
		name   string
		header []string
	}{
		{"OpenAI and Anthropic", []string{"X-Stainless-Retry-Count", "{n}"}},
		{"Amazon", []string{"Amz-Sdk-Invocation-Id", "7", "Amz-Sdk-Request", "attempt={n+1}; max=3"}},
		{"one that does not count", nil},
	}
	for _, lib := range libraries {
		for _, stream := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, stream %t", lib.name, stream), func(t *testing.T) {
				o := observe(t, kaizen.Config{})
				kind, body := "application/json", goodAnswer
				if stream {
					kind, body = "text/event-stream", goodStream
				}
				client := o.obs.HTTPClient(&http.Client{Transport: attempts(func(n int) (*http.Response, error) {
					switch n {
					case 0:
						return answer(429, "application/json", `{"error":{"type":"rate_limit"}}`, "Retry-After", "1"), nil
					case 1:
						return nil, errors.New("connection reset")
					}
					return answer(200, kind, body), nil
				})})
				var got []string
				ctx := kaizen.WithRun(t.Context(), testRun)
				for n := range 3 {
					got = append(got, try(ctx, client, n, "hi", stream, lib.header...))
				}
				if got[0] != "429 " || !strings.Contains(got[1], "connection reset") || got[2] != "200 "+body {
					t.Errorf("the caller got %q", got)
				}
				spans := o.spans.Ended()
				if len(spans) != 1 {
					t.Fatalf("%d spans, want 1", len(spans))
				}
				attrs := attributes(spans[0])
				for k, v := range map[string]string{
					"kaizen.attempts": "3", "http.request.resend_count": "2", "kaizen.status": "ok", "http.response.status_code": "200",
					"gen_ai.usage.input_tokens": "8", "kaizen.cost.nano_usd": "6000",
				} {
					if attrs[k] != v {
						t.Errorf("%s = %q, want %q", k, attrs[k], v)
					}
				}
				checkAttempts(t, spans[0], "0 429 429", "1 connection", "2 200")
				es, lines := o.entries(t), o.lines(t)
				if len(es) != 1 || len(lines) != 1 || es[0].TraceID != spans[0].SpanContext().TraceID().String() {
					t.Errorf("%d entries, %d lines", len(es), len(lines))
				}
				text := o.scrape(t)
				for _, want := range []string{`name:"kaizen_model_calls_total"`, `name:"kaizen_model_cost_usd_total"`} {
					if family := metricFamily(text, want); strings.Count(family, "metric:{") != 1 {
						t.Errorf("samples of %s: %s", want, family)
					}
				}
			})
		}
	}
}

func metricFamily(text, name string) string {
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, name) {
			return line
		}
	}
	return ""
}

// checkAttempts compares the events of attempts, each as its resend count,
// status and type of error.
func checkAttempts(t *testing.T, s sdktrace.ReadOnlySpan, want ...string) {
	t.Helper()
	var got []string
	for _, e := range s.Events() {
		if e.Name != "kaizen.attempt" {
			continue
		}
		var f []string
		for _, kv := range e.Attributes {
			if kv.Key != "kaizen.retry_after" {
				f = append(f, kv.Value.String())
			}
		}
		got = append(got, strings.Join(f, " "))
	}
	if strings.Join(got, ", ") != strings.Join(want, ", ") {
		t.Errorf("attempts are %q, want %q", got, want)
	}
}

// TestCallThatIsGivenUp: when no attempt follows, the call ends as its last one
// did, when that did: however that becomes known.
func TestCallThatIsGivenUp(t *testing.T) {
	stainless := []string{"X-Stainless-Retry-Count", "{n}"}
	tests := []struct {
		name     string
		header   []string
		attempts int
		limited  bool // the caller's context has a deadline
		reply    *http.Response
		// after tells the observer, or waits; ended says whether the span has to have ended before.
		after func(*kaizen.Observer, context.CancelFunc)
		ended bool
	}{
		{name: "flush", header: stainless, attempts: 2, after: func(o *kaizen.Observer, _ context.CancelFunc) { _ = o.Flush(context.Background()) }},
		{name: "shutdown", header: stainless, attempts: 2, after: func(o *kaizen.Observer, _ context.CancelFunc) { _ = o.Shutdown(context.Background()) }},
		{name: "the wait is over", header: stainless, attempts: 2, after: func(*kaizen.Observer, context.CancelFunc) { time.Sleep(10 * time.Second) }},
		{name: "the wait that the server asked for is over", header: stainless, attempts: 2, reply: answer(429, "application/json", "{}", "Retry-After", "40"),
			after: func(*kaizen.Observer, context.CancelFunc) { time.Sleep(51 * time.Second) }},
		{name: "the caller's context ends", header: stainless, attempts: 2, after: func(_ *kaizen.Observer, cancel context.CancelFunc) { cancel() }},
		{name: "an attempt's own context ends, and the wait", header: stainless, attempts: 2, limited: true,
			after: func(_ *kaizen.Observer, cancel context.CancelFunc) { cancel(); time.Sleep(10 * time.Second) }},
		{name: "the library's limit is reached", header: []string{"Amz-Sdk-Request", "attempt={n+1}; max=2"}, attempts: 2, ended: true},
		{name: "the failure is final", header: stainless, attempts: 1, reply: answer(400, "application/json", "{}"), ended: true},
		{name: "the server says so", header: stainless, attempts: 1, reply: answer(503, "application/json", "{}", "X-Should-Retry", "false"), ended: true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Setenv("KAIZEN_SERVER", "")
			synctest.Test(t, func(t *testing.T) {
				o := observe(t, kaizen.Config{Off: kaizen.Audit})
				if tt.reply == nil {
					tt.reply = answer(503, "application/json", "{}")
				}
				client := o.obs.HTTPClient(&http.Client{Transport: attempts(func(int) (*http.Response, error) { return tt.reply, nil })})
				ctx, cancel := context.WithCancel(t.Context())
				if tt.limited {
					ctx, cancel = context.WithTimeout(ctx, time.Hour)
				}
				defer cancel()
				for n := range tt.attempts {
					time.Sleep(time.Second)
					try(ctx, client, n, "hi", false, tt.header...)
				}
				last := time.Now()
				time.Sleep(time.Second)
				synctest.Wait()
				if n := len(o.spans.Ended()); (n == 1) != tt.ended {
					t.Fatalf("%d spans had ended", n)
				}
				if tt.after != nil {
					tt.after(o.obs, cancel)
					synctest.Wait()
				}
				spans := o.spans.Ended()
				if len(spans) != 1 {
					t.Fatalf("%d spans, want 1", len(spans))
				}
				attrs := attributes(spans[0])
				if attrs["kaizen.status"] != "error" || tt.attempts > 1 && attrs["kaizen.attempts"] != strconv.Itoa(tt.attempts) {
					t.Errorf("attributes = %v", attrs)
				}
				if !spans[0].EndTime().Equal(last) {
					t.Errorf("ended %v after its last attempt", spans[0].EndTime().Sub(last))
				}
				if tt.attempts == 2 {
					status := strconv.Itoa(tt.reply.StatusCode)
					checkAttempts(t, spans[0], "0 "+status+" "+status, "1 "+status+" "+status)
				}
			})
		})
	}
}

// TestCallsThatAskTheSame: calls at the same time are told apart by their
// counts, and a first try is a call of its own.
func TestCallsThatAskTheSame(t *testing.T) {
	o := observe(t, kaizen.Config{Off: kaizen.Audit})
	client := o.obs.HTTPClient(&http.Client{Transport: attempts(func(n int) (*http.Response, error) {
		if n < 2 {
			return answer(529, "application/json", "{}"), nil
		}
		return answer(200, "application/json", goodAnswer), nil
	})})
	const calls = 40
	var wg sync.WaitGroup
	for range calls {
		wg.Go(func() {
			for n := range 3 {
				try(t.Context(), client, n, "hi", false, "X-Stainless-Retry-Count", "{n}")
			}
		})
	}
	wg.Wait()
	spans := o.spans.Ended()
	if len(spans) != calls {
		t.Errorf("%d spans of %d calls", len(spans), calls)
	}
	for _, s := range spans {
		if a := attributes(s); a["kaizen.attempts"] != "3" || a["kaizen.status"] != "ok" {
			t.Errorf("attempts = %s, status %s", a["kaizen.attempts"], a["kaizen.status"])
		}
	}
}

// TestTooManyCallsToHold: beyond the bound a call is recorded at once, and counted.
func TestTooManyCallsToHold(t *testing.T) {
	o := observe(t, kaizen.Config{Off: kaizen.Audit | kaizen.Logs})
	client := o.obs.HTTPClient(&http.Client{Transport: attempts(func(int) (*http.Response, error) {
		return answer(500, "application/json", "{}"), nil
	})})
	for i := range 260 {
		try(t.Context(), client, 0, strconv.Itoa(i), false)
	}
	if n, ended := o.obs.Health().UnfoldedCalls, len(o.spans.Ended()); n != 4 || ended != 4 {
		t.Errorf("%d calls counted, %d ended, want 4", n, ended)
	}
	if err := o.obs.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := len(o.spans.Ended()); n != 260 {
		t.Errorf("%d spans of 260 calls", n)
	}
}

// TestRetriesWithinAnOperation: where the agent's runtime has announced the
// call, nothing is held.
func TestRetriesWithinAnOperation(t *testing.T) {
	o := observe(t, kaizen.Config{Off: kaizen.Audit})
	inner := o.obs.HTTPClient(&http.Client{Transport: attempts(func(int) (*http.Response, error) { return answer(500, "application/json", "{}"), nil })})
	client := o.obs.HTTPClient(inner) // wrapped twice
	err := o.obs.Hooks().Do(t.Context(), &hook.ModelCall{Operation: "chat", Model: "gpt-5-mini"}, func(ctx context.Context, _ *hook.Op) error {
		for n := range 2 {
			try(ctx, client, n, "hi", false, "X-Stainless-Retry-Count", "{n}")
		}
		return errors.New("given up")
	})
	if err == nil {
		t.Fatal("no error")
	}
	if spans := o.spans.Ended(); len(spans) != 1 || attributes(spans[0])["kaizen.attempts"] != "2" {
		t.Errorf("%d spans, %v", len(spans), attributes(spans[0])["kaizen.attempts"])
	}
}
