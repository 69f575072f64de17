package ingest

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"context"
	"encoding/json"
	"errors"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/plog/plogotlp"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/pmetric/pmetricotlp"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/collector/pdata/ptrace/ptraceotlp"
	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/kaizen-go/kaizen/server/internal/store"
)

func openStore(t testing.TB, cfg store.Config) *store.Store {
	t.Helper()
	st, err := store.Open(t.TempDir(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	})
	return st
}

// batch makes n valid spans of one trace.
func batch(n int) ptrace.Traces {
	td := ptrace.NewTraces()
	rs := td.ResourceSpans().AppendEmpty()
	rs.Resource().Attributes().PutStr("service.name", "svc")
	ss := rs.ScopeSpans().AppendEmpty()
	for i := range n {
		s := ss.Spans().AppendEmpty()
		s.SetName("chat")
		s.SetTraceID(pcommon.TraceID{1, 2})
		s.SetSpanID(pcommon.SpanID{1, byte(i + 1)})
		s.SetStartTimestamp(1_700_000_000_000_000_000)
		s.SetEndTimestamp(1_700_000_001_000_000_000)
		s.Attributes().PutStr("gen_ai.operation.name", "chat")
	}
	return td
}

func spansOf(td ptrace.Traces) ptrace.SpanSlice {
	return td.ResourceSpans().At(0).ScopeSpans().At(0).Spans()
}

