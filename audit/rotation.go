package audit

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"

	"github.com/kaizen-go/kaizen/internal/durable"
	"github.com/kaizen-go/kaizen/internal/merkle"
)

const (
	// rotationsName is the file that joins the keys of a ledger, one line for
	// each change.
	rotationsName = "keys.jsonl"
	// actionRotation is the entry, under the old key, that names the new one.
	actionRotation = "ledger.key_rotation"
	// nextKeyExt is appended to the name of a key that is about to be used.
	nextKeyExt = ".next"
)

// rotation is one change of a ledger's key.
type rotation struct {
	from           int64 // entries when the new key took over
	previous, vkey string
	line           string // the stored entry that names the new key
	note           string // the checkpoint of from entries, signed with both keys
}

func (r rotation) encode() []byte {
	b := strconv.AppendInt([]byte(`{"from":`), r.from, 10)
	b = appendString(append(b, `,"previous":`...), r.previous)
	b = appendString(append(b, `,"vkey":`...), r.vkey)
	b = appendString(append(b, `,"entry":`...), r.line)
	b = appendString(append(b, `,"note":`...), r.note)
	return append(b, "}\n"...)
}

// parseRotation reads what encode writes, and checks all that can be without
// the ledger: both signatures, and that the entry names the new key.
func parseRotation(line []byte) (r rotation, err error) {
	v, err := parseJSON(bytes.TrimSuffix(line, []byte("\n")))
	if err != nil {
		return r, err
	}
	obj, _ := v.(map[string]any)
	text := func(name string) string { s, _ := obj[name].(string); return s }
	r = rotation{previous: text("previous"), vkey: text("vkey"), line: text("entry"), note: text("note")}
	r.from, _ = indexOf(obj["from"])
	if !bytes.Equal(r.encode(), line) {
		return r, errors.New("not in canonical form")
	}
	for _, key := range []string{r.previous, r.vkey} {
		if c, err := parseCheckpoint([]byte(r.note), key); err != nil || c.Size != r.from || r.from < 1 {
			return r, fmt.Errorf("the checkpoint of the change is not signed with %s", key)
		}
	}
	if _, sigs, _ := strings.Cut(r.note, "\n\n"); strings.Count(sigs, "\n") != 2 {
		return r, errors.New("the checkpoint of the change has not two signatures")
	}
	e, err := DecodeLine([]byte(r.line))
	if err != nil || e.AgentID != systemAgent || e.Action != actionRotation || e.Details["previous"] != r.previous || e.Details["vkey"] != r.vkey {
		return r, errors.New("the entry is not one that names the new key")
	}
	return r, nil
}

// readRotations returns the changes of the key of the ledger in dir, which end
// with vkey. None if there is no such file.
func readRotations(fsys durable.FS, dir string) (list []rotation, err error) {
	b, err := durable.ReadFile(fsys, filepath.Join(dir, rotationsName), maxAnchorBytes)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	n := 0
	for line := range bytes.Lines(b) {
		n++
		r, err := parseRotation(line)
		if err == nil && len(list) > 0 && (list[len(list)-1].vkey != r.previous || list[len(list)-1].from >= r.from) {
			err = errors.New("does not follow the line before it")
		}
		if err != nil {
			return nil, &TamperError{Path: rotationsName, Index: -1, Reason: fmt.Sprintf("line %d: %v", n, err)}
		}
		list = append(list, r)
	}
	if len(list) == 0 {
		return nil, &TamperError{Path: rotationsName, Index: -1, Reason: "file is empty"}
	}
	return list, nil
}

// keySpan is a key and the largest checkpoint that counts under it.
type keySpan struct {
	vkey  string
	until int64
}

// spansOf are the keys of the ledger in dir whose present one is vkey.
func spansOf(fsys durable.FS, dir, vkey string) ([]keySpan, []rotation, error) {
	list, err := readRotations(fsys, dir)
	if err != nil {
		return nil, nil, err
	}
	spans := []keySpan{{vkey, math.MaxInt64}}
	if len(list) == 0 {
		return spans, nil, nil
	}
	last := list[len(list)-1]
	if last.vkey != vkey && last.previous != vkey { // a change that a crash cut short leaves the old one
		return nil, nil, &TamperError{Path: rotationsName, Index: -1, Reason: "does not end with the key in " + ledgerName, Want: vkey, Got: last.vkey}
	}
	for i := len(list) - 1; i >= 0; i-- {
		spans = append(spans, keySpan{list[i].previous, list[i].from})
	}
	return spans, list, nil
}

