package group

import (
	"context"
	"fmt"
	"strings"
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
	next       *Signer // the key from here on, if the call changes it
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

func (c *Call) weigh() (records, bytes int) {
	for _, r := range c.Records {
		bytes += len(r.Line)
	}
	return len(c.Records), bytes
}
