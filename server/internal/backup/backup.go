// Package backup writes and reads archives of a data directory: tar, compressed
// with zstd, with the SHA-256 of every file in a manifest at the end.
//
//	parts, ledger, err := backup.Ledger(dir, flush)
//	err = backup.Write(ctx, w, backup.Manifest{Ledger: ledger}, parts, nil)
//	m, err := backup.Restore(ctx, r, "kaizen-data", nil)
//
// An archive without its last entry, the manifest, is not one: a backup that
// was cut off anywhere is refused.
package backup

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/klauspost/compress/zstd"
)

const (
	formatName    = "kaizen-backup"
	formatVersion = 1
	manifestName  = "manifest.json"
)

// Manifest says what is in an archive.
type Manifest struct {
	Format  string    `json:"format"`
	Version int       `json:"version"`
	Created time.Time `json:"created"`
	// Program is the version of the program that wrote it.
	Program string `json:"program,omitempty"`
	// Ledger is nil if the ledger is not in the archive, because it is not in
	// files.
	Ledger *LedgerInfo `json:"ledger,omitempty"`
	// Keys is set if the signing keys and the keys of persons are in it.
	Keys  bool   `json:"keys"`
	Files []File `json:"files"`
}

// LedgerInfo is the checkpoint that the ledger was copied at.
type LedgerInfo struct {
	Origin     string `json:"origin"`
	Size       int64  `json:"size"`
	Root       string `json:"root"`
	Checkpoint string `json:"checkpoint"`
}

// File is one file of an archive.
type File struct {
	Path   string `json:"path"` // with slashes, below the data directory
	Bytes  int64  `json:"bytes"`
	SHA256 string `json:"sha256"`
}

// Part is a file to be written. Read yields Bytes bytes or more; what is beyond
// is left out. Parts are read once, in order, and closed by [Write].
type Part struct {
	Path  string
	Bytes int64
	Read  io.ReadCloser
}

// Progress hears how many bytes of how many are done. It may be nil.
type Progress func(done, total int64)

// Write writes parts and m, with their sums, to w. All parts are closed, whatever
// happens.
func Write(ctx context.Context, w io.Writer, m Manifest, parts []Part, progress Progress) (err error) {
	defer func() { err = errors.Join(err, Close(parts)) }()
	z, err := zstd.NewWriter(w, zstd.WithEncoderConcurrency(1))
	if err != nil {
		return fmt.Errorf("backup: write: %w", err)
	}
	t := tar.NewWriter(z)
	m.Format, m.Version, m.Files = formatName, formatVersion, nil
	var done, total int64
	for _, p := range parts {
		total += p.Bytes
	}
	for _, p := range parts {
		h := sha256.New()
		if err := t.WriteHeader(header(p.Path, p.Bytes, m.Created)); err != nil {
			return fmt.Errorf("backup: write %s: %w", p.Path, err)
		}
		in := io.TeeReader(&cancelable{ctx, io.LimitReader(p.Read, p.Bytes)}, h)
		if _, err := io.Copy(t, in); err != nil {
			return fmt.Errorf("backup: copy %s: %w", p.Path, err)
		}
		m.Files = append(m.Files, File{p.Path, p.Bytes, hex.EncodeToString(h.Sum(nil))})
		done += p.Bytes
		if progress != nil {
			progress(done, total)
		}
	}
	text, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return fmt.Errorf("backup: manifest: %w", err)
	}
	err = t.WriteHeader(header(manifestName, int64(len(text)), m.Created))
	if err == nil {
		_, err = t.Write(text)
	}
	// A file that was shorter than it had been is an error of Close.
	if err = errors.Join(err, t.Close(), z.Close()); err != nil {
		return fmt.Errorf("backup: write: %w", err)
	}
	return nil
}

func header(path string, size int64, at time.Time) *tar.Header {
	return &tar.Header{Typeflag: tar.TypeReg, Name: path, Size: size, Mode: 0o600, ModTime: at, Format: tar.FormatPAX}
}

// Close closes parts that are not written.
func Close(parts []Part) error {
	var errs []error
	for _, p := range parts {
		errs = append(errs, p.Read.Close())
	}
	return errors.Join(errs...)
}

// cancelable stops reading when its context ends.
type cancelable struct {
	ctx context.Context
	r   io.Reader
}

func (c *cancelable) Read(p []byte) (int, error) {
	if err := context.Cause(c.ctx); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}
