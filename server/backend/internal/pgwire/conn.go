// Package pgwire speaks to PostgreSQL with package pgconn alone: the few types
// that a ledger's tables have, prepared statements, and a small pool.
//
//	config, err := pgconn.ParseConfig(dsn)
//	if err != nil {
//		return err
//	}
//	pool := pgwire.NewPool(config, 8)
//	defer pool.Close()
//	var size int64
//	err = pool.QueryRow(ctx, "SELECT size FROM kaizen.head").Scan(&size)
//
// The layer above pgconn, package pgx, knows every type of the database through
// reflection and would make the command 2 MB larger: docs/adr/0005-a-small-binary.md.
//
// Parameters are sent as text, of which the server makes the type that the
// statement needs; results come in binary. See values.go for the types.
package pgwire

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// ErrNoRows is returned by [Rows.Scan] after a QueryRow that found nothing.
var ErrNoRows = errors.New("no rows")

// maxPrepared bounds the statements that a connection keeps prepared: twice as
// many as the package above has, without those whose text varies with a query.
const maxPrepared = 64

// inBinary asks for all columns in binary.
var inBinary = []int16{1}

// Conn is one connection. One goroutine uses it at a time.
type Conn struct {
	pg       *pgconn.PgConn
	prepared map[string]string // names by text
	made     time.Time
	idle     time.Time // since when, in a pool
	broken   bool      // not to be used again
}

// Connect opens a connection. The caller closes it.
func Connect(ctx context.Context, config *pgconn.Config) (*Conn, error) {
	pg, err := pgconn.ConnectConfig(ctx, config)
	if err != nil {
		return nil, err
	}
	return &Conn{pg: pg, prepared: map[string]string{}, made: time.Now()}, nil
}

// Close says goodbye to the server; what was not committed is rolled back.
func (c *Conn) Close(ctx context.Context) error { return c.pg.Close(ctx) }

// prepare gives the name of the prepared statement for sql. It is empty if
// the connection keeps as many as it may.
func (c *Conn) prepare(ctx context.Context, sql string) (string, error) {
	if name, ok := c.prepared[sql]; ok {
		return name, nil
	}
	if len(c.prepared) >= maxPrepared {
		return "", nil
	}
	name := "s" + strconv.Itoa(len(c.prepared))
	if _, err := c.pg.Prepare(ctx, name, sql, nil); err != nil {
		return "", err
	}
	c.prepared[sql] = name
	return name, nil
}

// Query runs a statement. The caller reads the rows to their end or closes
// them before it uses the connection for anything else.
func (c *Conn) Query(ctx context.Context, sql string, args ...any) (*Rows, error) {
	values, err := encode(args)
	if err != nil {
		return nil, err
	}
	name, err := c.prepare(ctx, sql)
	if err != nil {
		return nil, c.check(err)
	}
	if name == "" {
		return &Rows{conn: c, reader: c.pg.ExecParams(ctx, sql, values, nil, nil, inBinary)}, nil
	}
	return &Rows{conn: c, reader: c.pg.ExecPrepared(ctx, name, values, nil, inBinary)}, nil
}

// QueryRow runs a statement of which [Row.Scan] takes the first row.
func (c *Conn) QueryRow(ctx context.Context, sql string, args ...any) Row {
	rows, err := c.Query(ctx, sql, args...)
	return Row{rows, err}
}

// Exec runs a statement and returns how many rows it affected.
func (c *Conn) Exec(ctx context.Context, sql string, args ...any) (int64, error) {
	rows, err := c.Query(ctx, sql, args...)
	if err != nil {
		return 0, err
	}
	rows.Close()
	return rows.affected, rows.err
}

// ExecScript runs any number of statements without parameters.
func (c *Conn) ExecScript(ctx context.Context, sql string) error {
	return c.check(c.pg.Exec(ctx, sql).Close())
}

// CopyFrom sends r to a COPY … FROM STDIN. If it fails, r may still be read for
// a while.
func (c *Conn) CopyFrom(ctx context.Context, r io.Reader, sql string) error {
	_, err := c.pg.CopyFrom(ctx, r, sql)
	return c.check(err)
}

// InTx runs f in a transaction, which it commits if f returns nil. Mode is
// what follows BEGIN.
func (c *Conn) InTx(ctx context.Context, mode string, f func() error) error {
	if _, err := c.Exec(ctx, strings.TrimSpace("BEGIN "+mode)); err != nil {
		return err
	}
	if err := f(); err != nil {
		// With a context of its own: that of the caller may have ended.
		undo, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		if _, failed := c.Exec(undo, "ROLLBACK"); failed != nil {
			c.broken = true
		}
		return err
	}
	tag, err := c.pg.Exec(ctx, "COMMIT").ReadAll()
	if err != nil {
		return c.check(err)
	}
	if len(tag) != 1 || tag[0].CommandTag.String() != "COMMIT" {
		return errors.New("the transaction was rolled back")
	}
	return nil
}

