// Package otlptest checks what the SDK's exporter writes against the collector's
// own reader of OTLP. It stands in this module because the SDK must not require
// the collector.
package otlptest

import (
	"compress/gzip"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog/plogotlp"
	"go.opentelemetry.io/collector/pdata/pmetric/pmetricotlp"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/collector/pdata/ptrace/ptraceotlp"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/kaizen-go/kaizen/otlp"
)

// receiver reads requests as the collector does.
type receiver struct {
	mu      sync.Mutex
	traces  []ptraceotlp.ExportRequest
	metrics []pmetricotlp.ExportRequest
	logs    []plogotlp.ExportRequest
	errs    []error
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, err := read(req)
	r.mu.Lock()
	defer r.mu.Unlock()
	var answer []byte
	switch req.URL.Path {
	case "/v1/traces":
		m := ptraceotlp.NewExportRequest()
		err = errors.Join(err, m.UnmarshalProto(body))
		r.traces = append(r.traces, m)
		answer, _ = ptraceotlp.NewExportResponse().MarshalProto()
	case "/v1/metrics":
		m := pmetricotlp.NewExportRequest()
		err = errors.Join(err, m.UnmarshalProto(body))
		r.metrics = append(r.metrics, m)
		answer, _ = pmetricotlp.NewExportResponse().MarshalProto()
	case "/v1/logs":
		m := plogotlp.NewExportRequest()
		err = errors.Join(err, m.UnmarshalProto(body))
		r.logs = append(r.logs, m)
		answer, _ = plogotlp.NewExportResponse().MarshalProto()
	default:
		err = errors.New("path " + req.URL.Path)
	}
	if err != nil {
		r.errs = append(r.errs, err)
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/x-protobuf")
	_, _ = w.Write(answer)
}

func read(req *http.Request) ([]byte, error) {
	if got := req.Header.Get("Content-Type"); got != "application/x-protobuf" {
		return nil, errors.New("content type " + got)
	}
	zr, err := gzip.NewReader(req.Body)
	if err != nil {
		return nil, err
	}
	return io.ReadAll(zr)
}

// open starts a receiver and an exporter to it; done flushes and checks both.
func open(t *testing.T, cfg otlp.Config) (exp *otlp.Exporter, r *receiver, done func()) {
	t.Helper()
	r = &receiver{}
	srv := httptest.NewServer(r)
	t.Cleanup(srv.Close)
	cfg.Endpoint = srv.URL
	exp, err := otlp.NewExporter(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return exp, r, func() {
		t.Helper()
		if err := exp.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		for _, err := range r.errs {
			t.Error(err)
		}
	}
}

// everyKind is one attribute of each type, empty and big ones among them.
func everyKind() []attribute.KeyValue {
	return []attribute.KeyValue{
		attribute.Bool("bool", true), attribute.Bool("bool.false", false),
		attribute.Int64("int", -42), attribute.Int64("int.zero", 0),
		attribute.Float64("float", 1.5), attribute.Float64("float.zero", 0),
		attribute.String("string", "grüße\x00\n"), attribute.String("string.empty", ""),
		attribute.BoolSlice("bools", []bool{true, false}),
		attribute.Int64Slice("ints", []int64{1, -2, 3, 4, 5}),
		attribute.Float64Slice("floats", []float64{0, 2.5}),
		attribute.StringSlice("strings", []string{"a", "", "c", "d"}),
		attribute.StringSlice("strings.empty", nil),
		{Key: "bytes", Value: attribute.ByteSliceValue([]byte{0, 255, 7})},
		{Key: "bytes.empty", Value: attribute.ByteSliceValue(nil)},
		{Key: "empty", Value: attribute.Value{}},
		{Key: "slice", Value: attribute.SliceValue(attribute.IntValue(1), attribute.StringValue("x"), attribute.Value{}, attribute.SliceValue())},
		{Key: "map", Value: attribute.MapValue(attribute.String("k", "v"), attribute.KeyValue{Key: "deep", Value: attribute.MapValue(attribute.Bool("b", true))})},
		attribute.String("long", string(make([]byte, 70_000))),
	}
}

// raw is a value in the form that pdata's AsRaw gives.
func raw(v attribute.Value) any {
	list := func(n int, at func(int) any) any {
		out := make([]any, n)
		for i := range out {
			out[i] = at(i)
		}
		return out
	}
	switch v.Type() {
	case attribute.EMPTY:
		return nil
	case attribute.BYTESLICE:
		return append([]byte(nil), v.AsByteSlice()...) // pdata has nil for empty
	case attribute.BOOLSLICE:
		return list(len(v.AsBoolSlice()), func(i int) any { return v.AsBoolSlice()[i] })
	case attribute.INT64SLICE:
		return list(len(v.AsInt64Slice()), func(i int) any { return v.AsInt64Slice()[i] })
	case attribute.FLOAT64SLICE:
		return list(len(v.AsFloat64Slice()), func(i int) any { return v.AsFloat64Slice()[i] })
	case attribute.STRINGSLICE:
		return list(len(v.AsStringSlice()), func(i int) any { return v.AsStringSlice()[i] })
	case attribute.SLICE:
		return list(len(v.AsSlice()), func(i int) any { return raw(v.AsSlice()[i]) })
	case attribute.MAP:
		return rawMap(v.AsMap())
	}
	return v.AsInterface()
}

func rawMap(kvs []attribute.KeyValue) map[string]any {
	m := map[string]any{}
	for _, kv := range kvs {
		m[string(kv.Key)] = raw(kv.Value)
	}
	return m
}

// flatSpan is a span with all that belongs to it, for comparison.
type flatSpan struct {
	Resource, Scope                map[string]any
	ResourceSchema, ScopeSchema    string
	ScopeName, ScopeVersion        string
	TraceID, SpanID, Parent, State string
	Flags                          uint32
	Name                           string
	Kind, Status                   int
	Message                        string
	Start, End                     int64
	Attributes                     map[string]any
	Events, Links                  []flatPart
	DroppedA, DroppedE, DroppedL   uint32
}

type flatPart struct {
	Time                   int64
	Name                   string
	TraceID, SpanID, State string
	Flags                  uint32
	Attributes             map[string]any
	Dropped                uint32
}

func flags(f trace.TraceFlags, remote bool) uint32 {
	n := uint32(f) | 0x100
	if remote {
		n |= 0x200
	}
	return n
}

func nano(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}

// want flattens a span as the OpenTelemetry SDK has it.
func want(s sdktrace.ReadOnlySpan) flatSpan {
	sc, scope := s.SpanContext(), s.InstrumentationScope()
	f := flatSpan{
		Resource: rawMap(s.Resource().Attributes()), ResourceSchema: s.Resource().SchemaURL(),
		Scope: rawMap(scope.Attributes.ToSlice()), ScopeName: scope.Name, ScopeVersion: scope.Version, ScopeSchema: scope.SchemaURL,
		TraceID: sc.TraceID().String(), SpanID: sc.SpanID().String(), State: sc.TraceState().String(),
		Flags: flags(sc.TraceFlags(), s.Parent().IsRemote()),
		Name:  s.Name(), Kind: int(s.SpanKind()), Message: s.Status().Description,
		Start: nano(s.StartTime()), End: nano(s.EndTime()), Attributes: rawMap(s.Attributes()),
		DroppedA: uint32(s.DroppedAttributes()), DroppedE: uint32(s.DroppedEvents()), DroppedL: uint32(s.DroppedLinks()),
	}
	if s.Parent().HasSpanID() {
		f.Parent = s.Parent().SpanID().String()
	}
	f.Status = map[codes.Code]int{codes.Ok: int(ptrace.StatusCodeOk), codes.Error: int(ptrace.StatusCodeError)}[s.Status().Code]
	for _, e := range s.Events() {
		f.Events = append(f.Events, flatPart{Time: nano(e.Time), Name: e.Name, Attributes: rawMap(e.Attributes), Dropped: uint32(e.DroppedAttributeCount)})
	}
	for _, l := range s.Links() {
		f.Links = append(f.Links, flatPart{TraceID: l.SpanContext.TraceID().String(), SpanID: l.SpanContext.SpanID().String(),
			State: l.SpanContext.TraceState().String(), Flags: flags(l.SpanContext.TraceFlags(), l.SpanContext.IsRemote()),
			Attributes: rawMap(l.Attributes), Dropped: uint32(l.DroppedAttributeCount)})
	}
	return f
}

// got flattens what the collector's reader found, by span id; pending ones apart.
func got(t *testing.T, requests []ptraceotlp.ExportRequest) (spans, pending map[string]flatSpan) {
	spans, pending = map[string]flatSpan{}, map[string]flatSpan{}
	for _, req := range requests {
		for _, rs := range req.Traces().ResourceSpans().All() {
			for _, ss := range rs.ScopeSpans().All() {
				for _, s := range ss.Spans().All() {
					f := gotSpan(s)
					f.Resource, f.ResourceSchema = rs.Resource().Attributes().AsRaw(), rs.SchemaUrl()
					f.Scope, f.ScopeName, f.ScopeVersion = ss.Scope().Attributes().AsRaw(), ss.Scope().Name(), ss.Scope().Version()
					f.ScopeSchema = ss.SchemaUrl()
					into := spans
					if f.Attributes["kaizen.pending"] == true {
						into = pending
					}
					if _, twice := into[f.SpanID]; twice {
						t.Errorf("span %s came twice", f.SpanID)
					}
					into[f.SpanID] = f
				}
			}
		}
	}
	return spans, pending
}

func gotSpan(s ptrace.Span) flatSpan {
	f := flatSpan{
		TraceID: s.TraceID().String(), SpanID: s.SpanID().String(), Parent: s.ParentSpanID().String(), State: s.TraceState().AsRaw(),
		Flags: s.Flags(), Name: s.Name(), Kind: int(s.Kind()), Status: int(s.Status().Code()), Message: s.Status().Message(),
		Start: int64(s.StartTimestamp()), End: int64(s.EndTimestamp()), Attributes: s.Attributes().AsRaw(),
		DroppedA: s.DroppedAttributesCount(), DroppedE: s.DroppedEventsCount(), DroppedL: s.DroppedLinksCount(),
	}
	for _, e := range s.Events().All() {
		f.Events = append(f.Events, flatPart{Time: int64(e.Timestamp()), Name: e.Name(), Attributes: e.Attributes().AsRaw(), Dropped: e.DroppedAttributesCount()})
	}
	for _, l := range s.Links().All() {
		f.Links = append(f.Links, flatPart{TraceID: l.TraceID().String(), SpanID: l.SpanID().String(), State: l.TraceState().AsRaw(),
			Flags: l.Flags(), Attributes: l.Attributes().AsRaw(), Dropped: l.DroppedAttributesCount()})
	}
	return f
}

// recorder keeps the spans that ended, as the SDK hands them out.
type recorder struct {
	mu    sync.Mutex
	spans []sdktrace.ReadOnlySpan
}

func (*recorder) OnStart(context.Context, sdktrace.ReadWriteSpan) {}
func (r *recorder) OnEnd(s sdktrace.ReadOnlySpan) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.spans = append(r.spans, s)
}
func (*recorder) ForceFlush(context.Context) error { return nil }
func (*recorder) Shutdown(context.Context) error   { return nil }

// record makes spans of every shape on several resources and scopes.
func record(t *testing.T, exp *otlp.Exporter) []sdktrace.ReadOnlySpan {
	rec := &recorder{}
	state, err := trace.ParseTraceState("vendor=x,other=y")
	if err != nil {
		t.Fatal(err)
	}
	remote := trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1, 2}, SpanID: trace.SpanID{3}, TraceFlags: trace.FlagsSampled, TraceState: state, Remote: true})
	for i, res := range []*resource.Resource{
		resource.NewWithAttributes("https://schema/1", append(everyKind(), attribute.String("service.name", "a"))...),
		resource.NewSchemaless(attribute.String("service.name", "b")),
	} {
		limits := sdktrace.NewSpanLimits()
		limits.AttributeCountLimit, limits.EventCountLimit, limits.LinkCountLimit = 20, 3, 2
		limits.AttributePerEventCountLimit, limits.AttributePerLinkCountLimit = 19, 19
		tp := sdktrace.NewTracerProvider(sdktrace.WithResource(res), sdktrace.WithRawSpanLimits(limits),
			sdktrace.WithSpanProcessor(exp.SpanProcessor()), sdktrace.WithSpanProcessor(rec))
		for _, tr := range []trace.Tracer{
			tp.Tracer("plain"),
			tp.Tracer("full", trace.WithInstrumentationVersion("1.2"), trace.WithSchemaURL("https://schema/2"), trace.WithInstrumentationAttributes(attribute.String("k", "v"))),
		} {
			for kind := trace.SpanKindUnspecified; kind <= trace.SpanKindConsumer; kind++ {
				ctx := t.Context()
				if kind%2 == 0 {
					ctx = trace.ContextWithSpanContext(ctx, remote)
				}
				ctx, s := tr.Start(ctx, "op", trace.WithSpanKind(kind), trace.WithAttributes(everyKind()...),
					trace.WithLinks(trace.Link{SpanContext: remote, Attributes: append(everyKind(), attribute.Int("over", 1))}))
				_, child := tr.Start(ctx, "child")
				child.End()
				for e := range i + 4 {
					s.AddEvent("e", trace.WithAttributes(append(everyKind(), attribute.Int("n", e))...))
				}
				s.SetAttributes(attribute.Int("one", 1), attribute.Int("two", 2))
				s.SetStatus([]codes.Code{codes.Unset, codes.Error, codes.Ok}[int(kind)%3], "why")
				s.AddLink(trace.Link{SpanContext: s.SpanContext()})
				s.AddLink(trace.Link{SpanContext: s.SpanContext()})
				s.End()
			}
		}
	}
	return rec.spans
}

