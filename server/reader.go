package server

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"os"
	"path/filepath"

	"github.com/kaizen-go/kaizen/audit"
	"github.com/kaizen-go/kaizen/price"
	"github.com/kaizen-go/kaizen/server/internal/api"
	"github.com/kaizen-go/kaizen/server/internal/store"
)

// Reader answers the JSON API over a data directory that no server holds. It
// has the directory's lock until [Reader.Close].
type Reader struct {
	api   http.Handler
	stops stopList
}

// ErrNoData means that a directory holds no data of a server.
var ErrNoData = errors.New("holds no data of a server")

// OpenReader opens the data directory dir for command, whose name others see
// while they wait for it. A directory that no server has used is [ErrNoData];
// one that another process holds is [ErrLocked].
func OpenReader(ctx context.Context, dir, command string) (*Reader, error) {
	telemetry := filepath.Join(dir, telemetryFolder)
	if _, err := os.Stat(telemetry); errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("server: %s: %w", dir, ErrNoData)
	}
	r := &Reader{}
	if err := r.open(ctx, dir, command); err != nil {
		return nil, errors.Join(err, r.stops.run(ctx))
	}
	return r, nil
}

func (r *Reader) open(ctx context.Context, dir, command string) error {
	l, err := takeLock(ctx, dir, command)
	if err != nil {
		return err
	}
	r.stops.addClose("lock", l.release)
	cfg := api.Config{}
	if cfg.Ledger, err = r.openLedger(filepath.Join(dir, ledgerFolder)); err != nil {
		return err
	}
	st, err := store.Open(filepath.Join(dir, telemetryFolder), store.Config{
		// What is on disk was within the server's bounds: it has to be read.
		MaxResidentBytes: math.MaxInt64,
		MaxItems:         math.MaxInt64,
		Pricer:           price.Default(),
	})
	if err != nil {
		return fmt.Errorf("server: open telemetry: %w", err)
	}
	r.stops.addClose("telemetry", st.Close)
	cfg.Store = st
	r.api = api.New(cfg)
	return nil
}

// openLedger returns nil where there is no ledger.
func (r *Reader) openLedger(dir string) (api.Ledger, error) {
	if _, err := os.Stat(dir); errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	l, err := audit.OpenReader(dir)
	if err != nil {
		return nil, fmt.Errorf("server: open ledger: %w", err)
	}
	r.stops.addClose("ledger", l.Close)
	return readLedger{l}, nil
}

// Handler answers what is under /api/, without any check of who asks.
func (r *Reader) Handler() http.Handler { return r.api }

// Close closes the stores and gives the lock up.
func (r *Reader) Close() error { return r.stops.run(context.Background()) }
