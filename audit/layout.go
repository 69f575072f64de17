package audit

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/oklog/ulid/v2"

	"github.com/kaizen-go/kaizen/internal/durable"
)

// Names inside a ledger directory. docs/ledger-format.md describes each.
const (
	ledgerName     = "ledger.json"
	checkpointName = "checkpoint"
	ringName       = "ring"
	lockName       = "LOCK"
	segDir         = "seg"
	lineExt        = ".jsonl"
	hashExt        = ".l0"
	tmpExt         = ".tmp"
)

const (
	formatName    = "kaizen-ledger"
	formatVersion = 1
)

// ledgerJSON is the content of ledger.json: what names the ledger and its key.
// Every byte is determined by the key, which the checkpoint's signature needs.
func ledgerJSON(origin, vkey string) []byte {
	b := append([]byte(nil), `{"format":"`+formatName+`","version":`...)
	b = strconv.AppendInt(b, formatVersion, 10)
	b = appendString(append(b, `,"origin":`...), origin)
	b = appendString(append(b, `,"vkey":`...), vkey)
	return append(b, "}\n"...)
}

// parseLedgerJSON returns the verifier key. Anything but the exact bytes that
// ledgerJSON gives for it is an error.
func parseLedgerJSON(b []byte) (vkey string, err error) {
	v, err := parseJSON(b)
	if err != nil {
		return "", err
	}
	obj, _ := v.(map[string]any)
	if n, ok := indexOf(obj["version"]); ok && n > formatVersion && obj["format"] == formatName {
		return "", fmt.Errorf("format version %d: damaged, or written by a later version of this program", n)
	}
	vkey, _ = obj["vkey"].(string)
	origin, err := originOf(vkey)
	if err != nil {
		return "", fmt.Errorf("vkey: %w", err)
	}
	if string(ledgerJSON(origin, vkey)) != string(b) {
		return "", errors.New("not in canonical form")
	}
	return vkey, nil
}

// identity reads ledger.json and the checkpoint, and checks one against the
// other. Damage is a *TamperError.
func identity(fsys durable.FS, dir string) (vkey string, c Checkpoint, err error) {
	b, err := readSmall(fsys, dir, ledgerName)
	if err != nil {
		return "", c, err
	}
	vkey, err = parseLedgerJSON(b)
	if err != nil {
		return "", c, &TamperError{Path: ledgerName, Index: -1, Reason: err.Error()}
	}
	c, err = readCheckpoint(fsys, dir, vkey)
	return vkey, c, err
}

func readCheckpoint(fsys durable.FS, dir, vkey string) (Checkpoint, error) {
	b, err := readSmall(fsys, dir, checkpointName)
	if err != nil {
		return Checkpoint{}, err
	}
	c, err := parseOwnCheckpoint(b, vkey)
	if err != nil {
		return Checkpoint{}, &TamperError{Path: checkpointName, Index: -1, Reason: err.Error(), Want: "signature by " + vkey}
	}
	return c, nil
}

// readSmall reads a file that a ledger must have.
func readSmall(fsys durable.FS, dir, name string) ([]byte, error) {
	b, err := durable.ReadFile(fsys, filepath.Join(dir, name), maxSmallFile)
	if errors.Is(err, fs.ErrNotExist) {
		if _, dirErr := fsys.ReadDir(dir); dirErr != nil {
			return nil, dirErr // not a tampered ledger: no ledger at all
		}
		return nil, &TamperError{Path: name, Index: -1, Reason: "file is missing"}
	}
	return b, err
}

// listing is what a ledger directory contains.
type listing struct {
	bases    []int64  // segments, in order
	leftover []string // temporary files of an interrupted replace
	orphans  []string // hash files without their segment: a crash while one was made or removed
	names    []string // files directly in the directory
}

func (l *listing) has(name string) bool { return slices.Contains(l.names, name) }

// list reads the directory and refuses what has no business there.
func list(fsys durable.FS, dir string) (listing, error) {
	var l listing
	top, err := fsys.ReadDir(dir)
	if err != nil {
		return l, err
	}
	for _, e := range top {
		switch name := e.Name(); name {
		case ledgerName, checkpointName, historyName, ringName, lockName:
			l.names = append(l.names, name)
		case ledgerName + tmpExt, checkpointName + tmpExt, ringName + tmpExt:
			l.leftover = append(l.leftover, name)
		case segDir:
			if err := l.segments(fsys, dir); err != nil {
				return l, err
			}
		default:
			return l, &TamperError{Path: name, Index: -1, Reason: "does not belong in a ledger"}
		}
	}
	return l, nil
}

func (l *listing) segments(fsys durable.FS, dir string) error {
	files, err := fsys.ReadDir(filepath.Join(dir, segDir))
	if err != nil {
		return err
	}
	seen := map[string]bool{}
	for _, f := range files {
		seen[f.Name()] = true
	}
	for _, f := range files {
		stem, isLines := strings.CutSuffix(f.Name(), lineExt)
		base, err := strconv.ParseInt(stem, 10, 64)
		switch {
		case isLines && err == nil && segStem(base) == stem && base >= 0:
			l.bases = append(l.bases, base) // sorted: the names are of one length
		case isHashName(f.Name()) && seen[strings.TrimSuffix(f.Name(), hashExt)+lineExt]:
		case isHashName(f.Name()):
			l.orphans = append(l.orphans, filepath.Join(segDir, f.Name()))
		default:
			return &TamperError{Path: filepath.Join(segDir, f.Name()), Index: -1, Reason: "does not belong in a ledger"}
		}
	}
	return nil
}

func isHashName(name string) bool {
	stem, ok := strings.CutSuffix(name, hashExt)
	base, err := strconv.ParseInt(stem, 10, 64)
	return ok && err == nil && base >= 0 && segStem(base) == stem
}

// segStem is a segment's file name without extension: the index of its first
// entry, with leading zeros so that names sort.
func segStem(base int64) string { return fmt.Sprintf("%020d", base) }

// newID makes a ULID of the current time.
func newID() string { return ulid.MustNew(ulid.Now(), rand.Reader).String() }
