package audit

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
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
	mu   sync.Mutex // guards what follows
	file durable.File
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

// openHistory opens the file of the ledger in dir, creating it if absent, and
// cuts off a line that a crash left half-written.
func openHistory(fsys durable.FS, dir string, spans []keySpan, crashed bool) (h *history, err error) {
	name := filepath.Join(dir, historyName)
	f, err := fsys.OpenFile(name, os.O_RDWR|os.O_CREATE, durable.FilePerm)
	if err != nil {
		return nil, err
	}
	h = &history{file: f}
	if err := h.findEnd(spans, crashed); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return h, fsys.SyncDir(dir)
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
	whole := b[:bytes.LastIndexByte(b, '\n')+1]
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

// add appends note, unless it is there already, or one came shortly before and
// this one is not asked for.
func (h *history) add(note string, wanted bool, now time.Time) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.err != nil || note == h.last || !wanted && now.Sub(h.at) < historyEvery {
		return h.err
	}
	line := historyLine(h.prev, note)
	_, err := h.file.WriteAt(line, h.end)
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
	return h.file.Close()
}

// historyOf reads all checkpoints in the history of the ledger in dir, oldest
// first, checked by their signatures and by the hashes that join the lines. A
// half-written last line is passed over, and torn then says so. Absent says
// that there is no such file.
func historyOf(fsys durable.FS, dir string, spans []keySpan) (list []Checkpoint, torn, absent bool, err error) {
	b, err := durable.ReadFile(fsys, filepath.Join(dir, historyName), maxAnchorBytes)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, false, true, nil
	}
	if err != nil {
		return nil, false, false, err
	}
	var prev [32]byte
	n := 0
	for line := range bytes.Lines(b) {
		n++
		if line[len(line)-1] != '\n' {
			return list, true, false, nil
		}
		bad := func(reason string) error {
			return &TamperError{Path: historyName, Index: -1, Reason: fmt.Sprintf("line %d: %s", n, reason)}
		}
		before, note, err := parseHistoryLine(line)
		if err != nil {
			return nil, false, false, bad(err.Error())
		}
		if before != prev {
			return nil, false, false, bad("does not follow the line before it: lines were removed, added or swapped")
		}
		c, err := parseHistoryNote(note, spans)
		if err != nil {
			return nil, false, false, bad(err.Error())
		}
		if len(list) > 0 && c.Size < list[len(list)-1].Size {
			return nil, false, false, bad("checkpoint is smaller than the one before it")
		}
		list, prev = append(list, c), sha256.Sum256(line)
	}
	return list, false, false, nil
}

// parseHistoryNote reads a checkpoint with or without cosignatures. Without,
// every byte of it is checked.
func parseHistoryNote(note string, spans []keySpan) (c Checkpoint, err error) {
	if _, signatures, _ := strings.Cut(note, "\n\n"); strings.Count(signatures, "\n") > 1 {
		return parseSpans([]byte(note), spans, parseCheckpoint)
	}
	return parseSpans([]byte(note), spans, parseOwnCheckpoint)
}
