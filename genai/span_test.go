package genai_test

import (
	"context"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/kaizen-go/kaizen/genai"
)

// recorded returns a tracer and what keeps its spans.
func recorded(opts ...sdktrace.TracerProviderOption) (genai.Tracer, *tracetest.SpanRecorder) {
	rec := tracetest.NewSpanRecorder()
	tp := sdktrace.NewTracerProvider(append(opts, sdktrace.WithSpanProcessor(rec))...)
	return genai.NewTracer(tp), rec
}

func attributes(kvs []attribute.KeyValue) map[string]any {
	m := make(map[string]any, len(kvs))
	for _, kv := range kvs {
		m[string(kv.Key)] = kv.Value.AsInterface()
	}
	return m
}

func TestSpanName(t *testing.T) {
	for _, tt := range []struct{ name, operation, target, want string }{
		{"model", genai.Chat, "gpt-5", "chat gpt-5"},
		{"tool", genai.ExecuteTool, "search", "execute_tool search"},
		{"no target", genai.InvokeAgent, "", "invoke_agent"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := genai.SpanName(tt.operation, tt.target); got != tt.want {
				t.Errorf("SpanName(%q, %q) = %q, want %q", tt.operation, tt.target, got, tt.want)
			}
		})
	}
}

// TestKeys: a key that is spelt like no key of the conventions, or one name for
// two attributes, would be found by nobody who looks for it.
func TestKeys(t *testing.T) {
	keys := []attribute.Key{
		genai.OperationName, genai.ProviderName, genai.ConversationID, genai.AgentID, genai.AgentName, genai.RequestModel,
		genai.RequestStream, genai.RequestMaxTokens, genai.RequestTemp, genai.ResponseModel, genai.ResponseID, genai.FinishReasons,
		genai.FirstChunk, genai.InputTokens, genai.OutputTokens, genai.CacheReadTokens, genai.CacheWriteTokens, genai.ReasoningTokens,
		genai.ToolName, genai.ToolCallID, genai.ToolDescription, genai.ToolType, genai.ToolArguments, genai.ToolResult,
		genai.InputMessages, genai.OutputMessages, genai.SystemInstr, genai.MemoryStoreID, genai.MemoryRecords, genai.ErrorType,
		genai.ServerAddress, genai.ServerPort, genai.ResendCount, genai.UserID, genai.Kind, genai.Status, genai.Pending, genai.OpID,
		genai.RunID, genai.ParentRunID, genai.StopReason, genai.Iterations, genai.Iteration, genai.Attempts, genai.Partial,
		genai.ServiceTier, genai.RequestID, genai.HTTPStatus, genai.CostNanoUSD, genai.CostUnpriced, genai.CostTable, genai.CostRule,
		genai.Action, genai.Decision, genai.DecidedBy, genai.Reason, genai.Pattern, genai.From, genai.To, genai.PlanSteps,
		genai.CheckpointID, genai.Step, genai.SizeBytes, genai.Mode, genai.Source, genai.GuardName, genai.Input, genai.Output,
		genai.MetricsPushed,
	}
	form := regexp.MustCompile(`^(gen_ai|kaizen|error|server|http|user)(\.[a-z]+(_[a-z]+)*)+$`)
	seen := map[attribute.Key]bool{}
	for _, k := range keys {
		if !form.MatchString(string(k)) {
			t.Errorf("key %q is not in a namespace of the conventions or ours", k)
		}
		if seen[k] {
			t.Errorf("key %q has two names", k)
		}
		seen[k] = true
	}
}

func TestScope(t *testing.T) {
	tracer, rec := recorded()
	_, span := tracer.Start(t.Context(), genai.Operation{Name: "chat"})
	genai.End(span, genai.Outcome{Status: "ok"})
	_, own := tracer.OTel().Start(t.Context(), "mine")
	own.End()
	for _, s := range rec.Ended() {
		scope := s.InstrumentationScope()
		if scope.Name != genai.ScopeName || scope.SchemaURL != genai.SchemaURL {
			t.Errorf("span %q has scope %q, schema %q", s.Name(), scope.Name, scope.SchemaURL)
		}
	}
}

