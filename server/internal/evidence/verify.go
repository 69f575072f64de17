package evidence

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/kaizen-go/kaizen/audit"
)

// VerifyConfig says what the auditor knows beforehand.
type VerifyConfig struct {
	// Key is the trusted public key. If empty, the one that the pack names, which
	// shows damage but not a pack that was made up together with its key.
	Key string
	// Checkpoints are signed checkpoints that somebody kept. Those that the pack
	// has a proof for are compared; of the others the report counts how many.
	Checkpoints []audit.Remembered
	// Progress, if not nil, is called now and then with the number of entries
	// checked and how many there are.
	Progress func(done, total int64)
}

// Report describes an intact pack.
type Report struct {
	Summary
	// Origin and Key are the ledger's name and the key that signed.
	Origin, Key string
	// Checkpoint is what every proof leads to.
	Checkpoint audit.Checkpoint
	// Complete says that the pack has every entry of the ledger.
	Complete bool
	// Uncompared is the number of checkpoints that the pack has no proof for.
	Uncompared int
}

const (
	maxManifest = 16 << 20
	maxSmall    = 16 << 20 // report, keys and the like
	maxLine     = 2 * (audit.MaxLineBytes + 64)
	maxPlain    = 16 << 20 // a line in plain text, whose text may be escaped more
)

// Verify checks a pack. Errors are a [*audit.TamperError], which names the file,
// the entry and what differs; [ErrNotPack]; or that of reading.
func Verify(ctx context.Context, pack fs.FS, cfg VerifyConfig) (Report, error) {
	v := &verifier{ctx: ctx, fsys: pack, cfg: cfg, own: map[int64]bool{}}
	if err := v.run(); err != nil {
		return Report{}, err
	}
	t := v.tally
	return Report{
		Summary: Summary{t.entries, t.own, t.first, t.last, v.m.Size, len(v.m.Files) + 1, v.earlier},
		Origin:  v.m.Origin, Key: v.keys[0], Checkpoint: v.head, Complete: t.entries+t.own == v.m.Size, Uncompared: v.uncompared,
	}, nil
}

type verifier struct {
	ctx  context.Context
	fsys fs.FS
	cfg  VerifyConfig

	m          *manifest
	own        map[int64]bool
	keys       []string // the present one first
	head       audit.Checkpoint
	tally      *tally
	rotations  map[int64]string // stored lines of changes of the key, by index
	earlier    int
	uncompared int
}

func tampered(name string, index int64, reason string) error {
	return &audit.TamperError{Path: name, Index: index, Reason: reason}
}

func differs(name string, index int64, reason, want, got string) error {
	return &audit.TamperError{Path: name, Index: index, Reason: reason, Want: want, Got: got}
}

func (v *verifier) run() error {
	for _, step := range []func() error{v.readManifest, v.files, v.readKeys, v.readHead, v.readEarlier, v.entries, v.derived} {
		if err := step(); err != nil {
			return err
		}
		if err := context.Cause(v.ctx); err != nil {
			return err
		}
	}
	return nil
}

// small reads a whole file.
func (v *verifier) small(name string, most int64) (b []byte, err error) {
	f, err := v.fsys.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if b, err = io.ReadAll(io.LimitReader(f, most+1)); err == nil && int64(len(b)) > most {
		err = tampered(name, -1, fmt.Sprintf("is larger than %d bytes", most))
	}
	return b, err
}

func (v *verifier) readManifest() error {
	b, err := v.small(manifestName, maxManifest)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: no %s", ErrNotPack, manifestName)
	}
	if err != nil {
		return err
	}
	m := &manifest{}
	if err := json.Unmarshal(b, m); err != nil {
		return tampered(manifestName, -1, "is not the JSON of a manifest: "+err.Error())
	}
	if m.Format != formatName {
		return fmt.Errorf("%w: %s is of another format", ErrNotPack, manifestName)
	}
	if m.Version != formatVersion {
		return fmt.Errorf("evidence: version %d of the format is not known here", m.Version)
	}
	if again, err := m.encode(); err != nil || !bytes.Equal(again, b) {
		return tampered(manifestName, -1, "is not in its one form")
	}
	for _, i := range m.Own {
		v.own[i] = true
	}
	if m.Rows < 0 || m.Rows > 1_000_000 {
		return tampered(manifestName, -1, "asks for a report of "+strconv.Itoa(m.Rows)+" rows")
	}
	v.m, v.tally = m, newTally(m.Rows)
	return nil
}

