package kaizen

import (
	"context"
	"strings"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/kaizen-go/kaizen/genai"
)

// enrichKey marks the context of a call whose span a library has started
// itself: the call has no second one, and what we know is set on the library's.
type enrichKey struct{}

// enriches reports whether the span in ctx is that of the operation, started by
// somebody else.
func enriches(ctx context.Context) bool { return ctx.Value(enrichKey{}) != nil }

// anthropicScope begins the instrumentation scopes of Anthropic's libraries,
// which trace their calls once there is a tracer provider.
const anthropicScope = "com.anthropic.sdk"

// spanOfCall reports whether the span that a request is sent in is the span of
// a model call already, as any library may start one: it names one of the
// conventions' inference operations, and a model or a library that is known to
// do so. A span that is not recorded shows nothing of itself; ours below it is
// then not recorded either.
func spanOfCall(ctx context.Context) bool {
	span, ok := trace.SpanFromContext(ctx).(sdktrace.ReadOnlySpan)
	if !ok || !span.EndTime().IsZero() {
		return false
	}
	inference, model := false, strings.HasPrefix(span.InstrumentationScope().Name, anthropicScope)
	for _, kv := range span.Attributes() {
		switch kv.Key {
		case genai.OperationName:
			switch kv.Value.AsString() {
			case genai.Chat, genai.GenerateContent, genai.TextCompletion, genai.Embeddings:
				inference = true
			}
		case genai.RequestModel:
			model = model || kv.Value.AsString() != ""
		}
	}
	return inference && model
}
