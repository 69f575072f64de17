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
	"strings"
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
	// Outward says who gets the ledger's checkpoints, and for how long they carry
	// two signatures after a change of the key. Several processes with witnesses
	// or anchors do no harm; one is enough.
	Outward audit.OutwardConfig
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
	*shared // what it has in common with other ledgers
	cfg     Config
	sql     statements
	keys    *group.Keys
	pool    *pgwire.Pool
	ctx     context.Context // ends when the ledger is closed
	cancel  context.CancelFunc

	writer *writer // owned by the queue's goroutine

	mu   sync.Mutex // guards head
	head audit.Checkpoint

	closing sync.Once
}

type shared = group.Ledger

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
	l := &Ledger{shared: &shared{}, cfg: cfg, sql: statementsOf(cfg.Schema), pool: pool}
	if l.keys, err = group.LoadKeys(cfg.KeyFile, cfg.Origin, cfg.Outward.KeyOverlap); err != nil {
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
	err = l.Start(ctx, store{l}, l.keys, group.Config{
		Name: "postgres", KeyFile: cfg.KeyFile, UsersAreSubjects: cfg.UsersAreSubjects, ClearDetails: cfg.ClearDetails,
		NewKeyStore: cfg.NewKeyStore, Outward: cfg.Outward, Logger: cfg.Logger,
	})
	if err != nil {
		l.cancel()
		return nil, errors.Join(err, l.writer.close())
	}
	return l, nil
}

// identify makes the head of a new ledger, or checks that the key is that of
// the one that is there.
func (l *Ledger) identify(ctx context.Context) error {
	signer, err := l.keys.Signer()
	if err != nil {
		return err
	}
	head, err := signer.Sign(0, (&group.Tree{}).Root())
	if err != nil {
		return err
	}
	if _, err := l.pool.Exec(ctx, l.sql.createHead, signer.Origin(), signer.VerifierKey(), head.Note); err != nil && !denied(err) {
		return err
	}
	vkey, text, err := l.follow(ctx)
	if errors.Is(err, pgwire.ErrNoRows) {
		return fmt.Errorf("the ledger has no head: %w", err)
	}
	if err != nil {
		return err
	}
	return l.take(vkey, text)
}

// follow reads the head, and the changes of the key that lead to it.
func (l *Ledger) follow(ctx context.Context) (vkey, text string, err error) {
	var lines string
	if err := l.pool.QueryRow(ctx, l.sql.headKeys).Scan(&vkey, &text, &lines); err != nil {
		return "", "", err
	}
	changes, err := parseChanges(lines)
	if err == nil {
		err = l.keys.Follow(changes, vkey)
	}
	return vkey, text, err
}

// parseChanges reads changes of the key, each of which both keys have signed.
func parseChanges(lines string) (changes []audit.KeyChange, err error) {
	for line := range strings.Lines(lines) {
		c, err := audit.ParseKeyChange([]byte(line))
		if err != nil {
			return nil, &audit.TamperError{Path: "keys", Index: -1, Reason: fmt.Sprintf("change %d: %v", len(changes), err)}
		}
		changes = append(changes, c)
	}
	return changes, nil
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

// Refresh reads where the ledger ends.
func (l *Ledger) Refresh(ctx context.Context) error {
	var vkey, text string
	if err := l.pool.QueryRow(ctx, l.sql.head).Scan(&vkey, &text); err != nil {
		return err
	}
	if l.Head().Note == text {
		return nil
	}
	if vkey != l.keys.VerifierKey() {
		var err error
		if vkey, text, err = l.follow(ctx); err != nil {
			return err
		}
	}
	return l.take(vkey, text)
}

// take takes note of the head as the database has it.
func (l *Ledger) take(vkey, text string) error {
	c, err := group.OpenCheckpoint(text, vkey)
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

// Head is the newest checkpoint that this process has seen, without the
// signature of a key before.
func (l *Ledger) Head() audit.Checkpoint {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.head
}

// Close commits what was taken and disconnects. It may be called again.
func (l *Ledger) Close() error {
	var err error
	l.closing.Do(func() {
		err = l.Stop()
		l.cancel()
		err = errors.Join(err, l.writer.close())
		l.pool.Close()
	})
	return l.Wrap("close", err)
}
