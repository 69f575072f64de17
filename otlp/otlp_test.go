package otlp

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"go.opentelemetry.io/otel/attribute"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

func TestOnlySampledSpansAreSent(t *testing.T) {
	s := newServer(t)
	e := newExporter(t, Config{Endpoint: s.URL})
	for _, sampler := range []sdktrace.Sampler{sdktrace.NeverSample(), recordOnly{}, sdktrace.AlwaysSample()} {
		tp := sdktrace.NewTracerProvider(sdktrace.WithSampler(sampler), sdktrace.WithSpanProcessor(e.SpanProcessor()))
		_, span := tp.Tracer("t").Start(t.Context(), sampler.Description())
		span.End()
	}
	if err := e.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := s.records(t, "/v1/traces"); len(got) != 1 || string(at(t, got[0], 5)[0]) != "AlwaysOnSampler" {
		t.Errorf("%d spans arrived, want the sampled one", len(got))
	}
	if n := check(t, e).Traces.Offered; n != 1 {
		t.Errorf("offered %d, want 1", n)
	}
}

type recordOnly struct{}

func (recordOnly) ShouldSample(sdktrace.SamplingParameters) sdktrace.SamplingResult {
	return sdktrace.SamplingResult{Decision: sdktrace.RecordOnly}
}
func (recordOnly) Description() string { return "recordOnly" }

func TestProviderShutdownSendsSpans(t *testing.T) {
	s := newServer(t)
	e := newExporter(t, Config{Endpoint: s.URL, FlushDelay: time.Hour})
	tp := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(e.SpanProcessor()))
	_, span := tp.Tracer("t").Start(t.Context(), "a")
	span.End()
	if err := tp.ForceFlush(t.Context()); err != nil {
		t.Fatal(err)
	}
	_, span = tp.Tracer("t").Start(t.Context(), "b")
	span.End()
	if err := tp.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := len(s.records(t, "/v1/traces")); n != 2 {
		t.Errorf("%d spans arrived, want 2", n)
	}
}

// logAttrs sends one record and returns its attributes as they arrived.
func logAttrs(t *testing.T, r LogRecord) (map[string]string, []byte, SignalStats) {
	t.Helper()
	s := newServer(t)
	e := newExporter(t, Config{Endpoint: s.URL})
	e.EmitLog(r)
	if err := e.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	rec := s.records(t, "/v1/logs")
	if len(rec) != 1 {
		t.Fatalf("%d records arrived", len(rec))
	}
	return attrs(t, rec[0], 6), rec[0], check(t, e).Logs
}

func TestLongValuesAreCutAndMarked(t *testing.T) {
	long := strings.Repeat("é", MaxValueBytes/2+1) // two bytes each
	many := make([]string, MaxValueBytes/64)
	for i := range many {
		many[i] = strings.Repeat("x", 100)
	}
	got, rec, st := logAttrs(t, LogRecord{Body: "b" + long, Attributes: []attribute.KeyValue{
		attribute.String("just", long[:MaxValueBytes]),
		attribute.String("long", "x"+long),
		attribute.StringSlice("many", many),
		{Key: "bytes", Value: attribute.ByteSliceValue([]byte(long))},
		{Key: "map", Value: attribute.MapValue(attribute.String("in", long))},
	}})
	if n := len(got["just"]); n != MaxValueBytes {
		t.Errorf("a value at the bound came with %d bytes", n)
	}
	if v := got["long"]; len(v) != MaxValueBytes-1 || v != "x"+long[:MaxValueBytes-2] {
		t.Errorf("a value over the bound came with %d bytes, want %d: whole characters", len(v), MaxValueBytes-1)
	}
	body := at(t, rec, 5, 1)[0]
	if len(body) > MaxValueBytes {
		t.Errorf("the body came with %d bytes", len(body))
	}
	for key, v := range got {
		if len(v) > MaxValueBytes*11/10 {
			t.Errorf("%s came with %d bytes", key, len(v))
		}
	}
	var marked []string
	for _, kv := range at(t, rec, 6) {
		if string(at(t, kv, 1)[0]) == CutKey {
			for _, v := range at(t, kv, 2, 5, 1, 1) {
				marked = append(marked, string(v))
			}
		}
	}
	if diff := cmp.Diff([]string{"body", "long", "many", "bytes", "map"}, marked); diff != "" {
		t.Errorf("%s differs (-want +got):\n%s", CutKey, diff)
	}
	if st.CutValues != 5 {
		t.Errorf("counted %d cuts, want 5", st.CutValues)
	}
}

func TestTextThatIsNotUTF8(t *testing.T) {
	got, _, _ := logAttrs(t, LogRecord{Attributes: []attribute.KeyValue{attribute.String("k\xff", "a\xffb"), attribute.StringSlice("s", []string{"\xfe"})}})
	if v := got["k\uFFFD"]; v != "a\uFFFDb" {
		t.Errorf("got %q", v)
	}
}

