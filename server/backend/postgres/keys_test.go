package postgres_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/kaizen-go/kaizen/audit"
	"github.com/kaizen-go/kaizen/server/backend/internal/grouptest"
	"github.com/kaizen-go/kaizen/server/backend/postgres"
)

func TestRotation(t *testing.T) {
	cfg := fresh(t)
	grouptest.Rotation(t, cfg.KeyFile, func(keyFile string) grouptest.Ledger {
		cfg.KeyFile = keyFile
		return open(t, cfg)
	})
}

// What the new tables say is compared with the entries, and the database lets
// nobody change the key of the ledger without a change that both keys signed.
func TestKeysTampered(t *testing.T) {
	for _, tt := range []struct{ name, sql, table string }{
		{"change of the key removed", "DELETE FROM %s.keys", "keys"},
		{"its columns changed", "UPDATE %s.keys SET from_size = from_size + 1", "keys"},
		{"bytes of a partition", "UPDATE %s.totals SET bytes = bytes + 1", "totals"},
		{"oldest entry of a partition", "UPDATE %s.totals SET oldest = oldest - 1", "totals"},
		{"cosigned checkpoint", "INSERT INTO %s.cosigned (size, note) VALUES (1, 'x')", "checkpoints"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cfg := fresh(t)
			l := open(t, cfg)
			fill(t, l, 3)
			if _, _, err := l.RotateKey(t.Context()); err != nil {
				t.Fatal(err)
			}
			fill(t, l, 3)
			if _, err := l.Verify(t.Context(), audit.VerifyConfig{}); err != nil {
				t.Fatal(err)
			}
			exec(t, superuser(t, cfg, true), fmt.Sprintf(tt.sql, cfg.Schema))
			_, err := l.Verify(t.Context(), audit.VerifyConfig{})
			damage, ok := errors.AsType[*audit.TamperError](err)
			if !ok || damage.Path != tt.table {
				t.Errorf("Verify = %v, want damage in %s", err, tt.table)
			}
		})
	}
}

// Stats follow what retention removes.
func TestStatsAfterRetention(t *testing.T) {
	cfg := fresh(t)
	l := open(t, cfg)
	fill(t, l, 4)
	before := l.Stats()
	// A month goes by.
	exec(t, superuser(t, cfg, true), "UPDATE "+cfg.Schema+".head SET at = at + interval '31 days'")
	fill(t, l, 2)
	removed, err := l.Retain(t.Context(), postgres.RetainConfig{Before: time.Now().Add(20 * 24 * time.Hour)})
	if err != nil || len(removed) != 1 {
		t.Fatalf("Retain = %+v, %v", removed, err)
	}
	st := l.Stats()
	if st.Pruned != 4 || st.Entries != 7 || !st.Oldest.After(before.Oldest) || st.Bytes == 0 || st.Segments != 1 || st.Stored == 0 {
		t.Errorf("Stats = %+v after %+v", st, before)
	}
	if _, err := l.Verify(t.Context(), audit.VerifyConfig{}); err != nil {
		t.Error(err)
	}
}

// Tables of the first version are brought to the present one with what they hold.
func TestMigrateTotals(t *testing.T) {
	cfg := fresh(t)
	l := open(t, cfg)
	fill(t, l, 5)
	want := l.Stats()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	conn := superuser(t, cfg, true)
	exec(t, conn, fmt.Sprintf("DROP TABLE %[1]s.keys, %[1]s.cosigned, %[1]s.totals; DELETE FROM %[1]s.migrations WHERE version = 2", cfg.Schema), pgx.QueryExecModeSimpleProtocol)
	l = open(t, cfg)
	if got := l.Stats(); got.Bytes != want.Bytes || !got.Oldest.Equal(want.Oldest) || !got.Newest.Equal(want.Newest) {
		t.Errorf("Stats = %+v, want %+v", got, want)
	}
	fill(t, l, 5)
	if _, _, err := l.RotateKey(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := l.Verify(t.Context(), audit.VerifyConfig{}); err != nil {
		t.Error(err)
	}
}
