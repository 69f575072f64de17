// Package postgres keeps an audit ledger in a PostgreSQL database: any number
// of processes append to it, and get one sequence of indexes without a gap.
//
//	l, err := postgres.Open(ctx, postgres.Config{
//		DSN:     os.Getenv("KAIZEN_AUDIT_DSN"),
//		KeyFile: "keys/audit.key",
//	})
//	if err != nil {
//		return err
//	}
//	defer l.Close()
//	receipt, err := l.Append(ctx, entry)
//
// Lines, tree and signed checkpoints are those of package audit, so a ledger
// can move between the two with [audit.Copy]. Each process gathers concurrent
// appends into one transaction: it locks the row that says where the ledger
// ends, copies the entries in, and moves the end. The database itself refuses to
// change or delete anything; a superuser who does it all the same is found by
// [Ledger.Verify].
//
// Where to read on: commit.go is the transaction, migrations/ the tables.
package postgres

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/kaizen-go/kaizen/audit"
	"github.com/kaizen-go/kaizen/server/backend/internal/group"
	"github.com/kaizen-go/kaizen/server/backend/internal/pgwire"
)

// Config says where the ledger is and who signs it. DSN and KeyFile must be
// set.
type Config struct {
	// DSN is how to connect, as a URL or as key=value pairs. A password is
	// better kept in PGPASSWORD or a password file.
	DSN string
	// Schema holds the ledger's tables. If empty, "kaizen". One database can
	// hold several ledgers.
	Schema string
	// KeyFile is the signing key, as package audit keeps it. All processes that
	// append need the same one. It is made if it does not exist and the ledger
	// neither.
	KeyFile string
	// Origin names a ledger that is made, see [audit.Config].Origin. An
	// existing one keeps its own; another name is an error.
	Origin string
	// UsersAreSubjects and ClearDetails say what is encrypted under a person's
	// key, see [audit.Config]. The keys are in the key store beside KeyFile, which
	// one process has at a time: any other refuses entries with a subject.
	UsersAreSubjects bool
	ClearDetails     []string
	// NewKeyStore replaces a key store that is lost, see [audit.SubjectsConfig].
	NewKeyStore bool
	// PartitionEvery is how much time one partition covers, and so what
	// retention can remove at once. If zero, 7 days.
	PartitionEvery time.Duration
	// RetryFor is how long a commit is repeated when the database goes away,
	// before its callers get [audit.ErrUnconfirmed]. If zero, 30 s.
	RetryFor time.Duration
	// Logger receives what happens without a caller to tell. If nil, nothing is
	// logged.
	Logger *slog.Logger
}

// readers bounds the connections besides the one that appends.
const readers = 8

// ErrKey is in the error of [Open] if the ledger was made with another key.
var ErrKey = group.ErrKey

var schemaName = regexp.MustCompile(`^[a-z_][a-z0-9_]{0,40}$`)

func (c Config) withDefaults() (Config, error) {
	if c.DSN == "" || c.KeyFile == "" {
		return c, errors.New("DSN and KeyFile must be set")
	}
	if c.Schema == "" {
		c.Schema = "kaizen"
	}
	if !schemaName.MatchString(c.Schema) {
		return c, fmt.Errorf("schema %q is not a plain lower-case name", c.Schema)
	}
	if c.PartitionEvery == 0 {
		c.PartitionEvery = 7 * 24 * time.Hour
	}
	if c.PartitionEvery < time.Second {
		return c, fmt.Errorf("partitions of %s, at least 1 s", c.PartitionEvery)
	}
	if c.RetryFor == 0 {
		c.RetryFor = 30 * time.Second
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c, nil
}

// Ledger is an open ledger. All methods may be called at once, and any number
// of processes may have it open.
type Ledger struct {
	cfg    Config
	sql    statements
	signer *group.Signer
	pool   *pgwire.Pool
	queue  *group.Queue
	// subjects encrypts, forgets and holds.
	subjects *audit.Subjects
	ctx      context.Context // ends when the ledger is closed
	cancel   context.CancelFunc

	writer *writer // owned by the queue's goroutine

	mu   sync.Mutex // guards head
	head audit.Checkpoint

	closing sync.Once
}

var _ audit.Backend = (*Ledger)(nil)

// Open connects, makes or upgrades the tables if the role may, and returns the
// ledger. Ctx bounds the opening alone. The caller closes it.
func Open(ctx context.Context, cfg Config) (*Ledger, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("postgres: open: %w", err)
	}
	l, err := open(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("postgres: open schema %s: %w", cfg.Schema, err)
	}
	return l, nil
}

func open(ctx context.Context, cfg Config) (_ *Ledger, err error) {
	pc, err := pgconn.ParseConfig(cfg.DSN)
	if err != nil {
		return nil, errors.New("the DSN cannot be parsed") // its text may hold a password
	}
	// An answered append must survive a crash, whatever the server's default.
	pc.RuntimeParams["synchronous_commit"] = "on"
	pc.RuntimeParams["application_name"] = "kaizen-audit"
	pool := pgwire.NewPool(pc, readers)
	defer func() {
		if err != nil {
			pool.Close()
		}
	}()
	if err := migrate(ctx, pool, cfg.Schema); err != nil {
		return nil, err
	}
	l := &Ledger{cfg: cfg, sql: statementsOf(cfg.Schema), pool: pool}
	if l.signer, err = group.LoadSigner(cfg.KeyFile, cfg.Origin); err != nil {
		return nil, err
	}
	if err := l.identify(ctx); err != nil {
		return nil, err
	}
	if err := l.warn(ctx); err != nil {
		return nil, err
	}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	l.writer = &writer{l: l, config: pc}
	l.queue = group.New(l.commit)
	if l.subjects, err = openSubjects(ctx, l); err != nil {
		l.queue.Close()
		l.cancel()
		return nil, errors.Join(err, l.writer.close())
	}
	return l, nil
}

