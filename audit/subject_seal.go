package audit

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// sealedKey is the key in details and metadata that holds a box: what was
// encrypted, as {"c":…,"enc":1,"k":…}.
const sealedKey = "sealed"

// minBoxBytes is nonce and tag: a box of nothing.
const minBoxBytes = 12 + 16

var sealPool = sync.Pool{New: func() any { b := make([]byte, 0, 2048); return &b }}

// admit prepares the entries of a caller for their lines. It returns the same
// slice if there is nothing to do, which takes a few nanoseconds an entry.
func (v *vault) admit(entries []Entry) ([]Entry, error) {
	personal := false
	for i := range entries {
		e := &entries[i]
		if err := e.checkForeign(); err != nil {
			return nil, err
		}
		personal = personal || e.Subject != "" || v.users && e.UserID != ""
	}
	if !personal {
		return entries, nil
	}
	return v.seal(slices.Clone(entries))
}

// checkForeign refuses what only the ledger itself may write.
func (e *Entry) checkForeign() error {
	switch {
	case e.AgentID == systemAgent && strings.HasPrefix(e.Action, systemPrefix):
		return &EntryError{Field: "action", Reason: `begins with "` + systemPrefix + `", which the ledger keeps for itself under the agent "` + systemAgent + `"`}
	case isToken(e.UserID):
		return &EntryError{Field: "user_id", Reason: "has the form of a token"}
	case isToken(e.Subject):
		return &EntryError{Field: "subject", Reason: "has the form of a token"}
	case e.Withheld != (Withheld{}):
		return &EntryError{Field: e.Withheld.field(), Reason: "withheld when the entry was read: it cannot be recorded"}
	}
	return nil
}

// seal encrypts the personal fields of entries, in place. New subjects are
// durable in the key store before it returns.
func (v *vault) seal(entries []Entry) ([]Entry, error) {
	now := time.Now()
	for i := range entries {
		e := &entries[i]
		if e.ID == "" {
			e.ID = newID()
		}
		if e.Time.IsZero() {
			e.Time = now
		}
		if e.Subject == "" && v.users {
			e.Subject = e.UserID
		}
		if err := e.check(); err != nil {
			return nil, err
		}
	}
	if err := v.ensureAll(entries, now); err != nil {
		return nil, err
	}
	for i := range entries {
		if entries[i].Subject == "" {
			continue
		}
		if err := v.sealEntry(&entries[i], now); err != nil {
			return nil, err
		}
	}
	return entries, nil
}

// ensureAll makes the keys that entries lack.
func (v *vault) ensureAll(entries []Entry, now time.Time) error {
	var names []string
	v.mu.RLock()
	for i := range entries {
		e := &entries[i]
		if e.Subject == "" {
			continue
		}
		for _, name := range []string{e.Subject, e.UserID} {
			if name != "" && v.lookup(name, now) == nil {
				names = append(names, name)
			}
		}
	}
	v.mu.RUnlock()
	if len(names) == 0 {
		return nil
	}
	if err := v.ensure(names, now); err != nil {
		return fmt.Errorf("key of a new subject: %w", err)
	}
	return nil
}

// sealEntry encrypts one entry. If its subject is erased at this moment, it
// becomes a new one.
func (v *vault) sealEntry(e *Entry, now time.Time) error {
	for {
		d, user := v.current(e.Subject, now), (*dataKey)(nil)
		if e.UserID != "" {
			user = v.current(e.UserID, now)
		}
		if d != nil && (user != nil || e.UserID == "") {
			err := v.sealUnder(d, user, e)
			if !errors.Is(err, errDestroyed) {
				return err
			}
		}
		if err := v.ensureAll([]Entry{*e}, now); err != nil {
			return err
		}
	}
}

func (v *vault) sealUnder(d, user *dataKey, e *Entry) error {
	details, err := v.box(d, e.ID, "details", e.Details, v.clear)
	if err != nil {
		return err
	}
	metadata, err := v.box(d, e.ID, "metadata", e.Metadata, nil)
	if err != nil {
		return err
	}
	e.Details, e.Metadata, e.Subject = details, metadata, d.owner.token
	if user != nil {
		e.UserID = user.owner.token
	}
	return nil
}

// box encrypts m but for the keys in clear.
func (v *vault) box(d *dataKey, id, field string, m map[string]any, keep map[string]bool) (map[string]any, error) {
	if len(m) == 0 {
		return nil, nil
	}
	out := make(map[string]any, 1+min(len(m), len(keep)))
	if len(keep) > 0 {
		rest := make(map[string]any, len(m))
		for k, value := range m {
			if keep[k] {
				out[k] = value
			} else {
				rest[k] = value
			}
		}
		if m = rest; len(m) == 0 {
			return out, nil
		}
	}
	c, err := v.encrypt(d, id, field, m)
	if err != nil {
		return nil, err
	}
	out[sealedKey] = map[string]any{"enc": 1, "k": d.id, "c": c}
	return out, nil
}

