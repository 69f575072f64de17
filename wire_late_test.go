package kaizen

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime/debug"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/otel/attribute"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/kaizen-go/kaizen/hook"
	"github.com/kaizen-go/kaizen/sampling"
)

// asking is a sampler that may ask for attributes, and keeps those of the latest
// span.
type asking struct {
	sdktrace.Sampler
	seen []attribute.KeyValue
}

func (s *asking) ShouldSample(p sdktrace.SamplingParameters) sdktrace.SamplingResult {
	s.seen = p.Attributes
	return s.Sampler.ShouldSample(p)
}

// TestLateAttributes: with a sampler that does not ask, a tool's span learns at its
// end what it is. It ends up as with one that may ask, however it ends.
func TestLateAttributes(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) }))
	defer server.Close()
	own, others := tracetest.NewSpanRecorder(), tracetest.NewSpanRecorder()
	run := func(cfg Config, register func(*Observer)) {
		cfg.LogWriter, cfg.SpoolDir, cfg.Content = io.Discard, NoSpool, ContentRedacted
		obs, err := Start(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		register(obs)
		everyToolEnd(t, obs)
		if err := obs.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
	}
	run(Config{Server: server.URL}, func(o *Observer) {
		if !o.wire.late {
			t.Error("attributes do not come late with our own provider")
		}
		o.provider.RegisterSpanProcessor(own)
	})
	sampler := &asking{Sampler: sdktrace.AlwaysSample()}
	run(Config{TracerProvider: sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(others), sdktrace.WithSampler(sampler))}, func(o *Observer) {
		if o.wire.late {
			t.Error("attributes come late with a sampler that may ask for them")
		}
	})
	if len(sampler.seen) < 5 {
		t.Errorf("the sampler was shown %v", sampler.seen)
	}
	got, want := own.Ended(), others.Ended()
	if len(got) != len(want) || len(got) == 0 {
		t.Fatalf("%d spans with our own provider, %d with another", len(got), len(want))
	}
	for i := range got {
		if diff := cmp.Diff(told(want[i]), told(got[i])); diff != "" {
			t.Errorf("span %d (-another provider +our own):\n%s", i, diff)
		}
	}
}

// TestAsksNothing: attributes come late only where it is known that no sampler
// looks at them. If the SDK changes what it is made of, this fails; users' spans
// then learn early what they are.
func TestAsksNothing(t *testing.T) {
	always, ratio, own := sdktrace.AlwaysSample(), sdktrace.TraceIDRatioBased(0.5), &asking{Sampler: sdktrace.AlwaysSample()}
	sdk := func(s sdktrace.Sampler) trace.TracerProvider {
		return sdktrace.NewTracerProvider(sdktrace.WithSampler(s))
	}
	for _, tt := range []struct {
		name     string
		provider trace.TracerProvider
		want     bool
	}{
		{"the SDK's default", sdktrace.NewTracerProvider(), true},
		{"always", sdk(always), true},
		{"never", sdk(sdktrace.NeverSample()), true},
		{"a ratio", sdk(ratio), true},
		{"a ratio of 1", sdk(sdktrace.TraceIDRatioBased(1)), true},
		{"the parent's, and a ratio", sdk(sdktrace.ParentBased(ratio)), true},
		{"everything recorded", sdk(sdktrace.AlwaysRecord(sdktrace.ParentBased(ratio))), true},
		{"the user's own", sdk(own), false},
		{"the user's own at roots", sdk(sdktrace.ParentBased(own)), false},
		{"the user's own below", sdk(sdktrace.ParentBased(always, sdktrace.WithLocalParentSampled(own))), false},
		{"the user's own, all recorded", sdk(sdktrace.AlwaysRecord(own)), false},
		{"a provider around the SDK's", struct{ trace.TracerProvider }{sdktrace.NewTracerProvider()}, false},
		{"no provider", (*sdktrace.TracerProvider)(nil), false},
		{"a provider that was not made", new(sdktrace.TracerProvider), false},
		{"traces off", noop.NewTracerProvider(), false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := asksNothing(tt.provider); got != tt.want {
				t.Errorf("asksNothing = %v, want %v", got, tt.want)
			}
		})
	}
}

