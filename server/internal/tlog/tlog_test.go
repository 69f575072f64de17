package tlog

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/kaizen-go/kaizen/audit"
)

// openLedger makes a ledger with n entries.
func openLedger(t *testing.T, n int) *audit.Ledger {
	t.Helper()
	l, err := audit.Open(filepath.Join(t.TempDir(), "audit"), audit.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	grow(t, l, n)
	return l
}

func grow(t *testing.T, l *audit.Ledger, n int) {
	t.Helper()
	for n > 0 {
		entries := make([]audit.Entry, min(n, 1000))
		for i := range entries {
			entries[i] = audit.Entry{AgentID: "a", Action: "x", Result: audit.Success, Details: map[string]any{"n": n - i, "text": strings.Repeat("x", i%50)}}
		}
		if _, err := l.AppendBatch(t.Context(), entries); err != nil {
			t.Fatal(err)
		}
		n -= len(entries)
	}
}

// tileReader is x/mod's view of the log: tiles over HTTP, checked by it.
type tileReader struct {
	t    *testing.T
	url  string
	seen int
}

func (r *tileReader) Height() int { return 8 }

func (r *tileReader) ReadTiles(tiles []tlog.Tile) ([][]byte, error) {
	var out [][]byte
	for _, tl := range tiles {
		// C2SP's path is that of x/mod without the height.
		path := strings.Replace(tl.Path(), "tile/8/", "tile/", 1)
		status, _, body := get(r.t, r.url+path)
		if status != http.StatusOK {
			return nil, fmt.Errorf("%s: status %d", path, status)
		}
		out = append(out, body)
		r.seen++
	}
	return out, nil
}

func (r *tileReader) SaveTiles([]tlog.Tile, [][]byte) {}

func get(t *testing.T, url string, header ...string) (int, http.Header, []byte) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	if err := errors.Join(err, resp.Body.Close()); err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, resp.Header, body
}

func serve(t *testing.T, cfg Config) string {
	t.Helper()
	s := httptest.NewServer(http.StripPrefix("/log/", New(cfg)))
	t.Cleanup(s.Close)
	return s.URL + "/log/"
}

// TestAgainstTlog reads the log as the Go checksum database's client would:
// checkpoint, proofs of records and of growth from tiles, and every entry of
// every bundle, with x/mod's code alone.
func TestAgainstTlog(t *testing.T) {
	l := openLedger(t, 0)
	url := serve(t, Config{Ledger: l})
	var old tlog.Tree
	for _, n := range []int{1, 254, 1, 1, 255, 600, 900} {
		grow(t, l, n)
		tree := openTree(t, url, l.VerifierKey())
		if tree.N != l.Size() {
			t.Fatalf("checkpoint covers %d entries, want %d", tree.N, l.Size())
		}
		reader := &tileReader{t: t, url: url}
		hashes := tlog.TileHashReader(tree, reader)
		if old.N > 0 {
			proof, err := tlog.ProveTree(tree.N, old.N, hashes)
			if err != nil {
				t.Fatal(err)
			}
			if err := tlog.CheckTree(proof, tree.N, tree.Hash, old.N, old.Hash); err != nil {
				t.Fatalf("tree of %d after %d: %v", tree.N, old.N, err)
			}
		}
		checkEntries(t, url, tree, hashes)
		old = tree
	}
}

func openTree(t *testing.T, url, vkey string) tlog.Tree {
	t.Helper()
	status, header, body := get(t, url+"checkpoint")
	if status != http.StatusOK || header.Get("Content-Type") != "text/plain; charset=utf-8" || header.Get("Cache-Control") != "no-cache" {
		t.Fatalf("GET checkpoint = %d, %v", status, header)
	}
	v, err := note.NewVerifier(vkey)
	if err != nil {
		t.Fatal(err)
	}
	n, err := note.Open(body, note.VerifierList(v))
	if err != nil {
		t.Fatal(err)
	}
	var origin, root string
	var tree tlog.Tree
	if _, err := fmt.Sscanf(n.Text, "%s\n%d\n%s\n", &origin, &tree.N, &root); err != nil {
		t.Fatal(err)
	}
	if tree.Hash, err = tlog.ParseHash(root); err != nil {
		t.Fatal(err)
	}
	return tree
}

