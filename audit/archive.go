package audit

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/kaizen-go/kaizen/internal/durable"
	"github.com/kaizen-go/kaizen/internal/merkle"
)

// ArchiveTarget is where sealed segments are copied to: a directory, see
// [ArchiveDir], or an object store. Names have slashes. The ledger calls one
// method at a time.
type ArchiveTarget interface {
	// Has reports whether a file of that name and size with that SHA-256 is
	// there already. A negative size is any size.
	Has(ctx context.Context, name string, size int64, sha256 [32]byte) (bool, error)
	// Put stores a file, of which r yields size bytes with that SHA-256. When
	// it returns nil the file is durable, whole, and has replaced any other of
	// that name at once.
	Put(ctx context.Context, name string, r io.Reader, size int64, sha256 [32]byte) error
	// String names the target in the ledger's entry about the copy.
	String() string
}

// archiveReader is what a target may have besides. Then nothing is copied over
// the archive of another ledger, or of more than this one has.
type archiveReader interface {
	// Get returns a file; the error wraps [fs.ErrNotExist] if there is none.
	Get(ctx context.Context, name string) ([]byte, error)
}

// ErrOtherArchive is returned by [Ledger.Archive] if target has the archive of
// another ledger, of another history of this one, or of more entries than are
// sealed here: copying would destroy it.
var ErrOtherArchive = errors.New("is the archive of another ledger, or of more than this one has")

// ArchiveReport says what [Ledger.Archive] copied.
type ArchiveReport struct {
	// Segments is how many were copied now, Bytes the size of their files.
	Segments int
	Bytes    int64
	// Entries is how many entries the archive has, from the first on.
	Entries int64
}

// Archive copies the sealed segments that target does not have yet, and then
// what makes them a ledger of its own there: ledger.json, segments.json, and a
// checkpoint of their entries. [Verify] and [OpenReader] take a directory with
// an archive as they take a ledger. Segments that were pruned here keep their
// files there; of those that were pruned before they were copied the archive
// has the hashes, and the entry that says so, for which the newest segment is
// sealed if need be. An entry of the ledger says what was copied. Errors are
// those of target, of [Ledger.Append] and of the file system; what was copied
// stays, and the next call goes on from there.
func (l *Ledger) Archive(ctx context.Context, target ArchiveTarget) (ArchiveReport, error) {
	r, err := l.archive(ctx, target, nil)
	if err != nil {
		return r, fmt.Errorf("audit: archive to %s: %w", target, err)
	}
	return r, nil
}

// copies is what the background knows of the archive that it copies to, so that
// it reads each segment there once and not every minute. packer.work guards it.
type copies struct {
	segments map[int64]bool // by base: they were found there, or copied
	gone     map[int64]bool // by base: of these it has the hashes alone
	head     bool           // what makes them a ledger was found there, or written
}

// archive copies what is missing. Known may be nil: then all is looked for.
func (l *Ledger) archive(ctx context.Context, target ArchiveTarget, known *copies) (ArchiveReport, error) {
	for {
		report, again, err := l.archiveSealed(ctx, target, known)
		if err != nil || !again {
			return report, err
		}
		if err := l.rotate(); err != nil {
			return report, err
		}
		if err := l.packer.seal(ctx, false); err != nil {
			return report, err
		}
	}
}