// timesOf keeps the times of the latest event that has ended.
type timesOf struct{ start, end time.Time }

// TestSpanAndEventAgree: the span of an operation and all else that is told of it
// have the same start and end, also where its end was told late.
func TestSpanAndEventAgree(t *testing.T) {
	for name, cfg := range map[string]Config{"content off": {}, "content": {Content: ContentRedacted}} {
		for _, p := range []hook.Payload{&hook.Tool{Name: "t"}, &hook.Iteration{Number: 1}, &hook.ModelCall{Operation: "chat", Model: "m"}} {
			for _, end := range []struct {
				name string
				call func(*hook.Op) time.Time
			}{
				{"ends well", func(op *hook.Op) time.Time { op.End(nil); return time.Time{} }},
				{"fails", func(op *hook.Op) time.Time { op.End(errors.New("broken")); return time.Time{} }},
				{"was over before", func(op *hook.Op) time.Time {
					at := time.Now()
					op.EndAt(nil, at)
					return at
				}},
			} {
				t.Run(name+"/"+p.Kind().String()+"/"+end.name, func(t *testing.T) {
					rec := tracetest.NewSpanRecorder()
					cfg := cfg
					cfg.Off, cfg.LogWriter, cfg.SpoolDir = Audit, io.Discard, NoSpool
					cfg.TracerProvider = sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(rec))
					obs, err := Start(t.Context(), cfg)
					if err != nil {
						t.Fatal(err)
					}
					var told timesOf
					if err := obs.Hooks().Register(hook.Registration{Name: "times", Timeout: time.Minute, Phases: []hook.Phase{hook.End},
						Handler: hook.HandlerFunc(func(_ context.Context, e hook.Event) error {
							told = timesOf{e.Start, e.Time}
							return nil
						})}); err != nil {
						t.Fatal(err)
					}
					_, op, err := obs.Hooks().Begin(t.Context(), p)
					if err != nil {
						t.Fatal(err)
					}
					at := end.call(op)
					if err := obs.Shutdown(context.Background()); err != nil {
						t.Error(err)
					}
					spans := rec.Ended()
					if len(spans) != 1 {
						t.Fatalf("%d spans", len(spans))
					}
					if s := spans[0]; !s.StartTime().Equal(told.start) || !s.EndTime().Equal(told.end) || s.EndTime().Before(s.StartTime()) {
						t.Errorf("the span is from %v to %v, the event from %v to %v", s.StartTime(), s.EndTime(), told.start, told.end)
					}
					if !at.IsZero() && !told.end.Equal(at) {
						t.Errorf("ended at %v, want %v", told.end, at)
					}
				})
			}
		}
	}
}

