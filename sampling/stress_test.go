package sampling_test

import (
	"context"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/kaizen-go/kaizen/sampling"
)

// TestTailStress: under bounds that are always passed, with ages that run out,
// flushes and late spans, every span that ended passes exactly once or is
// counted as dropped exactly once.
func TestTailStress(t *testing.T) {
	r := newRig(t, sampling.TailConfig{
		Ratio: 0.3, MaxTraces: 7, MaxSpans: 20, MaxBytes: 12_000, MaxAge: 2 * time.Millisecond, MaxDecided: 5,
	})
	var ended atomic.Int64
	var workers sync.WaitGroup
	for w := range 8 {
		workers.Go(func() {
			rnd := rand.New(rand.NewPCG(uint64(w), 7))
			end := func(s trace.Span) {
				if rnd.IntN(12) == 0 {
					s.SetStatus(codes.Error, "")
				}
				s.End()
				ended.Add(1)
			}
			for range 300 {
				randomTrace(r, rnd, end)
			}
		})
	}
	stop, flushing := make(chan struct{}), sync.WaitGroup{}
	flushing.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			if err := r.ForceFlush(context.Background()); err != nil {
				t.Errorf("ForceFlush = %v", err)
			}
		}
	})
	workers.Wait()
	close(stop)
	flushing.Wait()
	if err := r.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	seen := map[trace.SpanID]bool{}
	for _, s := range r.next.ended {
		if seen[s.SpanContext().SpanID()] {
			t.Fatalf("span %s passed twice", s.SpanContext().SpanID())
		}
		seen[s.SpanContext().SpanID()] = true
	}
	st := r.Stats()
	if got := int64(len(seen)) + total(st.DroppedSpans); got != ended.Load() {
		t.Errorf("%d spans accounted for, want %d: %+v", got, ended.Load(), st)
	}
	checkEmpty(t, r)
}

// randomTrace ends its spans in any order, some after their root.
func randomTrace(r rig, rnd *rand.Rand, end func(trace.Span)) {
	ctx, root := r.start(context.Background(), "root", kind([]string{"run", "tool"}[rnd.IntN(2)]))
	open := []trace.Span{root}
	for range rnd.IntN(8) {
		_, s := r.start(ctx, "child", kind("model"), cost(rnd.Int64N(60_000_000)))
		open = append(open, s)
	}
	rnd.Shuffle(len(open), func(i, j int) { open[i], open[j] = open[j], open[i] })
	for _, s := range open {
		end(s)
	}
}

// TestTailMemory: the bytes in use do not grow with the number of traces.
func TestTailMemory(t *testing.T) {
	p, err := sampling.NewTail(discard{}, sampling.TailConfig{Ratio: sampling.Off, MaxDecided: 100})
	if err != nil {
		t.Fatal(err)
	}
	tp := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(p))
	r := rig{TailProcessor: p, tracer: tp.Tracer("test")}
	inUse := func(traces int) int64 {
		for range traces {
			ctx, root := r.start(t.Context(), "root")
			_, late := r.start(ctx, "late")
			child(r, ctx)
			root.End()
			late.End()
		}
		checkEmpty(t, r)
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	first, then := inUse(2_000), inUse(40_000)
	// A hundred bytes for each trace would be 4 MB.
	if grown := then - first; grown > 1<<20 {
		t.Errorf("%d bytes more in use after 40,000 traces", grown)
	}
	if err := tp.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// discard takes spans and does nothing.
type discard struct{}

func (discard) OnStart(context.Context, sdktrace.ReadWriteSpan) {}
func (discard) OnEnd(sdktrace.ReadOnlySpan)                     {}
func (discard) Shutdown(context.Context) error                  { return nil }
func (discard) ForceFlush(context.Context) error                { return nil }

// BenchmarkTail: go test -bench Tail -benchmem ./sampling
// A trace of eight spans, to a processor that does nothing and through a tail.
func BenchmarkTail(b *testing.B) {
	run := func(b *testing.B, p sdktrace.SpanProcessor) {
		tp := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(p))
		r := rig{tracer: tp.Tracer("bench")}
		b.ReportAllocs()
		for b.Loop() {
			ctx, root := r.start(b.Context(), "root", kind("run"))
			for range 7 {
				child(r, ctx, kind("model"), cost(1))
			}
			root.End()
		}
		if err := tp.Shutdown(context.Background()); err != nil {
			b.Fatal(err)
		}
	}
	b.Run("none", func(b *testing.B) { run(b, discard{}) })
	for name, ratio := range map[string]float64{"kept": 1, "dropped": sampling.Off} {
		b.Run(name, func(b *testing.B) {
			p, err := sampling.NewTail(discard{}, sampling.TailConfig{Ratio: ratio})
			if err != nil {
				b.Fatal(err)
			}
			run(b, p)
		})
	}
}
