package audit

import (
	"fmt"
	"io"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/kaizen-go/kaizen/internal/durable"
)

const (
	keyFrom = "/l/keys/audit.key"
	keyTo   = "/there/keys/other.key"
)

// storesOf makes a key store of ada, bob and cy beside keyFrom, of whom cy is
// erased, and lets prepare put one beside keyTo meanwhile: copied says when.
func storesOf(t *testing.T, target string) *memFS {
	t.Helper()
	fsys := freshFS(t)
	about := func(dir string, who ...string) {
		t.Helper()
		l := mustOpen(t, dir, subjectConfig(fsys))
		for i, name := range who {
			mustAppend(t, l, about(i+int(l.Size()), name))
		}
		mustClose(t, l)
	}
	forget := func(dir, who string) {
		t.Helper()
		l := mustOpen(t, dir, subjectConfig(fsys))
		if x, err := l.Erase(t.Context(), Erasure{Subject: who}); err != nil || !x.Found {
			t.Fatalf("Erase = %+v, %v", x, err)
		}
		mustClose(t, l)
	}
	bring := func() {
		t.Helper()
		if _, err := (KeyStoreMove{From: keyFrom, To: keyTo}).do(fsys); err != nil {
			t.Fatal(err)
		}
	}
	about("/l/audit", "ada", "cy")
	switch target {
	case "older":
		bring()
	case "same generation": // each has another key of it
		bring()
		v := storeBeside(fsys, keyTo)
		if err := v.openFiles(); err != nil {
			t.Fatal(err)
		}
		s := v.find("cy")
		v.forget(s)
		v.disk.Lock()
		err := v.destroy(s, &erasure{Token: s.token})
		v.disk.Unlock()
		if err != nil || v.close() != nil {
			t.Fatal(err)
		}
	}
	about("/l/audit", "bob")
	forget("/l/audit", "cy")
	if target == "newer" {
		bring()
		v := storeBeside(fsys, keyTo)
		if err := v.openFiles(); err != nil {
			t.Fatal(err)
		}
		if err := v.ensure([]string{"dora"}, small().withDefaults().now()); err != nil {
			t.Fatal(err)
		}
		if err := v.close(); err != nil {
			t.Fatal(err)
		}
	}
	if err := durable.ReplaceFile(fsys, "/l/keys/audit.store", []byte("kzstore_a\n")); err != nil {
		t.Fatal(err)
	}
	return fsys
}

// namesIn lists what a directory has, but for locks, signing keys and memories.
func namesIn(t *testing.T, fsys durable.FS, dir string) (names []string) {
	t.Helper()
	entries, err := fsys.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if ext := filepath.Ext(e.Name()); ext != ".lock" && ext != ".key" && ext != memoryExt {
			names = append(names, e.Name())
		}
	}
	return names
}

// checkMoved holds a file system to what MoveKeyStore promises when it has
// returned nil.
func checkMoved(t *testing.T, fsys *memFS, target string, removed bool) {
	t.Helper()
	v := storeBeside(fsys, keyTo)
	name, err := v.read()
	if err != nil || string(name) != "kzstore_a\n" {
		t.Fatalf("the new place has the name %q, %v", name, err)
	}
	want := []string{"ada", "bob"}
	if target == "newer" {
		want = append(want, "dora")
	}
	for _, who := range want {
		if v.byName[who] == nil {
			t.Errorf("the new place does not know %s", who)
		}
	}
	if len(v.byName) != len(want) || len(v.erased) != 1 {
		t.Errorf("the new place has %d subjects and %d erased, want %v and one", len(v.byName), len(v.erased), want)
	}
	if names := namesIn(t, fsys, filepath.Dir(keyTo)); len(names) != 3 || !strings.HasPrefix(names[0], "other.kek.") || !slices.Equal(names[1:], []string{"other.store", "other.subjects"}) {
		t.Errorf("the new place has the files %v", names)
	}
	if names := namesIn(t, fsys, filepath.Dir(keyFrom)); removed != (len(names) == 0) {
		t.Errorf("the old place has the files %v, removed %t", names, removed)
	}
}

// TestMoveKeyStoreCrash ends the power at each call of a move, and does it again:
// that succeeds, and leaves what an undisturbed one does.
func TestMoveKeyStoreCrash(t *testing.T) {
	states := 0
	for _, target := range []string{"none", "older", "same generation", "newer"} {
		base := storesOf(t, target)
		for _, remove := range []bool{false, true} {
			m := KeyStoreMove{From: keyFrom, To: keyTo, Remove: remove}
			for at, done := 1, false; !done; at++ {
				for mode := range 2 * crashModes {
					kept, how := mode%2 == 1, mode/2
					fsys := base.clone()
					fsys.failAt, fsys.kept, fsys.stop = fsys.ops+at, kept, true
					_, err := m.do(fsys)
					done = err == nil
					after := fsys.crash(how, rand.New(rand.NewPCG(uint64(at), uint64(mode))))
					name := fmt.Sprintf("%s, remove %t, call %d, kept %t, crash %d", target, remove, at, kept, how)
					if !t.Run(name, func(t *testing.T) {
						if _, err := m.do(after); err != nil {
							t.Fatalf("the repetition: %v", err)
						}
						checkMoved(t, after, target, remove)
					}) {
						return
					}
					states++
				}
			}
		}
	}
	t.Logf("%d crash states", states)
}

