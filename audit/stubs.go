package audit

import (
	"context"
	"errors"
	"iter"
	"log/slog"
	"time"
)

var errSoon = errors.New("audit: not built yet")

// Checkpoint is a signed tree head.
type Checkpoint struct {
	// Size is the number of entries covered.
	Size int64
	// Root is the RFC 6962 root of those entries.
	Root [32]byte
	// Note is the signed note (C2SP checkpoint).
	Note string
}

// Receipt is the answer to an append.
type Receipt struct {
	Index      int64
	ID         string
	LeafHash   [32]byte
	Checkpoint Checkpoint
	Duplicate  bool
}

// Config tunes a Ledger. The zero value is fit for production.
type Config struct {
	Origin    string
	KeyDir    string
	SyncDelay time.Duration
	Logger    *slog.Logger
}

// Stats is what a ledger holds.
type Stats struct {
	Entries int64
	Bytes   int64
	Oldest  time.Time
	Newest  time.Time
}

// Query selects entries; all set fields must match.
type Query struct {
	AgentID, UserID, Action           string
	Result                            Result
	SessionID, RunID, TraceID, SpanID string
	Since, Until                      time.Time // inclusive
	Limit                             int
	Descending                        bool
	After                             int64 // index+1 of the last entry seen; 0 = from the start
}

// Ledger is an open ledger.
type Ledger struct{}

// Open opens the ledger in dir, creating it if absent.
func Open(dir string, cfg Config) (*Ledger, error) { return nil, errSoon }

func (l *Ledger) Append(ctx context.Context, e Entry) (Receipt, error) { return Receipt{}, errSoon }
func (l *Ledger) AppendBatch(ctx context.Context, es []Entry) ([]Receipt, error) {
	return nil, errSoon
}
func (l *Ledger) AppendAsync(e Entry) error                           { return errSoon }
func (l *Ledger) Flush(ctx context.Context) error                     { return errSoon }
func (l *Ledger) Checkpoint() Checkpoint                              { return Checkpoint{} }
func (l *Ledger) Size() int64                                         { return 0 }
func (l *Ledger) Get(ctx context.Context, index int64) (Entry, error) { return Entry{}, errSoon }
func (l *Ledger) Proof(index int64) (Proof, error)                    { return Proof{}, errSoon }
func (l *Ledger) Query(ctx context.Context, q Query) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) { yield(Entry{}, errSoon) }
}
func (l *Ledger) Count(ctx context.Context, q Query) (int64, error) { return 0, errSoon }
func (l *Ledger) Stats() Stats                                      { return Stats{} }
func (l *Ledger) VerifierKey() string                               { return "" }
func (l *Ledger) Origin() string                                    { return "" }
func (l *Ledger) Close() error                                      { return errSoon }

// Reader reads a ledger without its lock.
type Reader struct{}

// OpenReader opens the ledger in dir for reading.
func OpenReader(dir string) (*Reader, error) { return nil, errSoon }

func (r *Reader) Refresh(ctx context.Context) error                   { return errSoon }
func (r *Reader) Checkpoint() Checkpoint                              { return Checkpoint{} }
func (r *Reader) Size() int64                                         { return 0 }
func (r *Reader) Get(ctx context.Context, index int64) (Entry, error) { return Entry{}, errSoon }
func (r *Reader) Proof(index int64) (Proof, error)                    { return Proof{}, errSoon }
func (r *Reader) Query(ctx context.Context, q Query) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) { yield(Entry{}, errSoon) }
}
func (r *Reader) Count(ctx context.Context, q Query) (int64, error) { return 0, errSoon }
func (r *Reader) Stats() Stats                                      { return Stats{} }
func (r *Reader) VerifierKey() string                               { return "" }
func (r *Reader) Origin() string                                    { return "" }
func (r *Reader) Close() error                                      { return errSoon }

// Proof is an inclusion proof that needs nothing else.
type Proof struct {
	Index  int64
	Line   []byte
	Hashes [][32]byte
	Note   string
}

// ParseProof parses the text that Marshal makes.
func ParseProof(b []byte) (Proof, error) { return Proof{}, errSoon }

// Marshal gives the C2SP tlog-proof text.
func (p Proof) Marshal() []byte { return nil }

// Check verifies the proof under vkey.
func (p Proof) Check(vkey string) error { return errSoon }

// VerifyConfig tunes Verify.
type VerifyConfig struct {
	Key        string
	Checkpoint []byte
	Progress   func(done, total int64)
}

// Report is what Verify found in an intact ledger.
type Report struct {
	Origin     string
	Key        string
	Checkpoint Checkpoint
	Entries    int64 // covered by the checkpoint
	Unsigned   int64 // newer ones, not yet covered
	Bytes      int64
	Segments   int
	Clean      bool
}

// Verify checks the ledger in dir, offline.
func Verify(ctx context.Context, dir string, cfg VerifyConfig) (Report, error) {
	return Report{}, errSoon
}
