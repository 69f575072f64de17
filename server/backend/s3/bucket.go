package s3

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/minio/minio-go/v7"
)

// bucket is the store, with the few operations that the ledger needs. Each is
// repeated while the store fails, for at most RetryFor.
type bucket struct {
	client *minio.Client
	cfg    Config
}

var (
	// errAbsent means that there is no object of that name.
	errAbsent = errors.New("no such object")
	// errChanged means that an object was replaced since it was read.
	errChanged = errors.New("object has changed")
)

// maxObjectBytes bounds what is read into memory of an object whose size is not
// known: a state, a page, a batch.
const maxObjectBytes = 64 << 20

// get reads an object.
func (b *bucket) get(ctx context.Context, name string) ([]byte, error) {
	return b.getMost(ctx, name, maxObjectBytes)
}

// getMost reads an object, of one that is larger than limit limit+1 bytes.
func (b *bucket) getMost(ctx context.Context, name string, limit int64) (body []byte, err error) {
	err = b.read(ctx, name, minio.GetObjectOptions{}, func(r io.Reader, size int64) error {
		body, err = readAll(io.LimitReader(r, limit+1), min(size, limit+1))
		return err
	})
	return body, err
}

// getRange reads n bytes of an object from at on, fewer if it ends before.
func (b *bucket) getRange(ctx context.Context, name string, at, n int64) (body []byte, err error) {
	var o minio.GetObjectOptions
	if err := o.SetRange(at, at+n-1); err != nil {
		return nil, err
	}
	err = b.read(ctx, name, o, func(r io.Reader, size int64) error {
		body, err = readAll(io.LimitReader(r, n), min(size, n))
		return err
	})
	if status(err) == http.StatusRequestedRangeNotSatisfiable { // it ends before at
		return nil, nil
	}
	return body, err
}

// sum is the SHA-256 of an object.
func (b *bucket) sum(ctx context.Context, name string) (sum [sha256.Size]byte, err error) {
	err = b.read(ctx, name, minio.GetObjectOptions{}, func(r io.Reader, _ int64) error {
		h := sha256.New()
		_, err := io.Copy(h, r)
		h.Sum(sum[:0])
		return err
	})
	return sum, err
}

// read calls do with the body of an object and its size, which is negative if the
// store does not say it; again if do fails, for then the connection did.
func (b *bucket) read(ctx context.Context, name string, o minio.GetObjectOptions, do func(r io.Reader, size int64) error) error {
	return b.retry(ctx, "get "+name, func() (bool, error) {
		body, info, _, err := (minio.Core{Client: b.client}).GetObject(ctx, b.cfg.Bucket, b.cfg.Prefix+name, o)
		if err == nil {
			err = errors.Join(do(body, info.Size), body.Close())
		}
		err = classify(err)
		return err == nil || errors.Is(err, errAbsent), err
	})
}

// readAll is [io.ReadAll] of about size bytes, without growing in steps.
func readAll(r io.Reader, size int64) ([]byte, error) {
	buf := bytes.NewBuffer(make([]byte, 0, max(size, 0)+bytes.MinRead))
	_, err := buf.ReadFrom(r)
	return buf.Bytes(), err
}

// create stores an object unless there is one of that name, which created tells.
// If the answer was lost it looks: an object with the same bytes is taken for
// ours.
func (b *bucket) create(ctx context.Context, name string, body []byte) (created bool, err error) {
	err = b.retry(ctx, "create "+name, func() (bool, error) {
		err := b.put(ctx, name, body, func(o *minio.PutObjectOptions) {
			o.SetMatchETagExcept("*")
			b.lock(o)
		})
		if created = err == nil; created {
			return true, nil
		}
		// It exists (412), somebody is creating it (409), or nobody knows.
		have, getErr := b.get(ctx, name)
		switch {
		case getErr == nil:
			created = bytes.Equal(have, body)
			return true, nil
		case !errors.Is(getErr, errAbsent):
			return true, errors.Join(err, getErr)
		}
		return false, err
	})
	return created, err
}

// replace stores an object if it has not changed since etag was read, or, with
// an empty etag, if there is none.
func (b *bucket) replace(ctx context.Context, name, etag string, body []byte) error {
	return b.retry(ctx, "replace "+name, func() (bool, error) {
		err := b.put(ctx, name, body, func(o *minio.PutObjectOptions) {
			if etag == "" {
				o.SetMatchETagExcept("*")
			} else {
				o.SetMatchETag(etag)
			}
		})
		if code := status(err); code == http.StatusPreconditionFailed || code == http.StatusNotFound {
			return true, errChanged
		}
		return err == nil, err
	})
}