func TestStart(t *testing.T) {
	start := time.Date(2026, 2, 3, 4, 5, 6, 7, time.UTC)
	var seen map[string]any
	tracer, rec := recorded(sdktrace.WithSampler(samplerFunc(func(p sdktrace.SamplingParameters) {
		seen = attributes(p.Attributes)
	})))
	link, err := genai.NewLink("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331", genai.Reason.String("retry of"))
	if err != nil {
		t.Fatal(err)
	}
	_, span := tracer.Start(t.Context(), genai.Operation{
		Name: "chat gpt-5", Kind: trace.SpanKindClient, Start: start,
		Attributes: []attribute.KeyValue{genai.RequestModel.String("gpt-5"), genai.RequestStream.Bool(true)},
		Links:      []trace.Link{link},
	})
	genai.End(span, genai.Outcome{Status: "ok", Time: start.Add(time.Second), Attributes: []attribute.KeyValue{genai.InputTokens.Int64(12)}})

	want := map[string]any{"gen_ai.request.model": "gpt-5", "gen_ai.request.stream": true}
	if diff := cmp.Diff(want, seen); diff != "" {
		t.Errorf("attributes that the sampler saw (-want +got):\n%s", diff)
	}
	got := rec.Ended()[0]
	want["gen_ai.usage.input_tokens"], want["kaizen.status"] = int64(12), "ok"
	if diff := cmp.Diff(want, attributes(got.Attributes())); diff != "" {
		t.Errorf("attributes at the end (-want +got):\n%s", diff)
	}
	if got.SpanKind() != trace.SpanKindClient || !got.StartTime().Equal(start) || got.EndTime().Sub(start) != time.Second {
		t.Errorf("span is %v, %v to %v", got.SpanKind(), got.StartTime(), got.EndTime())
	}
	if n := len(got.Links()); n != 1 || got.Links()[0].SpanContext.SpanID().String() != "b7ad6b7169203331" {
		t.Errorf("links = %v", got.Links())
	}
}

type samplerFunc func(sdktrace.SamplingParameters)

func (f samplerFunc) ShouldSample(p sdktrace.SamplingParameters) sdktrace.SamplingResult {
	f(p)
	return sdktrace.SamplingResult{Decision: sdktrace.RecordAndSample}
}

func (samplerFunc) Description() string { return "look on" }

// TestEnd: an operation that succeeded is OK, one that failed is an error with
// its text, its type and its stack as an exception event.
func TestEnd(t *testing.T) {
	at := time.Date(2026, 2, 3, 4, 5, 6, 0, time.UTC)
	for _, tt := range []struct {
		name    string
		outcome genai.Outcome
		code    codes.Code
		text    string
		attrs   map[string]any
		event   map[string]any // nil for none
	}{
		{"ok", genai.Outcome{Status: "ok"}, codes.Ok, "", map[string]any{"kaizen.status": "ok"}, nil},
		{
			"error", genai.Outcome{Status: "error", ErrorType: "timeout", Message: "no answer in 30 s"}, codes.Error, "no answer in 30 s",
			map[string]any{"kaizen.status": "error", "error.type": "timeout"},
			map[string]any{"exception.type": "timeout", "exception.message": "no answer in 30 s"},
		},
		{
			"panic", genai.Outcome{Status: "error", ErrorType: "panic", Message: "boom", Stack: "goroutine 1"}, codes.Error, "boom",
			map[string]any{"kaizen.status": "error", "error.type": "panic"},
			map[string]any{"exception.type": "panic", "exception.message": "boom", "exception.stacktrace": "goroutine 1"},
		},
		{
			"error without a type", genai.Outcome{Status: "error", Message: "odd"}, codes.Error, "odd",
			map[string]any{"kaizen.status": "error", "error.type": "_OTHER"},
			map[string]any{"exception.type": "_OTHER", "exception.message": "odd"},
		},
		{"error without a word", genai.Outcome{Status: "error"}, codes.Error, "error", map[string]any{"kaizen.status": "error"}, nil},
		{"denied", genai.Outcome{Status: "denied"}, codes.Error, "denied", map[string]any{"kaizen.status": "denied"}, nil},
		{"cancelled", genai.Outcome{Status: "cancelled"}, codes.Error, "cancelled", map[string]any{"kaizen.status": "cancelled"}, nil},
		{"another status", genai.Outcome{Status: "skipped"}, codes.Error, "skipped", map[string]any{"kaizen.status": "skipped"}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tracer, rec := recorded()
			_, span := tracer.Start(t.Context(), genai.Operation{Name: "op", Start: at.Add(-time.Second)})
			tt.outcome.Time = at
			genai.End(span, tt.outcome)
			genai.End(span, genai.Outcome{Status: "ok"}) // a second end changes nothing
			if n := len(rec.Ended()); n != 1 {
				t.Fatalf("%d spans ended, want 1", n)
			}
			got := rec.Ended()[0]
			if got.Status() != (sdktrace.Status{Code: tt.code, Description: tt.text}) {
				t.Errorf("status = %v, want %v %q", got.Status(), tt.code, tt.text)
			}
			if diff := cmp.Diff(tt.attrs, attributes(got.Attributes())); diff != "" {
				t.Errorf("attributes (-want +got):\n%s", diff)
			}
			if !got.EndTime().Equal(at) {
				t.Errorf("ended at %v, want %v", got.EndTime(), at)
			}
			var event map[string]any
			for _, e := range got.Events() {
				if e.Name != "exception" || event != nil || !e.Time.Equal(at) {
					t.Errorf("event %q at %v", e.Name, e.Time)
				}
				event = attributes(e.Attributes)
			}
			if diff := cmp.Diff(tt.event, event); diff != "" {
				t.Errorf("exception event (-want +got):\n%s", diff)
			}
		})
	}
}

