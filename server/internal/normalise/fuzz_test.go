package normalise

import (
	"encoding/json"
	"math"
	"testing"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/kaizen-go/kaizen/server/internal/record"
)

// FuzzSpan gives attributes of any kind under the names that are read, and
// checks that ids are kept, no bucket is negative, sums cannot overflow, and
// the result can be written as JSON.
func FuzzSpan(f *testing.F) {
	f.Add(`{"gen_ai.usage.input_tokens":5,"gen_ai.usage.cache_read.input_tokens":9}`, "ai", int64(7), int64(0), int64(5))
	f.Add(`{"kaizen.kind":"model","kaizen.cost.nano_usd":-4}`, "", int64(-1), int64(9), int64(1))
	f.Add(`{"langfuse.observation.usage_details":"{\"input\":-1,\"output\":1e300}","gen_ai.input.messages":[[{"parts":{}}]]}`, "x", int64(math.MaxInt64), int64(3), int64(3))
	f.Add(`{"ai.operationId":"ai.streamText.doStream","gen_ai.system":"anthropic.messages","ai.usage.inputTokens":"3"}`, "ai", int64(1), int64(1), int64(1))
	f.Fuzz(func(t *testing.T, attributes, scope string, tokens, start, end int64) {
		var raw map[string]any
		if json.Unmarshal([]byte(attributes), &raw) != nil {
			return
		}
		for _, keys := range [][]string{inputKeys, outputKeys, cacheReadKeys, cacheWriteKeys, cacheWrite1hKeys, reasoningKeys} {
			if k := keys[int(uint64(tokens)%uint64(len(keys)))]; raw != nil && raw[k] == nil && tokens&1 == 1 {
				raw[k] = tokens
			}
		}
		s := ptrace.NewSpan()
		s.SetName(scope)
		s.SetTraceID(pcommon.TraceID{1})
		s.SetSpanID(pcommon.SpanID{2})
		s.SetParentSpanID(pcommon.SpanID{3})
		s.SetStartTimestamp(pcommon.Timestamp(start))
		s.SetEndTimestamp(pcommon.Timestamp(end))
		if s.Attributes().FromRaw(raw) != nil {
			return
		}
		res, err := NewResource(pcommon.NewResource())
		if err != nil {
			t.Fatal(err)
		}
		got, err := Normaliser{Pricer: flat{}}.Span(res, scope, s, t0)
		if err != nil {
			return
		}
		checkSpan(t, got)
	})
}

func checkSpan(t *testing.T, s *record.Span) {
	t.Helper()
	if s.TraceID != (record.TraceID{1}) || s.SpanID != (record.SpanID{2}) || s.ParentID != (record.SpanID{3}) {
		t.Fatalf("ids changed: %s %s %s", s.TraceID, s.SpanID, s.ParentID)
	}
	u := s.Usage
	for _, n := range []int64{u.Input, u.CacheRead, u.CacheWrite, u.CacheWrite1h, u.Output, u.Reasoning, s.CostNanoUSD, int64(s.FirstChunk)} {
		if n < 0 || n > 1<<62 {
			t.Fatalf("count out of range: %+v cost %d", u, s.CostNanoUSD)
		}
	}
	if u.CacheWrite1h > u.CacheWrite || u.Total() < 0 || !s.HasUsage && u.Total() != 0 {
		t.Fatalf("usage %+v, known %v", u, s.HasUsage)
	}
	if s.Pending != s.End.IsZero() || s.Pending != (s.Status == record.StatusRunning) || !s.Pending && s.End.Before(s.Start) {
		t.Fatalf("pending %v, status %s, %v to %v", s.Pending, s.Status, s.Start, s.End)
	}
	if _, err := json.Marshal(s.Attributes); err != nil {
		t.Fatalf("attributes: %v", err)
	}
	if _, err := json.Marshal(ContentOf(s)); err != nil {
		t.Fatalf("content: %v", err)
	}
}
