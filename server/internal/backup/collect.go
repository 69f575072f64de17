package backup

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Tree returns the files of dir, which may be absent, as parts below prefix, with
// the size that each has now; they are open, so removing them does no harm. Files
// that only grow, as those of the write-ahead log do, are whole up to there.
func Tree(dir, prefix string) (parts []Part, err error) {
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("backup: %s: %w", prefix, err), Close(parts))
			parts = nil
		}
	}()
	err = filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // nothing there, or removed just now
		}
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		rel, err := filepath.Rel(dir, name)
		if err != nil {
			return err
		}
		p, err := openPart(name, path.Join(prefix, filepath.ToSlash(rel)), -1)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err == nil {
			parts = append(parts, p)
		}
		return err
	})
	return parts, err
}

// openPart opens a file as a part of size bytes; below zero, of all it has.
func openPart(name, as string, size int64) (Part, error) {
	f, err := os.Open(name)
	if err != nil {
		return Part{}, err
	}
	info, err := f.Stat()
	if err == nil && info.Size() < size {
		err = fmt.Errorf("has %d bytes, want %d", info.Size(), size)
	}
	if err != nil {
		return Part{}, errors.Join(fmt.Errorf("%s: %w", as, err), f.Close())
	}
	if size < 0 {
		size = info.Size()
	}
	return Part{as, size, f}, nil
}

func textPart(as string, b []byte) Part {
	return Part{as, int64(len(b)), io.NopCloser(bytes.NewReader(b))}
}

// LedgerFolder is where the ledger is in an archive.
const LedgerFolder = "audit"

// tries is how often a ledger is looked at that seals segments meanwhile.
const tries = 10

// errMoved means that the ledger changed its files while they were listed.
var errMoved = errors.New("segments were sealed meanwhile")

// Ledger returns the files of the ledger in dir as they were when its newest
// checkpoint was published, also while it is written to: the copy verifies as a
// ledger that was closed then. flush publishes a checkpoint of everything that
// was acknowledged; it may be nil for a ledger that nobody has open.
func Ledger(dir string, flush func() error) ([]Part, *LedgerInfo, error) {
	if flush == nil {
		flush = func() error { return nil }
	}
	var err error
	for range tries {
		c := collector{dir: dir}
		if err = c.collect(flush); err == nil {
			return c.parts, &c.info, nil
		}
		err = errors.Join(err, Close(c.parts))
		if !errors.Is(err, errMoved) {
			break
		}
	}
	return nil, nil, fmt.Errorf("backup: ledger %s: %w", dir, err)
}

// collector looks at a ledger once. docs/ledger-format.md describes the files.
type collector struct {
	dir   string
	parts []Part
	info  LedgerInfo

	segments []byte         // segments.json
	sealed   map[int64]bool // bases; true for pruned ones
}

