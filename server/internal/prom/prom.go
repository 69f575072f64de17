// Package prom keeps the server's metrics: Prometheus's storage and query
// engine behind one small API, so that nothing else in the server depends on
// libraries that promise no compatibility between releases.
//
// It takes OTLP metrics, remote write and the server's own registry in, and
// answers the Prometheus HTTP API:
//
//	db, err := prom.Open(dir, prom.Config{})
//	rejected, err := db.AppendMetrics(ctx, md) // OTLP; durable when it returns
//	stop := db.SelfScrape(registry, 15*time.Second, map[string]string{"job": "kaizen"})
//	mux.Handle("/prometheus/", db.Handler())
//
// The configuration, discovery and web packages of Prometheus are not used. Its
// storage links the first two all the same; the third would add 16 MB.
package prom

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"path/filepath"
	"sync"
	"time"

	"github.com/kaizen-go/kaizen/metrics"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/util/compression"
)

// NoOutOfOrder as [Config.OutOfOrderWindow] refuses every sample that is older
// than the newest one of its series.
const NoOutOfOrder = time.Duration(-1)

// Config tunes a [DB]. The zero value is fit for production.
type Config struct {
	// Retention is how long samples are kept. If zero, 30 days.
	Retention time.Duration
	// RetentionBytes bounds the size of finished blocks on disk, in bytes; the
	// oldest go first. If zero, only Retention counts.
	RetentionBytes int64
	// OutOfOrderWindow is how far a sample may lie behind the newest sample
	// stored. If zero, one hour; [NoOutOfOrder] allows none.
	OutOfOrderWindow time.Duration
	// MaxSeries bounds the series held in memory (those written to in the last
	// hours). A data point that would create one more is refused and counted.
	// If zero, 500,000, which take about 2 GB. The server's own metrics are not
	// refused.
	MaxSeries int
	// MaxDeltaSeries bounds the running totals kept for delta sums and
	// histograms. When full, totals idle for an hour make room; if there are
	// none the point is refused and counted. If zero, 50,000.
	MaxDeltaSeries int
	// MaxExemplars is the size of the ring of exemplars in memory, about 100
	// bytes each. If zero, 100,000.
	MaxExemplars int
	// QueryTimeout bounds one query, waiting included. If zero, 2 minutes.
	QueryTimeout time.Duration
	// MaxSamples bounds the samples one query may hold in memory, 16 bytes each.
	// If zero, 20 million.
	MaxSamples int
	// MaxConcurrent is how many queries run at once; more wait until their
	// timeout. If zero, 8.
	MaxConcurrent int
	// Exemplars, if not nil, is asked by query_exemplars besides the exemplars
	// that came with samples.
	Exemplars ExemplarSource
	// Version is the server's own version, shown by status/buildinfo.
	Version string
	// Metrics, if not nil, counts the data points that are refused in
	// kaizen_telemetry_dropped_total too, with their reasons. Leave it out where
	// the caller counts what AppendMetrics reports there itself.
	Metrics *metrics.Metrics
	// Logger receives what the storage has to say. If nil, nothing is logged.
	Logger *slog.Logger
	// Registerer receives the metrics of storage and engine, and the refused
	// points by reason (kaizen_server_samples_refused_total). If nil, they are
	// counted but not exposed.
	Registerer prometheus.Registerer

	// now is the clock; tests set it.
	now func() time.Time
	// syncFile makes a file of the write-ahead log durable; tests set it.
	syncFile func(path string) error
}

