package audit

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kaizen-go/kaizen/internal/durable"
	"github.com/kaizen-go/kaizen/internal/merkle"
)

// Config tunes a [Ledger]. The zero value is fit for production.
type Config struct {
	// Origin names the ledger in its checkpoints and proofs: no spaces, no
	// plus sign, unique in the world. If empty, "kaizen/" and a random ULID,
	// chosen when the ledger is created. An existing ledger keeps its own;
	// opening it under another name is an error.
	Origin string
	// KeyDir is the directory of the signing key, a file named after the
	// ledger's directory, for the owner alone. If empty, "keys" beside the
	// ledger's directory. It must not be inside it.
	KeyDir string
	// UsersAreSubjects makes the user of an entry that names no Subject its
	// subject, so that it can be forgotten.
	UsersAreSubjects bool
	// ClearDetails are keys of Details that stay readable in entries with a
	// subject, for reports that must outlive it: "tool", "model". Nothing
	// personal may stand under them. If nil, all of details is encrypted.
	ClearDetails []string
	// Witness has published checkpoints cosigned by others, every WitnessEvery
	// (1 minute if zero) while the ledger grows, and once when it is closed. If
	// nil, none are.
	Witness      Witness
	WitnessEvery time.Duration
	// Anchors keep published checkpoints elsewhere, each every AnchorEvery (1
	// hour if zero) while the ledger grows, and once when it is closed. Both are
	// asked in the background: their failures are in [Stats], and hold up
	// nobody.
	Anchors     []Anchor
	AnchorEvery time.Duration
	// AcceptRestored opens a ledger that is older than, or other than what was
	// last signed with the key in KeyDir: a backup that was put back on purpose.
	// Also one whose history of checkpoints is gone.
	// The entry ledger.restored says so. Without it that is a [*TamperError].
	AcceptRestored bool
	// KeyOverlap is for how long after [Ledger.RotateKey] the checkpoints that
	// [Ledger.Checkpoint], witnesses and anchors get carry the signature of the
	// key before as well, for those who have not yet heard of the new one. If
	// zero, 24 hours; negative for none: the old key may be stolen.
	KeyOverlap time.Duration
	// SyncDelay is how long an entry may wait for others to share its sync. If
	// zero, there is no wait: whatever arrives during one sync shares the
	// next, which under load groups just as well.
	SyncDelay time.Duration
	// SegmentBytes is the size from which on a segment of lines is full: it is
	// then sealed, that is compressed and given an index file, in the
	// background. If zero, 64 MiB, which keeps opening a ledger quick. At most
	// 1 GiB. Each full segment that still waits for that has its index in memory,
	// a sixth of its size: when 256 MiB of lines wait, or two segments if they
	// are larger, appends wait until one is sealed, see [Stats].
	SegmentBytes int64
	// SealAfter is the age of a segment's first entry from which on it is
	// sealed although it is not full. If zero, 24 hours; [NoAge] for never.
	SealAfter time.Duration
	// Retention removes old segments in the background. If zero, none: see
	// [Ledger.Prune].
	Retention Retention
	// Archive is a directory to which sealed segments are copied before
	// retention may remove them: see [Ledger.Archive]. If empty, none.
	Archive string
	// ForImport opens a ledger that [Ledger.Import] fills: it writes no entries of
	// its own, about a recovery, sealing or the clock, which would stand where the
	// next line belongs. What it left undone the next Open does.
	ForImport bool
	// Progress, if not nil, is called now and then while segments are sealed,
	// archived or removed, in the background too, with what is done ("seal",
	// "archive" or "prune"), for how many entries it is done, and how many there
	// are. One call at a time; it must not call the ledger, which waits for it.
	Progress func(work string, done, total int64)
	// Logger receives what happens without a caller to tell: repairs after a
	// crash, failures of background work. If nil, nothing is logged.
	Logger *slog.Logger

	// For tests: another file system, and sizes small enough to go round.
	fsys         durable.FS
	sectionBytes int64
	segmentBytes int64
	publishEvery time.Duration
	// now is the clock that the committer watches.
	now func() time.Time
	// sealing lets the packer run although segmentBytes is set.
	sealing bool
	// backlogBytes is how much may wait to be sealed before appends wait.
	backlogBytes int64
}