// allowed reports whether a pack may have a file of that name.
func allowed(name string) bool {
	switch name {
	case readmeName, reportName, entriesName, readableName, proofName, checkpointName, keysName, rotationsName:
		return true
	}
	base, inEarlier := strings.CutPrefix(name, earlierDir)
	size, isNote := strings.CutSuffix(base, ".checkpoint")
	if !isNote {
		size, isNote = strings.CutSuffix(base, ".tlog-consistency")
	}
	_, err := number(size)
	return inEarlier && isNote && err == nil
}

// files compares the files with the manifest, both ways.
func (v *verifier) files() error {
	listed := map[string]bool{manifestName: true}
	for _, f := range v.m.Files {
		if !allowed(f.Name) || listed[f.Name] {
			return tampered(manifestName, -1, "names a file that a pack does not have: "+f.Name)
		}
		listed[f.Name] = true
	}
	for _, name := range []string{readmeName, reportName, entriesName, proofName, checkpointName, keysName} {
		if !listed[name] {
			return tampered(manifestName, -1, "does not name "+name)
		}
	}
	err := fs.WalkDir(v.fsys, ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir():
			if name != "." && name != path.Clean(earlierDir) {
				return tampered(name, -1, "does not belong in a pack")
			}
			return nil
		case !d.Type().IsRegular() || !listed[name]:
			return tampered(name, -1, "is not named by the manifest")
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, f := range v.m.Files {
		if err := v.digest(f); err != nil {
			return err
		}
	}
	return nil
}

// digest compares one file. For the entries, a difference is looked for later:
// the proof tells which one it is.
func (v *verifier) digest(want file) (err error) {
	f, err := v.fsys.Open(want.Name)
	if errors.Is(err, fs.ErrNotExist) {
		return tampered(want.Name, -1, "is missing")
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	sum := sha256.New()
	n, err := io.Copy(sum, io.LimitReader(f, want.Bytes+1))
	if err != nil {
		return unreadable(want.Name, err)
	}
	got := hex.EncodeToString(sum.Sum(nil))
	if n == want.Bytes && got == want.SHA256 {
		return nil
	}
	if want.Name == entriesName || want.Name == proofName {
		if err := v.namedEntry(); err != nil {
			return err
		}
	}
	return differs(want.Name, -1, "is not the file that the manifest names", want.SHA256, got)
}

// unreadable tells damage of the zip file from an error of reading.
func unreadable(name string, err error) error {
	if _, ok := errors.AsType[*fs.PathError](err); ok {
		return err
	}
	return tampered(name, -1, "cannot be unpacked: "+err.Error())
}

// namedEntry looks for the entry that makes entries and proof differ.
func (v *verifier) namedEntry() error {
	var t *audit.TamperError
	w := *v
	w.tally = newTally(0)
	if err := w.walk(nil); errors.As(err, &t) && t.Index >= 0 {
		return t
	}
	return nil
}

// readKeys reads the keys and how they follow each other.
func (v *verifier) readKeys() error {
	b, err := v.small(keysName, maxSmall)
	if err != nil {
		return err
	}
	v.keys = strings.Split(strings.TrimSuffix(string(b), "\n"), "\n")
	if v.keys[0] != v.m.Key {
		return differs(keysName, -1, "first key is not that of the manifest", v.m.Key, v.keys[0])
	}
	chain, lines, err := v.readRotations()
	if err != nil {
		return err
	}
	if !slices.Equal(chain, v.keys) {
		return differs(keysName, -1, "keys are not those of "+rotationsName, strings.Join(chain, " "), strings.Join(v.keys, " "))
	}
	v.rotations = lines
	if v.cfg.Key != "" && !slices.Contains(v.keys, v.cfg.Key) {
		return differs(keysName, -1, "signed with another key than the trusted one", v.cfg.Key, v.m.Key)
	}
	return nil
}

// rotation is a line of keys.jsonl.
type rotation struct {
	From     int64  `json:"from"`
	Previous string `json:"previous"`
	VKey     string `json:"vkey"`
	Entry    string `json:"entry"`
	Note     string `json:"note"`
}

// readRotations follows the changes of the key: each is a checkpoint that both
// keys signed. It returns the keys, newest first, and the entries that say so.
func (v *verifier) readRotations() (keys []string, lines map[int64]string, err error) {
	b, err := v.small(rotationsName, maxSmall)
	if errors.Is(err, fs.ErrNotExist) {
		return []string{v.m.Key}, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	lines = map[int64]string{}
	for n, text := range strings.Split(strings.TrimSuffix(string(b), "\n"), "\n") {
		var r rotation
		if err := json.Unmarshal([]byte(text), &r); err != nil {
			return nil, nil, tampered(rotationsName, -1, fmt.Sprintf("line %d: %v", n+1, err))
		}
		if n == 0 {
			keys = []string{r.Previous}
		}
		if r.Previous != keys[0] {
			return nil, nil, differs(rotationsName, -1, fmt.Sprintf("line %d does not follow", n+1), keys[0], r.Previous)
		}
		for _, key := range []string{r.Previous, r.VKey} {
			c, err := audit.ParseCheckpoint([]byte(r.Note), key)
			if err != nil {
				return nil, nil, tampered(rotationsName, -1, fmt.Sprintf("line %d: %v", n+1, err))
			}
			if c.Size != r.From {
				return nil, nil, differs(rotationsName, -1, fmt.Sprintf("line %d: checkpoint of another size", n+1), strconv.FormatInt(r.From, 10), strconv.FormatInt(c.Size, 10))
			}
		}
		lines[r.From-1] = r.Entry
		keys = append([]string{r.VKey}, keys...)
	}
	return keys, lines, nil
}

func (v *verifier) readHead() error {
	b, err := v.small(checkpointName, maxSmall)
	if err != nil {
		return err
	}
	if v.head, err = audit.ParseCheckpoint(b, v.keys[0]); err != nil {
		return tampered(checkpointName, -1, err.Error())
	}
	if origin, _, _ := strings.Cut(string(b), "\n"); origin != v.m.Origin {
		return differs(manifestName, -1, "names another ledger than the checkpoint", origin, v.m.Origin)
	}
	if root := hex.EncodeToString(v.head.Root[:]); root != v.m.Root || v.head.Size != v.m.Size {
		return differs(manifestName, -1, "size or root is not that of the checkpoint",
			fmt.Sprintf("%d %s", v.head.Size, root), fmt.Sprintf("%d %s", v.m.Size, v.m.Root))
	}
	return nil
}

// readEarlier checks older checkpoints, of the pack and of the auditor.
func (v *verifier) readEarlier() error {
	roots := map[int64][32]byte{v.head.Size: v.head.Root}
	for _, f := range v.m.Files {
		size, ok := strings.CutSuffix(strings.TrimPrefix(f.Name, earlierDir), ".checkpoint")
		if !strings.HasPrefix(f.Name, earlierDir) {
			continue
		}
		if !ok {
			size = strings.TrimSuffix(strings.TrimPrefix(f.Name, earlierDir), ".tlog-consistency")
		}
		c, err := v.oneEarlier(earlierDir + size)
		if err != nil {
			return err
		}
		if !ok {
			continue // checked with its checkpoint
		}
		if strconv.FormatInt(c.Size, 10) != size {
			return differs(f.Name, -1, "is of another size", size, strconv.FormatInt(c.Size, 10))
		}
		roots[c.Size] = c.Root
		v.earlier++
	}
	for _, k := range v.cfg.Checkpoints {
		c, err := audit.ParseCheckpoint([]byte(k.Note), v.keys...)
		if err != nil {
			return tampered(k.Source, -1, err.Error())
		}
		root, known := roots[c.Size]
		switch {
		case c.Size > v.head.Size:
			// The pack may have been made before: that is no rollback.
			v.uncompared++
		case !known:
			v.uncompared++
		case root != c.Root:
			return differs(k.Source, -1, fmt.Sprintf("fork: the pack's ledger has another root of %d entries", c.Size),
				hex.EncodeToString(c.Root[:]), hex.EncodeToString(root[:]))
		}
	}
	return nil
}

func (v *verifier) oneEarlier(base string) (c audit.Checkpoint, err error) {
	note, err := v.small(base+".checkpoint", maxSmall)
	if errors.Is(err, fs.ErrNotExist) {
		return c, tampered(base+".checkpoint", -1, "is missing")
	}
	if err != nil {
		return c, err
	}
	if c, err = audit.ParseCheckpoint(note, v.keys...); err != nil {
		return c, tampered(base+".checkpoint", -1, err.Error())
	}
	text, err := v.small(base+".tlog-consistency", maxSmall)
	if errors.Is(err, fs.ErrNotExist) {
		return c, tampered(base+".tlog-consistency", -1, "is missing")
	}
	if err != nil {
		return c, err
	}
	p, err := audit.ParseConsistencyProof(text)
	if err != nil {
		return c, tampered(base+".tlog-consistency", -1, err.Error())
	}
	from, to, err := p.Check(v.keys...)
	if err != nil {
		return c, tampered(base+".tlog-consistency", -1, err.Error())
	}
	if from.Size != c.Size || from.Root != c.Root || to.Size != v.head.Size || to.Root != v.head.Root {
		return c, tampered(base+".tlog-consistency", -1, "joins other checkpoints than those of the pack")
	}
	return c, nil
}
