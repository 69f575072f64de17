package main

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kaizen-go/kaizen/audit"
	"github.com/kaizen-go/kaizen/server/backend/postgres"
	"github.com/kaizen-go/kaizen/server/backend/s3"
	"github.com/kaizen-go/kaizen/server/internal/pgtest"
	"github.com/kaizen-go/kaizen/server/internal/s3test"
)

// TestPeopleMove takes a ledger about people from files to PostgreSQL, to an
// object store and back to files. Wherever it is they are found by their names,
// can be forgotten, and stay forgotten.
func TestPeopleMove(t *testing.T) {
	dir, store := t.TempDir(), s3test.Start(t)
	t.Setenv("KAIZEN_AUDIT_DSN", pgtest.DSN(t))
	t.Setenv("AWS_ACCESS_KEY_ID", s3test.AccessKey)
	t.Setenv("AWS_SECRET_ACCESS_KEY", s3test.SecretKey)
	key := filepath.Join(dir, "elsewhere", "audit.key")
	places := []string{
		filepath.Join(dir, "first", "audit"), "postgres:people_move", "s3+http://" + store.Endpoint + "/" + store.Bucket(t, false) + "/people/",
		filepath.Join(dir, "last", "audit"),
	}
	people := []string{"ada", "bob", "eve", "joe"} // the n-th is forgotten in the n-th place
	l := openPeople(t, places[0], key)
	for _, who := range people {
		if _, err := l.Append(t.Context(), audit.Entry{AgentID: "a", Action: "x", Result: audit.Success, UserID: who, Details: map[string]any{"said": who + " said yes"}}); err != nil {
			t.Fatal(err)
		}
	}
	closePeople(t, l)
	b, err := os.ReadFile(filepath.Join(dir, "first", "keys", "audit.key"))
	if err == nil {
		err = os.MkdirAll(filepath.Dir(key), 0o700)
	}
	if err == nil {
		err = os.WriteFile(key, b, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	for n, place := range places {
		if n > 0 {
			var out strings.Builder
			// What is not a directory cannot be put out of use.
			if err := transfer(t.Context(), startProgress(&out, "copied"), places[n-1], place, key, n == 1); err != nil {
				t.Fatalf("%s: %v", place, err)
			}
			if wrote := strings.Contains(out.String(), "keys of people"); wrote != (n != 2) { // 2 has the key of 1
				t.Errorf("%s: the command says %q", place, out.String())
			}
		}
		l := openPeople(t, place, key)
		for i, who := range people {
			q := audit.Query{Subject: who}
			found, err := l.Count(t.Context(), q)
			if err != nil || (found == 1) != (i >= n) {
				t.Errorf("%s: %s has %d entries, %v", place, who, found, err)
			}
			for e, err := range l.Query(t.Context(), q) {
				if err != nil || e.UserID != who || e.Details["said"] != who+" said yes" {
					t.Errorf("%s: %s reads as %+v, %v", place, who, e, err)
				}
			}
		}
		if x, err := l.Erase(t.Context(), audit.Erasure{Subject: people[n]}); err != nil || !x.Found || x.Entries != 1 {
			t.Errorf("%s: Erase(%s) = %+v, %v", place, people[n], x, err)
		}
		e, err := l.Append(t.Context(), audit.Entry{AgentID: "a", Action: "x", Result: audit.Success, UserID: "new"})
		if err != nil {
			t.Errorf("%s: an entry about somebody else: %v", place, err)
		} else if got, err := l.Get(t.Context(), e.Index); err != nil || got.UserID != "new" {
			t.Errorf("%s: it reads as %+v, %v", place, got, err)
		}
		if n == 1 { // the places after it have the new key
			if _, _, err := l.RotateKey(t.Context()); err != nil {
				t.Error(err)
			}
		}
		closePeople(t, l)
	}
	if _, err := audit.Verify(t.Context(), places[3], audit.VerifyConfig{}); err != nil {
		t.Error(err)
	}
	if left, err := filepath.Glob(filepath.Join(dir, "first", "keys", "audit.kek.*")); err != nil || len(left) != 0 {
		t.Errorf("after the move there is still %v (%v)", left, err)
	}
	// A place with other people's keys is refused before anything is copied.
	strange := filepath.Join(dir, "strange", "audit")
	l = openPeople(t, strange, key)
	if _, err := l.Append(t.Context(), audit.Entry{AgentID: "a", Action: "x", Result: audit.Success, UserID: "mallory"}); err != nil {
		t.Fatal(err)
	}
	closePeople(t, l)
	if err := os.RemoveAll(strange); err != nil {
		t.Fatal(err)
	}
	err = transfer(t.Context(), startProgress(io.Discard, "copied"), places[3], strange, key, false)
	if err == nil || !strings.Contains(err.Error(), audit.ErrKeyStores.Error()) {
		t.Errorf("copy to a place with another key store = %v", err)
	}
	if _, err := os.Stat(strange); !os.IsNotExist(err) {
		t.Errorf("something was copied all the same: %v", err)
	}
}

// openPeople opens a ledger as a server does: users are subjects.
func openPeople(t *testing.T, place, key string) audit.Backend {
	t.Helper()
	var l audit.Backend
	var err error
	ctx := context.WithoutCancel(t.Context())
	switch {
	case strings.HasPrefix(place, "postgres:"):
		l, err = postgres.Open(ctx, postgres.Config{
			DSN: os.Getenv("KAIZEN_AUDIT_DSN"), Schema: strings.TrimPrefix(place, "postgres:"), KeyFile: key, UsersAreSubjects: true,
		})
	case !isDir(place):
		cfg, bad := bucketAt(place)
		if bad != nil {
			t.Fatal(bad)
		}
		cfg.KeyFile, cfg.UsersAreSubjects = key, true
		l, err = s3.Open(ctx, cfg)
	default:
		l, err = audit.Open(place, audit.Config{UsersAreSubjects: true})
	}
	if err != nil {
		t.Fatalf("open %s: %v", place, err)
	}
	return l
}

func closePeople(t *testing.T, l audit.Backend) {
	t.Helper()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}