// checkEntries compares every entry with its hash in the tree.
func checkEntries(t *testing.T, url string, tree tlog.Tree, hashes tlog.HashReader) {
	t.Helper()
	for first := int64(0); first < tree.N; first += tileWidth {
		width := int(min(tileWidth, tree.N-first))
		_, _, body := get(t, url+tile{entriesLevel, first / tileWidth, width}.path())
		lines, err := audit.SplitBundle(body)
		if err != nil || len(lines) != width {
			t.Fatalf("bundle at %d: %d entries, %v", first, len(lines), err)
		}
		for i, line := range lines {
			index := first + int64(i)
			got, err := hashes.ReadHashes([]int64{tlog.StoredHashIndex(0, index)})
			if err != nil {
				t.Fatal(err)
			}
			if got[0] != tlog.RecordHash(line) {
				t.Fatalf("entry %d is not the one in the tree", index)
			}
		}
	}
}

func TestAnswers(t *testing.T) {
	l := openLedger(t, 300)
	url := serve(t, Config{Ledger: l, Private: true})
	for _, tt := range []struct {
		path   string
		status int
		bytes  int // -1 for any
	}{
		{"tile/0/000", 200, 256 * 32},
		{"tile/0/001.p/44", 200, 44 * 32},
		{"tile/0/001.p/3", 200, 3 * 32},
		{"tile/1/000.p/1", 200, 32},
		{"tile/entries/001.p/44", 200, -1},
		{"tile/0/001", 404, -1},
		{"tile/0/001.p/45", 404, -1},
		{"tile/1/000.p/2", 404, -1},
		{"tile/2/000.p/1", 404, -1},
		{"tile/63/000.p/1", 404, -1},
		{"tile/64/000.p/1", 404, -1},
		{"tile/00/000", 404, -1},
		{"tile/0/0", 404, -1},
		{"tile/0/x000/000", 404, -1},
		{"tile/0/000.p/0", 404, -1},
		{"tile/0/000.p/256", 404, -1},
		{"tile/0/000.p/007", 404, -1},
		{"tile/entries/x001/x000/000", 404, -1},
		{"checkpoint.witnessed", 404, -1},
		{"", 404, -1},
		{"tile/../checkpoint", 404, -1},
	} {
		t.Run(tt.path, func(t *testing.T) {
			w := httptest.NewRecorder()
			New(Config{Ledger: l}).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/"+tt.path, nil))
			if w.Code != tt.status || tt.bytes >= 0 && w.Body.Len() != tt.bytes {
				t.Errorf("status %d with %d bytes, want %d with %d", w.Code, w.Body.Len(), tt.status, tt.bytes)
			}
		})
	}
	_, header, _ := get(t, url+"tile/0/000", "Accept-Encoding", "gzip")
	if header.Get("Cache-Control") != "private, max-age=31536000, immutable" || header.Get("Content-Type") != "application/octet-stream" || header.Get("Content-Encoding") != "" {
		t.Errorf("headers of a tile: %v", header)
	}
	w := httptest.NewRecorder()
	New(Config{Ledger: l}).ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/checkpoint", nil))
	if w.Code != http.StatusMethodNotAllowed || w.Header().Get("Allow") != "GET, HEAD" {
		t.Errorf("POST = %d, %v", w.Code, w.Header())
	}
}

