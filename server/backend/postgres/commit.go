package postgres

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/oklog/ulid/v2"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/kaizen-go/kaizen/audit"
	"github.com/kaizen-go/kaizen/server/backend/internal/group"
	"github.com/kaizen-go/kaizen/server/backend/internal/pgwire"
)

// publishEvery is how far apart the rows of checkpoints are at least.
const publishEvery = time.Second

// writer is the connection that appends. One goroutine owns it.
type writer struct {
	l      *Ledger
	config *pgconn.Config
	conn   *pgwire.Conn // nil when it must be made anew
	base   int64        // of the partition that is being filled
	until  time.Time    // its end
	buf    []byte       // of the last COPY
}

// attempt is what must be remembered from one try to the next.
type attempt struct {
	// floor is the size of the ledger when entries were sent for the first
	// time, or -1: what stands from there on under an id of ours may be ours.
	floor int64
}

// Commit makes a group durable. It is called by the queue's goroutine alone. A
// transaction whose outcome is not known is repeated, after looking whether its
// entries are there.
func (l *Ledger) Commit(g *group.Group) error {
	entries := 0
	for _, c := range g.Calls {
		entries += len(c.Records)
	}
	if entries == 0 {
		g.Checkpoint = l.Head()
		return nil
	}
	at := attempt{floor: -1}
	deadline := time.Now().Add(l.cfg.RetryFor)
	for wait := 10 * time.Millisecond; ; wait = min(2*wait, 200*time.Millisecond) {
		sent := at.floor >= 0 // by an attempt before this one, perhaps in vain
		err := l.writer.try(l.ctx, g, &at)
		if err == nil {
			return l.advance(g.Checkpoint)
		}
		if errors.Is(err, group.ErrKey) && !sent {
			return g.Refuse(err)
		}
		if !temporary(err) || time.Now().After(deadline) {
			return err
		}
		l.cfg.Logger.Warn("postgres: transaction is repeated", "error", err)
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-l.ctx.Done():
			timer.Stop()
			return err
		}
	}
}

// temporary reports whether it makes sense to try again: the connection broke,
// the server is going down or starting up, or a lock was not to be had.
func temporary(err error) bool {
	if errors.Is(err, group.ErrKey) {
		return false
	}
	pgErr, ok := errors.AsType[*pgconn.PgError](err)
	if !ok {
		_, damaged := errors.AsType[*audit.TamperError](err)
		return !damaged
	}
	switch pgErr.Code[:2] {
	case "08", "40", "53", "55", "57", "58": // connection, rollback, resources, locks, operator, system
		return true
	}
	return false
}

// try runs the transaction once.
func (w *writer) try(ctx context.Context, g *group.Group, at *attempt) (err error) {
	if w.conn == nil {
		if w.conn, err = pgwire.Connect(ctx, w.config.Copy()); err != nil {
			return fmt.Errorf("connect: %w", err)
		}
	}
	defer func() {
		if err != nil {
			w.discard()
		}
	}()
	head, err := w.lock(ctx)
	if err != nil {
		return fmt.Errorf("lock head: %w", err)
	}
	known, err := w.known(ctx, g, head, at.floor)
	if err != nil {
		return fmt.Errorf("look up ids: %w", err)
	}
	fresh := g.Sequence(head.tree.Size, known)
	if len(fresh) == 0 {
		g.Checkpoint = head.checkpoint
		_, err := w.conn.Exec(ctx, "ROLLBACK")
		return err
	}
	if at.floor < 0 {
		at.floor = head.tree.Size
	}
	if err := w.ensurePartition(ctx, head); err != nil {
		return fmt.Errorf("add partition: %w", err)
	}
	if err := w.copy(ctx, head.at, fresh); err != nil {
		return fmt.Errorf("copy %d entries: %w", len(fresh), err)
	}
	if g.Checkpoint, err = w.finish(ctx, g, head, fresh); err != nil {
		return fmt.Errorf("commit %d entries: %w", len(fresh), err)
	}
	return nil
}

// position is the head as it was locked.
type position struct {
	tree       group.Tree
	checkpoint audit.Checkpoint
	at         time.Time // of this append
	published  time.Time
}

// lock begins the transaction and locks the head: from here to the end nobody
// else appends.
func (w *writer) lock(ctx context.Context) (*position, error) {
	var size int64
	var edge []byte
	var text, vkey string
	var p position
	b := &pgwire.Batch{}
	b.Queue("BEGIN")
	b.Queue(w.l.sql.lockHead)
	results, err := w.conn.Send(ctx, b)
	if err == nil {
		err = results[1].Scan(&size, &edge, &vkey, &text, &p.at, &p.published)
	}
	if err != nil {
		return nil, err
	}
	if vkey != w.l.keys.VerifierKey() { // another process has changed it
		if _, _, err := w.l.follow(ctx); err != nil {
			return nil, err
		}
	}
	if p.tree, err = group.ParseTree(size, edge); err != nil {
		return nil, &audit.TamperError{Path: "head", Index: -1, Reason: err.Error()}
	}
	// Nothing is signed on top of what was not: the stored edge must be that of
	// the stored checkpoint, and this process must not have seen another one.
	p.checkpoint = w.l.Head()
	if p.checkpoint.Note != text {
		if p.checkpoint, err = group.OpenCheckpoint(text, vkey); err != nil {
			return nil, &audit.TamperError{Path: "head", Index: -1, Reason: "the checkpoint is not as it was signed: " + err.Error()}
		}
	}
	if root := p.tree.Root(); p.checkpoint.Size != size || p.checkpoint.Root != [32]byte(root) {
		return nil, &audit.TamperError{
			Path: "head", Index: -1, Reason: "size and edge are not those of the checkpoint",
			Want: fmt.Sprintf("%d entries, root %x", p.checkpoint.Size, p.checkpoint.Root), Got: fmt.Sprintf("%d, %x", size, root),
		}
	}
	if seen := w.l.Head(); size < seen.Size {
		return nil, &audit.TamperError{
			Path: "head", Index: size, Reason: "ledger is older than a checkpoint of it that is known",
			Want: fmt.Sprintf("%d entries", seen.Size), Got: fmt.Sprint(size),
		}
	}
	return &p, w.l.advance(p.checkpoint)
}

