package prom

import (
	"bytes"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"reflect"
	"testing"
	"time"

	"github.com/klauspost/compress/s2"
	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/prompb"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"
)

var pbSeries = []prompb.TimeSeries{
	{
		Labels:    []prompb.Label{{Name: "__name__", Value: "up"}, {Name: "job", Value: "a"}},
		Samples:   []prompb.Sample{{Value: 1, Timestamp: base.UnixMilli() - 1000}, {Value: math.NaN(), Timestamp: base.UnixMilli()}},
		Exemplars: []prompb.Exemplar{{Labels: []prompb.Label{{Name: "trace_id", Value: "abc"}}, Value: 7, Timestamp: base.UnixMilli()}},
	},
	{
		Labels: []prompb.Label{{Name: "__name__", Value: "lat"}},
		Histograms: []prompb.Histogram{
			prompb.FromIntHistogram(base.UnixMilli(), &histogram.Histogram{
				Schema: 2, Count: 6, Sum: -3.5, ZeroThreshold: 0.001, ZeroCount: 1,
				PositiveSpans: []histogram.Span{{Offset: -2, Length: 2}, {Offset: 3, Length: 1}}, PositiveBuckets: []int64{1, 1, -1},
				NegativeSpans: []histogram.Span{{Offset: 0, Length: 1}}, NegativeBuckets: []int64{1},
			}),
			prompb.FromFloatHistogram(base.UnixMilli()+1, &histogram.FloatHistogram{
				CounterResetHint: histogram.GaugeType, Schema: -1, Count: 2.5, Sum: 1, ZeroThreshold: 0.001, ZeroCount: 0.5,
				PositiveSpans: []histogram.Span{{Offset: 1, Length: 1}}, PositiveBuckets: []float64{2},
			}),
		},
	},
}

