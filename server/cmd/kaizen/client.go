package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/kaizen-go/kaizen/server"
)

// client asks the JSON API, of a server or of a data directory in this process.
type client struct {
	base  string // without a final slash
	http  *http.Client
	key   string
	local bool // asks a directory, not a server
	close func() error
}

// askTimeout bounds one answer of a server.
const askTimeout = time.Minute

// maxAnswerBytes bounds one answer in memory: a page of 1,000 large entries
// (64 KiB each) fits.
const maxAnswerBytes = 256 << 20

func newClient(base string) (*client, error) {
	if !isURL(base) {
		return nil, usage(fmt.Errorf("server %q is not a URL", base), "write it like http://127.0.0.1:7070")
	}
	return &client{
		base:  strings.TrimSuffix(base, "/"),
		http:  &http.Client{Timeout: askTimeout},
		key:   os.Getenv("KAIZEN_API_KEY"),
		close: func() error { return nil },
	}, nil
}

// localClient asks r without a network.
func localClient(r *server.Reader) *client {
	return &client{
		base:  "http://localhost",
		http:  &http.Client{Transport: handlerTransport{r.Handler()}},
		local: true,
		close: r.Close,
	}
}

// apiError is what the API answered instead of a result.
type apiError struct {
	Status  int
	Code    string
	Message string
}

func (e *apiError) Error() string {
	return fmt.Sprintf("server: %s (%d %s)", e.Message, e.Status, e.Code)
}

// raw returns the body of GET path?query.
func (c *client) raw(ctx context.Context, path string, query url.Values) ([]byte, error) {
	if len(query) > 0 {
		path += "?" + query.Encode()
	}
	return c.ask(ctx, http.MethodGet, path, nil)
}

// post sends in as JSON and decodes the answer into out.
func (c *client) post(ctx context.Context, path string, in, out any) error {
	text, err := json.Marshal(in)
	if err != nil {
		return failed(err)
	}
	body, err := c.ask(ctx, http.MethodPost, path, bytes.NewReader(text))
	if err != nil {
		return err
	}
	if err := json.Unmarshal(body, out); err != nil {
		return failed(fmt.Errorf("answer of %s%s is not what this version expects: %w", c.base, path, err))
	}
	return nil
}

// ask returns the body of an answer that is 200.
func (c *client) ask(ctx context.Context, method, path string, in io.Reader) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, in)
	if err != nil {
		return nil, usage(fmt.Errorf("server %q: %w", c.base, err), "")
	}
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if c.key != "" {
		req.Header.Set("Authorization", "Bearer "+c.key)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, environment(fmt.Errorf("ask %s: %w", c.base, unwrapURL(err)), "is the server running? start it with kaizen serve, or name it with --server")
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswerBytes+1))
	if err = errors.Join(err, resp.Body.Close()); err != nil {
		// As when the server was not there at all: demo asks again.
		return nil, environment(fmt.Errorf("read the answer of %s%s: %w", c.base, path, err), "the connection was cut: is the server still running?")
	}
	if len(body) > maxAnswerBytes {
		return nil, failed(fmt.Errorf("answer of %s%s is larger than %d bytes: ask for less with --limit", c.base, path, maxAnswerBytes))
	}
	if resp.StatusCode != http.StatusOK {
		return nil, refusal(resp.StatusCode, body)
	}
	return body, nil
}

// unwrapURL drops the method and URL that net/http puts before the cause.
func unwrapURL(err error) error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		return u.Err
	}
	return err
}

// refusal turns an answer that is not 200 into an error with an exit code.
func refusal(status int, body []byte) error {
	var answer struct {
		Error struct{ Code, Message string } `json:"error"`
	}
	e := &apiError{Status: status, Code: http.StatusText(status), Message: "refused the request"}
	if json.Unmarshal(body, &answer) == nil && answer.Error.Message != "" {
		e.Code, e.Message = answer.Error.Code, answer.Error.Message
	}
	switch status {
	case http.StatusUnauthorized:
		return environment(e, "set KAIZEN_API_KEY to a key of that server")
	case http.StatusBadRequest:
		return usage(e, "")
	case http.StatusConflict:
		return &exitError{exitFailed, heldAdvice, e}
	case http.StatusNotFound:
		return failed(e)
	}
	return environment(e, "")
}

// get decodes the answer of GET path?query into out.
func (c *client) get(ctx context.Context, path string, query url.Values, out any) error {
	body, err := c.raw(ctx, path, query)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(body, out); err != nil {
		return failed(fmt.Errorf("answer of %s%s is not what this version expects: %w", c.base, path, err))
	}
	return nil
}

// handlerTransport answers requests with a handler, in memory.
type handlerTransport struct{ handler http.Handler }

func (t handlerTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	w := &answer{header: http.Header{}, status: http.StatusOK}
	t.handler.ServeHTTP(w, r)
	return &http.Response{
		Status:        fmt.Sprintf("%d %s", w.status, http.StatusText(w.status)),
		StatusCode:    w.status,
		Proto:         "HTTP/1.1",
		ProtoMajor:    1,
		ProtoMinor:    1,
		Header:        w.header,
		Body:          io.NopCloser(&w.body),
		ContentLength: int64(w.body.Len()),
		Request:       r,
	}, nil
}

// answer is a response that is kept in memory.
type answer struct {
	header http.Header
	status int
	wrote  bool
	body   bytes.Buffer
}

func (a *answer) Header() http.Header { return a.header }

func (a *answer) WriteHeader(status int) {
	if !a.wrote {
		a.status, a.wrote = status, true
	}
}

func (a *answer) Write(p []byte) (int, error) {
	a.wrote = true
	return a.body.Write(p)
}