func TestDeepValueBecomesText(t *testing.T) {
	v := attribute.StringValue("core")
	for range 200 {
		v = attribute.SliceValue(v)
	}
	_, rec, _ := logAttrs(t, LogRecord{Attributes: []attribute.KeyValue{{Key: "deep", Value: v}}})
	for _, kv := range at(t, rec, 6) {
		if string(at(t, kv, 1)[0]) != "deep" {
			continue
		}
		m, depth := at(t, kv, 2)[0], 0
		for len(at(t, m, 5, 1)) > 0 {
			m = at(t, m, 5, 1)[0]
			depth++
		}
		if text := string(at(t, m, 1)[0]); depth != maxDepth || !strings.Contains(text, "core") {
			t.Errorf("depth %d ends in %.20q", depth, text)
		}
	}
}

func TestRequestHeaders(t *testing.T) {
	s := newServer(t)
	e := newExporter(t, Config{Endpoint: s.URL + "/base/", Headers: map[string]string{"Authorization": "Bearer x"}, Compression: NoGzip})
	e.EmitLog(LogRecord{Body: "b"})
	if err := e.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := s.attempts("/base/v1/logs"); n != 1 {
		t.Fatalf("%d requests to /base/v1/logs", n)
	}
	h := s.heads[0]
	if h.Get("Authorization") != "Bearer x" || h.Get("Content-Type") != "application/x-protobuf" || h.Get("Content-Encoding") != "" {
		t.Errorf("headers %v", h)
	}
}

func TestLines(t *testing.T) {
	s := newServer(t)
	s.say(func(w http.ResponseWriter, r *http.Request) {
		b := make([]byte, 1<<20)
		n, _ := r.Body.Read(b)
		if strings.Contains(string(b[:n]), `"bad"`) {
			w.WriteHeader(400)
		}
	})
	e := newExporter(t, Config{Endpoint: s.URL, FlushDelay: time.Hour})
	l := e.NewLines(s.URL + "/api/audit")
	if again := e.NewLines(s.URL + "/api/audit"); again != l {
		t.Error("the same url gave another queue")
	}
	buf := []byte("{\"id\":1}\n")
	l.Emit(buf)
	copy(buf, "overwritten")
	l.Emit([]byte("{\n  \"id\": 2\n}"))
	l.Emit([]byte(`{"id":"bad"}`))
	l.Emit([]byte(`{"id":3}`))
	l.Emit([]byte("\n"))
	l.Emit([]byte("not\njson"))
	if err := e.Flush(t.Context()); err == nil {
		t.Error("Flush = nil though lines were dropped")
	}
	if diff := cmp.Diff([]string{`{"id":1}`, `{"id":2}`, `{"id":3}`}, s.lines("/api/audit")); diff != "" {
		t.Errorf("lines differ (-want +got):\n%s", diff)
	}
	if st := check(t, e).Audit; st.Dropped["rejected"] != 1 || st.Dropped["encode"] != 2 || st.Sent != 3 {
		t.Errorf("%+v", st)
	}
	if h := s.heads[0].Get("Content-Type"); h != "application/x-ndjson" {
		t.Errorf("content type %s", h)
	}
	if err := e.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	e.NewLines(s.URL + "/late").Emit([]byte("{}"))
	if st := check(t, e).Audit; st.Dropped["shutdown"] != 1 {
		t.Errorf("after Shutdown: %+v", st)
	}
}

func TestPushEvery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &reader{}
		e := newExporter(t, Config{HTTPClient: &http.Client{Transport: p}, Compression: NoGzip})
		g := gatherer(func() ([]*dto.MetricFamily, error) {
			return []*dto.MetricFamily{{
				Name: proto.String("c_total"), Type: dto.MetricType_COUNTER.Enum(),
				Metric: []*dto.Metric{{Counter: &dto.Counter{Value: proto.Float64(7)}}},
			}}, errors.New("one collector failed")
		})
		begin := time.Now()
		time.Sleep(time.Second)
		stop, err := e.PushMetrics(t.Context(), g, time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(3*time.Minute + time.Second)
		synctest.Wait()
		if len(p.bodies) != 3 {
			t.Errorf("%d pushes in three minutes", len(p.bodies))
		}
		if err := stop(t.Context()); err == nil || !strings.Contains(err.Error(), "one collector failed") {
			t.Errorf("stop = %v, want the gatherer's error", err)
		}
		if err := e.Shutdown(t.Context()); err != nil {
			t.Fatal(err)
		}
		if len(p.bodies) != 4 {
			t.Errorf("%d pushes after stop, want a last one", len(p.bodies))
		}
		for i, b := range p.bodies {
			point := message(t, at(t, b, 1, 2, 2, 7, 1)[0])
			start, now := point[0].value, point[1].value
			if start != uint64(begin.UnixNano()) || now <= start || float(point[2].value) != 7 {
				t.Errorf("push %d: start %d, time %d, value %v", i, start, now, float(point[2].value))
			}
		}
		if st := check(t, e).Metrics; st.Failures["gather"] != 4 || st.Sent != 4 {
			t.Errorf("%+v", st)
		}
		if _, err := e.PushMetrics(t.Context(), g, 0); !errors.Is(err, ErrClosed) {
			t.Errorf("PushMetrics after Shutdown = %v, want ErrClosed", err)
		}
	})
}