// NoAge is the [Config].SealAfter that leaves segments open until they are full.
const NoAge time.Duration = -1

const (
	// defaultSegmentBytes is the size of segment files: about 120,000 entries,
	// which are read in some 0.1 s when the ledger is opened.
	defaultSegmentBytes = 64 << 20
	// maxSegmentBytes leaves an offset in the file, and in the compressed file,
	// room in 32 bits.
	maxSegmentBytes = 1 << 30
	// defaultSealAfter is how long a quiet ledger's entries stay without index
	// file.
	defaultSealAfter = 24 * time.Hour
	// defaultSectionBytes makes a ring of 16 MiB: at 200 MB/s a section lasts
	// 20 ms, several times what syncing it in its segment takes.
	defaultSectionBytes = 4 << 20
	// defaultPublishEvery is how stale the checkpoint file may be.
	defaultPublishEvery = time.Second
)

func (c Config) withDefaults() Config {
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.fsys == nil {
		c.fsys = durable.OS{}
	}
	if c.sectionBytes == 0 {
		c.sectionBytes = defaultSectionBytes
	}
	if c.segmentBytes == 0 {
		c.sealing = true
		if c.segmentBytes = min(c.SegmentBytes, maxSegmentBytes); c.segmentBytes <= 0 {
			c.segmentBytes = defaultSegmentBytes
		}
	}
	if c.SealAfter == 0 {
		c.SealAfter = defaultSealAfter
	}
	if c.now == nil {
		c.now = time.Now
	}
	if c.publishEvery == 0 {
		c.publishEvery = defaultPublishEvery
	}
	if c.WitnessEvery == 0 {
		c.WitnessEvery = defaultWitnessEvery
	}
	if c.AnchorEvery == 0 {
		c.AnchorEvery = defaultAnchorEvery
	}
	return c
}

// Ledger is an open ledger. All methods may be called at once. Whoever opened
// it closes it.
type Ledger struct {
	cfg    Config
	lock   io.Closer
	signer atomic.Pointer[signer] // another one after RotateKey
	store  *store
	queue  *queue
	writes writePool
	// governor has the keys of subjects, and the holds.
	governor

	// Owned by whoever has the turn (commit.go).
	ring      *ring
	committer committer
	// Owned by the scribe's goroutine, and by Open before it runs.
	tree merkle.Tree

	// crashed is set if the ledger was not closed before it was opened;
	// recovered says what was done about it.
	crashed   bool
	recovered map[string]any

	scribe *scribe
	keeper *keeper
	// outward shows checkpoints to others; restored is the checkpoint that a
	// restore which was accepted has lost.
	outward        *outward
	restored       *Checkpoint
	historyLost    bool                      // the history is another one, which AcceptRestored allowed
	rekeying       sync.Mutex                // held by whoever changes the key
	rotating       atomic.Pointer[keyChange] // for whoever takes the turn next
	overlap        atomic.Pointer[overlap]   // the key before, while it signs as well
	memoryFailures atomic.Int64
	packer         *packer
	// failure is set once, by the first write or sync that failed.
	failure     atomic.Pointer[error]
	asyncFailed atomic.Int64
	committed   sync.WaitGroup // the committer's goroutine
	closeOnce   sync.Once
	closeErr    error
}

