package postgres

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"iter"
	"math"
	"strconv"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/kaizen-go/kaizen/audit"
	"github.com/kaizen-go/kaizen/server/backend/internal/group"
	"github.com/kaizen-go/kaizen/server/backend/internal/pgwire"
)

// pageRows is how many entries are fetched at once: no connection is held while
// the caller has them.
const pageRows = 512

// Get reads an entry as its line has it.
func (s store) Get(ctx context.Context, index int64) (audit.Entry, error) {
	line, err := s.line(ctx, index)
	if err != nil {
		return audit.Entry{}, err
	}
	e, err := audit.DecodeLine(line)
	e.Index = index
	return e, err
}

// line reads one stored line, and checks it against its hash.
func (l *Ledger) line(ctx context.Context, index int64) ([]byte, error) {
	if err := l.Usable(ctx); err != nil {
		return nil, err
	}
	var line, leaf []byte
	err := l.pool.QueryRow(ctx, "SELECT line, leaf FROM "+l.cfg.Schema+".entries WHERE idx = $1", index).Scan(&line, &leaf)
	if errors.Is(err, pgwire.ErrNoRows) {
		return nil, l.absent(ctx, index)
	}
	if err != nil {
		return nil, err
	}
	return line, checkLine(index, line, leaf)
}

// absent says why there is no entry: it was removed by retention, or never was.
func (l *Ledger) absent(ctx context.Context, index int64) error {
	if err := l.Refresh(ctx); err != nil {
		return err
	}
	if index < 0 || index >= l.Size() {
		return audit.ErrNotFound
	}
	var dropped bool
	q := "SELECT EXISTS (SELECT FROM " + l.cfg.Schema + ".dropped WHERE base <= $1 AND next > $1)"
	if err := l.pool.QueryRow(ctx, q, index).Scan(&dropped); err != nil {
		return err
	}
	if dropped {
		return audit.ErrPruned
	}
	return &audit.TamperError{Path: "entries", Index: index, Reason: "entry is missing"}
}

func checkLine(index int64, line, leaf []byte) error {
	if got := tlog.RecordHash(line); string(got[:]) != string(leaf) {
		return &audit.TamperError{
			Path: "entries", Index: index, Reason: "entry and stored hash differ",
			Want: hex.EncodeToString(leaf), Got: hex.EncodeToString(got[:]),
		}
	}
	return nil
}

// Proof is [audit.Ledger.Proof]. Every hash it takes from the tables is checked
// against the signed root.
func (l *Ledger) Proof(index int64) (audit.Proof, error) {
	p, err := l.prove(l.ctx, index)
	if err != nil {
		return audit.Proof{}, fmt.Errorf("postgres: prove entry %d: %w", index, err)
	}
	return p, nil
}

func (l *Ledger) prove(ctx context.Context, index int64) (audit.Proof, error) {
	if err := l.Usable(ctx); err != nil {
		return audit.Proof{}, err
	}
	line, err := l.line(ctx, index)
	if err != nil {
		return audit.Proof{}, err
	}
	if err := l.Refresh(ctx); err != nil {
		return audit.Proof{}, err
	}
	p, err := group.Prove(l.Head(), index, line, tiles{l, ctx})
	if err != nil && context.Cause(ctx) == nil {
		return p, &audit.TamperError{Path: "nodes", Index: index, Reason: err.Error()}
	}
	return p, err
}

// Query yields entries as their lines have them, and names as they are stored.
func (l store) Query(ctx context.Context, q audit.Query) iter.Seq2[audit.Entry, error] {
	return func(yield func(audit.Entry, error) bool) {
		fail := func(err error) { yield(audit.Entry{}, err) }
		where, err := l.condition(ctx, q)
		if err != nil {
			fail(err)
			return
		}
		where.cursor(q)
		left := q.Limit
		for !where.impossible {
			page, err := l.page(ctx, where, q.Descending, limited(left))
			for i := range page {
				e, err := page[i].decode()
				if err != nil {
					fail(err)
					return
				}
				if left--; !yield(e, nil) || left == 0 {
					return
				}
			}
			if err != nil {
				fail(err)
				return
			}
			if len(page) < limited(left+len(page)) {
				return
			}
			where.move(page[len(page)-1].index, q.Descending)
		}
	}
}

// limited is how many rows the next page needs.
func limited(left int) int {
	if left <= 0 || left > pageRows {
		return pageRows
	}
	return left
}

// Count counts by the names that are stored, without reading lines.
func (l store) Count(ctx context.Context, q audit.Query) (n int64, err error) {
	where, err := l.condition(ctx, q)
	if err == nil && !where.impossible {
		text, args := where.sql()
		err = l.pool.QueryRow(ctx, "SELECT count(*) FROM "+l.cfg.Schema+".entries WHERE "+text, args...).Scan(&n)
	}
	return n, err
}

