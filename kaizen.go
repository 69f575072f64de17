// Package kaizen is the flight recorder for AI agents. What an agent does is
// traced, measured, logged and provably recorded: every event becomes a span, a
// sample, a log line and an audit entry, all under the same ids.
//
//	obs, err := kaizen.Start(ctx, kaizen.Config{Server: "http://127.0.0.1:7070"})
//	if err != nil { … }
//	defer obs.Shutdown(ctx)
//	client := openai.NewClient(option.WithHTTPClient(obs.HTTPClient(nil)))
//
// Agents of package agent are observed in one call, EnableObservability. Other
// code announces what it does through [Observer.Hooks].
package kaizen

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/oklog/ulid/v2"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/kaizen-go/kaizen/agentlog"
	"github.com/kaizen-go/kaizen/audit"
	"github.com/kaizen-go/kaizen/genai"
	"github.com/kaizen-go/kaizen/hook"
	"github.com/kaizen-go/kaizen/internal/runctx"
	"github.com/kaizen-go/kaizen/internal/ship"
	"github.com/kaizen-go/kaizen/metrics"
	"github.com/kaizen-go/kaizen/otlp"
	"github.com/kaizen-go/kaizen/price"
	"github.com/kaizen-go/kaizen/redact"
	"github.com/kaizen-go/kaizen/sampling"
)

// Run names one run of one agent; see its fields. It travels in a context, and
// every record made there carries its ids.
type Run = runctx.Run

// WithRun returns a context whose records carry the ids of r. The runtime of
// package agent does this for each run; SessionID and UserID that are set here
// before are inherited by the runs below.
func WithRun(ctx context.Context, r Run) context.Context { return runctx.With(ctx, r) }

// RunFrom returns the run that ctx carries, and whether it carries one.
func RunFrom(ctx context.Context) (Run, bool) { return runctx.From(ctx) }

// Observer joins tracing, metrics, logs and the audit trail. Its methods may be
// called at once from any number of goroutines. Parts that are off do nothing.
type Observer struct {
	cfg      Config
	hooks    *hook.Registry
	wire     *wire
	metrics  *metrics.Metrics
	logs     *agentlog.Logs
	audit    *Auditor
	ledger   *audit.Ledger
	exporter *otlp.Exporter
	programs []io.Closer
	provider *sdktrace.TracerProvider // nil unless it is ours
	tail     *sampling.TailProcessor  // nil unless asked for
	folds    folds                    // model calls that may be tried again

	shutdown sync.Once
	downErr  error
}

// Start builds an observer. A part that was asked for and cannot start is an
// error, and nothing is left running then. [Observer.Shutdown] stops it.
func Start(ctx context.Context, cfg Config) (_ *Observer, err error) {
	cfg = cfg.withDefaults()
	o := &Observer{cfg: cfg}
	defer func() {
		if err != nil {
			err = errors.Join(err, o.Shutdown(ctx))
		}
	}()

	redactor := redact.New(cfg.Redact)
	res, err := describe(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("kaizen: start: %w", err)
	}
	if o.metrics, err = metrics.New(metrics.Config{Registry: cfg.Registry}); err != nil {
		return nil, fmt.Errorf("kaizen: start metrics: %w", err)
	}
	if err := o.startExport(res); err != nil {
		return nil, err
	}
	if err := o.startLogs(redactor); err != nil {
		return nil, err
	}
	if cfg.AuditDir != "" && cfg.Off&Audit == 0 {
		// An entry of this ledger is durable when its committer has synced it.
		if o.ledger, err = audit.Open(cfg.AuditDir, ledgerConfig(cfg, o.metrics)); err != nil {
			return nil, fmt.Errorf("kaizen: start audit: %w", err)
		}
	}
	if o.audit, err = newAuditor(o, redactor); err != nil {
		return nil, err
	}
	provider, err := o.startTracing(res)
	if err != nil {
		return nil, err
	}
	tracer := genai.NewTracer(provider)
	o.wire = &wire{
		tracer: tracer, metrics: o.metrics, log: o.logs.Logger("kaizen"), audit: o.audit,
		redact: redactor, prices: price.Default().With(cfg.Prices), content: cfg.Content,
		self: selfTime{began: time.Now()}, names: spanNames{seed: maphash.MakeSeed()}, late: asksNothing(provider),
	}
	o.hooks = hook.New(hook.Config{
		Recorder:  o.wire,
		OnHandler: func(c hook.Call) { countHandler(o.metrics, c) },
	})
	if err := o.startPrograms(); err != nil {
		return nil, err
	}
	o.reportSelf()
	if o.exporter != nil && cfg.Off&Metrics == 0 {
		// The exporter's shutdown ends the pushing, with a last one.
		if _, err = o.exporter.PushMetrics(context.WithoutCancel(ctx), o.metrics.Gatherer(), cfg.MetricsEvery); err != nil {
			return nil, fmt.Errorf("kaizen: start metrics: %w", err)
		}
	}
	return o, nil
}

