package group

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kaizen-go/kaizen/audit"
)

// ErrKey means that a ledger has another key than the one given.
var ErrKey = errors.New("another key")

// defaultOverlap is [audit.Config].KeyOverlap.
const defaultOverlap = 24 * time.Hour

// Keys are the keys of a ledger: the one that signs now, those before it, and
// for a time the one that signs beside it. All methods may be called at once.
type Keys struct {
	file    string
	overlap time.Duration
	opening bool // until Settle

	mu      sync.RWMutex // guards what follows
	vkey    string       // the ledger's present key
	signer  *Signer      // nil while this process has not the private half
	changes []audit.KeyChange
	before  *Signer // signs as well until then
	until   time.Time

	last atomic.Pointer[[2]audit.Checkpoint] // what Overlapped was asked last, and the answer
}

// LoadKeys reads the signing key in file, or makes one: see [LoadSigner]. An
// overlap of zero is 24 hours, a negative one none.
func LoadKeys(file, origin string, overlap time.Duration) (*Keys, error) {
	s, err := LoadSigner(file, origin)
	if err != nil {
		return nil, err
	}
	if overlap == 0 {
		overlap = defaultOverlap
	}
	return &Keys{file: file, overlap: overlap, vkey: s.vkey, signer: s}, nil
}

// Origin is the name of the ledger.
func (k *Keys) Origin() string {
	k.mu.RLock()
	defer k.mu.RUnlock()
	name, _, _ := strings.Cut(k.vkey, "+")
	return name
}

// VerifierKey is the present public key.
func (k *Keys) VerifierKey() string {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return k.vkey
}

// VerifierKeys are the public keys, the present one first.
func (k *Keys) VerifierKeys() []string {
	k.mu.RLock()
	defer k.mu.RUnlock()
	out := []string{k.vkey}
	for i := len(k.changes) - 1; i >= 0; i-- {
		out = append(out, k.changes[i].Previous)
	}
	return out
}

// Changes are the changes of the key, oldest first.
func (k *Keys) Changes() []audit.KeyChange {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return k.changes[:len(k.changes):len(k.changes)]
}

// ReadOnly are keys for checking alone, of a ledger that began with the key
// first.
func ReadOnly(first string) *Keys { return &Keys{overlap: -1, vkey: first} }

// ReadKeys are keys for checking alone, of a ledger with those changes.
func ReadKeys(changes []audit.KeyChange, present string) (*Keys, error) {
	k := ReadOnly(present)
	if err := k.chain(changes, present); err != nil {
		return nil, err
	}
	k.changes = changes
	return k, nil
}

// Signer is the private half of the present key, or [ErrKey] if it is not where
// this process looks for it.
func (k *Keys) Signer() (*Signer, error) {
	k.mu.RLock()
	s, vkey := k.signer, k.vkey
	k.mu.RUnlock()
	if s != nil && s.vkey == vkey {
		return s, nil
	}
	s, err := findSigner(k.file, vkey)
	if err != nil {
		return nil, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.vkey == vkey {
		k.signer = s
	}
	return s, nil
}

// Open checks a checkpoint under the present key or one before it, as far as
// that counts: what a key signs after it was replaced is worth nothing.
func (k *Keys) Open(text string) (audit.Checkpoint, error) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	c, err := OpenCheckpoint(text, k.vkey)
	for i := len(k.changes) - 1; err != nil && i >= 0; i-- {
		old, oldErr := OpenCheckpoint(text, k.changes[i].Previous)
		switch {
		case oldErr != nil:
		case old.Size > k.changes[i].From:
			return audit.Checkpoint{}, errors.New("signed with a key that had been replaced")
		default:
			c, err = old, nil
		}
	}
	return c, err
}

// Begin says that the ledger began with the key first. The one in the file must
// turn out to be one of those that followed: see Settle.
func (k *Keys) Begin(first string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.vkey, k.opening = first, true
}

// Learn takes in one more change of the key.
func (k *Keys) Learn(c audit.KeyChange) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	changes := append(k.changes[:len(k.changes):len(k.changes)], c)
	if k.vkey != c.Previous {
		return fmt.Errorf("%w: the change is from %s, and the key is %s", ErrKey, c.Previous, k.vkey)
	}
	if k.file == "" || k.opening {
		k.changes, k.vkey = changes, c.Key
		return nil
	}
	return k.use(changes, c.Key)
}

