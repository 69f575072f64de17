package group

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"sync"

	"github.com/kaizen-go/kaizen/audit"
)

// Store is where a [Ledger] keeps its entries. All methods may be called at once
// but Commit, which one goroutine calls.
type Store interface {
	// Commit makes a group durable, see [New].
	Commit(g *Group) error
	// Refresh learns what other processes have appended. Head is the newest
	// checkpoint that is known, with the signature of the present key alone.
	Refresh(ctx context.Context) error
	Head() audit.Checkpoint
	// Get, Query and Count read entries as their lines have them.
	Get(ctx context.Context, index int64) (audit.Entry, error)
	Query(ctx context.Context, q audit.Query) iter.Seq2[audit.Entry, error]
	Count(ctx context.Context, q audit.Query) (int64, error)
	// Proof and Consistency are those of the ledger.
	Proof(index int64) (audit.Proof, error)
	Consistency(from, to int64) ([][32]byte, error)
	// Cosigned keeps a checkpoint with the signatures of witnesses.
	Cosigned(ctx context.Context, c audit.Checkpoint) error
}

// Config is what the backends' own Config have in common, see there.
type Config struct {
	// Name of the package, for errors.
	Name             string
	KeyFile          string
	UsersAreSubjects bool
	ClearDetails     []string
	NewKeyStore      bool
	Outward          audit.OutwardConfig
	Logger           *slog.Logger
}

// Ledger is what a ledger does in the same way wherever its entries are: it
// takes them in, and has keys, subjects, witnesses and anchors. A backend embeds
// one and calls Start and Stop.
type Ledger struct {
	cfg      Config
	store    Store
	keys     *Keys
	queue    *Queue
	subjects *audit.Subjects
	outward  *audit.Outward

	rotating sync.Mutex // held by whoever changes the key
}

// Start begins to take entries.
func (l *Ledger) Start(ctx context.Context, store Store, keys *Keys, cfg Config) (err error) {
	l.cfg, l.store, l.keys = cfg, store, keys
	l.queue = New(store.Commit)
	l.subjects, err = audit.OpenSubjects(ctx, raw{l}, audit.SubjectsConfig{
		KeyFile: cfg.KeyFile, UsersAreSubjects: cfg.UsersAreSubjects, ClearDetails: cfg.ClearDetails,
		NewKeyStore: cfg.NewKeyStore, Logger: cfg.Logger,
	})
	if err != nil {
		l.queue.Close()
		return err
	}
	l.outward = audit.StartOutward(publisher{l}, cfg.Outward, cfg.Logger)
	return nil
}

// Stop asks witnesses and anchors once more, commits what was taken, and lets go
// of the key store. It is called once.
func (l *Ledger) Stop() error {
	if err := l.queue.Sync(context.Background()); err != nil {
		l.cfg.Logger.Warn(l.cfg.Name+": what was taken last is not committed", "error", err)
	}
	l.outward.Close()
	l.queue.Close()
	return l.subjects.Close()
}

// Usable reports ErrClosed after Stop, and the end of ctx.
func (l *Ledger) Usable(ctx context.Context) error {
	if l.queue.Closed() {
		return audit.ErrClosed
	}
	return context.Cause(ctx)
}

// Wrap names the attempt.
func (l *Ledger) Wrap(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %s: %w", l.cfg.Name, what, err)
}

// Append is [audit.Ledger.Append]: when it returns, the entry is durable where
// the ledger is. A commit whose outcome is not known is repeated without writing
// twice.
func (l *Ledger) Append(ctx context.Context, e audit.Entry) (audit.Receipt, error) {
	rs, err := l.append(ctx, []audit.Entry{e})
	if err != nil {
		return audit.Receipt{}, l.Wrap("append", err)
	}
	return rs[0], nil
}

