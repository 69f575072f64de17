package audit

import (
	"crypto/rand"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"

	"github.com/kaizen-go/kaizen/internal/durable"
)

// TestRotateKey changes the key twice: the chain of keys is in the ledger, and
// what older keys signed goes on to hold.
func TestRotateKey(t *testing.T) {
	dir, receipts := closedLedger(t, 5)
	first := loadedSigner(t, dir)
	oldProof := func() Proof {
		l := mustOpen(t, dir, small())
		defer mustClose(t, l)
		p, err := l.Proof(2)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}()
	for n := range 2 {
		previous, vkey, err := RotateKey(t.Context(), dir, small())
		if err != nil {
			t.Fatal(err)
		}
		if now := loadedSigner(t, dir); now.vkey != vkey || previous == vkey {
			t.Fatalf("the key file has %s, want %s", now.vkey, vkey)
		}
		l := mustOpen(t, dir, small())
		if l.VerifierKey() != vkey || l.Origin() != first.origin {
			t.Errorf("the ledger is %s with %s", l.Origin(), l.VerifierKey())
		}
		keys, err := l.VerifierKeys()
		if err != nil || len(keys) != n+2 || keys[0] != vkey || keys[n+1] != first.vkey {
			t.Errorf("VerifierKeys = %v, %v", keys, err)
		}
		appendN(t, l, 10*n+10, 10*n+13)
		p, err := l.ProveConsistency([]byte(receipts[1].Checkpoint.Note))
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := p.Check(keys...); err != nil {
			t.Error(err)
		}
		mustClose(t, l)
	}
	checkClean(t, dir, 5+2*4)
	if err := oldProof.Check(first.vkey); err != nil {
		t.Errorf("a proof from before: %v", err)
	}
	// Who trusts the first key alone can follow, with a receipt of that time.
	if _, err := Verify(t.Context(), dir, VerifyConfig{Key: first.vkey, Checkpoint: []byte(receipts[4].Checkpoint.Note)}); err != nil {
		t.Errorf("Verify with the first key = %v", err)
	}
	// A thief with the old key signs nothing that counts any more.
	mustTamper(t, "checkpoint by a replaced key", dir, VerifyConfig{Checkpoint: []byte(first.checkpoint(9, [32]byte{1}).Note)}, ledgerName, -1)
	name := filepath.Join(dir, rotationsName)
	good, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.SplitAfter(string(good), "\n")
	for what, text := range map[string]string{"emptied": "", "first removed": lines[1], "swapped": lines[1] + lines[0], "last removed": lines[0], "flip": strings.Replace(string(good), "vkey", "vkez", 1)} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Verify(t.Context(), dir, VerifyConfig{}); !isTamper(err) {
			t.Errorf("%s: Verify = %v, want a TamperError", what, err)
		}
	}
	if err := os.Remove(name); err != nil {
		t.Fatal(err)
	}
	if _, err := Verify(t.Context(), dir, VerifyConfig{}); !isTamper(err) {
		t.Errorf("without %s: Verify = %v, want a TamperError", rotationsName, err)
	}
}

// TestRotateKeyFaults fails every call of a change in turn, with its effect
// lost and kept: the next Open completes the change or drops it.
func TestRotateKeyFaults(t *testing.T) {
	base := newMemFS()
	if err := durable.MkdirAll(base, "/l"); err != nil {
		t.Fatal(err)
	}
	l := mustOpen(t, "/l/audit", tiny(base))
	appendN(t, l, 0, 3)
	mustClose(t, l)
	done := map[bool]int{}
	for _, kept := range []bool{false, true} {
		for at := 1; ; at++ {
			fsys := base.clone()
			fsys.failAt, fsys.kept, fsys.stop = fsys.ops+at, kept, true
			_, _, err := RotateKey(t.Context(), "/l/audit", tiny(fsys))
			if err == nil {
				break
			}
			again := fsys.clone()
			again.failAt, again.dead = 0, false
			l, err := Open("/l/audit", tiny(again))
			if err != nil {
				t.Fatalf("call %d, kept %t: Open = %v", at, kept, err)
			}
			keys, err := l.VerifierKeys()
			if err != nil {
				t.Fatal(err)
			}
			done[len(keys) == 2]++
			appendN(t, l, 50, 51)
			mustClose(t, l)
			if _, err := verify(t.Context(), again, "/l/audit", VerifyConfig{}); err != nil {
				t.Fatalf("call %d, kept %t: Verify = %v", at, kept, err)
			}
		}
	}
	if done[true] == 0 || done[false] == 0 {
		t.Errorf("changes completed %d, dropped %d: want some of both", done[true], done[false])
	}
}

func FuzzRotation(f *testing.F) {
	s := testSigner(f)
	f.Add(rotation{from: 3, previous: s.vkey, vkey: s.vkey, line: encode(f, minimalEntry()), note: s.checkpoint(3, [32]byte{}).Note}.encode())
	skey, _, err := note.GenerateKey(rand.Reader, s.origin)
	if err != nil {
		f.Fatal(err)
	}
	next, err := newSigner(skey)
	if err != nil {
		f.Fatal(err)
	}
	e := minimalEntry()
	e.AgentID, e.Action, e.Details = systemAgent, actionRotation, map[string]any{"previous": s.vkey, "vkey": next.vkey}
	_, sig, _ := strings.Cut(next.checkpoint(3, [32]byte{}).Note, "\n\n")
	good := rotation{from: 3, previous: s.vkey, vkey: next.vkey, line: encode(f, e), note: s.checkpoint(3, [32]byte{}).Note + sig}.encode()
	if _, err := parseRotation(good); err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Fuzz(func(t *testing.T, line []byte) {
		r, err := parseRotation(line)
		if err == nil && string(r.encode()) != string(line) {
			t.Fatalf("two spellings:\n in %q\nout %q", line, r.encode())
		}
	})
}

// FuzzKeyFile: a private key is read in one spelling of its parts, and its
// public key is of the same name.
func FuzzKeyFile(f *testing.F) {
	f.Add(vectorKey(f))
	f.Add("PRIVATE+KEY+a+00000000+AQ==")
	f.Fuzz(func(t *testing.T, text string) {
		s, err := newSigner(text)
		if err != nil {
			return
		}
		if !strings.HasPrefix(text, "PRIVATE+KEY+"+s.origin+"+") {
			t.Fatalf("%q has the origin %q", text, s.origin)
		}
		if _, err := parseOwnCheckpoint([]byte(s.checkpoint(1, [32]byte{}).Note), s.vkey); err != nil {
			t.Fatalf("what the key in %q signs does not hold: %v", text, err)
		}
	})
}