func TestSpans(t *testing.T) {
	for _, batch := range []int{0, 200 << 10, 1} {
		exp, r, done := open(t, otlp.Config{BatchBytes: batch})
		ended := record(t, exp)
		done()
		spans, _ := got(t, r.traces)
		if len(spans) != len(ended) {
			t.Errorf("batches of %d: %d spans arrived, %d ended", batch, len(spans), len(ended))
		}
		for _, s := range ended {
			if diff := cmp.Diff(want(s), spans[s.SpanContext().SpanID().String()]); diff != "" {
				t.Fatalf("batches of %d: span differs (-want +got):\n%s", batch, diff)
			}
		}
		if batch == 1 && len(r.traces) != len(ended) {
			t.Errorf("%d requests for %d spans that fill a batch each", len(r.traces), len(ended))
		}
		if batch == 0 {
			if n := r.traces[0].Traces().ResourceSpans().Len(); len(r.traces) == 1 && n != 2 {
				t.Errorf("%d resources in the request, want 2: spans are grouped", n)
			}
		}
	}
}

func TestPendingRun(t *testing.T) {
	exp, r, done := open(t, otlp.Config{})
	rec := &recorder{}
	tp := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(exp.SpanProcessor()), sdktrace.WithSpanProcessor(rec))
	tr := tp.Tracer("agent", trace.WithInstrumentationVersion("3"))
	ctx, run := tr.Start(t.Context(), "invoke_agent a", trace.WithAttributes(attribute.String("kaizen.kind", "run"), attribute.String("kaizen.run.id", "r1")))
	_, tool := tr.Start(ctx, "execute_tool t", trace.WithAttributes(attribute.String("kaizen.kind", "tool")))
	if err := exp.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	spans, pending := got(t, r.traces)
	id := run.SpanContext().SpanID().String()
	p, ok := pending[id]
	if !ok || len(pending) != 1 || len(spans) != 0 {
		t.Fatalf("before the end: %d pending, %d spans; want the run alone, pending", len(pending), len(spans))
	}
	run.SetAttributes(attribute.Int("later", 1))
	tool.End()
	run.End()
	done()
	spans, _ = got(t, r.traces)
	if len(spans) != 2 {
		t.Fatalf("after the end: %d spans, want 2", len(spans))
	}
	// But for what came later, the announcement is the span.
	final := spans[id]
	if p.End != 0 || final.End == 0 {
		t.Errorf("end is %d pending and %d final", p.End, final.End)
	}
	final.End = 0
	delete(final.Attributes, "later")
	delete(p.Attributes, "kaizen.pending")
	if diff := cmp.Diff(final, p); diff != "" {
		t.Errorf("pending copy differs (-final +pending):\n%s", diff)
	}
}

