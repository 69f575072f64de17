package audit

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kaizen-go/kaizen/internal/durable"
)

// hookFS calls before ahead of each open and rename, with the name that is
// opened or replaced.
type hookFS struct {
	durable.FS
	before func(op, name string)
}

func (h *hookFS) OpenFile(name string, flag int, perm os.FileMode) (durable.File, error) {
	h.before("open", name)
	return h.FS.OpenFile(name, flag, perm)
}

func (h *hookFS) Rename(from, to string) error {
	h.before("rename", to)
	return h.FS.Rename(from, to)
}

// TestCloseWaitsForSeal closes a ledger while a caller of Seal is about to
// replace the manifest: after Close another process may have the directory.
func TestCloseWaitsForSeal(t *testing.T) {
	for name, work := range map[string]func(l *Ledger) error{
		"seal": func(l *Ledger) error { return l.Seal(t.Context()) },
		"prune": func(l *Ledger) error {
			_, err := l.Prune(t.Context(), PruneOptions{Retention: Retention{MaxAge: 1}})
			return err
		},
		"archive": func(l *Ledger) error {
			_, err := l.Archive(t.Context(), dirTarget{l.cfg.fsys, "/l/archive"})
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			fsys := &hookFS{FS: freshFS(t), before: func(string, string) {}}
			cfg := small()
			cfg.fsys = fsys
			l := mustOpen(t, "/l/audit", cfg)
			appendN(t, l, 0, 3)
			if name != "seal" {
				if err := l.Seal(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			closed := make(chan error, 1)
			var once sync.Once
			fsys.before = func(op, name string) {
				if op != "rename" || filepath.Base(name) != manifestName {
					return
				}
				once.Do(func() {
					go func() { closed <- l.Close() }()
					select {
					case <-closed:
						t.Error("Close has returned, and the manifest is still to be replaced")
						closed <- nil
					case <-time.After(50 * time.Millisecond): // it waits, as it should
					}
				})
			}
			if err := work(l); err != nil && !errors.Is(err, ErrClosed) {
				t.Errorf("%s beside Close = %v, want nil or ErrClosed", name, err)
			}
			if err := <-closed; err != nil {
				t.Fatal(err)
			}
			if err := work(l); !errors.Is(err, ErrClosed) {
				t.Errorf("%s after Close = %v, want ErrClosed", name, err)
			}
			fsys.before = func(string, string) {}
			if _, err := verify(t.Context(), fsys, "/l/audit", VerifyConfig{}); err != nil {
				t.Error(err)
			}
			mustClose(t, mustOpen(t, "/l/audit", cfg))
		})
	}
}

// TestSubjectsAfterClose calls what needs the key store when that is closed.
func TestSubjectsAfterClose(t *testing.T) {
	fsys := freshFS(t)
	l := mustOpen(t, "/l/audit", subjectConfig(fsys))
	mustAppend(t, l, about(0, "p0"))
	mustClose(t, l)
	before := fsys.get(t, "/l/keys/audit.subjects")
	if _, err := l.Append(t.Context(), about(1, "p1")); !errors.Is(err, ErrClosed) {
		t.Errorf("Append of a new subject after Close = %v, want ErrClosed", err)
	}
	if _, err := l.Erase(t.Context(), Erasure{Subject: "p0"}); !errors.Is(err, ErrClosed) {
		t.Errorf("Erase after Close = %v, want ErrClosed", err)
	}
	if _, _, err := l.Hold(t.Context(), Hold{Subject: "p2"}); !errors.Is(err, ErrClosed) {
		t.Errorf("Hold after Close = %v, want ErrClosed", err)
	}
	if string(fsys.get(t, "/l/keys/audit.subjects")) != string(before) {
		t.Error("the key store was written after Close")
	}
	none := freshFS(t)
	l = mustOpen(t, "/l/audit", subjectConfig(none))
	mustClose(t, l)
	if _, err := l.Append(t.Context(), about(1, "p1")); !errors.Is(err, ErrClosed) {
		t.Errorf("Append of the first subject after Close = %v, want ErrClosed", err)
	}
}

// TestReadBesidePrune removes segments between a reader's look at the manifest
// and its read of their files: that is retention, not tampering.
func TestReadBesidePrune(t *testing.T) {
	setup := func(t *testing.T) (fsys *hookFS, prune func()) {
		fsys = &hookFS{FS: freshFS(t), before: func(string, string) {}}
		cfg := small()
		cfg.fsys = fsys
		l := mustOpen(t, "/l/audit", cfg)
		for n := range 3 {
			appendN(t, l, 3*n, 3*n+3)
			if err := l.Seal(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if err := l.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		return fsys, func() {
			if r, err := l.Prune(t.Context(), PruneOptions{Retention: Retention{MaxAge: 1}, Now: l.Segments()[1].Newest.Add(2)}); err != nil || len(r.Removed) != 2 {
				t.Fatalf("Prune = %+v, %v", r, err)
			}
		}
	}
	t.Run("verify", func(t *testing.T) {
		fsys, prune := setup(t)
		var once sync.Once
		fsys.before = func(op, name string) {
			if strings.HasSuffix(name, zstExt) {
				once.Do(prune)
			}
		}
		if r, err := verify(t.Context(), fsys, "/l/audit", VerifyConfig{}); err != nil || r.Pruned == 0 {
			t.Errorf("Verify = %+v, %v; want the pruned ledger intact", r, err)
		}
	})
	t.Run("reader", func(t *testing.T) {
		fsys, prune := setup(t)
		r, err := openReader(fsys, "/l/audit")
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		for _, path := range []string{r.store.sealed[0].zstPath(), r.store.sealed[0].idxPath()} {
			if err := r.store.files.drop(path); err != nil { // as after many other files
				t.Fatal(err)
			}
		}
		r.store.cache, r.store.plain = newCache(0), newCache(0)
		prune()
		if _, err := r.Get(t.Context(), 1); !errors.Is(err, ErrPruned) {
			t.Errorf("Get = %v, want ErrPruned", err)
		}
		n := 0
		for e, err := range r.Query(t.Context(), Query{}) {
			if err != nil {
				t.Errorf("Query = %v", err)
				break
			}
			if e.Index < 3 {
				t.Errorf("Query yields entry %d, which was pruned", e.Index)
			}
			n++
		}
		if n == 0 {
			t.Error("Query yields nothing")
		}
		if err := r.Refresh(t.Context()); err != nil {
			t.Errorf("Refresh = %v", err)
		}
	})
	t.Run("removed by hand", func(t *testing.T) {
		fsys, _ := setup(t)
		r, err := openReader(fsys, "/l/audit")
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		path := r.store.sealed[0].zstPath()
		if err := r.store.files.drop(path); err != nil {
			t.Fatal(err)
		}
		r.store.plain = newCache(0)
		if err := fsys.Remove("/l/audit/" + path); err != nil {
			t.Fatal(err)
		}
		if _, err := r.Get(t.Context(), 1); !isTamper(err) {
			t.Errorf("Get = %v, want a TamperError", err)
		}
		if _, err := verify(t.Context(), fsys, "/l/audit", VerifyConfig{}); !isTamper(err) {
			t.Errorf("Verify = %v, want a TamperError", err)
		}
	})
}

// TestOldKeyDeleted removes the replaced key, as an operator should: what it
// signed beside the key must not stand in the way.
func TestOldKeyDeleted(t *testing.T) {
	dir, _ := closedLedger(t, 5)
	if _, _, err := RotateKey(t.Context(), dir, small()); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(keyPath(dir, "") + oldKeyExt); err != nil {
		t.Fatal(err)
	}
	l := mustOpen(t, dir, small())
	appendN(t, l, 10, 12)
	mustClose(t, l)
	checkClean(t, dir, 8)
}

// TestArchiveAfterRotation holds an archive that was made after a change of the
// key to the key of before, which is the one that an auditor has.
func TestArchiveAfterRotation(t *testing.T) {
	dir, _ := closedLedger(t, 5)
	before := mustOpen(t, dir, small())
	if err := before.Seal(t.Context()); err != nil {
		t.Fatal(err)
	}
	mustClose(t, before)
	previous, vkey, err := RotateKey(t.Context(), dir, small())
	if err != nil {
		t.Fatal(err)
	}
	l := mustOpen(t, dir, small())
	archive := filepath.Join(t.TempDir(), "archive")
	for n := range 3 { // at first the change of the key is not among what is archived
		if _, err := l.Archive(t.Context(), ArchiveDir(archive)); err != nil {
			t.Fatal(err)
		}
		for _, key := range []string{previous, vkey} {
			if _, err := Verify(t.Context(), archive, VerifyConfig{Key: key}); err != nil {
				t.Errorf("%d: Verify of the archive with %s = %v", n, key, err)
			}
		}
		appendN(t, l, 10+n, 11+n)
		if err := l.Seal(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	mustClose(t, l)
}