// archiveSealed is archive with the segments that are sealed now. It asks to be
// called again after sealing if these do not say what was pruned.
func (l *Ledger) archiveSealed(ctx context.Context, target ArchiveTarget, known *copies) (report ArchiveReport, again bool, err error) {
	ctx, end, err := l.packer.begin(ctx)
	if err != nil {
		return report, false, err
	}
	defer end()
	if known == nil {
		known = &copies{}
	}
	if known.segments == nil {
		known.segments, known.gone = map[int64]bool{}, map[int64]bool{}
	}
	s := l.store
	m := s.manifest()
	report.Entries = m.end()
	if err := l.extendsArchive(ctx, target, m, known); err != nil {
		return report, false, err
	}
	if err := known.findGone(ctx, target, m); err != nil {
		return report, false, err
	}
	for i := range m.records {
		if r := &m.records[i]; known.gone[r.base] && r.prunedAt >= m.end() {
			return report, true, nil
		}
	}
	var done, total int64
	for i := range m.records {
		if !known.segments[m.records[i].base] {
			total += m.records[i].count
		}
	}
	for i := range m.records {
		if known.segments[m.records[i].base] {
			continue
		}
		n, err := s.copySegment(ctx, target, newSealed(m.records[i]))
		if err != nil {
			return report, false, err
		}
		if n > 0 {
			report.Segments++
			report.Bytes += n
		}
		known.segments[m.records[i].base] = true
		done += m.records[i].count
		l.packer.tell("archive", done, total)
	}
	if report.Segments == 0 && (known.head || len(m.records) == 0) {
		return report, false, nil
	}
	if err := l.putHead(ctx, target, m, known.gone); err != nil {
		return report, false, err
	}
	known.head = true
	if report.Segments == 0 {
		return report, false, nil
	}
	_, err = l.appendSystem(ctx, Entry{Action: actionArchived, Details: map[string]any{
		"target": target.String(), "segments": report.Segments, "bytes": report.Bytes, "entries": report.Entries,
	}})
	return report, false, err
}

// extendsArchive reports with an error if target has an archive that m does not
// extend.
func (l *Ledger) extendsArchive(ctx context.Context, target ArchiveTarget, m *manifest, known *copies) error {
	r, ok := target.(archiveReader)
	if !ok || known.head {
		return nil
	}
	note, err := r.Get(ctx, checkpointName)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if _, err := l.store.proveConsistency(note, l.store.checkpoint()); err != nil {
		return fmt.Errorf("%w: %w", ErrOtherArchive, err)
	}
	spans, err := l.store.spans()
	if err != nil {
		return err
	}
	if c, err := parseSpans(note, spans, parseCheckpoint); err != nil {
		return err
	} else if c.Size > m.end() {
		return fmt.Errorf("%w: it has %d entries, of which %d are sealed here", ErrOtherArchive, c.Size, m.end())
	}
	return nil
}

// findGone finds the pruned segments whose lines target does not have: they were
// removed before they could be copied, and will not be there later.
func (c *copies) findGone(ctx context.Context, target ArchiveTarget, m *manifest) error {
	for i := range m.records {
		r := &m.records[i]
		if !r.pruned() || c.segments[r.base] {
			continue
		}
		gone := false
		seg := newSealed(*r)
		for _, f := range []archiveFile{{seg.zstPath(), r.zst}, {seg.idxPath(), r.idx}} {
			have, err := target.Has(ctx, filepath.ToSlash(f.path), -1, f.digest)
			if err != nil {
				return err
			}
			gone = gone || !have
		}
		c.gone[r.base] = gone
	}
	return nil
}

// archived reports whether target has all files of a segment.
func archived(ctx context.Context, target ArchiveTarget, s *store, base int64) (bool, error) {
	s.mu.RLock()
	seg := findSealed(s.sealed, base)
	s.mu.RUnlock()
	if seg == nil {
		return false, nil
	}
	for _, f := range seg.archiveFiles() {
		size := int64(-1)
		err := s.files.use(f.path, func(_ durable.File, n int64) error {
			size = n
			return nil
		})
		if err != nil {
			return false, missingFile(err, f.path, base)
		}
		if have, err := target.Has(ctx, filepath.ToSlash(f.path), size, f.digest); !have || err != nil {
			return false, err
		}
	}
	return true, nil
}

type archiveFile struct {
	path   string
	digest merkle.Hash
}

// archiveFiles are the files of a sealed segment: of a pruned one what is left.
func (s *segment) archiveFiles() []archiveFile {
	out := []archiveFile{{s.hashPath(), s.rec.l0}, {s.nodesPath(), s.rec.nodes}}
	if s.rec.pruned() {
		return out
	}
	return append(out, archiveFile{s.zstPath(), s.rec.zst}, archiveFile{s.idxPath(), s.rec.idx})
}

