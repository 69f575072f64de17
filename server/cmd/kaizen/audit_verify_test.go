package main

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/kaizen-go/kaizen/audit"
)

// keysOf is the list of keys with that one, if it is one.
func keysOf(key string) []string {
	if key == "" {
		return nil
	}
	return []string{key}
}

// TestVerifyRemotePruned: what retention removed is not tampering, also over the
// API, as long as the ledger says so itself.
func TestVerifyRemotePruned(t *testing.T) {
	s := startServer(t)
	c, err := newClient(s.UIURL())
	if err != nil {
		t.Fatal(err)
	}
	post := func() {
		mustPost(t, s.UIURL()+"/api/audit", strings.TrimSuffix(strings.Repeat(strings.ReplaceAll(entryLine, "%", "step")+"\n", 300), "\n"))
	}
	var early remoteHead
	post()
	if err := c.get(t.Context(), "/api/audit/checkpoint", nil, &early); err != nil {
		t.Fatal(err)
	}
	if err := c.post(t.Context(), "/api/audit/seal", struct{}{}, &struct{}{}); err != nil {
		t.Fatal(err)
	}
	post()
	var pruned pruneAnswer
	if err := c.post(t.Context(), "/api/audit/retention", map[string]any{"max_bytes": 1}, &pruned); err != nil || pruned.Entries == 0 {
		t.Fatalf("retention = %+v, %v; want entries to be removed", pruned, err)
	}
	if err := c.post(t.Context(), "/api/audit/rotate-key", struct{}{}, &struct{}{}); err != nil {
		t.Fatal(err)
	}
	cfg := audit.VerifyConfig{Checkpoint: []byte(early.Note)}
	report, err := verifyRemote(t.Context(), apiLedger{c}, cfg, nil)
	if err != nil || report.Pruned != pruned.Entries || report.Entries <= 600 {
		t.Errorf("verifyRemote = %+v, %v; want %d pruned", report, err, pruned.Entries)
	}
	if report, err := verifyRemote(t.Context(), apiLedger{c}, cfg, []string{"example.org/x+c638aef4+BJR1xs8O2jQFdSjYaUeB7Mkq1jnX4r0ndh7T73SSS+sH"}); err == nil {
		t.Errorf("under a key of somebody else: %+v", report)
	}
	// The same gap without the entry that explains it.
	lying, err := newClient(altering(t, s.UIURL(), func(path string, body []byte) []byte {
		if path == "/api/audit" {
			return bytes.ReplaceAll(body, []byte(`"ledger.pruned"`), []byte(`"ledger.Pruned"`))
		}
		return body
	}))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := verifyRemote(t.Context(), apiLedger{lying}, cfg, nil); err == nil || !strings.Contains(err.Error(), "entry 0: entry is missing") {
		t.Errorf("with a gap that nothing explains: %v", err)
	}
}

// TestEntryJSON: what is printed has the letters of the stored line, so that it
// can be hashed when the index is taken off.
func TestEntryJSON(t *testing.T) {
	e := audit.Entry{
		Index: 7, ID: "01JZZZZZZZZZZZZZZZZZZZZZZ1", Time: time.Unix(1773064800, 5), AgentID: "a<b>", Action: "x&y", Result: audit.Success,
		Details: map[string]any{"text": "<p>\u2028 & é"},
	}
	line, err := audit.EncodeLine(nil, e)
	if err != nil {
		t.Fatal(err)
	}
	got, err := entryJSON(e)
	if err != nil || strings.Replace(string(got), `"index":7,`, "", 1) != string(line) {
		t.Errorf("entryJSON = %s, %v; want %s with the index in front", got, err, line)
	}
}