type gatherer func() ([]*dto.MetricFamily, error)

func (g gatherer) Gather() ([]*dto.MetricFamily, error) { return g() }

func TestShutdownStopsPushes(t *testing.T) {
	s := newServer(t)
	e := newExporter(t, Config{Endpoint: s.URL})
	reg := prometheus.NewRegistry()
	reg.MustRegister(prometheus.NewGauge(prometheus.GaugeOpts{Name: "g"}))
	if _, err := e.PushMetrics(t.Context(), reg, time.Hour); err != nil {
		t.Fatal(err)
	}
	if err := e.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := len(s.records(t, "/v1/metrics")); n != 1 {
		t.Errorf("%d metrics arrived, want the last push", n)
	}
	for _, bad := range []struct {
		g     prometheus.Gatherer
		every time.Duration
	}{{nil, 0}, {reg, -1}} {
		if _, err := e.PushMetrics(t.Context(), bad.g, bad.every); err == nil {
			t.Errorf("PushMetrics(%v, %v) = nil", bad.g, bad.every)
		}
	}
}

// TestFlushPushes: what was counted before a flush has arrived after it.
func TestFlushPushes(t *testing.T) {
	s := newServer(t)
	e := newExporter(t, Config{Endpoint: s.URL})
	reg := prometheus.NewRegistry()
	reg.MustRegister(prometheus.NewGauge(prometheus.GaugeOpts{Name: "g"}))
	if _, err := e.PushMetrics(t.Context(), reg, time.Hour); err != nil {
		t.Fatal(err)
	}
	for want := 1; want <= 2; want++ {
		if err := e.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		if n := len(s.records(t, "/v1/metrics")); n != want {
			t.Errorf("%d metrics arrived after flush %d", n, want)
		}
	}
}

func TestUnsupportedSeriesAreCounted(t *testing.T) {
	s := newServer(t)
	e := newExporter(t, Config{Endpoint: s.URL})
	one := []*dto.Metric{{Histogram: &dto.Histogram{Schema: proto.Int32(-53)}}}
	wide := []*dto.Metric{{Histogram: &dto.Histogram{Schema: proto.Int32(8), PositiveSpan: []*dto.BucketSpan{
		{Offset: proto.Int32(0), Length: proto.Uint32(1)}, {Offset: proto.Int32(2_000_000_000), Length: proto.Uint32(1)}}, PositiveDelta: []int64{1, 0}}}}
	stop, err := e.PushMetrics(t.Context(), gatherer(func() ([]*dto.MetricFamily, error) {
		return []*dto.MetricFamily{
			{Name: proto.String("a"), Type: dto.MetricType_GAUGE_HISTOGRAM.Enum(), Metric: one},
			{Name: proto.String("b"), Type: dto.MetricType_HISTOGRAM.Enum(), Metric: one},
			{Name: proto.String("c"), Type: dto.MetricType_HISTOGRAM.Enum(), Metric: wide},
			{Name: proto.String("d"), Type: dto.MetricType_COUNTER.Enum(), Metric: []*dto.Metric{{}}},
		}, nil
	}), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if err := stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if st := check(t, e).Metrics; st.Dropped["encode"] != 4 || st.Sent != 0 {
		t.Errorf("%+v", st)
	}
}

func FuzzPartialSuccess(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{0x0a, 0x02, 0x08, 0x05})
	f.Add([]byte{0x0a, 0x05, 0x08, 0x01, 0x12, 0x01, 'x'})
	f.Fuzz(func(t *testing.T, b []byte) {
		n, message, err := decodePartialSuccess(b)
		if err != nil {
			return
		}
		inner := appendUint(nil, 1, uint64(n))
		inner = protowire.AppendString(protowire.AppendTag(inner, 2, protowire.BytesType), message)
		again := protowire.AppendBytes(protowire.AppendTag(nil, 1, protowire.BytesType), inner)
		n2, message2, err := decodePartialSuccess(again)
		if err != nil || n2 != n || message2 != message {
			t.Fatalf("%x: %d %q, written again: %d %q %v", b, n, message, n2, message2, err)
		}
	})
}
