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
// Appending costs a round trip to the store. Opening reads the newest state, a
// signed object that is written every 32 batches, and what came after it; queries
// read the chunks of batches whose times fit, of which the last used stay in
// memory. It is meant for ledgers that are written rarely or by short-lived
// processes, and as archive; files or PostgreSQL take hundreds of times more.
//
// Where to read on: commit.go is the way of a group into an object, format.go
// says what is in one, load.go how the ledger is opened.
package s3

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
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
	// Outward says who gets the ledger's checkpoints, see package postgres.
	Outward audit.OutwardConfig
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

	chunkLen  int64 // for tests, as are the next
	fan       int
	partBytes int64
}

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
	if c.partBytes == 0 {
		c.partBytes = partBytes
	}
	if c.chunkLen == 0 {
		c.chunkLen = chunkLen
	}
	if c.fan == 0 {
		c.fan = fan
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
	*shared // what it has in common with other ledgers
	cfg     Config
	bucket  *bucket
	keys    *group.Keys
	first   string          // the key that the ledger began with
	ctx     context.Context // ends when the ledger is closed
	cancel  context.CancelFunc

	step    sync.Mutex // held by whoever extends the state: commit, or a reader that catches up
	state   state
	cache   cache
	pending pending
	stored  atomic.Int64 // the newest state that is in the bucket

	background sync.WaitGroup // derived objects and checkpoints
	closing    sync.Once
}

type shared = group.Ledger

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
	l := &Ledger{shared: &shared{}, cfg: cfg}
	if l.bucket, err = connect(ctx, cfg); err != nil {
		return nil, err
	}
	if l.keys, err = group.LoadKeys(cfg.KeyFile, cfg.Origin, cfg.Outward.KeyOverlap); err != nil {
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
	err = l.Start(ctx, raw{l}, l.keys, group.Config{
		Name: "s3", KeyFile: cfg.KeyFile, UsersAreSubjects: cfg.UsersAreSubjects, ClearDetails: cfg.ClearDetails,
		NewKeyStore: cfg.NewKeyStore, Outward: cfg.Outward, Logger: cfg.Logger,
	})
	if err != nil {
		l.background.Wait()
		l.cancel()
		return nil, err
	}
	l.background.Go(func() { // what the process before could not store
		if err := l.storePending(l.ctx, true); err != nil {
			l.cfg.Logger.Warn("s3: "+notStored, "error", err)
		}
	})
	return l, nil
}

// ErrKey is in the error of [Open] if the ledger was made with another key.
var ErrKey = group.ErrKey

// Refresh takes in what others have stored, and Head is the newest checkpoint that
// this process has seen, without the signature of a key before.
func (l *Ledger) Refresh(ctx context.Context) error { return l.catchUp(ctx) }

// Head is the newest checkpoint, see Refresh.
func (l *Ledger) Head() audit.Checkpoint { return l.state.checkpoint() }

// Close stores what was taken, and the newest checkpoint. It may be called
// again.
func (l *Ledger) Close() error {
	var err error
	l.closing.Do(func() {
		err = l.Stop()
		l.background.Wait()
		err = errors.Join(err, l.publish(l.ctx, l.Head()))
		l.cancel()
	})
	return l.Wrap("close", err)
}

func wrap(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("s3: %s: %w", what, err)
}
