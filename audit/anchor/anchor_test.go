package anchor_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/kaizen-go/kaizen/audit"
	"github.com/kaizen-go/kaizen/audit/anchor"
)

// collector keeps the bodies of log records, as a collector does.
type collector struct {
	mu      sync.Mutex
	bodies  []string
	answer  string
	code    int
	request *http.Request
}

func (c *collector) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.request = r
	b, err := io.ReadAll(r.Body)
	var got struct {
		ResourceLogs []struct {
			ScopeLogs []struct {
				LogRecords []struct {
					EventName string
					Body      struct{ StringValue string }
				}
			}
		}
	}
	if err = errors.Join(err, json.Unmarshal(b, &got)); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if record := got.ResourceLogs[0].ScopeLogs[0].LogRecords[0]; record.EventName == anchor.EventName {
		c.bodies = append(c.bodies, record.Body.StringValue)
	}
	if c.code != 0 {
		w.WriteHeader(c.code)
	}
	_, _ = io.WriteString(w, c.answer)
}

// What was sent is found again by Verify's comparison, and shows a ledger that
// was set back.
func TestOTLP(t *testing.T) {
	c := &collector{}
	server := httptest.NewServer(c)
	defer server.Close()
	dir := filepath.Join(t.TempDir(), "audit")
	a := &anchor.OTLP{URL: server.URL, Header: http.Header{"Authorization": {"Bearer x"}}}
	l, err := audit.Open(dir, audit.Config{Anchors: []audit.Anchor{a}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.Append(t.Context(), audit.Entry{AgentID: "a", Action: "x", Result: audit.Success}); err != nil {
		t.Fatal(err)
	}
	key := l.VerifierKey()
	if err := l.Close(); err != nil { // anchors once more
		t.Fatal(err)
	}
	if len(c.bodies) == 0 || c.request.Header.Get("Authorization") != "Bearer x" {
		t.Fatalf("the collector has %q, asked with %v", c.bodies, c.request.Header)
	}
	last := c.bodies[len(c.bodies)-1]
	got, err := audit.ParseCheckpoint([]byte(last), key)
	if err != nil || got.Size != 1 {
		t.Fatalf("kept is %q: %+v, %v", last, got, err)
	}
	if _, err := audit.Verify(t.Context(), dir, audit.VerifyConfig{Key: key, Checkpoint: []byte(last)}); err != nil {
		t.Errorf("Verify against what was kept = %v", err)
	}
}

func TestOTLPRefused(t *testing.T) {
	for _, tt := range []struct {
		name, answer string
		code         int
		want         string // in the error; empty for none
	}{
		{"taken", `{}`, 200, ""},
		{"taken, no body", ``, 202, ""},
		{"nothing rejected", `{"partialSuccess":{"rejectedLogRecords":"0"}}`, 200, ""},
		{"rejected", `{"partialSuccess":{"rejectedLogRecords":"1","errorMessage":"too old"}}`, 200, "too old"},
		{"rejected, as a number", `{"partialSuccess":{"rejectedLogRecords":1}}`, 200, "rejected"},
		{"not authorized", `no key`, 401, "401"},
		{"too busy", ``, 503, "503"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			server := httptest.NewServer(&collector{answer: tt.answer, code: tt.code})
			defer server.Close()
			err := (&anchor.OTLP{URL: server.URL}).Anchor(t.Context(), audit.Checkpoint{Size: 3, Note: "x\n3\n"})
			if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
				t.Errorf("Anchor = %v, want %q", err, tt.want)
			}
		})
	}
	if err := (&anchor.OTLP{URL: "http://127.0.0.1:1"}).Anchor(t.Context(), audit.Checkpoint{}); err == nil {
		t.Error("nobody listens, and the checkpoint is kept")
	}
}

// A log collector keeps what the ledger has signed.
func ExampleOTLP() {
	collector := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Println(r.Method, r.URL.Path)
	}))
	defer collector.Close()
	tmp, err := os.MkdirTemp("", "anchor")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(tmp)
	l, err := audit.Open(filepath.Join(tmp, "audit"), audit.Config{
		Anchors: []audit.Anchor{&anchor.OTLP{URL: collector.URL + "/v1/logs"}},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	if _, err := l.AppendBatch(context.Background(), []audit.Entry{{AgentID: "planner", Action: "run", Result: audit.Success}}); err != nil {
		fmt.Println(err)
	}
	fmt.Println(l.Close()) // the last checkpoint is kept, too
	// Output:
	// POST /v1/logs
	// <nil>
}
