package audit

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/kaizen-go/kaizen/internal/durable"
)

// actionKeyStore is the entry that says which key store a ledger's subjects are
// in. The files ledger needs none: its directory belongs to one process.
const actionKeyStore = systemPrefix + "key_store"

// ErrNoKeyStore means that an entry with a subject cannot be recorded, nor a
// hold or an erasure, by a process that has not got the ledger's key store.
var ErrNoKeyStore = errors.New("the ledger's key store is not at hand")

// SubjectsConfig says where the key store of a ledger is, and what it encrypts.
// KeyFile must be set.
type SubjectsConfig struct {
	// KeyFile is the ledger's signing key, such as keys/audit.key. The key store
	// lies beside it: keys/audit.subjects and keys/audit.kek.<n>.
	KeyFile string
	// UsersAreSubjects and ClearDetails are those of [Config].
	UsersAreSubjects bool
	ClearDetails     []string
	// NewKeyStore makes the key store beside KeyFile that of the ledger although
	// it has another: one that is lost. What that one encrypted stays unreadable
	// here. The entry ledger.key_store says so.
	NewKeyStore bool
	// Logger receives what happens without a caller to tell. If nil, nothing is
	// logged.
	Logger *slog.Logger
}

// Stored is a ledger as its lines have it, for [Subjects]: what is encrypted
// stays so, and names are tokens.
type Stored interface {
	Origin() string
	Flush(ctx context.Context) error
	Checkpoint() Checkpoint
	Get(ctx context.Context, index int64) (Entry, error)
	Query(ctx context.Context, q Query) iter.Seq2[Entry, error]
	Count(ctx context.Context, q Query) (int64, error)
	Proof(index int64) (Proof, error)
	// AppendSystem records an entry of the ledger's own. AgentID and Result are
	// filled in.
	AppendSystem(ctx context.Context, e Entry) (Receipt, error)
}

// Subjects gives a ledger that does not lie in files what [Ledger] does for
// people: it encrypts their fields on the way in, decrypts them on the way out,
// forgets and holds. A backend has one and calls it in its methods; all of them
// may be called at once.
//
// A key store belongs to one process at a time, and a ledger to one key store:
// the first that needs it names itself in the ledger (ledger.key_store). Any
// other process records entries without a subject, and reads; what it would have
// to encrypt it refuses with [ErrNoKeyStore].
type Subjects struct {
	governor
	cfg SubjectsConfig
	in  outer

	learning sync.Mutex // held while entries are looked through
	learned  int64      // the entries before have been, guarded by learning
	stale    atomic.Bool

	taking sync.Mutex // held while the key store is taken
	lock   io.Closer  // nil without it, guarded by taking
	owned  atomic.Bool
	closed bool // guarded by taking
}

// outer makes entries and journal of a Stored.
type outer struct{ Stored }

func (o outer) read(ctx context.Context, i int64) (Entry, error)           { return o.Get(ctx, i) }
func (o outer) query(ctx context.Context, q Query) iter.Seq2[Entry, error] { return o.Query(ctx, q) }
func (o outer) count(ctx context.Context, q Query) (int64, error)          { return o.Count(ctx, q) }
func (o outer) prove(index int64) (Proof, error)                           { return o.Proof(index) }
func (o outer) appendSystem(ctx context.Context, e Entry) (Receipt, error) {
	return o.AppendSystem(ctx, e)
}

// OpenSubjects opens the key store of l, or makes one when the first subject
// comes. If another process has it, the result reads what that one writes, and
// takes over when it is gone. Errors are a [*TamperError] for a key store that
// is not what it was, and those of reading and writing.
func OpenSubjects(ctx context.Context, l Stored, cfg SubjectsConfig) (*Subjects, error) {
	s, err := openSubjects(ctx, l, cfg)
	if err != nil {
		return nil, fmt.Errorf("audit: open key store beside %s: %w", cfg.KeyFile, err)
	}
	return s, nil
}

