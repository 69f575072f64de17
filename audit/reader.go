package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"path/filepath"
	"slices"
	"sync"

	"github.com/kaizen-go/kaizen/internal/durable"
	"github.com/kaizen-go/kaizen/internal/merkle"
)

// Reader reads a ledger without its lock and without its key, also while
// another process writes it. It shows the entries that the published
// checkpoint covers, every one checked against it, and stays at that state
// until [Reader.Refresh]. All methods may be called at once.
type Reader struct {
	store   *store
	vault   *vault // keys of subjects, if they may be read
	holds   holds
	refresh sync.Mutex // one Refresh at a time; guards what follows
	learned int64      // entries that were looked at for erasures and holds
	// stale says that an advance failed after it had added entries: the next
	// one reads the open segments anew. Guarded by the store's mu.
	stale bool
}

// ReaderConfig tunes a [Reader]. The zero value is what [OpenReader] uses.
type ReaderConfig struct {
	// KeyDir is where the keys of the ledger's subjects are, as in [Config]. If
	// it does not exist or may not be read, personal fields are [Encrypted].
	KeyDir string
	// WithoutKeys leaves the keys alone: personal fields are [Encrypted].
	WithoutKeys bool
}

// OpenReader opens the ledger in dir for reading. Errors are a [*TamperError]
// if the entries are not what the checkpoint says, or that of the file system.
// Like [Open] it reads the entries of the segments that are not sealed.
func OpenReader(dir string) (*Reader, error) { return openReader(durable.OS{}, dir) }

func openReader(fsys durable.FS, dir string) (*Reader, error) {
	return openReaderWith(fsys, dir, ReaderConfig{})
}

// OpenReaderWith is [OpenReader] with settings.
func OpenReaderWith(dir string, cfg ReaderConfig) (*Reader, error) {
	return openReaderWith(durable.OS{}, dir, cfg)
}

func openReaderWith(fsys durable.FS, dir string, cfg ReaderConfig) (*Reader, error) {
	r, err := newReader(fsys, dir, cfg)
	if err != nil {
		return nil, fmt.Errorf("audit: open %s for reading: %w", dir, err)
	}
	return r, nil
}

func newReader(fsys durable.FS, dir string, cfg ReaderConfig) (*Reader, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	vkey, _, err := identity(fsys, dir)
	if err != nil {
		return nil, err
	}
	r := &Reader{store: newStore(fsys, dir, vkey)}
	if err := r.follow(context.Background()); err != nil {
		_ = r.store.closeFiles() // opened for reading: nothing can be lost
		return nil, err
	}
	r.vault = newVault(fsys, keyPath(dir, cfg.KeyDir), r.Origin(), Config{}.withDefaults())
	r.vault.absent = cfg.WithoutKeys
	if err := r.learn(context.Background()); err != nil {
		_ = r.store.closeFiles()
		return nil, err
	}
	return r, nil
}

// follow advances to the published checkpoint. A ledger in use may seal and
// remove segments between two of our looks: if something is amiss, and it has
// moved on, we look again.
func (r *Reader) follow(ctx context.Context) error {
	const tries = 20
	for try := 1; ; try++ {
		if err := r.followKey(); err != nil {
			return err
		}
		c, err := readCheckpoint(r.store.fsys, r.store.dir, r.store.vkey())
		if err != nil && try < tries {
			continue // the key changes at this moment
		}
		if err != nil {
			return err
		}
		m, text, err := readManifest(r.store.fsys, r.store.dir)
		if err != nil {
			return err
		}
		err = r.advance(ctx, c, m)
		if err == nil || try == tries {
			return err
		}
		again, err2 := readCheckpoint(r.store.fsys, r.store.dir, r.store.vkey())
		_, textNow, err3 := readManifest(r.store.fsys, r.store.dir)
		if err2 != nil || err3 != nil || again.Note == c.Note && bytes.Equal(text, textNow) {
			return err
		}
	}
}

// followKey goes over to the key that ledger.json names, if the ledger's keys
// lead from the one that was known to it.
func (r *Reader) followKey() error {
	s := r.store
	b, err := readSmall(s.fsys, s.dir, ledgerName)
	if err != nil {
		return err
	}
	_, vkey, err := parseLedgerJSON(b)
	if err != nil {
		return &TamperError{Path: ledgerName, Index: -1, Reason: err.Error()}
	}
	if vkey == s.vkey() {
		return nil
	}
	spans, _, err := spansOf(s.fsys, s.dir, vkey)
	if err != nil {
		return err
	}
	if !trusted(s.vkey(), spans) {
		return &TamperError{Path: ledgerName, Index: -1, Reason: "names another key, to which none before leads", Want: s.vkey(), Got: vkey}
	}
	s.key.Store(&vkey)
	return nil
}

// Refresh takes in what was published since. A [*TamperError] says that the
// ledger went back, or its history changed; the reader then keeps what it had.
func (r *Reader) Refresh(ctx context.Context) error {
	r.refresh.Lock()
	defer r.refresh.Unlock()
	err := r.follow(ctx)
	if err == nil {
		err = r.learn(ctx)
	}
	if err != nil {
		return fmt.Errorf("audit: refresh %s: %w", r.store.dir, err)
	}
	return nil
}