// check remembers that the connection must not be used again: a prepared
// statement is not what it was, or is unknown (0A000, 26000).
func (c *Conn) check(err error) error {
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok && (pgErr.Code == "0A000" || pgErr.Code == "26000") {
		c.broken = true
	}
	return err
}

// usable reports whether the connection is in order and outside of any
// transaction.
func (c *Conn) usable() bool {
	return !c.broken && !c.pg.IsClosed() && !c.pg.IsBusy() && c.pg.TxStatus() == 'I'
}

// Batch is statements that are sent together.
type Batch struct {
	texts []string
	args  [][]any
}

// Queue adds a statement.
func (b *Batch) Queue(sql string, args ...any) {
	b.texts, b.args = append(b.texts, sql), append(b.args, args)
}

// Send runs a batch in one round trip (and one more for each statement that the
// connection sees for the first time). It returns one result for each
// statement. The first error ends it: nothing that follows is run.
func (c *Conn) Send(ctx context.Context, b *Batch) ([]Result, error) {
	var batch pgconn.Batch
	for i, sql := range b.texts {
		values, err := encode(b.args[i])
		if err != nil {
			return nil, err
		}
		name, err := c.prepare(ctx, sql)
		if err != nil {
			return nil, c.check(err)
		}
		if name == "" {
			batch.ExecParams(sql, values, nil, nil, inBinary)
		} else {
			batch.ExecPrepared(name, values, nil, inBinary)
		}
	}
	results, err := c.pg.ExecBatch(ctx, &batch).ReadAll()
	if err != nil {
		return nil, c.check(err)
	}
	if len(results) != len(b.texts) {
		return nil, fmt.Errorf("%d results of %d statements", len(results), len(b.texts))
	}
	out := make([]Result, len(results))
	for i, r := range results {
		if r.Err != nil {
			return nil, c.check(r.Err)
		}
		out[i] = r.Rows
	}
	return out, nil
}

// Result is all rows of a statement in a batch.
type Result [][][]byte

// Scan reads the first row.
func (r Result) Scan(dest ...any) error {
	if len(r) == 0 {
		return ErrNoRows
	}
	return decode(r[0], dest)
}

// Rows are the rows of a statement as they arrive.
type Rows struct {
	conn     *Conn
	reader   *pgconn.ResultReader
	release  func(*Conn) // back to the pool; nil without one
	affected int64
	err      error
	closed   bool
}

// Next goes to the next row. After the last one, the rows are closed.
func (r *Rows) Next() bool {
	if r.closed {
		return false
	}
	if r.reader.NextRow() {
		return true
	}
	r.Close()
	return false
}

// Scan reads the row that Next went to.
func (r *Rows) Scan(dest ...any) error { return decode(r.reader.Values(), dest) }

// Err is what ended the rows too early. It is to be asked after Next returned
// false, or Close.
func (r *Rows) Err() error { return r.err }

// Close skips what was not read. It may be called again.
func (r *Rows) Close() {
	if r.closed {
		return
	}
	r.closed = true
	tag, err := r.reader.Close()
	r.affected, r.err = tag.RowsAffected(), r.conn.check(err)
	if r.release != nil {
		r.release(r.conn)
	}
}

// Row is what QueryRow returns.
type Row struct {
	rows *Rows
	err  error
}

// Scan reads the first row, or returns [ErrNoRows].
func (r Row) Scan(dest ...any) error {
	if r.err != nil {
		return r.err
	}
	defer r.rows.Close()
	if !r.rows.Next() {
		if r.rows.err != nil {
			return r.rows.err
		}
		return ErrNoRows
	}
	if err := r.rows.Scan(dest...); err != nil {
		return err
	}
	r.rows.Close()
	return r.rows.err
}

// Each reads every row into dest and calls f.
func Each(rows *Rows, dest []any, f func() error) error {
	defer rows.Close()
	for rows.Next() {
		if err := rows.Scan(dest...); err != nil {
			return err
		}
		if err := f(); err != nil {
			return err
		}
	}
	return rows.Err()
}

// Quote makes an identifier of a name.
func Quote(name string) string {
	return `"` + strings.ReplaceAll(strings.ReplaceAll(name, "\x00", ""), `"`, `""`) + `"`
}
