package group

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/kaizen-go/kaizen/audit"
)

// changeOf is a change of the key at size, signed with both.
func changeOf(t *testing.T, from, to *Signer, size int64) audit.KeyChange {
	t.Helper()
	c, err := newCall([]audit.Entry{audit.KeyChangeEntry(from.vkey, to.vkey)})
	if err != nil {
		t.Fatal(err)
	}
	var tree Tree
	for tree.Size < size {
		tree.Append(c.Records[0].Leaf, nil)
	}
	signed, err := from.Sign(size, tree.Root())
	if err == nil {
		signed, err = to.Cosign(signed)
	}
	if err != nil {
		t.Fatal(err)
	}
	change := audit.KeyChange{From: size, Previous: from.vkey, Key: to.vkey, Entry: c.Records[0].Line, Note: signed.Note}
	if _, err := audit.ParseKeyChange(change.Encode()); err != nil {
		t.Fatal(err)
	}
	return change
}

func signerIn(t *testing.T, name string) *Signer {
	t.Helper()
	s, err := LoadSigner(filepath.Join(t.TempDir(), name), "example.org/a")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// What cannot be taken in leaves no trace: a key file that cannot be read now is
// read later, and keys of a stranger are not among the ledger's.
func TestKeysRefuse(t *testing.T) {
	file := filepath.Join(t.TempDir(), "audit.key")
	first, err := LoadSigner(file, "example.org/a")
	if err != nil {
		t.Fatal(err)
	}
	second, strange, stranger := signerIn(t, "b"), signerIn(t, "c"), signerIn(t, "d")
	right, wrong := changeOf(t, first, second, 3), changeOf(t, strange, stranger, 3)
	for _, tt := range []struct {
		name  string
		learn func(k *Keys, c audit.KeyChange) error
	}{
		{"Learn", (*Keys).Learn},
		{"Follow", func(k *Keys, c audit.KeyChange) error { return k.Follow([]audit.KeyChange{c}, c.Key) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			k, err := LoadKeys(file, "", 0)
			if err != nil {
				t.Fatal(err)
			}
			unchanged := func() {
				t.Helper()
				if got := k.VerifierKeys(); len(got) != 1 || got[0] != first.vkey || k.Trusts(stranger.vkey) {
					t.Errorf("keys after a refusal: %s, want %s alone", got, first.vkey)
				}
			}
			if err := tt.learn(k, wrong); err == nil {
				t.Error("a change between keys of others was taken in")
			}
			unchanged()
			if err := os.Chmod(file, 0o644); err != nil { // refused
				t.Fatal(err)
			}
			if err := tt.learn(k, right); err == nil {
				t.Error("a key file that others can read was taken")
			}
			unchanged()
			if err := os.Chmod(file, 0o600); err != nil {
				t.Fatal(err)
			}
			if err := tt.learn(k, right); err != nil || k.VerifierKey() != second.vkey || len(k.Changes()) != 1 {
				t.Errorf("afterwards: %v, keys %s", err, k.VerifierKeys())
			}
		})
	}
}

// A reader of the same process may learn of a change before its committer has
// taken note of it, and may still have read what was before.
func TestKeysOvertaken(t *testing.T) {
	file := filepath.Join(t.TempDir(), "audit.key")
	first, err := LoadSigner(file, "example.org/a")
	if err != nil {
		t.Fatal(err)
	}
	second := signerIn(t, "b")
	change := changeOf(t, first, second, 3)
	k, err := LoadKeys(file, "", 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := k.Follow([]audit.KeyChange{change}, second.vkey); err != nil {
		t.Fatal(err)
	}
	if err := k.Committed(Signed{Change: &change, next: second}); err != nil || len(k.Changes()) != 1 {
		t.Errorf("Committed after Follow = %v, %d changes, want 1", err, len(k.Changes()))
	}
	if s, err := k.Signer(); err != nil || s.vkey != second.vkey {
		t.Errorf("Signer = %v, %v, want the new key", s, err)
	}
	if err := k.Follow(nil, first.vkey); err != nil || k.VerifierKey() != second.vkey || len(k.Changes()) != 1 {
		t.Errorf("Follow of what was before = %v, key %s", err, k.VerifierKey())
	}
}