func TestCompression(t *testing.T) {
	url := serve(t, Config{Ledger: openLedger(t, 256)})
	_, header, plain := get(t, url+"tile/entries/000", "Accept-Encoding", "identity")
	if header.Get("Content-Encoding") != "" || header.Get("Vary") != "Accept-Encoding" || header.Get("Cache-Control") != "public, max-age=31536000, immutable" {
		t.Errorf("headers of a plain bundle: %v", header)
	}
	_, header, packed := get(t, url+"tile/entries/000", "Accept-Encoding", "br;q=1, gzip;q=0.5")
	if header.Get("Content-Encoding") != "gzip" || len(packed) >= len(plain)/2 {
		t.Fatalf("bundle of %d bytes for one of %d, headers %v", len(packed), len(plain), header)
	}
	z, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(z); err != nil || !bytes.Equal(got, plain) {
		t.Errorf("the compressed bundle is another one: %v", err)
	}
	for header, want := range map[string]bool{"": false, "gzip": true, "GZIP;q=1": true, "gzip;q=0": false, "gzip; q=0.0": false, "br": false, "*": true, "identity, *;q=0": false} {
		if got := acceptsGzip([]string{header}); got != want {
			t.Errorf("acceptsGzip(%q) = %t, want %t", header, got, want)
		}
	}
}

// prunedLedger has no entries any more, but all hashes.
type prunedLedger struct{ *audit.Ledger }

func (prunedLedger) Bundle(context.Context, int64, int) ([]byte, error) {
	return nil, fmt.Errorf("audit: entry 0: %w", audit.ErrPruned)
}

type brokenLedger struct{ *audit.Ledger }

func (brokenLedger) Tile(int, int64, int) ([]byte, error) { return nil, errors.New("disk") }

func TestPrunedAndBroken(t *testing.T) {
	l := openLedger(t, 256)
	for _, tt := range []struct {
		name   string
		ledger Ledger
		path   string
		want   int
	}{
		{"pruned entries", prunedLedger{l}, "tile/entries/000", http.StatusGone},
		{"hashes of pruned entries", prunedLedger{l}, "tile/0/000", http.StatusOK},
		{"broken disk", brokenLedger{l}, "tile/0/000", http.StatusInternalServerError},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := httptest.NewRecorder()
			New(Config{Ledger: tt.ledger}).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/"+tt.path, nil))
			if w.Code != tt.want {
				t.Errorf("status %d, want %d", w.Code, tt.want)
			}
			if strings.Contains(w.Body.String(), "disk") {
				t.Error("the answer tells of the inside")
			}
		})
	}
}

func TestWitnessed(t *testing.T) {
	l := openLedger(t, 3)
	cosigned := l.Checkpoint()
	cosigned.Note += "— witness.example/w AAAA\n"
	url := serve(t, Config{Ledger: l, Witnessed: func() audit.Checkpoint { return cosigned }})
	if _, _, body := get(t, url+"checkpoint"); string(body) != cosigned.Note {
		t.Errorf("checkpoint = %q, want the cosigned one", body)
	}
	grow(t, l, 1)
	if _, _, body := get(t, url+"checkpoint"); string(body) != l.Checkpoint().Note {
		t.Errorf("checkpoint = %q, want the newest", body)
	}
	if _, _, body := get(t, url+"checkpoint.witnessed"); string(body) != cosigned.Note {
		t.Errorf("checkpoint.witnessed = %q, want the cosigned one", body)
	}
}

func FuzzTilePath(f *testing.F) {
	for _, t := range []tile{{0, 0, 256}, {entriesLevel, 1_234_067, 256}, {7, 999, 1}, {63, 1000, 255}} {
		f.Add(t.path())
	}
	f.Add("tile/0/x000/000")
	f.Fuzz(func(t *testing.T, path string) {
		got, ok := parseTile(path)
		if !ok {
			return
		}
		if got.path() != path {
			t.Fatalf("%q and %q are one tile", path, got.path())
		}
		if got.level < 0 || got.level > 9 { // x/mod knows fewer levels, and spells bundles otherwise
			return
		}
		want := tlog.Tile{H: 8, L: got.level, N: got.index, W: got.width}.Path()
		if strings.Replace(want, "tile/8/", "tile/", 1) != path {
			t.Fatalf("x/mod spells %+v %q, not %q", got, want, path)
		}
	})
}
