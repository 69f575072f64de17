package doctor

import (
	"net/http/httptest"
	"testing"

	"github.com/kaizen-go/kaizen/server/internal/prom"
)

// TestVersionOfAServer: the version that is compared is the one that a server says
// of itself, not that of the engine behind its Prometheus API.
func TestVersionOfAServer(t *testing.T) {
	db, err := prom.Open(t.TempDir(), prom.Config{Version: "v1"})
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(db.Handler())
	t.Cleanup(func() {
		s.Close()
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	for version, want := range map[string]State{"v1": OK, "v2": Warning} {
		e := &examination{Config: Config{Server: s.URL, Version: version, Client: s.Client()}, running: true}
		if state, message, _ := lookAtVersion(t.Context(), e); state != want {
			t.Errorf("a command of %s is told %s: %s, want %s", version, state, message, want)
		}
	}
}
