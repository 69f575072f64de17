package audit

import (
	"container/list"
	"errors"
	"os"
	"path/filepath"
	"sync"

	"github.com/kaizen-go/kaizen/internal/durable"
)

// maxHandles is how many files of sealed segments stay open.
const maxHandles = 64

// handles opens the files of sealed segments when they are needed, and keeps
// the most recently used ones open.
type handles struct {
	fsys durable.FS
	dir  string

	mu     sync.Mutex // guards what follows
	order  *list.List // of *handle, the newest in front
	byPath map[string]*list.Element
	closed bool
}

type handle struct {
	path  string
	file  durable.File
	size  int64
	users int
	gone  bool // no longer in the list: the last user closes it
}

func newHandles(fsys durable.FS, dir string) *handles {
	return &handles{fsys: fsys, dir: dir, order: list.New(), byPath: map[string]*list.Element{}}
}

// use calls do with the open file of path, a path below the directory, and its
// size when it was opened.
func (h *handles) use(path string, do func(f durable.File, size int64) error) error {
	f, err := h.take(path)
	if err != nil {
		return err
	}
	err = do(f.file, f.size)
	return errors.Join(err, h.give(f))
}

func (h *handles) take(path string) (*handle, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return nil, ErrClosed
	}
	if el, ok := h.byPath[path]; ok {
		h.order.MoveToFront(el)
		f := el.Value.(*handle)
		f.users++
		return f, nil
	}
	file, err := h.fsys.OpenFile(filepath.Join(h.dir, path), os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	info, err := file.Stat()
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	f := &handle{path: path, file: file, size: info.Size(), users: 1}
	h.byPath[path] = h.order.PushFront(f)
	for h.order.Len() > maxHandles {
		if err := h.remove(h.order.Back()); err != nil {
			return nil, err
		}
	}
	return f, nil
}

// give ends the use of f.
func (h *handles) give(f *handle) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	f.users--
	if f.gone && f.users == 0 {
		return f.file.Close()
	}
	return nil
}

// remove takes a file out of the list and closes it, at once or after its last
// use. The caller holds mu.
func (h *handles) remove(el *list.Element) error {
	f := h.order.Remove(el).(*handle)
	delete(h.byPath, f.path)
	f.gone = true
	if f.users == 0 {
		return f.file.Close()
	}
	return nil
}

// drop closes the file of path, if it is open.
func (h *handles) drop(path string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if el, ok := h.byPath[path]; ok {
		return h.remove(el)
	}
	return nil
}

// close closes all files. Calls of use that come later get [ErrClosed].
func (h *handles) close() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	var errs []error
	for h.order.Len() > 0 {
		errs = append(errs, h.remove(h.order.Back()))
	}
	return errors.Join(errs...)
}
