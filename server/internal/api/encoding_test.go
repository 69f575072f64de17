package api

import (
	"bytes"
	"compress/gzip"
	"io"
	"net/http/httptest"
	"strings"
	"testing"
)

// TestAuditBodyEncodings: the SDK posts its entries packed.
func TestAuditBodyEncodings(t *testing.T) {
	const entry = `{"agent_id":"a","action":"x","result":"success"}` + "\n"
	packed := func(text string) string {
		var b bytes.Buffer
		z := gzip.NewWriter(&b)
		if _, err := io.WriteString(z, text); err != nil {
			t.Fatal(err)
		}
		if err := z.Close(); err != nil {
			t.Fatal(err)
		}
		return b.String()
	}
	tests := []struct {
		name, encoding, body string
		status               int
		entries              int64
	}{
		{"gzip", "gzip", packed(strings.Repeat(entry, 3)), 200, 3},
		{"upper case", "GZIP", packed(entry), 200, 1},
		{"identity", "identity", entry, 200, 1},
		{"not gzip", "gzip", entry, 400, 0},
		{"cut gzip", "gzip", packed(entry)[:20], 400, 0},
		{"unknown", "br", entry, 415, 0},
		{"unpacks to too much", "gzip", packed(strings.Repeat(" ", maxAuditBodyBytes+1)), 413, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			before := w.ledger.Size()
			r := httptest.NewRequest("POST", "/api/audit", strings.NewReader(tt.body))
			r.Header.Set("Content-Encoding", tt.encoding)
			rec := httptest.NewRecorder()
			w.api.ServeHTTP(rec, r)
			if rec.Code != tt.status || w.ledger.Size()-before != tt.entries {
				t.Errorf("answer %d %s with %d entries, want %d with %d", rec.Code, rec.Body, w.ledger.Size()-before, tt.status, tt.entries)
			}
		})
	}
}