// parseSpans is parseCheckpoint under any of a ledger's keys, each as far as it
// counts: what a key signs after it was replaced is worth nothing.
func parseSpans(msg []byte, spans []keySpan, parse func([]byte, string) (Checkpoint, error)) (c Checkpoint, err error) {
	err = errors.New("no key to check it with")
	for _, k := range spans {
		if c, err = parse(msg, k.vkey); err == nil && c.Size <= k.until {
			return c, nil
		}
	}
	if err == nil {
		err = errors.New("signed with a key that had been replaced")
	}
	return c, err
}

// RotateKey gives the closed ledger in dir a new signing key, and returns the
// old and the new public key. The change is an entry under the old key
// (ledger.key_rotation) and a checkpoint that both keys sign, so whoever trusts
// the old key can follow; receipts and proofs under the old key go on to hold.
// The old private key stays beside the new one, as <name>.key.old, until it is
// deleted. An interrupted change is completed or dropped by the next [Open] or
// RotateKey. Errors are those of [Open].
func RotateKey(ctx context.Context, dir string, cfg Config) (previous, vkey string, err error) {
	cfg = cfg.withDefaults()
	if dir, err = filepath.Abs(dir); err == nil {
		previous, vkey, err = rotateKey(ctx, dir, cfg)
	}
	if err != nil {
		return "", "", fmt.Errorf("audit: rotate key of %s: %w", dir, err)
	}
	return previous, vkey, nil
}

