package kaizen_test

import (
	"context"
	"io"
	"net/http"
	"runtime"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/kaizen-go/kaizen"
	"github.com/kaizen-go/kaizen/audit"
)

// Clocks of clock_gettime(2). Unlike getrusage they are exact at any moment.
const (
	processClock = 2 // CLOCK_PROCESS_CPUTIME_ID
	threadClock  = 3 // CLOCK_THREAD_CPUTIME_ID
)

// cpuOf returns the processor time that the thread, or the process, has used.
func cpuOf(b *testing.B, clock uintptr) time.Duration {
	var t syscall.Timespec
	if _, _, errno := syscall.Syscall(syscall.SYS_CLOCK_GETTIME, clock, uintptr(unsafe.Pointer(&t)), 0); errno != 0 {
		b.Fatal(errno)
	}
	return time.Duration(t.Nano())
}

// BenchmarkReferenceLoop is what an agent records around one call of a model: 10
// metrics, 50 log lines, 5 spans and 3 audit entries, each durable when its
// promise is kept. It reports the processor time of the calling thread
// (caller-µs), of all other threads (others-µs: the ledger's committer, the
// exporter, the garbage collector), the time until the promises are kept
// (durable-µs) and the caller's share of a call of 500 ms (%-of-500ms).
//
//	go test -run '^$' -bench ReferenceLoop -benchtime 2000x .
func BenchmarkReferenceLoop(b *testing.B) {
	benchmarkLoop(b, kaizen.Config{AuditDir: b.TempDir() + "/audit", LogWriter: io.Discard})
}

// BenchmarkReferenceLoopSent is the same where spans, lines and samples are sent
// as well, encoded and compressed, to a server that costs nothing.
func BenchmarkReferenceLoopSent(b *testing.B) {
	benchmarkLoop(b, kaizen.Config{
		AuditDir: b.TempDir() + "/audit", LogWriter: io.Discard,
		Server: "http://127.0.0.1:1", HTTPClient: &http.Client{Transport: taker{}},
	})
}

// taker takes every request.
type taker struct{}

func (taker) RoundTrip(r *http.Request) (*http.Response, error) {
	if _, err := io.Copy(io.Discard, r.Body); err != nil {
		return nil, err
	}
	return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: http.NoBody, Request: r}, r.Body.Close()
}

func benchmarkLoop(b *testing.B, cfg kaizen.Config) {
	cfg.SpoolDir = kaizen.NoSpool
	obs, err := kaizen.Start(b.Context(), cfg)
	if err != nil {
		b.Fatal(err)
	}
	defer func() {
		if err := obs.Shutdown(context.Background()); err != nil {
			b.Error(err)
		}
	}()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var caller, durable time.Duration
	ctx := kaizen.WithRun(b.Context(), testRun)
	all := cpuOf(b, processClock)
	thread := cpuOf(b, threadClock)
	b.ReportAllocs()
	for b.Loop() {
		before := cpuOf(b, threadClock)
		promises := referenceLoop(ctx, obs)
		caller += cpuOf(b, threadClock) - before
		waiting := time.Now()
		for _, p := range promises {
			if _, err := p.Wait(ctx); err != nil {
				b.Fatal(err)
			}
		}
		durable += time.Since(waiting)
	}
	if err := obs.Flush(b.Context()); err != nil {
		b.Fatal(err)
	}
	all, thread = cpuOf(b, processClock)-all, cpuOf(b, threadClock)-thread
	n := float64(b.N)
	b.ReportMetric(caller.Seconds()*1e6/n, "caller-µs")
	b.ReportMetric((all-thread).Seconds()*1e6/n, "others-µs")
	b.ReportMetric(durable.Seconds()*1e6/n, "durable-µs")
	b.ReportMetric(caller.Seconds()*100/0.5/n, "%-of-500ms")
}

// referenceLoop records once around, and returns the promises of its entries.
func referenceLoop(ctx context.Context, obs *kaizen.Observer) [3]*kaizen.Promise {
	log, tracer := obs.Logger("loop"), obs.Tracer()
	for range 10 {
		obs.Metrics().Counter("loop_calls_total", "model", "gpt-5", "status", "ok").Add(1)
	}
	for i := range 5 {
		sctx, span := tracer.Start(ctx, "step", trace.WithAttributes(attribute.Int("step", i), attribute.String("model", "gpt-5")))
		for j := range 10 {
			log.InfoContext(sctx, "step done", "step", i, "line", j, "model", "gpt-5", "tokens", 128)
		}
		span.End()
	}
	var promises [3]*kaizen.Promise
	for i := range promises {
		promises[i] = obs.Audit().Promise(ctx, audit.Entry{
			Action: "step", Result: audit.Success, Severity: "info", Details: map[string]any{"step": i, "model": "gpt-5"},
		})
	}
	return promises
}

// callerTime measures the processor time of the calling thread from now on. The
// function that it returns reports it for each operation: unlike the time of the
// day, it stands still while others have the processor.
func callerTime(b *testing.B) (report func()) {
	runtime.LockOSThread()
	start := cpuOf(b, threadClock)
	return func() {
		used := cpuOf(b, threadClock) - start
		runtime.UnlockOSThread()
		b.ReportMetric(float64(used)/float64(b.N), "caller-ns/op")
	}
}
