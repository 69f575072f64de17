package audit

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/kaizen-go/kaizen/internal/durable"
)

// Witness has others attest a checkpoint: package witness has one that speaks
// C2SP's protocol.
type Witness interface {
	// Cosign returns the note of c with the cosignatures that it got, even when
	// it also returns an error. Prove makes a consistency proof from an earlier
	// size to c's. It is called by one goroutine at a time and must end when
	// ctx does.
	Cosign(ctx context.Context, c Checkpoint, prove func(from int64) ([][32]byte, error)) (note string, err error)
}

// Anchor keeps a checkpoint where whoever can write to the ledger cannot change
// it afterwards: a log collector, a file of another machine, an object with a
// lock. [Verify] compares the ledger with what was kept.
type Anchor interface {
	// Anchor returns nil when c is kept. It is called by one goroutine at a
	// time and must end when ctx does. Keeping the same checkpoint twice is no
	// error.
	Anchor(ctx context.Context, c Checkpoint) error
}

// AnchorFunc is a function as an [Anchor]: what sends a checkpoint as a log
// record, for example.
type AnchorFunc func(ctx context.Context, c Checkpoint) error

// Anchor implements [Anchor].
func (f AnchorFunc) Anchor(ctx context.Context, c Checkpoint) error { return f(ctx, c) }

// FileAnchor appends checkpoints to a file, each as one line of JSON, and syncs
// it. The file should be out of reach of whoever can change the ledger: another
// machine's, or one that is append-only. [ReadAnchors] reads it. It may be
// shared by several ledgers of one process, and used from several goroutines.
type FileAnchor struct {
	// Path is the file, created for the owner alone if absent. Its directory
	// must exist.
	Path string

	mu sync.Mutex
}

// anchorLine is a line of an anchor file, and of what other anchors write.
type anchorLine struct {
	Note string `json:"note"`
}

// Anchor implements [Anchor].
func (a *FileAnchor) Anchor(_ context.Context, c Checkpoint) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := a.append(c); err != nil {
		return fmt.Errorf("audit: anchor in %s: %w", a.Path, err)
	}
	return nil
}

func (a *FileAnchor) append(c Checkpoint) (err error) {
	f, err := os.OpenFile(a.Path, os.O_RDWR|os.O_CREATE|os.O_APPEND, durable.FilePerm)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	line, err := json.Marshal(anchorLine{c.Note})
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if size := info.Size(); size > 0 {
		// A crash may have left half a line; the next one must not join it.
		last := make([]byte, 1)
		if _, err := f.ReadAt(last, size-1); err != nil {
			return err
		}
		if last[0] != '\n' {
			line = append([]byte{'\n'}, line...)
		}
	}
	if _, err := f.Write(append(line, '\n')); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	return durable.OS{}.SyncDir(filepath.Dir(a.Path))
}

// maxAnchorBytes bounds what is read of one file of checkpoints: a million.
const maxAnchorBytes = 512 << 20

// ReadAnchors reads the checkpoints that somebody kept: a file of a
// [FileAnchor], a single signed checkpoint, or a directory of such files and of
// proofs (.tlog-proof, whose checkpoint counts). It returns the notes with the
// place that each came from, unchecked. A line that is cut off at the end of a
// file, as a crash leaves it, is passed over; anything else that is no
// checkpoint is an error.
func ReadAnchors(path string) ([]Remembered, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("audit: read checkpoints: %w", err)
	}
	if !info.IsDir() {
		return readAnchorFile(path)
	}
	var all []Remembered
	err = filepath.WalkDir(path, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		found, err := readAnchorFile(name)
		all = append(all, found...)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("audit: read checkpoints: %w", err)
	}
	return all, nil
}

// Remembered is a checkpoint that somebody kept, and where it was found.
type Remembered struct {
	// Note is the signed checkpoint.
	Note string
	// Source says where it comes from, for messages: a file and line.
	Source string
}

func readAnchorFile(name string) ([]Remembered, error) {
	b, err := durable.ReadFile(durable.OS{}, name, maxAnchorBytes)
	if err != nil {
		return nil, fmt.Errorf("audit: read checkpoints: %w", err)
	}
	found, err := parseAnchors(string(b), name)
	if err != nil {
		return nil, fmt.Errorf("audit: read checkpoints: %s: %w", name, err)
	}
	return found, nil
}

// parseAnchors reads the three forms that a file of checkpoints has.
func parseAnchors(text, name string) ([]Remembered, error) {
	switch {
	case strings.HasPrefix(text, proofFirstLine):
		p, err := ParseProof([]byte(text))
		return []Remembered{{p.Note, name}}, err
	case !strings.HasPrefix(text, "{"):
		if !strings.Contains(text, "\n\n"+sigPrefix) {
			return nil, errors.New("not a signed checkpoint")
		}
		return []Remembered{{text, name}}, nil
	}
	var found []Remembered
	n := 0
	for line := range strings.Lines(text) {
		n++
		var a anchorLine
		if err := json.Unmarshal([]byte(line), &a); err != nil || a.Note == "" {
			if !strings.HasPrefix(line, `{"note":"`) || err == nil {
				return nil, fmt.Errorf("line %d is no checkpoint", n)
			}
			continue // begun when the process ended, and repeated on the next line
		}
		found = append(found, Remembered{a.Note, fmt.Sprintf("%s:%d", name, n)})
	}
	return found, nil
}
