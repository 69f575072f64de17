package llmhttp_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/kaizen-go/kaizen/llmhttp"
)

type refuser struct{ ended []llmhttp.Result }

var errNoCalls = errors.New("no calls today")

func (r *refuser) Start(ctx context.Context, _ llmhttp.Call) (context.Context, func(llmhttp.Result)) {
	return llmhttp.Refuse(ctx, errNoCalls), func(res llmhttp.Result) { r.ended = append(r.ended, res) }
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

type closeCounter struct {
	io.Reader
	closed int
}

func (c *closeCounter) Close() error { c.closed++; return nil }

func TestRefuse(t *testing.T) {
	r := &refuser{}
	sent := false
	rt := llmhttp.Transport(roundTripper(func(*http.Request) (*http.Response, error) {
		sent = true
		return nil, errors.New("unreachable")
	}), r, llmhttp.Config{})
	body := &closeCounter{Reader: strings.NewReader(`{"model":"m","messages":[]}`)}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://127.0.0.1/v1/chat/completions", body)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := rt.RoundTrip(req)
	if resp != nil || !errors.Is(err, errNoCalls) || sent {
		t.Errorf("RoundTrip = %v, %v, sent %v, want the refusal and nothing sent", resp, err, sent)
	}
	if len(r.ended) != 1 || !errors.Is(r.ended[0].Err, errNoCalls) || r.ended[0].ErrorType != llmhttp.ErrorRefused {
		t.Errorf("ended with %+v", r.ended)
	}
	if body.closed == 0 {
		t.Error("the body was not closed")
	}
}