func openSubjects(ctx context.Context, l Stored, cfg SubjectsConfig) (*Subjects, error) {
	if cfg.KeyFile == "" {
		return nil, errors.New("KeyFile must be set")
	}
	var err error
	if cfg.KeyFile, err = filepath.Abs(cfg.KeyFile); err != nil {
		return nil, err
	}
	c := Config{UsersAreSubjects: cfg.UsersAreSubjects, ClearDetails: cfg.ClearDetails, Logger: cfg.Logger}.withDefaults()
	s := &Subjects{cfg: cfg, in: outer{l}}
	s.governor = governor{vault: newVault(c.fsys, cfg.KeyFile, l.Origin(), c), stored: s.in, ledger: s.in}
	if err := s.refresh(ctx); err != nil {
		return nil, err
	}
	if err := s.take(ctx, false); err != nil && !errors.Is(err, ErrNoKeyStore) {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// Admit prepares entries of a caller for their lines, as [Ledger.Append] does.
// It returns the same slice if there is nothing to encrypt. Errors are
// [*EntryError], [ErrNoKeyStore], and those of the key store.
func (s *Subjects) Admit(ctx context.Context, list []Entry) ([]Entry, error) {
	personal := false
	for i := range list {
		personal = personal || list[i].Subject != "" || s.vault.users && list[i].UserID != ""
	}
	if personal {
		if err := s.own(ctx); err != nil {
			return nil, fmt.Errorf("an entry with a subject cannot be encrypted: %w", err)
		}
	}
	return s.vault.admit(list)
}

// Get, Query and Count are those of [Ledger].
func (s *Subjects) Get(ctx context.Context, index int64) (Entry, error) {
	if err := s.look(ctx); err != nil {
		return Entry{}, err
	}
	return s.vault.get(ctx, s.in, index)
}

// Query is [Ledger.Query].
func (s *Subjects) Query(ctx context.Context, q Query) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		if err := s.look(ctx); err != nil {
			yield(Entry{}, err)
			return
		}
		s.vault.query(ctx, s.in, q)(yield)
	}
}

// Count is [Ledger.Count].
func (s *Subjects) Count(ctx context.Context, q Query) (int64, error) {
	if err := s.look(ctx); err != nil {
		return 0, err
	}
	return s.vault.count(ctx, s.in, q)
}

// Erase is [Ledger.Erase].
func (s *Subjects) Erase(ctx context.Context, x Erasure) (ErasureReceipt, error) {
	if err := s.own(ctx); err != nil {
		return ErasureReceipt{}, fmt.Errorf("audit: erase: %w", err)
	}
	return s.governor.Erase(ctx, x)
}

// Hold is [Ledger.Hold].
func (s *Subjects) Hold(ctx context.Context, h Hold) (Hold, Receipt, error) {
	if err := s.own(ctx); err != nil {
		return Hold{}, Receipt{}, fmt.Errorf("audit: hold: %w", err)
	}
	return s.governor.Hold(ctx, h)
}

// Release is [Ledger.Release].
func (s *Subjects) Release(ctx context.Context, x Release) (Receipt, error) {
	if err := s.own(ctx); err != nil {
		return Receipt{}, fmt.Errorf("audit: release: %w", err)
	}
	return s.governor.Release(ctx, x)
}

// Holds is [Ledger.Holds]. Those that another process has placed are known
// after the next query.
func (s *Subjects) Holds() []Hold { return s.governor.Holds() }

// Retaining calls do, which removes entries. No hold is placed by this process
// meanwhile, and held returns a [*HeldError] if one is on an entry from index
// from to before to.
func (s *Subjects) Retaining(ctx context.Context, do func(held func(ctx context.Context, from, to int64) error) error) error {
	s.holds.change.Lock()
	defer s.holds.change.Unlock()
	if err := s.learn(ctx); err != nil {
		return err
	}
	return do(s.held)
}

// Imported says that entries were appended which did not come through Admit:
// holds and erasures may be among them.
func (s *Subjects) Imported() { s.stale.Store(true) }

// Close releases the key store. It may be called again.
func (s *Subjects) Close() error {
	s.taking.Lock()
	defer s.taking.Unlock()
	s.closed = true
	s.owned.Store(false)
	if s.lock == nil {
		return nil
	}
	err := errors.Join(s.vault.close(), s.lock.Close())
	s.lock = nil
	return err
}

// look brings what is known up to date before a reading. The process that has
// the key store knows all that concerns it.
func (s *Subjects) look(ctx context.Context) error {
	if s.owned.Load() && !s.stale.Load() {
		return nil
	}
	return s.refresh(ctx)
}

func (s *Subjects) refresh(ctx context.Context) error {
	s.taking.Lock()
	has := s.lock != nil
	var err error
	if !has {
		err = s.vault.refresh()
	}
	s.taking.Unlock()
	if err != nil {
		return err
	}
	return s.learn(ctx)
}

// learn takes in the holds and erasures among the entries that are new.
func (s *Subjects) learn(ctx context.Context) error {
	s.learning.Lock()
	defer s.learning.Unlock()
	s.stale.Store(false)
	size := s.in.Checkpoint().Size
	if size == s.learned {
		return nil
	}
	tokens, err := erasedTokens(ctx, s.in, s.learned)
	if err == nil {
		s.vault.learnErased(tokens)
		err = s.holds.load(ctx, s.in, s.learned)
	}
	if err != nil {
		s.stale.Store(true)
		return err
	}
	s.learned = size
	return nil
}

