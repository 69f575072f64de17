package sampling_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/kaizen-go/kaizen/sampling"
)

// next is the processor behind the one under test. block, if not nil, holds up OnEnd.
type next struct {
	block chan struct{}
	err   error

	mu      sync.Mutex
	started int
	ended   []sdktrace.ReadOnlySpan
	calls   []string
}

func (n *next) OnStart(context.Context, sdktrace.ReadWriteSpan) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.started++
}

func (n *next) OnEnd(s sdktrace.ReadOnlySpan) {
	if n.block != nil {
		<-n.block
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.ended = append(n.ended, s)
}

func (n *next) ForceFlush(context.Context) error { return n.call("flush") }
func (n *next) Shutdown(context.Context) error   { return n.call("shutdown") }

func (n *next) call(name string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.calls = append(n.calls, name)
	return n.err
}

func (n *next) names() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	var names []string
	for _, s := range n.ended {
		names = append(names, s.Name())
	}
	return names
}

// rig is a processor under test with a provider before it and next behind it.
type rig struct {
	*sampling.TailProcessor
	next   *next
	tracer trace.Tracer
}

func newRig(t *testing.T, cfg sampling.TailConfig) rig {
	t.Helper()
	n := &next{}
	p, err := sampling.NewTail(n, cfg)
	if err != nil {
		t.Fatal(err)
	}
	tp := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(p))
	t.Cleanup(func() {
		if err := tp.Shutdown(context.Background()); err != nil && n.err == nil {
			t.Errorf("Shutdown = %v", err)
		}
	})
	return rig{p, n, tp.Tracer("test")}
}

// nothing keeps no trace but for its reasons.
var nothing = sampling.TailConfig{Ratio: sampling.Off}

func (r rig) start(ctx context.Context, name string, kvs ...attribute.KeyValue) (context.Context, trace.Span) {
	return r.tracer.Start(ctx, name, trace.WithAttributes(kvs...))
}

func kind(k string) attribute.KeyValue { return attribute.String("kaizen.kind", k) }
func cost(nano int64) attribute.KeyValue {
	return attribute.Int64("kaizen.cost.nano_usd", nano)
}

func TestTailDecides(t *testing.T) {
	for _, tt := range []struct {
		name    string
		cfg     sampling.TailConfig
		took    time.Duration
		spans   func(r rig, ctx context.Context) // below the root
		kept    sampling.Reason                  // "" if dropped
		endings int
	}{
		{"ordinary", nothing, time.Second, func(r rig, ctx context.Context) { child(r, ctx) }, "", 2},
		{"error below", nothing, time.Second, func(r rig, ctx context.Context) {
			ctx, s := r.start(ctx, "child")
			_, deep := r.start(ctx, "deep")
			deep.SetStatus(codes.Error, "broken")
			deep.End()
			s.End()
		}, sampling.KeptError, 3},
		{"slow", nothing, 31 * time.Second, func(r rig, ctx context.Context) { child(r, ctx) }, sampling.KeptSlow, 2},
		{"as slow as allowed", nothing, 30 * time.Second, func(rig, context.Context) {}, "", 1},
		{"slow switched off", sampling.TailConfig{Ratio: sampling.Off, Slow: sampling.Off}, time.Minute, func(rig, context.Context) {}, "", 1},
		{"costly in sum", nothing, 0, func(r rig, ctx context.Context) {
			child(r, ctx, kind("model"), cost(60_000_000))
			child(r, ctx, kind("model"), cost(40_000_001))
		}, sampling.KeptCost, 3},
		{"as costly as allowed", nothing, 0, func(r rig, ctx context.Context) {
			child(r, ctx, kind("model"), cost(100_000_000))
		}, "", 2},
		{"cost of what is no model call", nothing, 0, func(r rig, ctx context.Context) {
			child(r, ctx, kind("tool"), cost(1<<60))
			child(r, ctx, cost(1<<60))
		}, "", 3},
		{"cost of the wrong type", nothing, 0, func(r rig, ctx context.Context) {
			child(r, ctx, kind("model"), attribute.String("kaizen.cost.nano_usd", "999999999999"))
			child(r, ctx, attribute.Int("kaizen.kind", 1), cost(1<<60))
		}, "", 3},
		{"negative cost takes nothing away", nothing, 0, func(r rig, ctx context.Context) {
			child(r, ctx, kind("model"), cost(-1<<60))
			child(r, ctx, kind("model"), cost(100_000_001))
		}, sampling.KeptCost, 3},
		{"cost that would overflow", nothing, 0, func(r rig, ctx context.Context) {
			child(r, ctx, kind("model"), cost(math.MaxInt64))
			child(r, ctx, kind("model"), cost(math.MaxInt64))
		}, sampling.KeptCost, 3},
		{"cost switched off", sampling.TailConfig{Ratio: sampling.Off, CostNanoUSD: sampling.Off}, 0, func(r rig, ctx context.Context) {
			child(r, ctx, kind("model"), cost(1<<60))
		}, "", 2},
		{"ratio", sampling.TailConfig{Ratio: 1}, 0, func(r rig, ctx context.Context) { child(r, ctx) }, sampling.KeptRatio, 2},
		{"error named before ratio", sampling.TailConfig{Ratio: 1}, 0, func(r rig, ctx context.Context) {
			_, s := r.start(ctx, "child")
			s.SetStatus(codes.Error, "")
			s.End()
		}, sampling.KeptError, 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, tt.cfg)
				ctx, root := r.start(t.Context(), "root")
				tt.spans(r, ctx)
				time.Sleep(tt.took) // the bubble's clock
				root.End()
				passed := len(r.next.names())
				st := r.Stats()
				if tt.kept != "" {
					if passed != tt.endings || st.Kept[tt.kept] != 1 || len(st.Kept) != 1 || len(st.Dropped) != 0 {
						t.Errorf("%d of %d spans passed; %+v", passed, tt.endings, st)
					}
				} else if passed != 0 || st.Dropped[sampling.DroppedRatio] != 1 || st.DroppedSpans[sampling.DroppedRatio] != int64(tt.endings) {
					t.Errorf("%d spans passed; %+v", passed, st)
				}
				checkEmpty(t, r)
			})
		})
	}
}

