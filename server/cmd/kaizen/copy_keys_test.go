package main

import (
	"context"
	"io"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kaizen-go/kaizen/audit"
	"github.com/kaizen-go/kaizen/server/internal/pgtest"
	"github.com/kaizen-go/kaizen/server/internal/s3test"
)

// TestCopyRotated copies a ledger whose key was changed to every kind of place.
// What the help text says is kept is kept: entries, the one that names the new
// key, the present key, and proofs under the old one. What joins the two is not.
func TestCopyRotated(t *testing.T) {
	dir, store := t.TempDir(), s3test.Start(t)
	t.Setenv("KAIZEN_AUDIT_DSN", pgtest.DSN(t))
	t.Setenv("AWS_ACCESS_KEY_ID", s3test.AccessKey)
	t.Setenv("AWS_SECRET_ACCESS_KEY", s3test.SecretKey)
	from, key := filepath.Join(dir, "audit"), filepath.Join(dir, "keys", "audit.key")
	l := openPeople(t, from, key)
	if _, err := l.Append(t.Context(), audit.Entry{AgentID: "a", Action: "x", Result: audit.Success}); err != nil {
		t.Fatal(err)
	}
	proof, err := l.Proof(0)
	if err != nil {
		t.Fatal(err)
	}
	first, present, err := l.RotateKey(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	closePeople(t, l)
	if _, err := audit.Verify(t.Context(), from, audit.VerifyConfig{Key: first}); err != nil {
		t.Errorf("the source with its first key: %v", err)
	}
	for _, place := range []string{
		filepath.Join(dir, "there", "audit"), "postgres:copy_rotated", "s3+http://" + store.Endpoint + "/" + store.Bucket(t, false) + "/rotated/",
	} {
		if err := transfer(t.Context(), startProgress(io.Discard, "copied"), from, place, key, false); err != nil {
			t.Fatalf("%s: %v", place, err)
		}
		if _, err := verifyPlace(t, place, key, audit.VerifyConfig{Key: present}); err != nil {
			t.Errorf("%s: with the present key: %v", place, err)
		}
		if _, err := verifyPlace(t, place, key, audit.VerifyConfig{Key: first}); err == nil || !strings.Contains(err.Error(), "another key than the trusted one") {
			t.Errorf("%s: with the first key: %v", place, err)
		}
		l := openPeople(t, place, key)
		keys, err := l.VerifierKeys()
		if err != nil || len(keys) != 1 || keys[0] != present {
			t.Errorf("%s: keys %v, %v, want the present one", place, keys, err)
		}
		e, err := l.Get(t.Context(), 1)
		if err != nil || e.Action != "ledger.key_rotation" || e.Details["previous"] != first || e.Details["vkey"] != present {
			t.Errorf("%s: the entry about the change is %+v, %v", place, e, err)
		}
		line, err := l.Proof(0)
		if err != nil || string(line.Line) != string(proof.Line) || proof.Check(first) != nil {
			t.Errorf("%s: a proof under the first key does not hold: %v, %v", place, err, proof.Check(first))
		}
		closePeople(t, l)
	}
}

// verifyPlace checks the ledger at a place.
func verifyPlace(t *testing.T, place, key string, cfg audit.VerifyConfig) (audit.Report, error) {
	t.Helper()
	if isDir(place) {
		return audit.Verify(t.Context(), place, cfg)
	}
	l := openPeople(t, place, key)
	defer closePeople(t, l)
	return l.(interface {
		Verify(context.Context, audit.VerifyConfig) (audit.Report, error)
	}).Verify(t.Context(), cfg)
}
