package s3

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/minio/minio-go/v7"

	"github.com/kaizen-go/kaizen/audit"
)

// Archive keeps the sealed segments of a ledger in files, see
// [audit.Ledger.Archive]: what was downloaded from it to a directory is a ledger
// that [audit.Verify] takes. With Retain and LegalHold of its Config the objects
// are locked.
type Archive struct{ bucket *bucket }

var _ audit.ArchiveTarget = (*Archive)(nil)

// OpenArchive connects to the bucket. KeyFile and Origin of cfg are not used.
func OpenArchive(ctx context.Context, cfg Config) (*Archive, error) {
	cfg, err := cfg.withDefaults()
	var b *bucket
	if err == nil {
		b, err = connect(ctx, cfg)
	}
	if err != nil {
		return nil, fmt.Errorf("s3: open archive %s/%s: %w", cfg.Bucket, cfg.Prefix, err)
	}
	return &Archive{b}, nil
}

// String names bucket and prefix.
func (a *Archive) String() string { return "s3://" + a.bucket.cfg.Bucket + "/" + a.bucket.cfg.Prefix }

// digestKey is the metadata that says what an object's SHA-256 is.
const digestKey = "Kaizen-Sha256"

// Has implements [audit.ArchiveTarget], by size and recorded digest.
func (a *Archive) Has(ctx context.Context, name string, size int64, sum [32]byte) (bool, error) {
	has := false
	err := a.bucket.retry(ctx, "stat "+name, func() (bool, error) {
		info, err := a.bucket.client.StatObject(ctx, a.bucket.cfg.Bucket, a.bucket.cfg.Prefix+name, minio.StatObjectOptions{})
		if err = classify(err); errors.Is(err, errAbsent) {
			return true, nil
		}
		has = (size < 0 || info.Size == size) && info.UserMetadata[digestKey] == hex.EncodeToString(sum[:])
		return err == nil, err
	})
	return has, wrap("archive", err)
}

// Get returns a small file of the archive. The error wraps [fs.ErrNotExist] if
// there is none of that name.
func (a *Archive) Get(ctx context.Context, name string) ([]byte, error) {
	body, err := a.bucket.get(ctx, name)
	if errors.Is(err, errAbsent) {
		err = fmt.Errorf("%w: %w", err, fs.ErrNotExist)
	}
	return body, wrap("archive", err)
}

// Put implements [audit.ArchiveTarget]. The store checks the digest where it can;
// the bytes are counted and hashed on the way in any case.
func (a *Archive) Put(ctx context.Context, name string, r io.Reader, size int64, sum [32]byte) error {
	hash := sha256.New()
	o := minio.PutObjectOptions{
		ContentType: "application/octet-stream", UserMetadata: map[string]string{digestKey: hex.EncodeToString(sum[:])},
		SendContentMd5: true, // asked for by object lock
	}
	a.bucket.lock(&o)
	info, err := a.bucket.client.PutObject(ctx, a.bucket.cfg.Bucket, a.bucket.cfg.Prefix+name, io.TeeReader(r, hash), size, o)
	if err != nil {
		return wrap("archive "+name, err)
	}
	if got := hash.Sum(nil); info.Size != size || !bytes.Equal(got, sum[:]) {
		return fmt.Errorf("s3: archive %s: stored %d bytes with SHA-256 %x, want %d with %x", name, info.Size, got, size, sum)
	}
	return nil
}

// Anchor keeps checkpoints of a ledger where its owner cannot change them: each
// is an object of its own, created once, and locked if Config.Retain says so.
type Anchor struct{ bucket *bucket }

var _ audit.Anchor = (*Anchor)(nil)

// OpenAnchor connects to the bucket. KeyFile and Origin of cfg are not used.
func OpenAnchor(ctx context.Context, cfg Config) (*Anchor, error) {
	a, err := OpenArchive(ctx, cfg)
	if err != nil {
		return nil, err
	}
	return &Anchor{a.bucket}, nil
}

// Anchor implements [audit.Anchor]. Two checkpoints of one size with different
// roots are a fork: the second is refused with a [*audit.TamperError].
func (a *Anchor) Anchor(ctx context.Context, c audit.Checkpoint) error {
	name := a.name(c)
	created, err := a.bucket.create(ctx, name, []byte(c.Note))
	if err != nil || created {
		return wrap("anchor", err)
	}
	have, err := a.bucket.get(ctx, name)
	if err != nil {
		return wrap("anchor", err)
	}
	if head(have) == head([]byte(c.Note)) {
		return nil // with other signatures
	}
	return wrap("anchor", &audit.TamperError{Path: name, Index: -1, Reason: "another checkpoint of this size was anchored before", Want: head(have), Got: head([]byte(c.Note))})
}

// Target is "s3": what a metric calls this kind of anchor.
func (a *Anchor) Target() string { return "s3" }

// name is the origin, in a form without slashes, and the size.
func (a *Anchor) name(c audit.Checkpoint) string {
	origin, _, _ := bytes.Cut([]byte(c.Note), []byte("\n"))
	return numbered("anchor/"+base64.RawURLEncoding.EncodeToString(origin)+"/", c.Size)
}

// head is what a checkpoint says, without signatures.
func head(note []byte) string {
	text, _, _ := bytes.Cut(note, []byte("\n\n"))
	return string(text)
}

// Checkpoints returns the signed checkpoints of a ledger that were anchored, from
// the smallest on.
func (a *Anchor) Checkpoints(ctx context.Context, origin string) ([]string, error) {
	prefix := "anchor/" + base64.RawURLEncoding.EncodeToString([]byte(origin)) + "/"
	all, err := a.bucket.list(ctx, prefix, "")
	if err != nil {
		return nil, wrap("anchor", err)
	}
	var notes []string
	for _, o := range all {
		body, err := a.bucket.get(ctx, o.name)
		if err != nil {
			return notes, wrap("anchor", err)
		}
		notes = append(notes, string(body))
	}
	return notes, nil
}
