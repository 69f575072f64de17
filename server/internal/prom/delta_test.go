package prom

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"go.opentelemetry.io/collector/pdata/pmetric"
)

// deltas returns one delta sum, one delta histogram and one delta exponential
// histogram, each with one point of n observations of value 1.5.
func deltas(when time.Time, n uint64) pmetric.Metrics {
	md, ms := one("svc", "")
	addSum(ms, "calls", delta, when, float64(n))

	m := ms.AppendEmpty()
	m.SetName("classic")
	m.SetEmptyHistogram().SetAggregationTemporality(delta)
	p := m.Histogram().DataPoints().AppendEmpty()
	p.SetTimestamp(at(when))
	p.ExplicitBounds().FromRaw([]float64{1, 2})
	p.BucketCounts().FromRaw([]uint64{0, n, 0})
	p.SetCount(n)
	p.SetSum(1.5 * float64(n))

	m = ms.AppendEmpty()
	m.SetName("native")
	m.SetEmptyExponentialHistogram().SetAggregationTemporality(delta)
	e := m.ExponentialHistogram().DataPoints().AppendEmpty()
	e.SetTimestamp(at(when))
	e.Positive().BucketCounts().FromRaw([]uint64{n}) // (1,2]
	e.SetCount(n)
	e.SetSum(1.5 * float64(n))
	return md
}

func checkTotals(t *testing.T, db *DB, when time.Time, want int) {
	t.Helper()
	for _, q := range []string{
		"calls_total", "classic_count", "classic_sum / 1.5", `classic_bucket{le="2"}`, `classic_bucket{le="+Inf"}`,
		"histogram_count(native)", "histogram_sum(native) / 1.5",
	} {
		if got := value1(t, db, q, when); got != fmt.Sprint(want) {
			t.Errorf("%s at %s = %q, want %d", q, when.Format(time.TimeOnly), got, want)
		}
	}
	if got := value1(t, db, `classic_bucket{le="1"}`, when); got != "0" {
		t.Errorf("empty bucket = %q, want 0", got)
	}
}

func TestDeltaTotals(t *testing.T) {
	dir := t.TempDir()
	db := openIn(t, dir, Config{})
	appendOK(t, db, deltas(base, 2))
	checkTotals(t, db, base, 2)
	appendOK(t, db, deltas(base.Add(10*time.Second), 3))
	checkTotals(t, db, base.Add(10*time.Second), 5)

	// The newest request again, as after a lost answer: it counts once.
	appendOK(t, db, deltas(base.Add(10*time.Second), 3))
	checkTotals(t, db, base.Add(10*time.Second), 5)

	// So does an older one, as when two points of a series were in one request.
	appendOK(t, db, deltas(base, 2))
	checkTotals(t, db, base.Add(10*time.Second), 5)

	// An older or different one cannot be placed any more.
	if n, err := db.AppendMetrics(t.Context(), deltas(base.Add(5*time.Second), 1)); n != 3 || err != nil {
		t.Errorf("delta out of order: rejected %d, %v, want 3", n, err)
	}
	checkTotals(t, db, base.Add(10*time.Second), 5)

	// After a restart the totals go on where they were, and a log of requests
	// that is replayed adds nothing.
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	db = openIn(t, dir, Config{})
	appendOK(t, db, deltas(base, 2))
	appendOK(t, db, deltas(base.Add(10*time.Second), 3))
	checkTotals(t, db, base.Add(10*time.Second), 5)
	appendOK(t, db, deltas(base.Add(20*time.Second), 4))
	checkTotals(t, db, base.Add(20*time.Second), 9)
}

func TestDeltaEnds(t *testing.T) {
	db := open(t, Config{})
	appendOK(t, db, deltas(base, 2))
	md := deltas(base.Add(time.Second), 0)
	for _, m := range md.ResourceMetrics().At(0).ScopeMetrics().At(0).Metrics().All() {
		flags := pmetric.DefaultDataPointFlags.WithNoRecordedValue(true)
		switch m.Type() {
		case pmetric.MetricTypeSum:
			m.Sum().DataPoints().At(0).SetFlags(flags)
		case pmetric.MetricTypeHistogram:
			m.Histogram().DataPoints().At(0).SetFlags(flags)
		case pmetric.MetricTypeExponentialHistogram:
			m.ExponentialHistogram().DataPoints().At(0).SetFlags(flags)
		}
	}
	appendOK(t, db, md)
	if got := result(t, db, `{job="svc"}`, base.Add(2*time.Second)); got != "[]" {
		t.Errorf("after the end: %s, want nothing", got)
	}
	appendOK(t, db, deltas(base.Add(3*time.Second), 7)) // begins anew
	checkTotals(t, db, base.Add(3*time.Second), 7)
}

