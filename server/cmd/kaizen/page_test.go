package main

import (
	"path/filepath"
	"testing"

	"github.com/kaizen-go/kaizen/server/internal/uitest"
)

// TestPageOfDemo walks the page of a real server that has recorded the demo:
// every page at both widths and in both themes, and from a span to its logs,
// audit entries and exemplars. The pictures are kept as test artifacts.
func TestPageOfDemo(t *testing.T) {
	p := &serveProcess{dir: filepath.Join(t.TempDir(), "data")}
	startServe(t, p)
	demoRun(t, "--server", p.url)
	uitest.Walk(t, p.url, uitest.Options{})
}
