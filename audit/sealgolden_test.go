package audit

import (
	"bytes"
	"encoding/hex"
	"os"
	"path/filepath"
	"testing"

	"github.com/kaizen-go/kaizen/internal/durable"
)

// TestSealedVectors seals the ledger of the format document, and compares
// segments.json, the index and the compressed lines with those in it. An update
// of the zstd package may change how lines are compressed, and with it two
// digests; the index depends on the entries alone.
func TestSealedVectors(t *testing.T) {
	fsys := freshFS(t)
	if err := durable.MkdirAll(fsys, "/l/keys"); err != nil {
		t.Fatal(err)
	}
	if err := durable.ReplaceFile(fsys, "/l/keys/audit.key", []byte(vectorKey(t)+"\n")); err != nil {
		t.Fatal(err)
	}
	l := mustOpen(t, "/l/audit", tiny(fsys))
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
	if err := l.Seal(t.Context()); err != nil {
		t.Fatal(err)
	}
	mustClose(t, l)
	doc, err := os.ReadFile("../docs/ledger-format.md")
	if err != nil {
		t.Fatal(err)
	}
	stem := "/l/audit/" + segDir + "/" + segStem(0)
	for name, got := range map[string][]byte{
		"segments.json": fsys.get(t, "/l/audit/"+manifestName),
		"idx.txt":       []byte(hex.Dump(fsys.get(t, stem+idxExt))),
		"zst.txt":       []byte(hex.Dump(fsys.get(t, stem+zstExt))),
	} {
		path := filepath.Join("testdata", "vector", name)
		if *update {
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
		if !bytes.Contains(doc, want) {
			t.Errorf("docs/ledger-format.md does not show testdata/vector/%s", name)
		}
	}
}
