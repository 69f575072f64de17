package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/kaizen-go/kaizen/server/internal/record"
	"github.com/kaizen-go/kaizen/server/internal/wal"
)

var t0 = time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)

func mustOpen(t testing.TB, dir string, cfg Config) *Store {
	t.Helper()
	s, err := Open(dir, cfg)
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	return s
}

func mustClose(t testing.TB, s *Store) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatalf("Close: %v", err)
	}
}

// spec is a span in short: of trace 1.
type spec struct {
	id      int
	name    string
	at      int // seconds after t0
	pending bool
}

func spansOf(specs ...spec) ptrace.Traces {
	td := ptrace.NewTraces()
	ss := td.ResourceSpans().AppendEmpty().ScopeSpans().AppendEmpty()
	for _, sp := range specs {
		s := ss.Spans().AppendEmpty()
		s.SetTraceID(pcommon.TraceID{1})
		s.SetSpanID(pcommon.SpanID{byte(sp.id), byte(sp.id >> 8), 1})
		s.SetName(sp.name)
		at := t0.Add(time.Duration(sp.at) * time.Second)
		s.SetStartTimestamp(pcommon.NewTimestampFromTime(at))
		if sp.pending {
			s.Attributes().PutBool("kaizen.pending", true)
		} else {
			s.SetEndTimestamp(pcommon.NewTimestampFromTime(at.Add(time.Second)))
		}
	}
	return td
}

func logsOf(uid string, texts ...string) plog.Logs {
	ld := plog.NewLogs()
	sl := ld.ResourceLogs().AppendEmpty().ScopeLogs().AppendEmpty()
	for i, text := range texts {
		l := sl.LogRecords().AppendEmpty()
		l.SetTimestamp(pcommon.NewTimestampFromTime(t0.Add(time.Duration(i) * time.Second)))
		l.SetTraceID(pcommon.TraceID{1})
		l.Body().SetStr(text)
		if uid != "" {
			l.Attributes().PutStr("log.record.uid", fmt.Sprint(uid, i))
		}
	}
	return ld
}

func mustAppend(t testing.TB, s *Store, td ptrace.Traces) Result {
	t.Helper()
	res, err := s.AppendTraces(t.Context(), td)
	if err != nil {
		t.Fatalf("AppendTraces: %v", err)
	}
	return res
}

// names returns the names of all spans by id, after checking the store's
// invariants: every way to a span shows the same ones, in order.
func names(t testing.TB, s *Store) []string {
	t.Helper()
	var byTime []*record.Span
	for sp := range s.Spans(time.Time{}, time.Time{}) {
		byTime = append(byTime, sp)
		got, ok := s.Span(sp.TraceID, sp.SpanID)
		if !ok || got != sp {
			t.Fatalf("span %s is listed, and by id there is another", sp.SpanID)
		}
	}
	if !slices.IsSortedFunc(byTime, func(a, b *record.Span) int { return b.Start.Compare(a.Start) }) {
		t.Fatal("spans are not listed newest first")
	}
	var out []string
	for tr := range s.Traces(time.Time{}, time.Time{}) {
		for _, sp := range tr.Spans {
			if !slices.Contains(byTime, sp) {
				t.Fatalf("span %s is in its trace and not in the list", sp.SpanID)
			}
			out = append(out, sp.Name)
		}
	}
	if len(out) != len(byTime) || int64(len(out)) != s.Stats().Spans {
		t.Fatalf("%d spans in traces, %d listed, %d counted", len(out), len(byTime), s.Stats().Spans)
	}
	slices.Sort(out)
	return out
}

func TestPendingAndFinal(t *testing.T) {
	for _, tt := range []struct {
		name    string
		batches [][]spec
		want    []string
		told    []string
		dup     int64
	}{
		{"final takes the place of pending", [][]spec{{{1, "p", 0, true}}, {{1, "f", 0, false}}}, []string{"f"}, []string{"p", "f"}, 0},
		{"pending does not take the place of final", [][]spec{{{1, "f", 0, false}}, {{1, "p", 0, true}}}, []string{"f"}, []string{"f"}, 1},
		{"a second final is ignored", [][]spec{{{1, "f", 0, false}}, {{1, "g", 3, false}}}, []string{"f"}, []string{"f"}, 1},
		{"a second pending is ignored", [][]spec{{{1, "p", 0, true}}, {{1, "q", 0, true}}}, []string{"p"}, []string{"p"}, 1},
		{"one batch with both", [][]spec{{{1, "p", 5, true}, {1, "f", 2, false}, {2, "g", 1, false}}}, []string{"f", "g"}, []string{"p", "f", "g"}, 0},
		{"new beside known", [][]spec{{{1, "f", 0, false}}, {{1, "g", 0, false}, {2, "h", 0, false}}}, []string{"f", "h"}, []string{"f", "h"}, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			s := mustOpen(t, dir, Config{})
			var told []string
			s.OnSpans(func(spans []*record.Span) {
				for _, sp := range spans {
					told = append(told, sp.Name)
				}
			})
			for _, b := range tt.batches {
				if res := mustAppend(t, s, spansOf(b...)); res.Accepted != len(b) {
					t.Errorf("accepted %d of %d", res.Accepted, len(b))
				}
			}
			if got := names(t, s); !slices.Equal(got, tt.want) {
				t.Errorf("spans %q, want %q", got, tt.want)
			}
			if !slices.Equal(told, tt.told) || s.Stats().DuplicateSpans != tt.dup {
				t.Errorf("told %q, want %q; %d duplicates, want %d", told, tt.told, s.Stats().DuplicateSpans, tt.dup)
			}
			before := s.Stats()
			mustClose(t, s)
			s = mustOpen(t, dir, Config{})
			defer mustClose(t, s)
			if got := names(t, s); !slices.Equal(got, tt.want) {
				t.Errorf("after restart: spans %q, want %q", got, tt.want)
			}
			if after := s.Stats(); after.Pending != before.Pending || after.ResidentBytes != before.ResidentBytes {
				t.Errorf("after restart: %+v, before %+v", after, before)
			}
		})
	}
}

