// Package otlp sends spans, metrics, log records and JSON lines to a server
// over OTLP/HTTP with protobuf bodies.
//
// Nothing here waits for the network on the caller's path: a record goes into
// a queue bounded in bytes, a goroutine gathers batches bounded in bytes, and
// what the server cannot take now waits on disk, where it survives the process.
// Every record that is given up is counted with the reason.
//
//	exp, err := otlp.NewExporter(otlp.Config{SpoolDir: "/var/lib/app/spool"})
//	…
//	tp := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(exp.SpanProcessor()))
//	stop, err := exp.PushMetrics(ctx, registry, 15*time.Second)
//	…
//	err = errors.Join(stop(ctx), exp.Shutdown(ctx))
//
// The messages are written with protowire alone: no generated OTLP code and no
// gRPC is linked. Delivery is at least once: a request whose answer was lost is
// sent again with the same bytes.
package otlp

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/kaizen-go/kaizen/internal/ship"
)

// ErrClosed is returned by what is asked of an exporter after its Shutdown.
var ErrClosed = ship.ErrClosed

// Exporter sends what a process records. Its methods may be called at once.
type Exporter struct {
	cfg     Config
	started time.Time
	traces  *spanQueue
	metrics *metricQueue
	logs    *logQueue

	opening   sync.Mutex      // one NewLines at a time
	lineNames map[string]bool // names of their spools

	mu      sync.Mutex
	closed  bool
	pushers []*pusher
	lines   map[string]*Lines            // by URL
	clients map[*tls.Config]*http.Client // ours, not the caller's
}

// NewExporter checks the configuration, opens the spools, if they are asked for,
// takes over what dead processes left in them, and starts sending. A server that
// is away is no error. [Exporter.Shutdown] must be called.
func NewExporter(cfg Config) (*Exporter, error) {
	cfg = cfg.withDefaults()
	e := &Exporter{
		cfg: cfg, started: time.Now(),
		traces: &spanQueue{}, metrics: &metricQueue{}, logs: &logQueue{},
		lines: map[string]*Lines{}, lineNames: map[string]bool{}, clients: map[*tls.Config]*http.Client{},
	}
	traces, err1 := cfg.signal(cfg.Traces, "v1/traces")
	metrics, err2 := cfg.signal(cfg.Metrics, "v1/metrics")
	logs, err3 := cfg.signal(cfg.Logs, "v1/logs")
	if err := errors.Join(err1, err2, err3); err != nil {
		return nil, err
	}
	e.traces.Shipper, err1 = ship.New(e.traces.config(shipConfig[spanItem](cfg, traces, "traces", e.client(traces))))
	e.metrics.Shipper, err2 = ship.New(e.metrics.config(shipConfig[[]byte](cfg, metrics, "metrics", e.client(metrics)), cfg.Resource))
	e.logs.Shipper, err3 = ship.New(e.logs.config(shipConfig[*LogRecord](cfg, logs, "logs", e.client(logs)), cfg.Resource))
	if err := errors.Join(err1, err2, err3); err != nil {
		return nil, fmt.Errorf("otlp: new exporter: %w", errors.Join(err, e.closeOpened()))
	}
	return e, nil
}

// closeOpened shuts down what a failed start has opened; nothing is queued yet.
func (e *Exporter) closeOpened() error {
	ctx := context.Background()
	var errs []error
	if e.traces.Shipper != nil {
		errs = append(errs, e.traces.Shutdown(ctx))
	}
	if e.metrics.Shipper != nil {
		errs = append(errs, e.metrics.Shutdown(ctx))
	}
	if e.logs.Shipper != nil {
		errs = append(errs, e.logs.Shutdown(ctx))
	}
	return errors.Join(errs...)
}

// shipConfig is what the signals have in common.
func shipConfig[T any](c Config, s Signal, name string, client *http.Client) ship.Config[T] {
	return ship.Config[T]{
		Name:           name,
		URL:            s.URL,
		ContentType:    "application/x-protobuf",
		Headers:        s.Headers,
		Client:         client,
		Timeout:        s.Timeout,
		NoGzip:         s.Compression == NoGzip,
		PartialSuccess: partialSuccess,
		QueueBytes:     c.QueueBytes,
		BatchBytes:     c.BatchBytes,
		FlushDelay:     c.FlushDelay,
		SpoolDir:       c.SpoolDir,
		SpoolBytes:     c.SpoolBytes,
		Logger:         c.Logger,
	}
}

// client returns the client for a signal; signals with the same TLS settings
// share one and its connections.
func (e *Exporter) client(s Signal) *http.Client {
	if e.cfg.HTTPClient != nil {
		return e.cfg.HTTPClient
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	c := e.clients[s.TLS]
	if c == nil {
		c = e.cfg.newClient(s.TLS)
		e.clients[s.TLS] = c
	}
	return c
}

func (e *Exporter) closeIdle() {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, c := range e.clients {
		c.CloseIdleConnections()
	}
}

// way is what the exporter asks of the queue of a signal.
type way interface {
	Flush(context.Context) error
	Shutdown(context.Context) error
}

// ways returns the queues of all signals.
func (e *Exporter) ways() []way {
	e.mu.Lock()
	defer e.mu.Unlock()
	all := []way{e.traces, e.metrics, e.logs}
	for _, l := range e.lines {
		all = append(all, l.queue)
	}
	return all
}

// atOnce does something with all queues at the same time and joins the errors.
func atOnce(all []way, do func(way) error) error {
	errs := make([]error, len(all))
	var wg sync.WaitGroup
	for i, w := range all {
		wg.Go(func() { errs[i] = do(w) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// Flush pushes metrics out of turn, sends what was taken before the call and waits for the answers. It
// returns nil when all of it was acknowledged; an error when some was dropped
// meanwhile, or is still in memory or on disk when ctx ends.
func (e *Exporter) Flush(ctx context.Context) error {
	e.mu.Lock()
	pushers := slices.Clone(e.pushers)
	e.mu.Unlock()
	for _, p := range pushers {
		p.pushNow(ctx)
	}
	if err := atOnce(e.ways(), func(w way) error { return w.Flush(ctx) }); err != nil {
		return fmt.Errorf("otlp: flush: %w", err)
	}
	return nil
}

// Shutdown makes a last push of the metrics, refuses further records, sends what
// is waiting, and spools what cannot be sent by shortly before ctx's deadline
// (without one, in 10 s). Without a spool that is dropped and counted, and an
// error says how much. It may be called again.
func (e *Exporter) Shutdown(ctx context.Context) error {
	e.mu.Lock()
	e.closed = true
	pushers := e.pushers
	e.pushers = nil
	e.mu.Unlock()
	var errs []error
	for _, p := range pushers {
		errs = append(errs, p.stop(ctx))
	}
	errs = append(errs, atOnce(e.ways(), func(w way) error { return w.Shutdown(ctx) }))
	e.closeIdle()
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("otlp: shut down: %w", err)
	}
	return nil
}