func (b *bucket) etag(ctx context.Context, name string) (etag string, err error) {
	err = b.retry(ctx, "stat "+name, func() (bool, error) {
		info, err := b.client.StatObject(ctx, b.cfg.Bucket, b.cfg.Prefix+name, minio.StatObjectOptions{})
		if err = classify(err); errors.Is(err, errAbsent) {
			return true, nil
		}
		etag = info.ETag
		return err == nil, err
	})
	return etag, err
}

func (b *bucket) put(ctx context.Context, name string, body []byte, tune func(*minio.PutObjectOptions)) error {
	o := minio.PutObjectOptions{ContentType: "application/octet-stream", DisableMultipart: true, SendContentMd5: true}
	tune(&o)
	_, err := b.client.PutObject(ctx, b.cfg.Bucket, b.cfg.Prefix+name, bytes.NewReader(body), int64(len(body)), o)
	return err
}

// lock sets retention and hold on a new object.
func (b *bucket) lock(o *minio.PutObjectOptions) {
	if b.cfg.Retain > 0 {
		o.Mode, o.RetainUntilDate = minio.Compliance, time.Now().Add(b.cfg.Retain).UTC().Truncate(time.Second)
	}
	if b.cfg.LegalHold {
		o.LegalHold = minio.LegalHoldEnabled
	}
}

// object is one version of an object in a listing.
type object struct {
	name          string
	size          int64
	latest        bool
	deleted       bool // a marker that hides older versions
	versionsKnown bool
}

// list yields the names that begin with prefix, after the name start. Stores
// that are not consistent may leave out what is new.
func (b *bucket) list(ctx context.Context, prefix, start string) (out []object, err error) {
	err = b.retry(ctx, "list "+prefix, func() (bool, error) {
		out = out[:0]
		o := minio.ListObjectsOptions{Prefix: b.cfg.Prefix + prefix, Recursive: true}
		if start != "" {
			o.StartAfter = b.cfg.Prefix + start
		}
		for info := range b.client.ListObjects(ctx, b.cfg.Bucket, o) {
			if info.Err != nil {
				return false, info.Err
			}
			out = append(out, object{name: info.Key[len(b.cfg.Prefix):], size: info.Size, latest: true})
		}
		return true, nil
	})
	return out, err
}

// versions yields every version and delete marker under prefix.
func (b *bucket) versions(ctx context.Context, prefix string) (out []object, err error) {
	err = b.retry(ctx, "list versions of "+prefix, func() (bool, error) {
		out = out[:0]
		o := minio.ListObjectsOptions{Prefix: b.cfg.Prefix + prefix, Recursive: true, WithVersions: true}
		for info := range b.client.ListObjects(ctx, b.cfg.Bucket, o) {
			if info.Err != nil {
				return false, info.Err
			}
			out = append(out, object{
				name: info.Key[len(b.cfg.Prefix):], size: info.Size, latest: info.IsLatest, deleted: info.IsDeleteMarker, versionsKnown: info.VersionID != "",
			})
		}
		return true, nil
	})
	return out, err
}

// retry repeats do until it says that it is done, or refuses for good.
func (b *bucket) retry(ctx context.Context, what string, do func() (done bool, err error)) error {
	deadline := time.Now().Add(b.cfg.RetryFor)
	for wait := 5 * time.Millisecond; ; wait = min(2*wait, 250*time.Millisecond) {
		done, err := do()
		if done || err != nil && (final(err) || time.Now().After(deadline) || ctx.Err() != nil) {
			if err != nil && !errors.Is(err, errAbsent) && !errors.Is(err, errChanged) {
				err = fmt.Errorf("%s: %w", what, err)
			}
			return err
		}
		b.cfg.Logger.Debug("s3: request is repeated", "request", what, "error", err)
		// Not all at the same pace: what makes one request fail would meet it again.
		timer := time.NewTimer(wait/2 + rand.N(wait/2))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return fmt.Errorf("%s: %w", what, context.Cause(ctx))
		}
	}
}

// final reports whether repeating a request cannot help.
func final(err error) bool {
	switch status(err) {
	case http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden, http.StatusMethodNotAllowed, http.StatusRequestedRangeNotSatisfiable:
		return true
	}
	return false
}

// status is the HTTP status of the store's answer, 0 if there was none.
func status(err error) int {
	if r, ok := errors.AsType[minio.ErrorResponse](err); ok {
		return r.StatusCode
	}
	return 0
}

func classify(err error) error {
	if err != nil && status(err) == http.StatusNotFound {
		return errAbsent
	}
	return err
}
