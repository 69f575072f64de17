package audit

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
)

// TestEraseLeavesNothing is the promise: after an erasure, no file has the
// plaintext, the name, or the keys, and no proof has changed.
func TestEraseLeavesNothing(t *testing.T) {
	fsys := freshFS(t)
	cfg := subjectConfig(fsys)
	l := mustOpen(t, "/l/audit", cfg)
	var rs []Receipt
	for n := range 60 {
		e := about(n, []string{"maria", "luis", "chen"}[n%3])
		if n%3 == 0 && n%2 == 0 {
			e.UserID, e.Subject = "maria", "" // her alone
		} else if n%3 == 1 {
			e.UserID = "maria" // she acted, it is about luis
		}
		rs = append(rs, mustAppend(t, l, e)...)
	}
	var proofs []Proof
	for _, r := range rs {
		p, err := l.Proof(r.Index)
		if err != nil {
			t.Fatal(err)
		}
		proofs = append(proofs, p)
	}
	maria := l.vault.find("maria")
	token, key := maria.token, maria.keys[0].key
	if err := l.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	backup := fsys.clone()
	x, err := l.Erase(t.Context(), Erasure{Subject: "maria", Reason: "request 17", Authority: "DPO"})
	if err != nil {
		t.Fatal(err)
	}
	if !x.Found || x.Token != token || x.Entries != 40 || x.First != 0 || x.Last != 58 || x.Receipt.Index != 60 || x.Clear != 0 {
		t.Errorf("receipt %+v, want 40 entries from 0 to 58, at 60", x)
	}
	erased := func(t *testing.T, l interface {
		Get(context.Context, int64) (Entry, error)
	}) {
		t.Helper()
		for n := range int64(60) {
			e, err := l.Get(t.Context(), n)
			if err != nil {
				t.Fatal(err)
			}
			text, err := json.Marshal(e)
			if err != nil {
				t.Fatal(err)
			}
			switch n % 3 {
			case 0:
				if e.Withheld.Details != Erased || e.Withheld.Metadata != Erased || e.Subject != token || !strings.Contains(string(text), `"details":{"erased":true,"tool":"search"}`) {
					t.Errorf("entry %d: %s", n, text)
				}
			case 1:
				if e.Subject != "luis" || e.Details["text"] != "SECRET-luis" || !strings.Contains(string(text), `"user_id":{"erased":true}`) {
					t.Errorf("entry %d: %s", n, text)
				}
			case 2:
				if e.Withheld != (Withheld{}) || e.Details["text"] != "SECRET-chen" {
					t.Errorf("entry %d: %s", n, text)
				}
			}
			var back Entry
			if err := json.Unmarshal(text, &back); err != nil {
				t.Fatal(err)
			}
			if again, err := json.Marshal(back); err != nil || !bytes.Equal(again, text) {
				t.Errorf("entry %d prints as %s, and read back as %s, %v", n, text, again, err)
			}
		}
	}
	erased(t, l)
	nothing := func(t *testing.T) {
		t.Helper()
		raw := string(key[:])
		if found := fsys.search("SECRET-maria", "maria", raw); len(found) > 0 {
			t.Errorf("still there: %v", found)
		}
	}
	nothing(t)
	checkReceipts(t, l, rs)
	for _, p := range proofs {
		if err := p.Check(l.VerifierKey()); err != nil {
			t.Errorf("proof of %d: %v", p.Index, err)
		}
	}
	again, err := l.Erase(t.Context(), Erasure{Subject: "maria"})
	if err != nil || again.Found || again.Entries != 0 {
		t.Errorf("erasing again = %+v, %v; want that nothing is known", again, err)
	}
	if again, err = l.Erase(t.Context(), Erasure{Subject: token}); err != nil || again.Receipt.Index != 60 || again.Entries != 40 || again.Receipt.LeafHash != x.Receipt.LeafHash {
		t.Errorf("erasing the token again = %+v, %v; want the first receipt", again, err)
	}
	if n, err := l.Count(t.Context(), Query{Action: actionErasure}); n != 1 || err != nil {
		t.Errorf("%d receipts, %v; want 1", n, err)
	}
	mustAppend(t, l, about(70, "maria")) // a new subject
	if e := mustGet(t, l, 61); e.Details["text"] != "SECRET-maria" {
		t.Errorf("a later entry: %+v", e)
	}
	mustClose(t, l)
	if _, err := verify(t.Context(), fsys, "/l/audit", VerifyConfig{Checkpoint: []byte(proofs[0].Note)}); err != nil {
		t.Errorf("verify after the erasure: %v", err)
	}
	l = mustOpen(t, "/l/audit", cfg)
	erased(t, l)
	if _, err := l.Erase(t.Context(), Erasure{Subject: "maria"}); err != nil {
		t.Fatal(err)
	}
	nothing(t)
	mustClose(t, l)
	nothing(t)

	t.Run("ledger from a backup", func(t *testing.T) {
		restored := fsys.clone()
		moveTree(t, backup, restored, "/l/audit")
		cfg := subjectConfig(restored)
		cfg.AcceptRestored = true
		l := mustOpen(t, "/l/audit", cfg)
		if e := mustGet(t, l, 0); e.Withheld.Details != Erased {
			t.Errorf("a backup of the ledger gave %+v", e)
		}
		mustClose(t, l)
	})
	t.Run("key store from a backup, with the key of now", func(t *testing.T) {
		restored := fsys.clone()
		restored.set("/l/keys/audit.subjects", backup.get(t, "/l/keys/audit.subjects"))
		if _, err := Open("/l/audit", subjectConfig(restored)); !isTamper(err) {
			t.Errorf("Open = %v, want a TamperError: its key is destroyed", err)
		}
	})
	t.Run("all keys from a backup", func(t *testing.T) {
		restored := fsys.clone()
		moveTree(t, backup, restored, "/l/keys")
		r, err := openReader(restored, "/l/audit")
		if err != nil {
			t.Fatal(err)
		}
		if e, err := r.Get(t.Context(), 0); err != nil || e.Withheld.Details != Erased {
			t.Errorf("a reader showed what the ledger says is erased: %+v, %v", e, err)
		}
		l := mustOpen(t, "/l/audit", subjectConfig(restored))
		if e := mustGet(t, l, 0); e.Withheld.Details != Erased {
			t.Errorf("the ledger showed what it says is erased: %+v", e)
		}
		mustClose(t, l)
		if found := restored.search("maria", string(key[:])); len(found) > 0 {
			t.Errorf("opening did not destroy it again: %v", found)
		}
	})
}

