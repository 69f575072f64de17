package audit

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/kaizen-go/kaizen/internal/durable"
)

// slowFS is a memFS on which the sync of a segment's lines takes until it is let
// through.
type slowFS struct {
	*memFS
	slow atomic.Bool
	let  chan struct{}
}

func (s *slowFS) OpenFile(name string, flag int, perm os.FileMode) (durable.File, error) {
	f, err := s.memFS.OpenFile(name, flag, perm)
	if h, ok := f.(*memHandle); ok && strings.HasSuffix(name, lineExt) && filepath.Base(filepath.Dir(name)) == segDir {
		return &slowFile{h, s}, err
	}
	return f, err
}

type slowFile struct {
	*memHandle
	fsys *slowFS
}

func (f *slowFile) Sync() error {
	if f.fsys.slow.Load() {
		<-f.fsys.let
	}
	return f.memHandle.Sync()
}

// TestRingTornBehindSlowSegments has segments that are synced so slowly that the
// ring goes round as soon as it may, and loses the power while each frame is
// written over an older one: the frames before it must not need that one.
func TestRingTornBehindSlowSegments(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fsys := &slowFS{memFS: freshFS(t), let: make(chan struct{})}
		cfg := tiny(fsys.memFS)
		cfg.fsys, cfg.segmentBytes = fsys, 1<<20
		l := mustOpen(t, "/l/audit", cfg)
		fsys.slow.Store(true)
		for n := range 3 * ringSections {
			e := numbered(n)
			e.Details = map[string]any{"text": strings.Repeat("x", 5<<10)} // two pages: a section
			done := make(chan error, 1)
			go func() {
				_, err := l.Append(t.Context(), e)
				done <- err
			}()
			for synctest.Wait(); len(done) == 0; synctest.Wait() {
				fsys.let <- struct{}{} // it waits for the segment
			}
			if err := <-done; err != nil {
				t.Fatal(err)
			}
			ring := bytes.Clone(fsys.get(t, "/l/audit/"+ringName))
			at := ringAlign + n%ringSections*int(cfg.sectionBytes)
			if !bytes.HasPrefix(ring[at:], []byte(frameMagic)) {
				t.Fatalf("frame %d is not where it was looked for", n)
			}
			clear(ring[at+ringAlign : at+2*ringAlign])
			c, err := parseRing(ring, nil)
			if err != nil || c.end() != int64(n) {
				t.Errorf("parseRing with frame %d torn: %d entries, %v, want %d", n, c.end(), err, n)
			}
		}
		fsys.slow.Store(false)
		close(fsys.let)
		l.queue.expect(0) // time stands still here: nobody may wait for it
		mustClose(t, l)
	})
}
