package agentlog

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"strconv"
	"strings"
	"sync"
)

const (
	// maxBulkAnswer bounds what is read of an answer: 8192 documents that are
	// all refused with a long reason fit.
	maxBulkAnswer = 32 << 20
	// maxReasons bounds the types of errors that are counted apart.
	maxReasons = 64
	// maxCounted bounds the ids of refused documents that are remembered, so
	// that one which is refused again in a repeated batch counts once.
	maxCounted = 1 << 15
)

// ElasticStats are the counts of an [Elastic] since NewElastic, in lines. At any
// moment Offered + Adopted = Sent + sum(Dropped) + Queued + Spooled.
type ElasticStats struct {
	Offered int64 // given to Write, dropped ones included
	Adopted int64 // found in the spool of a dead process
	Sent    int64 // that the server has

	Queued      int64 // in memory
	QueuedBytes int64 // their size in memory, by estimate
	Spooled     int64 // on disk
	SpoolBytes  int64 // disk space that they take

	// Dropped counts lines by reason: queue_full, spool_full, rejected (by the
	// server, for good), too_large, shutdown, encode, corrupt (a damaged spool
	// file).
	Dropped map[string]int64
	// Refused counts the documents among Dropped["rejected"] that the server
	// refused one by one, by the type of its error.
	Refused map[string]int64
	// Conflicts counts answers that a document was there already, after a batch
	// had to be repeated.
	Conflicts int64
	// Failures counts attempts that failed, by reason: network, timeout,
	// http_503 and the like, items_429 and the like when the server put off
	// documents, bad_answer when what came back is no answer to the batch.
	Failures map[string]int64

	SpoolErrors  int64 // operations on the spool that failed
	SpoolCorrupt int64 // damaged spool files that were kept aside
}

// Stats returns the counts so far.
func (s *Elastic) Stats() ElasticStats {
	q := s.queue.Stats()
	st := ElasticStats{
		Offered: q.Offered, Adopted: q.Adopted, Sent: q.Sent,
		Queued: q.Queued, QueuedBytes: q.QueuedBytes, Spooled: q.Spooled, SpoolBytes: q.SpoolBytes,
		Dropped: make(map[string]int64, len(q.Dropped)), SpoolErrors: q.SpoolErrors, SpoolCorrupt: q.SpoolCorrupt,
	}
	for reason, n := range q.Dropped {
		st.Dropped[string(reason)] = n
	}
	a := s.answers
	a.mu.Lock()
	defer a.mu.Unlock()
	st.Refused, st.Failures, st.Conflicts = maps.Clone(a.refused), maps.Clone(a.failures), a.conflicts
	for reason, n := range q.Failures {
		if !strings.HasPrefix(reason, "http_") { // those are counted here, before they are translated
			st.Failures[reason] += n
		}
	}
	return st
}

// answers stands between the shipper and the network. The shipper knows one
// outcome per request, by its status; a bulk answer is always 200 and has one
// outcome per document. So an answer that puts documents off becomes a 503,
// which makes the shipper repeat the batch, and any other becomes a count of the
// documents that were refused.
type answers struct {
	base http.RoundTripper

	mu        sync.Mutex
	refused   map[string]int64
	failures  map[string]int64
	conflicts int64
	counted   map[string]struct{}
}

func newAnswers() *answers {
	return &answers{refused: map[string]int64{}, failures: map[string]int64{}, counted: map[string]struct{}{}}
}

// client returns c with its answers translated.
func (a *answers) client(c *http.Client) *http.Client {
	a.base = c.Transport
	if a.base == nil {
		a.base = http.DefaultTransport
	}
	wrapped := *c
	wrapped.Transport = a
	return &wrapped
}

// RoundTrip implements [http.RoundTripper].
func (a *answers) RoundTrip(req *http.Request) (*http.Response, error) {
	documents, err := countDocuments(req)
	if err != nil {
		return nil, errors.Join(err, req.Body.Close())
	}
	resp, err := a.base.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxBulkAnswer))
	_ = resp.Body.Close() // nothing was written through it
	if resp.StatusCode/100 == 2 {
		if err != nil {
			return nil, err // what is missing may say that everything was refused
		}
		status, text, out := a.read(body, documents)
		return translated(resp, status, text, out), nil
	}
	a.failed("http_" + strconv.Itoa(resp.StatusCode))
	return translated(resp, wholeStatus(resp.StatusCode), resp.Status, body), nil
}

// translated is the answer that the shipper gets.
func translated(resp *http.Response, status int, text string, body []byte) *http.Response {
	out := *resp
	out.StatusCode, out.Status = status, text
	out.Body, out.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	return &out
}