// identify makes the head of a new ledger, or checks that the key is that of
// the one that is there.
func (l *Ledger) identify(ctx context.Context) error {
	head, err := l.signer.Sign(0, (&group.Tree{}).Root())
	if err != nil {
		return err
	}
	if _, err := l.pool.Exec(ctx, l.sql.createHead, l.signer.Origin(), l.signer.VerifierKey(), head.Note); err != nil && !denied(err) {
		return err
	}
	var vkey string
	if err := l.pool.QueryRow(ctx, l.sql.vkey).Scan(&vkey); err != nil {
		return fmt.Errorf("the ledger has no head: %w", err)
	}
	if vkey != l.signer.VerifierKey() {
		return fmt.Errorf("%w: key %s, want %s", group.ErrKey, l.signer.VerifierKey(), vkey)
	}
	return l.refresh(ctx)
}

// warn says what makes the database less durable than an answer promises.
func (l *Ledger) warn(ctx context.Context) error {
	for _, name := range []string{"fsync", "full_page_writes"} {
		var value string
		if err := l.pool.QueryRow(ctx, "SELECT current_setting($1)", name).Scan(&value); err != nil {
			return err
		}
		if value != "on" {
			l.cfg.Logger.Warn("postgres: a crash of the server can lose acknowledged entries", "setting", name, "value", value)
		}
	}
	return nil
}

// refresh reads where the ledger ends.
func (l *Ledger) refresh(ctx context.Context) error {
	var text string
	if err := l.pool.QueryRow(ctx, l.sql.note).Scan(&text); err != nil {
		return err
	}
	if l.Checkpoint().Note == text {
		return nil
	}
	c, err := group.OpenCheckpoint(text, l.signer.VerifierKey())
	if err != nil {
		return &audit.TamperError{Path: "head", Index: -1, Reason: "the checkpoint is not as it was signed: " + err.Error()}
	}
	return l.advance(c)
}

// advance takes note of a newer checkpoint. One that is older is not taken: a
// reader may be overtaken by the committer. One of the same size with another
// root is a fork.
func (l *Ledger) advance(c audit.Checkpoint) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if c.Size == l.head.Size && l.head.Note != "" && c.Root != l.head.Root {
		return &audit.TamperError{
			Path: "head", Index: -1, Reason: "another history than was seen before",
			Want: fmt.Sprintf("root %x", l.head.Root), Got: fmt.Sprintf("%x", c.Root),
		}
	}
	if c.Size >= l.head.Size {
		l.head = c
	}
	return nil
}

// Append is [audit.Ledger.Append]: when it returns, the transaction is
// committed and flushed. If the database goes away meanwhile, the transaction is
// repeated without writing twice.
func (l *Ledger) Append(ctx context.Context, e audit.Entry) (audit.Receipt, error) {
	rs, err := l.append(ctx, []audit.Entry{e})
	if err != nil {
		return audit.Receipt{}, wrap("append", err)
	}
	return rs[0], nil
}

// AppendBatch is [audit.Ledger.AppendBatch]: one transaction, or part of one.
func (l *Ledger) AppendBatch(ctx context.Context, entries []audit.Entry) ([]audit.Receipt, error) {
	rs, err := l.append(ctx, entries)
	return rs, wrap("append", err)
}

func (l *Ledger) append(ctx context.Context, entries []audit.Entry) ([]audit.Receipt, error) {
	entries, err := l.subjects.Admit(ctx, entries)
	if err != nil {
		return nil, err
	}
	return l.queue.AppendBatch(ctx, entries)
}

// RecordShards is [audit.Ledger.RecordShards].
func (l *Ledger) RecordShards(ctx context.Context, checkpoints ...audit.ShardCheckpoint) ([]audit.Receipt, error) {
	rs, err := l.queue.RecordShards(ctx, checkpoints)
	return rs, wrap("record shards", err)
}

// Import implements [audit.Backend].
func (l *Ledger) Import(ctx context.Context, first int64, lines [][]byte) error {
	defer l.subjects.Imported()
	return wrap("import", l.queue.Import(ctx, first, lines))
}

// Flush returns when what this process appended is committed, and Checkpoint
// covers what all processes have.
func (l *Ledger) Flush(ctx context.Context) error {
	err := l.queue.Sync(ctx)
	if err == nil {
		err = l.refresh(ctx)
	}
	return wrap("flush", err)
}

// Checkpoint is the newest one that this process has seen.
func (l *Ledger) Checkpoint() audit.Checkpoint {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.head
}

// Size is the number of entries that Checkpoint covers.
func (l *Ledger) Size() int64 { return l.Checkpoint().Size }

// Origin is the ledger's name.
func (l *Ledger) Origin() string { return l.signer.Origin() }

// VerifierKey is the public key of its checkpoints.
func (l *Ledger) VerifierKey() string { return l.signer.VerifierKey() }

// Close commits what was taken and disconnects. It may be called again.
func (l *Ledger) Close() error {
	var err error
	l.closing.Do(func() {
		l.queue.Close()
		err = l.subjects.Close()
		l.cancel()
		err = errors.Join(err, l.writer.close())
		l.pool.Close()
	})
	return wrap("close", err)
}

// usable reports ErrClosed after Close, and the end of ctx.
func (l *Ledger) usable(ctx context.Context) error {
	if l.queue.Closed() {
		return audit.ErrClosed
	}
	return context.Cause(ctx)
}

// wrap names the attempt.
func wrap(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("postgres: %s: %w", what, err)
}
