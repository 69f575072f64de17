package main

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

// TestGeneratedIsCommitted: what is committed is what this program writes.
func TestGeneratedIsCommitted(t *testing.T) {
	files, err := generate()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join("..", "..", "dashboards", "grafana")
	for name, want := range files {
		got, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s is not what the generator writes: run go run ./tools/dashboards", name)
		}
	}
	committed, err := filepath.Glob(filepath.Join(dir, "*.json"))
	if err != nil || len(committed) != len(files) {
		t.Errorf("%d files are committed, %d are written (%v)", len(committed), len(files), err)
	}
}