func child(r rig, ctx context.Context, kvs ...attribute.KeyValue) {
	_, s := r.start(ctx, "child", kvs...)
	s.End()
}

func checkEmpty(t *testing.T, r rig) {
	t.Helper()
	if st := r.Stats(); st.HeldTraces != 0 || st.HeldSpans != 0 || st.HeldBytes != 0 {
		t.Errorf("held at the end: %d traces, %d spans, %d bytes", st.HeldTraces, st.HeldSpans, st.HeldBytes)
	}
}

// TestTailWaits: nothing passes before the decision is known, all of it then.
func TestTailWaits(t *testing.T) {
	r := newRig(t, nothing)
	ctx, root := r.start(t.Context(), "root")
	child(r, ctx)
	child(r, ctx)
	if st := r.Stats(); len(r.next.names()) != 0 || st.HeldTraces != 1 || st.HeldSpans != 2 || st.HeldBytes < 1024 {
		t.Fatalf("passed %v; %+v", r.next.names(), st)
	}
	_, bad := r.start(ctx, "bad")
	bad.SetStatus(codes.Error, "")
	bad.End() // known now
	if diff := cmp.Diff([]string{"child", "child", "bad"}, r.next.names()); diff != "" {
		t.Errorf("after the error (-want +got):\n%s", diff)
	}
	child(r, ctx)
	root.End()
	if n := len(r.next.names()); n != 5 {
		t.Errorf("%d spans passed, want all 5", n)
	}
	checkEmpty(t, r)
}

// TestTailRatio: the same traces are chosen as by OpenTelemetry's sampler.
func TestTailRatio(t *testing.T) {
	r := newRig(t, sampling.TailConfig{Ratio: 0.3})
	head := sdktrace.TraceIDRatioBased(0.3)
	for range 500 {
		before := len(r.next.names())
		_, root := r.start(t.Context(), "root")
		root.End()
		want := head.ShouldSample(sdktrace.SamplingParameters{
			ParentContext: t.Context(), TraceID: root.SpanContext().TraceID(),
		}).Decision == sdktrace.RecordAndSample
		if got := len(r.next.names()) > before; got != want {
			t.Fatalf("trace %s kept: %v, by the head sampler: %v", root.SpanContext().TraceID(), got, want)
		}
	}
	st := r.Stats()
	if st.Kept[sampling.KeptRatio]+st.Dropped[sampling.DroppedRatio] != 500 {
		t.Errorf("%+v", st)
	}
}