// moveTree copies a folder with what is in it, and removes what else was there.
func moveTree(t *testing.T, from, to *memFS, name string) {
	t.Helper()
	parent, err := to.dir(filepath.Dir(name))
	if err != nil {
		t.Fatal(err)
	}
	d, err := from.clone().dir(name)
	if err != nil {
		t.Fatal(err)
	}
	parent.names[filepath.Base(name)] = d
	parent.synced = maps.Clone(parent.names)
}

// unzip gives what is in a compressed file beside what is in the others.
func unzip(t *testing.T, path string, b []byte) []byte {
	t.Helper()
	if filepath.Ext(path) != ".zst" {
		return b
	}
	dec, err := zstd.NewReader(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	defer dec.Close()
	plain, err := io.ReadAll(dec)
	if err != nil || len(plain) == 0 {
		t.Fatalf("%s: %d bytes, %v", path, len(plain), err)
	}
	return plain
}

// TestErasedFromRealFiles looks through every byte on a real disk: of the ring
// while the ledger is open, of segments, sealed, indexed and archived.
func TestErasedFromRealFiles(t *testing.T) {
	dir := t.TempDir()
	cfg := Config{UsersAreSubjects: true, Archive: filepath.Join(dir, "archive")}
	l := mustOpen(t, filepath.Join(dir, "audit"), cfg)
	for n := range 20 {
		mustAppend(t, l, about(n, "maria"))
	}
	if err := l.Seal(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Archive(t.Context(), ArchiveDir(cfg.Archive)); err != nil {
		t.Fatal(err)
	}
	for n := range 20 {
		mustAppend(t, l, about(100+n, "maria"))
	}
	if _, err := l.Erase(t.Context(), Erasure{Subject: "maria"}); err != nil {
		t.Fatal(err)
	}
	check := func() {
		t.Helper()
		kept, kinds := 0, map[string]int{}
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			b, err := os.ReadFile(path)
			if kinds[filepath.Ext(path)]++; err == nil {
				b = unzip(t, path, b)
			}
			if err == nil && (bytes.Contains(b, []byte("SECRET")) || bytes.Contains(b, []byte("maria"))) {
				t.Errorf("%s has it in clear", path)
			}
			if strings.Contains(path, ".kek.") {
				kept++
			}
			if info, statErr := d.Info(); statErr == nil && info.Mode().Perm()&0o077 != 0 {
				t.Errorf("%s is open to others: %v", path, info.Mode())
			}
			return err
		})
		if err != nil || kept != 1 {
			t.Errorf("walk: %v; %d key-encryption keys, want the newest alone", err, kept)
		}
		if kinds[".zst"] < 2 || kinds[".idx"] < 2 || kinds[".jsonl"] == 0 {
			t.Errorf("files by kind: %v, want sealed, archived and open segments", kinds)
		}
	}
	check()
	for i := range int64(20) { // in the sealed segment
		if e := mustGet(t, l, i); e.Withheld.Details != Erased {
			t.Errorf("entry %d: %+v", i, e.Withheld)
		}
	}
	mustClose(t, l)
	check()
}
