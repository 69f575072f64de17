package audit

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/kaizen-go/kaizen/internal/durable"
	"github.com/kaizen-go/kaizen/internal/merkle"
)

// seededSigner is the key of origin whose seed is 32 times that byte.
func seededSigner(t testing.TB, origin string, b byte) *signer {
	t.Helper()
	seed := bytes.Repeat([]byte{b}, ed25519.SeedSize)
	vkey, err := note.NewEd25519VerifierKey(origin, ed25519.NewKeyFromSeed(seed).Public().(ed25519.PublicKey))
	if err != nil {
		t.Fatal(err)
	}
	id := vkey[len(origin)+1 : len(origin)+9]
	s, err := newSigner("PRIVATE+KEY+" + origin + "+" + id + "+" + base64.StdEncoding.EncodeToString(append([]byte{1}, seed...)))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// inDocument wants text in the format document.
func inDocument(t *testing.T, what, text string) {
	t.Helper()
	doc, err := os.ReadFile("../docs/ledger-format.md")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(doc, []byte(text)) {
		t.Errorf("docs/ledger-format.md does not show %s:\n%s", what, text)
	}
}

// TestRotatedVector changes the key of the document's ledger. All of it follows
// from the two seeds and the time and id of the entry.
func TestRotatedVector(t *testing.T) {
	const origin = "example.org/kaizen-vector"
	old, next := seededSigner(t, origin, 0x2a), seededSigner(t, origin, 0x2b)
	text, err := os.ReadFile("testdata/lines.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	line, err := EncodeLine(nil, Entry{
		ID: "01HZY3V9T5XKQ2M4N6P8R0S1T4", Time: time.Date(2026, 3, 9, 15, 0, 0, 0, time.UTC), AgentID: systemAgent, Action: actionRotation, Result: Success,
		Details: map[string]any{"previous": old.vkey, "vkey": next.vkey},
	})
	if err != nil {
		t.Fatal(err)
	}
	text = append(append(text, line...), '\n')
	var tree merkle.Tree
	var leaves []byte
	for l := range bytes.Lines(text) {
		leaf := merkle.HashLeaf(bytes.TrimSuffix(l, []byte("\n")))
		tree.Append(leaf)
		leaves = fmt.Appendf(leaves, "%x\n", leaf)
	}
	head := next.checkpoint(tree.Size(), tree.Root()).Note
	_, sig, _ := strings.Cut(head, "\n\n")
	r := rotation{from: tree.Size(), previous: old.vkey, vkey: next.vkey, line: string(line), note: old.checkpoint(tree.Size(), tree.Root()).Note + sig}
	if _, err := parseRotation(r.encode()); err != nil {
		t.Fatal(err)
	}
	history, err := os.ReadFile("testdata/vector/audit/checkpoints.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	last := history[bytes.LastIndexByte(history[:len(history)-1], '\n')+1:]
	added := historyLine(sha256.Sum256(last), head)
	files := map[string][]byte{
		"audit/ledger.json": ledgerJSON(formatVersion, origin, next.vkey), "audit/checkpoint": []byte(head), "audit/keys.jsonl": r.encode(),
		"audit/checkpoints.jsonl": append(history, added...), "audit/seg/" + segStem(0) + lineExt: text, "l0.txt": leaves,
	}
	fsys := newMemFS()
	for name, got := range files {
		path := filepath.Join("testdata", "rotated", name)
		if *update {
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, got, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if want, err := os.ReadFile(path); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %v\n got %s\nwant %s", name, err, got, want)
		}
		if dir, file := filepath.Split("/l/" + name); file != "l0.txt" {
			if err := durable.MkdirAll(fsys, filepath.Clean(dir)); err != nil {
				t.Fatal(err)
			}
			fsys.set("/l/"+name, got)
		}
	}
	hashes, err := hex.DecodeString(strings.ReplaceAll(string(leaves), "\n", ""))
	if err != nil {
		t.Fatal(err)
	}
	fsys.set("/l/audit/seg/"+segStem(0)+hashExt, hashes)
	for _, key := range []string{old.vkey, next.vkey} {
		if r, err := verify(t.Context(), fsys, "/l/audit", VerifyConfig{Key: key}); err != nil || r.Entries != 3 {
			t.Errorf("Verify with %s = %+v, %v", key, r, err)
		}
	}
	inDocument(t, "keys.jsonl", string(r.encode()))
	inDocument(t, "the checkpoint under the new key", head)
	inDocument(t, "the line that the history gets", string(added))
}

// TestShardVector is the entry about the document's ledger as a shard.
func TestShardVector(t *testing.T) {
	head, err := os.ReadFile("testdata/vector/audit/checkpoint")
	if err != nil {
		t.Fatal(err)
	}
	e, err := ShardEntry(ShardCheckpoint{Key: seededSigner(t, "example.org/kaizen-vector", 0x2a).vkey, Note: string(head)})
	if err != nil {
		t.Fatal(err)
	}
	e.ID, e.Time = "01HZY3V9T5XKQ2M4N6P8R0S1T5", time.Date(2026, 3, 9, 16, 0, 0, 0, time.UTC)
	line, err := EncodeLine(nil, e)
	if err != nil {
		t.Fatal(err)
	}
	inDocument(t, "an entry about a shard", string(line)+"\n")
	again, err := DecodeLine(line)
	if err != nil {
		t.Fatal(err)
	}
	if c, got, err := ParseShardEntry(again); err != nil || got.Size != 2 || c.Note != string(head) {
		t.Errorf("ParseShardEntry = %+v, %+v, %v", c, got, err)
	}
}

// TestKeyStoreVector is a key store with one subject, of fixed keys and nonce.
func TestKeyStoreVector(t *testing.T) {
	var kek [32]byte
	var id [16]byte
	var nonce [12]byte
	for i := range kek {
		kek[i] = byte(0x40 + i)
	}
	for i := range id {
		id[i] = byte(0x60 + i)
	}
	for i := range nonce {
		nonce[i] = byte(0x70 + i)
	}
	s, err := newFrameCipher(1, kek, id)
	if err != nil {
		t.Fatal(err)
	}
	key := make([]byte, 32)
	for i := range key {
		key[i] = byte(i)
	}
	token := "kzs_aaaqeayeaudaocajbifqydiob4"
	records := []storeRecord{{Kind: "subject", Token: token, Name: "u-17"}, {Kind: "key", Token: token, Key: key, Made: 1773064800}}
	b, err := s.frameWith(nonce, s.header(), 0, records)
	if err != nil {
		t.Fatal(err)
	}
	inDocument(t, "the key-encryption key", string(kekFile(1, kek)))
	inDocument(t, "the key store", hex.Dump(b))
	if got, frames, end, err := s.parse(b); err != nil || len(got) != 2 || frames != 1 || end != len(b) || got[0].Name != "u-17" {
		t.Errorf("parse = %+v, %d, %d, %v", got, frames, end, err)
	}
}
