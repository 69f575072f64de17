package backup

import (
	"archive/tar"
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/klauspost/compress/zstd"
)

// CorruptError says where an archive is not what its manifest says, or not an
// archive.
type CorruptError struct {
	Entry  int    // number of the file in the archive, from 0
	Path   string // its name; empty if that is not known
	Reason string
	Err    error // nil, or the cause
}

func (e *CorruptError) Error() string {
	s := fmt.Sprintf("backup: file %d", e.Entry)
	if e.Path != "" {
		s += fmt.Sprintf(" (%q)", e.Path)
	}
	s += ": " + e.Reason
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// Unwrap returns the cause.
func (e *CorruptError) Unwrap() error { return e.Err }

// ErrNotEmpty means that there is something where a backup is to be put.
var ErrNotEmpty = errors.New("is not empty: a backup is put where nothing is")

const (
	maxManifestBytes = 256 << 20 // a million files
	// decoderBytes bounds the window that an archive may ask for: what the
	// encoder uses is 8 MiB at most.
	decoderBytes = 64 << 20
)

// folders are those that an archive may have.
var folders = []string{LedgerFolder, "telemetry", "metrics", "keys"}

// Check reads a whole archive and compares it with its manifest.
func Check(ctx context.Context, r io.Reader) (Manifest, error) {
	return read(ctx, r, func(string, int64, io.Reader) error { return nil })
}

// Restore puts the files of an archive into dir, which must be empty or absent.
// They are written beside it, owner-only, and take the place of dir when all of
// them are there, synced, and what the manifest says, and check, which may be
// nil, has nothing against them. Otherwise nothing is left behind.
func Restore(ctx context.Context, r io.Reader, dir string, check func(dir string) error, progress Progress) (m Manifest, err error) {
	dir = filepath.Clean(dir)
	entries, err := os.ReadDir(dir)
	if err == nil && len(entries) > 0 {
		err = ErrNotEmpty
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return m, fmt.Errorf("backup: restore to %s: %w", dir, err)
	}
	part := dir + ".restoring"
	if err := os.Mkdir(part, 0o700); err != nil {
		return m, fmt.Errorf("backup: restore to %s: %w", dir, err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(part))
		}
	}()
	var done int64
	m, err = read(ctx, r, func(path string, size int64, in io.Reader) error {
		if err := writeFile(filepath.Join(part, filepath.FromSlash(path)), in); err != nil {
			return err
		}
		done += size
		if progress != nil {
			progress(done, -1)
		}
		return nil
	})
	if err != nil {
		return m, err
	}
	if err := syncDirs(part); err != nil {
		return m, fmt.Errorf("backup: restore to %s: %w", dir, err)
	}
	if check != nil {
		if err := check(part); err != nil {
			return m, err
		}
	}
	if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return m, fmt.Errorf("backup: restore to %s: %w", dir, err)
	}
	if err := os.Rename(part, dir); err != nil {
		return m, fmt.Errorf("backup: restore to %s: %w", dir, err)
	}
	if err := syncDir(filepath.Dir(dir)); err != nil {
		return m, fmt.Errorf("backup: restore to %s: %w", dir, err)
	}
	return m, nil
}

// read gives take each file, and compares all of them with the manifest. What
// take leaves of a file is read too.
func read(ctx context.Context, r io.Reader, take func(name string, size int64, in io.Reader) error) (m Manifest, err error) {
	z, err := zstd.NewReader(bufio.NewReader(&cancelable{ctx, r}), zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(decoderBytes))
	if err != nil {
		return m, &CorruptError{Reason: "no zstd stream", Err: err}
	}
	defer z.Close()
	return readTar(z, take)
}