// TestLateAttributesAtOnce: tools that run at once, sampled at the head and at the
// tail, have each the attributes of their own, with a garbage collector that never
// rests.
func TestLateAttributesAtOnce(t *testing.T) {
	percent := debug.SetGCPercent(1)
	defer debug.SetGCPercent(percent)
	rec := tracetest.NewSpanRecorder()
	tail, err := sampling.NewTail(rec, sampling.TailConfig{Ratio: sampling.Off})
	if err != nil {
		t.Fatal(err)
	}
	obs, err := Start(t.Context(), Config{LogWriter: io.Discard, SpoolDir: NoSpool, Off: Audit, TracerProvider: sdktrace.NewTracerProvider(
		sdktrace.WithSpanProcessor(tail), sdktrace.WithSampler(sdktrace.ParentBased(sdktrace.TraceIDRatioBased(0.5))))})
	if err != nil {
		t.Fatal(err)
	}
	if !obs.wire.late {
		t.Error("attributes do not come late with a ratio of the parent's")
	}
	var kept sync.Map // of a span's id, what its attributes have to say
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := range 150 {
				id := fmt.Sprintf("%d-%d", g, i%10)
				ctx := WithRun(t.Context(), Run{RunID: id, AgentID: id, AgentName: id, UserID: id, SessionID: id})
				_ = hook.Do(ctx, obs.Hooks(), hook.Tool{Name: id, CallID: id, Description: id}, func(ctx context.Context, _ *hook.Op) error {
					if i%2 == 0 {
						return nil // which the tail leaves out
					}
					if sc := trace.SpanContextFromContext(ctx); sc.IsSampled() {
						kept.Store(sc.SpanID(), id)
					}
					return errors.New(id)
				})
			}
		})
	}
	wg.Wait()
	if err := errors.Join(tail.Shutdown(t.Context()), obs.Shutdown(t.Context())); err != nil {
		t.Error(err)
	}
	for _, s := range rec.Ended() {
		id, ok := kept.LoadAndDelete(s.SpanContext().SpanID())
		if !ok {
			t.Errorf("%s is not to be kept", s.Name())
			continue
		}
		text, got := id.(string), told(s)
		for _, key := range []string{"gen_ai.tool.name", "gen_ai.tool.call.id", "gen_ai.tool.description", "gen_ai.agent.id", "gen_ai.agent.name", "kaizen.run.id", "user.id", "gen_ai.conversation.id"} {
			if got["attribute "+key] != text {
				t.Errorf("span %s of %s: %s is %v", s.Name(), text, key, got["attribute "+key])
			}
		}
		if s.Name() != "execute_tool "+text || got["why"] != text {
			t.Errorf("the span of %s is %q, failed by %q", text, s.Name(), got["why"])
		}
	}
	kept.Range(func(_, id any) bool {
		t.Errorf("a span of %v is lost", id)
		return true
	})
}

// everyToolEnd calls tools that end in every way there is.
func everyToolEnd(t *testing.T, obs *Observer) {
	t.Helper()
	err := obs.Hooks().Register(hook.Registration{Name: "guard", Timeout: time.Minute, Phases: []hook.Phase{hook.Start}, Handler: hook.HandlerFunc(func(_ context.Context, e hook.Event) error {
		if e.Payload.Label() == "forbidden" {
			return &hook.DeniedError{Reason: "not today"}
		}
		return nil
	})})
	if err != nil {
		t.Fatal(err)
	}
	ctx := WithRun(t.Context(), Run{RunID: "r", ParentRunID: "p", AgentID: "a", AgentName: "helper", SessionID: "s", UserID: "u"})
	full := func() *hook.Tool {
		return &hook.Tool{Name: "search", CallID: "c", Description: "Searches.", Type: "function", Arguments: `{"q":"ada@example.com"}`}
	}
	_ = obs.Hooks().Do(ctx, full(), func(_ context.Context, op *hook.Op) error {
		op.Update(func(p hook.Payload) { p.(*hook.Tool).Result = "found by bob@example.com" })
		return nil
	})
	_ = obs.Hooks().Do(ctx, full(), func(context.Context, *hook.Op) error { return errors.New("broken: password=hunter2") })
	_ = obs.Hooks().Do(ctx, full(), func(context.Context, *hook.Op) error { return context.Canceled })
	_ = obs.Hooks().Do(t.Context(), &hook.Tool{Name: "plain"}, func(context.Context, *hook.Op) error { return nil })
	_ = obs.Hooks().Do(ctx, &hook.Tool{Name: "forbidden"}, func(context.Context, *hook.Op) error { return nil })
	func() {
		defer func() { _ = recover() }()
		_ = obs.Hooks().Do(ctx, full(), func(context.Context, *hook.Op) error { panic("boom") })
	}()
}

// told is what a span tells, but for its ids and times.
func told(s sdktrace.ReadOnlySpan) map[string]any {
	out := map[string]any{"name": s.Name(), "kind": s.SpanKind().String(), "status": s.Status().Code.String(), "why": s.Status().Description}
	for _, kv := range s.Attributes() {
		out["attribute "+string(kv.Key)] = kv.Value.String()
	}
	for _, e := range s.Events() {
		out["event "+e.Name] = len(e.Attributes)
	}
	return out
}