// TestTailAnnounces: starts pass at once, and the run of a dropped trace ends
// visibly, alone.
func TestTailAnnounces(t *testing.T) {
	r := newRig(t, nothing)
	ctx, run := r.start(t.Context(), "run", kind("run"))
	ctx, inner := r.start(ctx, "inner", kind("run"))
	if r.next.started != 2 {
		t.Fatalf("%d starts passed, want 2", r.next.started)
	}
	child(r, ctx)
	_, late := r.start(ctx, "late", kind("run"))
	inner.End()
	run.End()
	late.End()
	if diff := cmp.Diff([]string{"inner", "run", "late"}, r.next.names()); diff != "" {
		t.Errorf("passed (-want +got):\n%s", diff)
	}
	for _, s := range r.next.ended {
		set := attribute.NewSet(s.Attributes()...)
		if v, _ := set.Value(sampling.SampledOut); !v.AsBool() {
			t.Errorf("%s is not marked: %v", s.Name(), s.Attributes())
		}
	}
	if st := r.Stats(); st.SampledOut != 3 || st.DroppedSpans[sampling.DroppedRatio] != 1 {
		t.Errorf("%+v", st)
	}
}

// TestTailLate: what ends after its root follows the decision, as long as that
// is remembered.
func TestTailLate(t *testing.T) {
	r := newRig(t, sampling.TailConfig{Ratio: sampling.Off, MaxDecided: 2})
	trace := func(failed bool) trace.Span {
		ctx, root := r.start(t.Context(), "root")
		_, late := r.start(ctx, "late")
		if failed {
			root.SetStatus(codes.Error, "")
		}
		root.End()
		return late
	}
	forgotten, kept, dropped := trace(true), trace(true), trace(false)
	kept.End()
	dropped.End()
	if diff := cmp.Diff([]string{"root", "root", "late"}, r.next.names()); diff != "" {
		t.Errorf("passed (-want +got):\n%s", diff)
	}
	st := r.Stats()
	if st.DroppedSpans[sampling.DroppedLate] != 1 || st.HeldTraces != 0 {
		t.Errorf("%+v", st)
	}
	forgotten.End() // nothing is known of its trace: it waits
	if st := r.Stats(); st.HeldTraces != 1 || st.HeldSpans != 1 {
		t.Errorf("of a forgotten trace: %+v", st)
	}
}

// TestTailRoots: several local roots of one trace, below another process's span.
func TestTailRoots(t *testing.T) {
	r := newRig(t, nothing)
	caller := trace.ContextWithRemoteSpanContext(t.Context(), trace.NewSpanContext(trace.SpanContextConfig{
		TraceID: trace.TraceID{1}, SpanID: trace.SpanID{2}, TraceFlags: trace.FlagsSampled, Remote: true,
	}))
	_, a := r.start(caller, "a")
	_, b := r.start(caller, "b")
	a.End()
	if st := r.Stats(); st.HeldTraces != 1 || len(r.next.names()) != 0 {
		t.Errorf("decided before the last root: %+v", st)
	}
	b.End()
	_, c := r.start(caller, "c") // after the trace was dropped: has a decision of its own
	c.SetStatus(codes.Error, "")
	c.End()
	_, d := r.start(caller, "d") // after it was kept: follows
	d.End()
	if diff := cmp.Diff([]string{"c", "d"}, r.next.names()); diff != "" {
		t.Errorf("passed (-want +got):\n%s", diff)
	}
	checkEmpty(t, r)
}

// TestTailBounds: each bound holds after every step; early decisions are made by
// what is known, and counted under the bound.
func TestTailBounds(t *testing.T) {
	for _, tt := range []struct {
		name string
		cfg  sampling.TailConfig
		why  sampling.Reason
	}{
		{"traces", sampling.TailConfig{MaxTraces: 10}, sampling.DroppedMaxTraces},
		{"spans", sampling.TailConfig{MaxSpans: 25}, sampling.DroppedMaxSpans},
		{"bytes", sampling.TailConfig{MaxBytes: 40_000}, sampling.DroppedMaxBytes},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.cfg.Ratio = sampling.Off
			r := newRig(t, tt.cfg)
			check := func() {
				t.Helper()
				st := r.Stats()
				if tt.cfg.MaxTraces > 0 && st.HeldTraces > tt.cfg.MaxTraces ||
					tt.cfg.MaxSpans > 0 && st.HeldSpans > tt.cfg.MaxSpans ||
					tt.cfg.MaxBytes > 0 && st.HeldBytes > tt.cfg.MaxBytes {
					t.Fatalf("bound passed: %+v", st)
				}
			}
			var roots []trace.Span
			ended := int64(0)
			for i := range 40 {
				ctx, root := r.start(t.Context(), "root")
				check()
				roots = append(roots, root)
				for range 3 {
					_, s := r.start(ctx, "child", attribute.String("text", string(make([]byte, 500))))
					if i == 0 {
						s.SetStatus(codes.Error, "")
					}
					s.End()
					ended++
					check()
				}
			}
			for _, root := range roots {
				root.End()
				ended++
				check()
			}
			st := r.Stats()
			if st.Dropped[tt.why] == 0 || st.Kept[sampling.KeptError] != 1 || len(r.next.names()) != 4 {
				t.Errorf("%d spans passed; %+v", len(r.next.names()), st)
			}
			if got := total(st.DroppedSpans) + 4; got != ended {
				t.Errorf("%d spans accounted for, want %d: %+v", got, ended, st)
			}
			checkEmpty(t, r)
		})
	}
}

