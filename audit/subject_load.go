package audit

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/kaizen-go/kaizen/internal/durable"
)

// openVault loads the key store for the process that writes the ledger: what a
// crash left of a write is cut off, what an interrupted change of keys left is
// destroyed. Without files it is empty, and makes none until a subject comes.
func openVault(fsys durable.FS, keyName, origin string, cfg Config) (*vault, error) {
	v := newVault(fsys, keyName, origin, cfg)
	if err := v.openFiles(); err != nil {
		return nil, err
	}
	return v, nil
}

// openFiles makes v the vault of the process that writes.
func (v *vault) openFiles() error {
	v.disk.Lock()
	defer v.disk.Unlock()
	if err := v.finishRemoval(); err != nil {
		return err
	}
	b, end, err := v.load()
	if errors.Is(err, fs.ErrNotExist) {
		return v.sweep()
	}
	if err != nil {
		return err
	}
	if err := v.sweep(); err != nil {
		return err
	}
	if err := v.reopen(); err != nil {
		return err
	}
	if end < len(b) {
		v.log.Warn("audit ledger: cut off what was being written to the key store when the process ended", "file", v.path(), "bytes", len(b)-end)
		if err := errors.Join(v.file.Truncate(int64(end)), v.file.Sync()); err != nil {
			return errors.Join(err, v.file.Close())
		}
	}
	return nil
}

// refresh loads the files again if they have changed. A generation's file only
// grows, so its number and size say whether it has.
func (v *vault) refresh() error {
	if v.absent {
		return nil
	}
	v.disk.Lock()
	defer v.disk.Unlock()
	var err error
	for range 5 { // the writer may replace file and key between our two reads
		if _, _, err = v.load(); !isTamper(err) {
			break
		}
	}
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
		return nil
	}
	return err
}

// load reads the files and takes in what they say. It returns the file's
// content, and where its last whole frame ends. A store whose removal has begun
// does not exist.
func (v *vault) load() (b []byte, end int, err error) {
	moved, err := exists(v.fsys, v.movedPath())
	if err == nil && moved {
		err = fs.ErrNotExist
	}
	if err != nil {
		return nil, 0, err
	}
	if b, err = durable.ReadFile(v.fsys, v.path(), maxSubjectsFile); err != nil {
		return nil, 0, err
	}
	generation, id, err := generationOf(b)
	if err != nil {
		return nil, 0, v.tampered(-1, err.Error())
	}
	if v.cipher != nil && v.cipher.generation == generation && v.size == int64(len(b)) {
		return b, len(b), nil
	}
	s, err := v.loadKEK(generation, id)
	if err != nil {
		return nil, 0, err
	}
	records, frames, end, err := s.parse(b)
	if err == nil {
		err = v.takeIn(records)
	}
	if err != nil {
		return nil, 0, v.tampered(-1, err.Error())
	}
	v.cipher, v.size, v.frames = s, int64(end), frames
	v.open = len(records) == 0 || records[len(records)-1].Kind != "end"
	return b, end, nil
}

func (v *vault) loadKEK(generation uint64, id [16]byte) (*frameCipher, error) {
	name := v.kekPath(generation)
	line, err := durable.ReadFile(v.fsys, name, maxSmallFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, v.tampered(-1, "key-encryption key "+filepath.Base(name)+" is missing")
	}
	if err != nil {
		return nil, err
	}
	named, kek, err := parseKEK(line)
	if err == nil && named != generation {
		err = fmt.Errorf("generation %d, want %d", named, generation)
	}
	if err != nil {
		return nil, &TamperError{Path: filepath.Join(filepath.Base(v.dir), filepath.Base(name)), Index: -1, Reason: err.Error()}
	}
	return newFrameCipher(generation, kek, id)
}

// takeIn replaces what the vault knows by what records say.
func (v *vault) takeIn(records []storeRecord) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	erased := v.erased
	v.empty()
	for i := range records {
		if err := v.take(&records[i]); err != nil {
			return fmt.Errorf("record %d: %w", i, err)
		}
	}
	for token := range erased { // what the ledger's own entries said
		v.drop(token)
	}
	for token, s := range v.byToken {
		if len(s.keys) == 0 {
			return fmt.Errorf("subject %s has no key", token)
		}
	}
	return nil
}

func (v *vault) take(r *storeRecord) error {
	if r.Kind == "end" {
		return nil
	}
	if !isToken(r.Token) {
		return fmt.Errorf("%s without a token", r.Kind)
	}
	switch s := v.byToken[r.Token]; {
	case r.Kind == "subject":
		if r.Name == "" || s != nil || v.byName[r.Name] != nil || v.erased[r.Token] {
			return errors.New("subject without name, or for the second time")
		}
		s = &subject{name: r.Name, token: r.Token}
		v.byName[r.Name], v.byToken[r.Token] = s, s
	case r.Kind == "key":
		if s == nil || len(r.Key) != 32 {
			return errors.New("key of nobody, or of a wrong length")
		}
		d := newDataKey(s, [32]byte(r.Key), time.Unix(r.Made, 0))
		if v.byKey[d.id] != nil {
			return errors.New("key for the second time")
		}
		v.add(d)
	case r.Kind == "erased":
		v.drop(r.Token)
		if r.Erasure != nil {
			if r.Erasure.Token != r.Token {
				return errors.New("erasure of another token")
			}
			v.pending = append(v.pending, r.Erasure)
		}
	case r.Kind == "done":
		v.settle(r.Token)
	default:
		return fmt.Errorf("unknown kind %q", r.Kind)
	}
	return nil
}

// drop treats token as erased, whatever the store has. The caller holds mu.
func (v *vault) drop(token string) {
	v.erased[token] = true
	s := v.byToken[token]
	if s == nil {
		return
	}
	delete(v.byToken, token)
	if v.byName[s.name] == s {
		delete(v.byName, s.name)
	}
	for _, d := range s.keys {
		d.dead = true
		clear(d.key[:])
		delete(v.byKey, d.id)
	}
}

// sweep destroys what an interrupted change left: temporary files, and every
// key-encryption key but that of the file. Without a file the keys stay: it may
// come back.
func (v *vault) sweep() error {
	entries, err := v.fsys.ReadDir(v.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		number, isKEK := strings.CutPrefix(e.Name(), v.kekStem())
		generation, err := strconv.ParseUint(number, 10, 64)
		switch {
		case isKEK && err == nil && v.cipher == nil:
			v.last = max(v.last, generation)
			v.log.Warn("audit ledger: a key-encryption key without its key store", "file", filepath.Join(v.dir, e.Name()))
			continue
		case isKEK && (err != nil || generation != v.cipher.generation): // not the one in use
		case e.Name() == filepath.Base(v.path())+tmpExt, e.Name() == filepath.Base(v.movedPath())+tmpExt:
		default:
			continue
		}
		if err := v.destroyFile(filepath.Join(v.dir, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

// learnErased is told the tokens that the ledger's own entries call erased. It
// returns those whose keys the store has nevertheless: it is an older copy.
func (v *vault) learnErased(tokens []string) (back []string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, token := range tokens {
		if v.byToken[token] != nil {
			back = append(back, token)
		}
		v.drop(token)
	}
	slices.Sort(back)
	return slices.Compact(back)
}