func TestRepeatedBatches(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir, Config{})
	for range 2 {
		for range 3 { // the third round is after a restart: the log remembers
			res, err := s.AppendLogs(t.Context(), logsOf("", "a", "b"))
			if err != nil || res.Accepted != 2 {
				t.Fatalf("AppendLogs = %+v, %v", res, err)
			}
		}
		if _, err := s.AppendLogs(t.Context(), logsOf("uid", "c", "d")); err != nil {
			t.Fatal(err)
		}
		// The same records in another batch, one of them new.
		if _, err := s.AppendLogs(t.Context(), logsOf("uid", "c", "d", "e")); err != nil {
			t.Fatal(err)
		}
		if n := s.Stats().Logs; n != 5 {
			t.Fatalf("%d log records, want 5", n)
		}
		var seqs []uint64
		for l := range s.LogsAscending(time.Time{}, time.Time{}) {
			seqs = append(seqs, l.Seq)
		}
		if len(seqs) != 5 || len(s.TraceLogs(record.TraceID{1})) != 5 {
			t.Fatalf("seqs %v, %d of the trace", seqs, len(s.TraceLogs(record.TraceID{1})))
		}
		mustClose(t, s)
		s = mustOpen(t, dir, Config{})
	}
	mustClose(t, s)
}

// TestConcurrent sends the same spans, with different names, from many
// goroutines: the log's order decides, and it is the same after a restart.
func TestConcurrent(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir, Config{})
	var told atomic.Int64
	s.OnSpans(func(spans []*record.Span) {
		for _, sp := range spans {
			if !sp.Pending {
				told.Add(1)
			}
		}
	})
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for i := range 40 {
				td := spansOf(spec{i, fmt.Sprint("by ", w), i, w%2 == 0}, spec{i + 1, fmt.Sprint("by ", w), i, false})
				if _, err := s.AppendTraces(t.Context(), td); err != nil {
					t.Error(err)
				}
				for range s.Spans(time.Time{}, time.Time{}) {
				}
				for range s.Traces(time.Time{}, time.Time{}) {
				}
			}
		})
	}
	wg.Wait()
	want := names(t, s)
	if len(want) != 41 || told.Load() != 41 {
		t.Fatalf("%d spans, %d told, want 41", len(want), told.Load())
	}
	mustClose(t, s)
	s = mustOpen(t, dir, Config{})
	defer mustClose(t, s)
	if got := names(t, s); !slices.Equal(got, want) {
		t.Errorf("after restart:\n got %q\nwant %q", got, want)
	}
}

func TestSameBatchAtOnce(t *testing.T) {
	s := mustOpen(t, t.TempDir(), Config{})
	defer mustClose(t, s)
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			if res, err := s.AppendLogs(t.Context(), logsOf("", "x")); err != nil || res.Accepted != 1 {
				t.Errorf("AppendLogs = %+v, %v", res, err)
			}
		})
	}
	wg.Wait()
	if st := s.Stats(); st.Logs != 1 || st.DuplicateBatches != 15 {
		t.Errorf("%+v", st)
	}
}

