package kaizen

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/kaizen-go/kaizen/audit"
)

// TestUserCanBeForgotten records what an agent did for a user, finds no word of
// it in the files, and forgets the user.
func TestUserCanBeForgotten(t *testing.T) {
	dir := t.TempDir()
	obs, err := Start(t.Context(), Config{ServiceName: "svc", AuditDir: filepath.Join(dir, "audit"), Off: Traces | Metrics | Logs})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := obs.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
	}()
	r, err := obs.Audit().Record(t.Context(), audit.Entry{
		Action: "mail.send", Result: audit.Success, UserID: "user-maria", Details: map[string]any{"tool": "mail", "to": "someone at home"},
	})
	if err != nil {
		t.Fatal(err)
	}
	l := obs.Audit().Ledger()
	if e, err := l.Get(t.Context(), r.Index); err != nil || e.UserID != "user-maria" || e.Details["to"] != "someone at home" {
		t.Errorf("entry %+v, %v; want it as it was recorded", e, err)
	}
	if err := l.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		if bytes.Contains(b, []byte("user-maria")) || bytes.Contains(b, []byte("at home")) {
			t.Errorf("%s has it in clear", path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if x, err := l.Erase(t.Context(), audit.Erasure{Subject: "user-maria"}); err != nil || x.Entries != 1 {
		t.Fatalf("Erase = %+v, %v", x, err)
	}
	if e, err := l.Get(t.Context(), r.Index); err != nil || e.Withheld.UserID != audit.Erased || e.Details["tool"] != "mail" || len(e.Details) != 1 {
		t.Errorf("entry after the erasure: %+v, %v", e, err)
	}
}
