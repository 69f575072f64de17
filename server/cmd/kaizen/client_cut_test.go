package main

import (
	"net/http"
	"net/http/httptest"
	"testing"
)

// TestCutAnswer has a server that goes away in the middle of an answer: that is
// the same to its clients as one that was not there.
func TestCutAnswer(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "100")
		if _, err := w.Write([]byte(`{"spans":`)); err != nil {
			t.Error(err)
		}
	}))
	defer srv.Close()
	c, err := newClient(srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	var out struct{}
	if code, _ := classify(c.get(t.Context(), "/api/stats", nil, &out)); code != exitEnvironment {
		t.Errorf("an answer that was cut is exit code %d, want %d", code, exitEnvironment)
	}
}
