package pgwire_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/kaizen-go/kaizen/server/backend/internal/pgwire"
	"github.com/kaizen-go/kaizen/server/internal/pgtest"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

func config(t *testing.T) *pgconn.Config {
	t.Helper()
	c, err := pgconn.ParseConfig(pgtest.DSN(t))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func connect(t *testing.T) *pgwire.Conn {
	t.Helper()
	c, err := pgwire.Connect(t.Context(), config(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return c
}

func pool(t *testing.T, size int) *pgwire.Pool {
	p := pgwire.NewPool(config(t), size)
	t.Cleanup(p.Close)
	return p
}

// values has a column and a field for each type that is spoken.
type values struct {
	Text   string
	Bool   bool
	Small  int16
	Int    int
	Big    int64
	Bytes  []byte
	ID     [16]byte
	At     time.Time
	NoText *string
	NoBig  *int64
	NoAt   *time.Time
	NoID   *[16]byte
}

func TestValues(t *testing.T) {
	c := connect(t)
	text, big, at := "a\\b'c\"d{e},\t€", int64(-1<<63), time.Date(1969, 12, 31, 23, 59, 59, 999_999_000, time.UTC)
	id := [16]byte{0: 1, 15: 255}
	for name, want := range map[string]values{
		"zeros and NULLs": {Bytes: []byte{}, At: time.Unix(0, 0).UTC()},
		"everything": {
			Text: text, Bool: true, Small: -32768, Int: 1<<31 - 1, Big: 1<<63 - 1, Bytes: []byte{0, 0xff, '\\', '"'}, ID: id,
			At: time.Date(2262, 4, 11, 1, 2, 3, 4000, time.UTC), NoText: &text, NoBig: &big, NoAt: &at, NoID: &id,
		},
	} {
		t.Run(name, func(t *testing.T) {
			args := []any{want.Text, want.Bool, want.Small, want.Int, want.Big, want.Bytes, want.ID, want.At, nil, nil, nil, nil}
			if want.NoText != nil {
				args = append(args[:8], text, big, at, id)
			}
			var got values
			err := c.QueryRow(t.Context(), `SELECT $1::text, $2::bool, $3::smallint, $4::int, $5::bigint, $6::bytea, $7::uuid, $8::timestamptz,
				$9::text, $10::bigint, $11::timestamptz, $12::uuid`, args...).Scan(&got.Text, &got.Bool, &got.Small, &got.Int, &got.Big, &got.Bytes,
				&got.ID, &got.At, &got.NoText, &got.NoBig, &got.NoAt, &got.NoID)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(want, got); d != "" {
				t.Errorf("what went out and what came back (-want +got):\n%s", d)
			}
		})
	}
}

func TestArrays(t *testing.T) {
	c := connect(t)
	small, big := []int16{-1, 2}, []int64{1 << 62, -5}
	raw, ids := [][]byte{{0, '"', '\\', ','}, {}}, [][16]byte{{1}, {15: 2}}
	rows, err := c.Query(t.Context(), "SELECT * FROM unnest($1::smallint[], $2::bigint[], $3::bytea[], $4::uuid[])", small, big, raw, ids)
	if err != nil {
		t.Fatal(err)
	}
	var s int16
	var b int64
	var r []byte
	var id [16]byte
	n := 0
	err = pgwire.Each(rows, []any{&s, &b, &r, &id}, func() error {
		if s != small[n] || b != big[n] || string(r) != string(raw[n]) || id != ids[n] {
			t.Errorf("element %d came back as %d, %d, %x, %x", n, s, b, r, id)
		}
		n++
		return nil
	})
	if err != nil || n != 2 {
		t.Errorf("%d elements, %v", n, err)
	}
	if _, err := c.Exec(t.Context(), "SELECT unnest($1::uuid[])", [][16]byte{}); err != nil {
		t.Errorf("an empty array: %v", err)
	}
}

func TestRefusals(t *testing.T) {
	c := connect(t)
	var n int64
	var small int16
	var text string
	for _, tt := range []struct {
		name, sql string
		args      []any
		dest      []any
		want      string
	}{
		{"a type without a form", "SELECT $1::text", []any{struct{}{}}, []any{&text}, "no text form"},
		{"a time too far", "SELECT $1::timestamptz", []any{time.Date(12000, 1, 1, 0, 0, 0, 0, time.UTC)}, []any{&text}, "out of range"},
		{"NULL without a place for it", "SELECT NULL::bigint", nil, []any{&n}, "NULL"},
		{"an integer that is too long", "SELECT 1::bigint", nil, []any{&small}, "8 bytes for an integer of 2"},
		{"another number of columns", "SELECT 1, 2", nil, []any{&n}, "row of 2 columns"},
		{"a pointer that is not known", "SELECT 1", nil, []any{&struct{}{}}, "cannot be read"},
		{"no row", "SELECT 1 WHERE false", nil, []any{&n}, "no rows"},
		{"an error of the server", "SELECT 1/$1::int", []any{0}, []any{&n}, "division by zero"},
		{"bad SQL", "SELEC", nil, nil, "syntax error"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := c.QueryRow(t.Context(), tt.sql, tt.args...).Scan(tt.dest...)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v, want %q in it", err, tt.want)
			}
			if err := c.QueryRow(t.Context(), "SELECT 1").Scan(&n); err != nil || n != 1 {
				t.Errorf("the connection is of no use afterwards: %v", err)
			}
		})
	}
}

func TestTransactions(t *testing.T) {
	p := pool(t, 1)
	if _, err := p.Exec(t.Context(), "CREATE TABLE kept (n int)"); err != nil {
		t.Fatal(err)
	}
	count := func() (n int) {
		t.Helper()
		if err := p.QueryRow(t.Context(), "SELECT count(*) FROM kept").Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	insert := func(c *pgwire.Conn) error {
		_, err := c.Exec(t.Context(), "INSERT INTO kept VALUES ($1)", 1)
		return err
	}
	if err := p.InTx(t.Context(), "", insert); err != nil || count() != 1 {
		t.Errorf("commit: %v, %d rows", err, count())
	}
	mine := errors.New("mine")
	if err := p.InTx(t.Context(), "", func(c *pgwire.Conn) error { return errors.Join(insert(c), mine) }); !errors.Is(err, mine) || count() != 1 {
		t.Errorf("rollback: %v, %d rows", err, count())
	}
	if err := p.InTx(t.Context(), "READ ONLY", insert); err == nil || count() != 1 {
		t.Errorf("read only: %v, %d rows", err, count())
	}
	swallowed := func(c *pgwire.Conn) error { _, _ = c.Exec(t.Context(), "SELECT 1/0"); return nil }
	if err := p.InTx(t.Context(), "", swallowed); err == nil {
		t.Error("a commit that the server made a rollback of is taken for one")
	}
	ctx, cancel := context.WithCancel(t.Context())
	if err := p.InTx(ctx, "", func(c *pgwire.Conn) error { cancel(); return errors.Join(insert(c), ctx.Err()) }); err == nil || count() != 1 {
		t.Errorf("a caller who left: %v, %d rows", err, count())
	}
}

func TestBatch(t *testing.T) {
	c := connect(t)
	for round := range 2 {
		var b pgwire.Batch
		b.Queue("SELECT $1::int", 7)
		b.Queue("SELECT 1 WHERE false")
		results, err := c.Send(t.Context(), &b)
		var n int
		if err != nil || len(results) != 2 || results[0].Scan(&n) != nil || n != 7 || !errors.Is(results[1].Scan(&n), pgwire.ErrNoRows) {
			t.Errorf("round %d: %v, %v", round, results, err)
		}
	}
	var b pgwire.Batch
	b.Queue("CREATE TABLE half (n int)")
	b.Queue("SELECT 1/$1::int", 0)
	if _, err := c.Send(t.Context(), &b); err == nil {
		t.Error("a batch with an error is taken for done")
	}
	if _, err := c.Exec(t.Context(), "SELECT FROM half"); err == nil {
		t.Error("the first half of a batch was kept")
	}
}

// TestManyStatements has more texts than a connection keeps prepared.
func TestManyStatements(t *testing.T) {
	c := connect(t)
	for round := range 2 {
		for i := range 100 {
			var n int
			if err := c.QueryRow(t.Context(), fmt.Sprintf("SELECT $1::int + %d", i), round).Scan(&n); err != nil || n != i+round {
				t.Fatalf("statement %d: %d, %v", i, n, err)
			}
		}
	}
	var kept int
	if err := c.QueryRow(t.Context(), "SELECT count(*) FROM pg_prepared_statements").Scan(&kept); err != nil || kept != 64 {
		t.Errorf("%d statements are prepared (%v), want 64", kept, err)
	}
}

func TestPool(t *testing.T) {
	p := pool(t, 3)
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			for range 5 {
				var used int
				if err := p.QueryRow(t.Context(), "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'").Scan(&used); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	pids := map[int]bool{}
	for range 10 {
		var pid int
		if err := p.QueryRow(t.Context(), "SELECT pg_backend_pid()").Scan(&pid); err != nil {
			t.Fatal(err)
		}
		pids[pid] = true
	}
	if len(pids) != 1 {
		t.Errorf("%d connections for one caller", len(pids))
	}
	held := make([]*pgwire.Conn, 3)
	for i := range held {
		var err error
		if held[i], err = p.Acquire(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("enough"))
	if _, err := p.Acquire(ctx); err == nil || err.Error() != "enough" {
		t.Errorf("a fourth connection: %v", err)
	}
	for _, c := range held {
		p.Release(c)
	}
	p.Close()
	if _, err := p.Query(t.Context(), "SELECT 1"); !errors.Is(err, pgwire.ErrPoolClosed) {
		t.Errorf("after Close: %v", err)
	}
}

// TestPoolReplaces has the server end a connection, leave a transaction open,
// and change what a prepared statement returns: none is used again.
func TestPoolReplaces(t *testing.T) {
	p, other := pool(t, 1), connect(t)
	pid := func() (n int) {
		t.Helper()
		if err := p.QueryRow(t.Context(), "SELECT pg_backend_pid()").Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	for name, spoil := range map[string]func() error{
		"ended": func() error {
			_, err := p.Exec(t.Context(), "SELECT pg_terminate_backend(pg_backend_pid())")
			if err == nil {
				return errors.New("still there")
			}
			return nil
		},
		"in a transaction": func() error { _, err := p.Exec(t.Context(), "BEGIN"); return err },
		"with an old plan": func() error {
			var n, m int
			for _, step := range []error{
				other.ExecScript(t.Context(), "CREATE TABLE planned (n int); INSERT INTO planned VALUES (1)"),
				p.QueryRow(t.Context(), "SELECT * FROM planned").Scan(&n),
				other.ExecScript(t.Context(), "ALTER TABLE planned ADD m int DEFAULT 2"),
			} {
				if step != nil {
					return step
				}
			}
			if err := p.QueryRow(t.Context(), "SELECT * FROM planned").Scan(&n, &m); err == nil {
				return errors.New("the old plan still serves")
			}
			return p.QueryRow(t.Context(), "SELECT * FROM planned").Scan(&n, &m)
		},
	} {
		t.Run(name, func(t *testing.T) {
			before := pid()
			if err := spoil(); err != nil {
				t.Fatal(err)
			}
			if pid() == before {
				t.Error("the connection is used again")
			}
		})
	}
}

func TestCopyFrom(t *testing.T) {
	c := connect(t)
	if err := c.ExecScript(t.Context(), "CREATE TEMP TABLE copied (n int)"); err != nil {
		t.Fatal(err)
	}
	if err := c.CopyFrom(t.Context(), strings.NewReader("1\n2\n"), "COPY copied FROM STDIN"); err != nil {
		t.Error(err)
	}
	if err := c.CopyFrom(t.Context(), strings.NewReader("x\n"), "COPY copied FROM STDIN"); err == nil {
		t.Error("a text went into a column of numbers")
	}
	var n int
	if err := c.QueryRow(t.Context(), "SELECT count(*) FROM copied").Scan(&n); err != nil || n != 2 {
		t.Errorf("%d rows, %v", n, err)
	}
}

func TestQuote(t *testing.T) {
	c := connect(t)
	for _, name := range []string{"plain", `with "quotes"`, `"; DROP TABLE x; --`, "Upper Case"} {
		if err := c.ExecScript(t.Context(), "CREATE TEMP TABLE "+pgwire.Quote(name)+" (n int)"); err != nil {
			t.Errorf("%q: %v", name, err)
		}
		var n int
		if err := c.QueryRow(t.Context(), "SELECT count(*) FROM pg_class WHERE relname = $1", name).Scan(&n); err != nil || n != 1 {
			t.Errorf("%q is not the name of a table: %v", name, err)
		}
	}
}
