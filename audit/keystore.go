package audit

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

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

// CopyKey puts the signing key in the file from where a copy of its ledger looks
// for it, the file to, whose directory it makes. One that is there already stays.
// After a crash the file is there whole, or not at all.
func CopyKey(from, to string) error {
	if err := copyKey(durable.OS{}, from, to); err != nil {
		return fmt.Errorf("audit: copy key %s to %s: %w", from, to, err)
	}
	return nil
}

func copyKey(fsys durable.FS, from, to string) error {
	if there, err := exists(fsys, to); err != nil || there {
		return err
	}
	if _, err := loadSigner(fsys, from); err != nil {
		return err
	}
	key, err := durable.ReadFile(fsys, from, maxSmallFile)
	if err != nil {
		return err
	}
	if err := durable.MkdirAll(fsys, filepath.Dir(to)); err != nil {
		return err
	}
	return durable.ReplaceFile(fsys, to, key)
}

// MoveKeyStore brings the key store of a ledger that was copied to where the
// copy looks for it, and reports whether there was something to bring. The copy
// must be complete before it is used, and no process may have either ledger open.
// It can be repeated, also after a crash at any point: a store in the new place
// that is older is replaced, one that is newer stays. Errors are [ErrKeyStores],
// [ErrNoKeyStore] if a process has one of the two open for a ledger that is not in
// files, and a [*TamperError] for one that is damaged.
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
	from, to := storeBeside(fsys, m.From), storeBeside(fsys, m.To)
	// Where there is nothing no lock file is left either.
	if there, err := from.present(); err != nil || !there {
		return false, err
	}
	if m.DryRun {
		_, _, err := compareStores(from, to)
		return err == nil, err
	}
	unlock, err := lockStores(from, to)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	// Only now: what was there before we had the locks may have been changed.
	if err := errors.Join(from.finishRemoval(), to.finishRemoval()); err != nil {
		return false, err
	}
	fromName, toName, err := compareStores(from, to)
	if err != nil {
		return false, err
	}
	if err := from.copyTo(to); err != nil {
		return false, err
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

// movedPath is the file that says, while there is one, that the store is being
// destroyed because it is in another place now.
func (v *vault) movedPath() string { return v.path() + movedExt }

const movedExt = ".moved"

// storeBeside is the key store beside a signing key, which is not read yet.
func storeBeside(fsys durable.FS, keyFile string) *vault {
	return newVault(fsys, keyFile, "", Config{}.withDefaults())
}

// present reports whether there is anything of a key store.
func (v *vault) present() (bool, error) {
	for _, name := range []string{v.path(), v.movedPath(), v.storePath()} {
		if there, err := exists(v.fsys, name); there || err != nil {
			return there, err
		}
	}
	return false, nil
}

// compareStores reads the two, and refuses them if neither can stand for the
// other.
func compareStores(from, to *vault) (fromName, toName []byte, err error) {
	if fromName, err = from.read(); err == nil {
		toName, err = to.read()
	}
	if err == nil && (fromName != nil && toName != nil && string(fromName) != string(toName) || !from.covers(to) && !to.covers(from)) {
		err = ErrKeyStores
	}
	return fromName, toName, err
}

// read loads the key store, and returns its name, which stores of ledgers in
// files have not.
func (v *vault) read() ([]byte, error) {
	if _, _, err := v.load(); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	name, err := durable.ReadFile(v.fsys, v.storePath(), maxSmallFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return name, err
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

// copyTo makes to have what v has, unless it has more. It writes it under a key
// of its own, as an erasure does: after a crash at any point the file is the one
// of before or the new one, each with its key, and what is left over of the other
// goes with the next call, or when the ledger is opened.
func (v *vault) copyTo(to *vault) error {
	if err := to.sweep(); err != nil {
		return err
	}
	if v.cipher == nil || !v.covers(to) || to.covers(v) && slices.Equal(v.journal(), to.journal()) {
		return nil // without subjects, older, or the same
	}
	v.mu.RLock()
	records := v.records()
	v.mu.RUnlock()
	to.disk.Lock()
	err := to.rewrite(records)
	if err == nil {
		err = to.sweep() // keys that had no file
	}
	to.disk.Unlock()
	return errors.Join(err, to.close())
}

// journal are the tokens of the erasures whose receipt is owed.
func (v *vault) journal() (tokens []string) {
	for _, j := range v.unreceipted() {
		tokens = append(tokens, j.Token)
	}
	slices.Sort(tokens)
	return tokens
}

// removeAll destroys the store. The file that is written first says that this has
// begun: what a crash leaves is no damage then, and whoever comes next ends it.
func (v *vault) removeAll() error {
	if err := durable.ReplaceFile(v.fsys, v.movedPath(), []byte("destroyed: it is in another place\n")); err != nil {
		return err
	}
	if err := v.finishRemoval(); err != nil {
		return err
	}
	return v.removeFile(v.storePath())
}

// finishRemoval ends a removal that has begun: the keys first, without which the
// rest is noise.
func (v *vault) finishRemoval() error {
	begun, err := exists(v.fsys, v.movedPath())
	if err != nil || !begun {
		return err
	}
	v.cipher = nil
	entries, err := v.fsys.ReadDir(v.dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), v.kekStem()) {
			if err := v.destroyFile(filepath.Join(v.dir, e.Name())); err != nil {
				return err
			}
		}
	}
	if err := errors.Join(v.destroyFile(v.path()+tmpExt), v.destroyFile(v.path())); err != nil {
		return err
	}
	return v.removeFile(v.movedPath())
}

func (v *vault) removeFile(name string) error {
	if err := v.fsys.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return v.fsys.SyncDir(v.dir)
}

func exists(fsys durable.FS, name string) (bool, error) {
	_, err := stat(fsys, name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}
