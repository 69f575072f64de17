package agent

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"regexp"
	"strings"
	"sync"

	"github.com/kaizen-go/kaizen/internal/durable"
)

// ErrClosed says that a store of files was closed.
var ErrClosed = errors.New("closed")

// CorruptError says that a file of a store is not what the store wrote.
type CorruptError struct {
	// Path is the file, Reason what is wrong with it.
	Path, Reason string
}

// Error names the file and what is wrong with it.
func (e *CorruptError) Error() string { return fmt.Sprintf("%s is corrupt: %s", e.Path, e.Reason) }

// ErrorType is the name of the error in records.
func (e *CorruptError) ErrorType() string { return "corrupt" }

// maxFileBytes bounds a file of a store. No conversation that a model takes
// comes near it; a file that does is not ours.
const maxFileBytes = 256 << 20

// folder is a directory of sealed files that belongs to one process at a time.
type folder struct {
	fs  durable.FS
	dir string

	mu   sync.Mutex
	lock io.Closer // nil once closed
}

// openFolder makes and locks dir, and removes what a crash left half-written of
// the files whose names match ours. Others it leaves alone.
func openFolder(fsys durable.FS, dir string, ours *regexp.Regexp) (_ *folder, err error) {
	if err := durable.MkdirAll(fsys, dir); err != nil {
		return nil, err
	}
	lock, err := fsys.Lock(filepath.Join(dir, "kaizen.lock"))
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, lock.Close())
		}
	}()
	entries, err := fsys.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if name, ok := strings.CutSuffix(e.Name(), ".tmp"); ok && ours.MatchString(name) {
			if err := fsys.Remove(filepath.Join(dir, e.Name())); err != nil {
				return nil, err
			}
		}
	}
	return &folder{fs: fsys, dir: dir, lock: lock}, nil
}

// close gives the directory free. Further calls do nothing.
func (f *folder) close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.lock == nil {
		return nil
	}
	lock := f.lock
	f.lock = nil
	return lock.Close()
}

// do runs work alone, unless the folder is closed or ctx is done.
func (f *folder) do(ctx context.Context, work func() error) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.lock == nil {
		return ErrClosed
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return work()
}

// read returns the body of a file that belongs to key.
func (f *folder) read(name, format, key string) (body []byte, size int64, err error) {
	path := filepath.Join(f.dir, name)
	data, err := durable.ReadFile(f.fs, path, maxFileBytes)
	if err != nil {
		return nil, 0, err
	}
	body, err = unseal(data, format, key)
	if err != nil {
		return nil, 0, &CorruptError{Path: path, Reason: err.Error()}
	}
	return body, int64(len(data)), nil
}

// write makes a file hold exactly body, for key, and returns the file's size.
func (f *folder) write(name, format, key string, body []byte) (int64, error) {
	data, err := seal(format, key, body)
	if err != nil {
		return 0, err
	}
	if len(data) > maxFileBytes {
		return 0, fmt.Errorf("%d bytes, at most %d are taken", len(data), maxFileBytes)
	}
	return int64(len(data)), durable.ReplaceFile(f.fs, filepath.Join(f.dir, name), data)
}

// sealHeader is the first line of a file. It is JSON in exactly one spelling.
type sealHeader struct {
	Format string `json:"format"`
	// Key is what the file is about: two keys never share a file.
	Key    string `json:"key"`
	Bytes  int    `json:"bytes"`
	SHA256 string `json:"sha256"`
}

// seal puts a line before body that says what it is and how it must read.
func seal(format, key string, body []byte) ([]byte, error) {
	sum := sha256.Sum256(body)
	line, err := json.Marshal(sealHeader{format, strings.ToValidUTF8(key, "\uFFFD"), len(body), hex.EncodeToString(sum[:])})
	if err != nil {
		return nil, err
	}
	return append(append(line, '\n'), body...), nil
}

// unseal returns the body, or says what is wrong: a format or key other than
// asked for, or a body other than sealed.
func unseal(data []byte, format, key string) ([]byte, error) {
	line, body, ok := bytes.Cut(data, []byte("\n"))
	var h sealHeader
	if !ok || json.Unmarshal(line, &h) != nil {
		return nil, errors.New("no header")
	}
	if again, err := json.Marshal(h); err != nil || !bytes.Equal(again, line) {
		return nil, errors.New("no header of ours")
	}
	sum := sha256.Sum256(body)
	switch {
	case h.Format != format:
		return nil, fmt.Errorf("format %q, want %q", h.Format, format)
	case h.Key != strings.ToValidUTF8(key, "\uFFFD"):
		return nil, fmt.Errorf("it belongs to %q, not to %q", h.Key, key)
	case h.Bytes != len(body):
		return nil, fmt.Errorf("%d bytes, want %d", len(body), h.Bytes)
	case h.SHA256 != hex.EncodeToString(sum[:]):
		return nil, errors.New("its checksum does not fit")
	}
	return body, nil
}

// safeName returns a file name for any key: no two keys share one, also where
// names differ in case only, and none leads out of the directory. The readable
// part is for people.
func safeName(key string) string {
	readable := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9':
			return r
		case r >= 'A' && r <= 'Z':
			return r - 'A' + 'a'
		}
		return '_'
	}, strings.ToValidUTF8(key, ""))
	sum := sha256.Sum256([]byte(key))
	return readable[:min(len(readable), 24)] + "-" + hex.EncodeToString(sum[:])
}
