package llmhttp

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"
)

// Values of [Result.ErrorType] for errors that the provider did not name.
const (
	ErrorRefused    = "refused"    // the observer kept the request from being sent
	ErrorCancelled  = "cancelled"  // the caller's context was cancelled
	ErrorTimeout    = "timeout"    // a deadline passed, the caller's or the network's
	ErrorConnection = "connection" // the request could not be sent, or got no response
	ErrorCut        = "cut"        // the response ended before its end
)

// ErrIncomplete is the [Result.Err] of a stream that ended in good order, but
// before the event that ends an answer.
var ErrIncomplete = errors.New("llmhttp: stream ended before its last event")

// APIError is an error that the provider reported, as a status or in a stream.
type APIError struct {
	// Status is the HTTP status; 200 when the error came in a stream.
	Status int
	// Type is the provider's code or type; empty when the body had none.
	Type string
	// Message is the provider's text. It may quote the request: redact it
	// before recording it. Error leaves it out for that reason.
	Message string
}

// Error says status and type, never the message.
func (e *APIError) Error() string {
	if e.Type == "" {
		return "llmhttp: provider answered " + strconv.Itoa(e.Status)
	}
	return "llmhttp: provider answered " + strconv.Itoa(e.Status) + ": " + e.Type
}

// errorType names err. Read says that it came from reading a response.
func errorType(err error, read bool) string {
	var api *APIError
	var timeout net.Error
	switch {
	case errors.As(err, &api) && api.Type != "":
		return api.Type
	case errors.As(err, &api) && api.Status < 400:
		return "_OTHER" // the convention's word for an error without a name
	case errors.As(err, &api):
		return strconv.Itoa(api.Status)
	case errors.Is(err, context.Canceled):
		return ErrorCancelled
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return ErrorTimeout
	case read, errors.Is(err, io.ErrUnexpectedEOF):
		return ErrorCut
	}
	return ErrorConnection
}

// retryAfter reads how long the server asks to wait, 0 if it does not.
func retryAfter(h http.Header, now time.Time) time.Duration {
	if ms, err := strconv.ParseFloat(h.Get("Retry-After-Ms"), 64); err == nil && ms > 0 && ms < 1e9 {
		return time.Duration(ms * float64(time.Millisecond))
	}
	v := h.Get("Retry-After")
	if s, err := strconv.ParseFloat(v, 64); err == nil && s > 0 && s < 1e6 {
		return time.Duration(s * float64(time.Second))
	}
	if at, err := http.ParseTime(v); err == nil && at.After(now) {
		return at.Sub(now)
	}
	return 0
}

// retryable reports whether client libraries send a request again that was
// answered so. OpenAI's and Anthropic's ask the header first.
func retryable(resp *http.Response) bool {
	if resp.StatusCode < 400 {
		return false
	}
	if said, err := strconv.ParseBool(resp.Header.Get("X-Should-Retry")); err == nil {
		return said
	}
	switch resp.StatusCode {
	case http.StatusRequestTimeout, http.StatusConflict, http.StatusTooManyRequests:
		return true
	}
	return resp.StatusCode >= http.StatusInternalServerError
}

// requestID is the provider's name for the request.
func requestID(h http.Header) string {
	for _, name := range []string{"X-Request-Id", "Request-Id", "Apim-Request-Id", "X-Amzn-Requestid"} {
		if v := h.Get(name); v != "" {
			return v
		}
	}
	return ""
}