func TestFull(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir, Config{MaxItems: 3})
	mustAppend(t, s, spansOf(spec{1, "a", 0, false}, spec{2, "b", 0, false}))
	if _, err := s.AppendTraces(t.Context(), spansOf(spec{3, "c", 0, false}, spec{4, "d", 0, false})); !errors.Is(err, ErrFull) {
		t.Fatalf("append over the bound = %v, want ErrFull", err)
	}
	if got := names(t, s); !slices.Equal(got, []string{"a", "b"}) || s.Stats().Refused != 1 {
		t.Errorf("half a batch is there: %q", got)
	}
	mustAppend(t, s, spansOf(spec{3, "c", 0, false})) // what fits still does
	mustAppend(t, s, spansOf(spec{1, "a", 0, false})) // and a repetition needs no room
	mustClose(t, s)
	s = mustOpen(t, dir, Config{MaxResidentBytes: 10}) // less than is there: reading still works
	defer mustClose(t, s)
	if got := names(t, s); len(got) != 3 {
		t.Errorf("after restart: %q", got)
	}
	if _, err := s.AppendTraces(t.Context(), spansOf(spec{9, "z", 0, false})); !errors.Is(err, ErrFull) {
		t.Errorf("append = %v, want ErrFull", err)
	}
}

func TestTraceStartMoves(t *testing.T) {
	s := mustOpen(t, t.TempDir(), Config{})
	defer mustClose(t, s)
	mustAppend(t, s, spansOf(spec{1, "late", 50, false}))
	names(t, s)
	mustAppend(t, s, spansOf(spec{2, "early", 10, false}))
	n := 0
	for tr := range s.Traces(time.Time{}, time.Time{}) {
		n++
		if !tr.Start.Equal(t0.Add(10 * time.Second)) {
			t.Errorf("start %v", tr.Start)
		}
	}
	if n != 1 {
		t.Errorf("the trace is listed %d times", n)
	}
	for range s.Traces(t0.Add(20*time.Second), time.Time{}) {
		t.Error("the trace is listed where it does not start")
	}
	in := 0
	for range s.Spans(t0.Add(10*time.Second), t0.Add(50*time.Second)) {
		in++
	}
	if in != 1 {
		t.Errorf("%d spans in [10 s, 50 s), want 1", in)
	}
}

func TestClosed(t *testing.T) {
	s := mustOpen(t, t.TempDir(), Config{})
	mustClose(t, s)
	if _, err := s.AppendTraces(t.Context(), spansOf(spec{1, "a", 0, false})); !errors.Is(err, ErrClosed) {
		t.Errorf("append after Close = %v, want ErrClosed", err)
	}
	if s.Stats().Spans != 0 {
		t.Error("a span that was not stored is visible")
	}
}

// TestCanceledSender stores a batch whose sender has gone: the log and the
// index must agree about it.
func TestCanceledSender(t *testing.T) {
	s := mustOpen(t, t.TempDir(), Config{})
	defer mustClose(t, s)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if res, err := s.AppendTraces(ctx, spansOf(spec{1, "a", 0, false})); err != nil || res.Accepted != 1 {
		t.Errorf("append = %+v, %v", res, err)
	}
	mustAppend(t, s, spansOf(spec{2, "b", 0, false})) // the turnstile still turns
}

func TestDamageIsRefused(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir, Config{})
	mustAppend(t, s, spansOf(spec{1, "a", 0, false}))
	mustAppend(t, s, spansOf(spec{2, "b", 0, false}))
	mustClose(t, s)
	path := filepath.Join(dir, "wal", "00000000000000000001.wal")
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b[80] ^= 1
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	var damage *wal.CorruptError
	if _, err := Open(dir, Config{}); !errors.As(err, &damage) || damage.Path != path {
		t.Errorf("Open = %v, want a CorruptError of %s", err, path)
	}
}

// sink counts points by name, the same point once.
type sink struct {
	mu   sync.Mutex
	seen map[string]int
}

func (k *sink) AppendMetrics(_ context.Context, md pmetric.Metrics) (int, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, rm := range md.ResourceMetrics().All() {
		for _, sm := range rm.ScopeMetrics().All() {
			for _, m := range sm.Metrics().All() {
				k.seen[m.Name()]++
			}
		}
	}
	return 0, nil
}

func TestMetricsAreReplayed(t *testing.T) {
	dir := t.TempDir()
	k := &sink{seen: map[string]int{}}
	s := mustOpen(t, dir, Config{Metrics: k})
	md := pmetric.NewMetrics()
	m := md.ResourceMetrics().AppendEmpty().ScopeMetrics().AppendEmpty().Metrics().AppendEmpty()
	m.SetName("m")
	m.SetEmptyGauge().DataPoints().AppendEmpty().SetIntValue(1)
	for range 2 {
		if res, err := s.AppendMetrics(t.Context(), md); err != nil || res.Accepted != 1 {
			t.Fatalf("AppendMetrics = %+v, %v", res, err)
		}
	}
	if k.seen["m"] != 1 {
		t.Errorf("the sink was given the batch %d times", k.seen["m"])
	}
	mustClose(t, s)
	k = &sink{seen: map[string]int{}}
	s = mustOpen(t, dir, Config{Metrics: k})
	defer mustClose(t, s)
	if k.seen["m"] != 1 {
		t.Errorf("after restart the sink was given the batch %d times", k.seen["m"])
	}
}
