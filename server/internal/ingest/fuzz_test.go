package ingest

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/kaizen-go/kaizen/server/internal/store"
)

// fuzzed sends a body and checks that the answer is 200 or 4xx and that the
// store grew by exactly what was accepted and not there before.
func fuzzed(f *testing.F, kind string) func(t *testing.T, body []byte, which uint8) {
	st := openStore(f, store.Config{MaxItems: 100_000_000, MaxResidentBytes: 1 << 40})
	reg := prometheus.NewRegistry()
	h := New(Config{Store: st, Registerer: reg}).Handler()
	return func(t *testing.T, body []byte, which uint8) {
		path := []string{"/v1/traces", "/v1/logs"}[which%2]
		before, was := st.Stats(), accepted(t, reg)
		w := post(h, path, body, header{"Content-Type": kind})
		after, is := st.Stats(), accepted(t, reg)
		if w.Code != 200 && (w.Code < 400 || w.Code > 499) {
			t.Fatalf("status %d for %q", w.Code, body)
		}
		// A final span after its pending announcement is accepted and takes
		// its place.
		grew := (after.Spans + after.Logs) - (before.Spans + before.Logs)
		replaced := max(0, before.Pending-after.Pending)
		if grew+replaced < is-was || grew > is-was {
			t.Fatalf("store grew by %d (%d replaced), %d were accepted, status %d", grew, replaced, is-was, w.Code)
		}
		if w.Code != 200 && grew != 0 {
			t.Fatalf("status %d, and the store grew by %d", w.Code, grew)
		}
	}
}

// accepted sums kaizen_server_ingest_total{outcome="accepted"}.
func accepted(t testing.TB, reg *prometheus.Registry) int64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var n float64
	for _, mf := range families {
		if mf.GetName() != "kaizen_server_ingest_total" {
			continue
		}
		for _, m := range mf.GetMetric() {
			if hasLabel(m, "outcome", outcomeAccepted) {
				n += m.GetCounter().GetValue()
			}
		}
	}
	return int64(n)
}

func hasLabel(m *dto.Metric, name, value string) bool {
	for _, l := range m.GetLabel() {
		if l.GetName() == name && l.GetValue() == value {
			return true
		}
	}
	return false
}

func FuzzProto(f *testing.F) {
	f.Add(protoOf(f, batch(2)), uint8(0))
	f.Add(deepProto(70), uint8(0))
	f.Add([]byte{0x0a, 0x02, 0x12, 0x00}, uint8(1))
	f.Fuzz(fuzzed(f, typeProto))
}

func FuzzJSON(f *testing.F) {
	f.Add(jsonOf(f, batch(2)), uint8(0))
	f.Add([]byte(`{"resourceSpans":[{"scopeSpans":[{"spans":[`+spanJSON("0102030405060708090a0b0c0d0e0f10", "0102030405060708")+`]}]}]}`), uint8(0))
	f.Add([]byte(`{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"body":{"stringValue":"x"}}]}]}]}`), uint8(1))
	f.Fuzz(fuzzed(f, typeJSON))
}