// Receipt says where an entry is, and proves that it was taken in.
type Receipt struct {
	// Index is the entry's position, and ID its id, made up if it had none.
	Index int64
	ID    string
	// LeafHash is the hash of its line: what a proof starts from.
	LeafHash [32]byte
	// Checkpoint is signed and covers the entry. Keep it elsewhere to be able
	// to show later that the ledger was changed.
	Checkpoint Checkpoint
	// Duplicate is set if the ledger had an entry with this ID before. Index
	// and LeafHash are that one's, and nothing was written. It need not have
	// the same content: LeafHash tells.
	Duplicate bool
}

// Open opens the ledger in dir, creating it if absent, and holds the lock on
// dir until [Ledger.Close]. What a crash left unfinished is repaired and
// logged. Errors are [ErrLocked]; a [*TamperError] for anything else that is
// not as it was signed, which Open neither repairs nor signs; or that of the
// file system.
//
// Opening reads and checks the entries of the newest segment, whose index takes
// about 100 bytes of memory each. Sealed segments are read when they are needed:
// what is handed out is compared with its hash, and [Verify] checks them whole.
func Open(dir string, cfg Config) (*Ledger, error) {
	cfg = cfg.withDefaults()
	l, err := open(dir, cfg)
	if err != nil {
		return nil, fmt.Errorf("audit: open %s: %w", dir, err)
	}
	go l.scribe.run()
	l.committed.Go(l.work)
	l.keeper.start()
	l.outward.start()
	err = l.recordRestore(context.Background()) // nothing may come before it
	if err == nil {
		err = l.noteRecovery(context.Background())
	}
	if err == nil {
		err = l.resume(context.Background())
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("audit: open %s: %w", dir, err), l.Close())
	}
	if l.cfg.sealing && !l.cfg.ForImport {
		l.packer.start()
	}
	return l, nil
}

// Append records e and returns when it is durable and covered by a signed
// checkpoint. If e.ID is in the ledger already, it returns that entry's
// receipt, so a call whose outcome is unknown can be repeated; if e.ID or
// e.Time are empty, they are filled in.
//
// The maps of e may be used again when Append has returned. Its strings are looked
// at shortly after that, for the index: a string that is a piece of memory which its
// owner will write over (some HTTP packages hand out such) must be cloned first.
//
// Errors are an [*EntryError] for an entry that cannot be recorded;
// [ErrClosed]; [ErrFailed]; [ErrNoSpace]; the cause of ctx if it ended while
// the queue was full, or too many full segments waited to be sealed, in which
// case nothing was written; and [ErrUnconfirmed]
// if ctx ended, or the disk failed, while the entry was being written. Ctx
// bounds the waiting for others alone: an entry that was queued is written even
// when ctx has ended, and a call that finds nobody writing writes itself and
// returns when the disk has answered.
func (l *Ledger) Append(ctx context.Context, e Entry) (Receipt, error) {
	one := [1]Entry{e}
	fresh, err := l.vault.admitOne(one[:])
	if err != nil {
		return Receipt{}, fmt.Errorf("audit: append: %w", err)
	}
	if err := l.packer.backlog.wait(ctx); err != nil {
		return Receipt{}, fmt.Errorf("audit: append: %w", err)
	}
	w := l.writes.take()
	if err := l.append(ctx, w, one[:], fresh); err != nil {
		return Receipt{}, err
	}
	r := w.receipts[0]
	w.release(1)
	return r, nil
}

// AppendBatch records entries as [Ledger.Append] does, together: in this
// order, one after the other, all or, after a crash, none. If one is not valid
// none is written. At most [MaxBatchEntries] and [MaxBatchBytes] at a time.
func (l *Ledger) AppendBatch(ctx context.Context, entries []Entry) ([]Receipt, error) {
	if len(entries) == 0 {
		return nil, nil
	}
	personal, err := l.vault.personal(entries)
	fresh := false
	if err == nil && personal {
		entries, fresh, err = l.vault.seal(slices.Clone(entries))
	}
	if err == nil {
		err = l.packer.backlog.wait(ctx)
	}
	if err != nil {
		return nil, fmt.Errorf("audit: append: %w", err)
	}
	return l.appendList(ctx, entries, fresh)
}

