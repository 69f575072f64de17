package tlog

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/kaizen-go/kaizen/audit"
)

// keyLine is what /log/keys says of one key.
type keyLine struct {
	from, until int64 // until is -1 for "-"
	key         string
}

func parseKeys(t *testing.T, body []byte) (keys []keyLine) {
	t.Helper()
	for line := range strings.Lines(string(body)) {
		var k keyLine
		var until string
		if n, err := fmt.Sscanf(line, "%d %s %s\n", &k.from, &until, &k.key); n != 3 || err != nil {
			t.Fatalf("line %q: %v", line, err)
		}
		if k.until = -1; until != "-" {
			if _, err := fmt.Sscan(until, &k.until); err != nil {
				t.Fatalf("line %q: %v", line, err)
			}
		}
		keys = append(keys, k)
	}
	return keys
}

// TestKeys is an outside verifier that comes when the overlap of keys is over.
// It knows the first key and holds a checkpoint of each time. From /log/keys and
// the log it follows the changes, with x/mod's note and tlog, and checks them.
func TestKeys(t *testing.T) {
	dir := t.TempDir() + "/audit"
	l, err := audit.Open(dir, audit.Config{KeyOverlap: -1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	srv := httptest.NewServer(http.StripPrefix("/log/", New(Config{Ledger: l})))
	defer srv.Close()
	first := l.VerifierKey()
	var held []string // a checkpoint under each key
	for range 3 {
		grow(t, l, 300)
		held = append(held, l.Checkpoint().Note)
		if _, _, err := l.RotateKey(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	grow(t, l, 5)
	held = append(held, l.Checkpoint().Note)

	url := srv.URL + "/log/"
	status, header, body := get(t, url+"keys")
	if status != http.StatusOK || header.Get("Cache-Control") != "public, max-age=60" || header.Get("Content-Type") != "text/plain; charset=utf-8" {
		t.Fatalf("keys: %d, %v", status, header)
	}
	if status, _, _ := get(t, url+"keys", "If-None-Match", header.Get("ETag")); status != http.StatusNotModified {
		t.Errorf("keys that are known: %d, want 304", status)
	}
	keys := parseKeys(t, body)
	if len(keys) != 4 || keys[0].key != first || keys[0].from != 0 || keys[3].until != -1 || keys[3].key != l.VerifierKey() {
		t.Fatalf("keys: %+v", keys)
	}
	newest := opened(t, l.Checkpoint().Note, keys[3].key)
	tree := tlog.TileHashReader(newest, &tileReader{t: t, url: url})
	for i, k := range keys {
		c := opened(t, held[i], k.key)
		if c.N < k.from || k.until >= 0 && c.N > k.until {
			t.Errorf("checkpoint %d of %d entries is outside of %+v", i, c.N, k)
		}
		for j, other := range keys {
			if _, err := note.Open([]byte(held[i]), verifiers(t, other.key)); (err == nil) != (i == j) {
				t.Errorf("checkpoint %d under key %d: %v", i, j, err)
			}
		}
		p, err := tlog.ProveTree(newest.N, c.N, tree)
		if err == nil {
			err = tlog.CheckTree(p, newest.N, newest.Hash, c.N, c.Hash)
		}
		if err != nil {
			t.Errorf("checkpoint %d is not of this log: %v", i, err)
		}
		if i > 0 {
			if k.from != keys[i-1].until {
				t.Errorf("key %d counts from %d, the one before until %d", i, k.from, keys[i-1].until)
			}
			checkAnnounced(t, url, tree, newest, k)
		}
	}
}

// checkAnnounced proves that the entry before k names it as the new key.
func checkAnnounced(t *testing.T, url string, hashes tlog.HashReader, head tlog.Tree, k keyLine) {
	t.Helper()
	at := k.from - 1
	width := min(256, head.N-at/256*256)
	_, _, bundle := get(t, url+Path(EntriesLevel, at/256, int(width)))
	var line []byte
	for range at%256 + 1 {
		n := int(bundle[0])<<8 | int(bundle[1])
		line, bundle = bundle[2:2+n], bundle[2+n:]
	}
	p, err := tlog.ProveRecord(head.N, at, hashes)
	if err == nil {
		err = tlog.CheckRecord(p, head.N, head.Hash, at, tlog.RecordHash(line))
	}
	if err != nil || !bytes.Contains(line, []byte(`"action":"ledger.key_rotation"`)) || !bytes.Contains(line, []byte(`"vkey":"`+k.key+`"`)) {
		t.Errorf("entry %d does not name %s: %v\n%s", at, k.key, err, line)
	}
}

func verifiers(t *testing.T, key string) note.Verifiers {
	t.Helper()
	v, err := note.NewVerifier(key)
	if err != nil {
		t.Fatal(err)
	}
	return note.VerifierList(v)
}

// opened is the tree of a checkpoint that key signed.
func opened(t *testing.T, text, key string) tlog.Tree {
	t.Helper()
	n, err := note.Open([]byte(text), verifiers(t, key))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(n.Text, "\n")
	tree, err := tlog.ParseTree([]byte("go.sum database tree\n" + rest))
	if err != nil {
		t.Fatal(err)
	}
	return tree
}

// TestKeysOfOthers asks a ledger that knows its present key alone, and a private one.
func TestKeysOfOthers(t *testing.T) {
	l := openLedger(t, 3)
	h := New(Config{Ledger: oneKey{l, l.VerifierKey()}, Private: true})
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/keys", nil))
	if got, want := w.Body.String(), "0 - "+l.VerifierKey()+"\n"; got != want || w.Header().Get("Cache-Control") != "private, max-age=60" {
		t.Errorf("keys: %q, %v; want %q", got, w.Header(), want)
	}
}

type oneKey struct {
	Ledger
	key string
}

func (k oneKey) VerifierKey() string { return k.key }
