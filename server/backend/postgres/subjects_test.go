package postgres_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/kaizen-go/kaizen/audit"
	"github.com/kaizen-go/kaizen/kaizentest"
	"github.com/kaizen-go/kaizen/server/backend/postgres"
)

func about(person string) audit.Entry {
	return audit.Entry{
		AgentID: "a", Action: "x", Result: audit.Success, Subject: person,
		Details: map[string]any{"said": person + " was here"},
	}
}

func appended(t *testing.T, l *postgres.Ledger, e audit.Entry) audit.Receipt {
	t.Helper()
	r, err := l.Append(t.Context(), e)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func noKeyStore(t *testing.T, what string, l *postgres.Ledger, e audit.Entry) {
	t.Helper()
	if err := l.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	before := l.Size()
	if _, err := l.Append(t.Context(), e); !errors.Is(err, audit.ErrNoKeyStore) {
		t.Errorf("%s: Append = %v, want ErrNoKeyStore", what, err)
	}
	if err := l.Flush(t.Context()); err != nil || l.Size() != before {
		t.Errorf("%s: %d entries after it, %v, want %d", what, l.Size(), err, before)
	}
}

// elsewhere is cfg on another machine, which got the signing key alone.
func elsewhere(t *testing.T, cfg postgres.Config) postgres.Config {
	t.Helper()
	b, err := os.ReadFile(cfg.KeyFile)
	if err != nil {
		t.Fatal(err)
	}
	cfg.KeyFile = filepath.Join(t.TempDir(), "audit.key")
	if err := os.WriteFile(cfg.KeyFile, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return cfg
}

// One process has the key store. Others write what is about nobody, read what
// they may, and never write a name in clear.
func TestKeyStoreBelongsToOne(t *testing.T) {
	cfg := fresh(t)
	cfg.UsersAreSubjects = true
	first := open(t, cfg)
	second := open(t, cfg) // of this machine
	noKeyStore(t, "before there is a subject", second, about("ada"))
	r := appended(t, first, about("ada"))
	third := open(t, elsewhere(t, cfg))
	noKeyStore(t, "while another process has the key store", second, about("bob"))
	noKeyStore(t, "on another machine", third, about("bob"))
	noKeyStore(t, "a user on another machine", third, audit.Entry{AgentID: "a", Action: "x", Result: audit.Success, UserID: "bob"})
	plain := audit.Entry{AgentID: "a", Action: "x", Result: audit.Success, Details: map[string]any{"n": 1}}
	appended(t, second, plain)
	appended(t, third, plain)
	for name, l := range map[string]*postgres.Ledger{"first": first, "second": second, "third": third} {
		e, err := l.Get(t.Context(), r.Index)
		if err != nil {
			t.Fatal(err)
		}
		want := audit.Shown
		if name == "third" {
			want = audit.Encrypted
		}
		if e.Withheld.Details != want || (want == audit.Shown) != (e.Details["said"] == "ada was here") {
			t.Errorf("%s reads %+v, want details %v", name, e, want)
		}
		if name == "first" {
			continue
		}
		if _, err := l.Erase(t.Context(), audit.Erasure{Subject: "ada"}); !errors.Is(err, audit.ErrNoKeyStore) {
			t.Errorf("%s: Erase = %v, want ErrNoKeyStore", name, err)
		}
		if _, _, err := l.Hold(t.Context(), audit.Hold{Subject: "ada"}); !errors.Is(err, audit.ErrNoKeyStore) {
			t.Errorf("%s: Hold = %v, want ErrNoKeyStore", name, err)
		}
	}
	if _, err := first.Erase(t.Context(), audit.Erasure{Subject: "ada"}); err != nil {
		t.Fatal(err)
	}
	for name, l := range map[string]*postgres.Ledger{"second": second, "third": third} {
		if err := l.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		if e, err := l.Get(t.Context(), r.Index); err != nil || e.Withheld.Details != audit.Erased {
			t.Errorf("%s reads an erased entry as %+v, %v", name, e, err)
		}
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	appended(t, second, about("bob")) // it takes over
	if err := kaizentest.CheckLedger(t.Context(), second); err != nil {
		t.Error(err)
	}
	if err := second.Close(); err != nil {
		t.Fatal(err)
	}
	lost := elsewhere(t, cfg)
	lost.NewKeyStore = true
	anew := open(t, lost)
	at := appended(t, anew, about("carol"))
	if e, err := anew.Get(t.Context(), at.Index); err != nil || e.Subject != "carol" {
		t.Errorf("under a new key store: %+v, %v", e, err)
	}
	noKeyStore(t, "the old key store", open(t, cfg), about("bob"))
}

// A ledger that was moved here without its key store does not get another one
// unasked; with it everything goes on as before.
func TestKeyStoreMoves(t *testing.T) {
	cfg := fresh(t)
	files := filepath.Join(filepath.Dir(cfg.KeyFile), "src", "audit")
	l, err := audit.Open(files, audit.Config{KeyDir: filepath.Dir(cfg.KeyFile), Origin: cfg.Origin})
	if err != nil {
		t.Fatal(err)
	}
	r, err := l.Append(t.Context(), about("ada"))
	if err != nil {
		t.Fatal(err)
	}
	hold, _, err := l.Hold(t.Context(), audit.Hold{Subject: "ada"})
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	src, err := audit.OpenReaderWith(files, audit.ReaderConfig{KeyDir: filepath.Dir(cfg.KeyFile)})
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	there := elsewhere(t, cfg)
	dst := open(t, cfg)
	if err := audit.Copy(t.Context(), dst, src, nil); err != nil {
		t.Fatal(err)
	}
	noKeyStore(t, "without the key store of the source", open(t, there), about("bob"))
	if e, err := dst.Get(t.Context(), r.Index); err != nil || e.Subject != "ada" || e.Details["said"] != "ada was here" {
		t.Errorf("after the move: %+v, %v", e, err)
	}
	_, err = dst.Erase(t.Context(), audit.Erasure{Subject: "ada"})
	if e, ok := errors.AsType[*audit.HeldError](err); !ok || e.Hold != hold.ID {
		t.Errorf("Erase after the move = %v, want a *HeldError of %s", err, hold.ID)
	}
	appended(t, dst, about("ada"))
}

// Retention keeps what the ledger itself holds.
func TestRetainHeld(t *testing.T) {
	cfg := fresh(t)
	l := open(t, cfg)
	appended(t, l, about("ada"))
	hold, _, err := l.Hold(t.Context(), audit.Hold{Subject: "ada"})
	if err != nil {
		t.Fatal(err)
	}
	// A month later, so that the partition is not the one being filled.
	exec(t, superuser(t, cfg, true), "UPDATE "+cfg.Schema+".head SET at = at + interval '31 days'")
	appended(t, l, about("bob"))
	far := time.Now().Add(300 * 24 * time.Hour)
	got, err := l.Retain(t.Context(), postgres.RetainConfig{Before: far})
	if err != nil || len(got) != 1 || got[0].Hold != hold.ID {
		t.Fatalf("Retain under a hold = %+v, %v, want it to stop at %s", got, err, hold.ID)
	}
	if _, err := l.Release(t.Context(), audit.Release{ID: hold.ID}); err != nil {
		t.Fatal(err)
	}
	got, err = l.Retain(t.Context(), postgres.RetainConfig{Before: far})
	if err != nil || len(got) == 0 || got[0].Hold != "" {
		t.Errorf("Retain after the release = %+v, %v", got, err)
	}
}