// learn takes in new keys, erasures and holds.
func (r *Reader) learn(ctx context.Context) error {
	size := r.store.checkpoint().Size
	if err := r.vault.refresh(); err != nil {
		return err
	}
	tokens, err := erasedTokens(ctx, r.store, r.learned)
	if err != nil {
		return err
	}
	r.vault.learnErased(tokens)
	if err := r.holds.load(ctx, r.store, r.learned); err != nil {
		return err
	}
	r.learned = size
	return nil
}

// advance loads the entries up to c. Readers wait meanwhile. If it fails, the
// reader keeps what it had.
func (r *Reader) advance(ctx context.Context, c Checkpoint, m *manifest) (err error) {
	s := r.store
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed:
		return ErrClosed
	case c.Size < s.head.Size:
		return rollback(c.Size, s.head.Size)
	case m.end() > c.Size:
		return rollback(c.Size, m.end())
	}
	sealed, edge, segs, size := s.sealed, s.edge, s.segs, s.bytes
	defer func() {
		if err == nil {
			err = closeOthers(segs, s.segs)
			r.stale = false
			return
		}
		err = errors.Join(err, closeOthers(s.segs, segs))
		s.sealed, s.edge, s.segs, s.bytes = sealed, edge, segs, size
		r.stale = true
	}()
	if err := s.adopt(m); err != nil {
		return err
	}
	s.segs, s.bytes = nil, 0
	for _, seg := range segs {
		if seg.base >= m.end() && !r.stale {
			s.segs = append(s.segs, seg)
			s.bytes += seg.size
		}
	}
	if err := r.load(ctx, c, m); err != nil {
		return err
	}
	s.head = c
	return nil
}

// closeOthers closes the segments of a that are not in b.
func closeOthers(a, b []*segment) error {
	var errs []error
	for _, seg := range a {
		if !slices.Contains(b, seg) {
			errs = append(errs, seg.retire())
		}
	}
	return errors.Join(errs...)
}

// load opens and reads the segments that are not sealed up to c.
func (r *Reader) load(ctx context.Context, c Checkpoint, m *manifest) error {
	s := r.store
	files, err := listDir(s.fsys, s.dir, m)
	if err != nil {
		return err
	}
	needed := files.bases
	for len(needed) > 1 && needed[len(needed)-1] >= c.Size {
		needed = needed[:len(needed)-1] // begun after the checkpoint
	}
	if err := s.openListed(needed); err != nil {
		return err
	}
	roots := map[int64]merkle.Hash{c.Size: {}}
	cur, err := s.load(ctx, c.Size, roots)
	if err != nil {
		return s.blame(err, c)
	}
	if got := roots[c.Size]; got != c.Root {
		return rootMismatch(checkpointName, c.Root, got)
	}
	cur.seg().size = cur.off // what follows is not covered yet
	if s.head.Size >= m.end() || s.head.Size == 0 {
		return nil // all entries of the last state were compared just now
	}
	v := s.viewLocked()
	proof, err := v.Consistency(s.head.Size, c.Size)
	if err != nil {
		return err
	}
	if err := merkle.CheckConsistency(proof, s.head.Size, c.Size, s.head.Root, c.Root); err != nil {
		return &TamperError{Path: checkpointName, Index: -1, Reason: fmt.Sprintf("the first %d entries are not what they were", s.head.Size)}
	}
	return nil
}

// Checkpoint is the one that the reader's entries are checked against.
func (r *Reader) Checkpoint() Checkpoint { return r.store.checkpoint() }

// Size is the number of entries.
func (r *Reader) Size() int64 { return r.store.checkpoint().Size }

// VerifierKey is the public key that ledger.json names.
func (r *Reader) VerifierKey() string { return r.store.vkey() }

// Origin is the ledger's name, as its checkpoints give it.
func (r *Reader) Origin() string {
	origin, err := originOf(r.store.vkey())
	if err != nil {
		panic("audit: unchecked key: " + err.Error())
	}
	return origin
}

// Get is [Ledger.Get].
func (r *Reader) Get(ctx context.Context, index int64) (Entry, error) {
	return r.vault.get(ctx, r.store, index)
}

// Proof is [Ledger.Proof], under the reader's checkpoint.
func (r *Reader) Proof(index int64) (Proof, error) { return r.store.prove(index) }

// Query is [Ledger.Query].
func (r *Reader) Query(ctx context.Context, q Query) iter.Seq2[Entry, error] {
	return r.vault.query(ctx, r.store, q)
}

// Count is [Ledger.Count].
func (r *Reader) Count(ctx context.Context, q Query) (int64, error) {
	return r.vault.count(ctx, r.store, q)
}

// Stats is [Ledger.Stats], of the entries that the reader shows.
func (r *Reader) Stats() Stats { return r.store.stats() }

// Close closes the files. Calls that come later get [ErrClosed].
func (r *Reader) Close() error {
	if err := r.store.closeFiles(); err != nil {
		return fmt.Errorf("audit: close %s: %w", r.store.dir, err)
	}
	return nil
}
