package audit

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/kaizen-go/kaizen/internal/durable"
)

// KeyStoreMove says which key store goes where, see [MoveKeyStore].
type KeyStoreMove struct {
	// From and To name the ledger's signing key in the old and in the new place,
	// keys/audit.key: the key store lies beside it.
	From, To string
	// Remove destroys the store at From when To has it: afterwards an erasure
	// destroys the only keys there are. Without it there are two copies, and each
	// erasure must be made in both places.
	Remove bool
	// DryRun only finds out whether it can be done.
	DryRun bool
}

// ErrKeyStores means that there is a key store in the new place which has keys
// that the one to be brought has not: neither can stand for the other.
var ErrKeyStores = errors.New("another key store is there already")

// MoveKeyStore brings the key store of a ledger that was copied to where the
// copy looks for it, and reports whether there was something to bring. The copy
// must be complete before it is used, and no process may have either ledger open.
// It can be repeated: a store in the new place that is older is replaced, one that
// is newer stays. Errors are [ErrKeyStores], [ErrNoKeyStore] if a process has one
// of the two open, and a [*TamperError] for one that is damaged.
func MoveKeyStore(m KeyStoreMove) (moved bool, err error) {
	if m.From, err = filepath.Abs(m.From); err == nil {
		m.To, err = filepath.Abs(m.To)
	}
	if err == nil && m.From != m.To {
		moved, err = m.do(durable.OS{})
	}
	if err != nil {
		return false, fmt.Errorf("audit: bring the key store beside %s to %s: %w", m.From, m.To, err)
	}
	return moved, nil
}

func (m KeyStoreMove) do(fsys durable.FS) (moved bool, err error) {
	from, fromName, err := readStore(fsys, m.From)
	if err != nil || from.cipher == nil && fromName == nil {
		return false, err
	}
	to, toName, err := readStore(fsys, m.To)
	if err != nil {
		return false, err
	}
	if fromName != nil && toName != nil && string(fromName) != string(toName) || !from.covers(to) && !to.covers(from) {
		return false, ErrKeyStores
	}
	if m.DryRun {
		return true, nil
	}
	unlock, err := lockStores(from, to)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	if from.covers(to) {
		if err := from.copyTo(to); err != nil {
			return false, err
		}
	}
	if fromName != nil && toName == nil {
		if err := durable.ReplaceFile(fsys, to.storePath(), fromName); err != nil {
			return false, err
		}
	}
	if !m.Remove {
		return true, nil
	}
	return true, from.removeAll()
}

func (v *vault) storePath() string { return filepath.Join(v.dir, v.stem+".store") }

// readStore reads the key store beside a signing key, and its name, which stores
// of ledgers in files have not.
func readStore(fsys durable.FS, keyFile string) (*vault, []byte, error) {
	v := newVault(fsys, keyFile, "", Config{}.withDefaults())
	if _, _, err := v.load(); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, nil, err
	}
	name, err := durable.ReadFile(fsys, v.storePath(), maxSmallFile)
	if errors.Is(err, fs.ErrNotExist) {
		return v, nil, nil
	}
	return v, name, err
}

// covers reports whether v has every key of other, or has destroyed it, and has
// destroyed whatever other has destroyed.
func (v *vault) covers(other *vault) bool {
	for token := range other.erased {
		if !v.erased[token] {
			return false
		}
	}
	for id, d := range other.byKey {
		if v.byKey[id] == nil && !v.erased[d.owner.token] {
			return false
		}
	}
	return true
}

// lockStores makes sure that no process has one of the stores.
func lockStores(stores ...*vault) (unlock func() error, err error) {
	var held []interface{ Close() error }
	unlock = func() (err error) {
		for _, l := range held {
			err = errors.Join(err, l.Close())
		}
		return err
	}
	for _, v := range stores {
		err := durable.MkdirAll(v.fsys, v.dir)
		if err == nil {
			var l interface{ Close() error }
			if l, err = v.fsys.Lock(v.path() + ".lock"); err == nil {
				held = append(held, l)
			}
		}
		if errors.Is(err, durable.ErrLocked) {
			err = fmt.Errorf("%w: a process has %s", ErrNoKeyStore, v.path())
		}
		if err != nil {
			return nil, errors.Join(err, unlock())
		}
	}
	return unlock, nil
}

// copyTo puts the whole frames of v, and their key, in the place of to, of which
// nothing is lost by that. A crash leaves none there, and v as it is.
func (v *vault) copyTo(to *vault) error {
	b, end, err := v.load()
	if errors.Is(err, fs.ErrNotExist) {
		return nil // it has a name and no subjects
	}
	if err != nil {
		return err
	}
	kek, err := durable.ReadFile(v.fsys, v.kekPath(v.cipher.generation), maxSmallFile)
	if err != nil {
		return err
	}
	if to.cipher != nil {
		for _, name := range []string{to.path(), to.kekPath(to.cipher.generation)} {
			if err := to.destroyFile(name); err != nil {
				return err
			}
		}
	}
	if err := durable.ReplaceFile(to.fsys, to.kekPath(v.cipher.generation), kek); err != nil {
		return err
	}
	return durable.ReplaceFile(to.fsys, to.path(), b[:end])
}

// removeAll destroys the store: its key first, without which the rest is noise.
func (v *vault) removeAll() error {
	var names []string
	if v.cipher != nil {
		names = append(names, v.kekPath(v.cipher.generation))
	}
	for _, name := range append(names, v.path(), v.storePath()) {
		if err := v.destroyFile(name); err != nil {
			return err
		}
	}
	return nil
}
