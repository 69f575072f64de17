// Package group is what ledgers outside of the local disk have in common: it
// checks and encodes entries in their callers, gathers concurrent calls into
// groups that one goroutine commits together, and answers each call.
//
//	q := group.New(func(g *group.Group) error { … store g.Records … })
//	receipts, err := q.AppendBatch(ctx, entries)
package group

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/oklog/ulid/v2"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/kaizen-go/kaizen/audit"
)

// Bounds of one group: two full batches, so that a transaction has the size
// from which on a larger one is hardly faster.
const (
	maxRecords = 2 * audit.MaxBatchEntries
	maxBytes   = 2 * audit.MaxBatchBytes
)

// Record is one entry on its way into a ledger.
type Record struct {
	// Entry is the entry with its id and time, without details and metadata.
	Entry audit.Entry
	ID    ulid.ULID
	// Given says that the id came from the caller: it may be known already.
	Given bool
	Line  []byte
	Leaf  tlog.Hash

	// The committer sets these: where the entry is, and whether it was there
	// before. A duplicate has the leaf hash of the first.
	Index     int64
	Duplicate bool
}

// Call is one batch of a caller.
type Call struct {
	Records []*Record
	// First is the index that the first record must get, or -1: see
	// [audit.Backend].Import.
	First int64
	// Err refuses this call alone; the committer may set it.
	Err error

	done       chan struct{}
	checkpoint audit.Checkpoint
}

// Group is the calls that are committed together.
type Group struct {
	Calls []*Call
	// Checkpoint covers all records; the committer sets it.
	Checkpoint audit.Checkpoint
}

// Queue takes calls and has them committed. Use [New].
type Queue struct {
	commit func(*Group) error
	calls  chan *Call // unbuffered: what is taken, the committer has
	closed chan struct{}
	once   sync.Once
	done   sync.WaitGroup
}

// New starts the goroutine that calls commit, one group after the other.
// Commit sets Index and Duplicate of every record and the group's checkpoint.
// Its error reaches every caller of the group, with [audit.ErrUnconfirmed].
// There is no queue but the callers that wait: they are the back-pressure.
func New(commit func(*Group) error) *Queue {
	q := &Queue{commit: commit, calls: make(chan *Call), closed: make(chan struct{})}
	q.done.Go(q.run)
	return q
}

func (q *Queue) run() {
	var held *Call // taken, but too much for the group before
	for {
		first := held
		if held = nil; first == nil {
			select {
			case first = <-q.calls:
			case <-q.closed:
				return
			}
		}
		g := &Group{Calls: []*Call{first}}
		held = q.gather(g)
		err := q.commit(g)
		for _, c := range g.Calls {
			if c.checkpoint = g.Checkpoint; err != nil && c.Err == nil {
				c.Err = fmt.Errorf("%w: %w", audit.ErrUnconfirmed, err)
			}
			close(c.done)
		}
	}
}

// gather adds the calls that wait already, and lets running callers join:
// those that were answered together come back together.
func (q *Queue) gather(g *Group) (held *Call) {
	const yields = 4
	records, bytes := g.Calls[0].weigh()
	for try := 0; try < yields && records < maxRecords; {
		select {
		case c := <-q.calls:
			n, b := c.weigh()
			if records+n > maxRecords || bytes+b > maxBytes {
				return c
			}
			g.Calls = append(g.Calls, c)
			records, bytes, try = records+n, bytes+b, 0
		default:
			runtime.Gosched()
			try++
		}
	}
	return nil
}

func (c *Call) weigh() (records, bytes int) {
	for _, r := range c.Records {
		bytes += len(r.Line)
	}
	return len(c.Records), bytes
}

// Append is [audit.Ledger.Append].
func (q *Queue) Append(ctx context.Context, e audit.Entry) (audit.Receipt, error) {
	rs, err := q.AppendBatch(ctx, []audit.Entry{e})
	if err != nil {
		return audit.Receipt{}, err
	}
	return rs[0], nil
}

