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
	zstExt         = ".jsonl.zst"
	idxExt         = ".idx"
	nodesExt       = ".nodes"
	tmpExt         = ".tmp"
)

const (
	formatName    = "kaizen-ledger"
	formatVersion = 2
	// oldVersion had neither sealed segments nor subjects. A ledger of it is
	// read as it is, and becomes one of formatVersion when it is opened for
	// writing.
	oldVersion = 1
	// ringVersion is that of the ring's blocks.
	ringVersion = 1
)

// ledgerJSON is the content of ledger.json: what names the ledger and its key.
// Every byte is determined by the key, which the checkpoint's signature needs,
// and the version.
func ledgerJSON(version int64, origin, vkey string) []byte {
	b := append([]byte(nil), `{"format":"`+formatName+`","version":`...)
	b = strconv.AppendInt(b, version, 10)
	b = appendString(append(b, `,"origin":`...), origin)
	b = appendString(append(b, `,"vkey":`...), vkey)
	return append(b, "}\n"...)
}

// parseLedgerJSON returns version and verifier key. Anything but the exact
// bytes that ledgerJSON gives for them is an error.
func parseLedgerJSON(b []byte) (version int64, vkey string, err error) {
	v, err := parseJSON(b)
	if err != nil {
		return 0, "", err
	}
	obj, _ := v.(map[string]any)
	version, _ = indexOf(obj["version"])
	if version > formatVersion && obj["format"] == formatName {
		return 0, "", fmt.Errorf("format version %d: damaged, or written by a later version of this program", version)
	}
	vkey, _ = obj["vkey"].(string)
	origin, err := originOf(vkey)
	if err != nil {
		return 0, "", fmt.Errorf("vkey: %w", err)
	}
	if version < oldVersion || string(ledgerJSON(version, origin, vkey)) != string(b) {
		return 0, "", errors.New("not in canonical form")
	}
	return version, vkey, nil
}

// versionOf is the version of the ledger in dir.
func versionOf(fsys durable.FS, dir string) (version int64, vkey string, err error) {
	b, err := readSmall(fsys, dir, ledgerName)
	if err != nil {
		return 0, "", err
	}
	if version, vkey, err = parseLedgerJSON(b); err != nil {
		err = &TamperError{Path: ledgerName, Index: -1, Reason: err.Error()}
	}
	return version, vkey, err
}

// raise makes a ledger of an older version, whose published checkpoint that is,
// one of this one, which older programs refuse. One of this version has a
// history.
func raise(fsys durable.FS, dir string, published Checkpoint) error {
	version, vkey, err := versionOf(fsys, dir)
	if err != nil || version == formatVersion {
		return err
	}
	if size, err := historySize(fsys, dir); err != nil {
		return err
	} else if size <= 0 {
		if err := beginHistory(fsys, dir, published.Note); err != nil {
			return err
		}
	}
	origin, err := originOf(vkey)
	if err != nil {
		return err
	}
	return durable.ReplaceFile(fsys, filepath.Join(dir, ledgerName), ledgerJSON(formatVersion, origin, vkey))
}

