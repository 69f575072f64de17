package server

import (
	"encoding/json"
	"strings"
	"testing"
)

// The key of a server's ledger changes while it runs, and its checkpoints carry
// both signatures for a time.
func TestRotateKey(t *testing.T) {
	s := start(t, testConfig(t))
	add := func() {
		t.Helper()
		code, _, text := call(t, "POST", s.UIURL()+"/api/audit", []byte(`{"agent_id":"a","action":"x","result":"success"}`), "Content-Type", "application/json")
		if code != 200 {
			t.Fatalf("append: %d %s", code, text)
		}
	}
	add()
	code, _, text := call(t, "POST", s.UIURL()+"/api/audit/rotate-key", []byte(`{}`), "Content-Type", "application/json")
	var got struct{ Previous, Vkey string }
	if err := json.Unmarshal([]byte(text), &got); code != 200 || err != nil || got.Vkey == "" || got.Vkey == got.Previous {
		t.Fatalf("rotate-key: %d %s, %v", code, text, err)
	}
	add()
	if _, _, note := call(t, "GET", s.UIURL()+"/log/checkpoint", nil); strings.Count(note, "— ") != 2 {
		t.Errorf("the checkpoint after the change has not two signatures:\n%s", note)
	}
}
