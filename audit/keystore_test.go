package audit

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kaizen-go/kaizen/internal/durable"
)

// keysOf lists the files of a key store beside a signing key.
func keysOf(t *testing.T, keyFile string) (names []string) {
	t.Helper()
	all, err := filepath.Glob(strings.TrimSuffix(keyFile, ".key") + ".*")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range all {
		if !strings.HasSuffix(name, ".lock") && !strings.HasSuffix(name, ".key") && !strings.HasSuffix(name, memoryExt) {
			names = append(names, filepath.Base(name))
		}
	}
	return names
}

// TestMoveKeyStore brings a store to another place, twice, and refuses where keys
// would be lost.
func TestMoveKeyStore(t *testing.T) {
	dir := t.TempDir()
	from, to := filepath.Join(dir, "keys", "audit.key"), filepath.Join(dir, "there", "keys", "other.key")
	if moved, err := MoveKeyStore(KeyStoreMove{From: from, To: to}); moved || err != nil {
		t.Fatalf("without a key store: %t, %v", moved, err)
	}
	about := func(who string) {
		t.Helper()
		l := mustOpen(t, filepath.Join(dir, "audit"), small())
		if _, err := l.Append(t.Context(), Entry{AgentID: "a", Action: "x", Result: Success, Subject: who, Details: map[string]any{"said": "yes"}}); err != nil {
			t.Fatal(err)
		}
		mustClose(t, l)
	}
	check := func(want ...string) {
		t.Helper()
		v := storeBeside(durable.OS{}, to)
		_, err := v.read()
		if err != nil || len(v.byName) != len(want) {
			t.Fatalf("the new place has %d subjects, %v, want %v", len(v.byName), err, want)
		}
		for _, name := range want {
			if v.byName[name] == nil {
				t.Errorf("the new place does not know %s", name)
			}
		}
	}
	about("ada")
	if moved, err := MoveKeyStore(KeyStoreMove{From: from, To: to, DryRun: true}); !moved || err != nil || len(keysOf(t, to)) != 0 {
		t.Errorf("a dry run: %t, %v, and there is %v", moved, err, keysOf(t, to))
	}
	for range 2 {
		if moved, err := MoveKeyStore(KeyStoreMove{From: from, To: to}); !moved || err != nil {
			t.Fatalf("MoveKeyStore = %t, %v", moved, err)
		}
		check("ada")
	}
	older := copyDir(t, filepath.Dir(to))
	about("bob") // the one at the new place is older now
	if _, err := MoveKeyStore(KeyStoreMove{From: from, To: to}); err != nil {
		t.Fatal(err)
	}
	check("ada", "bob")
	// An older one does not replace it.
	if _, err := MoveKeyStore(KeyStoreMove{From: filepath.Join(older, "other.key"), To: to}); err != nil {
		t.Fatal(err)
	}
	check("ada", "bob")
	// Nor does one that still has what was erased in the new place; the other way
	// round the erasure goes along.
	l := mustOpen(t, filepath.Join(dir, "audit"), small())
	if x, err := l.Erase(t.Context(), Erasure{Subject: "ada"}); err != nil || !x.Found {
		t.Fatalf("Erase = %+v, %v", x, err)
	}
	mustClose(t, l)
	stale := copyDir(t, filepath.Dir(to))
	if _, err := MoveKeyStore(KeyStoreMove{From: from, To: to}); err != nil {
		t.Fatal(err)
	}
	check("bob")
	if _, err := MoveKeyStore(KeyStoreMove{From: filepath.Join(stale, "other.key"), To: to}); err != nil {
		t.Fatal(err)
	}
	check("bob")
	// Nor does one with other people, in either direction.
	strange := filepath.Join(t.TempDir(), "audit")
	l = mustOpen(t, strange, small())
	if _, err := l.Append(t.Context(), Entry{AgentID: "a", Action: "x", Result: Success, Subject: "eve"}); err != nil {
		t.Fatal(err)
	}
	mustClose(t, l)
	for _, dry := range []bool{true, false} {
		if _, err := MoveKeyStore(KeyStoreMove{From: keyPath(strange, ""), To: to, DryRun: dry}); !errors.Is(err, ErrKeyStores) {
			t.Errorf("MoveKeyStore of another ledger's = %v, want ErrKeyStores", err)
		}
	}
	// A name that the two do not share says the same.
	id := filepath.Join(filepath.Dir(from), "audit.store")
	for name, text := range map[string]string{id: "kzstore_a\n", filepath.Join(filepath.Dir(to), "other.store"): "kzstore_b\n"} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := MoveKeyStore(KeyStoreMove{From: from, To: to}); !errors.Is(err, ErrKeyStores) {
		t.Errorf("MoveKeyStore over a store with another name = %v, want ErrKeyStores", err)
	}
	if err := os.Remove(id); err != nil {
		t.Fatal(err)
	}
	lock, err := small().withDefaults().fsys.Lock(filepath.Join(filepath.Dir(to), "other.subjects.lock"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := MoveKeyStore(KeyStoreMove{From: from, To: to}); !errors.Is(err, ErrNoKeyStore) {
		t.Errorf("MoveKeyStore to where a process has the store = %v, want ErrNoKeyStore", err)
	}
	if err := lock.Close(); err != nil {
		t.Fatal(err)
	}
	if moved, err := MoveKeyStore(KeyStoreMove{From: from, To: to, Remove: true}); !moved || err != nil {
		t.Fatalf("MoveKeyStore with Remove = %t, %v", moved, err)
	}
	check("bob")
	if left := keysOf(t, from); len(left) != 0 {
		t.Errorf("in the old place there is still %v", left)
	}
}
