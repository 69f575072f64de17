package audit

import (
	"cmp"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kaizen-go/kaizen/internal/durable"
)

const (
	// keyLife is how long a subject's key is used for new entries.
	keyLife = 90 * 24 * time.Hour
	// keyUses bounds the messages under one key in one run of the program: the
	// counter in the nonce has 32 bits.
	keyUses = 1 << 31
	// maxCiphers bounds the expanded keys that are kept, about 1 KiB each.
	maxCiphers = 4096
	// recordsPerFrame keeps a frame below its limit whatever the names.
	recordsPerFrame = 200
)

// errDestroyed means that a key was destroyed while somebody was about to use it.
var errDestroyed = errors.New("key was destroyed")

// vault is the key store: whose token is whose, and the keys of each subject.
// It lies in the key directory, never in the ledger's. All methods may be
// called at once.
type vault struct {
	fsys durable.FS
	dir  string // the key directory
	stem string // what the names of its files begin with
	log  *slog.Logger
	// origin is part of what each box authenticates.
	origin string
	clear  map[string]bool
	users  bool // whoever has no subject is the subject
	absent bool // the files are left alone

	// disk is held by whoever changes the files; it guards what follows.
	disk   sync.Mutex
	cipher *frameCipher // nil until there is a file
	file   durable.File
	size   int64
	frames uint64
	open   bool   // the last record is not "end"
	closed bool   // the files belong to whoever opens the ledger next
	last   uint64 // the highest generation whose key was found without a file

	failure atomic.Pointer[error]
	ciphers atomic.Int64
	most    int64 // expanded keys that are kept: maxCiphers

	mu      sync.RWMutex // guards what follows
	byName  map[string]*subject
	byToken map[string]*subject
	byKey   map[string]*dataKey
	waiting map[string]bool // names that somebody needs a key for
	erased  map[string]bool // tokens
	pending []*erasure      // whose receipt is not in the ledger yet
}

// subject is one person, or whatever else can be forgotten. Its keys are
// replaced under the vault's mu, never changed.
type subject struct {
	name, token string
	keys        []*dataKey // oldest first; the last is used
}

// dataKey encrypts the fields of one subject during one epoch.
type dataKey struct {
	owner *subject
	id    string
	made  time.Time
	// The vault's mu guards these two.
	key  [32]byte
	dead bool
	// A nonce is prefix, random for each run of the program, and a counter.
	prefix [8]byte
	used   atomic.Uint32
	aead   atomic.Pointer[cipher.AEAD]
}

func newVault(fsys durable.FS, keyName, origin string, cfg Config) *vault {
	v := &vault{
		fsys: fsys, dir: filepath.Dir(keyName), stem: strings.TrimSuffix(filepath.Base(keyName), ".key"),
		log: cfg.Logger, origin: origin, users: cfg.UsersAreSubjects, clear: map[string]bool{}, most: maxCiphers,
	}
	for _, name := range cfg.ClearDetails {
		v.clear[name] = name != sealedKey
	}
	v.empty()
	return v
}

func (v *vault) empty() {
	v.byName, v.byToken, v.byKey = map[string]*subject{}, map[string]*subject{}, map[string]*dataKey{}
	v.waiting, v.erased, v.pending = map[string]bool{}, map[string]bool{}, nil
}

func (v *vault) path() string { return filepath.Join(v.dir, v.stem+".subjects") }

func (v *vault) kekPath(generation uint64) string {
	return filepath.Join(v.dir, v.kekStem()+strconv.FormatUint(generation, 10))
}

func (v *vault) kekStem() string { return v.stem + ".kek." }

// tampered says that the key store is not what it was.
func (v *vault) tampered(index int64, reason string) *TamperError {
	return &TamperError{Path: filepath.Join(filepath.Base(v.dir), v.stem+".subjects"), Index: index, Reason: "key store: " + reason}
}

// keyID names a key without giving it away, and commits to it: AES-GCM alone
// would let one ciphertext open under two keys.
func keyID(key *[32]byte) string {
	mac := hmac.New(sha256.New, key[:])
	mac.Write([]byte("kaizen subject key v1"))
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil)[:24])
}

func newDataKey(owner *subject, key [32]byte, made time.Time) *dataKey {
	d := &dataKey{owner: owner, id: keyID(&key), key: key, made: made}
	_, _ = rand.Read(d.prefix[:])
	return d
}

