package sampling_test

import (
	"context"
	"fmt"

	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/kaizen-go/kaizen/sampling"
)

func ExampleNewTail() {
	spans := tracetest.NewSpanRecorder() // any processor, such as one of an exporter
	tail, err := sampling.NewTail(spans, sampling.TailConfig{Ratio: sampling.Off})
	if err != nil {
		fmt.Println(err)
		return
	}
	provider := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(tail))
	tracer := provider.Tracer("example")

	for _, name := range []string{"fine", "broken"} {
		ctx, root := tracer.Start(context.Background(), name)
		_, child := tracer.Start(ctx, name+" child")
		if name == "broken" {
			child.SetStatus(codes.Error, "no answer")
		}
		child.End()
		root.End()
	}
	if err := provider.Shutdown(context.Background()); err != nil {
		fmt.Println(err)
	}
	for _, s := range spans.Ended() {
		fmt.Println(s.Name())
	}
	fmt.Println(tail.Stats().DroppedSpans)
	// Output:
	// broken child
	// broken
	// map[ratio:2]
}

func ExampleHead() {
	sampler, err := sampling.Head(0.25)
	if err != nil {
		fmt.Println(err)
		return
	}
	provider := sdktrace.NewTracerProvider(sdktrace.WithSampler(sampler))
	_, span := provider.Tracer("example").Start(context.Background(), "work")
	span.End()
	_, err = sampling.Head(25)
	fmt.Println(err)
	// Output: sampling: head sampler: ratio 25 is not between 0 and 1
}

func ExampleFromEnv() {
	sampler, err := sampling.FromEnv(sdktrace.NeverSample()) // of a process without OTEL_TRACES_SAMPLER
	fmt.Println(sampler.Description(), err)
	// Output: AlwaysOffSampler <nil>
}

func ExampleDropReasons() {
	fmt.Println(sampling.DropReasons())
	// Output: [ratio max_traces max_spans max_bytes max_age flush late deadline stopped]
}
