package audit

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/kaizen-go/kaizen/internal/durable"
)

// historyName is the file of checkpoints that were published, one a line, some
// with cosignatures. Each line has the hash of the one before.
const historyName = "checkpoints.jsonl"

// historyEvery is how often a published checkpoint goes into the history when
// nothing else asks for it: half a million lines, 200 MB, in a year of writing
// without a pause.
const historyEvery = time.Minute

// history appends to the file of published checkpoints. A failed write or sync
// ends it until the ledger is opened again; the ledger goes on without.
type history struct {
	mu   sync.Mutex   // guards what follows
	file durable.File // nil while it is owed: what is added then is passed over
	end  int64
	prev [32]byte // hash of the last line
	last string   // its note
	at   time.Time
	err  error
}

// historyLine is the line of note after the line with hash prev.
func historyLine(prev [32]byte, note string) []byte {
	b := append([]byte(nil), `{"prev":"`...)
	b = base64.StdEncoding.AppendEncode(b, prev[:])
	b = appendString(append(b, `","note":`...), note)
	return append(b, "}\n"...)
}

// parseHistoryLine reads what historyLine wrote, and nothing else.
func parseHistoryLine(line []byte) (prev [32]byte, note string, err error) {
	v, err := parseJSON(bytes.TrimSuffix(line, []byte("\n")))
	if err != nil {
		return prev, "", err
	}
	obj, _ := v.(map[string]any)
	note, _ = obj["note"].(string)
	text, _ := obj["prev"].(string)
	raw, err := base64.StdEncoding.DecodeString(text)
	if err != nil || len(raw) != len(prev) {
		return prev, "", errors.New("line without the hash of the one before")
	}
	prev = [32]byte(raw)
	if !bytes.Equal(historyLine(prev, note), line) {
		return prev, "", errors.New("line is not in canonical form")
	}
	return prev, note, nil
}

// maxHistoryLine bounds a line: a checkpoint with a hundred cosignatures.
const maxHistoryLine = 64 << 10

// historyWindow is how much of the end of the history is checked at opening:
// some hundred lines. [Verify] checks all of it.
const historyWindow = 2 * maxHistoryLine

// beginHistory makes a history whose first checkpoint is note. A ledger of this
// version has one from its first moment, so that its absence shows.
func beginHistory(fsys durable.FS, dir, note string) error {
	return durable.ReplaceFile(fsys, filepath.Join(dir, historyName), historyLine([32]byte{}, note))
}

// lostHistory is what is wrong with a ledger of size entries whose history has
// so many bytes, or -1 if there is none. A ledger without entries may have an
// empty one while it is open: that is how it began once.
func lostHistory(bytes, size int64) error {
	switch {
	case bytes < 0:
		return &TamperError{Path: historyName, Index: -1, Reason: "file is missing"}
	case bytes == 0 && size > 0:
		return &TamperError{Path: historyName, Index: -1, Reason: "file is empty: what was published is not there"}
	}
	return nil
}

// historySize is how long the history is, -1 if there is none.
func historySize(fsys durable.FS, dir string) (int64, error) {
	info, err := stat(fsys, filepath.Join(dir, historyName))
	if errors.Is(err, fs.ErrNotExist) {
		return -1, nil
	}
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

// openHistory opens the file of the ledger in dir, which must be there, and
// cuts off a line that a crash left half-written.
func openHistory(fsys durable.FS, dir string, spans []keySpan, crashed bool) (*history, error) {
	h := &history{}
	return h, h.open(fsys, dir, spans, crashed)
}

func (h *history) open(fsys durable.FS, dir string, spans []keySpan, crashed bool) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	f, err := fsys.OpenFile(filepath.Join(dir, historyName), os.O_RDWR, 0)
	if err != nil {
		return err
	}
	h.file = f
	if err = h.findEnd(spans, crashed); err == nil {
		err = fsys.SyncDir(dir)
	}
	if err != nil {
		h.file = nil
		return errors.Join(err, f.Close())
	}
	return nil
}

// owed reports whether there is no file yet.
func (h *history) owed() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.file == nil
}

// mark is how far the history has come: where its last line ends, and the hash
// of that. Entries about sealed segments carry it, under the signature.
func (h *history) mark() map[string]any {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.end == 0 {
		return nil
	}
	return map[string]any{"bytes": h.end, "sha256": hex.EncodeToString(h.prev[:])}
}

// firstSize is the size of the history's first checkpoint, -1 if it has none.
func (h *history) firstSize(spans []keySpan) (int64, error) {
	b := make([]byte, min(h.end, maxHistoryLine))
	if _, err := h.file.ReadAt(b, 0); err != nil && !errors.Is(err, io.EOF) {
		return 0, err
	}
	line := b[:bytes.IndexByte(b, '\n')+1]
	if len(line) == 0 {
		return -1, nil
	}
	_, note, err := parseHistoryLine(line)
	if err != nil {
		return 0, &TamperError{Path: historyName, Index: -1, Reason: err.Error()}
	}
	c, err := parseHistoryNote(note, spans)
	return c.Size, err
}

