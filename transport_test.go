package kaizen_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kaizen-go/kaizen"
	"github.com/kaizen-go/kaizen/hook"
	"github.com/kaizen-go/kaizen/kaizentest"
	"github.com/kaizen-go/kaizen/price"
)

func ask(ctx context.Context, c *http.Client, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url+"/v1/chat/completions",
		strings.NewReader(`{"model":"gpt-5-mini","messages":[{"role":"user","content":"hi"}]}`))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := c.Do(req)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, resp.Body)
	return errors.Join(err, resp.Body.Close())
}

func modelServer(t *testing.T) *kaizentest.ModelServer {
	t.Helper()
	s := kaizentest.NewModelServer(kaizentest.Script{Reply: func(kaizentest.Request) kaizentest.Reply {
		return kaizentest.Reply{Text: "hello", Usage: price.Usage{Input: 8, Output: 2}}
	}})
	t.Cleanup(s.Close)
	return s
}

// TestPlainClient: any program that gives its HTTP client the transport is
// observed, with no agent runtime.
func TestPlainClient(t *testing.T) {
	o := observe(t, kaizen.Config{})
	server := modelServer(t)
	if err := ask(t.Context(), o.obs.HTTPClient(nil), server.URL); err != nil {
		t.Fatal(err)
	}
	attrs := attributes(o.span(t, "chat gpt-5-mini"))
	for k, v := range map[string]string{"gen_ai.usage.input_tokens": "8", "gen_ai.usage.output_tokens": "2", "kaizen.cost.nano_usd": "6000", "gen_ai.provider.name": "openai", "kaizen.status": "ok"} {
		if attrs[k] != v {
			t.Errorf("%s = %q, want %q", k, attrs[k], v)
		}
	}
	if es := o.entries(t); len(es) != 1 || es[0].Action != "model_call" {
		t.Errorf("entries = %+v", es)
	}
}

// TestTransportOfContext: a client that was made before anybody observed is
// observed in an observer's context, and does nothing outside of one.
func TestTransportOfContext(t *testing.T) {
	o := observe(t, kaizen.Config{})
	server := modelServer(t)
	client := &http.Client{Transport: kaizen.Transport(nil)}
	if err := ask(t.Context(), client, server.URL); err != nil {
		t.Fatal(err)
	}
	if n := len(o.spans.Ended()); n != 0 {
		t.Errorf("%d spans without an observer", n)
	}
	if err := ask(o.obs.Context(t.Context()), client, server.URL); err != nil {
		t.Fatal(err)
	}
	if n := len(o.spans.Ended()); n != 1 {
		t.Errorf("%d spans in an observer's context, want 1", n)
	}
}

// TestCallInsideAnOperationIsOne: what the wire shows belongs to the model call
// that is announced already.
func TestCallInsideAnOperationIsOne(t *testing.T) {
	o := observe(t, kaizen.Config{})
	server := modelServer(t)
	call := &hook.ModelCall{Operation: "chat", Provider: "openai", Model: "gpt-5-mini"}
	err := o.obs.Hooks().Do(t.Context(), call, func(ctx context.Context, _ *hook.Op) error {
		for range 2 { // a request and its retry
			if err := ask(ctx, o.obs.HTTPClient(nil), server.URL); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if spans := o.spans.Ended(); len(spans) != 1 || attributes(spans[0])["kaizen.attempts"] != "2" {
		t.Errorf("%d spans, want one with two attempts", len(spans))
	}
}

// TestDeniedCallIsNotSent: a handler that refuses keeps the request here.
func TestDeniedCallIsNotSent(t *testing.T) {
	o := observe(t, kaizen.Config{})
	server := modelServer(t)
	err := o.obs.Hooks().Register(hook.Registration{Name: "budget", Timeout: time.Minute, Kinds: []hook.Kind{hook.KindModelCall}, Handler: hook.HandlerFunc(
		func(context.Context, hook.Event) error { return &hook.DeniedError{Reason: "the budget is spent"} })})
	if err != nil {
		t.Fatal(err)
	}
	err = ask(t.Context(), o.obs.HTTPClient(nil), server.URL)
	var denied *hook.DeniedError
	if !errors.As(err, &denied) || denied.By != "budget" {
		t.Errorf("call = %v, want a DeniedError", err)
	}
	if n := len(server.Ledger()); n != 0 {
		t.Errorf("%d requests reached the server", n)
	}
	if attrs := attributes(o.span(t, "chat gpt-5-mini")); attrs["kaizen.status"] != "denied" {
		t.Errorf("status = %s", attrs["kaizen.status"])
	}
}

func TestConcurrentCalls(t *testing.T) {
	o := observe(t, kaizen.Config{})
	server := modelServer(t)
	client := o.obs.HTTPClient(nil)
	const n = 40
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() {
			if err := ask(t.Context(), client, server.URL); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if got := len(o.spans.Ended()); got != n {
		t.Errorf("%d spans of %d calls", got, n)
	}
	if got := len(o.entries(t)); got != n {
		t.Errorf("%d entries of %d calls", got, n)
	}
}

// TestInjectStreamUsage: a stream whose caller did not ask for its usage has
// one, and the caller gets what it gets of a server that was not asked.
func TestInjectStreamUsage(t *testing.T) {
	server := modelServer(t)
	stream := func(c *http.Client) string {
		resp, err := c.Post(server.URL+"/v1/chat/completions", "application/json",
			strings.NewReader(`{"model":"gpt-5-mini","stream":true,"messages":[{"role":"user","content":"hi"}]}`))
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(resp.Body)
		if err := errors.Join(err, resp.Body.Close()); err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	for _, content := range []kaizen.Content{kaizen.ContentOff, kaizen.ContentFull} {
		o := observe(t, kaizen.Config{InjectStreamUsage: true, Content: content})
		got := stream(o.obs.HTTPClient(nil))
		if n := strings.Count(got, `"usage":{`); n != 0 || !strings.HasSuffix(got, "data: [DONE]\n\n") || !strings.Contains(got, "hello") {
			t.Errorf("the caller got %s", got)
		}
		attrs := attributes(o.span(t, "chat gpt-5-mini"))
		if attrs["gen_ai.usage.input_tokens"] != "8" || attrs["kaizen.cost.nano_usd"] != "6000" {
			t.Errorf("attributes = %v", attrs)
		}
	}
	o := observe(t, kaizen.Config{})
	stream(o.obs.HTTPClient(nil))
	if attrs := attributes(o.span(t, "chat gpt-5-mini")); attrs["gen_ai.usage.input_tokens"] != "" || attrs["kaizen.cost.unpriced"] != "true" {
		t.Errorf("not asked for, and yet: %v", attrs)
	}
}
