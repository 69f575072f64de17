package s3

import (
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/kaizen-go/kaizen/audit"
)

// atEnd calls do, once it is set, when a batch was asked for that is not there.
type atEnd struct{ do atomic.Pointer[func()] }

func (a *atEnd) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := http.DefaultTransport.RoundTrip(r)
	if err == nil && resp.StatusCode == http.StatusNotFound && strings.Contains(r.URL.Path, "/"+batchPrefix) {
		if do := a.do.Swap(nil); do != nil {
			(*do)()
		}
	}
	return resp, err
}

// TestVerifyWhileAppending appends, and changes the key, when Verify has read the
// last batch: what this process knows of that is no sign of tampering.
func TestVerifyWhileAppending(t *testing.T) {
	cfg, hook := fresh(t), &atEnd{}
	cfg.Transport = hook
	l := openFor(t, cfg)
	fill(t, l, 3, 2)
	changed := false
	do := func() {
		fill(t, l, 1, 2)
		if _, _, err := l.RotateKey(t.Context()); err != nil {
			t.Error(err)
		}
		changed = true
	}
	hook.do.Store(&do)
	report, err := l.Verify(t.Context(), audit.VerifyConfig{})
	if err != nil || report.Entries < 6 || !changed {
		t.Errorf("Verify = %+v, %v; the key was changed: %t", report, err, changed)
	}
}
