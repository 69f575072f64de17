package genai_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/otel/attribute"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/kaizen-go/kaizen/genai"
)

// TestRoom: spans that use the same room one after the other keep their own
// attributes and times, also one with more than there is room for.
func TestRoom(t *testing.T) {
	rec := tracetest.NewSpanRecorder()
	tracer := genai.NewTracer(sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(rec)))
	var room genai.Room
	base := time.Unix(1_700_000_000, 0)
	sizes := []int{3, 12, 1, 40, 3}
	for i, n := range sizes {
		kvs := room.Attributes()
		for k := range n {
			kvs = append(kvs, attribute.Int(string(rune('A'+k)), i))
		}
		at := base.Add(time.Duration(i) * time.Second)
		_, span := tracer.Start(t.Context(), genai.Operation{Name: "n", Start: at, Attributes: kvs, Room: &room})
		room.Forget(kvs)
		end := append(room.Attributes(), attribute.Int("end", i))
		genai.End(span, genai.Outcome{Time: at.Add(time.Second), Status: "ok", Attributes: end, Room: &room})
		room.Forget(end)
	}
	for i, span := range rec.Ended() {
		var want []attribute.KeyValue
		for k := range sizes[i] {
			want = append(want, attribute.Int(string(rune('A'+k)), i))
		}
		want = append(want, attribute.Int("end", i), genai.Status.String("ok"))
		if diff := cmp.Diff(want, span.Attributes(), cmp.Comparer(func(a, b attribute.KeyValue) bool { return a == b })); diff != "" {
			t.Errorf("span %d: attributes (-want +got):\n%s", i, diff)
		}
		if start := base.Add(time.Duration(i) * time.Second); !span.StartTime().Equal(start) || !span.EndTime().Equal(start.Add(time.Second)) {
			t.Errorf("span %d: %v to %v, want it to start at %v", i, span.StartTime(), span.EndTime(), start)
		}
	}
	if n := len(rec.Ended()); n != len(sizes) {
		t.Errorf("%d spans ended, want %d", n, len(sizes))
	}
	var none *genai.Room
	none.Forget(none.Attributes())
}