// describe returns the resource of this process.
func describe(ctx context.Context, cfg Config) (*resource.Resource, error) {
	attrs := []attribute.KeyValue{
		attribute.String("service.name", cfg.ServiceName),
		attribute.String("service.instance.id", ulid.Make().String()),
	}
	if cfg.ServiceVersion != "" {
		attrs = append(attrs, attribute.String("service.version", cfg.ServiceVersion))
	}
	if cfg.exports() && cfg.Off&Metrics == 0 {
		attrs = append(attrs, genai.MetricsPushed.Bool(true))
	}
	attrs = append(attrs, cfg.Attributes...)
	return resource.New(ctx, resource.WithTelemetrySDK(), resource.WithFromEnv(), resource.WithAttributes(attrs...))
}

// startExport opens the way to the server, if there is one.
func (o *Observer) startExport(res *resource.Resource) error {
	if !o.cfg.exports() {
		return nil
	}
	c := otlp.Config{
		Endpoint: o.cfg.Server, SpoolDir: o.cfg.SpoolDir, SpoolBytes: o.cfg.SpoolBytes, FlushDelay: o.cfg.FlushDelay,
		Resource: res, HTTPClient: o.cfg.HTTPClient, Logger: o.cfg.Logger,
	}
	if o.cfg.APIKey != "" {
		c.Headers = map[string]string{"Authorization": "Bearer " + o.cfg.APIKey}
	}
	c, err := otlp.ConfigFromEnv(c)
	if err != nil {
		return fmt.Errorf("kaizen: start export: %w", err)
	}
	if o.exporter, err = otlp.NewExporter(c); err != nil {
		return fmt.Errorf("kaizen: start export: %w", err)
	}
	return nil
}

// startTracing returns where spans come from.
func (o *Observer) startTracing(res *resource.Resource) (trace.TracerProvider, error) {
	switch {
	case o.cfg.Off&Traces != 0:
		return noop.NewTracerProvider(), nil
	case o.cfg.TracerProvider != nil:
		return o.cfg.TracerProvider, nil
	}
	head, err := sampling.FromEnv(sdktrace.ParentBased(sdktrace.AlwaysSample()))
	if err != nil {
		return nil, fmt.Errorf("kaizen: start tracing: %w", err)
	}
	opts := []sdktrace.TracerProviderOption{sdktrace.WithResource(res), sdktrace.WithSampler(head)}
	if o.exporter != nil {
		processor := o.exporter.SpanProcessor()
		if o.cfg.Tail != nil {
			if o.tail, err = sampling.NewTail(processor, *o.cfg.Tail); err != nil {
				return nil, fmt.Errorf("kaizen: start tracing: %w", err)
			}
			processor = o.tail
		}
		opts = append(opts, sdktrace.WithSpanProcessor(processor))
	}
	o.provider = sdktrace.NewTracerProvider(opts...)
	if o.cfg.SetGlobal {
		otel.SetTracerProvider(o.provider)
		otel.SetTextMapPropagator(propagation.NewCompositeTextMapPropagator(propagation.TraceContext{}, propagation.Baggage{}))
	}
	return o.provider, nil
}

// startPrograms registers the programs that the configuration names.
func (o *Observer) startPrograms() error {
	if o.cfg.Programs == "" {
		return nil
	}
	programs, err := hook.LoadPrograms(o.cfg.Programs)
	for _, r := range programs {
		if c, ok := r.Handler.(io.Closer); ok {
			o.programs = append(o.programs, c)
		}
		err = errors.Join(err, o.hooks.Register(r))
	}
	if err != nil {
		return fmt.Errorf("kaizen: start programs: %w", err)
	}
	return nil
}

// dropReasons are the reasons for which the way to the server gives records up.
var dropReasons = [...]ship.Reason{
	ship.QueueFull, ship.SpoolFull, ship.Rejected, ship.TooLarge, ship.Stopped, ship.Encode, ship.Corrupt,
}