// appendRaw is AppendBatch for entries that are as their lines shall be.
func (l *Ledger) appendRaw(ctx context.Context, entries []Entry) ([]Receipt, error) {
	return l.appendList(ctx, entries, false)
}

func (l *Ledger) appendList(ctx context.Context, entries []Entry, fresh bool) ([]Receipt, error) {
	w := l.writes.take()
	w.receipts = make([]Receipt, 0, len(entries))
	if err := l.append(ctx, w, entries, fresh); err != nil {
		return nil, err
	}
	receipts := w.receipts
	w.receipts = nil // the caller's now
	w.release(1)
	return receipts, nil
}

// append records entries as w, whose receipts it leaves to be read if it
// returns nil; otherwise it has let go of w. Fresh says that their ids were made
// up when they were encrypted, so that nobody need look for them.
func (l *Ledger) append(ctx context.Context, w *write, entries []Entry, fresh bool) error {
	if err := w.encode(entries); err != nil {
		w.release(2)
		return err
	}
	w.named = w.named && !fresh
	if err := l.submit(ctx, w); err != nil {
		return fmt.Errorf("audit: append: %w", err)
	}
	return nil
}

// submit queues w and waits until it is done. On an error it has let go of w.
func (l *Ledger) submit(ctx context.Context, w *write) error {
	lead, err := l.queue.put(ctx, w)
	if err != nil {
		w.release(2)
		return err
	}
	if lead {
		l.lead()
	}
	if err = w.wait(ctx); err != nil {
		w.release(1)
	}
	return err
}

// lead is for a caller that got the turn with its write. It commits itself,
// which spares handing over to the committer's goroutine and back.
func (l *Ledger) lead() {
	if l.cfg.SyncDelay > 0 {
		l.queue.wake <- struct{}{}
		return
	}
	l.turn()
	l.applyPending()
	l.queue.pass()
}

// AppendAsync is the relaxed acknowledgement: it checks, encodes and queues e,
// and returns. It promises no more than that the entry will be written in the
// order of the calls while the process lives and the disk has room: a crash
// loses what is queued, at most the two groups of the queue. The entry is
// durable once a later [Ledger.Flush] or [Ledger.Close] has returned nil.
// Entries that are lost because the disk failed or was full are counted in
// [Stats].AsyncFailed. Errors are those of [Ledger.Append], and [ErrFull] if
// the queue has no room, or too many segments wait to be sealed: the entry is
// then not recorded.
func (l *Ledger) AppendAsync(e Entry) error {
	one := [1]Entry{e}
	fresh, err := l.vault.admitOne(one[:])
	if err != nil {
		return fmt.Errorf("audit: append: %w", err)
	}
	if l.packer.backlog.full() != nil {
		return fmt.Errorf("audit: append: segments wait to be sealed: %w", ErrFull)
	}
	w := l.writes.take()
	w.async = true
	err = w.encode(one[:])
	if err == nil {
		w.named = w.named && !fresh
		if err = l.queue.tryPut(w); err != nil {
			err = fmt.Errorf("audit: append: %w", err)
		}
	}
	if err != nil {
		w.release(2)
		return err
	}
	w.release(1)
	return nil
}

// Flush returns when everything that was appended before the call is durable,
// written to its segment, and covered by the checkpoint file, which is what
// [Verify] and other readers see. Without it that file is at most a second
// behind. Errors are those of [Ledger.Append].
func (l *Ledger) Flush(ctx context.Context) error {
	marker := l.writes.take()
	if err := l.submit(ctx, marker); err != nil {
		return fmt.Errorf("audit: flush: %w", err)
	}
	marker.release(1)
	if err := l.keeper.publish(ctx); err != nil {
		return fmt.Errorf("audit: flush: %w", err)
	}
	return nil
}

// Checkpoint is the newest signed one. It covers every entry whose append has
// returned. For a time after a change of the key it has two signatures.
func (l *Ledger) Checkpoint() Checkpoint { return l.overlapped(l.store.checkpoint()) }

