package agentlog

import (
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// stamp dates rotated files: path.20260102T150405.000000000Z, then .gz.
const stamp = "20060102T150405.000000000Z"

// tidy compresses rotated files and removes those beyond the limits, in a
// goroutine that the writer waits for at its end. One runs at a time: a second
// finds the work done.
func (f *File) tidy() {
	f.pack.Go(func() {
		f.once.Lock()
		defer f.once.Unlock()
		if err := f.archive(time.Now()); err != nil {
			f.mu.Lock()
			f.stats.Errors++ // tried again at the next rotation
			f.mu.Unlock()
		}
	})
}

// archive does the work of tidy. Every file is tried, even after one fails.
func (f *File) archive(now time.Time) error {
	old, err := f.rotated()
	if err != nil {
		return err
	}
	var errs []error
	for i, name := range old { // newest first
		when, err := time.Parse(stamp, strings.TrimSuffix(strings.TrimPrefix(name, f.path+"."), ".gz"))
		tooOld := err == nil && f.cfg.MaxAge != Forever && now.Sub(when) > f.cfg.MaxAge
		switch {
		case tooOld || i >= f.cfg.MaxFiles:
			errs = append(errs, os.Remove(name))
		case !f.cfg.NoCompress && !strings.HasSuffix(name, ".gz"):
			errs = append(errs, f.compress(name))
		}
	}
	return errors.Join(errs...)
}

// rotated returns the rotated files, newest first.
func (f *File) rotated() ([]string, error) {
	entries, err := os.ReadDir(filepath.Dir(f.path))
	if err != nil {
		return nil, fmt.Errorf("agentlog: list rotated files of %s: %w", f.path, err)
	}
	var names []string
	for _, e := range entries {
		date, ok := strings.CutPrefix(e.Name(), filepath.Base(f.path)+".")
		if _, err := time.Parse(stamp, strings.TrimSuffix(date, ".gz")); ok && err == nil && e.Type().IsRegular() {
			names = append(names, filepath.Join(filepath.Dir(f.path), e.Name()))
		}
	}
	slices.Sort(names)
	slices.Reverse(names)
	return names, nil
}

// compress replaces a file by its gzipped form. The form is complete and on
// disk before it gets its name, and has it before the file goes.
func (f *File) compress(name string) (err error) {
	from, err := os.Open(name)
	if err != nil {
		return fmt.Errorf("agentlog: compress %s: %w", name, err)
	}
	defer func() { err = errors.Join(err, from.Close()) }()
	part := name + ".gz.tmp"
	if err := gzipTo(part, &untilDone{f.gaveUp, from}); err != nil {
		return errors.Join(fmt.Errorf("agentlog: compress %s: %w", name, err), removeIfThere(part))
	}
	if err := os.Rename(part, name+".gz"); err != nil {
		return errors.Join(fmt.Errorf("agentlog: compress %s: %w", name, err), removeIfThere(part))
	}
	if err := os.Remove(name); err != nil {
		return fmt.Errorf("agentlog: remove %s after compressing it: %w", name, err)
	}
	return nil
}

// untilDone reads until its context ends: Close does not wait for a long
// compression, which is done at the next start instead.
type untilDone struct {
	ctx context.Context
	r   io.Reader
}

func (u *untilDone) Read(p []byte) (int, error) {
	if err := u.ctx.Err(); err != nil {
		return 0, err
	}
	return u.r.Read(p)
}

func gzipTo(path string, from io.Reader) error {
	to, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	zip := gzip.NewWriter(to)
	_, err = io.Copy(zip, from)
	if err = errors.Join(err, zip.Close()); err == nil {
		err = to.Sync()
	}
	return errors.Join(err, to.Close())
}

func removeIfThere(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}