// reportSelf lets the metrics tell what recording costs and loses.
func (o *Observer) reportSelf() {
	for s, name := range signalNames {
		o.metrics.CounterFunc(metrics.TelemetrySelf, func() float64 { return o.wire.self.seconds(signal(s)) }, name)
	}
	o.reportLocal()
	if o.exporter == nil {
		return
	}
	if o.tail != nil {
		for _, reason := range sampling.DropReasons() {
			o.metrics.CounterFunc(metrics.TelemetryDropped, func() float64 {
				return float64(o.tail.Stats().DroppedSpans[reason])
			}, "traces", "tail_"+string(reason))
		}
	}
	for _, s := range [...]struct {
		name  string
		stats func(otlp.Stats) otlp.SignalStats
	}{
		{"traces", func(s otlp.Stats) otlp.SignalStats { return s.Traces }},
		{"metrics", func(s otlp.Stats) otlp.SignalStats { return s.Metrics }},
		{"logs", func(s otlp.Stats) otlp.SignalStats { return s.Logs }},
		{"audit", func(s otlp.Stats) otlp.SignalStats { return s.Audit }},
	} {
		o.metrics.GaugeFunc(metrics.TelemetryQueueLength, func() float64 {
			st := s.stats(o.exporter.Stats())
			return float64(st.Queued + st.Spooled)
		}, s.name)
		o.reportSpool(s.name, func() otlp.SignalStats { return s.stats(o.exporter.Stats()) })
		for _, reason := range dropReasons {
			o.metrics.CounterFunc(metrics.TelemetryDropped, func() float64 {
				return float64(s.stats(o.exporter.Stats()).Dropped[string(reason)])
			}, s.name, string(reason))
		}
	}
}

// failureReasons are the reasons for which an attempt to send fails, as
// metrics have them: answers are not told apart by their status.
var failureReasons = [...]string{"network", "timeout", "http", "gather"}

// reportSpool tells how full a signal's spool is, and how often sending failed.
func (o *Observer) reportSpool(name string, stats func() otlp.SignalStats) {
	if o.cfg.SpoolDir != "" {
		limit := float64(cmp.Or(o.cfg.SpoolBytes, otlp.DefaultSpoolBytes))
		o.metrics.Set(metrics.TelemetrySpoolLimit, limit, name)
		o.metrics.GaugeFunc(metrics.TelemetrySpoolBytes, func() float64 { return float64(stats().SpoolBytes) }, name)
	}
	for _, reason := range failureReasons {
		o.metrics.CounterFunc(metrics.TelemetryExportFailures, func() (n float64) {
			for why, count := range stats().Failures {
				if short, _, _ := strings.Cut(why, "_"); short == reason {
					n += float64(count)
				}
			}
			return n
		}, name, reason)
	}
}

// Hooks returns the registry of events: announce operations with its Do, watch
// or refuse them with its Register.
func (o *Observer) Hooks() *hook.Registry { return o.hooks }

// Metrics returns the observer's metrics, for counters of your own.
func (o *Observer) Metrics() *metrics.Metrics { return o.metrics }

// MetricsHandler serves the metrics in the Prometheus and OpenMetrics formats.
func (o *Observer) MetricsHandler() http.Handler { return o.metrics.Handler(metrics.HandlerConfig{}) }

// Logger returns the logger of that name. Its lines carry the ids of the run
// and span of the context that they are logged with.
func (o *Observer) Logger(name string) *slog.Logger { return o.logs.Logger(name) }

// Tracer returns an OpenTelemetry tracer, for spans of your own.
func (o *Observer) Tracer() trace.Tracer { return o.wire.tracer.OTel() }

// Audit returns the audit trail, for entries of your own.
func (o *Observer) Audit() *Auditor { return o.audit }

// Health says what the observer has lost or could not send so far.
type Health struct {
	// Export has the counts of each signal's way to the server; zero without one.
	Export otlp.Stats
	// AuditDropped counts audit entries that were lost to a full queue or a
	// ledger that failed, AuditFailure is the latest reason.
	AuditDropped int64
	AuditFailure error
	// UnfoldedCalls counts model calls that failed while too many others waited
	// for their next attempt: their attempts are recorded as calls of their own.
	UnfoldedCalls int64
}

// Health returns the observer's present state.
func (o *Observer) Health() Health {
	var h Health
	if o.exporter != nil {
		h.Export = o.exporter.Stats()
	}
	h.AuditDropped, h.AuditFailure = o.audit.health()
	h.UnfoldedCalls = o.folds.unfolded.Load()
	return h
}

// shutdownGrace is how long Shutdown takes when its context has no deadline.
const shutdownGrace = 10 * time.Second
