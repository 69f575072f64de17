// Package s3 keeps an audit ledger in an S3-compatible object store, and gives
// the ledger in files a place for its archive and its checkpoints there.
//
//	l, err := s3.Open(ctx, s3.Config{
//		Endpoint: "s3.example.org", Bucket: "audit", Prefix: "agents/",
//		KeyFile: "keys/audit.key",
//	})
//
// Every group of entries is one object, batch/<n>, that is created only if there
// is none of that name (If-None-Match: *): so whoever creates batch n has the
// indexes in it, and any number of processes make one sequence without a gap.
// Nothing is ever replaced but the hint "latest"; with a retention time objects
// are locked against removal, by anybody, until it has passed.
//
// Appending costs a round trip to the store, and every process keeps the fields
// that queries use in memory, about 500 bytes an entry. It is meant for ledgers
// that are written rarely or by short-lived processes, and as archive; files or
// PostgreSQL take hundreds of times more.
//
// Where to read on: commit.go is the way of a group into an object, format.go
// says what is in one.
package s3

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/kaizen-go/kaizen/audit"
	"github.com/kaizen-go/kaizen/server/backend/internal/group"
)

// Config says where the ledger is. Endpoint, Bucket and, for a ledger, KeyFile
// must be set.
type Config struct {
	// Endpoint is host or host:port of the store. Plaintext connects without
	// TLS: for a store on this machine.
	Endpoint  string
	Plaintext bool
	// Region is the store's. If empty, "us-east-1".
	Region string
	// Bucket exists already. Prefix is what the names of all objects begin
	// with, such as "ledger/". If empty, nothing.
	Bucket, Prefix string
	// AccessKey and SecretKey sign the requests. If empty, they come from
	// AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or from the file that
	// AWS_SHARED_CREDENTIALS_FILE names.
	AccessKey, SecretKey string
	// KeyFile is the ledger's signing key, see package postgres.
	KeyFile string
	// Origin names a ledger that is made, see [audit.Config].Origin.
	Origin string
	// UsersAreSubjects and ClearDetails say what is encrypted under a person's
	// key, see [audit.Config]. The keys are in the key store beside KeyFile, which
	// one process has at a time: any other refuses entries with a subject.
	UsersAreSubjects bool
	ClearDetails     []string
	// NewKeyStore replaces a key store that is lost, see [audit.SubjectsConfig].
	NewKeyStore bool
	// Retain is how long new objects are locked in compliance mode, and
	// LegalHold whether they are held besides. The bucket must have been made
	// with object lock. If zero and false, they are not locked.
	Retain    time.Duration
	LegalHold bool
	// RetryFor is how long a request is repeated while the store fails. If
	// zero, 30 s.
	RetryFor time.Duration
	// Transport sends the requests. If nil, one of our own.
	Transport http.RoundTripper
	// Logger receives what happens without a caller to tell. If nil, nothing is
	// logged.
	Logger *slog.Logger

	packLen int64 // for tests
}

// packLen is how many batches make a pack.
const packLen = 256