// usable reports whether new entries may be encrypted under d.
func (d *dataKey) usable(now time.Time) bool {
	return now.Sub(d.made) < keyLife && d.used.Load() < keyUses
}

// cipher is d's, expanded.
func (d *dataKey) cipher(v *vault) (cipher.AEAD, error) {
	if a := d.aead.Load(); a != nil {
		return *a, nil
	}
	v.mu.RLock()
	key, dead := d.key, d.dead
	v.mu.RUnlock()
	if dead {
		return nil, errDestroyed
	}
	block, err := aes.NewCipher(key[:])
	if err != nil {
		return nil, err
	}
	a, err := cipher.NewGCM(block)
	if err != nil {
		return nil, err
	}
	if v.ciphers.Add(1) > v.most {
		v.dropCiphers()
	}
	d.aead.Store(&a)
	return a, nil
}

func (v *vault) dropCiphers() {
	v.mu.RLock()
	defer v.mu.RUnlock()
	for _, d := range v.byKey {
		d.aead.Store(nil)
	}
	v.ciphers.Store(1)
}

// current is the key for new entries about name, nil if there is none.
func (v *vault) current(name string, now time.Time) *dataKey {
	v.mu.RLock()
	defer v.mu.RUnlock()
	return v.lookup(name, now)
}

func (v *vault) lookup(name string, now time.Time) *dataKey {
	s := v.byName[name]
	if s == nil {
		return nil
	}
	if d := s.keys[len(s.keys)-1]; d.usable(now) {
		return d
	}
	return nil
}