func pbV1(t testing.TB) []byte {
	t.Helper()
	b, err := (&prompb.WriteRequest{
		Timeseries: pbSeries,
		Metadata:   []prompb.MetricMetadata{{Type: prompb.MetricMetadata_GAUGE, MetricFamilyName: "up", Help: "Whether it is up.", Unit: "u"}},
	}).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func pbV2(t testing.TB) []byte {
	t.Helper()
	symbols := writev2.NewSymbolTable()
	var req writev2.Request
	for _, s := range pbSeries {
		var b labels.ScratchBuilder
		ts := writev2.TimeSeries{LabelsRefs: symbols.SymbolizeLabels(s.ToLabels(&b, nil), nil)}
		for _, x := range s.Samples {
			ts.Samples = append(ts.Samples, writev2.Sample{Value: x.Value, Timestamp: x.Timestamp})
		}
		for _, e := range s.Exemplars {
			ts.Exemplars = append(ts.Exemplars, writev2.Exemplar{LabelsRefs: symbols.SymbolizeLabels(e.ToExemplar(&b, nil).Labels, nil), Value: e.Value, Timestamp: e.Timestamp})
		}
		for _, h := range s.Histograms {
			if h.IsFloatHistogram() {
				ts.Histograms = append(ts.Histograms, writev2.FromFloatHistogram(0, h.Timestamp, h.ToFloatHistogram()))
			} else {
				ts.Histograms = append(ts.Histograms, writev2.FromIntHistogram(0, h.Timestamp, h.ToIntHistogram()))
			}
		}
		req.Timeseries = append(req.Timeseries, ts)
	}
	req.Timeseries[0].Metadata = writev2.Metadata{Type: writev2.Metadata_METRIC_TYPE_GAUGE, HelpRef: symbols.Symbolize("Whether it is up."), UnitRef: symbols.Symbolize("u")}
	req.Symbols = symbols.Symbols()
	b, err := req.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// push sends one remote-write request with the given headers.
func push(t testing.TB, db *DB, msg []byte, header ...string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/prometheus/api/v1/write", bytes.NewReader(s2.EncodeSnappy(nil, msg)))
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	db.Handler().ServeHTTP(w, r)
	return w
}

const protoV2 = "application/x-protobuf;proto=io.prometheus.write.v2.Request"

func TestRemoteWrite(t *testing.T) {
	for _, version := range []string{"v1", "v2"} {
		t.Run(version, func(t *testing.T) {
			db := open(t, Config{})
			send := func() *httptest.ResponseRecorder {
				if version == "v2" {
					return push(t, db, pbV2(t), "Content-Type", protoV2, "Content-Encoding", "snappy")
				}
				return push(t, db, pbV1(t), "Content-Type", "application/x-protobuf", "Content-Encoding", "snappy", "X-Prometheus-Remote-Write-Version", "0.1.0")
			}
			for range 2 { // a repeated request is a duplicate, and no error
				w := send()
				if w.Code != http.StatusNoContent {
					t.Fatalf("%d %s, want 204", w.Code, w.Body)
				}
				for name, want := range map[string]string{"Samples": "2", "Histograms": "2", "Exemplars": "1"} {
					if version == "v1" {
						want = ""
					}
					if got := w.Header().Get("X-Prometheus-Remote-Write-" + name + "-Written"); got != want {
						t.Errorf("%s written: %q, want %q", name, got, want)
					}
				}
			}
			if got := value1(t, db, "up", base); got != "NaN" {
				t.Errorf("up = %s, want NaN", got)
			}
			if got := value1(t, db, "histogram_count(lat)", base); got != "6" {
				t.Errorf("whole counts: %s, want 6", got)
			}
			if got := value1(t, db, "histogram_count(lat)", base.Add(time.Millisecond)); got != "2.5" {
				t.Errorf("fractional counts: %s, want 2.5", got)
			}
			_, body := call(t, db, "GET", "/query_exemplars", map[string][]string{"query": {"up"}})
			if !contains(body, `"exemplars":[{"labels":{"trace_id":"abc"},"value":"7","timestamp":`+unix(base)+`}]`) {
				t.Errorf("exemplars: %s", body)
			}
			_, body = call(t, db, "GET", "/metadata", nil)
			if body != `{"status":"success","data":{"up":[{"type":"gauge","unit":"u","help":"Whether it is up."}]}}` {
				t.Errorf("metadata: %s", body)
			}
		})
	}
}

func TestRemoteWriteRefusals(t *testing.T) {
	db := open(t, Config{})
	for _, c := range []struct {
		name   string
		msg    []byte
		header []string
		want   int
	}{
		{"other encoding", pbV1(t), []string{"Content-Encoding", "gzip"}, 415},
		{"other type", pbV1(t), []string{"Content-Type", "application/json"}, 415},
		{"other message", pbV1(t), []string{"Content-Type", "application/x-protobuf;proto=other"}, 415},
		{"no protobuf", []byte("hello"), nil, 400},
		{"version 1 as 2", pbV1(t), []string{"Content-Type", protoV2}, 204}, // other field numbers: an empty request
		{"reference beyond the symbols", []byte{0x2a, 4, 0x0a, 2, 8, 9}, []string{"Content-Type", protoV2}, 400},
		{"odd references", []byte{0x2a, 3, 0x0a, 1, 0}, []string{"Content-Type", protoV2}, 400},
	} {
		if w := push(t, db, c.msg, c.header...); w.Code != c.want {
			t.Errorf("%s: %d %s, want %d", c.name, w.Code, w.Body, c.want)
		}
	}
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/prometheus/api/v1/write", bytes.NewReader([]byte{0xff, 0xff, 0xff, 0xff, 0x7f}))
	w := httptest.NewRecorder()
	if db.Handler().ServeHTTP(w, r); w.Code != 400 {
		t.Errorf("snappy bomb: %d %s, want 400", w.Code, w.Body)
	}
	r = httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/prometheus/api/v1/write", bytes.NewReader(make([]byte, maxWriteBytes+1)))
	w = httptest.NewRecorder()
	if db.Handler().ServeHTTP(w, r); w.Code != 413 {
		t.Errorf("large body: %d %s, want 413", w.Code, w.Body)
	}

	// What is good beside something bad is stored.
	mixed := &prompb.WriteRequest{Timeseries: []prompb.TimeSeries{
		{Labels: []prompb.Label{{Name: "__name__", Value: "good"}}, Samples: []prompb.Sample{{Value: 1, Timestamp: base.UnixMilli()}}},
		{Labels: []prompb.Label{{Name: "job", Value: "nameless"}}, Samples: []prompb.Sample{{Value: 1, Timestamp: base.UnixMilli()}}},
		{Labels: []prompb.Label{{Name: "__name__", Value: "twice"}, {Name: "a", Value: "1"}, {Name: "a", Value: "2"}}, Samples: []prompb.Sample{{Value: 1, Timestamp: base.UnixMilli()}}},
		{Labels: []prompb.Label{{Name: "__name__", Value: "future"}}, Samples: []prompb.Sample{{Value: 1, Timestamp: base.Add(time.Hour).UnixMilli()}}},
		{Labels: []prompb.Label{{Name: "__name__", Value: "broken"}}, Histograms: []prompb.Histogram{prompb.FromIntHistogram(base.UnixMilli(), &histogram.Histogram{Count: 5})}},
	}}
	msg, err := mixed.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	if w := push(t, db, msg); w.Code != 400 || !contains(w.Body.String(), "4 samples refused") {
		t.Errorf("mixed: %d %s, want 400 with 4 refused", w.Code, w.Body)
	}
	if got := result(t, db, `count by (__name__) ({__name__=~".+"})`, base); got != `[{"metric":{"__name__":"good"},"value":[`+unix(base)+`,"1"]}]` {
		t.Errorf("stored: %s", got)
	}
}

// FuzzRemoteWrite compares the parser with Prometheus's own, and what becomes of
// the samples with how many there are.
func FuzzRemoteWrite(f *testing.F) {
	f.Add(pbV1(f), false)
	f.Add(pbV2(f), true)
	f.Add([]byte{}, false)
	db := open(f, Config{MaxSeries: 10_000_000, syncFile: func(string) error { return nil }})
	f.Fuzz(func(t *testing.T, msg []byte, second bool) {
		parse, reference := parseWriteV1, referenceV1
		if second {
			parse, reference = parseWriteV2, referenceV2
		}
		got, err := parse(msg)
		want, ok := reference(msg)
		if err != nil {
			return // refused; the reference checks less of what it skips
		}
		if ok {
			if g, w := describe(got.series), describe(want); !reflect.DeepEqual(g, w) {
				t.Fatalf("parsed\n got %v\nwant %v", g, w)
			}
		}
		sent := 0
		for _, s := range got.series {
			sent += len(s.samples)
		}
		before := droppedAll(t, db)
		n, err := db.appendWrite(t.Context(), got)
		if err != nil {
			t.Fatalf("append: %v", err)
		}
		if n.samples+n.histograms+n.rejected != sent {
			t.Fatalf("%d samples, %d histograms, %d refused of %d sent", n.samples, n.histograms, n.rejected, sent)
		}
		if counted := droppedAll(t, db) - before; counted != float64(n.rejected) {
			t.Fatalf("refused %d, counted %v", n.rejected, counted)
		}
	})
}

func referenceV1(msg []byte) ([]writeSeries, bool) {
	var req prompb.WriteRequest
	if req.Unmarshal(msg) != nil {
		return nil, false
	}
	var out []writeSeries
	var b labels.ScratchBuilder
	for _, s := range req.Timeseries {
		w := writeSeries{labels: s.ToLabels(&b, nil).WithoutEmpty()}
		for _, x := range s.Samples {
			w.samples = append(w.samples, sample{t: x.Timestamp, v: x.Value})
		}
		for _, h := range s.Histograms {
			if h.IsFloatHistogram() {
				w.samples = append(w.samples, sample{t: h.Timestamp, fh: h.ToFloatHistogram()})
			} else {
				w.samples = append(w.samples, sample{t: h.Timestamp, h: h.ToIntHistogram()})
			}
		}
		for _, e := range s.Exemplars {
			w.exemplars = append(w.exemplars, e.ToExemplar(&b, nil))
		}
		out = append(out, w)
	}
	return out, true
}

func referenceV2(msg []byte) ([]writeSeries, bool) {
	var req writev2.Request
	if req.Unmarshal(msg) != nil {
		return nil, false
	}
	var out []writeSeries
	var b labels.ScratchBuilder
	for _, s := range req.Timeseries {
		ls, err := s.ToLabels(&b, req.Symbols)
		if err != nil {
			return nil, false
		}
		w := writeSeries{labels: ls.WithoutEmpty()}
		for _, x := range s.Samples {
			w.samples = append(w.samples, sample{t: x.Timestamp, v: x.Value})
		}
		for _, h := range s.Histograms {
			if h.IsFloatHistogram() {
				w.samples = append(w.samples, sample{t: h.Timestamp, fh: h.ToFloatHistogram()})
			} else {
				w.samples = append(w.samples, sample{t: h.Timestamp, h: h.ToIntHistogram()})
			}
		}
		for _, e := range s.Exemplars {
			x, err := e.ToExemplar(&b, req.Symbols)
			if err != nil {
				return nil, false
			}
			w.exemplars = append(w.exemplars, x)
		}
		out = append(out, w)
	}
	return out, true
}

// describe writes series as text, samples sorted by kind: the two parsers
// differ in whether samples or histograms come first. Of a histogram that has
// neither kind of count (which no sender makes) only the time is compared.
func describe(list []writeSeries) []string {
	var out []string
	for _, s := range list {
		var floats, hists []string
		for _, x := range s.samples {
			switch {
			case x.h == nil && x.fh == nil:
				floats = append(floats, fmt.Sprint(x.t, math.Float64bits(x.v)))
			default:
				hists = append(hists, fmt.Sprint(x.t))
			}
			if x.h != nil && x.h.Validate() == nil {
				hists = append(hists, x.h.String(), fmt.Sprint(x.h.CounterResetHint == histogram.GaugeType))
			}
			if x.fh != nil && x.fh.Validate() == nil {
				hists = append(hists, x.fh.String(), fmt.Sprint(x.fh.CounterResetHint == histogram.GaugeType))
			}
		}
		var ex []exemplar.Exemplar
		ex = append(ex, s.exemplars...)
		text := ""
		for _, e := range ex {
			text += fmt.Sprint(e.Labels, e.Ts, math.Float64bits(e.Value))
		}
		out = append(out, fmt.Sprint(s.labels, floats, hists, text))
	}
	return out
}