// AppendBatch is [audit.Ledger.AppendBatch]: one commit, or part of one.
func (l *Ledger) AppendBatch(ctx context.Context, entries []audit.Entry) ([]audit.Receipt, error) {
	rs, err := l.append(ctx, entries)
	return rs, l.Wrap("append", err)
}

func (l *Ledger) append(ctx context.Context, entries []audit.Entry) ([]audit.Receipt, error) {
	entries, err := l.subjects.Admit(ctx, entries)
	if err != nil {
		return nil, err
	}
	return l.queue.AppendBatch(ctx, entries)
}

// AppendSystem appends an entry of the ledger's own.
func (l *Ledger) AppendSystem(ctx context.Context, e audit.Entry) error {
	_, err := l.queue.AppendSystem(ctx, e)
	return err
}

// RecordShards is [audit.Ledger.RecordShards].
func (l *Ledger) RecordShards(ctx context.Context, checkpoints ...audit.ShardCheckpoint) ([]audit.Receipt, error) {
	rs, err := l.queue.RecordShards(ctx, checkpoints)
	return rs, l.Wrap("record shards", err)
}

// Import implements [audit.Backend].
func (l *Ledger) Import(ctx context.Context, first int64, lines [][]byte) error {
	defer l.subjects.Imported()
	return l.Wrap("import", l.queue.Import(ctx, first, lines))
}

// Flush returns when what this process appended is committed, and Checkpoint
// covers what all processes have.
func (l *Ledger) Flush(ctx context.Context) error {
	err := l.queue.Sync(ctx)
	if err == nil {
		err = l.store.Refresh(ctx)
	}
	return l.Wrap("flush", err)
}

// Checkpoint is the newest one that this process has seen. For a time after a
// change of the key it has two signatures.
func (l *Ledger) Checkpoint() audit.Checkpoint { return l.keys.Overlapped(l.store.Head()) }

// Size is the number of entries that Checkpoint covers.
func (l *Ledger) Size() int64 { return l.store.Head().Size }

// raw is the ledger as its lines have it, for package audit's subjects.
type raw struct{ *Ledger }

func (r raw) Get(ctx context.Context, index int64) (audit.Entry, error) {
	return r.store.Get(ctx, index)
}
func (r raw) Proof(index int64) (audit.Proof, error) { return r.store.Proof(index) }

func (r raw) Query(ctx context.Context, q audit.Query) iter.Seq2[audit.Entry, error] {
	return r.store.Query(ctx, q)
}

func (r raw) Count(ctx context.Context, q audit.Query) (int64, error) { return r.store.Count(ctx, q) }

func (r raw) AppendSystem(ctx context.Context, e audit.Entry) (audit.Receipt, error) {
	rs, err := r.queue.AppendSystem(ctx, e)
	if err != nil {
		return audit.Receipt{}, err
	}
	return rs[0], nil
}

// publisher shows the ledger's checkpoints to others. What is committed can be
// read by all.
type publisher struct{ *Ledger }

func (p publisher) Publish(ctx context.Context) error { return p.store.Refresh(ctx) }
func (p publisher) Published() audit.Checkpoint       { return p.Checkpoint() }

func (p publisher) Consistency(from, to int64) ([][32]byte, error) {
	return p.store.Consistency(from, to)
}

// Keep keeps what others have signed; the ledger's own checkpoints it has.
func (p publisher) Keep(ctx context.Context, note string) {
	c, err := p.keys.Open(note)
	if err != nil || note == p.keys.Overlapped(p.store.Head()).Note || !p.foreign(c) {
		return
	}
	if err := p.store.Cosigned(ctx, c); err != nil && !errors.Is(err, context.Canceled) {
		p.cfg.Logger.Warn(p.cfg.Name+": cosigned checkpoint is not kept", "entries", c.Size, "error", err)
	}
}

// foreign reports whether somebody else's signature is on the checkpoint.
func (p publisher) foreign(c audit.Checkpoint) bool { return otherSignatures(c.Note, p.Origin()) }
