package kaizen_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"strconv"
	"testing"
	"time"

	"github.com/kaizen-go/kaizen"
	"github.com/kaizen-go/kaizen/hook"
)

// TestMemoryIsFlat: what an observer holds does not grow with what it has seen,
// under a server that takes everything and with more names of tools than there
// may be series. The long form (make bench-memory) makes 10 million observations
// and 1 million spans, the short one a fiftieth of both.
func TestMemoryIsFlat(t *testing.T) {
	observations, spans := 200_000, 20_000
	if os.Getenv("KAIZEN_MEMORY") == "full" {
		observations, spans = 10_000_000, 1_000_000
	}
	t.Setenv("KAIZEN_SERVER", "")
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // the client sees what fails
	}))
	defer server.Close()
	obs, err := kaizen.Start(t.Context(), kaizen.Config{
		Server: server.URL, SpoolDir: kaizen.NoSpool, LogWriter: io.Discard, LogLevel: 12, Off: kaizen.Audit, MetricsEvery: time.Hour,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := obs.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
	}()
	ctx := kaizen.WithRun(t.Context(), testRun)
	const rounds = 10
	var used [rounds]uint64
	for round := range rounds {
		for i := range observations / rounds {
			h := obs.Metrics().Histogram("loop_wait_seconds", "queue", strconv.Itoa(i%20))
			h.Observe(float64(i%1000) / 1000)
		}
		for i := range spans / rounds {
			tool := &hook.Tool{Name: "tool-" + strconv.Itoa(round*spans/rounds+i)}
			err := obs.Hooks().Do(ctx, tool, func(context.Context, *hook.Op) error {
				if i%100 == 0 {
					return errors.New("failed")
				}
				return nil
			})
			if err != nil && i%100 != 0 {
				t.Fatal(err)
			}
		}
		if err := obs.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		used[round] = heap()
	}
	st := obs.Health().Export.Traces
	t.Logf("bytes in use after each tenth: %d; %d spans sent, %v dropped", used, st.Sent, st.Dropped)
	// Two tenths fill the queue, the pools and the series up to their limit.
	const slack = 4 << 20
	if first, last := used[2], used[rounds-1]; last > first+slack {
		t.Errorf("%d bytes in use after 3 tenths, %d at the end: more than %d grown", first, last, slack)
	}
}

func heap() uint64 {
	runtime.GC()
	runtime.GC() // what the first made free for pools
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