func (c *collector) read(name string) ([]byte, error) {
	b, err := os.ReadFile(filepath.Join(c.dir, name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return b, err
}

// collect reads what is published before the checkpoint first: what the
// checkpoint covers is then never less than what the others say.
func (c *collector) collect(flush func() error) error {
	files := map[string][]byte{}
	for _, name := range []string{"ledger.json", "keys.jsonl", "segments.json", "checkpoints.jsonl"} {
		b, err := c.read(name)
		if err != nil {
			return err
		}
		files[name] = b
	}
	c.segments = files["segments.json"]
	if err := c.readSealed(); err != nil {
		return err
	}
	if err := flush(); err != nil {
		return err
	}
	note, err := os.ReadFile(filepath.Join(c.dir, "checkpoint"))
	if err != nil {
		return err
	}
	if err := c.readCheckpoint(string(note)); err != nil {
		return err
	}
	if files["checkpoints.jsonl"] != nil {
		files["checkpoints.jsonl"] = withNote(files["checkpoints.jsonl"], string(note))
	}
	if err := c.openSegments(); err != nil {
		return err
	}
	for _, name := range []string{"ledger.json", "keys.jsonl", "segments.json", "checkpoints.jsonl"} {
		if files[name] != nil {
			c.parts = append(c.parts, textPart(path.Join(LedgerFolder, name), files[name]))
		}
	}
	c.parts = append(c.parts, textPart(path.Join(LedgerFolder, "checkpoint"), note))
	again, err := c.read("segments.json")
	if err == nil && !bytes.Equal(again, c.segments) {
		err = errMoved
	}
	return err
}

// readSealed learns which segments are sealed.
func (c *collector) readSealed() error {
	c.sealed = map[int64]bool{}
	for line := range bytes.Lines(c.segments) {
		var s struct {
			Base     *int64 `json:"base"`
			PrunedAt *int64 `json:"pruned"`
		}
		if err := json.Unmarshal(line, &s); err != nil {
			return fmt.Errorf("segments.json: %w", err)
		}
		if s.Base != nil {
			c.sealed[*s.Base] = s.PrunedAt != nil && *s.PrunedAt >= 0
		}
	}
	return nil
}

func (c *collector) readCheckpoint(note string) error {
	lines := strings.SplitN(note, "\n", 4)
	if len(lines) < 4 {
		return errors.New("checkpoint: no checkpoint")
	}
	size, err := strconv.ParseInt(lines[1], 10, 64)
	if err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	c.info = LedgerInfo{Origin: lines[0], Size: size, Root: lines[2], Checkpoint: note}
	return nil
}

// withNote is the history with note as its newest checkpoint, as closing the
// ledger leaves it. A half-written last line goes.
func withNote(history []byte, note string) []byte {
	history = slices.Clone(history[:bytes.LastIndexByte(history, '\n')+1])
	var prev [32]byte
	for line := range bytes.Lines(history) {
		prev = sha256.Sum256(line)
		var h struct{ Note string }
		if json.Unmarshal(line, &h) == nil && h.Note == note && bytes.HasSuffix(history, line) {
			return history
		}
	}
	var text bytes.Buffer
	e := json.NewEncoder(&text)
	e.SetEscapeHTML(false)
	_ = e.Encode(note) // a text: it cannot fail
	return append(history, `{"prev":"`+base64.StdEncoding.EncodeToString(prev[:])+`","note":`+strings.TrimSuffix(text.String(), "\n")+"}\n"...)
}

// openSegments opens the files of the sealed segments, and of the others as much
// as the checkpoint covers.
func (c *collector) openSegments() error {
	entries, err := os.ReadDir(filepath.Join(c.dir, "seg"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	var raw []int64
	for _, e := range entries {
		stem, ext, _ := strings.Cut(e.Name(), ".")
		base, err := strconv.ParseInt(stem, 10, 64)
		if err != nil {
			return fmt.Errorf("seg/%s: does not belong in a ledger", e.Name())
		}
		pruned, sealed := c.sealed[base]
		switch {
		case !sealed && ext == "jsonl":
			raw = append(raw, base)
		case sealed && (ext == "nodes" || ext == "l0" || !pruned && (ext == "jsonl.zst" || ext == "idx")):
			if err := c.add(e.Name(), -1); err != nil {
				return err
			}
		}
	}
	slices.Sort(raw)
	for i, base := range raw {
		end := c.info.Size
		if i+1 < len(raw) {
			end = min(end, raw[i+1])
		}
		if end < base || end == base && base > 0 {
			continue // begun after the checkpoint
		}
		if err := c.addRaw(base, end-base); err != nil {
			return err
		}
	}
	return nil
}

func (c *collector) add(name string, size int64) error {
	p, err := openPart(filepath.Join(c.dir, "seg", name), path.Join(LedgerFolder, "seg", name), size)
	if errors.Is(err, fs.ErrNotExist) {
		return errMoved
	}
	if err == nil {
		c.parts = append(c.parts, p)
	}
	return err
}

// hashBytes is the size of one entry's hash in the file of hashes.
const hashBytes = 32

// addRaw adds the first n entries of a segment of lines.
func (c *collector) addRaw(base, n int64) error {
	stem := fmt.Sprintf("%020d", base)
	size, err := linesLength(filepath.Join(c.dir, "seg", stem+".jsonl"), n)
	if errors.Is(err, fs.ErrNotExist) {
		return errMoved
	}
	if err != nil {
		return err
	}
	if err := c.add(stem+".jsonl", size); err != nil {
		return err
	}
	return c.add(stem+".l0", n*hashBytes)
}

// linesLength is the length of the first n lines of a file.
func linesLength(name string, n int64) (size int64, err error) {
	f, err := os.Open(name)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	buf := make([]byte, 256<<10)
	for n > 0 {
		got, err := f.Read(buf)
		b := buf[:got]
		for len(b) > 0 && n > 0 {
			at := bytes.IndexByte(b, '\n')
			if at < 0 {
				size += int64(len(b))
				break
			}
			size += int64(at) + 1
			b = b[at+1:]
			n--
		}
		if n > 0 && err != nil {
			return 0, fmt.Errorf("%s: %d lines are missing that the checkpoint covers: %w", filepath.Base(name), n, err)
		}
	}
	return size, nil
}