// TestEndUnsampled: a span that is not recorded takes no attributes, but ends.
func TestEndUnsampled(t *testing.T) {
	tracer, rec := recorded(sdktrace.WithSampler(sdktrace.NeverSample()))
	ctx, span := tracer.Start(t.Context(), genai.Operation{Name: "op"})
	genai.End(span, genai.Outcome{Status: "error", Message: "lost"})
	if len(rec.Ended()) != 0 || !trace.SpanContextFromContext(ctx).IsValid() {
		t.Errorf("%d spans recorded, ids valid: %v", len(rec.Ended()), trace.SpanContextFromContext(ctx).IsValid())
	}
}

// TestDepth: parents are right at any depth; all spans are of one trace.
func TestDepth(t *testing.T) {
	const depth = 200
	tracer, rec := recorded()
	ctx := t.Context()
	spans := make([]trace.Span, depth)
	for i := range spans {
		ctx, spans[i] = tracer.Start(ctx, genai.Operation{Name: fmt.Sprint(i)})
	}
	for _, s := range slices.Backward(spans) {
		genai.End(s, genai.Outcome{Status: "ok"})
	}
	for _, s := range rec.Ended() {
		var i int
		if _, err := fmt.Sscan(s.Name(), &i); err != nil {
			t.Fatal(err)
		}
		if s.SpanContext().TraceID() != spans[0].SpanContext().TraceID() {
			t.Fatalf("span %d is of another trace", i)
		}
		if i == 0 {
			if s.Parent().IsValid() {
				t.Errorf("the root has a parent")
			}
		} else if s.Parent().SpanID() != spans[i-1].SpanContext().SpanID() {
			t.Errorf("span %d has parent %s", i, s.Parent().SpanID())
		}
	}
}

// TestConcurrent: 100 operations at once, each with a child, under one root:
// no id twice, each child in its parent's trace and under its own parent.
func TestConcurrent(t *testing.T) {
	const n = 100
	tracer, rec := recorded()
	ctx, root := tracer.Start(t.Context(), genai.Operation{Name: "root"})
	var ready, done sync.WaitGroup
	ready.Add(n)
	for i := range n {
		done.Go(func() {
			ctx, span := tracer.Start(ctx, genai.Operation{Name: fmt.Sprint("op ", i)})
			ready.Done()
			ready.Wait() // all are open at once
			_, child := tracer.Start(ctx, genai.Operation{Name: fmt.Sprint("child ", i)})
			genai.End(child, genai.Outcome{Status: "ok"})
			genai.End(span, genai.Outcome{Status: "ok"})
		})
	}
	done.Wait()
	genai.End(root, genai.Outcome{Status: "ok"})

	byName := map[string]sdktrace.ReadOnlySpan{}
	ids := map[trace.SpanID]bool{}
	for _, s := range rec.Ended() {
		byName[s.Name()] = s
		ids[s.SpanContext().SpanID()] = true
		if s.SpanContext().TraceID() != root.SpanContext().TraceID() {
			t.Errorf("%s is of another trace", s.Name())
		}
	}
	if len(ids) != 2*n+1 || len(byName) != 2*n+1 {
		t.Fatalf("%d ids of %d spans, want %d", len(ids), len(byName), 2*n+1)
	}
	for i := range n {
		op, child := byName[fmt.Sprint("op ", i)], byName[fmt.Sprint("child ", i)]
		if op.Parent().SpanID() != root.SpanContext().SpanID() || child.Parent().SpanID() != op.SpanContext().SpanID() {
			t.Errorf("operation %d: parents %s, %s", i, op.Parent().SpanID(), child.Parent().SpanID())
		}
	}
}