// Settle says that all changes are known. It is [ErrKey] if the key in the file
// was never the ledger's.
func (k *Keys) Settle() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.opening = false
	return k.use(k.changes, k.vkey)
}

// Trusts reports whether an auditor's key is one of the ledger's.
func (k *Keys) Trusts(vkey string) bool { return slices.Contains(k.VerifierKeys(), vkey) }

// Follow takes in the changes of the key that the ledger has, oldest first. The
// ones that are known must be among them, and the ledger's key must be present.
// If that is one that was replaced, what was read is older than what is known, and
// there is nothing to learn. Without its private half the ledger can be read.
func (k *Keys) Follow(changes []audit.KeyChange, present string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if wasKey(k.changes, present) {
		return nil
	}
	if err := k.chain(changes, present); err != nil {
		return err
	}
	return k.use(changes, present)
}

// chain checks that the changes go on from those that are known, and end with
// present. The caller holds mu.
func (k *Keys) chain(changes []audit.KeyChange, present string) error {
	bad := func(reason, want, got string) error {
		return &audit.TamperError{Path: "keys", Index: -1, Reason: reason, Want: want, Got: got}
	}
	for i, c := range changes {
		if i < len(k.changes) && k.changes[i].Key != c.Key || i > 0 && (changes[i-1].Key != c.Previous || changes[i-1].From >= c.From) {
			return bad(fmt.Sprintf("change %d does not follow the one before it", i), "", "")
		}
	}
	if len(changes) < len(k.changes) {
		return bad("a change of the key is missing", "", "")
	}
	if n := len(changes); n > 0 && changes[n-1].Key != present {
		return bad("does not end with the present key", present, changes[n-1].Key)
	}
	return nil
}

// use makes present the key, to which changes lead. If it fails, nothing has
// changed. The caller holds mu.
func (k *Keys) use(changes []audit.KeyChange, present string) error {
	if k.signer == nil || k.signer.vkey != present {
		old := k.signer
		s, err := findSigner(k.file, present)
		if err != nil && !errors.Is(err, ErrKey) {
			return err
		}
		if s == nil && old != nil && !wasKey(changes, old.vkey) {
			return fmt.Errorf("%w: key %s, want %s", ErrKey, old.vkey, present)
		}
		k.signer = s
	}
	k.changes, k.vkey = changes, present
	k.setOverlap()
	return nil
}

// wasKey reports whether vkey is a key that was replaced.
func wasKey(changes []audit.KeyChange, vkey string) bool {
	return slices.ContainsFunc(changes, func(c audit.KeyChange) bool { return c.Previous == vkey })
}

// setOverlap finds the key before, if it was replaced a short time ago and is
// still there.
func (k *Keys) setOverlap() {
	k.before = nil
	k.last.Store(nil)
	if len(k.changes) == 0 || k.overlap < 0 {
		return
	}
	last := k.changes[len(k.changes)-1]
	e, err := audit.DecodeLine(last.Entry)
	if err != nil || time.Since(e.Time) > k.overlap {
		return
	}
	if old, err := loadSigner(k.file + oldKeyExt); err == nil && old.vkey == last.Previous {
		k.before, k.until = old, e.Time.Add(k.overlap)
	}
}

// Overlapped is c with the signature of the key before, while that signs.
func (k *Keys) Overlapped(c audit.Checkpoint) audit.Checkpoint {
	k.mu.RLock()
	before, until := k.before, k.until
	k.mu.RUnlock()
	if before == nil || c.Note == "" || time.Now().After(until) {
		return c
	}
	if last := k.last.Load(); last != nil && last[0] == c {
		return last[1]
	}
	both, err := before.Cosign(c)
	if err != nil {
		return c
	}
	k.last.Store(&[2]audit.Checkpoint{c, both})
	return both
}

// change is what commits that change the key have in common. A reader of this
// process may have learned of it already.
func (k *Keys) change(c audit.KeyChange, next *Signer) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	switch k.vkey {
	case c.Previous:
		k.changes = append(k.changes[:len(k.changes):len(k.changes)], c)
	case c.Key:
	default:
		return fmt.Errorf("%w: the change is from %s, and the key is %s", ErrKey, c.Previous, k.vkey)
	}
	k.vkey, k.signer = c.Key, next
	err := promote(k.file, next.vkey)
	k.setOverlap()
	return err
}