func (c Config) withDefaults() (Config, error) {
	if c.Endpoint == "" || c.Bucket == "" {
		return c, errors.New("config: Endpoint and Bucket must be set")
	}
	if c.Region == "" {
		c.Region = "us-east-1"
	}
	if c.RetryFor == 0 {
		c.RetryFor = 30 * time.Second
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.packLen == 0 {
		c.packLen = packLen
	}
	return c, nil
}

// connect makes the client and checks that the bucket is there, and can lock if
// it must.
func connect(ctx context.Context, cfg Config) (*bucket, error) {
	creds := credentials.NewStaticV4(cfg.AccessKey, cfg.SecretKey, "")
	if cfg.AccessKey == "" {
		creds = credentials.NewChainCredentials([]credentials.Provider{&credentials.EnvAWS{}, &credentials.FileAWSCredentials{}})
	}
	client, err := minio.New(cfg.Endpoint, &minio.Options{
		Creds: creds, Secure: !cfg.Plaintext, Region: cfg.Region, Transport: cfg.Transport,
		BucketLookup: minio.BucketLookupAuto, MaxRetries: 1, // bucket.go repeats, and looks what happened
	})
	if err != nil {
		return nil, err
	}
	b := &bucket{client: client, cfg: cfg}
	if cfg.Retain == 0 && !cfg.LegalHold {
		return b, nil
	}
	enabled, _, _, _, err := client.GetObjectLockConfig(ctx, cfg.Bucket)
	if err != nil {
		return nil, fmt.Errorf("bucket %s has no object lock: %w", cfg.Bucket, err)
	}
	if !strings.EqualFold(enabled, "Enabled") {
		return nil, fmt.Errorf("bucket %s has no object lock", cfg.Bucket)
	}
	return b, nil
}

// Ledger is an open ledger. All methods may be called at once, and any number
// of processes may have it open.
type Ledger struct {
	cfg    Config
	bucket *bucket
	signer *group.Signer
	queue  *group.Queue
	// subjects encrypts, forgets and holds.
	subjects *audit.Subjects
	ctx      context.Context // ends when the ledger is closed
	cancel   context.CancelFunc

	step  sync.Mutex // held by whoever extends the state: commit, or a reader that catches up
	state state

	background sync.WaitGroup // packs and checkpoints
	closing    sync.Once
}

var _ audit.Backend = (*Ledger)(nil)

// Open reads the ledger in the bucket, or makes it. Ctx bounds the opening. A
// [*audit.TamperError] says that the objects are not what was signed. The caller
// closes the ledger.
func Open(ctx context.Context, cfg Config) (*Ledger, error) {
	l, err := open(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("s3: open %s/%s: %w", cfg.Bucket, cfg.Prefix, err)
	}
	return l, nil
}

func open(ctx context.Context, cfg Config) (*Ledger, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	if cfg.KeyFile == "" {
		return nil, errors.New("KeyFile must be set")
	}
	l := &Ledger{cfg: cfg}
	if l.bucket, err = connect(ctx, cfg); err != nil {
		return nil, err
	}
	if l.signer, err = group.LoadSigner(cfg.KeyFile, cfg.Origin); err != nil {
		return nil, err
	}
	if err := l.identify(ctx); err != nil {
		return nil, err
	}
	l.state.init()
	if err := l.load(ctx); err != nil {
		return nil, err
	}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	l.queue = group.New(l.commit)
	if l.subjects, err = openSubjects(ctx, l); err != nil {
		l.queue.Close()
		l.background.Wait()
		l.cancel()
		return nil, err
	}
	return l, nil
}

// ErrKey is in the error of [Open] if the ledger was made with another key.
var ErrKey = group.ErrKey

// identify writes ledger.json if there is none, and compares it.
func (l *Ledger) identify(ctx context.Context) error {
	want := identityJSON(l.signer.Origin(), l.signer.VerifierKey())
	have, err := l.bucket.get(ctx, ledgerName)
	if errors.Is(err, errAbsent) {
		if _, err := l.bucket.create(ctx, ledgerName, want); err != nil {
			return err
		}
		have, err = l.bucket.get(ctx, ledgerName)
	}
	if err != nil {
		return err
	}
	if string(have) != string(want) {
		return fmt.Errorf("%w: ledger.json is %s, want %s", ErrKey, strings.TrimSpace(string(have)), strings.TrimSpace(string(want)))
	}
	return nil
}

// Append is [audit.Ledger.Append]: when it returns, the store has the object.
func (l *Ledger) Append(ctx context.Context, e audit.Entry) (audit.Receipt, error) {
	rs, err := l.append(ctx, []audit.Entry{e})
	if err != nil {
		return audit.Receipt{}, wrap("append", err)
	}
	return rs[0], nil
}

// AppendBatch is [audit.Ledger.AppendBatch]: one object, or part of one.
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

// Flush returns when what this process appended is stored, and Checkpoint
// covers what all processes have.
func (l *Ledger) Flush(ctx context.Context) error {
	err := l.queue.Sync(ctx)
	if err == nil {
		err = l.catchUp(ctx)
	}
	return wrap("flush", err)
}

// Checkpoint is the newest one that this process has seen.
func (l *Ledger) Checkpoint() audit.Checkpoint { return l.state.checkpoint() }

// Size is the number of entries that Checkpoint covers.
func (l *Ledger) Size() int64 { return l.Checkpoint().Size }

// Origin is the ledger's name.
func (l *Ledger) Origin() string { return l.signer.Origin() }

// VerifierKey is the public key of its checkpoints.
func (l *Ledger) VerifierKey() string { return l.signer.VerifierKey() }

// Close stores what was taken, and the newest checkpoint. It may be called
// again.
func (l *Ledger) Close() error {
	var err error
	l.closing.Do(func() {
		l.queue.Close()
		l.background.Wait()
		err = errors.Join(l.subjects.Close(), l.publish(l.ctx, l.Checkpoint()))
		l.cancel()
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

func wrap(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("s3: %s: %w", what, err)
}
