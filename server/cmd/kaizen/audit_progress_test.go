package main

import (
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/kaizen-go/kaizen/audit"
)

// TestProgressOfUpkeep wants every kind of long work on a ledger's files to show
// how far it is where there is a terminal, and to take the line away at its end.
func TestProgressOfUpkeep(t *testing.T) {
	root := t.TempDir()
	dir := filepath.Join(root, "audit")
	l, err := audit.Open(dir, audit.Config{})
	if err != nil {
		t.Fatal(err)
	}
	entries := make([]audit.Entry, 1000)
	for i := range entries {
		entries[i] = audit.Entry{AgentID: "a", Action: "x", Result: audit.Success}
	}
	if _, err := l.AppendBatch(t.Context(), entries); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	upkeep := func(do func(governed) error) func(*progress) error {
		return func(show *progress) error {
			g, err := openGovernedDir(dir, show)
			if err != nil {
				return err
			}
			if err := do(g); err != nil {
				return err
			}
			return g.close()
		}
	}
	kept := filepath.Join(root, "kept")
	for _, step := range []struct {
		verb string
		run  func(*progress) error
	}{
		{"sealed", upkeep(func(g governed) error { _, err := g.seal(t.Context()); return err })},
		{"archived", upkeep(func(g governed) error { _, err := g.archive(t.Context(), kept); return err })},
		{"copied", func(show *progress) error {
			return transfer(t.Context(), show, kept, filepath.Join(root, "copy", "audit"), filepath.Join(root, "keys", "audit.key"), false)
		}},
		{"copied", func(show *progress) error {
			return transfer(t.Context(), show, filepath.Join(root, "copy", "audit"), filepath.Join(root, "moved", "audit"), filepath.Join(root, "keys", "audit.key"), true)
		}},
		{"removed", upkeep(func(g governed) error {
			_, err := g.prune(t.Context(), audit.Retention{MaxBytes: 1}, false)
			return err
		})},
	} {
		var screen strings.Builder
		if err := step.run(&progress{w: &screen, on: true, verb: "copied"}); err != nil {
			t.Fatalf("%s: %v", step.verb, err)
		}
		want := regexp.MustCompile(`(?s)\r` + step.verb + ` 1000 of 1000 entries \(100%\)\x1b\[K.*\r\x1b\[K[^\r]*$`)
		if !want.MatchString(screen.String()) {
			t.Errorf("%s: the screen got %q", step.verb, screen.String())
		}
	}
}

// TestProgressKeepsQuiet wants no line where there is no terminal, in the first
// moment, and after the end.
func TestProgressKeepsQuiet(t *testing.T) {
	var out strings.Builder
	p := startProgress(&out, "checked")
	p.every = 0
	p.show(1, 2)
	p.end()
	p = &progress{w: &out, on: true, every: time.Hour, shown: time.Now()}
	p.show(1, 2)
	if out.Len() > 0 {
		t.Errorf("wrote %q", out.String())
	}
	p.end()
	cleared := out.Len()
	p.every = 0
	p.work("seal", 1, 2)
	p.end()
	if out.Len() != cleared {
		t.Errorf("wrote %q after the end", out.String())
	}
}
