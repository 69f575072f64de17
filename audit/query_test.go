package audit

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestQuery(t *testing.T) {
	dir := t.TempDir() + "/audit"
	cfg := small()
	cfg.sectionBytes = 1 << 20
	l := mustOpen(t, dir, cfg)
	const n = 2500 // three blocks
	var batch []Entry
	var want []Entry
	for i := range n {
		batch = append(batch, numbered(i))
		if len(batch) == 500 {
			if _, err := l.AppendBatch(t.Context(), batch); err != nil {
				t.Fatal(err)
			}
			batch = batch[:0]
		}
		e := numbered(i)
		e.Index = int64(i)
		want = append(want, e)
	}
	mustClose(t, l)
	l = mustOpen(t, dir, cfg) // with the index rebuilt from the lines
	r, err := OpenReader(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()

	at := func(i int) time.Time { return numbered(i).Time }
	queries := map[string]Query{
		"all":              {},
		"agent":            {AgentID: "agent-3"},
		"agent and result": {AgentID: "agent-3", Result: Denied},
		"user and action":  {UserID: "u-2", Action: "model.call"},
		"session":          {SessionID: "s-10"},
		"run":              {RunID: "r-77"},
		"trace":            {TraceID: numbered(1999).TraceID},
		"span":             {SpanID: numbered(1024).SpanID},
		"unknown agent":    {AgentID: "nobody"},
		"unknown trace":    {TraceID: strings.Repeat("f", 32)},
		"unknown result":   {Result: "perhaps"},
		"since":            {Since: at(2400)},
		"until":            {Until: at(3)},
		"window":           {Since: at(1000), Until: at(1100), AgentID: "agent-1"},
		"instant":          {Since: at(1024), Until: at(1024)},
		"between instants": {Since: at(1024).Add(1), Until: at(1025).Add(-1)},
		"long ago":         {Until: time.Unix(-5, 0)},
		"far future":       {Since: time.Date(3000, 1, 1, 0, 0, 0, 0, time.UTC)},
		"wide":             {Since: time.Unix(-5, 0), Until: time.Date(3000, 1, 1, 0, 0, 0, 0, time.UTC), RunID: "r-3"},
	}
	for name, q := range queries {
		t.Run(name, func(t *testing.T) {
			var all []int64
			for i := range want {
				if q.match(&want[i]) {
					all = append(all, int64(i))
				}
			}
			checkPages(t, l, q, all)
			checkPages(t, r, q, all)
		})
	}
	if entry, err := r.Get(t.Context(), 1500); err != nil || encode(t, entry) != encode(t, want[1500]) {
		t.Errorf("Get(1500) = %+v, %v", entry, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, err := range l.Query(ctx, Query{}) {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("Query with an ended context yields %v", err)
		}
	}
}

// checkPages asks for everything, forwards and backwards, and in pages.
func checkPages(t *testing.T, l interface {
	Count(context.Context, Query) (int64, error)
}, q Query, want []int64) {
	t.Helper()
	run := func(q Query) (got []int64) {
		t.Helper()
		var seq func(func(Entry, error) bool)
		switch l := l.(type) {
		case *Ledger:
			seq = l.Query(t.Context(), q)
		case *Reader:
			seq = l.Query(t.Context(), q)
		}
		for e, err := range seq {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, e.Index)
		}
		return got
	}
	if n, err := l.Count(t.Context(), q); err != nil || n != int64(len(want)) {
		t.Errorf("Count = %d, %v; want %d", n, err, len(want))
	}
	for _, descending := range []bool{false, true} {
		expect := slices.Clone(want)
		if descending {
			slices.Reverse(expect)
		}
		q.Descending, q.Limit, q.After = descending, 0, 0
		if got := run(q); !slices.Equal(got, expect) {
			t.Errorf("descending %v: got %d entries, want %d", descending, len(got), len(expect))
		}
		q.Limit = len(expect)/3 + 1
		var paged []int64
		for {
			page := run(q)
			if len(page) > q.Limit {
				t.Fatalf("page of %d, limit %d", len(page), q.Limit)
			}
			if len(page) == 0 {
				break
			}
			paged = append(paged, page...)
			q.After = page[len(page)-1] + 1
		}
		if !slices.Equal(paged, expect) {
			t.Errorf("descending %v in pages: got %v, want %v", descending, paged, expect)
		}
	}
}