// Size is the number of entries.
func (l *Ledger) Size() int64 { return l.store.checkpoint().Size }

// VerifierKey is the public key that checks the ledger's checkpoints, as
// [Verify] and [Proof.Check] take it. Auditors should get it from elsewhere
// than the ledger's directory.
func (l *Ledger) VerifierKey() string { return l.signer.Load().vkey }

// Origin is the ledger's name, as its checkpoints give it.
func (l *Ledger) Origin() string { return l.signer.Load().origin }

// Get reads the entry at index. [ErrNotFound] if there is none, [ErrClosed]
// after Close, and a [*TamperError] if the line was changed on disk.
func (l *Ledger) Get(ctx context.Context, index int64) (Entry, error) {
	return l.vault.get(ctx, l.store, index)
}

// Proof makes a proof that the entry at index is in the ledger, which can be
// checked with [Proof.Check] and nothing else at hand. Errors as for Get.
func (l *Ledger) Proof(index int64) (Proof, error) { return l.store.prove(index) }

// Query yields the entries that match q, from those that were there when the
// iteration began. The last pair has an error and no entry if reading failed
// or ctx ended. The loop's body may use the ledger.
func (l *Ledger) Query(ctx context.Context, q Query) iter.Seq2[Entry, error] {
	return l.vault.query(ctx, l.store, q)
}

// Count is the number of entries that match q, whose Limit, Descending and
// After do not matter. It reads lines only if q names a span.
func (l *Ledger) Count(ctx context.Context, q Query) (int64, error) {
	return l.vault.count(ctx, l.store, q)
}

// Stats says what the ledger holds.
func (l *Ledger) Stats() Stats {
	st := l.store.stats()
	st.Queued = l.queue.len()
	st.AsyncFailed = l.asyncFailed.Load()
	st.SealBacklog, st.SealWaits = l.packer.backlog.size(), l.packer.backlog.waits.Load()
	st.Outward = l.outward.snapshot()
	return st
}

// Close writes what is queued, publishes the checkpoint, and gives the
// directory free: every byte in it is then covered by [Verify]. Calls that
// come later get [ErrClosed], a second Close the result of the first. After a
// failure it leaves the files for the next Open to recover, and returns
// [ErrFailed].
func (l *Ledger) Close() error {
	l.closeOnce.Do(func() {
		if err := l.shutdown(); err != nil {
			l.closeErr = fmt.Errorf("audit: close %s: %w", l.store.dir, err)
		}
	})
	return l.closeErr
}

func (l *Ledger) shutdown() error {
	l.packer.stop()
	l.queue.close(ErrClosed)
	l.committed.Wait()
	l.scribe.stop()
	err := l.keeper.stop()
	err = errors.Join(err, l.outward.stop())
	err = errors.Join(err, l.ring.file.Close())
	if err == nil {
		err = l.store.trim()
	}
	if err == nil {
		// Everything is in the segments and under the checkpoint by now.
		err = removeSynced(l.cfg.fsys, l.store.dir, ringName)
	}
	return errors.Join(err, l.vault.close(), l.store.closeFiles(), l.lock.Close())
}

// fail makes the ledger refuse from now on: after a failed write or sync
// nobody knows what is on the disk. It returns the first failure.
func (l *Ledger) fail(cause error) error {
	err := fmt.Errorf("%w: %w", ErrFailed, cause)
	if !l.failure.CompareAndSwap(nil, &err) {
		return *l.failure.Load()
	}
	l.cfg.Logger.Error("audit ledger failed and must be reopened", "dir", l.store.dir, "error", cause)
	l.queue.close(err)
	l.keeper.wake()
	return err
}

// failed is nil while the ledger is in order.
func (l *Ledger) failed() error {
	if err := l.failure.Load(); err != nil {
		return *err
	}
	return nil
}
