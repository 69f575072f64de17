// Package shard joins ledgers that are written apart: many processes or agents,
// each with a ledger of its own, and one ledger above them that records their
// signed checkpoints. Whoever holds a checkpoint of the one above can check every
// entry of every shard against it.
//
//	set, err := shard.New(ctx, shard.Config{Super: super, Shards: shards})
//	receipt, err := set.Append(ctx, entry) // goes to the shard of its agent
//	…
//	err = set.Record(ctx)                  // one signature covers all of them
//
// [Recorder] is the part above alone, for checkpoints that come over the
// network; [Client] sends them.
package shard

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
	"sync"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/kaizen-go/kaizen/audit"
)

// Super is the ledger that records the checkpoints of others. [*audit.Ledger] is
// one, and so are those of the server's backends.
type Super interface {
	RecordShards(ctx context.Context, checkpoints ...audit.ShardCheckpoint) ([]audit.Receipt, error)
	Query(ctx context.Context, q audit.Query) iter.Seq2[audit.Entry, error]
}

// Submission is a checkpoint of a shard, with the proof that it extends the one
// that was recorded before.
type Submission struct {
	// Key is the shard's public key, whose name is its origin.
	Key string `json:"key"`
	// Note is its signed checkpoint.
	Note string `json:"note"`
	// From is the size of the checkpoint that was recorded before, 0 for the
	// first. Consistency joins the two (RFC 6962); empty if From is 0 or the
	// size did not change.
	From        int64      `json:"from"`
	Consistency [][32]byte `json:"-"`
}

// Errors that callers branch on, with [errors.Is].
var (
	// ErrFork means that a checkpoint is not of the history that was recorded
	// before, or goes back behind it.
	ErrFork = errors.New("another history of the shard was recorded before")
	// ErrKey means that the origin was recorded under another key, which has not
	// signed this checkpoint too.
	ErrKey = errors.New("the shard was recorded under another key")
	// ErrSignature means that the checkpoint is not signed with the key given.
	ErrSignature = errors.New("checkpoint is not signed with the shard's key")
	// ErrStale means that Submission.From is not the size on record, which
	// [*StaleError] tells.
	ErrStale = errors.New("another checkpoint is on record")
)

// StaleError says which size is on record. It is [ErrStale].
type StaleError struct {
	Origin string
	Size   int64
}

// Error implements error.
func (e *StaleError) Error() string {
	return fmt.Sprintf("shard: %s: the checkpoint on record is of %d entries", e.Origin, e.Size)
}

// Is makes it [ErrStale].
func (e *StaleError) Is(target error) bool { return target == ErrStale }

// Recorder takes checkpoints of shards and records those that extend what it
// knows. Its methods may be called at once.
type Recorder struct {
	super Super
	mu    sync.Mutex // held while a checkpoint is recorded: one at a time
	last  map[string]recorded
}

type recorded struct {
	key  string
	head audit.Checkpoint
}

// NewRecorder reads what super has recorded so far. The first checkpoint of an
// origin decides which key it has.
func NewRecorder(ctx context.Context, super Super) (*Recorder, error) {
	r := &Recorder{super: super, last: map[string]recorded{}}
	for e, err := range super.Query(ctx, audit.Query{AgentID: "kaizen", Action: audit.ShardAction}) {
		if err != nil {
			return nil, fmt.Errorf("shard: read what is on record: %w", err)
		}
		c, head, err := audit.ParseShardEntry(e)
		if err != nil {
			return nil, fmt.Errorf("shard: read what is on record: %w", err)
		}
		r.last[originOf(c.Key)] = recorded{c.Key, head}
	}
	return r, nil
}

// originOf is the name of a key: what stands before its first plus sign.
func originOf(vkey string) string {
	name, _, _ := strings.Cut(vkey, "+")
	return name
}

// Last is the newest checkpoint on record of a shard, and its key; false if
// there is none.
func (r *Recorder) Last(origin string) (head audit.Checkpoint, key string, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	last, ok := r.last[origin]
	return last.head, last.key, ok
}

// Origins are the shards on record.
func (r *Recorder) Origins() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make([]string, 0, len(r.last))
	for origin := range r.last {
		out = append(out, origin)
	}
	return out
}

// Record checks submissions and records them. What is on record already gives no
// new entry and an empty receipt. Errors are [ErrSignature], [ErrKey], [ErrFork],
// [*StaleError] and those of the super-ledger; then nothing is recorded.
func (r *Recorder) Record(ctx context.Context, submissions ...Submission) ([]audit.Receipt, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	receipts := make([]audit.Receipt, len(submissions))
	var fresh []audit.ShardCheckpoint
	var at []int
	heads := map[string]recorded{}
	for i, s := range submissions {
		head, isNew, err := r.check(s)
		if err != nil {
			return nil, err
		}
		if isNew {
			fresh, at = append(fresh, audit.ShardCheckpoint{Key: s.Key, Note: s.Note}), append(at, i)
			heads[originOf(s.Key)] = recorded{s.Key, head}
		}
	}
	if len(fresh) == 0 {
		return receipts, nil
	}
	got, err := r.super.RecordShards(ctx, fresh...)
	for k, receipt := range got {
		receipts[at[k]] = receipt
		origin := originOf(fresh[k].Key)
		r.last[origin] = heads[origin]
	}
	if err != nil {
		return receipts, fmt.Errorf("shard: record: %w", err)
	}
	return receipts, nil
}

// check says whether a submission may be recorded, and whether it is new.
func (r *Recorder) check(s Submission) (head audit.Checkpoint, isNew bool, err error) {
	head, err = audit.ParseCheckpoint([]byte(s.Note), s.Key)
	if err != nil {
		return head, false, fmt.Errorf("shard: %w: %w", ErrSignature, err)
	}
	origin := originOf(s.Key)
	last, known := r.last[origin]
	switch {
	case known && last.key != s.Key && !signed(s.Note, last.key):
		return head, false, fmt.Errorf("shard: %s: %w", origin, ErrKey)
	case known && head.Size == last.head.Size && last.key == s.Key:
		if head.Root != last.head.Root {
			return head, false, fmt.Errorf("shard: %s: %w: two roots of %d entries", origin, ErrFork, head.Size)
		}
		return head, false, nil
	case s.From != last.head.Size:
		return head, false, &StaleError{origin, last.head.Size}
	case head.Size < last.head.Size:
		return head, false, fmt.Errorf("shard: %s: %w: %d entries after %d", origin, ErrFork, head.Size, last.head.Size)
	}
	if err := checkConsistency(last.head, head, s.Consistency); err != nil {
		return head, false, fmt.Errorf("shard: %s: %w: %w", origin, ErrFork, err)
	}
	return head, true, nil
}

// signed reports whether the key on record has signed the checkpoint too: so a
// shard goes over to a new key, see [audit.Ledger.RotateKey].
func signed(note, key string) bool {
	_, err := audit.ParseCheckpoint([]byte(note), key)
	return err == nil
}

// checkConsistency verifies that the entries under old are the first under new.
func checkConsistency(old, new audit.Checkpoint, hashes [][32]byte) error {
	if old.Size == 0 {
		return nil
	}
	if old.Size == new.Size {
		if old.Root != new.Root {
			return errors.New("two roots of one size")
		}
		return nil
	}
	proof := make(tlog.TreeProof, len(hashes))
	for i, h := range hashes {
		proof[i] = h
	}
	return tlog.CheckTree(proof, new.Size, new.Root, old.Size, old.Root)
}