// ensure makes keys for the names that lack one, durable when it returns.
// Callers that come while the disk works share the next sync.
func (v *vault) ensure(names []string, now time.Time) error {
	v.mu.Lock()
	for _, name := range names {
		if v.lookup(name, now) == nil {
			v.waiting[name] = true
		}
	}
	v.mu.Unlock()
	v.disk.Lock()
	defer v.disk.Unlock()
	if err := v.ready(); err != nil {
		return err
	}
	v.mu.Lock()
	wanted := v.waiting
	v.waiting = map[string]bool{}
	var fresh []*dataKey
	var records []storeRecord
	for name := range wanted {
		if v.lookup(name, now) != nil {
			continue
		}
		d, rs := v.newKey(name, now)
		fresh, records = append(fresh, d), append(records, rs...)
	}
	v.mu.Unlock()
	if len(records) == 0 {
		return nil
	}
	if err := v.append(records); err != nil {
		return err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, d := range fresh {
		v.add(d)
	}
	return nil
}

// newKey makes a key for name, and the records that say so. The caller holds mu.
func (v *vault) newKey(name string, now time.Time) (*dataKey, []storeRecord) {
	var records []storeRecord
	s := v.byName[name]
	if s == nil {
		s = &subject{name: name, token: newToken()}
		records = append(records, storeRecord{Kind: "subject", Token: s.token, Name: name})
	}
	var key [32]byte
	_, _ = rand.Read(key[:])
	d := newDataKey(s, key, now.Truncate(time.Second))
	return d, append(records, keyRecord(d))
}

func keyRecord(d *dataKey) storeRecord {
	return storeRecord{Kind: "key", Token: d.owner.token, Key: d.key[:], Made: d.made.Unix()}
}

// add makes a key known, and its subject. The caller holds mu.
func (v *vault) add(d *dataKey) {
	s := d.owner
	s.keys = append(s.keys[:len(s.keys):len(s.keys)], d)
	v.byName[s.name], v.byToken[s.token], v.byKey[d.id] = s, s, d
}

// ready is nil while the files may be changed. The caller holds disk.
func (v *vault) ready() error {
	if v.closed {
		return ErrClosed
	}
	return v.failed()
}

// failed is nil while the files are in order.
func (v *vault) failed() error {
	if err := v.failure.Load(); err != nil {
		return *err
	}
	return nil
}

// fail makes the vault refuse changes: after a failed write nobody knows what
// is on the disk. Keys that were durable before can still be used.
func (v *vault) fail(cause error) error {
	err := fmt.Errorf("key store: %w: %w", ErrFailed, cause)
	v.failure.CompareAndSwap(nil, &err)
	v.log.Error("audit ledger: key store failed, the ledger must be reopened", "file", v.path(), "error", cause)
	return err
}

// append makes records durable. The caller holds disk.
func (v *vault) append(records []storeRecord) error {
	if v.cipher == nil {
		return v.rewrite(records)
	}
	b, frames, err := v.cipher.framesOf(nil, v.frames, records)
	if err != nil {
		return err
	}
	if _, err := v.file.WriteAt(b, v.size); err != nil {
		return v.noRoom(err)
	}
	if err := v.file.Sync(); err != nil {
		return v.fail(err)
	}
	v.size += int64(len(b))
	v.frames, v.open = frames, true
	return nil
}

// noRoom answers a write to the end of the file that failed. If the disk was
// full and what was written of it can be taken back, all is as it was, and the
// next attempt may do better. The caller holds disk.
func (v *vault) noRoom(err error) error {
	if !durable.IsNoSpace(err) {
		return v.fail(err)
	}
	if back := errors.Join(v.file.Truncate(v.size), v.file.Sync()); back != nil {
		return v.fail(errors.Join(err, back))
	}
	return fmt.Errorf("key store: %w: %w", ErrNoSpace, err)
}

func (s *frameCipher) framesOf(b []byte, seq uint64, records []storeRecord) ([]byte, uint64, error) {
	for batch := range slices.Chunk(records, recordsPerFrame) {
		var err error
		if b, err = s.frame(b, seq, batch); err != nil {
			return nil, 0, err
		}
		seq++
	}
	return b, seq, nil
}

// rewrite replaces the file by one with these records under a new key, and
// destroys the old key: no copy of the old file can be read from then on. The
// caller holds disk.
func (v *vault) rewrite(records []storeRecord) error {
	generation := v.last + 1
	if v.cipher != nil {
		generation = v.cipher.generation + 1
	}
	next, err := freshFrameCipher(generation)
	if err != nil {
		return err
	}
	b, frames, err := next.framesOf(next.header(), 0, records)
	if err != nil {
		return err
	}
	err = durable.MkdirAll(v.fsys, v.dir)
	if err == nil {
		err = durable.ReplaceFile(v.fsys, v.kekPath(generation), kekFile(generation, next.kek))
	}
	if err == nil {
		err = durable.ReplaceFile(v.fsys, v.path(), b)
	}
	if err != nil {
		return v.notRewritten(err, generation)
	}
	if v.cipher != nil {
		if err := v.destroyFile(v.kekPath(v.cipher.generation)); err != nil {
			return v.fail(err)
		}
	}
	v.cipher, v.size, v.frames, v.open = next, int64(len(b)), frames, true
	if err := v.reopen(); err != nil {
		return v.fail(err)
	}
	return nil
}

// notRewritten answers for a new generation that could not be written. If the
// disk was full, the file is still the one of before, and what there is of the
// new one can be removed, all is as it was, and the next attempt may do better.
// The caller holds disk.
func (v *vault) notRewritten(err error, generation uint64) error {
	if !durable.IsNoSpace(err) {
		return v.fail(err)
	}
	b, back := durable.ReadFile(v.fsys, v.path(), maxSubjectsFile)
	switch {
	case errors.Is(back, fs.ErrNotExist) && v.cipher == nil:
		back = nil
	case back == nil && v.cipher != nil:
		have, _, bad := generationOf(b)
		if back = bad; bad == nil && have != v.cipher.generation {
			back = fmt.Errorf("generation %d is there already", have)
		}
	case back == nil:
		back = errors.New("a file is there already")
	}
	for _, name := range []string{v.path() + tmpExt, v.kekPath(generation) + tmpExt, v.kekPath(generation)} {
		if back == nil {
			back = v.destroyFile(name)
		}
	}
	if back != nil {
		return v.fail(errors.Join(err, back))
	}
	return fmt.Errorf("key store: %w: %w", ErrNoSpace, err)
}

// reopen opens the file that is now there.
func (v *vault) reopen() error {
	if v.file != nil {
		if err := v.file.Close(); err != nil {
			return err
		}
	}
	var err error
	v.file, err = v.fsys.OpenFile(v.path(), os.O_RDWR, 0)
	return err
}

// destroyFile writes zeros over a file, makes them durable, and removes it.
func (v *vault) destroyFile(name string) error {
	f, err := v.fsys.OpenFile(name, os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err == nil {
		_, err = f.WriteAt(make([]byte, info.Size()), 0)
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := v.fsys.Remove(name); err != nil {
		return err
	}
	return v.fsys.SyncDir(v.dir)
}

// records is all that the vault knows. The caller holds mu.
func (v *vault) records() []storeRecord {
	subjects := make([]*subject, 0, len(v.byToken))
	for _, s := range v.byToken {
		subjects = append(subjects, s)
	}
	slices.SortFunc(subjects, func(a, b *subject) int { return cmp.Compare(a.token, b.token) })
	var out []storeRecord
	for _, s := range subjects {
		out = append(out, storeRecord{Kind: "subject", Token: s.token, Name: s.name})
		for _, d := range s.keys {
			out = append(out, keyRecord(d))
		}
	}
	journal := map[string]*erasure{}
	for _, j := range v.pending {
		journal[j.Token] = j
	}
	tokens := make([]string, 0, len(v.erased))
	for token := range v.erased {
		tokens = append(tokens, token)
	}
	slices.Sort(tokens)
	for _, token := range tokens {
		out = append(out, storeRecord{Kind: "erased", Token: token, Erasure: journal[token]})
	}
	return out
}

// destroy makes what is encrypted for s unreadable for good, and keeps j until
// its receipt is in the ledger. On [ErrNoSpace] nothing has happened. The caller
// holds disk and has called forget.
func (v *vault) destroy(s *subject, j *erasure) error {
	v.mu.Lock()
	pending := v.pending
	v.strike(s, j)
	records := v.records()
	v.byToken[s.token], v.pending = s, pending // until it has happened
	delete(v.erased, s.token)
	v.mu.Unlock()
	err := v.rewrite(records)
	if errors.Is(err, ErrNoSpace) {
		v.remember(s)
		return err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.strike(s, j)
	for _, d := range s.keys {
		clear(d.key[:])
		d.dead = true
		d.aead.Store(nil)
		delete(v.byKey, d.id)
	}
	return err
}

// strike makes s one that was erased. The caller holds mu.
func (v *vault) strike(s *subject, j *erasure) {
	delete(v.byToken, s.token)
	v.erased[s.token] = true
	v.pending = append(slices.Clip(v.pending), j)
}

// forget stops the use of s for new entries.
func (v *vault) forget(s *subject) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.byName[s.name] == s {
		delete(v.byName, s.name)
	}
}

// remember is the reverse of forget.
func (v *vault) remember(s *subject) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.byName[s.name] == nil {
		v.byName[s.name] = s
	}
}

// restate writes what the vault knows, and nothing else, under a new key.
func (v *vault) restate() error {
	v.disk.Lock()
	defer v.disk.Unlock()
	if err := v.ready(); err != nil {
		return err
	}
	v.mu.RLock()
	records := v.records()
	v.mu.RUnlock()
	return v.rewrite(records)
}

// unreceipted are the erasures whose receipt the ledger may lack.
func (v *vault) unreceipted() []*erasure {
	v.mu.RLock()
	defer v.mu.RUnlock()
	return slices.Clone(v.pending)
}

// done notes that the receipt of an erasure is in the ledger.
func (v *vault) done(token string) error {
	v.disk.Lock()
	defer v.disk.Unlock()
	if err := v.ready(); err != nil {
		return err
	}
	if err := v.append([]storeRecord{{Kind: "done", Token: token}}); err != nil {
		return err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.settle(token)
	return nil
}

func (v *vault) settle(token string) {
	v.pending = slices.DeleteFunc(v.pending, func(j *erasure) bool { return j.Token == token })
}

// find returns the subject of a name or token.
func (v *vault) find(who string) *subject {
	v.mu.RLock()
	defer v.mu.RUnlock()
	if isToken(who) {
		return v.byToken[who]
	}
	return v.byName[who]
}

// nameOf is the name that a token stands for, or the token.
func (v *vault) nameOf(token string) string {
	if s := v.find(token); s != nil && isToken(token) {
		return s.name
	}
	return token
}

// close ends the file, so that the next open knows that it is whole.
func (v *vault) close() error {
	v.disk.Lock()
	defer v.disk.Unlock()
	v.closed = true
	if v.file == nil {
		return nil
	}
	var err error
	if v.open && v.failed() == nil {
		err = v.append([]storeRecord{{Kind: "end"}})
	}
	err = errors.Join(err, v.file.Close())
	v.file = nil
	return err
}
