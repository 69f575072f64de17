package otlp

import (
	"context"
	"io"
	"net/http"
	"strconv"
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// discard takes every request.
type discard struct{}

func (discard) RoundTrip(r *http.Request) (*http.Response, error) {
	if _, err := io.Copy(io.Discard, r.Body); err != nil {
		return nil, err
	}
	return &http.Response{StatusCode: 200, Header: http.Header{}, Body: http.NoBody, Request: r}, nil
}

// noExport is the stock way's end without the cost of encoding.
type noExport struct{ spans int }

func (n *noExport) ExportSpans(_ context.Context, s []sdktrace.ReadOnlySpan) error {
	n.spans += len(s)
	return nil
}
func (*noExport) Shutdown(context.Context) error { return nil }

func twelve() []attribute.KeyValue {
	var kvs []attribute.KeyValue
	for i := range 12 {
		kvs = append(kvs, attribute.String("gen_ai.attribute."+strconv.Itoa(i), "some value of usual length"))
	}
	return kvs
}

// BenchmarkSpanProcessor is the cost of a span of 12 attributes on the caller's
// path, and of its encoding and compression, since those take CPU as well:
// start, two SetAttributes, end. kept/op says how many spans were not dropped.
func BenchmarkSpanProcessor(b *testing.B) {
	b.Run("none", func(b *testing.B) { spans(b, nil, func() int64 { return int64(b.N) }) })
	b.Run("stock batch, no-op exporter", func(b *testing.B) {
		end := &noExport{}
		p := sdktrace.NewBatchSpanProcessor(end)
		spans(b, p, func() int64 {
			if err := p.Shutdown(context.Background()); err != nil {
				b.Fatal(err)
			}
			return int64(end.spans)
		})
	})
	b.Run("otlp, encoded, gzip, discarded", func(b *testing.B) { ours(b, Config{}) })
	b.Run("otlp, encoded, no gzip, discarded", func(b *testing.B) { ours(b, Config{Compression: NoGzip}) })
}

func ours(b *testing.B, cfg Config) {
	cfg.HTTPClient = &http.Client{Transport: discard{}}
	e, err := NewExporter(cfg)
	if err != nil {
		b.Fatal(err)
	}
	spans(b, e.SpanProcessor(), func() int64 {
		if err := e.Shutdown(context.Background()); err != nil {
			b.Fatal(err)
		}
		return e.Stats().Traces.Sent
	})
}

func spans(b *testing.B, p sdktrace.SpanProcessor, kept func() int64) {
	var opts []sdktrace.TracerProviderOption
	if p != nil {
		opts = append(opts, sdktrace.WithSpanProcessor(p))
	}
	tr := sdktrace.NewTracerProvider(opts...).Tracer("bench")
	kvs := twelve()
	ctx := context.Background()
	b.ReportAllocs()
	for b.Loop() {
		_, s := tr.Start(ctx, "chat model", trace.WithSpanKind(trace.SpanKindClient))
		s.SetAttributes(kvs[:6]...)
		s.SetAttributes(kvs[6:]...)
		s.End()
	}
	b.StopTimer()
	b.ReportMetric(float64(kept())/float64(b.N), "kept/op")
}

func BenchmarkEmitLog(b *testing.B) {
	e, err := NewExporter(Config{HTTPClient: &http.Client{Transport: discard{}}})
	if err != nil {
		b.Fatal(err)
	}
	r := LogRecord{Time: time.Now(), Severity: 9, Body: "a message of usual length for a log", Logger: "agent", Attributes: twelve()[:4]}
	b.ReportAllocs()
	for b.Loop() {
		e.EmitLog(r)
	}
	b.StopTimer()
	if err := e.Shutdown(context.Background()); err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(e.Stats().Logs.Sent)/float64(b.N), "kept/op")
}
