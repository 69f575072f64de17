package audit

import (
	"bytes"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/mod/sumdb/tlog"
)

// TestConsistency proves every pair of sizes of a ledger, as a file, and has
// x/mod's tlog check the same hashes.
func TestConsistency(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "audit")
	l := mustOpen(t, dir, small())
	notes := []Checkpoint{l.Checkpoint()}
	for n := range 40 {
		notes = append(notes, appendN(t, l, n, n+1)[0].Checkpoint)
	}
	for _, old := range notes {
		p, err := l.ProveConsistency([]byte(old.Note))
		if err != nil {
			t.Fatal(err)
		}
		again, err := ParseConsistencyProof(p.Marshal())
		if err != nil {
			t.Fatal(err)
		}
		from, to, err := again.Check(l.VerifierKey())
		if err != nil || from != old || to != l.Checkpoint() {
			t.Fatalf("Check(%d) = %d, %d, %v", old.Size, from.Size, to.Size, err)
		}
		if old.Size == 0 {
			continue
		}
		for size := old.Size; size <= l.Size(); size++ {
			hashes, err := l.Consistency(old.Size, size)
			if err != nil {
				t.Fatal(err)
			}
			var proof tlog.TreeProof
			for _, h := range hashes {
				proof = append(proof, tlog.Hash(h))
			}
			if err := tlog.CheckTree(proof, size, tlog.Hash(notes[size].Root), old.Size, tlog.Hash(old.Root)); err != nil {
				t.Fatalf("tlog.CheckTree(%d, %d) = %v", old.Size, size, err)
			}
		}
	}
	if _, err := l.Consistency(1, l.Size()+1); err == nil {
		t.Error("Consistency beyond the end succeeded")
	}
	mustClose(t, l)
	if _, err := l.Consistency(1, 2); !errors.Is(err, ErrClosed) {
		t.Errorf("Consistency after Close = %v, want ErrClosed", err)
	}
	r, err := OpenReader(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}()
	p, err := r.ProveConsistency([]byte(notes[7].Note))
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := p.Check(r.VerifierKey()); err != nil {
		t.Fatal(err)
	}
	if got, err := r.Consistency(3, 3); err != nil || got != nil {
		t.Errorf("Consistency(3, 3) = %v, %v", got, err)
	}
}

func TestConsistencyRefused(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "audit")
	l := mustOpen(t, dir, small())
	receipts := appendN(t, l, 0, 20)
	good, err := l.ProveConsistency([]byte(receipts[4].Checkpoint.Note))
	if err != nil {
		t.Fatal(err)
	}
	signed := func(size int64, root [32]byte) []byte { return []byte(l.signer.Load().checkpoint(size, root).Note) }
	for _, tt := range []struct {
		name   string
		old    []byte
		tamper bool
	}{
		{"another key", []byte(testSigner(t).checkpoint(3, [32]byte{}).Note), false},
		{"rollback", signed(21, [32]byte{1}), true},
		{"fork", signed(5, [32]byte{1}), true},
		{"fork of the same size", signed(20, [32]byte{1}), true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := l.ProveConsistency(tt.old)
			if err == nil || isTamper(err) != tt.tamper {
				t.Errorf("ProveConsistency = %v, want tampering %t", err, tt.tamper)
			}
		})
	}
	for name, bad := range map[string]func(p *ConsistencyProof){
		"hash changed": func(p *ConsistencyProof) { p.Hashes = append([][32]byte{{9}}, p.Hashes[1:]...) },
		"hash missing": func(p *ConsistencyProof) { p.Hashes = p.Hashes[1:] },
		"hash added":   func(p *ConsistencyProof) { p.Hashes = append(p.Hashes, [32]byte{}) },
		"swapped":      func(p *ConsistencyProof) { p.Old, p.New = p.New, p.Old },
		"forged old":   func(p *ConsistencyProof) { p.Old = string(signed(5, [32]byte{1})) },
		"unsigned":     func(p *ConsistencyProof) { p.New = testSigner(t).checkpoint(20, [32]byte{}).Note },
	} {
		t.Run(name, func(t *testing.T) {
			p := good
			bad(&p)
			if _, _, err := p.Check(l.VerifierKey()); !errors.Is(err, ErrProof) {
				t.Errorf("Check = %v, want ErrProof", err)
			}
		})
	}
	if _, _, err := good.Check(); !errors.Is(err, ErrProof) {
		t.Errorf("Check without a key = %v, want ErrProof", err)
	}
}