// TestConcurrentRoots: without a span in the context each operation is a trace of its own.
func TestConcurrentRoots(t *testing.T) {
	tracer, rec := recorded()
	var wg sync.WaitGroup
	for range 100 {
		wg.Go(func() {
			_, span := tracer.Start(t.Context(), genai.Operation{Name: "root"})
			genai.End(span, genai.Outcome{Status: "ok"})
		})
	}
	wg.Wait()
	traces := map[trace.TraceID]bool{}
	for _, s := range rec.Ended() {
		traces[s.SpanContext().TraceID()] = true
	}
	if len(traces) != 100 {
		t.Errorf("%d traces, want 100: %v", len(traces), slices.Collect(maps.Keys(traces)))
	}
}

func TestLinkedRoot(t *testing.T) {
	tracer, rec := recorded()
	ctx, request := tracer.Start(t.Context(), genai.Operation{Name: "request"})
	ctx, job := tracer.Start(ctx, genai.Operation{Name: "job", Root: true, Links: []trace.Link{trace.LinkFromContext(ctx)}})
	_, step := tracer.Start(ctx, genai.Operation{Name: "step"})
	for _, s := range []trace.Span{step, job, request} {
		genai.End(s, genai.Outcome{Status: "ok"})
	}
	got := rec.Ended()[1]
	if got.Parent().IsValid() || got.SpanContext().TraceID() == request.SpanContext().TraceID() {
		t.Errorf("the job has parent %v in trace %s", got.Parent(), got.SpanContext().TraceID())
	}
	if len(got.Links()) != 1 || !got.Links()[0].SpanContext.Equal(request.SpanContext()) {
		t.Errorf("links of the job = %v, want the request's span", got.Links())
	}
	if s := rec.Ended()[0]; s.SpanContext().TraceID() != job.SpanContext().TraceID() {
		t.Errorf("the step is not in the job's trace")
	}
}

func TestNewLink(t *testing.T) {
	for _, tt := range []struct {
		name, trace, span string
		ok                bool
	}{
		{"valid", "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331", true},
		{"upper case", "0AF7651916CD43DD8448EB211C80319C", "b7ad6b7169203331", false},
		{"zero trace", "00000000000000000000000000000000", "b7ad6b7169203331", false},
		{"zero span", "0af7651916cd43dd8448eb211c80319c", "0000000000000000", false},
		{"short", "0af7", "b7ad6b7169203331", false},
		{"empty", "", "", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			link, err := genai.NewLink(tt.trace, tt.span, genai.Reason.String("because"))
			if (err == nil) != tt.ok {
				t.Fatalf("NewLink = %v, want ok %v", err, tt.ok)
			}
			if tt.ok && (link.SpanContext.TraceID().String() != tt.trace || link.SpanContext.SpanID().String() != tt.span || len(link.Attributes) != 1) {
				t.Errorf("NewLink = %+v", link)
			}
		})
	}
}

// TestAddLink: a link may also come after the span has started.
func TestAddLink(t *testing.T) {
	tracer, rec := recorded()
	_, span := tracer.Start(context.Background(), genai.Operation{Name: "op"})
	link, err := genai.NewLink("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331")
	if err != nil {
		t.Fatal(err)
	}
	span.AddLink(link)
	genai.End(span, genai.Outcome{Status: "ok"})
	if links := rec.Ended()[0].Links(); len(links) != 1 {
		t.Errorf("links = %v, want one", links)
	}
}