func protoOf(t testing.TB, td ptrace.Traces) []byte {
	t.Helper()
	b, err := ptraceotlp.NewExportRequestFromTraces(td).MarshalProto()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func jsonOf(t testing.TB, td ptrace.Traces) []byte {
	t.Helper()
	b, err := ptraceotlp.NewExportRequestFromTraces(td).MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

type header map[string]string

func post(h http.Handler, path string, body []byte, hdr header) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodPost, path, bytes.NewReader(body))
	for k, v := range hdr {
		r.Header.Set(k, v)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func packed(t *testing.T, w io.WriteCloser, err error, buf *bytes.Buffer, body []byte) []byte {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(body); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func TestEncodings(t *testing.T) {
	body := protoOf(t, batch(3))
	pack := map[string]func() []byte{
		"": func() []byte { return body },
		"gzip": func() []byte {
			var b bytes.Buffer
			return packed(t, gzip.NewWriter(&b), nil, &b, body)
		},
		"zstd": func() []byte {
			var b bytes.Buffer
			w, err := zstd.NewWriter(&b)
			return packed(t, w, err, &b, body)
		},
		"deflate": func() []byte {
			var b bytes.Buffer
			return packed(t, zlib.NewWriter(&b), nil, &b, body)
		},
	}
	for name, f := range pack {
		t.Run(name, func(t *testing.T) {
			st := openStore(t, store.Config{})
			h := New(Config{Store: st}).Handler()
			w := post(h, "/v1/traces", f(), header{"Content-Type": typeProto, "Content-Encoding": name})
			if w.Code != 200 || w.Header().Get("Content-Type") != typeProto || st.Stats().Spans != 3 {
				t.Fatalf("status %d %s, %d spans: %s", w.Code, w.Header(), st.Stats().Spans, w.Body)
			}
		})
	}
	t.Run("deflate without header", func(t *testing.T) {
		st := openStore(t, store.Config{})
		var b bytes.Buffer
		fw, err := flate.NewWriter(&b, 5)
		raw := packed(t, fw, err, &b, body)
		w := post(New(Config{Store: st}).Handler(), "/v1/traces", raw, header{"Content-Type": typeProto, "Content-Encoding": "deflate"})
		if w.Code != 200 || st.Stats().Spans != 3 {
			t.Fatalf("status %d, %d spans", w.Code, st.Stats().Spans)
		}
	})
}

func TestJSONAndLangfusePath(t *testing.T) {
	st := openStore(t, store.Config{})
	h := New(Config{Store: st}).Handler()
	w := post(h, "/api/public/otel/v1/traces", jsonOf(t, batch(2)), header{"Content-Type": "application/json; charset=utf-8"})
	if w.Code != 200 || w.Header().Get("Content-Type") != typeJSON || !json.Valid(w.Body.Bytes()) {
		t.Fatalf("status %d %v %s", w.Code, w.Header(), w.Body)
	}
	// The same batch again, in the other encoding: known, and not stored twice.
	w = post(h, "/v1/traces", protoOf(t, batch(2)), header{"Content-Type": typeProto})
	if stats := st.Stats(); w.Code != 200 || stats.Spans != 2 || stats.DuplicateBatches != 1 {
		t.Fatalf("status %d, stats %+v", w.Code, stats)
	}
}

// TestPartialSuccess gives spans that must be refused beside good ones.
func TestPartialSuccess(t *testing.T) {
	deep := pcommon.NewValueSlice()
	at := deep.Slice()
	for range 80 {
		at = at.AppendEmpty().SetEmptySlice()
	}
	for _, tt := range []struct {
		name   string
		spoil  func(ptrace.Span)
		reason string
	}{
		{"no trace id", func(s ptrace.Span) { s.SetTraceID(pcommon.TraceID{}) }, "no trace id"},
		{"no span id", func(s ptrace.Span) { s.SetSpanID(pcommon.SpanID{}) }, "no span id"},
		{"after 2262", func(s ptrace.Span) { s.SetStartTimestamp(math.MaxUint64) }, "2262"},
		{"too deep", func(s ptrace.Span) { deep.CopyTo(s.Attributes().PutEmpty("x")) }, "nested deeper"},
	} {
		for _, kind := range []string{typeProto, typeJSON} {
			t.Run(tt.name+" "+kind, func(t *testing.T) {
				st := openStore(t, store.Config{})
				td := batch(3)
				tt.spoil(spansOf(td).At(1))
				body := protoOf(t, td)
				if kind == typeJSON {
					body = jsonOf(t, td)
				}
				w := post(New(Config{Store: st}).Handler(), "/v1/traces", body, header{"Content-Type": kind})
				n, msg := partial(t, w)
				if w.Code != 200 || n != 1 || !strings.Contains(msg, tt.reason) || st.Stats().Spans != 2 {
					t.Fatalf("status %d, rejected %d %q, %d spans", w.Code, n, msg, st.Stats().Spans)
				}
			})
		}
	}
}

func partial(t *testing.T, w *httptest.ResponseRecorder) (int64, string) {
	t.Helper()
	r := ptraceotlp.NewExportResponse()
	err := r.UnmarshalProto(w.Body.Bytes())
	if w.Header().Get("Content-Type") == typeJSON {
		r = ptraceotlp.NewExportResponse()
		err = r.UnmarshalJSON(w.Body.Bytes())
	}
	if err != nil {
		t.Fatalf("answer %q: %v", w.Body, err)
	}
	return r.PartialSuccess().RejectedSpans(), r.PartialSuccess().ErrorMessage()
}

// TestMalformedItems gives what the decoder cannot read at all: one item must
// not cost the others.
func TestMalformedItems(t *testing.T) {
	good := spanJSON("0102030405060708090a0b0c0d0e0f10", "0102030405060708")
	for _, bad := range []string{
		spanJSON("0102", "0102030405060708"),
		spanJSON("AQIDBAUGBwgJCgsMDQ4PEA==", "0102030405060708"),
		spanJSON("0102030405060708090a0b0c0d0e0f10", "zz02030405060708"),
		`{"traceId": 5}`, `"a string"`, `[]`,
		`{"traceId":"0102030405060708090a0b0c0d0e0f10","spanId":"0102030405060709","name":{}}`,
	} {
		st := openStore(t, store.Config{})
		body := `{"resourceSpans":[{"scopeSpans":[{"spans":[` + bad + `,` + good + `]}]}]}`
		w := post(New(Config{Store: st}).Handler(), "/v1/traces", []byte(body), header{"Content-Type": typeJSON})
		n, msg := partial(t, w)
		if w.Code != 200 || n != 1 || msg == "" || st.Stats().Spans != 1 {
			t.Errorf("%s: status %d, rejected %d %q, %d spans: %s", bad, w.Code, n, msg, st.Stats().Spans, w.Body)
		}
	}
	t.Run("protobuf", func(t *testing.T) {
		st := openStore(t, store.Config{})
		td := batch(2)
		short := appendBytesField(nil, 1, []byte("short id"))
		body := protoOf(t, td)
		body = append(body, appendBytesField(nil, 1, appendBytesField(nil, 2, appendBytesField(nil, 2, short)))...)
		w := post(New(Config{Store: st}).Handler(), "/v1/traces", body, header{"Content-Type": typeProto})
		if n, _ := partial(t, w); w.Code != 200 || n != 1 || st.Stats().Spans != 2 {
			t.Errorf("status %d, rejected %d, %d spans", w.Code, n, st.Stats().Spans)
		}
	})
}

func spanJSON(trace, span string) string {
	return `{"traceId":"` + trace + `","spanId":"` + span + `","name":"n","startTimeUnixNano":"1700000000000000000","endTimeUnixNano":"1700000000000000001"}`
}

func TestRefusals(t *testing.T) {
	gz := func(b []byte) []byte {
		var buf bytes.Buffer
		return packed(t, gzip.NewWriter(&buf), nil, &buf, b)
	}
	for _, tt := range []struct {
		name, path string
		body       []byte
		hdr        header
		want       int
	}{
		{"not protobuf", "/v1/traces", []byte("hello"), header{"Content-Type": typeProto}, 400},
		{"not JSON", "/v1/traces", []byte("{"), header{"Content-Type": typeJSON}, 400},
		{"empty JSON", "/v1/traces", nil, header{"Content-Type": typeJSON}, 400},
		{"empty name hides the rest", "/v1/traces", []byte(`{"":1,"resourceSpans":[]}`), header{"Content-Type": typeJSON}, 400},
		{"spans of a wrong type", "/v1/traces", []byte(`{"resourceSpans":"x"}`), header{"Content-Type": typeJSON}, 400},
		{"no type", "/v1/traces", nil, nil, 415},
		{"other type", "/v1/logs", nil, header{"Content-Type": "text/plain"}, 415},
		{"other encoding", "/v1/traces", nil, header{"Content-Type": typeProto, "Content-Encoding": "br"}, 415},
		{"not gzip", "/v1/traces", []byte("plain"), header{"Content-Type": typeProto, "Content-Encoding": "gzip"}, 400},
		{"too large", "/v1/traces", make([]byte, 2<<20), header{"Content-Type": typeProto}, 413},
		{"bomb", "/v1/traces", gz(make([]byte, 64<<20)), header{"Content-Type": typeProto, "Content-Encoding": "gzip"}, 413},
		{"deep JSON", "/v1/traces", bytes.Repeat([]byte("["), 100_000), header{"Content-Type": typeJSON}, 400},
		{"unknown path", "/v1/profiles", nil, header{"Content-Type": typeProto}, 404},
	} {
		t.Run(tt.name, func(t *testing.T) {
			st := openStore(t, store.Config{})
			w := post(New(Config{Store: st, MaxBodyBytes: 1 << 20}).Handler(), tt.path, tt.body, tt.hdr)
			if w.Code != tt.want {
				t.Fatalf("status %d, want %d: %s", w.Code, tt.want, w.Body)
			}
			checkStatusBody(t, w, tt.hdr["Content-Type"])
		})
	}
	w := httptest.NewRecorder()
	New(Config{Store: openStore(t, store.Config{})}).Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/v1/traces", nil))
	if w.Code != 405 || w.Header().Get("Allow") != "POST" {
		t.Errorf("GET: status %d, Allow %q", w.Code, w.Header().Get("Allow"))
	}
}

// checkStatusBody checks that an error is a google.rpc.Status.
func checkStatusBody(t *testing.T, w *httptest.ResponseRecorder, sent string) {
	t.Helper()
	var st spb.Status
	if sent == typeProto {
		if err := proto.Unmarshal(w.Body.Bytes(), &st); err != nil || st.Message == "" || st.Code == 0 {
			t.Errorf("body %q is no status: %v", w.Body, err)
		}
		return
	}
	var obj struct {
		Code    int
		Message string
	}
	if err := json.Unmarshal(w.Body.Bytes(), &obj); err != nil || obj.Message == "" || obj.Code == 0 {
		t.Errorf("body %q is no status: %v", w.Body, err)
	}
}

// deepProto nests an attribute value n deep: far beyond what a stack holds, if
// something recursed into it.
func deepProto(n int) []byte {
	// Written from the inside out into the end of a buffer: a level is an
	// AnyValue that holds an ArrayValue that holds the next.
	buf := make([]byte, n*12+64)
	at := len(buf)
	prepend := func(number uint64) {
		head := appendBytesField(nil, number, nil)
		head = appendUvarint(head[:len(head)-1], uint64(len(buf)-at))
		at -= len(head)
		copy(buf[at:], head)
	}
	for range n {
		prepend(1) // ArrayValue.values
		prepend(5) // AnyValue.array_value
	}
	prepend(2) // KeyValue.value
	prepend(9) // Span.attributes
	for _, number := range []uint64{2, 2, 1} {
		prepend(number)
	}
	return buf[at:]
}

func appendUvarint(b []byte, v uint64) []byte {
	for v >= 0x80 {
		b = append(b, byte(v)|0x80)
		v >>= 7
	}
	return append(b, byte(v))
}

func TestDepthAndCountAreBounded(t *testing.T) {
	st := openStore(t, store.Config{})
	h := New(Config{Store: st}).Handler()
	for name, body := range map[string][]byte{
		"depth 100,000":   deepProto(100_000),
		"depth 1,000,000": deepProto(1_000_000),
		"empty spans":     appendBytesField(nil, 1, appendBytesField(nil, 2, bytes.Repeat([]byte{0x12, 0}, 3_000_000))),
	} {
		w := post(h, "/v1/traces", body, header{"Content-Type": typeProto})
		if w.Code != 400 || !strings.Contains(w.Body.String(), "nested deeper") && !strings.Contains(w.Body.String(), "more than 2000000") {
			t.Errorf("%s (%d bytes): status %d %s", name, len(body), w.Code, w.Body)
		}
	}
	deepJSON := `{"resourceSpans":[{"scopeSpans":[{"spans":[{"attributes":[{"key":"k","value":` +
		strings.Repeat(`{"arrayValue":{"values":[`, 100_000) + strings.Repeat(`]}}`, 100_000) + `}]}]}]}]}`
	if w := post(h, "/v1/traces", []byte(deepJSON), header{"Content-Type": typeJSON}); w.Code != 400 {
		t.Errorf("deep JSON: status %d", w.Code)
	}
	if n := st.Stats().Spans; n != 0 {
		t.Errorf("%d spans were stored", n)
	}
}

func TestFullStoreSays503(t *testing.T) {
	st := openStore(t, store.Config{MaxItems: 2})
	reg := prometheus.NewRegistry()
	h := New(Config{Store: st, Registerer: reg}).Handler()
	w := post(h, "/v1/traces", protoOf(t, batch(3)), header{"Content-Type": typeProto})
	if w.Code != 503 || w.Header().Get("Retry-After") == "" {
		t.Fatalf("status %d, Retry-After %q", w.Code, w.Header().Get("Retry-After"))
	}
	checkStatusBody(t, w, typeProto)
	err := testutil.GatherAndCompare(reg, strings.NewReader(`
# HELP kaizen_telemetry_dropped_total Items that were not kept, by reason.
# TYPE kaizen_telemetry_dropped_total counter
kaizen_telemetry_dropped_total{reason="store_full",signal="traces"} 3
`), "kaizen_telemetry_dropped_total")
	if err != nil || st.Stats().Spans != 0 || st.Stats().Refused != 1 {
		t.Errorf("%v, stats %+v", err, st.Stats())
	}
}

// failing is a store that fails, or panics.
type failing struct{ panics bool }

func (f failing) fail() (store.Result, error) {
	if f.panics {
		panic("a fault")
	}
	return store.Result{}, errors.New("disk gone")
}

func (f failing) AppendTraces(context.Context, ptrace.Traces) (store.Result, error) { return f.fail() }
func (f failing) AppendLogs(context.Context, plog.Logs) (store.Result, error)       { return f.fail() }
func (f failing) AppendMetrics(context.Context, pmetric.Metrics) (store.Result, error) {
	return f.fail()
}

func TestStoreFaults(t *testing.T) {
	reg := prometheus.NewRegistry()
	h := New(Config{Store: failing{}, Registerer: reg}).Handler()
	if w := post(h, "/v1/traces", protoOf(t, batch(1)), header{"Content-Type": typeProto}); w.Code != 503 || w.Header().Get("Retry-After") == "" {
		t.Errorf("failed store: status %d", w.Code)
	}
	h = New(Config{Store: failing{panics: true}, Registerer: reg}).Handler()
	if w := post(h, "/v1/traces", protoOf(t, batch(1)), header{"Content-Type": typeProto}); w.Code != 500 {
		t.Errorf("panic: status %d", w.Code)
	}
	if n, err := testutil.GatherAndCount(reg, "kaizen_server_ingest_panics_total"); err != nil || n != 1 {
		t.Errorf("panics counted in %d series, %v", n, err)
	}
	problems, err := testutil.GatherAndLint(reg)
	if err != nil || len(problems) > 0 {
		t.Errorf("metrics: %v %v", problems, err)
	}
}

func TestInFlightBudget(t *testing.T) {
	s := New(Config{Store: openStore(t, store.Config{}), MaxInFlightBytes: 40 << 10})
	w := post(s.Handler(), "/v1/traces", make([]byte, 60<<10), header{"Content-Type": typeProto})
	if w.Code != 503 || w.Header().Get("Retry-After") != "1" {
		t.Errorf("status %d, Retry-After %q", w.Code, w.Header().Get("Retry-After"))
	}
	if used := s.budget.used.Load(); used != 0 {
		t.Errorf("%d bytes of the budget were not given back", used)
	}
}

// sink is a metric store in memory.
type sink struct {
	points   int
	rejected int
	fail     error
}

func (s *sink) AppendMetrics(_ context.Context, md pmetric.Metrics) (int, error) {
	if s.fail != nil {
		return 0, s.fail
	}
	s.points += md.DataPointCount() - s.rejected
	return s.rejected, nil
}

func TestLogsAndMetrics(t *testing.T) {
	ld := plog.NewLogs()
	l := ld.ResourceLogs().AppendEmpty().ScopeLogs().AppendEmpty().LogRecords().AppendEmpty()
	l.Body().SetStr("hello")
	l.SetTimestamp(pcommon.NewTimestampFromTime(time.Now()))
	lb, err := plogotlp.NewExportRequestFromLogs(ld).MarshalProto()
	if err != nil {
		t.Fatal(err)
	}
	md := pmetric.NewMetrics()
	m := md.ResourceMetrics().AppendEmpty().ScopeMetrics().AppendEmpty().Metrics().AppendEmpty()
	m.SetName("m")
	for i := range 3 {
		p := m.SetEmptyGauge().DataPoints()
		for range i + 1 {
			p.AppendEmpty().SetDoubleValue(1)
		}
	}
	mb, err := pmetricotlp.NewExportRequestFromMetrics(md).MarshalProto()
	if err != nil {
		t.Fatal(err)
	}
	sk := &sink{rejected: 1, fail: errors.New("not now")}
	st := openStore(t, store.Config{Metrics: sk})
	h := New(Config{Store: st}).Handler()
	for range 2 {
		if w := post(h, "/v1/logs", lb, header{"Content-Type": typeProto}); w.Code != 200 {
			t.Fatalf("logs: status %d %s", w.Code, w.Body)
		}
	}
	if n := st.Stats().Logs; n != 1 {
		t.Errorf("%d log records, want 1: the second batch is a repetition", n)
	}
	if w := post(h, "/v1/metrics", mb, header{"Content-Type": typeProto}); w.Code != 503 {
		t.Errorf("metrics, sink failing: status %d", w.Code)
	}
	sk.fail = nil
	for range 2 { // the retry that the sender owes, and one too many
		w := post(h, "/v1/metrics", mb, header{"Content-Type": typeProto})
		if w.Code != 200 {
			t.Fatalf("metrics: status %d %s", w.Code, w.Body)
		}
	}
	if sk.points != 2 {
		t.Errorf("sink has %d points, want 2", sk.points)
	}
}
