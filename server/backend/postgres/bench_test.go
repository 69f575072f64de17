package postgres_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/kaizen-go/kaizen/audit"
	"github.com/kaizen-go/kaizen/kaizentest"
	"github.com/kaizen-go/kaizen/server/backend/postgres"
	"github.com/kaizen-go/kaizen/server/internal/pgtest"
)

// benchEntry has a stored line of about 512 bytes, with every field set that has
// an index but the subject.
func benchEntry(i int) audit.Entry {
	return audit.Entry{
		AgentID: fmt.Sprintf("agent-%03d", i%100), Action: "tool.execute", Result: audit.Success,
		UserID: fmt.Sprintf("user-%05d", i*7919%5000), SessionID: fmt.Sprintf("session-%06d", i/40),
		TraceID: fmt.Sprintf("%016x%016x", uint64(i/8+1)*0x9e3779b97f4a7c15, i/8+1), SpanID: fmt.Sprintf("%016x", i+1),
		Details: map[string]any{
			"tool": "search", "duration_ms": 12.5, "tokens": i,
			"query": "the quick brown fox jumps over the lazy dog and then looks for the place where the entry was stored",
		},
		Severity: "info",
	}
}

const benchBatch = 1000

// run has each writer append batches through callers goroutines until n entries
// are in, and returns how long it took.
func run(b *testing.B, writers []*postgres.Ledger, callers, n int) time.Duration {
	b.Helper()
	var wg sync.WaitGroup
	perCaller := n / (len(writers) * callers * benchBatch)
	begun := time.Now()
	for w, l := range writers {
		for c := range callers {
			wg.Go(func() {
				batch := make([]audit.Entry, benchBatch)
				for k := range perCaller {
					for i := range batch {
						batch[i] = benchEntry(((w*callers+c)*perCaller+k)*benchBatch + i)
					}
					rs, err := l.AppendBatch(b.Context(), batch)
					if err != nil {
						b.Error(err)
						return
					}
					if last := rs[len(rs)-1]; last.Checkpoint.Size <= last.Index {
						b.Errorf("receipt of entry %d is not covered: %d", last.Index, last.Checkpoint.Size)
					}
				}
			})
		}
	}
	wg.Wait()
	return time.Since(begun)
}

// BenchmarkAppend measures appends that are durable, hashed and covered by a
// signed receipt, beside the naive way in the same round: one row and one
// commit for each entry.
//
//	go test -run '^$' -bench Append -benchtime 3x ./backend/postgres
func BenchmarkAppend(b *testing.B) {
	for _, writers := range []int{1, 4} {
		b.Run(fmt.Sprintf("writers=%d", writers), func(b *testing.B) {
			const n = 128_000
			var took, naive time.Duration
			rows := 0
			for b.Loop() {
				cfg := fresh(b)
				var ls []*postgres.Ledger
				for range writers {
					ls = append(ls, open(b, cfg))
				}
				took += run(b, ls, 8, n)
				d, k := naiveInserts(b, cfg.Schema)
				naive, rows = naive+d, rows+k
				b.StopTimer()
				if err := kaizentest.CheckLedger(context.Background(), ls[0]); err != nil {
					b.Error(err)
				}
				if got := ls[0].Size(); got != n {
					b.Errorf("%d entries, want %d", got, n)
				}
				b.StartTimer()
			}
			rate := float64(n*b.N) / took.Seconds()
			b.ReportMetric(rate, "entries/s")
			b.ReportMetric(rate/(float64(rows)/naive.Seconds()), "×naive")
			b.ReportMetric(float64(rows)/naive.Seconds(), "naive/s")
		})
	}
}

// naiveInserts writes rows of the same size one by one.
func naiveInserts(b *testing.B, schema string) (time.Duration, int) {
	b.Helper()
	ctx := b.Context()
	conn, err := pgx.Connect(ctx, pgtest.DSN(b))
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close(context.Background())
	if _, err := conn.Exec(ctx, "CREATE TABLE "+schema+".naive (id bigserial PRIMARY KEY, line text NOT NULL)"); err != nil {
		b.Fatal(err)
	}
	const rows = 500
	begun := time.Now()
	for i := range rows {
		e := benchEntry(i)
		e.ID, e.Time = fmt.Sprintf("01HZY3V9T5XKQ2M4N6P8%06d", i), time.Now()
		line, err := audit.EncodeLine(nil, e)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := conn.Exec(ctx, "INSERT INTO "+schema+".naive (line) VALUES ($1)", line); err != nil {
			b.Fatal(err)
		}
	}
	return time.Since(begun), rows
}
