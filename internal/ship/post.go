package ship

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"
)

// maxAnswerBytes bounds what is read of an answer: a receipt for each of the
// records of a batch fits, an endless body does not.
const maxAnswerBytes = 16 << 20

// answer is the outcome of one POST.
type answer struct {
	kind       kind
	failure    string        // for the failure count; empty when taken
	retryAfter time.Duration // what the server asked for
	status     int           // 0 when there was no answer
	body       []byte        // of a 200
	detail     string        // for the log
}

type kind int

const (
	taken   kind = iota // acknowledged
	retry               // the same bytes may be taken later
	refused             // will never be taken
)

// post sends body once. It returns only when the answer is complete, the
// timeout has passed, or the time for sending is over.
func (w *worker[T]) post(body []byte, gzipped bool) answer {
	ctx, cancel := context.WithTimeout(w.ctx, w.cfg.Timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, w.cfg.URL, bytes.NewReader(body))
	if err != nil {
		return answer{kind: refused, failure: "bad_url", detail: err.Error()}
	}
	req.Header.Set("User-Agent", "kaizen-go")
	for k, v := range w.cfg.Headers {
		req.Header.Set(k, v)
	}
	req.Header.Set("Content-Type", w.cfg.ContentType)
	if gzipped {
		req.Header.Set("Content-Encoding", "gzip")
	}
	resp, err := w.cfg.Client.Do(req)
	if err != nil {
		return networkFailure(err)
	}
	defer resp.Body.Close() // nothing was written through it, so nothing can be lost
	got, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswerBytes))
	if err != nil && resp.StatusCode/100 == 2 {
		// The half that is missing may say that everything was refused.
		return networkFailure(err)
	}
	return classify(resp, got)
}

func networkFailure(err error) answer {
	failure := "network"
	var ne net.Error
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded) || (errors.As(err, &ne) && ne.Timeout()) {
		failure = "timeout"
	}
	return answer{kind: retry, failure: failure, detail: err.Error()}
}

// classify follows the OTLP specification: 429, 502, 503 and 504 may be sent
// again, every other failure must not.
func classify(resp *http.Response, body []byte) answer {
	a := answer{status: resp.StatusCode, body: body}
	if resp.StatusCode/100 == 2 {
		return a
	}
	a.kind = refused
	a.failure = "http_" + strconv.Itoa(resp.StatusCode)
	a.detail = fmt.Sprintf("%s: %s", resp.Status, firstLine(body))
	switch resp.StatusCode {
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		a.kind = retry
		a.retryAfter = retryAfter(resp.Header.Get("Retry-After"), time.Now())
	}
	if to := resp.Header.Get("Location"); to != "" && resp.StatusCode/100 == 3 {
		a.detail = fmt.Sprintf("%s to %s, which is not followed", resp.Status, to)
	}
	return a
}

// firstLine makes an answer fit for a log line.
func firstLine(body []byte) string {
	line, _, _ := strings.Cut(strings.ToValidUTF8(string(body[:min(len(body), 200)]), "?"), "\n")
	return strconv.QuoteToGraphic(strings.TrimSpace(line))
}

// retryAfter reads seconds or a date; zero when there is neither.
func retryAfter(header string, now time.Time) time.Duration {
	header = strings.TrimSpace(header)
	if header == "" {
		return 0
	}
	var d time.Duration
	if seconds, err := strconv.ParseUint(header, 10, 31); err == nil {
		d = time.Duration(seconds) * time.Second
	} else if at, err := http.ParseTime(header); err == nil {
		d = at.Sub(now)
	}
	return min(max(d, 0), maxRetryAfter)
}

// backoff is the pause after the n-th failure in a row, n from 1: it doubles
// from lo up to hi, and half of it is random, so that the clients of a server
// that comes back do not all return at once.
func backoff(n int, lo, hi time.Duration) time.Duration {
	d := lo
	for ; n > 1 && d < hi; n-- {
		d *= 2
	}
	d = min(d, hi)
	return d/2 + rand.N(d/2+1)
}