// encrypt gives base64 of nonce, ciphertext and tag of m's canonical JSON.
func (v *vault) encrypt(d *dataKey, id, field string, m map[string]any) (string, error) {
	aead, err := d.cipher(v)
	if err != nil {
		return "", err
	}
	n := d.used.Add(1)
	buf := sealPool.Get().(*[]byte)
	defer sealPool.Put(buf)
	b := append((*buf)[:0], d.prefix[:]...)
	b = append(b, byte(n>>24), byte(n>>16), byte(n>>8), byte(n))
	if b, err = appendMap(b, m, 1); err != nil {
		return "", inField(field, err)
	}
	end := len(b)
	b = v.appendAAD(b, id, field)
	// The result overlaps its input exactly, as Seal allows; what is
	// authenticated must not be in its way.
	aad := b[end:]
	var small [160]byte
	aad = append(small[:0], aad...)
	b = aead.Seal(b[:12], b[:12], b[12:end], aad)
	*buf = b
	return base64.StdEncoding.EncodeToString(b), nil
}

// appendAAD is what a box is bound to: it opens nowhere else.
func (v *vault) appendAAD(b []byte, id, field string) []byte {
	b = append(b, v.origin...)
	b = append(append(b, '\n'), id...)
	return append(append(b, '\n'), field...)
}

// reveal turns a stored entry into one that people read.
func (v *vault) reveal(e *Entry) error {
	if !isToken(e.Subject) {
		return nil
	}
	if isToken(e.UserID) {
		if name, cover := v.who(e.UserID); cover == Shown {
			e.UserID = name
		} else {
			e.UserID, e.Withheld.UserID = "", cover
		}
	}
	token := e.Subject
	name, cover := v.who(token)
	if cover == Shown {
		e.Subject = name
	}
	var err error
	if e.Details, e.Withheld.Details, err = v.unbox(e, token, "details", e.Details, cover); err != nil {
		return err
	}
	e.Metadata, e.Withheld.Metadata, err = v.unbox(e, token, "metadata", e.Metadata, cover)
	return err
}

// who is the name that token stands for, or why there is none.
func (v *vault) who(token string) (string, Cover) {
	v.mu.RLock()
	defer v.mu.RUnlock()
	switch s := v.byToken[token]; {
	case v.erased[token]:
		return token, Erased
	case s == nil:
		return token, Encrypted
	default:
		return s.name, Shown
	}
}

func (v *vault) unbox(e *Entry, token, field string, m map[string]any, cover Cover) (map[string]any, Cover, error) {
	boxed, ok := m[sealedKey]
	if !ok {
		return m, Shown, nil
	}
	out := maps.Clone(m)
	delete(out, sealedKey)
	if cover != Shown {
		return out, cover, nil
	}
	inner, err := v.decrypt(e.ID, token, field, boxed)
	if err != nil {
		if _, cover := v.who(token); cover != Shown {
			return out, cover, nil // erased meanwhile
		}
		return nil, Shown, v.tampered(e.Index, field+": "+err.Error())
	}
	maps.Copy(out, inner)
	return out, Shown, nil
}

func (v *vault) decrypt(id, token, field string, boxed any) (map[string]any, error) {
	key, sealed, err := parseBox(boxed)
	if err != nil {
		return nil, err
	}
	v.mu.RLock()
	d := v.byKey[key]
	v.mu.RUnlock()
	if d == nil || d.owner.token != token {
		return nil, fmt.Errorf("key %s of subject %s is missing", key, token)
	}
	aead, err := d.cipher(v)
	if err != nil {
		return nil, err
	}
	plain, err := aead.Open(sealed[12:12], sealed[:12], sealed[12:], v.appendAAD(nil, id, field))
	if err != nil {
		return nil, errors.New("does not open under its subject's key: key store or entry was changed")
	}
	value, err := parseJSON(plain)
	if err != nil {
		return nil, err
	}
	m, ok := value.(map[string]any)
	if !ok {
		return nil, errors.New("no object inside")
	}
	return m, nil
}

// parseBox takes a box apart: which key, and nonce, ciphertext and tag.
func parseBox(boxed any) (key string, sealed []byte, err error) {
	m, _ := boxed.(map[string]any)
	c, _ := m["c"].(string)
	key, _ = m["k"].(string)
	version, _ := m["enc"].(json.Number)
	if len(m) != 3 || version != "1" || key == "" {
		return "", nil, errors.New("not a box of this format")
	}
	sealed, err = base64.StdEncoding.Strict().DecodeString(c)
	if err != nil || len(sealed) < minBoxBytes {
		return "", nil, errors.New("box is cut short, or not base64")
	}
	return key, sealed, nil
}