func rotateKey(ctx context.Context, dir string, cfg Config) (previous, vkey string, err error) {
	// The entry about the key must be the last one: no sealing in the background,
	// which appends.
	cfg.sealing = false
	l, err := Open(dir, cfg)
	if err != nil {
		return "", "", err
	}
	next, record, err := l.announceKey(ctx)
	if err := errors.Join(err, l.Close()); err != nil {
		return "", "", err
	}
	lock, err := cfg.fsys.Lock(filepath.Join(dir, lockName))
	if err != nil {
		return "", "", err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	_, head, err := identity(cfg.fsys, dir)
	if err != nil {
		return "", "", err
	}
	// Between Close and our lock another process may have had the ledger: it
	// has appended, or dropped the key that keys.jsonl did not name yet.
	if kept, err := loadSigner(cfg.fsys, keyPath(dir, cfg.KeyDir)+nextKeyExt); err != nil || kept.vkey != next.vkey || head.Size != record.from {
		return "", "", errors.Join(errors.New("somebody opened the ledger meanwhile: try again"), err)
	}
	_, sig, _ := strings.Cut(next.checkpoint(head.Size, head.Root).Note, "\n\n")
	record.note = head.Note + sig
	list, err := readRotations(cfg.fsys, dir)
	if err != nil {
		return "", "", err
	}
	var text []byte
	for _, r := range append(list, record) {
		text = append(text, r.encode()...)
	}
	// From here on the change has happened.
	if err := durable.ReplaceFile(cfg.fsys, filepath.Join(dir, rotationsName), text); err != nil {
		return "", "", err
	}
	return record.previous, record.vkey, finishRotation(cfg.fsys, dir, keyPath(dir, cfg.KeyDir))
}

// announceKey makes a key, keeps it beside the present one, and appends the
// entry that names it.
func (l *Ledger) announceKey(ctx context.Context) (*signer, rotation, error) {
	skey, _, err := note.GenerateKey(rand.Reader, l.signer.Load().origin)
	if err != nil {
		return nil, rotation{}, err
	}
	next, err := newSigner(skey)
	if err != nil {
		return nil, rotation{}, err
	}
	if err := durable.ReplaceFile(l.cfg.fsys, keyPath(l.store.dir, l.cfg.KeyDir)+nextKeyExt, []byte(skey+"\n")); err != nil {
		return nil, rotation{}, err
	}
	r := rotation{previous: l.signer.Load().vkey, vkey: next.vkey}
	receipts, err := l.appendRaw(ctx, []Entry{{AgentID: systemAgent, Action: actionRotation, Result: Success, Details: map[string]any{"previous": r.previous, "vkey": r.vkey}}})
	if err != nil {
		return nil, r, err
	}
	p, err := l.Proof(receipts[0].Index)
	r.from, r.line = receipts[0].Index+1, string(p.Line)
	return next, r, err
}

// finishRotation completes a change of the key that the ledger's directory
// knows of, and drops one that it does not. Each step can be repeated.
func finishRotation(fsys durable.FS, dir, keyName string) error {
	next, err := loadSigner(fsys, keyName+nextKeyExt)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	list, err := readRotations(fsys, dir)
	if err != nil {
		return err
	}
	if len(list) == 0 || list[len(list)-1].vkey != next.vkey {
		return removeSynced(fsys, filepath.Dir(keyName), filepath.Base(keyName)+nextKeyExt)
	}
	c, err := parseCheckpoint([]byte(list[len(list)-1].note), next.vkey)
	if err != nil {
		return err
	}
	private, err := durable.ReadFile(fsys, keyName+nextKeyExt, maxSmallFile)
	if err != nil {
		return err
	}
	present, err := durable.ReadFile(fsys, keyName, maxSmallFile)
	if err != nil {
		return err
	}
	type file struct {
		name string
		data []byte
	}
	files := []file{
		{filepath.Join(dir, ledgerName), ledgerJSON(formatVersion, next.origin, next.vkey)},
		{filepath.Join(dir, checkpointName), []byte(next.checkpoint(c.Size, c.Root).Note)},
		// So that it can be read without the old key, which may be deleted.
		{strings.TrimSuffix(keyName, ".key") + memoryExt, []byte(next.checkpoint(c.Size, c.Root).Note)},
	}
	if !bytes.Equal(present, private) { // otherwise it was kept before
		files = append(files, file{keyName + oldKeyExt, present}, file{keyName, private})
	}
	for _, f := range files {
		if err := durable.ReplaceFile(fsys, f.name, f.data); err != nil {
			return err
		}
	}
	return removeSynced(fsys, filepath.Dir(keyName), filepath.Base(keyName)+nextKeyExt)
}

// midRotation reads a checkpoint under the key before the present one: what a
// crash leaves between two steps of a change, at the very size of it.
func midRotation(fsys durable.FS, dir string, b []byte, vkey string) (Checkpoint, bool) {
	list, err := readRotations(fsys, dir)
	if err != nil || len(list) == 0 || list[len(list)-1].vkey != vkey {
		return Checkpoint{}, false
	}
	last := list[len(list)-1]
	c, err := parseOwnCheckpoint(b, last.previous)
	return c, err == nil && c.Size == last.from
}

// announced checks that the entry before a change of the key is the one that
// names the new key.
func (v *verifier) announced(leaf merkle.Hash) error {
	for _, r := range v.rotations {
		if r.from == v.tree.Size() && merkle.HashLeaf([]byte(r.line)) != leaf {
			return &TamperError{Path: rotationsName, Index: r.from - 1, Reason: "the entry that names the new key is not in the ledger"}
		}
	}
	return nil
}

// trusted reports whether the auditor's key is one of the ledger's.
func trusted(key string, spans []keySpan) bool {
	for _, k := range spans {
		if k.vkey == key {
			return true
		}
	}
	return false
}

// KeyRange is a public key of a ledger, and the checkpoints that count under it.
type KeyRange struct {
	// Key is the verifier key.
	Key string
	// From is how many entries there were when it took over: entry From-1 is the
	// ledger.key_rotation that names it, under the key before. 0 for the first.
	From int64
	// Until is the largest checkpoint that counts under it: the one at which the
	// next key took over, -1 for the present key.
	Until int64
}

// KeyRanges are the keys that the ledger has had, the oldest first and the
// present one last.
func (l *Ledger) KeyRanges() ([]KeyRange, error) { return l.store.keyRanges() }

// KeyRanges is [Ledger.KeyRanges].
func (r *Reader) KeyRanges() ([]KeyRange, error) { return r.store.keyRanges() }

func (s *store) keyRanges() ([]KeyRange, error) {
	spans, err := s.spans()
	if err != nil {
		return nil, fmt.Errorf("audit: keys of %s: %w", s.dir, err)
	}
	var out []KeyRange
	var from int64
	for i := len(spans) - 1; i >= 0; i-- {
		out = append(out, KeyRange{spans[i].vkey, from, spans[i].until})
		from = spans[i].until
	}
	out[len(out)-1].Until = -1
	return out, nil
}

// VerifierKeys are the public keys of the ledger, the present one first: those
// before it check older receipts and proofs.
func (l *Ledger) VerifierKeys() ([]string, error) { return l.store.verifierKeys() }

// VerifierKeys is [Ledger.VerifierKeys].
func (r *Reader) VerifierKeys() ([]string, error) { return r.store.verifierKeys() }

func (s *store) verifierKeys() ([]string, error) {
	spans, err := s.spans()
	if err != nil {
		return nil, fmt.Errorf("audit: keys of %s: %w", s.dir, err)
	}
	var keys []string
	for _, k := range spans {
		keys = append(keys, k.vkey)
	}
	return keys, nil
}

// spans are the keys that this ledger's checkpoints may be signed with.
func (s *store) spans() ([]keySpan, error) {
	spans, _, err := spansOf(s.fsys, s.dir, s.vkey())
	return spans, err
}