// own returns nil if this process has the key store, and the ledger is its.
func (s *Subjects) own(ctx context.Context) error {
	if s.owned.Load() {
		if s.stale.Load() {
			return s.learn(ctx)
		}
		return nil
	}
	return s.take(ctx, true)
}

// take gets hold of the key store. With claim it makes the ledger its own if
// that has none; without, it only finds out.
func (s *Subjects) take(ctx context.Context, claim bool) error {
	s.taking.Lock()
	defer s.taking.Unlock()
	switch {
	case s.closed:
		return ErrClosed
	case s.owned.Load():
		return nil
	case s.lock == nil:
		if err := s.seize(); err != nil {
			return err
		}
	}
	id, err := s.identity()
	if err != nil {
		return err
	}
	if err := s.in.Flush(ctx); err != nil {
		return err
	}
	holder, err := s.holder(ctx)
	if err != nil {
		return err
	}
	if holder != id && claim {
		if holder, err = s.claim(ctx, id, holder); err != nil {
			return err
		}
	}
	if holder != id {
		if holder == "" {
			return nil // nobody's yet: the first subject decides
		}
		return fmt.Errorf("%w: its subjects are in the key store %s, and the one beside %s is %s", ErrNoKeyStore, holder, s.cfg.KeyFile, id)
	}
	if err := s.resume(ctx); err != nil {
		return err
	}
	s.owned.Store(true)
	return nil
}

// seize takes the lock and opens the files for writing.
func (s *Subjects) seize() error {
	v := s.vault
	if err := durable.MkdirAll(v.fsys, v.dir); err != nil {
		return err
	}
	lock, err := v.fsys.Lock(v.path() + ".lock")
	if errors.Is(err, durable.ErrLocked) {
		return fmt.Errorf("%w: another process has %s", ErrNoKeyStore, v.path())
	}
	if errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("%w: %w", ErrNoKeyStore, err)
	}
	if err == nil {
		if err = v.openFiles(); err != nil {
			err = errors.Join(err, lock.Close())
		}
	}
	if err != nil {
		return err
	}
	s.lock = lock
	return nil
}

// storeIDPrefix begins the name of a key store, in its file <stem>.store.
const storeIDPrefix = "kzstore_"

// identity reads the name of the key store, or makes it. The caller has the
// lock.
func (s *Subjects) identity() (string, error) {
	v := s.vault
	name := filepath.Join(v.dir, v.stem+".store")
	b, err := durable.ReadFile(v.fsys, name, maxSmallFile)
	if errors.Is(err, fs.ErrNotExist) {
		id := storeIDPrefix + strings.TrimPrefix(newToken(), tokenPrefix)
		return id, durable.ReplaceFile(v.fsys, name, []byte(id+"\n"))
	}
	id, whole := strings.CutSuffix(string(b), "\n")
	if err == nil && (!whole || !isToken(tokenPrefix+strings.TrimPrefix(id, storeIDPrefix))) {
		err = &TamperError{Path: filepath.Join(filepath.Base(v.dir), filepath.Base(name)), Index: -1, Reason: "not the name of a key store"}
	}
	return id, err
}

// holder is the key store that the ledger's subjects are in, empty if none is
// named. An entry counts if it replaces the one that counted before.
func (s *Subjects) holder(ctx context.Context) (id string, err error) {
	err = systemEntries(ctx, s.in, actionKeyStore, 0, func(e *Entry) error {
		if before, _ := e.Details["replaces"].(string); before == id {
			id, _ = e.Details["id"].(string)
		}
		return nil
	})
	return id, err
}

// claim names the key store in the ledger, if that has none or is to have a new
// one. Of several processes that do so at once the first wins.
func (s *Subjects) claim(ctx context.Context, id, holder string) (string, error) {
	if holder != "" && !s.cfg.NewKeyStore {
		return holder, nil
	}
	if holder == "" && !s.cfg.NewKeyStore {
		if err := s.mayBeFirst(ctx); err != nil {
			return "", err
		}
	}
	details := map[string]any{"id": id}
	if holder != "" {
		details["replaces"] = holder
	}
	if _, err := s.in.AppendSystem(ctx, Entry{Action: actionKeyStore, Details: details}); err != nil {
		return "", err
	}
	if err := s.in.Flush(ctx); err != nil {
		return "", err
	}
	return s.holder(ctx)
}

// mayBeFirst refuses an empty key store for a ledger that has subjects already:
// it was moved here, and its key store was not.
func (s *Subjects) mayBeFirst(ctx context.Context) error {
	if s.vault.cipher != nil {
		return nil
	}
	for e, err := range s.in.Query(ctx, Query{}) {
		if err != nil {
			return err
		}
		if isToken(e.Subject) {
			return fmt.Errorf("%w: entry %d has a subject, and there is no key store beside %s", ErrNoKeyStore, e.Index, s.cfg.KeyFile)
		}
	}
	return nil
}
