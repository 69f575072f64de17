package group

import (
	"crypto/rand"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/oklog/ulid/v2"
	"golang.org/x/mod/sumdb/note"
)

// oldKeyExt is appended to the name of a key that was replaced, as package audit
// does.
const oldKeyExt = ".old"

// NextKeyName is where a key that is about to be used lies: beside the present
// one under a name of its own, so that of two processes that change keys none
// moves the other's. One that was made and not used is the next one to be used.
func NextKeyName(file, vkey string) string {
	return fmt.Sprintf("%s.next-%08x", file, crc32.ChecksumIEEE([]byte(vkey)))
}

// nextSigner finds a key that was made for a change that did not happen, or
// makes one. None of used is taken.
func nextSigner(file, origin string, used []string) (*Signer, error) {
	names, err := filepath.Glob(globQuote(file) + ".next-????????")
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		s, err := loadSigner(name)
		if err != nil {
			return nil, err
		}
		fresh := s.Origin() == origin && name == NextKeyName(file, s.vkey)
		for _, u := range used {
			fresh = fresh && u != s.vkey
		}
		if fresh {
			return s, nil
		}
	}
	skey, _, err := note.GenerateKey(rand.Reader, origin)
	if err != nil {
		return nil, err
	}
	s, err := NewSigner(skey)
	if err != nil {
		return nil, err
	}
	return s, writeKey(NextKeyName(file, s.vkey), skey, os.Link)
}

// globQuote makes name stand for itself in a pattern.
func globQuote(name string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(name)
}

// findSigner is the private half of vkey: in file, or beside it if a change was
// cut short, which it completes. [ErrKey] if it is in neither place.
func findSigner(file, vkey string) (*Signer, error) {
	s, err := loadSigner(file)
	if err == nil && s.vkey == vkey {
		return s, nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if err := promote(file, vkey); err != nil {
		return nil, err
	}
	if s, err = loadSigner(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if s == nil || s.vkey != vkey {
		return nil, fmt.Errorf("%w: the ledger's key is %s, which is not in %s", ErrKey, vkey, file)
	}
	return s, nil
}

// promote puts the key that was made beside file in its place, and keeps the one
// that was there. It does nothing if there is no such key, and each step can be
// repeated, by another process as well.
func promote(file, vkey string) error {
	name := NextKeyName(file, vkey)
	next, err := loadSigner(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil || next.vkey != vkey {
		return err
	}
	present, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if s, err := NewSigner(strings.TrimSpace(string(present))); err == nil && s.vkey != vkey {
		if err := writeKey(file+oldKeyExt, strings.TrimSpace(string(present)), os.Rename); err != nil {
			return err
		}
	}
	if err := os.Rename(name, file); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return syncDir(filepath.Dir(file))
}

// makeKey writes a new key. If somebody else makes one at the same moment, the
// first one stays.
func makeKey(file, origin string) error {
	if origin == "" {
		origin = "kaizen/" + strings.ToLower(ulid.Make().String())
	}
	skey, _, err := note.GenerateKey(rand.Reader, origin)
	if err != nil {
		return fmt.Errorf("make key of %q: %w", origin, err)
	}
	return writeKey(file, skey, os.Link)
}

// writeKey stores a private key for its owner alone: under another name first,
// which place, os.Link or os.Rename, then makes its own.
func writeKey(file, skey string, place func(from, to string) error) (err error) {
	dir := filepath.Dir(file)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	tmp, err := os.CreateTemp(dir, filepath.Base(file)+".*.tmp") // mode 0600
	if err != nil {
		return err
	}
	defer func() {
		if removeErr := os.Remove(tmp.Name()); !errors.Is(removeErr, fs.ErrNotExist) {
			err = errors.Join(err, removeErr)
		}
	}()
	_, err = tmp.WriteString(skey + "\n")
	if err = errors.Join(err, tmp.Sync(), tmp.Close()); err != nil {
		return err
	}
	if err := place(tmp.Name(), file); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return syncDir(dir)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
