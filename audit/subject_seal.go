package audit

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/oklog/ulid/v2"
)

// sealedKey is the key in details and metadata that holds a box: what was
// encrypted, as {"c":…,"enc":1,"k":…}; enc is 2 if
// metadata is in it as well.
const sealedKey = "sealed"

// minBoxBytes is nonce and tag: a box of nothing.
const minBoxBytes = 12 + 16

var sealPool = sync.Pool{New: func() any { b := make([]byte, 0, 2048); return &b }}

// admit prepares the entries of a caller for their lines. It returns the same
// slice if there is nothing to do, which takes a few nanoseconds an entry.
func (v *vault) admit(entries []Entry) ([]Entry, error) {
	if personal, err := v.personal(entries); err != nil || !personal {
		return entries, err
	}
	entries, _, err := v.seal(slices.Clone(entries))
	return entries, err
}

// admitOne is admit for one entry that is the ledger's to change. Fresh says
// that its id was made up here.
func (v *vault) admitOne(one []Entry) (fresh bool, err error) {
	if personal, err := v.personal(one); err != nil || !personal {
		return false, err
	}
	_, fresh, err = v.seal(one)
	return fresh, err
}

// personal reports whether there is something to encrypt in entries, and refuses
// those that a caller cannot append.
func (v *vault) personal(entries []Entry) (personal bool, err error) {
	for i := range entries {
		e := &entries[i]
		if err := e.checkForeign(); err != nil {
			return false, err
		}
		personal = personal || e.Subject != "" || v.users && e.UserID != ""
	}
	return personal, nil
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
// durable in the key store before it returns. Fresh says that all ids were made
// up here, so that none can be in the ledger.
func (v *vault) seal(entries []Entry) (out []Entry, fresh bool, err error) {
	now := time.Now()
	fresh = true
	for i := range entries {
		e := &entries[i]
		if e.ID != "" {
			fresh = false
		} else {
			e.ID = newULID(ulid.Timestamp(now)).String()
		}
		if e.Time.IsZero() {
			e.Time = now
		}
		if e.Subject == "" && v.users {
			e.Subject = e.UserID
		}
		if err := e.check(); err != nil {
			return nil, false, err
		}
	}
	if err := v.ensureAll(entries, now); err != nil {
		return nil, false, err
	}
	var made boxes
	if len(entries) > 1 {
		made.list = make([]box, 0, len(entries))
	}
	for i := range entries {
		if entries[i].Subject == "" {
			continue
		}
		if err := v.sealEntry(&entries[i], now, &made); err != nil {
			return nil, false, err
		}
	}
	return entries, fresh, nil
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
func (v *vault) sealEntry(e *Entry, now time.Time, made *boxes) error {
	for {
		d, user := v.current(e.Subject, now), (*dataKey)(nil)
		if e.UserID != "" {
			user = v.current(e.UserID, now)
		}
		if d != nil && (user != nil || e.UserID == "") {
			err := v.sealUnder(d, user, e, made)
			if !errors.Is(err, errDestroyed) {
				return err
			}
		}
		if err := v.ensureAll([]Entry{*e}, now); err != nil {
			return err
		}
	}
}

func (v *vault) sealUnder(d, user *dataKey, e *Entry, made *boxes) error {
	personal, clear := len(e.Details), 0
	if len(v.clear) > 0 {
		for k := range e.Details {
			if v.clear[k] {
				clear++
			}
		}
		personal -= clear
	}
	details, metadata := e.Details, e.Metadata
	if personal > 0 {
		details = make(map[string]any, 1+clear)
		if clear > 0 {
			for k, value := range e.Details {
				if v.clear[k] {
					details[k] = value
				}
			}
		}
		sealed := sealing{id: e.ID, field: "details", version: 1, details: e.Details, clear: v.clear}
		if len(e.Metadata) > 0 { // together: one nonce, one tag, one name of the key
			sealed.field, sealed.version, sealed.metadata, metadata = "entry", 2, e.Metadata, nil
		}
		b, err := v.encrypt(d, &sealed, made)
		if err != nil {
			return err
		}
		details[sealedKey] = b
	} else if len(e.Metadata) > 0 {
		b, err := v.encrypt(d, &sealing{id: e.ID, field: "metadata", version: 1, details: e.Metadata}, made)
		if err != nil {
			return err
		}
		metadata = map[string]any{sealedKey: b}
	}
	e.Details, e.Metadata, e.Subject = details, metadata, d.owner.token
	if user != nil {
		e.UserID = user.owner.token
	}
	return nil
}

// box is what was encrypted of an entry, as its line has it.
type box struct{ text []byte }

// MarshalJSON implements json.Marshaler.
func (b *box) MarshalJSON() ([]byte, error) { return b.text, nil }

// boxes are those of a batch, in few pieces of memory.
type boxes struct{ list []box }

// add makes room for a box of size bytes of text.
func (bs *boxes) add(size int) *box {
	if cap(bs.list) == 0 {
		if b := boxOf(size); b != nil {
			return b
		}
	}
	if len(bs.list) == cap(bs.list) { // those that were handed out stay where they are
		bs.list = make([]box, 0, max(1, 2*cap(bs.list)))
	}
	bs.list = append(bs.list, box{make([]byte, 0, size)})
	return &bs.list[len(bs.list)-1]
}

// boxOf is a box and its text in one piece of memory, nil if the text is too
// long for that to be worth it.
func boxOf(size int) *box {
	switch {
	case size <= 256-boxHead:
		b := new(struct {
			box
			room [256 - boxHead]byte
		})
		b.text = b.room[:0]
		return &b.box
	case size <= 512-boxHead:
		b := new(struct {
			box
			room [512 - boxHead]byte
		})
		b.text = b.room[:0]
		return &b.box
	case size <= 1024-boxHead:
		b := new(struct {
			box
			room [1024 - boxHead]byte
		})
		b.text = b.room[:0]
		return &b.box
	}
	return nil
}

// boxHead is the size of a box without its text.
const boxHead = 24

// sealing is what is to be encrypted: the canonical JSON of details but for the
// keys in clear, and in version 2 a newline and that of metadata.
type sealing struct {
	id, field         string
	version           byte
	details, metadata map[string]any
	clear             map[string]bool
}

func (s *sealing) append(b []byte) ([]byte, error) {
	members := memberPool.Get().(*[]member)
	for k, value := range s.details {
		if !s.clear[k] {
			*members = append(*members, member{key: k, value: value})
		}
	}
	b, err := appendMembers(b, *members, 1)
	releaseMembers(members)
	if err != nil {
		if s.field == "metadata" {
			return b, inField("metadata", err)
		}
		return b, inField("details", err)
	}
	if s.version == 2 {
		if b, err = appendMap(append(b, '\n'), s.metadata, 1); err != nil {
			return b, inField("metadata", err)
		}
	}
	return b, nil
}

// encrypt makes the box of s: base64 of nonce, ciphertext and tag, and the
// key's name. Its work is done in one buffer, and only the result is new memory.
func (v *vault) encrypt(d *dataKey, s *sealing, made *boxes) (*box, error) {
	aead, err := d.cipher(v)
	if err != nil {
		return nil, err
	}
	n := d.used.Add(1)
	buf := sealPool.Get().(*[]byte)
	defer sealPool.Put(buf)
	b := v.appendAAD((*buf)[:0], s.id, s.field)
	at := len(b)
	b = append(b, d.prefix[:]...)
	b = append(b, byte(n>>24), byte(n>>16), byte(n>>8), byte(n))
	if b, err = s.append(b); err != nil {
		return nil, err
	}
	// The result overlaps its input exactly, as Seal allows.
	b = aead.Seal(b[:at+12], b[at:at+12], b[at+12:], b[:at])
	*buf = b
	sealed := made.add(len(`{"c":"","enc":1,"k":""}`) + base64.StdEncoding.EncodedLen(len(b)-at) + len(d.id))
	text := sealed.text
	text = base64.StdEncoding.AppendEncode(append(text, `{"c":"`...), b[at:])
	text = append(append(text, `","enc":`...), '0'+s.version)
	sealed.text = append(append(append(text, `,"k":"`...), d.id...), `"}`...)
	return sealed, nil
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
	if err := v.unbox(e, token, "details", &e.Details, &e.Withheld.Details, cover); err != nil {
		return err
	}
	return v.unbox(e, token, "metadata", &e.Metadata, &e.Withheld.Metadata, cover)
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

// unbox puts in the place of a box what is in it, or says why it cannot.
func (v *vault) unbox(e *Entry, token, field string, m *map[string]any, withheld *Cover, cover Cover) error {
	boxed, ok := (*m)[sealedKey]
	if !ok {
		return nil
	}
	out := maps.Clone(*m)
	delete(out, sealedKey)
	b, err := parseBox(boxed)
	var inner, metadata map[string]any
	if err == nil && b.version == 2 && field == "metadata" {
		err = errors.New("not a box of this format")
	}
	if err == nil && cover == Shown {
		if inner, metadata, err = v.decrypt(e.ID, token, field, b); err != nil {
			_, cover = v.who(token) // it may have been erased meanwhile
		}
	}
	if err != nil && cover == Shown {
		return v.tampered(e.Index, field+": "+err.Error())
	}
	maps.Copy(out, inner)
	*m, *withheld = out, cover
	if b.version == 2 && field == "details" {
		if e.Metadata != nil {
			return v.tampered(e.Index, "metadata: there is some in the box of details, too")
		}
		if cover != Shown {
			metadata = map[string]any{}
		}
		e.Metadata, e.Withheld.Metadata = metadata, cover
	}
	return nil
}

// decrypt opens a box. In one of version 2 there is metadata, too.
func (v *vault) decrypt(id, token, field string, b sealedBox) (m, metadata map[string]any, err error) {
	v.mu.RLock()
	d := v.byKey[b.key]
	v.mu.RUnlock()
	if d == nil || d.owner.token != token {
		return nil, nil, fmt.Errorf("key %s of subject %s is missing", b.key, token)
	}
	aead, err := d.cipher(v)
	if err != nil {
		return nil, nil, err
	}
	if b.version == 2 {
		field = "entry"
	}
	plain, err := aead.Open(b.sealed[12:12], b.sealed[:12], b.sealed[12:], v.appendAAD(nil, id, field))
	if err != nil {
		return nil, nil, errors.New("does not open under its subject's key: key store or entry was changed")
	}
	plain, rest, two := bytes.Cut(plain, []byte("\n"))
	if two != (b.version == 2) {
		return nil, nil, errors.New("not the content of a box of its version")
	}
	if m, err = parseObject(plain); err == nil && two {
		metadata, err = parseObject(rest)
	}
	return m, metadata, err
}

func parseObject(b []byte) (map[string]any, error) {
	value, err := parseJSON(b)
	if err != nil {
		return nil, err
	}
	m, ok := value.(map[string]any)
	if !ok {
		return nil, errors.New("no object inside")
	}
	return m, nil
}

// sealedBox is a box taken apart: nonce, ciphertext and tag, and which key.
type sealedBox struct {
	version int
	key     string
	sealed  []byte
}

func parseBox(boxed any) (b sealedBox, err error) {
	m, _ := boxed.(map[string]any)
	c, _ := m["c"].(string)
	b.key, _ = m["k"].(string)
	version, _ := m["enc"].(json.Number)
	if len(m) != 3 || version != "1" && version != "2" || b.key == "" {
		return b, errors.New("not a box of this format")
	}
	b.version = int(version[0] - '0')
	b.sealed, err = base64.StdEncoding.Strict().DecodeString(c)
	if err != nil || len(b.sealed) < minBoxBytes {
		return b, errors.New("box is cut short, or not base64")
	}
	return b, nil
}