func total(m map[sampling.Reason]int64) (n int64) {
	for _, v := range m {
		n += v
	}
	return n
}

// TestTailAge: a trace that stays open is decided by what is known at MaxAge.
func TestTailAge(t *testing.T) {
	for _, tt := range []struct {
		name   string
		slow   time.Duration
		passed int
	}{
		{"slow by then", time.Second, 2},
		{"not slow", sampling.Off, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, sampling.TailConfig{Ratio: sampling.Off, Slow: tt.slow, MaxAge: time.Minute})
				ctx, root := r.start(t.Context(), "root")
				child(r, ctx)
				time.Sleep(59 * time.Second)
				synctest.Wait()
				if st := r.Stats(); st.HeldSpans != 1 {
					t.Fatalf("before its time: %+v", st)
				}
				time.Sleep(8 * time.Second)
				synctest.Wait()
				checkEmpty(t, r)
				root.End()
				st := r.Stats()
				if len(r.next.names()) != tt.passed {
					t.Errorf("%d spans passed, want %d", len(r.next.names()), tt.passed)
				}
				if tt.passed == 0 && (st.Dropped[sampling.DroppedMaxAge] != 1 || st.DroppedSpans[sampling.DroppedLate] != 1) {
					t.Errorf("%+v", st)
				}
			})
		})
	}
}

func TestTailFlush(t *testing.T) {
	r := newRig(t, nothing)
	good, g := r.start(t.Context(), "good")
	child(r, good)
	child(r, good)
	_, open := r.start(t.Context(), "run", kind("run"))
	if err := r.ForceFlush(t.Context()); err != nil {
		t.Fatal(err)
	}
	checkEmpty(t, r)
	st := r.Stats()
	if st.Dropped[sampling.DroppedFlush] != 2 || st.DroppedSpans[sampling.DroppedFlush] != 2 || len(r.next.names()) != 0 {
		t.Errorf("%+v", st)
	}
	g.End()
	open.End()
	if diff := cmp.Diff([]string{"run"}, r.next.names()); diff != "" {
		t.Errorf("after the flush (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"flush"}, r.next.calls); diff != "" {
		t.Errorf("calls of the next (-want +got):\n%s", diff)
	}
}

// openSlow leaves n traces with one ended span each, that are slow already.
func openSlow(t *testing.T, r rig, n int) {
	for i := range n {
		ctx, _ := r.start(t.Context(), "root")
		_, s := r.start(ctx, fmt.Sprint("child ", i))
		s.End()
	}
	time.Sleep(31 * time.Second) // the bubble's clock
}

// TestTailFlushDeadline: a next processor that blocks does not hold the caller;
// what was not reached stays held and passes with the next flush.
func TestTailFlushDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nothing)
		openSlow(t, r, 3)
		r.next.block = make(chan struct{})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start := time.Now()
		if err := r.ForceFlush(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("ForceFlush = %v, want its deadline", err)
		}
		if took := time.Since(start); took != time.Second {
			t.Errorf("ForceFlush took %v with a deadline of 1 s", took)
		}
		if st := r.Stats(); st.HeldTraces != 2 {
			t.Errorf("held: %+v", st)
		}
		close(r.next.block)
		if err := r.ForceFlush(t.Context()); err != nil {
			t.Errorf("ForceFlush = %v", err)
		}
		if n := len(r.next.names()); n != 3 || total(r.Stats().DroppedSpans) != 0 {
			t.Errorf("%d spans passed, want 3; %+v", n, r.Stats())
		}
	})
}