// findEnd checks the last lines.
func (h *history) findEnd(spans []keySpan, crashed bool) error {
	info, err := h.file.Stat()
	if err != nil {
		return err
	}
	from := max(0, info.Size()-historyWindow)
	b := make([]byte, info.Size()-from)
	if _, err := h.file.ReadAt(b, from); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	whole := wholeLines(b)
	if h.end = from + int64(len(whole)); h.end < info.Size() {
		if !crashed {
			return &TamperError{Path: historyName, Index: -1, Reason: "last line is cut off"}
		}
		if err := h.file.Truncate(h.end); err != nil {
			return err
		}
	}
	joined := from == 0 // whether prev is known
	if !joined {
		whole = whole[bytes.IndexByte(whole, '\n')+1:]
	}
	for line := range bytes.Lines(whole) {
		prev, note, err := parseHistoryLine(line)
		if err == nil && joined && prev != h.prev {
			err = errors.New("a line does not follow the one before it")
		}
		if err == nil {
			_, err = parseHistoryNote(note, spans)
		}
		if err != nil {
			return &TamperError{Path: historyName, Index: -1, Reason: err.Error()}
		}
		joined, h.prev, h.last = true, sha256.Sum256(line), note
	}
	return nil
}

// wholeLines is b without a last line that a crash left half-written: its end
// may be missing, and any sector of it may read as zeros, which no line has.
func wholeLines(b []byte) []byte {
	b = b[:bytes.LastIndexByte(b, '\n')+1]
	last := bytes.LastIndexByte(b[:max(0, len(b)-1)], '\n') + 1
	if bytes.IndexByte(b[last:], 0) >= 0 {
		return b[:last]
	}
	return b
}

// add appends note, unless it is there already, or one came shortly before and
// this one is not asked for.
func (h *history) add(note string, wanted bool, now time.Time) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.file == nil || h.err != nil || note == h.last || !wanted && now.Sub(h.at) < historyEvery {
		return h.err
	}
	line := historyLine(h.prev, note)
	_, err := h.file.WriteAt(line, h.end)
	if durable.IsNoSpace(err) && errors.Join(h.file.Truncate(h.end), h.file.Sync()) == nil {
		return fmt.Errorf("write %s: %w: %w", historyName, ErrNoSpace, err) // the next attempt may do better
	}
	if err == nil {
		err = h.file.Sync()
	}
	if err != nil {
		h.err = fmt.Errorf("write %s: %w", historyName, err)
		return h.err
	}
	h.end, h.prev, h.last, h.at = h.end+int64(len(line)), sha256.Sum256(line), note, now
	return nil
}

func (h *history) close() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.file == nil {
		return nil
	}
	return h.file.Close()
}

// past is the content of a history.
type past struct {
	list   []Checkpoint       // oldest first
	marks  map[int64][32]byte // where lines end, and their hashes
	torn   bool               // the last line is half-written, and passed over
	absent bool               // there is no such file
	bytes  int64              // of the file; -1 if absent
}

// historyOf reads all checkpoints in the history of the ledger in dir, checked
// by their signatures and by the hashes that join the lines.
func historyOf(fsys durable.FS, dir string, spans []keySpan) (p past, err error) {
	b, err := durable.ReadFile(fsys, filepath.Join(dir, historyName), maxAnchorBytes)
	if errors.Is(err, fs.ErrNotExist) {
		return past{absent: true, bytes: -1}, nil
	}
	if err != nil {
		return p, err
	}
	p.bytes = int64(len(b))
	p.marks = map[int64][32]byte{}
	var prev [32]byte
	n, end := 0, int64(0)
	whole := wholeLines(b)
	p.torn = len(whole) < len(b)
	for line := range bytes.Lines(whole) {
		n++
		bad := func(reason string) error {
			return &TamperError{Path: historyName, Index: -1, Reason: fmt.Sprintf("line %d: %s", n, reason)}
		}
		before, note, err := parseHistoryLine(line)
		if err != nil {
			return p, bad(err.Error())
		}
		if before != prev {
			return p, bad("does not follow the line before it: lines were removed, added or swapped")
		}
		c, err := parseHistoryNote(note, spans)
		if err != nil {
			if len(spans) == 1 && followed(whole[end:], line) {
				// The line is as it was written, by a ledger of this name.
				return p, &TamperError{Path: rotationsName, Index: -1, Reason: fmt.Sprintf("file is missing: line %d of %s is signed with another key", n, historyName)}
			}
			return p, bad(err.Error())
		}
		if len(p.list) > 0 && c.Size < p.list[len(p.list)-1].Size {
			return p, bad("checkpoint is smaller than the one before it")
		}
		p.list, prev, end = append(p.list, c), sha256.Sum256(line), end+int64(len(line))
		p.marks[end] = prev
	}
	return p, nil
}

// followed reports whether the line after the first of b, which is line, has
// its hash.
func followed(b, line []byte) bool {
	next := b[len(line):]
	prev, _, err := parseHistoryLine(next[:bytes.IndexByte(next, '\n')+1])
	return err == nil && prev == sha256.Sum256(line)
}

// parseHistoryNote reads a checkpoint with or without cosignatures. Without,
// every byte of it is checked.
func parseHistoryNote(note string, spans []keySpan) (c Checkpoint, err error) {
	if _, signatures, _ := strings.Cut(note, "\n\n"); strings.Count(signatures, "\n") > 1 {
		return parseSpans([]byte(note), spans, parseCheckpoint)
	}
	return parseSpans([]byte(note), spans, parseOwnCheckpoint)
}
