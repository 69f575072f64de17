package postgres

import (
	"path/filepath"
	"testing"

	"github.com/kaizen-go/kaizen/audit"
	"github.com/kaizen-go/kaizen/server/backend/internal/pgwire"
	"github.com/kaizen-go/kaizen/server/internal/pgtest"
)

// TestVerifyWhileAppending appends, and changes the key, after Verify has taken
// its snapshot: what this process knows of that is no sign of a rollback.
func TestVerifyWhileAppending(t *testing.T) {
	ctx := t.Context()
	l, err := Open(ctx, Config{DSN: pgtest.DSN(t), Schema: "verify_live", KeyFile: filepath.Join(t.TempDir(), "ledger.key")})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}()
	entry := audit.Entry{AgentID: "a", Action: "x", Result: audit.Success}
	if _, err := l.Append(ctx, entry); err != nil {
		t.Fatal(err)
	}
	v := newVerifier(l, audit.VerifyConfig{})
	err = l.pool.InTx(ctx, "ISOLATION LEVEL REPEATABLE READ, READ ONLY", func(tx *pgwire.Conn) error {
		var size int64
		if err := tx.QueryRow(ctx, "SELECT size FROM "+l.cfg.Schema+".head").Scan(&size); err != nil {
			return err
		}
		if _, err := l.Append(ctx, entry); err != nil {
			return err
		}
		if _, _, err := l.RotateKey(ctx); err != nil {
			return err
		}
		return v.check(ctx, tx)
	})
	if err != nil || v.report.Checkpoint.Size != 1 {
		t.Errorf("Verify = %+v, %v; want the one entry of the snapshot", v.report, err)
	}
}