// AppendBatch is [audit.Ledger.AppendBatch].
func (q *Queue) AppendBatch(ctx context.Context, entries []audit.Entry) ([]audit.Receipt, error) {
	for i := range entries {
		if e := &entries[i]; e.AgentID == systemAgent && strings.HasPrefix(e.Action, systemPrefix) {
			return nil, &audit.EntryError{Field: "action", Reason: "begins with " + systemPrefix + ", which the ledger keeps for itself"}
		}
	}
	return q.appendAny(ctx, entries)
}

// The entries that a ledger writes about itself have this agent, and an action
// with this prefix. Callers cannot append one.
const (
	systemAgent  = "kaizen"
	systemPrefix = "ledger."
)

// AppendSystem appends entries of the ledger's own.
func (q *Queue) AppendSystem(ctx context.Context, entries ...audit.Entry) ([]audit.Receipt, error) {
	for i := range entries {
		entries[i].AgentID, entries[i].Result = systemAgent, audit.Success
	}
	return q.appendAny(ctx, entries)
}

// RecordShards is [audit.Ledger.RecordShards].
func (q *Queue) RecordShards(ctx context.Context, checkpoints []audit.ShardCheckpoint) ([]audit.Receipt, error) {
	entries := make([]audit.Entry, len(checkpoints))
	for i, c := range checkpoints {
		var err error
		if entries[i], err = audit.ShardEntry(c); err != nil {
			return nil, err
		}
	}
	return q.AppendSystem(ctx, entries...)
}

func (q *Queue) appendAny(ctx context.Context, entries []audit.Entry) ([]audit.Receipt, error) {
	if len(entries) == 0 {
		return nil, nil
	}
	c, err := newCall(entries)
	if err != nil {
		return nil, err
	}
	if err := q.do(ctx, c); err != nil {
		return nil, err
	}
	out := make([]audit.Receipt, len(c.Records))
	for i, r := range c.Records {
		out[i] = audit.Receipt{Index: r.Index, ID: r.Entry.ID, LeafHash: r.Leaf, Checkpoint: c.checkpoint, Duplicate: r.Duplicate}
	}
	return out, nil
}

// Import is [audit.Backend].Import.
func (q *Queue) Import(ctx context.Context, first int64, lines [][]byte) error {
	if len(lines) == 0 {
		return nil
	}
	c := &Call{First: first, done: make(chan struct{})}
	for _, line := range lines {
		e, err := audit.DecodeLine(line)
		if err != nil {
			return err
		}
		e.Details, e.Metadata = nil, nil
		c.add(e, true, line)
	}
	if err := c.check(); err != nil {
		return err
	}
	return q.do(ctx, c)
}

// Sync returns when every call that was taken before has been committed.
func (q *Queue) Sync(ctx context.Context) error {
	return q.do(ctx, &Call{First: -1, done: make(chan struct{})})
}

// Close commits what was taken and ends the goroutine. Later calls get
// [audit.ErrClosed]. It may be called again.
func (q *Queue) Close() {
	q.once.Do(func() { close(q.closed) })
	q.done.Wait()
}

// Closed reports whether Close was called.
func (q *Queue) Closed() bool {
	select {
	case <-q.closed:
		return true
	default:
		return false
	}
}

// do hands c to the committer and waits. Once c is taken it is written, ctx or
// not.
func (q *Queue) do(ctx context.Context, c *Call) error {
	select {
	case <-q.closed:
		return audit.ErrClosed
	default:
	}
	select {
	case q.calls <- c:
	case <-q.closed:
		return audit.ErrClosed
	case <-ctx.Done():
		return fmt.Errorf("not taken: %w", context.Cause(ctx))
	}
	select {
	case <-c.done:
		return c.Err
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", audit.ErrUnconfirmed, context.Cause(ctx))
	}
}

