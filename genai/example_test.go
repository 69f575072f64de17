package genai_test

import (
	"context"
	"fmt"
	"net/http"

	"go.opentelemetry.io/otel/attribute"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/kaizen-go/kaizen/genai"
)

func ExampleNewTracer() {
	spans := tracetest.NewInMemoryExporter()
	tracer := genai.NewTracer(sdktrace.NewTracerProvider(sdktrace.WithSyncer(spans)))

	_, span := tracer.Start(context.Background(), genai.Operation{
		Name:       genai.SpanName(genai.Chat, "gpt-5"),
		Kind:       trace.SpanKindClient,
		Attributes: []attribute.KeyValue{genai.RequestModel.String("gpt-5")},
	})
	genai.End(span, genai.Outcome{Status: "error", ErrorType: "timeout", Message: "no answer in 30 s"})

	s := spans.GetSpans()[0]
	fmt.Println(s.Name, s.SpanKind, s.Status.Code, s.Status.Description, s.Events[0].Name)
	// Output: chat gpt-5 client Error no answer in 30 s exception
}

func ExampleTracer_Start_linked() {
	spans := tracetest.NewInMemoryExporter()
	tracer := genai.NewTracer(sdktrace.NewTracerProvider(sdktrace.WithSyncer(spans)))

	ctx, request := tracer.Start(context.Background(), genai.Operation{Name: "request"})
	_, job := tracer.Start(ctx, genai.Operation{Name: "job", Root: true, Links: []trace.Link{trace.LinkFromContext(ctx)}})
	genai.End(job, genai.Outcome{Status: "ok"})
	genai.End(request, genai.Outcome{Status: "ok"})

	got := spans.GetSpans()
	fmt.Println(got[0].Parent.IsValid(), got[0].Links[0].SpanContext.TraceID() == got[1].SpanContext.TraceID())
	// Output: false true
}

func ExampleNewLink() {
	link, err := genai.NewLink("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331", genai.Reason.String("retry of"))
	fmt.Println(link.SpanContext.TraceID(), link.Attributes[0].Value.AsString(), err)
	// Output: 0af7651916cd43dd8448eb211c80319c retry of <nil>
}

func ExampleInject() {
	ctx, err := genai.WithSession(context.Background(), genai.Session{ID: "chat 7", User: "u-12"})
	if err != nil {
		fmt.Println(err)
		return
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://127.0.0.1/work", http.NoBody)
	if err != nil {
		fmt.Println(err)
		return
	}
	genai.Inject(ctx, request.Header)
	fmt.Println(request.Header.Get("baggage"))

	// In the service that gets the request:
	ctx = genai.Extract(request.Context(), request.Header)
	fmt.Println(genai.SessionFrom(ctx))
	// Output:
	// session.id=chat%207,user.id=u-12
	// {chat 7 u-12}
}

func ExampleExtract() {
	h := http.Header{}
	h.Set("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
	ctx := genai.Extract(context.Background(), h)

	tracer := genai.NewTracer(sdktrace.NewTracerProvider())
	_, span := tracer.Start(ctx, genai.Operation{Name: "serve"})
	fmt.Println(span.SpanContext().TraceID())
	// Output: 0af7651916cd43dd8448eb211c80319c
}

func ExampleInjectMeta() {
	tracer := genai.NewTracer(sdktrace.NewTracerProvider())
	ctx, span := tracer.Start(context.Background(), genai.Operation{Name: "call"})
	defer span.End()
	meta := genai.InjectMeta(ctx, map[string]any{"progressToken": 1})

	// In the MCP server:
	got := trace.SpanContextFromContext(genai.ExtractMeta(context.Background(), meta))
	fmt.Println(len(meta), got.SpanID() == span.SpanContext().SpanID(), got.IsRemote())
	// Output: 2 true true
}

func ExampleSessionFrom() {
	meta := map[string]any{"baggage": "session.id=chat%207,user.id=a%0Ab"}
	ctx := genai.ExtractMeta(context.Background(), meta)
	fmt.Printf("%+v\n", genai.SessionFrom(ctx)) // a user with a line break is refused
	// Output: {ID:chat 7 User:}
}

func ExampleEnrich() {
	spans := tracetest.NewInMemoryExporter()
	// A library has started a span for its call of a model by itself.
	_, span := sdktrace.NewTracerProvider(sdktrace.WithSyncer(spans)).Tracer("library").Start(context.Background(), "call",
		trace.WithAttributes(genai.RequestModel.String("as the library says")))

	genai.Enrich(span, genai.Outcome{Status: "ok", Attributes: []attribute.KeyValue{
		genai.RequestModel.String("as we say"), genai.CostNanoUSD.Int64(1200),
	}})
	span.End() // by the library

	for _, kv := range spans.GetSpans()[0].Attributes {
		fmt.Println(kv.Key, kv.Value.String())
	}
	// Output:
	// gen_ai.request.model as the library says
	// kaizen.cost.nano_usd 1200
	// kaizen.status ok
}
