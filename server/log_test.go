package server

import (
	"bytes"
	"context"
	"net/http"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/kaizen-go/kaizen/audit"
)

// logTiles reads tiles from a server for x/mod's tlog, which checks them.
type logTiles struct {
	t    *testing.T
	base string
}

func (logTiles) Height() int                     { return 8 }
func (logTiles) SaveTiles([]tlog.Tile, [][]byte) {}
func (r logTiles) ReadTiles(ts []tlog.Tile) (out [][]byte, err error) {
	for _, tile := range ts {
		path := strings.Replace(tile.Path(), "tile/8/", "tile/", 1)
		status, _, body := call(r.t, http.MethodGet, r.base+path, nil, "Authorization", "Bearer "+testKey)
		if status != http.StatusOK {
			r.t.Errorf("GET %s = %d", path, status)
		}
		out = append(out, []byte(body))
	}
	return out, nil
}

// TestLog reads the ledger of a server as a transparency log: with a key where
// the server has keys, and in x/mod's words.
func TestLog(t *testing.T) {
	cfg := testConfig(t)
	cfg.APIKeys = []string{testKey}
	s := start(t, cfg)
	base := "http://" + s.UIAddr() + "/log/"
	entries := make([]audit.Entry, 700)
	for i := range entries {
		entries[i] = audit.Entry{AgentID: "a", Action: "x", Result: audit.Success, Details: map[string]any{"i": i}}
	}
	if _, err := s.parts.ledger.AppendBatch(context.Background(), entries); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"checkpoint", "tile/0/000", "tile/entries/000"} {
		if status, _, _ := call(t, http.MethodGet, base+path, nil); status != http.StatusUnauthorized {
			t.Errorf("GET %s without a key = %d, want 401", path, status)
		}
	}
	status, _, note := call(t, http.MethodGet, base+"checkpoint", nil, "Authorization", "Bearer "+testKey)
	if status != http.StatusOK {
		t.Fatalf("GET checkpoint = %d", status)
	}
	c, err := audit.ParseCheckpoint([]byte(note), s.parts.ledger.VerifierKey())
	if err != nil {
		t.Fatal(err)
	}
	tree := tlog.Tree{N: c.Size, Hash: tlog.Hash(c.Root)}
	hashes := tlog.TileHashReader(tree, logTiles{t, base})
	for _, index := range []int64{0, 255, 256, 699} {
		proof, err := tlog.ProveRecord(tree.N, index, hashes)
		if err != nil {
			t.Fatal(err)
		}
		p, err := s.parts.ledger.Proof(index)
		if err != nil {
			t.Fatal(err)
		}
		if err := tlog.CheckRecord(proof, tree.N, tree.Hash, index, tlog.RecordHash(p.Line)); err != nil {
			t.Errorf("entry %d: %v", index, err)
		}
	}
	_, header, bundle := call(t, http.MethodGet, base+"tile/entries/002.p/188", nil, "Authorization", "Bearer "+testKey)
	if lines, err := audit.SplitBundle([]byte(bundle)); err != nil || len(lines) != 188 || !bytes.Contains(lines[187], []byte(`"i":699`)) {
		t.Errorf("last bundle has %d entries, %v", len(lines), err)
	}
	if got := header.Get("Cache-Control"); !strings.HasPrefix(got, "private") {
		t.Errorf("Cache-Control of a server with keys is %q", got)
	}
}
