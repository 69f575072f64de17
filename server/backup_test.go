package server

import (
	"bytes"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kaizen-go/kaizen/audit"
	"github.com/kaizen-go/kaizen/server/internal/backup"
)

// TestBackupWhileServing takes backups of a server while it is written to. Each
// is a data directory that a server starts on, with all that was acknowledged
// before.
func TestBackupWhileServing(t *testing.T) {
	cfg := testConfig(t)
	cfg.APIKeys = []string{testKey}
	s := start(t, cfg)
	key := []string{"Authorization", "Bearer " + testKey, "Content-Type", "application/json"}
	if status, _, _ := call(t, http.MethodGet, s.UIURL()+"/api/backup", nil); status != http.StatusUnauthorized {
		t.Errorf("backup without a key: status %d, want 401", status)
	}
	post := func(action string) {
		body := `{"agent_id":"a","action":"` + action + `","result":"success"}`
		if status, _, text := call(t, http.MethodPost, s.UIURL()+"/api/audit", []byte(body), key...); status != http.StatusOK {
			t.Errorf("append: %d %s", status, text)
		}
	}
	for range 20 {
		post("before")
	}
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			default:
				post("meanwhile")
			}
		}
	}()
	for range 3 {
		status, header, body := call(t, http.MethodGet, s.UIURL()+"/api/backup", nil, key...)
		if status != http.StatusOK || header.Get("Content-Type") != "application/zstd" {
			t.Fatalf("backup: %d %v", status, header)
		}
		checkBackup(t, body)
	}
	close(stop)
	<-done
	if left, err := filepath.Glob(filepath.Join(cfg.DataDir, "backup-*")); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// checkBackup restores an archive, verifies its ledger, and starts a server on it.
func checkBackup(t *testing.T, body string) {
	t.Helper()
	cfg := testConfig(t)
	m, err := backup.Restore(t.Context(), bytes.NewReader([]byte(body)), cfg.DataDir, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range m.Files {
		if strings.HasPrefix(f.Path, "keys/") {
			t.Errorf("a server gave the key %s", f.Path)
		}
	}
	report, err := audit.Verify(t.Context(), filepath.Join(cfg.DataDir, ledgerFolder), audit.VerifyConfig{})
	if err != nil || !report.Clean || report.Checkpoint.Size != m.Ledger.Size {
		t.Fatalf("Verify: %+v, %v", report, err)
	}
	r, err := audit.OpenReader(filepath.Join(cfg.DataDir, ledgerFolder))
	if err != nil {
		t.Fatal(err)
	}
	n, err := r.Count(t.Context(), audit.Query{Action: "before"})
	if err != nil || n != 20 {
		t.Errorf("%d entries that were acknowledged before the backup, want 20: %v", n, err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if reader, err := OpenReader(t.Context(), cfg.DataDir, "test"); err != nil {
		t.Errorf("the restored directory does not open: %v", err)
	} else if err := reader.Close(); err != nil {
		t.Error(err)
	}
}
