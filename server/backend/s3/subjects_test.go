package s3

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/kaizen-go/kaizen/audit"
)

// One process has the key store: see the test of package postgres, which goes
// further.
func TestKeyStoreBelongsToOne(t *testing.T) {
	cfg := fresh(t)
	first, second := openFor(t, cfg), openFor(t, cfg)
	about := func(who string) audit.Entry {
		e := entry(1)
		e.Subject = who
		return e
	}
	r, err := first.Append(t.Context(), about("ada"))
	if err != nil {
		t.Fatal(err)
	}
	key, err := os.ReadFile(cfg.KeyFile)
	if err != nil {
		t.Fatal(err)
	}
	cfg.KeyFile = filepath.Join(t.TempDir(), "audit.key")
	if err := os.WriteFile(cfg.KeyFile, key, 0o600); err != nil {
		t.Fatal(err)
	}
	third := openFor(t, cfg)
	for name, l := range map[string]*Ledger{"second of this machine": second, "another machine": third} {
		if _, err := l.Append(t.Context(), about("bob")); !errors.Is(err, audit.ErrNoKeyStore) {
			t.Errorf("%s: Append = %v, want ErrNoKeyStore", name, err)
		}
		if _, err := l.Append(t.Context(), entry(2)); err != nil {
			t.Errorf("%s: Append without a subject = %v", name, err)
		}
	}
	if _, err := first.Erase(t.Context(), audit.Erasure{Subject: "ada"}); err != nil {
		t.Fatal(err)
	}
	for name, l := range map[string]*Ledger{"second of this machine": second, "another machine": third} {
		if err := l.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		if e, err := l.Get(t.Context(), r.Index); err != nil || e.Withheld.Details != audit.Erased {
			t.Errorf("%s: an erased entry reads as %+v, %v", name, e, err)
		}
	}
}