func (c Config) withDefaults() Config {
	def := func(v *int, d int) {
		if *v == 0 {
			*v = d
		}
	}
	def(&c.MaxSeries, 500_000)
	def(&c.MaxDeltaSeries, 50_000)
	def(&c.MaxExemplars, 100_000)
	def(&c.MaxSamples, 20_000_000)
	def(&c.MaxConcurrent, 8)
	if c.Retention == 0 {
		c.Retention = 30 * 24 * time.Hour
	}
	if c.OutOfOrderWindow == 0 {
		c.OutOfOrderWindow = time.Hour
	}
	if c.QueryTimeout == 0 {
		c.QueryTimeout = 2 * time.Minute
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.now == nil {
		c.now = time.Now
	}
	if c.syncFile == nil {
		c.syncFile = syncFile
	}
	return c
}

// ErrClosed is returned by appends to a closed [DB].
var ErrClosed = errors.New("metrics store is closed")

// DB is a metrics store. All methods may be called at once.
type DB struct {
	cfg     Config
	dir     string
	tsdb    *tsdb.DB
	engine  *promql.Engine
	parser  parser.Parser
	slots   *slots
	meta    *metadataStore
	deltas  *deltaState
	wal     *walSync
	refused *prometheus.CounterVec // by reason

	// createMu is held while series are created, so that MaxSeries is exact.
	createMu sync.Mutex

	// life guards against an append that starts after Close.
	life   sync.RWMutex
	closed bool
	// scrapes are the running self-scrapes; Close stops them first.
	scrapesMu sync.Mutex
	scrapes   map[*scrapeLoop]struct{}
}

// Open opens the store in dir, creating it if absent, and replays its
// write-ahead log. The store holds a lock on dir until [DB.Close].
func Open(dir string, cfg Config) (*DB, error) {
	cfg = cfg.withDefaults()
	db := &DB{
		cfg:     cfg,
		dir:     dir,
		slots:   newSlots(cfg.MaxConcurrent),
		meta:    newMetadataStore(),
		deltas:  newDeltaState(cfg.MaxDeltaSeries),
		wal:     newWALSync(dir, cfg.syncFile),
		scrapes: map[*scrapeLoop]struct{}{},
		parser:  parser.NewParser(parser.Options{}),
	}
	opts := tsdb.DefaultOptions()
	opts.RetentionDuration = cfg.Retention.Milliseconds()
	opts.MaxBytes = cfg.RetentionBytes
	opts.MinBlockDuration = tsdb.DefaultBlockDuration
	opts.MaxBlockDuration = maxBlockDuration(cfg.Retention)
	opts.WALCompression = compression.Snappy
	opts.OutOfOrderTimeWindow = max(0, cfg.OutOfOrderWindow.Milliseconds())
	opts.EnableExemplarStorage = true
	opts.MaxExemplars = int64(cfg.MaxExemplars)
	opts.FloatChunkEncoding = chunkenc.EncXOR
	var err error
	if db.refused, err = newRefused(cfg.Registerer); err != nil {
		return nil, fmt.Errorf("prom: register metrics: %w", err)
	}
	if db.tsdb, err = tsdb.Open(dir, cfg.Logger, cfg.Registerer, opts, tsdb.NewDBStats()); err != nil {
		return nil, fmt.Errorf("prom: open %s: %w", dir, err)
	}
	db.engine = promql.NewEngine(promql.EngineOpts{
		Logger:                   cfg.Logger,
		Reg:                      cfg.Registerer,
		MaxSamples:               cfg.MaxSamples,
		Timeout:                  cfg.QueryTimeout,
		ActiveQueryTracker:       db.slots,
		LookbackDelta:            lookback,
		NoStepSubqueryIntervalFn: func(int64) int64 { return time.Minute.Milliseconds() },
		EnableAtModifier:         true,
		EnableNegativeOffset:     true,
		EnablePerStepStats:       true,
		Parser:                   db.parser,
	})
	return db, nil
}

// lookback is how old a sample may be and still answer an instant query:
// Prometheus's own default.
const lookback = 5 * time.Minute

// maxBlockDuration follows Prometheus: blocks grow to a tenth of the retention,
// at most 31 days, so that an expired block frees space in useful steps.
func maxBlockDuration(retention time.Duration) int64 {
	d := min(retention/10, 31*24*time.Hour)
	return max(d.Milliseconds(), tsdb.DefaultBlockDuration)
}

// SeriesCount returns the number of series in memory: those written to since
// the last blocks were cut.
func (db *DB) SeriesCount() int {
	return int(min(db.tsdb.Head().NumSeries(), math.MaxInt))
}

// SizeBytes returns the bytes that the store takes on disk: blocks, head and
// write-ahead log.
func (db *DB) SizeBytes() int64 {
	size := db.tsdb.Head().Size()
	for _, b := range db.tsdb.Blocks() {
		size += b.Size()
	}
	return size
}

// Close stops self-scrapes, waits for running appends, and closes the storage.
// It may be called twice; the second call does nothing.
func (db *DB) Close() error {
	for _, s := range db.takeScrapes() {
		s.stop()
	}
	db.life.Lock()
	defer db.life.Unlock()
	if db.closed {
		return nil
	}
	db.closed = true
	syncErr := db.wal.sync(db.wal.ticket())
	if err := errors.Join(syncErr, db.engine.Close(), db.tsdb.Close()); err != nil {
		return fmt.Errorf("prom: close %s: %w", filepath.Clean(db.dir), err)
	}
	return nil
}

// enter marks the start of an append or a query; the caller calls leave.
func (db *DB) enter() (leave func(), err error) {
	db.life.RLock()
	if db.closed {
		db.life.RUnlock()
		return nil, ErrClosed
	}
	return db.life.RUnlock, nil
}

// slots bounds the queries that run at once. It is the engine's query tracker.
type slots struct{ free chan struct{} }

func newSlots(n int) *slots { return &slots{free: make(chan struct{}, n)} }

// Insert waits for a free slot until ctx is done.
func (s *slots) Insert(ctx context.Context, _ string) (int, error) {
	select {
	case s.free <- struct{}{}:
		return 0, nil
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

// Delete frees a slot.
func (s *slots) Delete(int) { <-s.free }

// GetMaxConcurrent returns the number of slots.
func (s *slots) GetMaxConcurrent() int { return cap(s.free) }

// Close does nothing: slots hold no resource.
func (*slots) Close() error { return nil }
