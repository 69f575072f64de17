package otlp

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/sdk/instrumentation"
	"go.opentelemetry.io/otel/sdk/resource"

	"github.com/kaizen-go/kaizen/internal/ship"
)

// DefaultPushEvery is how often metrics are pushed unless PushMetrics says
// otherwise: what Prometheus scrapes at by convention.
const DefaultPushEvery = 15 * time.Second

// scopeName names this package as the instrumentation scope of pushed metrics.
const scopeName = "github.com/kaizen-go/kaizen/otlp"

// metricQueue is the way out of metrics: its records are Metric messages.
type metricQueue struct {
	*ship.Shipper[[]byte]
	enc       encoder // the shipper's goroutine
	gatherErr atomic.Int64
}

func (q *metricQueue) config(c ship.Config[[]byte], res *resource.Resource) ship.Config[[]byte] {
	from := origin{res, instrumentation.Scope{Name: scopeName}}
	c.Cost = func(m []byte) int { return len(m) }
	c.Encode = func(dst []byte, m []byte) ([]byte, error) { return append(dst, m...), nil }
	c.Frame = func(dst []byte, parts []ship.Part[[]byte]) []byte {
		return q.enc.envelope(dst, len(parts), func(i int) ([]byte, origin) { return parts[i].Data, from })
	}
	return c
}

// PushMetrics gathers from g every so often (zero: 15 s) and sends what it finds
// with cumulative temporality: counters keep their names and are monotonic sums,
// classic histograms have explicit bounds, native ones are exponential. Exemplars
// with the labels trace_id and span_id point to their span. A series starts when
// it says it was created, or else when the exporter was made.
//
// stop ends the pushing after a last push, which [Exporter.Flush] or
// [Exporter.Shutdown] then sends; it waits for both until its context ends.
// When ctx ends, the pushing ends without a last push. Exporter.Shutdown stops
// every push that is still going on.
func (e *Exporter) PushMetrics(ctx context.Context, g prometheus.Gatherer, every time.Duration) (stop func(context.Context) error, err error) {
	if g == nil {
		return nil, errors.New("otlp: push metrics: no gatherer")
	}
	if every < 0 {
		return nil, fmt.Errorf("otlp: push metrics every %v: negative", every)
	}
	set(&every, DefaultPushEvery)
	p := &pusher{e: e, gatherer: g, every: every, asked: make(chan chan struct{}), quit: make(chan struct{}), done: make(chan struct{})}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return nil, fmt.Errorf("otlp: push metrics: %w", ErrClosed)
	}
	e.pushers = append(e.pushers, p)
	go p.run(ctx)
	return p.stop, nil
}

// pusher is one loop that pushes metrics.
type pusher struct {
	e        *Exporter
	gatherer prometheus.Gatherer
	every    time.Duration
	asked    chan chan struct{} // a push out of turn; the sender gets it closed
	quit     chan struct{}      // closed by stop
	once     sync.Once
	done     chan struct{} // closed when run has returned
	err      error         // of the last push; read after done
}

func (p *pusher) run(ctx context.Context) {
	defer close(p.done)
	tick := time.NewTicker(p.every)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			p.err = p.push()
		case <-ctx.Done():
			return
		case pushed := <-p.asked:
			p.err = p.push()
			close(pushed)
		case <-p.quit:
			p.err = p.push()
			return
		}
	}
}

// pushNow makes a push out of turn and returns when its metrics are queued, or
// when ctx or the pushing has ended.
func (p *pusher) pushNow(ctx context.Context) {
	pushed := make(chan struct{})
	select {
	case p.asked <- pushed:
	case <-p.done:
		return
	case <-ctx.Done():
		return
	}
	select {
	case <-pushed:
	case <-ctx.Done():
	}
}

func (p *pusher) stop(ctx context.Context) error {
	p.once.Do(func() { close(p.quit) })
	select {
	case <-p.done:
		p.e.forget(p)
		return p.err
	case <-ctx.Done():
		return fmt.Errorf("otlp: stop pushing metrics: %w", context.Cause(ctx))
	}
}

// forget lets go of a push that has ended: Shutdown need not stop it again.
func (e *Exporter) forget(p *pusher) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.pushers = slices.DeleteFunc(e.pushers, func(x *pusher) bool { return x == p })
}

// push gathers once. A gatherer may return families and an error: what is there
// is sent, and the error is counted.
func (p *pusher) push() error {
	families, err := p.gatherer.Gather()
	q := p.e.metrics
	if err != nil {
		q.gatherErr.Add(1)
		p.e.cfg.Logger.Warn("gathering metrics", slog.Any("error", err))
		err = fmt.Errorf("otlp: gather metrics: %w", err)
	}
	now := time.Now()
	for _, mf := range families {
		f := family{mf: mf, now: now, since: p.e.started}
		f.metrics()
		for _, m := range f.out {
			q.Offer(m)
		}
		if f.unsupported > 0 {
			q.Drop(f.unsupported, ship.Encode)
		}
	}
	return err
}
