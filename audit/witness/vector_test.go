package witness

import (
	"bytes"
	"crypto/ed25519"
	"os"
	"strings"
	"testing"
	"time"
)

// TestCosignatureVector cosigns the checkpoint of docs/ledger-format.md, at a
// fixed time with a fixed key.
func TestCosignatureVector(t *testing.T) {
	s := newSigner("witness.example.org", bytes.Repeat([]byte{0x2c}, ed25519.SeedSize))
	note, err := os.ReadFile("../testdata/vector/audit/checkpoint")
	if err != nil {
		t.Fatal(err)
	}
	text, _, _ := strings.Cut(string(note), "\n\n")
	line := s.cosign(text+"\n", time.Unix(1773065200, 0))
	doc, err := os.ReadFile("../../docs/ledger-format.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{s.VerifierKey() + "\n", line} {
		if !bytes.Contains(doc, []byte(want)) {
			t.Errorf("docs/ledger-format.md does not show\n%s", want)
		}
	}
}
