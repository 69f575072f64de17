package uitest

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/kaizen-go/kaizen/server/internal/ui"
)

// serve starts a server with the page and canned data on a free port.
func serve(t *testing.T, f *Fixture) string {
	t.Helper()
	mux := http.NewServeMux()
	mux.Handle("/api/", f)
	mux.Handle("/", ui.Handler())
	srv := httptest.NewServer(mux)
	t.Cleanup(srv.Close)
	return srv.URL
}

func fixture(t *testing.T) *Fixture {
	t.Helper()
	f, err := NewFixture(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestWalk(t *testing.T) {
	Walk(t, serve(t, fixture(t)), Options{})
}