func TestDeltaResolutionsAndBounds(t *testing.T) {
	db := open(t, Config{})
	send := func(when time.Time, scale int32, offset int32, bounds []float64, counts []uint64) {
		t.Helper()
		md, ms := one("svc", "")
		m := ms.AppendEmpty()
		m.SetName("native")
		m.SetEmptyExponentialHistogram().SetAggregationTemporality(delta)
		e := m.ExponentialHistogram().DataPoints().AppendEmpty()
		e.SetTimestamp(at(when))
		e.SetScale(scale)
		e.Positive().SetOffset(offset)
		e.Positive().BucketCounts().FromRaw([]uint64{1})
		e.SetCount(1)
		m = ms.AppendEmpty()
		m.SetName("classic")
		m.SetEmptyHistogram().SetAggregationTemporality(delta)
		p := m.Histogram().DataPoints().AppendEmpty()
		p.SetTimestamp(at(when))
		p.ExplicitBounds().FromRaw(bounds)
		p.BucketCounts().FromRaw(counts)
		p.SetCount(1)
		appendOK(t, db, md)
	}
	send(base, 3, 0, []float64{1}, []uint64{1, 0})
	send(base.Add(time.Second), 0, 0, []float64{1}, []uint64{1, 0})
	want := `"histogram":[` + unix(base.Add(time.Second)) + `,{"count":"2","sum":"0","buckets":[[0,"1","2","2"]]}]`
	if got := result(t, db, "native", base.Add(time.Second)); !contains(got, want) {
		t.Errorf("two resolutions: %s, want %s", got, want)
	}
	if got := value1(t, db, "classic_count", base.Add(time.Second)); got != "2" {
		t.Errorf("classic_count = %s, want 2", got)
	}
	// Other bounds begin anew, which rate() takes for a reset.
	send(base.Add(2*time.Second), 0, 0, []float64{1, 5}, []uint64{1, 0, 0})
	if got := value1(t, db, "classic_count", base.Add(2*time.Second)); got != "1" {
		t.Errorf("after a change of bounds: %s, want 1", got)
	}
}

func TestDeltaLimit(t *testing.T) {
	clk := newClock(base)
	db := open(t, Config{MaxDeltaSeries: 2, now: clk.now})
	send := func(name string) int {
		md, ms := one("svc", "")
		addSum(ms, name, delta, clk.now(), 1)
		n, err := db.AppendMetrics(t.Context(), md)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	if a, b, c := send("a"), send("b"), send("c"); a != 0 || b != 0 || c != 1 {
		t.Fatalf("rejected %d, %d, %d, want 0, 0, 1", a, b, c)
	}
	if d := droppedCount(t, db, reasonDeltaLimit); d != 1 {
		t.Errorf("counted %v, want 1", d)
	}
	clk.set(base.Add(deltaIdle + time.Minute))
	if n := send("c"); n != 0 {
		t.Errorf("after the others were idle: rejected %d, want 0", n)
	}
}

// TestDeltaFailedCommit lets a sync fail: the sender is told to repeat, and the
// total must not have moved.
func TestDeltaFailedCommit(t *testing.T) {
	broken := errors.New("disk gone")
	fail := false
	db, err := Open(t.TempDir(), Config{now: newClock(base).now, syncFile: func(string) error {
		if fail {
			return broken
		}
		return nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	appendOK(t, db, deltas(base, 2))
	fail = true
	if _, err := db.AppendMetrics(t.Context(), deltas(base.Add(time.Second), 3)); !errors.Is(err, broken) {
		t.Fatalf("AppendMetrics() = %v, want %v", err, broken)
	}
	for key, total := range db.deltas.totals {
		if total.number != 2 && total.explicit.count != 2 && (total.native == nil || total.native.Count != 2) {
			t.Errorf("total of %q moved: %+v", key, total)
		}
	}
	// What the disk lost is unknown, so nothing more is taken.
	fail = false
	if _, err := db.AppendMetrics(t.Context(), deltas(base.Add(time.Second), 3)); !errors.Is(err, broken) {
		t.Errorf("after a failed sync: %v, want %v", err, broken)
	}
	if err := db.Close(); !errors.Is(err, broken) {
		t.Errorf("Close() = %v, want %v", err, broken)
	}
}