// Lines implements [audit.Backend].
func (l *Ledger) Lines(ctx context.Context, from int64) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		fail := func(err error) { yield(nil, fmt.Errorf("postgres: lines: %w", err)) }
		next := max(from, 0)
		where, err := l.condition(ctx, audit.Query{After: next})
		if err != nil {
			fail(err)
			return
		}
		where.cursor(audit.Query{After: next})
		size := where.below
		for next < size {
			page, err := l.page(ctx, where, false, pageRows)
			for i := range page {
				if page[i].index != next {
					break
				}
				if !yield(page[i].line, nil) {
					return
				}
				next++
			}
			if err == nil && (len(page) == 0 || page[len(page)-1].index+1 != next) {
				if err = l.absent(ctx, next); errors.Is(err, audit.ErrPruned) {
					err = fmt.Errorf("entry %d: %w", next, err)
				}
			}
			if err != nil {
				fail(err)
				return
			}
			where.move(next-1, false)
		}
	}
}

// row is one stored entry.
type row struct {
	index int64
	line  []byte
}

func (r row) decode() (audit.Entry, error) {
	e, err := audit.DecodeLine(r.line)
	if err != nil {
		return e, &audit.TamperError{Path: "entries", Index: r.index, Reason: err.Error()}
	}
	e.Index = r.index
	return e, nil
}

// page reads the next rows that match. Rows that were read before an error are
// returned with it.
func (l *Ledger) page(ctx context.Context, where *condition, descending bool, limit int) (out []row, err error) {
	if err := l.Usable(ctx); err != nil {
		return nil, err
	}
	text, args := where.sql()
	order := " ORDER BY idx LIMIT "
	if descending {
		order = " ORDER BY idx DESC LIMIT "
	}
	rows, err := l.pool.Query(ctx, "SELECT idx, line, leaf FROM "+l.cfg.Schema+".entries WHERE "+text+order+strconv.Itoa(limit), args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var r row
		var leaf []byte
		if err := rows.Scan(&r.index, &r.line, &leaf); err != nil {
			return out, err
		}
		if err := checkLine(r.index, r.line, leaf); err != nil {
			return out, err
		}
		out = append(out, r)
	}
	return out, rows.Err()
}

// condition is a query in SQL: terms joined by AND, over a range of indexes.
type condition struct {
	terms      []string
	args       []any
	from       int64 // inclusive
	below      int64 // exclusive: at first the size when the query began
	impossible bool
}

// condition translates all of q but order, limit and cursor.
func (l *Ledger) condition(ctx context.Context, q audit.Query) (*condition, error) {
	if err := l.Usable(ctx); err != nil {
		return nil, err
	}
	if err := l.Refresh(ctx); err != nil {
		return nil, err
	}
	c := &condition{below: l.Size()}
	for _, f := range []struct{ column, value string }{
		{"agent", q.AgentID}, {"action", q.Action}, {"usr", q.UserID}, {"subject", q.Subject},
		{"session", q.SessionID}, {"run", q.RunID},
	} {
		if f.value != "" {
			c.add(f.column+" = $%d", escape(f.value))
		}
	}
	if q.Result != "" {
		c.add("result = $%d", resultCode(q.Result))
	}
	c.hexTerm("trace", q.TraceID, 16)
	c.hexTerm("span", q.SpanID, 8)
	if !q.Since.IsZero() {
		c.add("time >= $%d", nanos(q.Since))
	}
	if !q.Until.IsZero() {
		c.add("time <= $%d", nanos(q.Until))
	}
	return c, nil
}

func (c *condition) add(term string, arg any) {
	c.args = append(c.args, arg)
	c.terms = append(c.terms, fmt.Sprintf(term, len(c.args)))
}

// hexTerm compares an id that is stored as its bytes. A text that is no id in
// lower-case hex is that of no entry.
func (c *condition) hexTerm(column, value string, size int) {
	if value == "" {
		return
	}
	b, err := hex.DecodeString(value)
	if err != nil || len(b) != size || strings.ToLower(value) != value {
		c.impossible = true
		return
	}
	if size == 8 {
		c.add(column+" = $%d", int64(binary.BigEndian.Uint64(b)))
		return
	}
	c.add(column+" = $%d", [16]byte(b))
}

// nanos is t as the column time has it, clamped to what it can hold.
func nanos(t time.Time) int64 {
	switch {
	case t.Before(time.Unix(0, 0)):
		return -1
	case t.Year() >= 2262:
		return math.MaxInt64
	}
	return t.UnixNano()
}

// cursor goes on after an earlier answer.
func (c *condition) cursor(q audit.Query) {
	switch {
	case q.After <= 0:
	case q.Descending:
		c.below = min(c.below, q.After-1)
	default:
		c.from = q.After
	}
	c.impossible = c.impossible || c.from >= c.below
}

// move continues after the entry at index.
func (c *condition) move(index int64, descending bool) {
	if descending {
		c.below = index
	} else {
		c.from = index + 1
	}
	c.impossible = c.from >= c.below
}

// sql gives the text after WHERE.
func (c *condition) sql() (string, []any) {
	terms := append(c.terms[:len(c.terms):len(c.terms)], fmt.Sprintf("idx < $%d", len(c.args)+1))
	args := append(c.args[:len(c.args):len(c.args)], c.below)
	if c.from > 0 {
		terms = append(terms, fmt.Sprintf("idx >= $%d", len(args)+1))
		args = append(args, c.from)
	}
	return strings.Join(terms, " AND "), args
}