// wholeStatus says what the answer to a whole batch means for it. Credentials,
// a missing route and a broken server can be put right, so the batch waits.
func wholeStatus(status int) int {
	switch {
	case status >= 500, status == http.StatusUnauthorized, status == http.StatusForbidden, status == http.StatusNotFound,
		status == http.StatusProxyAuthRequired, status == http.StatusRequestTimeout, status == http.StatusTooManyRequests:
		return http.StatusServiceUnavailable
	}
	return status
}

// bulkAnswer is what is read of an answer: one outcome per document, in order,
// below the name of the action.
type bulkAnswer struct {
	Items []map[string]struct {
		ID     string `json:"_id"`
		Status int    `json:"status"`
		Error  struct {
			Type   string `json:"type"`
			Reason string `json:"reason"`
		} `json:"error"`
	} `json:"items"`
}

// refusal is what is passed on to [refusals].
type refusal struct {
	Documents int64  `json:"documents"`
	Reason    string `json:"reason"`
}

// refusals reads what read has written.
func refusals(body []byte) (int64, string) {
	var r refusal
	if err := json.Unmarshal(body, &r); err != nil {
		return 0, "" // read is the only one who writes it
	}
	return r.Documents, r.Reason
}

var errOtherCount = errors.New("it does not answer each document")

// parseBulk reads an answer to so many documents.
func parseBulk(body []byte, documents int) (bulkAnswer, error) {
	var got bulkAnswer
	if err := json.Unmarshal(body, &got); err != nil {
		return got, err
	}
	if len(got.Items) != documents {
		return got, errOtherCount
	}
	for _, item := range got.Items {
		if len(item) != 1 || item["create"].Status < 200 {
			return got, errOtherCount
		}
	}
	return got, nil
}

// read decides over a batch by the outcomes of its documents. Refused ones are
// counted only when the batch is settled.
func (a *answers) read(body []byte, documents int) (status int, text string, out []byte) {
	got, err := parseBulk(body, documents)
	if err != nil {
		a.failed("bad_answer")
		return http.StatusServiceUnavailable, "no bulk answer: " + err.Error(), nil
	}
	for _, item := range got.Items {
		if o := item["create"]; o.Status == http.StatusTooManyRequests || o.Status >= 500 || o.Error.Type == "cluster_block_exception" {
			a.failed("items_" + strconv.Itoa(o.Status))
			return http.StatusServiceUnavailable, fmt.Sprintf("documents put off with %d %s", o.Status, o.Error.Type), nil
		}
	}
	var r refusal
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.counted)+documents > maxCounted {
		clear(a.counted)
	}
	for _, item := range got.Items {
		switch o := item["create"]; {
		case o.Status == http.StatusConflict:
			a.conflicts++
		case o.Status >= 300:
			r.Documents++
			r.Reason = o.Error.Type + ": " + o.Error.Reason
			a.refuse(o.ID, o.Error.Type, o.Status)
		}
	}
	r.Reason = strings.ToValidUTF8(r.Reason[:min(len(r.Reason), 300)], "?")
	out, err = json.Marshal(r)
	if err != nil {
		panic(fmt.Sprintf("agentlog: encode a count: %v", err)) // a bug: nothing in it can fail
	}
	return http.StatusOK, "200 OK", out
}

// refuse counts a refused document, once. Callers hold a.mu.
func (a *answers) refuse(id, reason string, status int) {
	if _, again := a.counted[id]; again && id != "" {
		return
	}
	a.counted[id] = struct{}{}
	if reason == "" {
		reason = "http_" + strconv.Itoa(status)
	}
	reason = strings.ToValidUTF8(reason[:min(len(reason), 100)], "?")
	if _, known := a.refused[reason]; !known && len(a.refused) >= maxReasons {
		reason = "other"
	}
	a.refused[reason]++
}

func (a *answers) failed(reason string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.failures[reason]++
}

// countDocuments returns how many documents a request carries: an answer that
// leaves some out must not pass for their receipt.
func countDocuments(req *http.Request) (int, error) {
	body, err := req.GetBody()
	if err != nil {
		return 0, err
	}
	defer body.Close() // only read
	var from io.Reader = body
	if req.Header.Get("Content-Encoding") == "gzip" {
		if from, err = gzip.NewReader(body); err != nil {
			return 0, err
		}
	}
	lines := 0
	chunk := make([]byte, 32<<10)
	for {
		n, err := from.Read(chunk)
		lines += bytes.Count(chunk[:n], []byte{'\n'})
		if errors.Is(err, io.EOF) {
			return lines / 2, nil
		}
		if err != nil {
			return 0, err
		}
	}
}