func TestTailShutdown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nothing)
		openSlow(t, r, 3)
		ctx, root := r.start(t.Context(), "ordinary")
		child(r, ctx)
		r.next.err = errors.New("next: broken")
		if err := r.Shutdown(t.Context()); !errors.Is(err, r.next.err) {
			t.Errorf("Shutdown = %v, want the next's error", err)
		}
		if err := r.Shutdown(t.Context()); err != nil {
			t.Errorf("second Shutdown = %v", err)
		}
		root.End()
		st := r.Stats()
		if len(r.next.names()) != 3 || st.Kept[sampling.KeptSlow] != 3 || st.DroppedSpans[sampling.DroppedFlush] != 1 || st.DroppedSpans[sampling.DroppedStopped] != 1 {
			t.Errorf("%d spans passed; %+v", len(r.next.names()), st)
		}
		if diff := cmp.Diff([]string{"shutdown"}, r.next.calls); diff != "" {
			t.Errorf("calls of the next (-want +got):\n%s", diff)
		}
		checkEmpty(t, r)
	})
}

func TestTailShutdownDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nothing)
		openSlow(t, r, 3)
		r.next.block = make(chan struct{})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start := time.Now()
		if err := r.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Shutdown = %v, want its deadline", err)
		}
		if took := time.Since(start); took != time.Second {
			t.Errorf("Shutdown took %v with a deadline of 1 s", took)
		}
		close(r.next.block)
		synctest.Wait()
		st := r.Stats()
		if len(r.next.names()) != 1 || st.DroppedSpans[sampling.DroppedDeadline] != 2 || st.Dropped[sampling.DroppedDeadline] != 2 {
			t.Errorf("%d spans passed; %+v", len(r.next.names()), st)
		}
		checkEmpty(t, r)
	})
}

func TestNewTailRefuses(t *testing.T) {
	if _, err := sampling.NewTail(nil, sampling.TailConfig{}); err == nil {
		t.Error("no next processor: no error")
	}
	for name, cfg := range map[string]sampling.TailConfig{
		"ratio above one": {Ratio: 1.5}, "ratio below zero": {Ratio: -0.5}, "ratio NaN": {Ratio: math.NaN()},
		"slow": {Slow: -time.Second}, "cost": {CostNanoUSD: -2}, "traces": {MaxTraces: -1}, "spans": {MaxSpans: -1},
		"bytes": {MaxBytes: -1}, "age": {MaxAge: -1}, "decided": {MaxDecided: -1},
	} {
		if _, err := sampling.NewTail(&next{}, cfg); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// TestTailConcurrent: each trace arrives whole or not at all, and every span
// that ended has passed or is counted.
func TestTailConcurrent(t *testing.T) {
	r := newRig(t, sampling.TailConfig{Ratio: 0.5})
	const workers, traces, children = 20, 50, 5
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for i := range traces {
				ctx, root := r.start(t.Context(), "root")
				var below sync.WaitGroup
				for j := range children {
					below.Go(func() {
						_, s := r.start(ctx, "child")
						if i%10 == 0 && j == 3 {
							s.SetStatus(codes.Error, "")
						}
						s.End()
					})
				}
				below.Wait()
				root.End()
			}
		})
	}
	wg.Wait()
	if err := r.ForceFlush(t.Context()); err != nil {
		t.Fatal(err)
	}
	size := map[trace.TraceID]int{}
	for _, s := range r.next.ended {
		size[s.SpanContext().TraceID()]++
	}
	for id, n := range size {
		if n != children+1 {
			t.Errorf("%d spans of trace %s, want all %d", n, id, children+1)
		}
	}
	st := r.Stats()
	if got := int64(len(r.next.ended)) + total(st.DroppedSpans); got != workers*traces*(children+1) {
		t.Errorf("%d spans accounted for, want %d: %+v", got, workers*traces*(children+1), st)
	}
	if st.Kept[sampling.KeptError] != workers*traces/10 || total(st.Kept)+total(st.Dropped) != workers*traces {
		t.Errorf("%+v", st)
	}
	checkEmpty(t, r)
}

// TestTailUnsampled: a span that is recorded but not sampled is not ours to judge.
func TestTailUnsampled(t *testing.T) {
	n := &next{}
	p, err := sampling.NewTail(n, nothing)
	if err != nil {
		t.Fatal(err)
	}
	tp := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(p), sdktrace.WithSampler(recordOnly{}))
	_, s := tp.Tracer("test").Start(t.Context(), "op")
	s.End()
	if st := p.Stats(); len(n.names()) != 1 || st.HeldTraces != 0 {
		t.Errorf("%d spans passed; %+v", len(n.names()), st)
	}
	if err := tp.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
}

type recordOnly struct{}

func (recordOnly) ShouldSample(sdktrace.SamplingParameters) sdktrace.SamplingResult {
	return sdktrace.SamplingResult{Decision: sdktrace.RecordOnly}
}
func (recordOnly) Description() string { return "record only" }