// copySegment copies the files of a segment that target does not have, and
// returns their size.
func (s *store) copySegment(ctx context.Context, target ArchiveTarget, seg *segment) (copied int64, err error) {
	for _, a := range seg.archiveFiles() {
		err := s.files.use(a.path, func(f durable.File, size int64) error {
			name := filepath.ToSlash(a.path)
			have, err := target.Has(ctx, name, size, a.digest)
			if have || err != nil {
				return err
			}
			copied += size
			sum := sha256.New()
			if err := target.Put(ctx, name, io.TeeReader(io.NewSectionReader(f, 0, size), sum), size, a.digest); err != nil {
				return err
			}
			if got := merkle.Hash(sum.Sum(nil)); got != a.digest {
				return notSealed(a.path, a.digest, got)
			}
			return nil
		})
		if err != nil {
			return copied, missingFile(err, a.path, seg.base)
		}
	}
	return copied, nil
}

// putHead writes what makes the segments in target a ledger, as far as it is not
// there. The checkpoint comes last: it is of the archived entries alone. The
// lines of the segments in gone are not in target.
func (l *Ledger) putHead(ctx context.Context, target ArchiveTarget, m *manifest, gone map[int64]bool) error {
	for i := range m.records {
		r := &m.records[i]
		if r.entry >= m.end() || gone[l.store.segmentOf(r.entry)] {
			r.entry = -1 // it is not among the archived entries: the index is checked by its lines
		}
		if !gone[r.base] {
			r.prunedAt = -1 // its files were copied before it was pruned
		}
	}
	tree, err := merkle.NewTree(m.end(), m.edge)
	if err != nil {
		return err
	}
	type file struct {
		name string
		data []byte
	}
	var files []file
	// Of one moment: the key may be changed while files are copied.
	l.rekeying.Lock()
	s := l.signer.Load()
	keys, err := durable.ReadFile(l.cfg.fsys, l.store.path(rotationsName), maxAnchorBytes)
	l.rekeying.Unlock()
	if err == nil { // the key was changed: whoever has an older one can follow
		files = append(files, file{rotationsName, keys})
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, f := range append(files, []file{
		{ledgerName, ledgerJSON(formatVersion, s.origin, s.vkey)},
		{manifestName, m.encode()},
		{checkpointName, []byte(s.checkpoint(m.end(), tree.Root()).Note)},
	}...) {
		size, sum := int64(len(f.data)), sha256.Sum256(f.data)
		have, err := target.Has(ctx, f.name, size, sum)
		if err == nil && !have {
			err = target.Put(ctx, f.name, bytes.NewReader(f.data), size, sum)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// ArchiveDir is the directory of that path as a target. It is made if absent.
func ArchiveDir(path string) ArchiveTarget { return dirTarget{durable.OS{}, path} }

type dirTarget struct {
	fsys durable.FS
	dir  string
}

func (t dirTarget) String() string { return t.dir }

func (t dirTarget) Has(_ context.Context, name string, size int64, want [32]byte) (bool, error) {
	f, err := t.fsys.OpenFile(filepath.Join(t.dir, filepath.FromSlash(name)), os.O_RDONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	sum, have := sha256.New(), int64(0)
	info, err := f.Stat()
	if err == nil && (size < 0 || info.Size() == size) {
		size = info.Size()
		have, err = io.Copy(sum, io.NewSectionReader(f, 0, size))
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return false, err
	}
	return have == size && merkle.Hash(sum.Sum(nil)) == want, nil
}

func (t dirTarget) Get(_ context.Context, name string) ([]byte, error) {
	return durable.ReadFile(t.fsys, filepath.Join(t.dir, filepath.FromSlash(name)), maxAnchorBytes)
}

func (t dirTarget) Put(ctx context.Context, name string, r io.Reader, size int64, want [32]byte) (err error) {
	name = filepath.Join(t.dir, filepath.FromSlash(name))
	if err := durable.MkdirAll(t.fsys, filepath.Dir(name)); err != nil {
		return err
	}
	f, err := t.fsys.OpenFile(name+tmpExt, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, durable.FilePerm)
	if err != nil {
		return err
	}
	sum := sha256.New()
	n, err := io.Copy(f, io.TeeReader(contextReader{ctx, r}, sum))
	if err == nil && (n != size || merkle.Hash(sum.Sum(nil)) != want) {
		err = fmt.Errorf("%s changed while it was copied", filepath.Base(name))
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := t.fsys.Rename(name+tmpExt, name); err != nil {
		return err
	}
	return t.fsys.SyncDir(filepath.Dir(name))
}

// contextReader stops when ctx ends.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c contextReader) Read(p []byte) (int, error) {
	if err := context.Cause(c.ctx); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}
