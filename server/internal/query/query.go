package query

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"iter"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/kaizen-go/kaizen/audit"
	"github.com/kaizen-go/kaizen/server/internal/record"
	"github.com/kaizen-go/kaizen/server/internal/store"
)

// Errors on which a caller branches.
var (
	// ErrNotFound means that nothing with the id is held.
	ErrNotFound = errors.New("not found")
	// ErrBadCursor means that a cursor is none that this package made.
	ErrBadCursor error = &FilterError{Field: "cursor", Reason: "is not one that this server gave"}
)

// FilterError says what is wrong with a question.
type FilterError struct{ Field, Reason string }

func (e *FilterError) Error() string { return e.Field + " " + e.Reason }

// Ledger is what the query layer reads of the audit ledger. *audit.Ledger is
// one.
type Ledger interface {
	Query(ctx context.Context, q audit.Query) iter.Seq2[audit.Entry, error]
	Count(ctx context.Context, q audit.Query) (int64, error)
	Size() int64
}

// Engine answers queries. Its methods may be called at once.
type Engine struct {
	store  Store
	ledger Ledger // nil when there is none

	mu     sync.Mutex // guards what follows
	trees  map[record.TraceID]*tree
	cached int // spans in trees
}

// New returns an engine that reads st and ledger; ledger may be nil.
func New(st Store, ledger Ledger) *Engine {
	return &Engine{store: st, ledger: ledger, trees: map[record.TraceID]*tree{}}
}

// maxCached bounds the spans of the trees kept, about 50 bytes each.
const maxCached = 1_000_000

// tree returns what is worked out of tr, from an earlier question if the trace
// has not changed since.
func (e *Engine) tree(tr store.Trace) *tree {
	e.mu.Lock()
	t := e.trees[tr.ID]
	e.mu.Unlock()
	if t != nil && t.version == tr.Version {
		return t
	}
	t = newTree(tr)
	e.mu.Lock()
	defer e.mu.Unlock()
	e.forget(tr.ID)
	for id := range e.trees {
		if e.cached+len(t.spans) <= maxCached {
			break
		}
		e.forget(id) // any one: the order of a map is random
	}
	e.trees[tr.ID] = t
	e.cached += len(t.spans)
	return t
}

// forget drops a tree. The caller holds mu.
func (e *Engine) forget(id record.TraceID) {
	if t := e.trees[id]; t != nil {
		e.cached -= len(t.spans)
		delete(e.trees, id)
	}
}

// treeOf returns the tree around a span or log record; nil when there is none.
func (e *Engine) treeOf(id record.TraceID) *tree {
	if id.IsZero() {
		return nil
	}
	tr, ok := e.store.Trace(id)
	if !ok {
		return nil
	}
	return e.tree(tr)
}

// Window bounds an answer in time and number.
type Window struct {
	// Since and Until bound the start of what is listed: Since is included,
	// Until is not. Zero is no bound.
	Since, Until time.Time
	// Limit is the longest list. If zero, 50.
	Limit int
	// Cursor is where the list goes on: the Next of an earlier answer.
	Cursor string
}

func (w Window) limit() int {
	if w.Limit <= 0 {
		return 50
	}
	return w.Limit
}

func (w Window) has(at time.Time) bool {
	return (w.Since.IsZero() || !at.Before(w.Since)) && (w.Until.IsZero() || at.Before(w.Until))
}

// position is a place in a list that is ordered by time, then by key.
type position struct {
	at  int64
	key string
	set bool
}

func (p position) String() string {
	return base64.RawURLEncoding.EncodeToString([]byte(strconv.FormatInt(p.at, 36) + "." + p.key))
}

func parsePosition(cursor string) (position, error) {
	if cursor == "" {
		return position{}, nil
	}
	b, err := base64.RawURLEncoding.DecodeString(cursor)
	if err != nil {
		return position{}, ErrBadCursor
	}
	at, key, ok := strings.Cut(string(b), ".")
	n, err := strconv.ParseInt(at, 36, 64)
	if err != nil || !ok {
		return position{}, ErrBadCursor
	}
	return position{at: n, key: key, set: true}, nil
}

// until narrows a window to what can stand after p in a falling list.
func (p position) until(w Window) time.Time {
	if !p.set {
		return w.Until
	}
	at := time.Unix(0, p.at).Add(1)
	if w.Until.IsZero() || at.Before(w.Until) {
		return at
	}
	return w.Until
}

// passed reports whether an item stands at p or before it in a falling list.
func (p position) passed(at time.Time, key string) bool {
	n := at.UnixNano()
	return p.set && (n > p.at || n == p.at && key >= p.key)
}

// ParseTraceID reads 32 hex digits.
func ParseTraceID(s string) (record.TraceID, error) {
	var id record.TraceID
	return id, parseHex(id[:], s, "trace_id")
}

// ParseSpanID reads 16 hex digits.
func ParseSpanID(s string) (record.SpanID, error) {
	var id record.SpanID
	return id, parseHex(id[:], s, "span_id")
}

func parseHex(dst []byte, s, field string) error {
	if len(s) == 2*len(dst) {
		if _, err := hex.Decode(dst, []byte(s)); err == nil {
			return nil
		}
	}
	return &FilterError{Field: field, Reason: fmt.Sprintf("%.64q is not %d hex digits", s, 2*len(dst))}
}

// canceled looks at ctx every some items of a long scan.
type canceled struct {
	ctx context.Context
	n   int
}

func (c *canceled) err() error {
	if c.n++; c.n%256 != 0 {
		return nil
	}
	return context.Cause(c.ctx)
}