// known looks up the ids that may be in the ledger: those that callers chose,
// or all of them if an earlier attempt may have gone through.
func (w *writer) known(ctx context.Context, g *group.Group, head *position, floor int64) (map[ulid.ULID]group.Known, error) {
	ids := g.IDs(floor >= 0)
	if len(ids) == 0 {
		return nil, nil
	}
	uuids := make([][16]byte, len(ids))
	for i, id := range ids {
		uuids[i] = id
	}
	rows, err := w.conn.Query(ctx, w.l.sql.known, uuids, head.tree.Size)
	if err != nil {
		return nil, err
	}
	out := make(map[ulid.ULID]group.Known)
	var id [16]byte
	var index int64
	var leaf []byte
	err = pgwire.Each(rows, []any{&id, &index, &leaf}, func() error {
		if len(leaf) != tlog.HashSize {
			return &audit.TamperError{Path: "entries", Index: index, Reason: "leaf hash has the wrong size"}
		}
		out[id] = group.Known{Index: index, Leaf: tlog.Hash(leaf), Own: floor >= 0 && index >= floor}
		return nil
	})
	return out, err
}

// ensurePartition makes the partition for this append if there is none.
func (w *writer) ensurePartition(ctx context.Context, head *position) error {
	if head.at.Before(w.until) {
		return nil
	}
	err := w.conn.QueryRow(ctx, w.l.sql.partition, head.at).Scan(&w.base, &w.until)
	if err == nil || !errors.Is(err, pgwire.ErrNoRows) {
		return err
	}
	from := head.at.UTC().Truncate(w.l.cfg.PartitionEvery)
	var newest *time.Time // a process with another setting may have gone further
	if err := w.conn.QueryRow(ctx, "SELECT max(until_at) FROM "+w.l.cfg.Schema+".partitions").Scan(&newest); err != nil {
		return err
	}
	if newest != nil && newest.After(from) {
		from = *newest
	}
	until := head.at.UTC().Truncate(w.l.cfg.PartitionEvery).Add(w.l.cfg.PartitionEvery)
	name := fmt.Sprintf("entries_%020d", head.tree.Size)
	if _, err := w.conn.Exec(ctx, w.l.sql.addPartition, name, head.tree.Size, from, until); err != nil {
		return err
	}
	w.base, w.until = head.tree.Size, until
	return nil
}

// finish signs the new head, moves the row and commits, in one round trip. An
// error leaves open whether it was committed.
func (w *writer) finish(ctx context.Context, g *group.Group, head *position, fresh []*group.Record) (audit.Checkpoint, error) {
	tree := head.tree.Clone()
	var nodes []group.Node
	for _, r := range fresh {
		nodes = tree.Append(r.Leaf, nodes)
	}
	c, err := w.l.keys.Sign(g, &tree)
	if err != nil {
		return c.Checkpoint, err
	}
	b := &pgwire.Batch{}
	if len(nodes) > 0 {
		levels, ns, hashes := make([]int16, len(nodes)), make([]int64, len(nodes)), make([][]byte, len(nodes))
		for i := range nodes {
			levels[i], ns[i], hashes[i] = int16(nodes[i].Level), nodes[i].N, nodes[i].Hash[:]
		}
		b.Queue(w.l.sql.nodes, levels, ns, hashes)
	}
	published := head.published
	if head.at.Sub(published) >= publishEvery {
		published = head.at
		b.Queue(w.l.sql.publish, c.Size, c.Note, head.at)
	}
	bytes, oldest, newest := totals(fresh)
	b.Queue(w.l.sql.total, w.base, bytes, oldest, newest)
	if k := c.Change; k != nil {
		b.Queue(w.l.sql.addKey, k.From, k.Previous, k.Key, string(k.Encode()))
		b.Queue(w.l.sql.changeKey, tree.Size, tree.Marshal(), c.Note, head.at, published, k.Key)
	} else {
		b.Queue(w.l.sql.moveHead, tree.Size, tree.Marshal(), c.Note, head.at, published)
	}
	b.Queue("COMMIT")
	if _, err = w.conn.Send(ctx, b); err != nil {
		return c.Checkpoint, err
	}
	if err := w.l.keys.Committed(c); err != nil { // the change has happened
		w.l.cfg.Logger.Error("postgres: the new signing key is not in its place; it is beside it", "file", w.l.cfg.KeyFile, "error", err)
	}
	return c.Checkpoint, nil
}

// totals is what the records add to their partition.
func totals(records []*group.Record) (bytes, oldest, newest int64) {
	oldest, newest = math.MaxInt64, math.MinInt64
	for _, r := range records {
		at := r.Entry.Time.UnixNano()
		bytes, oldest, newest = bytes+int64(len(r.Line))+1, min(oldest, at), max(newest, at)
	}
	return bytes, oldest, newest
}

// discard drops the connection: whatever it held is rolled back, or was
// committed.
func (w *writer) discard() {
	if w.conn == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if err := w.conn.Close(ctx); err != nil {
		w.l.cfg.Logger.Debug("postgres: close a broken connection", "error", err)
	}
	// The connection may still be sending the old buffer.
	w.conn, w.until, w.buf = nil, time.Time{}, nil
}

func (w *writer) close() error {
	if w.conn == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	return w.conn.Close(ctx)
}
