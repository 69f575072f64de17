// Package grouptest has tests that the backends with several writers share.
package grouptest

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/kaizen-go/kaizen/audit"
	"github.com/kaizen-go/kaizen/kaizentest"
	"github.com/kaizen-go/kaizen/server/backend/internal/group"
)

// Ledger is what the tests need.
type Ledger interface {
	audit.Backend
	Verify(ctx context.Context, cfg audit.VerifyConfig) (audit.Report, error)
	KeyChanges() []audit.KeyChange
}

// Rotation changes the key of a ledger that several processes have open: those
// with the same key file follow, one with a copy appends again when it has the
// new key. Open opens the ledger under a key file; KeyFile is the first.
func Rotation(t *testing.T, keyFile string, open func(keyFile string) Ledger) {
	t.Helper()
	ctx := t.Context()
	add := func(l Ledger) error {
		_, err := l.Append(ctx, audit.Entry{AgentID: "a", Action: "x", Result: audit.Success})
		return err
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	first, second := open(keyFile), open(keyFile)
	elsewhere := filepath.Join(t.TempDir(), "audit.key")
	carry := func() {
		t.Helper()
		b, err := os.ReadFile(keyFile)
		must(err)
		must(os.WriteFile(elsewhere, b, 0o600))
	}
	carry()
	third := open(elsewhere)
	for _, l := range []Ledger{first, second, third} {
		must(add(l))
	}
	old, vkey, err := first.RotateKey(ctx)
	must(err)
	must(add(second))
	if got := second.VerifierKey(); got != vkey {
		t.Errorf("the second process has the key %s, want %s", got, vkey)
	}
	if err := add(third); !errors.Is(err, group.ErrKey) || errors.Is(err, audit.ErrUnconfirmed) {
		t.Errorf("Append without the new key = %v, want ErrKey", err)
	}
	must(third.Flush(ctx))
	if got := third.VerifierKey(); got != vkey || third.Size() != second.Size() {
		t.Errorf("the third process has the key %s and %d entries, want %s and %d", got, third.Size(), vkey, second.Size())
	}
	if p, err := third.Proof(0); err != nil || p.Check(vkey) != nil {
		t.Errorf("a proof without the private key: %v", err)
	}
	if _, _, err := third.RotateKey(ctx); !errors.Is(err, group.ErrKey) {
		t.Errorf("RotateKey without the present key = %v, want ErrKey", err)
	}
	carry()
	must(add(third))
	_, newest, err := second.RotateKey(ctx)
	must(err)
	must(add(first))
	must(kaizentest.CheckLedger(ctx, first))

	// A crash before the new key got its place.
	matches, err := filepath.Glob(keyFile + ".next-*")
	if err != nil || len(matches) != 0 {
		t.Errorf("keys beside the present one: %v, %v", matches, err)
	}
	must(os.Rename(keyFile, group.NextKeyName(keyFile, newest)))
	must(os.Rename(keyFile+".old", keyFile))
	fourth := open(keyFile)
	must(add(fourth))
	if signer, err := group.LoadSigner(keyFile, ""); err != nil || signer.VerifierKey() != newest {
		t.Errorf("after the crash the key is %v, %v, want %s", signer, err, newest)
	}

	for _, key := range []string{"", old, vkey, newest} {
		if r, err := fourth.Verify(ctx, audit.VerifyConfig{Key: key}); err != nil || r.Key != newest {
			t.Errorf("Verify for an auditor with the key %q = %+v, %v", key, r, err)
		}
	}
	stranger, err := group.LoadSigner(filepath.Join(t.TempDir(), "audit.key"), first.Origin())
	must(err)
	if _, err := fourth.Verify(ctx, audit.VerifyConfig{Key: stranger.VerifierKey()}); err == nil {
		t.Error("Verify for an auditor with another key = nil")
	}
	if changes := fourth.KeyChanges(); len(changes) != 2 || changes[0].From != 4 || changes[1].Key != newest {
		t.Errorf("changes of the key: %+v", changes)
	}
}
