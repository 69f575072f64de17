package agentlog

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
)

// outcome is what the server says about one document.
type outcome struct {
	status int
	kind   string // of the error
}

// elasticServer speaks the bulk protocol and is strict about it, as the real
// ones are: what a client may get wrong is refused in their words.
type elasticServer struct {
	*httptest.Server
	target     string
	dataStream bool
	auth       string

	mu       sync.Mutex
	requests int
	// before, if not nil, may answer request n (from 0) itself; it says so.
	before func(n int, w http.ResponseWriter, r *http.Request, body []byte) bool
	// item, if not nil, may decide over a document of request n instead.
	item func(n int, doc map[string]any) outcome
	// answer, if not nil, writes the answer to request n, after its effect.
	answer func(n int, w http.ResponseWriter, body []byte)

	docs     map[string]map[string]any // by id
	messages map[string]int            // how many documents have the message
	sizes    []int                     // documents of each request
}

func newElasticServer(t *testing.T) *elasticServer {
	s := &elasticServer{target: DefaultDataStream, dataStream: true, docs: map[string]map[string]any{}, messages: map[string]int{}}
	s.Server = httptest.NewServer(s)
	t.Cleanup(func() {
		s.CloseClientConnections()
		s.Close()
	})
	return s
}

// say sets the faults.
func (s *elasticServer) say(set func(s *elasticServer)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	set(s)
}

func (s *elasticServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	wire, err := io.ReadAll(r.Body)
	if err != nil {
		return // the client is gone
	}
	s.mu.Lock()
	n, before := s.requests, s.before
	s.requests++
	s.mu.Unlock()
	if before != nil && before(n, w, r, wire) {
		return
	}
	if status, problem := s.head(r); status != 0 {
		refuse(w, status, "security_or_request_exception", problem)
		return
	}
	body := wire
	if r.Header.Get("Content-Encoding") == "gzip" {
		zr, err := gzip.NewReader(bytes.NewReader(wire))
		if err == nil {
			body, err = io.ReadAll(zr)
		}
		if err != nil {
			refuse(w, 400, "zip_exception", err.Error())
			return
		}
	}
	s.bulk(n, w, body)
}

func refuse(w http.ResponseWriter, status int, kind, reason string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	fmt.Fprintf(w, `{"error":{"type":%q,"reason":%q},"status":%d}`, kind, reason, status)
}

// head checks everything in front of the body.
func (s *elasticServer) head(r *http.Request) (status int, problem string) {
	switch {
	case r.Header.Get("Authorization") != s.auth:
		return 401, "unable to authenticate"
	case r.Method != http.MethodPost && r.Method != http.MethodPut:
		return 405, "incorrect HTTP method"
	case r.URL.Path != "/"+s.target+"/_bulk":
		return 400, "no handler found for " + r.URL.Path
	case r.Header.Get("Content-Type") != "application/x-ndjson":
		return 406, "Content-Type header is not supported"
	}
	for key := range r.URL.Query() {
		if key != "filter_path" {
			return 400, "unrecognized parameter: " + key
		}
	}
	return 0, ""
}

// bulk reads pairs of lines and applies them.
func (s *elasticServer) bulk(n int, w http.ResponseWriter, body []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(body) == 0 || body[len(body)-1] != '\n' {
		refuse(w, 400, "illegal_argument_exception", "The bulk request must be terminated by a newline [\\n]")
		return
	}
	var items []map[string]any
	lines := bufio.NewScanner(bytes.NewReader(body))
	lines.Buffer(nil, 64<<20)
	for lines.Scan() {
		var action map[string]map[string]any
		if err := json.Unmarshal(lines.Bytes(), &action); err != nil || len(action) != 1 {
			refuse(w, 400, "illegal_argument_exception", "Malformed action/metadata line")
			return
		}
		if !lines.Scan() {
			refuse(w, 400, "illegal_argument_exception", "The bulk request must contain a source after each action")
			return
		}
		for op, meta := range action {
			id, _ := meta["_id"].(string)
			o := s.apply(n, op, id, lines.Bytes())
			item := map[string]any{"_id": id, "status": o.status}
			if o.status >= 300 {
				item["error"] = map[string]any{"type": o.kind, "reason": "as told"}
			}
			items = append(items, map[string]any{op: item})
		}
	}
	s.sizes = append(s.sizes, len(items))
	out, err := json.Marshal(map[string]any{"items": items})
	if err != nil {
		refuse(w, 500, "internal", err.Error())
		return
	}
	w.Header().Set("Content-Type", "application/json")
	if s.answer != nil {
		s.answer(n, w, out)
		return
	}
	_, _ = w.Write(out) // a client that is gone asks again
}

// apply stores one document. Callers hold s.mu.
func (s *elasticServer) apply(n int, op, id string, source []byte) outcome {
	var doc map[string]any
	if err := json.Unmarshal(source, &doc); err != nil {
		return outcome{400, "document_parsing_exception"}
	}
	switch {
	case op != "create" && s.dataStream:
		return outcome{400, "illegal_argument_exception"} // only op_type create is allowed in data streams
	case doc["@timestamp"] == nil && s.dataStream:
		return outcome{400, "document_parsing_exception"} // contains no @timestamp
	case s.docs[id] != nil:
		return outcome{409, "version_conflict_engine_exception"}
	}
	if s.item != nil {
		if o := s.item(n, doc); o.status != 0 {
			return o
		}
	}
	s.docs[id] = doc
	s.messages[doc["message"].(string)]++
	return outcome{status: 201}
}

// checkIndexed fails unless the server has each message once, and no other.
func (s *elasticServer) checkIndexed(t *testing.T, want ...string) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range want {
		if n := s.messages[m]; n != 1 {
			t.Errorf("%q is indexed %d times, want once", m, n)
		}
	}
	if len(s.messages) != len(want) {
		t.Errorf("%d messages are indexed, want %d", len(s.messages), len(want))
	}
}

// hangUp closes the connection of a request, in the middle of an answer if
// there is a part of one.
func hangUp(w http.ResponseWriter, part string) {
	conn, buf, err := w.(http.Hijacker).Hijack()
	if err != nil {
		return
	}
	if part != "" {
		fmt.Fprintf(buf, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(part)+100, part)
		_ = buf.Flush() // the test is about answers that do not arrive
	}
	_ = conn.Close()
}

// only makes a fault happen at the first n requests.
func only(n int, fault func(w http.ResponseWriter, r *http.Request)) func(int, http.ResponseWriter, *http.Request, []byte) bool {
	return func(at int, w http.ResponseWriter, r *http.Request, _ []byte) bool {
		if at < n {
			fault(w, r)
		}
		return at < n
	}
}

func texts(n int) []string {
	all := make([]string, n)
	for i := range all {
		all[i] = fmt.Sprintf("message %03d", i)
	}
	return all
}

func status(code int) func(http.ResponseWriter, *http.Request) {
	return func(w http.ResponseWriter, _ *http.Request) {
		refuse(w, code, "es_rejected_execution_exception", strings.Repeat("busy ", 3))
	}
}