// identity reads ledger.json and the checkpoint, and checks one against the
// other. Damage is a *TamperError.
func identity(fsys durable.FS, dir string) (vkey string, c Checkpoint, err error) {
	if _, vkey, err = versionOf(fsys, dir); err != nil {
		return "", c, err
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
		if c, ok := midRotation(fsys, dir, b, vkey); ok {
			return c, nil
		}
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

// listing is what a ledger directory contains, beside what the manifest says.
type listing struct {
	bases    []int64  // segments that are not sealed, in order
	leftover []string // files of an interrupted replacement, sealing or removal
	orphans  []string // hash files without their segment: a crash while one was made or removed
	names    []string // files directly in the directory
}

func (l *listing) has(name string) bool { return slices.Contains(l.names, name) }

// listDir reads the directory and refuses what has no business there.
func listDir(fsys durable.FS, dir string, m *manifest) (listing, error) {
	var l listing
	top, err := fsys.ReadDir(dir)
	if err != nil {
		return l, err
	}
	for _, e := range top {
		switch name := e.Name(); name {
		case ledgerName, checkpointName, historyName, manifestName, ringName, rotationsName, lockName:
			l.names = append(l.names, name)
		case ledgerName + tmpExt, checkpointName + tmpExt, manifestName + tmpExt, ringName + tmpExt, rotationsName + tmpExt, historyName + tmpExt:
			l.leftover = append(l.leftover, name)
		case segDir:
			if err := l.segments(fsys, dir, m); err != nil {
				return l, err
			}
		default:
			return l, &TamperError{Path: name, Index: -1, Reason: "does not belong in a ledger"}
		}
	}
	return l, nil
}

func (l *listing) segments(fsys durable.FS, dir string, m *manifest) error {
	files, err := fsys.ReadDir(filepath.Join(dir, segDir))
	if err != nil {
		return err
	}
	seen := make(map[string]bool, len(files))
	for _, f := range files {
		seen[f.Name()] = true
	}
	sealed := make(map[int64]*record, len(m.records))
	for i := range m.records {
		sealed[m.records[i].base] = &m.records[i]
	}
	for _, f := range files {
		path := filepath.Join(segDir, f.Name())
		base, ext, ok := segmentFile(f.Name())
		if !ok {
			return &TamperError{Path: path, Index: -1, Reason: "does not belong in a ledger"}
		}
		r := sealed[base]
		switch raw := seen[segStem(base)+lineExt]; {
		case ext == hashExt && (r != nil || raw), (ext == zstExt || ext == idxExt || ext == nodesExt) && r != nil && (!r.pruned() || ext == nodesExt):
		case ext == lineExt && r == nil:
			l.bases = append(l.bases, base) // sorted: the names are of one length
		case ext == hashExt:
			l.orphans = append(l.orphans, path)
		case ext == lineExt, strings.HasSuffix(ext, tmpExt), raw, r.pruned():
			// Lines of a sealed segment, what sealing had not finished, and
			// what retention had not removed yet.
			l.leftover = append(l.leftover, path)
		case len(m.records) == 0:
			return &TamperError{Path: manifestName, Index: -1, Reason: "file is missing: there are sealed segments, " + path}
		default:
			return &TamperError{Path: path, Index: -1, Reason: "does not belong in a ledger"}
		}
	}
	return nil
}

// nameMissing names the segment that is missing where err says that entries
// are: its hashes are there.
func (l *listing) nameMissing(err error) error {
	var t *TamperError
	if !errors.As(err, &t) || t.Index < 0 {
		return err
	}
	stem := filepath.Join(segDir, segStem(t.Index))
	if slices.Contains(l.orphans, stem+hashExt) {
		return missing(stem+lineExt, t.Index)
	}
	return err
}

// segmentFile splits the name of a file in the directory of segments.
func segmentFile(name string) (base int64, ext string, ok bool) {
	at := strings.IndexByte(name, '.')
	if at < 0 {
		return 0, "", false
	}
	base, err := strconv.ParseInt(name[:at], 10, 64)
	ext = name[at:]
	switch strings.TrimSuffix(ext, tmpExt) {
	case zstExt, idxExt, nodesExt:
	case lineExt, hashExt:
		if strings.HasSuffix(ext, tmpExt) {
			return 0, "", false
		}
	default:
		return 0, "", false
	}
	return base, ext, err == nil && base >= 0 && segStem(base) == name[:at]
}

// segStem is a segment's file name without extension: the index of its first
// entry, with leading zeros so that names sort.
func segStem(base int64) string { return fmt.Sprintf("%020d", base) }

// newID makes a ULID of the current time.
func newID() string { return ulid.MustNew(ulid.Now(), rand.Reader).String() }