// TestMoveKeyStoreCrashOpened opens the old ledger between a move that was cut
// short and its repetition: no key survives that.
func TestMoveKeyStoreCrashOpened(t *testing.T) {
	base := storesOf(t, "none")
	m := KeyStoreMove{From: keyFrom, To: keyTo, Remove: true}
	for at := 1; ; at++ {
		fsys := base.clone()
		fsys.failAt, fsys.stop = fsys.ops+at, true
		if _, err := m.do(fsys); err == nil {
			break
		}
		after := fsys.crash(crashKeeps, nil)
		mustClose(t, mustOpen(t, "/l/audit", subjectConfig(after)))
		if _, err := m.do(after); err != nil {
			t.Fatalf("call %d: the repetition: %v", at, err)
		}
		checkMoved(t, after, "none", true)
	}
}

// hookedFS calls before, once, when a lock is asked for.
type hookedFS struct {
	*memFS
	before func()
}

func (f *hookedFS) Lock(name string) (io.Closer, error) {
	if before := f.before; before != nil {
		f.before = nil
		before()
	}
	return f.memFS.Lock(name)
}

// TestMoveKeyStoreLocksFirst has a process forget somebody in the new place right
// before that is locked: an older store must not replace what it wrote.
func TestMoveKeyStoreLocksFirst(t *testing.T) {
	fsys := storesOf(t, "older")
	m := KeyStoreMove{From: keyFrom, To: keyTo}
	if _, err := m.do(fsys); err != nil {
		t.Fatal(err)
	}
	hooked := &hookedFS{fsys, func() {
		v := storeBeside(fsys, keyTo)
		if err := v.openFiles(); err != nil {
			t.Fatal(err)
		}
		s := v.find("ada")
		v.forget(s)
		v.disk.Lock()
		err := v.destroy(s, &erasure{Token: s.token})
		v.disk.Unlock()
		if err != nil || v.close() != nil {
			t.Fatal(err)
		}
	}}
	if _, err := m.do(hooked); err != nil {
		t.Fatal(err)
	}
	v := storeBeside(fsys, keyTo)
	if _, err := v.read(); err != nil || v.byName["ada"] != nil || len(v.erased) != 2 {
		t.Errorf("after an erasure before the lock: %v, ada %v, %d erased", err, v.byName["ada"], len(v.erased))
	}
}

// TestCopyKeyCrash ends the power at each call: the key is there whole, or not at
// all, and the repetition puts it there.
func TestCopyKeyCrash(t *testing.T) {
	base := freshFS(t)
	mustClose(t, mustOpen(t, "/l/audit", tiny(base)))
	want := string(base.get(t, keyFrom))
	absent := 0
	for at, done := 1, false; !done; at++ {
		for mode := range 2 * crashModes {
			fsys := base.clone()
			fsys.failAt, fsys.kept, fsys.stop = fsys.ops+at, mode%2 == 1, true
			done = copyKey(fsys, keyFrom, keyTo) == nil
			after := fsys.crash(mode/2, rand.New(rand.NewPCG(uint64(at), uint64(mode))))
			if there, err := exists(after, keyTo); err != nil {
				t.Fatal(err)
			} else if !there {
				absent++
			} else if got := string(after.get(t, keyTo)); got != want {
				t.Fatalf("call %d, mode %d: the key is %q, want %q", at, mode, got, want)
			}
			if err := copyKey(after, keyFrom, keyTo); err != nil {
				t.Fatalf("call %d, mode %d: the repetition: %v", at, mode, err)
			}
			if got := string(after.crash(crashLoses, nil).get(t, keyTo)); got != want {
				t.Fatalf("call %d, mode %d: after the repetition the key is %q, want %q", at, mode, got, want)
			}
		}
	}
	if absent == 0 {
		t.Error("the key was there after every crash: nothing was tested")
	}
	// What is there stays, and what is no key is not copied.
	base.set("/l/keys/none.key", []byte("x"))
	if err := copyKey(base, "/l/keys/none.key", keyFrom); err != nil || string(base.get(t, keyFrom)) != want {
		t.Errorf("copyKey over a key = %v, and it is %q", err, base.get(t, keyFrom))
	}
	if err := copyKey(base, "/l/keys/none.key", keyTo); err == nil {
		t.Error("something that is no key was copied")
	}
}
