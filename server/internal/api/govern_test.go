package api

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/kaizen-go/kaizen/audit"
)

// post sends an order, and decodes the answer if it is one.
func post(t *testing.T, w *world, path, body string, status int) object {
	t.Helper()
	rec := w.do("POST", path, body)
	if rec.Code != status {
		t.Fatalf("POST %s %s: %d %s, want %d", path, body, rec.Code, rec.Body, status)
	}
	var o object
	if err := json.Unmarshal(rec.Body.Bytes(), &o); err != nil {
		t.Fatal(err)
	}
	return o
}

func TestEraseAndHold(t *testing.T) {
	w := newWorld(t)
	post(t, w, "/api/audit", `[{"agent_id":"a","action":"x","result":"success","subject":"maria","user_id":"maria","details":{"mail":"m@example.org"}},
		{"agent_id":"b","action":"x","result":"success","user_id":"maria"}]`, 200)

	h := post(t, w, "/api/audit/hold", `{"id":"case-1","agent":"a","since":"2026-01-01T00:00:00Z","reason":"lawsuit","authority":"court"}`, 200)
	if got := h["hold"].(object); got["id"] != "case-1" || got["agent"] != "a" || got["index"] != 2. || got["since"] != "2026-01-01T00:00:00Z" || got["user"] != nil {
		t.Errorf("hold: %v", got)
	}
	if got := get[object](w, "/api/audit/holds"); len(list(got["holds"])) != 1 {
		t.Errorf("holds: %v", got)
	}
	refused := post(t, w, "/api/audit/erase", `{"subject":"maria"}`, http.StatusConflict)
	if e := refused["error"].(object); e["code"] != "held" || !strings.Contains(e["message"].(string), "case-1 (lawsuit)") {
		t.Errorf("erase of a held subject: %v", refused)
	}
	post(t, w, "/api/audit/release", `{"id":"case-2"}`, http.StatusNotFound)
	post(t, w, "/api/audit/release", `{"id":"case-1","reason":"settled"}`, 200)
	if got := get[object](w, "/api/audit/holds"); len(list(got["holds"])) != 0 {
		t.Errorf("holds after the release: %v", got)
	}

	stored := get[object](w, "/api/audit?form=stored&limit=1")
	x := post(t, w, "/api/audit/erase", `{"subject":"maria","reason":"request 17","authority":"DPO"}`, 200)
	if x["found"] != true || x["entries"] != 1. || x["first"] != 0. || x["last"] != 0. || x["clear"] != 1. || x["receipt"].(object)["index"] != 4. {
		t.Errorf("erasure: %v", x)
	}
	page := list(get[object](w, "/api/audit?subject="+x["token"].(string))["entries"])
	if len(page) != 1 || page[0]["user_id"].(object)["erased"] != true || page[0]["details"].(object)["erased"] != true || page[0]["subject"] != x["token"] {
		t.Errorf("the erased entry: %v", page)
	}
	if again := post(t, w, "/api/audit/erase", `{"subject":"maria"}`, 200); again["found"] != false || again["clear"] != 1. {
		t.Errorf("erased again: %v", again)
	}

	// The stored form makes the line, before and after.
	raw, err := json.Marshal(list(stored["entries"])[0])
	if err != nil {
		t.Fatal(err)
	}
	var e audit.Entry
	if err := json.Unmarshal(raw, &e); err != nil {
		t.Fatal(err)
	}
	line, err := audit.EncodeLine(nil, e)
	if err != nil {
		t.Fatal(err)
	}
	if p, err := w.ledger.Proof(0); err != nil || !bytes.Equal(p.Line, line) {
		t.Errorf("stored form %s, %v; the line is %s", line, err, p.Line)
	}
}

func TestOrdersRefused(t *testing.T) {
	w := newWorld(t)
	for _, tt := range []struct {
		path, body string
		status     int
	}{
		{"/api/audit/erase", `{}`, 400},
		{"/api/audit/erase", `{"subject":"a","what":1}`, 400},
		{"/api/audit/erase", `{"subject":"a"} {}`, 400},
		{"/api/audit/erase", `subject=a`, 400},
		{"/api/audit/erase", `{"subject":"` + strings.Repeat("x", 70_000) + `"}`, 413},
		{"/api/audit/hold", `{}`, 400},
		{"/api/audit/hold", `{"id":"x","reason":"y"}`, 400},
		{"/api/audit/hold", `{"agent":"x","all":true}`, 400},
		{"/api/audit/hold", `{"agnet":"x"}`, 400},
		{"/api/audit/hold", `{"id":"a b","agent":"x"}`, 400},
		{"/api/audit/hold", `{"since":"yesterday"}`, 400},
		{"/api/audit/release", `{}`, 404},
		{"/api/audit", `{"agent_id":"kaizen","action":"ledger.hold","result":"success"}`, 400},
	} {
		if rec := w.do("POST", tt.path, tt.body); rec.Code != tt.status {
			t.Errorf("POST %s %.60s: %d %s, want %d", tt.path, tt.body, rec.Code, rec.Body, tt.status)
		}
	}
	if n := w.ledger.Size(); n != 0 {
		t.Errorf("%d entries were written", n)
	}
	w.api = New(Config{Store: w.store})
	for _, path := range []string{"erase", "hold", "release"} {
		post(t, w, "/api/audit/"+path, `{}`, http.StatusServiceUnavailable)
	}
	if rec := w.do("GET", "/api/audit/holds", ""); rec.Code != http.StatusServiceUnavailable {
		t.Errorf("holds without a ledger: %d", rec.Code)
	}
}
