package llmhttp_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/kaizen-go/kaizen/llmhttp"
)

// limit refuses the calls to models that are not allowed.
type limit struct{ model string }

func (l limit) Start(ctx context.Context, c llmhttp.Call) (context.Context, func(llmhttp.Result)) {
	if c.Model != l.model {
		return llmhttp.Refuse(ctx, errors.New(c.Model+" is not allowed")), nil
	}
	return ctx, nil
}

// An observer keeps a request from being sent.
func ExampleRefuse() {
	client := &http.Client{Transport: llmhttp.Transport(nil, limit{model: "small"}, llmhttp.Config{})}
	_, err := client.Post("http://127.0.0.1:9/v1/chat/completions", "application/json", strings.NewReader(`{"model":"large","messages":[]}`))
	fmt.Println(errors.Unwrap(err))
	// Output: large is not allowed
}