// readTar is read after decompression.
func readTar(z io.Reader, take func(name string, size int64, in io.Reader) error) (m Manifest, err error) {
	t := tar.NewReader(z)
	var got []File
	seen := names{}
	for {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			return m, &CorruptError{Entry: len(got), Reason: "the archive ends without its manifest: it was cut off"}
		}
		if err != nil {
			return m, &CorruptError{Entry: len(got), Reason: "cannot be read", Err: err}
		}
		bad := func(reason string, err error) error { return &CorruptError{len(got), h.Name, reason, err} }
		if h.Typeflag != tar.TypeReg || sparse(h) {
			return m, bad("is no file", nil)
		}
		if h.Name == manifestName {
			return finish(t, z, h, got)
		}
		if reason := seen.refuse(h.Name); reason != "" {
			return m, bad(reason, nil)
		}
		sum := sha256.New()
		in := &faulty{r: io.TeeReader(t, sum)}
		err = take(h.Name, h.Size, in)
		if err == nil {
			_, err = io.Copy(io.Discard, in)
		}
		if in.err != nil {
			return m, bad("cannot be read", in.err)
		}
		if err != nil {
			return m, fmt.Errorf("backup: restore %s: %w", h.Name, err)
		}
		got = append(got, File{h.Name, h.Size, hex.EncodeToString(sum.Sum(nil))})
	}
}

// sparse reports whether a file has holes: a few bytes of archive could then
// fill any disk.
func sparse(h *tar.Header) bool {
	for key := range h.PAXRecords {
		if strings.HasPrefix(key, "GNU.sparse.") {
			return true
		}
	}
	return false
}

// faulty remembers an error of reading, so that it is told from one of writing.
type faulty struct {
	r   io.Reader
	err error
}

func (f *faulty) Read(p []byte) (int, error) {
	n, err := f.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		f.err = err
	}
	return n, err
}

// names are the files so far, and false for the folders that they are in.
type names map[string]bool

// refuse says why a file of that name may not be in the archive, or takes it in.
func (n names) refuse(name string) string {
	first, rest, _ := strings.Cut(name, "/")
	switch {
	case !fs.ValidPath(name) || strings.ContainsAny(name, "\\:\x00"):
		return "is no path below the data directory"
	case rest == "" || !slices.Contains(folders, first):
		return "is in none of the folders of a data directory"
	}
	if _, there := n[name]; there {
		return "is there twice"
	}
	for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
		if n[dir] {
			return "is in a folder that is a file"
		}
		n[dir] = false
	}
	n[name] = true
	return ""
}

// finish reads the manifest, which must be the last entry, and compares.
func finish(t *tar.Reader, z io.Reader, h *tar.Header, got []File) (m Manifest, err error) {
	bad := func(reason string, err error) (Manifest, error) {
		return Manifest{}, &CorruptError{len(got), h.Name, reason, err}
	}
	if h.Size > maxManifestBytes {
		return bad("is too large", nil)
	}
	text, err := io.ReadAll(t)
	if err != nil {
		return bad("cannot be read", err)
	}
	if err := json.Unmarshal(text, &m); err != nil {
		return bad("is no JSON", err)
	}
	if m.Format != formatName || m.Version != formatVersion {
		return bad(fmt.Sprintf("is of format %q %d, which this version does not read", m.Format, m.Version), nil)
	}
	if len(m.Files) != len(got) {
		return bad(fmt.Sprintf("names %d files, and there are %d", len(m.Files), len(got)), nil)
	}
	for i, want := range m.Files {
		if want != got[i] {
			return Manifest{}, &CorruptError{i, got[i].Path, fmt.Sprintf("is not what the manifest says: %s of %d bytes, want %s (%q) of %d", got[i].SHA256, got[i].Bytes, want.SHA256, want.Path, want.Bytes), nil}
		}
	}
	if _, err := t.Next(); !errors.Is(err, io.EOF) {
		return bad("is not the last file", err)
	}
	if _, err := io.Copy(io.Discard, z); err != nil { // the stream's own checksum
		return bad("what follows cannot be read", err)
	}
	return m, nil
}

func writeFile(name string, in io.Reader) error {
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, in)
	return errors.Join(err, f.Sync(), f.Close())
}

func syncDirs(root string) error {
	return filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return err
		}
		return syncDir(name)
	})
}

func syncDir(name string) error {
	d, err := os.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
