package otlp_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"github.com/kaizen-go/kaizen/otlp"
)

// takeAll is a server that takes everything.
func takeAll() *httptest.Server {
	return httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
}

func ExampleNewExporter() {
	server := takeAll()
	defer server.Close()
	ctx := context.Background()

	exp, err := otlp.NewExporter(otlp.Config{Endpoint: server.URL})
	if err != nil {
		fmt.Println(err)
		return
	}
	tp := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(exp.SpanProcessor()))
	_, span := tp.Tracer("example").Start(ctx, "work")
	exp.EmitLog(otlp.LogRecord{Time: time.Now(), Severity: 9, Body: "working"})
	span.End()
	if err := exp.Shutdown(ctx); err != nil {
		fmt.Println(err)
	}
	stats := exp.Stats()
	fmt.Println(stats.Traces.Sent, "span,", stats.Logs.Sent, "log record")
	// Output: 1 span, 1 log record
}

func ExampleExporter_PushMetrics() {
	server := takeAll()
	defer server.Close()
	ctx := context.Background()

	exp, err := otlp.NewExporter(otlp.Config{Endpoint: server.URL})
	if err != nil {
		fmt.Println(err)
		return
	}
	registry := prometheus.NewRegistry()
	runs := prometheus.NewCounter(prometheus.CounterOpts{Name: "runs_total"})
	registry.MustRegister(runs)
	stop, err := exp.PushMetrics(ctx, registry, 15*time.Second)
	if err != nil {
		fmt.Println(err)
		return
	}
	runs.Inc()
	fmt.Println(stop(ctx), exp.Shutdown(ctx))
	fmt.Println(exp.Stats().Metrics.Sent, "family")
	// Output:
	// <nil> <nil>
	// 1 family
}

func ExampleExporter_NewLines() {
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		zr, _ := gzip.NewReader(r.Body)
		body, _ := io.ReadAll(zr)
		fmt.Printf("%s %s", r.URL.Path, bytes.ReplaceAll(body, []byte("\n"), []byte(" ")))
	}))
	defer server.Close()

	exp, err := otlp.NewExporter(otlp.Config{Endpoint: server.URL})
	if err != nil {
		fmt.Println(err)
		return
	}
	entries := exp.NewLines(server.URL + "/api/audit")
	entries.Emit([]byte(`{"id":"1","action":"run"}`))
	entries.Emit([]byte(`{"id":"2","action":"stop"}`))
	fmt.Println(exp.Shutdown(context.Background()))
	// Output: /api/audit {"id":"1","action":"run"} {"id":"2","action":"stop"} <nil>
}

func ExampleConfigFromEnv() {
	// OTEL_EXPORTER_OTLP_ENDPOINT and its kin are read where a field is unset.
	cfg, err := otlp.ConfigFromEnv(otlp.Config{Endpoint: "https://kaizen.example:4318"})
	fmt.Println(cfg.Endpoint, err)
	// Output: https://kaizen.example:4318 <nil>
}