func TestLogs(t *testing.T) {
	res := resource.NewWithAttributes("https://schema/1", everyKind()...)
	exp, r, done := open(t, otlp.Config{Resource: res})
	at := time.Unix(1_700_000_000, 123)
	sent := []otlp.LogRecord{
		{Time: at, Observed: at.Add(time.Second), Severity: 17, SeverityText: "ERROR", Body: "it broke", Logger: "agent.tool",
			TraceID: trace.TraceID{9}, SpanID: trace.SpanID{8}, Flags: trace.FlagsSampled, Attributes: append(everyKind(), attribute.String("log.record.uid", "own"))},
		{Body: "bare"},
		{Logger: "agent.tool", Observed: at, Attributes: everyKind()},
	}
	for _, rec := range sent {
		exp.EmitLog(rec)
	}
	begin := time.Now()
	done()
	uids := map[string]bool{}
	n := 0
	for _, req := range r.logs {
		for _, rl := range req.Logs().ResourceLogs().All() {
			if diff := cmp.Diff(rawMap(res.Attributes()), rl.Resource().Attributes().AsRaw()); diff != "" || rl.SchemaUrl() != "https://schema/1" {
				t.Errorf("resource differs (%s):\n%s", rl.SchemaUrl(), diff)
			}
			for _, sl := range rl.ScopeLogs().All() {
				for _, lr := range sl.LogRecords().All() {
					w := sent[map[string]int{"it broke": 0, "bare": 1}[lr.Body().AsString()]]
					if lr.Body().Type() == pcommon.ValueTypeEmpty {
						w = sent[2]
					}
					n++
					attrs := lr.Attributes().AsRaw()
					uid, _ := attrs["log.record.uid"].(string)
					if uids[uid] || (len(uid) != 26 && uid != "own") {
						t.Errorf("uid %q is missing, or no ULID, or not unique", uid)
					}
					uids[uid] = true
					wantAttrs := rawMap(w.Attributes)
					wantAttrs["log.record.uid"] = uid
					if diff := cmp.Diff(wantAttrs, attrs); diff != "" {
						t.Errorf("attributes of %q differ:\n%s", w.Body, diff)
					}
					observed := lr.ObservedTimestamp().AsTime()
					if w.Observed.IsZero() {
						if observed.After(begin) || observed.Before(begin.Add(-time.Minute)) {
							t.Errorf("observed %v, want about %v", observed, begin)
						}
						w.Observed = observed
					}
					type flat struct {
						Time, Observed int64
						Severity       int
						Text, Logger   string
						Trace          pcommon.TraceID
						Span           pcommon.SpanID
						Flags          uint32
					}
					wantFlat := flat{nano(w.Time), nano(w.Observed), w.Severity, w.SeverityText, w.Logger, pcommon.TraceID(w.TraceID), pcommon.SpanID(w.SpanID), uint32(w.Flags)}
					gotFlat := flat{int64(lr.Timestamp()), int64(lr.ObservedTimestamp()), int(lr.SeverityNumber()), lr.SeverityText(), sl.Scope().Name(), lr.TraceID(), lr.SpanID(), uint32(lr.Flags())}
					if diff := cmp.Diff(wantFlat, gotFlat); diff != "" {
						t.Errorf("record %q differs:\n%s", w.Body, diff)
					}
				}
			}
		}
	}
	if n != len(sent) {
		t.Errorf("%d records arrived, %d were sent", n, len(sent))
	}
}
