package postgres_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/kaizen-go/kaizen/audit"
	"github.com/kaizen-go/kaizen/kaizentest"
	"github.com/kaizen-go/kaizen/server/backend/postgres"
	"github.com/kaizen-go/kaizen/server/internal/pgtest"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

var schemas atomic.Int64

// fresh is the configuration of a new ledger in a schema of its own.
func fresh(t testing.TB) postgres.Config {
	return postgres.Config{
		DSN: pgtest.DSN(t), Schema: fmt.Sprintf("ledger_%d", schemas.Add(1)),
		KeyFile: filepath.Join(t.TempDir(), "audit.key"), Origin: "example.org/postgres",
	}
}

func open(t testing.TB, cfg postgres.Config) *postgres.Ledger {
	t.Helper()
	l, err := postgres.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

func TestConformance(t *testing.T) {
	kaizentest.TestLedger(t, func(t *testing.T) func() (audit.Backend, error) {
		cfg := fresh(t)
		return func() (audit.Backend, error) { return postgres.Open(context.Background(), cfg) }
	})
}

func TestOutward(t *testing.T) {
	kaizentest.TestOutward(t, func(t *testing.T) func(audit.OutwardConfig) (audit.Backend, error) {
		cfg := fresh(t)
		return func(o audit.OutwardConfig) (audit.Backend, error) {
			cfg.Outward = o
			return postgres.Open(context.Background(), cfg)
		}
	})
}