// TestConsistencyVector holds the test vector of the format document: the
// proof that the vector ledger's first entry is the beginning of both.
func TestConsistencyVector(t *testing.T) {
	s := testSigner(t)
	hashes := vectorLeaves(t)
	one := s.checkpoint(1, hashes[0])
	two, err := os.ReadFile("testdata/vector/audit/checkpoint")
	if err != nil {
		t.Fatal(err)
	}
	p := ConsistencyProof{Old: one.Note, New: string(two), Hashes: hashes[1:]}
	if _, _, err := p.Check(s.vkey); err != nil {
		t.Fatal(err)
	}
	const path = "testdata/vector/consistency-1-2.tlog-consistency"
	if *update {
		if err := os.WriteFile(path, p.Marshal(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(p.Marshal(), want) {
		t.Errorf("got %s\nwant %s", p.Marshal(), want)
	}
	wantInDocument(t, string(want))
}

// wantInDocument wants a vector to stand in the format document.
func wantInDocument(t testing.TB, text string) {
	t.Helper()
	doc, err := os.ReadFile("../docs/ledger-format.md")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(doc, []byte(text)) {
		t.Errorf("docs/ledger-format.md does not show\n%s", text)
	}
}

func vectorLeaves(t testing.TB) [][32]byte {
	t.Helper()
	text, err := os.ReadFile("testdata/vector/l0.txt")
	if err != nil {
		t.Fatal(err)
	}
	var hashes [][32]byte
	for line := range bytes.Lines(text) {
		var h [32]byte
		if _, err := hex.Decode(h[:], bytes.TrimSpace(line)); err != nil {
			t.Fatal(err)
		}
		hashes = append(hashes, h)
	}
	return hashes
}

func FuzzConsistencyProof(f *testing.F) {
	s := testSigner(f)
	leaves := vectorLeaves(f)
	one, two := s.checkpoint(1, leaves[0]).Note, s.checkpoint(2, [32]byte{2}).Note
	f.Add(ConsistencyProof{Old: one, New: two, Hashes: leaves[1:]}.Marshal())
	f.Add(ConsistencyProof{Old: one, New: one}.Marshal())
	f.Add(ConsistencyProof{}.Marshal())
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := ParseConsistencyProof(b)
		if err != nil {
			if !errors.Is(err, ErrProof) {
				t.Fatalf("error of another type: %v", err)
			}
			return
		}
		if !bytes.Equal(p.Marshal(), b) {
			t.Fatalf("two spellings:\n in %q\nout %q", b, p.Marshal())
		}
		if from, to, err := p.Check(s.vkey); err == nil && from.Size > to.Size {
			t.Fatalf("a proof that %d entries extend %d holds", to.Size, from.Size)
		}
	})
}

// BenchmarkProofCheck is what an auditor pays for one proof, its signature
// included.
func BenchmarkProofCheck(b *testing.B) {
	l := mustOpen(b, filepath.Join(b.TempDir(), "audit"), Config{})
	for range 10 {
		entries := make([]Entry, 1000)
		for i := range entries {
			entries[i] = Entry{AgentID: "a", Action: "x", Result: Success, Details: map[string]any{"i": i}}
		}
		if _, err := l.AppendBatch(b.Context(), entries); err != nil {
			b.Fatal(err)
		}
	}
	key := l.VerifierKey()
	b.Run("inclusion", func(b *testing.B) {
		p, err := l.Proof(4321)
		if err != nil {
			b.Fatal(err)
		}
		for b.Loop() {
			if err := p.Check(key); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("consistency", func(b *testing.B) {
		root := rootOf(b, l, 4321)
		p, err := l.ProveConsistency([]byte(l.signer.Load().checkpoint(4321, root).Note))
		if err != nil {
			b.Fatal(err)
		}
		for b.Loop() {
			if _, _, err := p.Check(key); err != nil {
				b.Fatal(err)
			}
		}
	})
}
