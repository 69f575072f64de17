package audit

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/mod/sumdb/note"

	"github.com/kaizen-go/kaizen/internal/durable"
)

var update = flag.Bool("update", false, "rewrite the test vectors")

// vectorKey is the private key of the vectors, in the note format.
func vectorKey(t testing.TB) string {
	t.Helper()
	const origin = "example.org/kaizen-vector"
	seed := bytes.Repeat([]byte{0x2a}, ed25519.SeedSize)
	vkey, err := note.NewEd25519VerifierKey(origin, ed25519.NewKeyFromSeed(seed).Public().(ed25519.PublicKey))
	if err != nil {
		t.Fatal(err)
	}
	id := vkey[len(origin)+1 : len(origin)+9]
	return "PRIVATE+KEY+" + origin + "+" + id + "+" + base64.StdEncoding.EncodeToString(append([]byte{1}, seed...))
}

// TestVectors makes the ledger of docs/ledger-format.md, which depends on
// nothing but the key and the entries, and compares it byte for byte with
// testdata/vector: closed, and the ring before that.
func TestVectors(t *testing.T) {
	fsys := newMemFS()
	if err := durable.MkdirAll(fsys, "/l/keys"); err != nil {
		t.Fatal(err)
	}
	if err := durable.ReplaceFile(fsys, "/l/keys/audit.key", []byte(vectorKey(t)+"\n")); err != nil {
		t.Fatal(err)
	}
	cfg := tiny(fsys)
	l := mustOpen(t, "/l/audit", cfg)
	data, err := os.ReadFile("testdata/lines.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	for line := range bytes.Lines(data) {
		e, err := DecodeLine(bytes.TrimSuffix(line, []byte("\n")))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := l.Append(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
	proof, err := l.Proof(1)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string][]byte{"proof-1.tlog-proof": proof.Marshal(), "ring.txt": ringDump(t, fsys.get(t, ringFile))}
	mustClose(t, l)
	for _, name := range []string{"audit/ledger.json", "audit/checkpoint", "audit/" + historyName, "keys/audit.key", "audit/" + segDir + "/" + segStem(0) + lineExt} {
		files[name] = fsys.get(t, "/l/"+name)
	}
	// The one binary file is kept as text.
	hashes := fsys.get(t, "/l/audit/"+segDir+"/"+segStem(0)+hashExt)
	for i := 0; i < len(hashes); i += 32 {
		files["l0.txt"] = fmt.Appendf(files["l0.txt"], "%x\n", hashes[i:i+32])
	}
	for name, got := range files {
		path := filepath.Join("testdata", "vector", name)
		if *update {
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, got, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s:\n got %s\nwant %s", name, got, want)
		}
	}
}

// ringDump shows the first block of the ring and its frames in hex.
func ringDump(t testing.TB, b []byte) []byte {
	t.Helper()
	out := fmt.Appendf(nil, "ring header\n%s", hex.Dump(b[:ringHeaderLen]))
	for _, f := range framesIn(t, b) {
		end := f.pos + frameHeaderLen + int64(len(f.buf))
		out = fmt.Appendf(out, "frame at %d, %d bytes with its payload\n%s", f.pos, end-f.pos, hex.Dump(b[f.pos:f.pos+frameHeaderLen]))
	}
	return out
}

// TestVectorsInDocument wants the vectors to stand in the format document.
func TestVectorsInDocument(t *testing.T) {
	doc, err := os.ReadFile("../docs/ledger-format.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"lines.jsonl", "vector/audit/ledger.json", "vector/audit/checkpoint", "vector/audit/checkpoints.jsonl", "vector/keys/audit.key", "vector/l0.txt", "vector/proof-1.tlog-proof", "vector/ring.txt"} {
		want, err := os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Contains(doc, want) {
			t.Errorf("docs/ledger-format.md does not show testdata/%s", name)
		}
	}
}