func newCall(entries []audit.Entry) (*Call, error) {
	if len(entries) > audit.MaxBatchEntries {
		return nil, &audit.EntryError{Field: "batch", Reason: fmt.Sprintf("%d entries, at most %d", len(entries), audit.MaxBatchEntries)}
	}
	c := &Call{First: -1, Records: make([]*Record, 0, len(entries)), done: make(chan struct{})}
	buf := make([]byte, 0, 640*len(entries))
	ends := make([]int, 0, len(entries))
	for i := range entries {
		e := entries[i]
		if e.ID == "" {
			e.ID = ulid.Make().String()
		}
		if e.Time.IsZero() {
			e.Time = time.Now()
		}
		var err error
		if buf, err = audit.EncodeLine(buf, e); err != nil {
			return nil, err
		}
		ends = append(ends, len(buf))
		e.Details, e.Metadata = nil, nil // encoded; they are the caller's again
		c.add(e, entries[i].ID != "", nil)
	}
	begin := 0
	for i, end := range ends {
		r := c.Records[i]
		r.Line = buf[begin:end:end]
		r.Leaf = tlog.RecordHash(r.Line)
		begin = end
	}
	return c, c.check()
}

func (c *Call) add(e audit.Entry, given bool, line []byte) {
	r := &Record{Entry: e, ID: ulid.MustParseStrict(e.ID), Given: given, Line: line}
	if line != nil {
		r.Leaf = tlog.RecordHash(line)
	}
	c.Records = append(c.Records, r)
}

// check bounds one call as the ledger in files does, newlines included.
func (c *Call) check() error {
	n, bytes := c.weigh()
	if n > audit.MaxBatchEntries {
		return &audit.EntryError{Field: "batch", Reason: fmt.Sprintf("%d entries, at most %d", n, audit.MaxBatchEntries)}
	}
	if bytes+n > audit.MaxBatchBytes {
		return &audit.EntryError{Field: "batch", Reason: fmt.Sprintf("more than %d bytes", audit.MaxBatchBytes)}
	}
	return nil
}

// Sequence gives every record that is not known its index, from base on, and
// the others what the first one has. It returns the new ones in their order.
// Calls that must begin elsewhere are refused.
func (g *Group) Sequence(base int64, known map[ulid.ULID]Known) []*Record {
	var fresh []*Record
	seen := make(map[ulid.ULID]*Record)
	for _, c := range g.Calls {
		if c.Err = nil; c.First >= 0 {
			if err := c.position(base+int64(len(fresh)), known); err != nil {
				c.Err = err
				continue
			}
		}
		for _, r := range c.Records {
			r.Duplicate = false
			if k, ok := known[r.ID]; ok {
				r.Index, r.Leaf, r.Duplicate = k.Index, k.Leaf, !k.Own
				continue
			}
			if first, ok := seen[r.ID]; ok {
				r.Index, r.Leaf, r.Duplicate = first.Index, first.Leaf, true
				continue
			}
			r.Index = base + int64(len(fresh))
			fresh = append(fresh, r)
			seen[r.ID] = r
		}
	}
	return fresh
}

// Known is where an id stands already. Own says that it was written by an
// earlier attempt to commit the same group, whose outcome was not known.
type Known struct {
	Index int64
	Leaf  tlog.Hash
	Own   bool
}

// position checks that an import continues the ledger at next. If an earlier
// attempt has written it, it stands where it must already.
func (c *Call) position(next int64, known map[ulid.ULID]Known) error {
	for i, r := range c.Records {
		want := c.First + int64(i)
		k, ok := known[r.ID]
		switch {
		case ok && k.Own && k.Index == want:
		case ok:
			return fmt.Errorf("import entry %d: %w: its id is that of entry %d", want, audit.ErrPosition, k.Index)
		case want != next+int64(i):
			return fmt.Errorf("import entry %d: %w: it has %d entries", c.First, audit.ErrPosition, next)
		}
	}
	return nil
}

// IDs returns the ids to look up before sequencing: those that callers gave, or
// all of them.
func (g *Group) IDs(all bool) []ulid.ULID {
	var ids []ulid.ULID
	for _, c := range g.Calls {
		for _, r := range c.Records {
			if r.Given || all {
				ids = append(ids, r.ID)
			}
		}
	}
	return ids
}

// ErrKey means that a ledger was made with another key than the one given.
var ErrKey = errors.New("another key")
