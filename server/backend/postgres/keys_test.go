package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

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
		{"bytes of a partition, below zero", "UPDATE %s.totals SET bytes = -bytes", "totals"},
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

// Tables of the first version are brought to the present one with what they hold
// and the rights of their roles.
func TestMigrateTotals(t *testing.T) {
	cfg := fresh(t)
	l := open(t, cfg)
	fill(t, l, 5)
	want := l.Stats()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	conn := superuser(t, cfg, true)
	first, err := os.ReadFile(filepath.Join("migrations", "0001_ledger.sql"))
	if err != nil {
		t.Fatal(err)
	}
	_, grow, _ := strings.Cut(string(first), "CREATE FUNCTION {{schema}}.grow()")
	grow, _, _ = strings.Cut(grow, "\n\n")
	role := cfg.Schema + "_writer"
	for _, text := range []string{
		"DROP TABLE {{schema}}.keys, {{schema}}.cosigned, {{schema}}.totals; DELETE FROM {{schema}}.migrations WHERE version >= 2",
		"CREATE OR REPLACE FUNCTION {{schema}}.grow()" + grow,
		"CREATE ROLE " + role + " LOGIN; GRANT USAGE ON SCHEMA {{schema}} TO " + role,
		"GRANT SELECT ON ALL TABLES IN SCHEMA {{schema}} TO " + role,
		"GRANT INSERT ON {{schema}}.entries, {{schema}}.nodes, {{schema}}.checkpoints TO " + role,
		"GRANT UPDATE (size, edge, note, at, published) ON {{schema}}.head TO " + role,
		"GRANT EXECUTE ON FUNCTION {{schema}}.add_partition(text, bigint, timestamptz, timestamptz) TO " + role,
	} {
		exec(t, conn, strings.ReplaceAll(text, "{{schema}}", cfg.Schema), pgx.QueryExecModeSimpleProtocol)
	}
	l = open(t, cfg)
	if got := l.Stats(); got.Bytes != want.Bytes || !got.Oldest.Equal(want.Oldest) || !got.Newest.Equal(want.Newest) {
		t.Errorf("Stats = %+v, want %+v", got, want)
	}
	writer := cfg
	writer.DSN = strings.Replace(cfg.DSN, "user=kaizen", "user="+role, 1)
	w := open(t, writer)
	fill(t, w, 5)
	if _, _, err := w.RotateKey(t.Context()); err != nil {
		t.Errorf("RotateKey as a writer of before: %v", err)
	}
	fill(t, l, 5)
	if _, err := w.Verify(t.Context(), audit.VerifyConfig{}); err != nil {
		t.Error(err)
	}
}

// A program of before, which was started when the tables had no totals, cannot
// append beside one of now: the database refuses, and nothing is damaged. What it
// appended while that was possible is counted.
func TestOldProgramRefused(t *testing.T) {
	cfg := fresh(t)
	l := open(t, cfg)
	fill(t, l, 5)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	conn := superuser(t, cfg, true)
	exec(t, conn, fmt.Sprintf("UPDATE %[1]s.totals SET bytes = bytes - 7, oldest = oldest + 1; DELETE FROM %[1]s.migrations WHERE version = 3", cfg.Schema), pgx.QueryExecModeSimpleProtocol)
	l = open(t, cfg)
	if _, err := l.Verify(t.Context(), audit.VerifyConfig{}); err != nil {
		t.Errorf("after totals that were wrong: %v", err)
	}
	old := superuser(t, cfg, false)
	move := fmt.Sprintf("UPDATE %s.head SET size = size + 1, edge = edge, note = note, at = clock_timestamp(), published = published", cfg.Schema)
	for range 2 { // also after others have counted
		_, err := old.Exec(t.Context(), move)
		refusal, ok := errors.AsType[*pgconn.PgError](err)
		if !ok || refusal.Code != "0A000" || !strings.Contains(refusal.Message, "later version than this program") {
			t.Fatalf("the head moved without totals: %v, want that refused", err)
		}
		fill(t, l, 5)
	}
	if _, err := l.Verify(t.Context(), audit.VerifyConfig{}); err != nil || l.Size() != 15 {
		t.Errorf("Verify of %d entries = %v, want 15 and nil", l.Size(), err)
	}
}

// Whoever appends while the tables are brought to the present version, as a
// program of before does, is waited for: its entries are in the totals.
func TestMigrateWaits(t *testing.T) {
	cfg := fresh(t)
	l := open(t, cfg)
	fill(t, l, 5)
	want := l.Stats()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	conn := superuser(t, cfg, true)
	exec(t, conn, fmt.Sprintf("DROP TABLE %[1]s.keys, %[1]s.cosigned, %[1]s.totals; DELETE FROM %[1]s.migrations WHERE version >= 2", cfg.Schema), pgx.QueryExecModeSimpleProtocol)
	exec(t, conn, "BEGIN")
	exec(t, conn, fmt.Sprintf("SELECT FROM %s.head FOR UPDATE", cfg.Schema))
	opened := make(chan error, 1)
	go func() {
		l, err := postgres.Open(context.WithoutCancel(t.Context()), cfg)
		if err == nil {
			err = l.Close()
		}
		opened <- err
	}()
	look := superuser(t, cfg, false)
	for waits := false; !waits; { // until the migration waits for head
		select {
		case err := <-opened:
			t.Fatalf("Open did not wait for whoever appends: %v", err)
		default:
		}
		err := look.QueryRow(t.Context(), "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND relation = $1::regclass)", cfg.Schema+".head").Scan(&waits)
		if err != nil {
			t.Fatal(err)
		}
	}
	exec(t, conn, "COMMIT")
	if err := <-opened; err != nil {
		t.Fatal(err)
	}
	if got := open(t, cfg).Stats(); got.Bytes != want.Bytes {
		t.Errorf("%d bytes, want %d", got.Bytes, want.Bytes)
	}
}
